"""The one place that runs contenders: start, watch, collect what they said, used and counted."""

from __future__ import annotations

import json
import os
import selectors
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import IO

from bench.machine import BenchError
from invivo.record import Record

_POLL_S = 0.005
_PATIENCE_S = 300.0  # perf takes minutes to print a million samples


class Contender(Record):
    """A tracer. ``scope`` stands for ``/scope/`` in programs: each one traces the load alone."""

    name: str
    scope: str
    words: tuple[str, ...]

    def command(self, program: str, load: Sequence[str] = (), output: Path | None = None) -> list[str]:
        """Its command line for a program of the bench, tracing a command if one is given.

        ``output``: where text is written; without it JSON comes to us.
        """
        follow = ["-c", " ".join(load)] if load else []
        form = ["-o", str(output)] if output is not None else ["-f", "json"] if load else []
        return [*self.words, *form, "-e", program.replace("/scope/", self.scope), *follow]


INVIVO = Contender("invivo", "", (str(Path(sys.executable).with_name("invivo")), "run"))
# Its -c does not filter.
BPFTRACE = Contender("bpftrace", "/pid == cpid/", ("bpftrace",))
CONTENDERS = (INVIVO, BPFTRACE)


class Run(Record):
    """What one run of a command did. Times since its start; ``said_s``: the first word about attaching."""

    pid: int
    started_ns: int  # CLOCK_MONOTONIC
    said_s: float
    wall_s: float
    cpu_s: float  # on a processor, the traced command counted in
    peak_kib: int
    maps: Mapping[str, object]  # by name, from bpftrace's JSON shapes, which both write
    said: bytes  # on stdout and stderr


class LoadResult(Record):
    """What the load says of itself; times of CLOCK_MONOTONIC."""

    pid: int
    began_ns: int
    ended_ns: int
    call_ns: float
    cpu_ns: int


class Load:
    """The load's command line, and where it writes its result."""

    def __init__(self, program: Path, calls: int, rate: int = 0, *, with_path: bool = False) -> None:
        """``rate``: calls a second at most; 0: as many as it can. ``with_path``: access() instead of lseek()."""
        self.program = program
        self.calls = calls
        self._result = program.with_name("result")
        self._go = program.with_name("go")
        how_many = f"{'p' if with_path else ''}{calls}{f'@{rate}' if rate else ''}"
        self.command = [str(program), how_many, str(self._result)]
        self.held_command = [*self.command, str(self._go)]

    def reset(self) -> None:
        """Forget the last run."""
        self._result.unlink(missing_ok=True)
        self._go.unlink(missing_ok=True)

    def release(self) -> None:
        """Let a held load end."""
        self._go.touch()

    def result(self) -> LoadResult | None:
        """What the load wrote, once it is complete."""
        text = self._result.read_text() if self._result.exists() else ""
        return LoadResult(**json.loads(text)) if text.endswith("\n") else None

    def finished(self) -> LoadResult:
        """What the load wrote; `BenchError` if it did not."""
        result = self.result()
        if result is None:
            raise BenchError("the load did not run")
        return result


class Launcher:
    """Runs commands, by ``launch.c``."""

    def __init__(self, program: Path) -> None:
        self._program = program

    def run(self, command: Sequence[str], watch: Callable[[int], bool] | None = None) -> Run:
        """Run a command to its end. Raises `BenchError` if it fails or takes too long.

        ``watch`` is called with the process's id every few milliseconds until it returns True.
        """
        ours, theirs = os.pipe()
        words = [str(self._program), str(theirs), *command]
        try:
            process = subprocess.Popen(
                words,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                pass_fds=(theirs,),
                # Without byte code on disk every start of invivo would compile all of it.
                env={name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"},
            )
        finally:
            os.close(theirs)
        try:
            with process, open(ours, "rb") as report:
                heard = _listen(process, report, watch)
        except BaseException:
            process.kill()  # the command goes with it
            raise
        status, ended_ns, peak_kib, cpu_ns = heard.report[2:6]
        pid, started_ns = heard.report[:2]
        if status != 0:
            why = heard.error.decode(errors="replace").strip()
            raise BenchError(f"{command[0]} ended with {os.waitstatus_to_exitcode(status)}: {why}")
        said_s = ((heard.said_ns or ended_ns) - started_ns) / 1e9
        wall_s = (ended_ns - started_ns) / 1e9
        said = heard.out + heard.error
        return Run(pid, started_ns, said_s, wall_s, cpu_ns / 1e9, peak_kib, _maps(heard.out), said)


class Bench(Record):
    """What a question is answered with."""

    launcher: Launcher
    load: Load
    runs: int
    slow_runs: int  # where bpftrace takes half a minute
    note: Callable[[str], None]  # says what runs now


class Heard(Record):
    """What a command wrote, when it first wrote of attaching (0: never), and the numbers of its launcher."""

    out: bytes
    error: bytes
    said_ns: int
    report: tuple[int, ...]


def _listen(process: subprocess.Popen[bytes], report: IO[bytes], watch: Callable[[int], bool] | None) -> Heard:
    """Read everything to its end."""
    assert process.stdout is not None and process.stderr is not None
    heard = {process.stdout.fileno(): bytearray(), process.stderr.fileno(): bytearray(), report.fileno(): bytearray()}
    out, error, numbers = heard.values()
    said_ns = 0
    give_up_s = time.monotonic() + _PATIENCE_S
    with selectors.DefaultSelector() as selector:
        for descriptor in heard:
            selector.register(descriptor, selectors.EVENT_READ)
        while selector.get_map():
            if time.monotonic() > give_up_s:
                process.kill()
                raise BenchError(f"{process.args!r}: gave up after {_PATIENCE_S:.0f} s")
            for key, _ in selector.select(_POLL_S if watch is not None else 1.0):
                part = os.read(key.fd, 1 << 16)
                heard[key.fd] += part
                if not part:
                    selector.unregister(key.fileobj)
                elif not said_ns and b"attach" in (out + error).lower():
                    said_ns = time.monotonic_ns()
            if watch is not None and b"\n" in numbers and watch(int(numbers.split()[0])):
                watch = None
    return Heard(bytes(out), bytes(error), said_ns, tuple(map(int, numbers.split())))


def _maps(out: bytes) -> dict[str, object]:
    """The maps among the lines of JSON. Other lines (bpftrace writes empty ones) are left out."""
    maps: dict[str, object] = {}
    for line in out.splitlines():
        if line.startswith(b"{"):
            event = json.loads(line)
            if event["type"] in ("map", "hist", "stats", "tseries"):
                maps |= event["data"]
    return maps
