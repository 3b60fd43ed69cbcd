"""Question 3: how many printed events a second reach a file, how many are lost, and what does that cost?"""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

from bench.contenders import BPFTRACE, CONTENDERS, INVIVO, Bench, Contender, Launcher, Load, Run
from bench.figures import LOST, Figures
from bench.machine import BenchError, need
from invivo.record import Record

TITLE = "Printed events"
_PROGRAM = (
    "tracepoint:syscalls:sys_enter_lseek /scope/ "
    '{ printf("%d %d %s %lld %d %lld\\n", pid, tid, comm, args->offset, args->fd, nsecs); }'
)
# As much memory for the events that wait as invivo's ring has: 8 MiB (bpftrace: for each processor).
_BUFFERS = {BPFTRACE.name: ("env", "BPFTRACE_PERF_RB_PAGES=2048")}
_TOLD = {
    BPFTRACE.name: re.compile(rb"^Lost (\d+) events$", re.MULTILINE),
    "invivo": re.compile(rb"^warning: in all (\d+) events lost", re.MULTILINE),
}


_FLAT_OUT = "as fast as they come"


class Case(Record):
    """A rate of the load in calls a second (0: as fast as it can), and how many calls for one of the bench's."""

    name: str
    rate: int
    share: float


class Slow(Record):
    """A tracer that is compared at full speed only, with fewer calls: how it is called, what a line of a call is."""

    name: str
    words: Callable[[Path], list[str]]
    line: bytes
    share: float


CASES = (
    Case(_FLAT_OUT, 0, 8.0),
    Case("1,000,000 a second", 1_000_000, 4.0),
    Case("100,000 a second", 100_000, 0.5),
    Case("1,000 a second", 1_000, 0.005),
)
SLOW = (
    Slow("perf trace", lambda output: ["perf", "trace", "-e", "lseek", "-o", str(output)], b" lseek(", 0.25),
    Slow("strace", lambda output: ["strace", "-f", "-e", "trace=lseek", "-o", str(output)], b" lseek(", 0.04),
)
_FEWER = 0.25  # of a case's calls, where a line is long or is read one by one
_IDLE_S = 2.0
# Seconds between two events: one that finds the tracer asleep, and one while it looks from time to time.
PAUSES = {"an event after a pause": 0.03, "an event every 2 ms": 0.002}
_LATE = 100  # events whose way is timed
_LATE_PROGRAM = Path(__file__).with_name("late.py")
_READER = Path(__file__).with_name("read_events.py")


def measure(bench: Bench) -> Figures:
    """Run each case, the contenders in turn."""
    need("perf", "linux-perf")
    need("strace", "strace")
    figures = Figures()
    for number in range(bench.runs):
        for case in CASES:
            bench.note(f"events, run {number + 1}: {case.name}")
            for contender in CONTENDERS:
                figures.add(case.name, contender.name, _measure_one(bench.launcher, case, contender, bench.load))
            if case.name == _FLAT_OUT:
                for slow in SLOW:
                    figures.add(case.name, slow.name, _measure_slow(bench.launcher, slow, bench.load))
                for name, measure_form in _FORMS.items():
                    figures.add(f"{case.name}, {name}", INVIVO.name, measure_form(bench.launcher, case, bench.load))
        bench.note(f"events, run {number + 1}: idle, latency")
        for contender in CONTENDERS:
            figures.add("no events", contender.name, _measure_idle(bench.launcher, contender))
        for name, pause_s in PAUSES.items():
            for contender in CONTENDERS:
                figures.add(name, contender.name, _measure_latency(contender, pause_s))
    return figures


def _measure_one(launcher: Launcher, case: Case, contender: Contender, load: Load) -> dict[str, float]:
    calls = int(load.calls * case.share)
    paced = Load(load.program, calls, case.rate)
    paced.reset()
    output = load.program.with_name("events")
    words = [*_BUFFERS.get(contender.name, ()), *contender.command(_PROGRAM, paced.command, output)]
    run = launcher.run(words)
    result = paced.finished()
    text = output.read_bytes()
    written = _events(text, result.pid)
    told = sum(map(int, _TOLD[contender.name].findall(text + run.said)))
    # The difference: lost and not told.
    return {**_costs(run, paced, written), LOST: calls - written - told}


def _costs(run: Run, load: Load, written: int) -> dict[str, float]:
    result = load.finished()
    seconds = run.wall_s - (result.began_ns - run.started_ns) / 1e9
    return {
        "written event, ns": seconds * 1e9 / max(written, 1),
        "lost, %": 100 * (load.calls - written) / load.calls,
        "tracer's processor time, ns/event": (run.cpu_s * 1e9 - result.cpu_ns) / max(written, 1),
        "traced call, ns": result.call_ns,
    }


def _measure_slow(launcher: Launcher, tracer: Slow, load: Load) -> dict[str, float]:
    fewer = Load(load.program, int(load.calls * tracer.share))
    fewer.reset()
    output = load.program.with_name("events")
    run = launcher.run([*tracer.words(output), *fewer.command])
    return _costs(run, fewer, output.read_bytes().count(tracer.line))


def _measure_parquet(launcher: Launcher, case: Case, load: Load) -> dict[str, float]:
    """The same events as a table; rows and losses are read from the file itself."""
    from pyarrow.parquet import read_metadata

    more = Load(load.program, int(load.calls * case.share))
    more.reset()
    output = load.program.with_name("events.parquet")
    run = launcher.run(INVIVO.command(_PROGRAM, more.command, output))
    read = read_metadata(output)
    lost = sum(each["count"] for each in json.loads(read.metadata[b"invivo.losses"]) if each["kind"] == "ring-full")
    size = {"size of an event, bytes": output.stat().st_size / max(read.num_rows, 1)}
    return {**_costs(run, more, read.num_rows), **size, LOST: more.calls - read.num_rows - lost}


def _measure_typed(launcher: Launcher, case: Case, load: Load) -> dict[str, float]:
    """The same events with their types (``-f ndjson``); the losses are in the last line."""
    more = Load(load.program, int(load.calls * case.share * _FEWER))
    more.reset()
    output = load.program.with_name("events")
    run = launcher.run([*INVIVO.command(_PROGRAM, more.command, output), "-f", "ndjson"])
    text = output.read_bytes()
    written = text.count(b'{"type":"printf",')
    end = json.loads(text[text.rindex(b"\n", 0, -1) :])
    lost = sum(each["count"] for each in end["losses"] if each["kind"] == "ring-full")
    return {**_costs(run, more, written), LOST: more.calls - written - lost}


def _measure_python(launcher: Launcher, case: Case, load: Load) -> dict[str, float]:
    """The same events, each of them read in Python (``for event in session``)."""
    more = Load(load.program, int(load.calls * case.share * _FEWER))
    more.reset()
    run = launcher.run([sys.executable, str(_READER), _PROGRAM.replace("/scope/", ""), *more.command])
    (told,) = re.findall(rb"^(\d+) read, (\d+) lost$", run.said, re.MULTILINE)
    read, lost = map(int, told)
    return {**_costs(run, more, read), LOST: more.calls - read - lost}


_FORMS = {"as Parquet": _measure_parquet, "as typed JSON": _measure_typed, "read in Python": _measure_python}


def _measure_idle(launcher: Launcher, contender: Contender) -> dict[str, float]:
    """What waiting costs: a longer run less a shorter one."""
    short, long = (
        launcher.run(contender.command(_PROGRAM, ["/bin/sleep", str(seconds)], Path(os.devnull)))
        for seconds in (0.5, 0.5 + _IDLE_S)
    )
    return {"tracer's processor time, ms/s": (long.cpu_s - short.cpu_s) * 1e3 / _IDLE_S}


def _measure_latency(contender: Contender, pause_s: float) -> dict[str, float]:
    """From an event's own time to its line in a pipe."""
    program = 'tracepoint:syscalls:sys_enter_getppid /scope/ { printf("at %llu\\n", nsecs); }'
    command = contender.command(program, [sys.executable, "-S", str(_LATE_PROGRAM), str(_LATE), str(pause_s)])
    command = [word for word in command if word not in ("-f", "json")]
    late_ms: list[float] = []
    rest = b""
    with subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as tracer:
        assert tracer.stdout is not None and tracer.stderr is not None
        while part := os.read(tracer.stdout.fileno(), 1 << 16):
            now_ns = time.clock_gettime_ns(time.CLOCK_BOOTTIME)
            *lines, rest = (rest + part).split(b"\n")
            late_ms += [(now_ns - int(line[3:])) / 1e6 for line in lines if line.startswith(b"at ")]
        said = tracer.stderr.read()
    if len(late_ms) != _LATE:
        raise BenchError(f"{contender.name}: {len(late_ms)} events of {_LATE}: {said.decode(errors='replace')}")
    late_ms.sort()
    return {"to its line, median, ms": late_ms[_LATE // 2], "to its line, 99 %, ms": late_ms[_LATE * 99 // 100 - 1]}


def _events(text: bytes, pid: int) -> int:
    """How many whole lines of the load's events there are. `BenchError` if other lines are among them."""
    start = f"{pid} {pid} load ".encode()
    lines = [line for line in text.split(b"\n") if line]
    foreign = [line for line in lines if not line.startswith(start) and not line.startswith((b"Attach", b"Lost"))]
    if foreign:
        raise BenchError(f"a line that is no event of the load: {foreign[0]!r}")
    return sum(line.startswith(start) for line in lines)
