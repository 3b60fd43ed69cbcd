"""Nobody reads, nobody reads any more, no space: what is lost is counted, memory stays bounded, the trace ends."""

from __future__ import annotations

import json
import os
import re
import select
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

import pytest

import invivo
from invivo.events import Attached, Ended, Printed
from leftovers import is_running, objects, remaining
from workloads import build

INVIVO: Final = (sys.executable, "-m", "invivo", "run")
BPFTRACE: Final = (sys.executable, "-c", "from invivo.cli.bpftrace import main; main()")

_HITS_EACH: Final = 400_000
_CPUS: Final = 2
_RING_BYTES: Final = 1 << 18
# The ring is mapped twice; the rest is numpy and a window of the ring as text (16 to 24 MiB were measured: numpy's
# libraries need more where there are more processors). A reader that kept what it cannot write would need more than
# 60 MiB for these events.
_MOST_GROWTH_KIB: Final = (2 * _RING_BYTES >> 10) + 40960
_PATIENCE_SECONDS: Final = 60.0
_LSEEK: Final = "t:syscalls:sys_enter_lseek /args.whence == 4711/"
_PROGRAM: Final = (
    f"config = {{ perf_rb_pages = {_RING_BYTES // 4096} }} {_LSEEK} {{ @hits = count(); "
    'printf("%d %d %s\\n", cpu, args.offset, "as long as a line of a program that has something to say"); }'
)


@pytest.fixture(scope="module")
def workload(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build("hits", tmp_path_factory.mktemp("hits"))


class Traced:
    """A tracer with a command that begins its work when it is told to."""

    def __init__(self, tracer: subprocess.Popen[bytes]) -> None:
        self.tracer = tracer
        (self.child,) = map(int, Path(f"/proc/{tracer.pid}/task/{tracer.pid}/children").read_text().split())
        self.objects = objects(tracer.pid)

    def work(self) -> None:
        """Let the workload run."""
        assert self.tracer.stdin is not None
        self.tracer.stdin.write(b"\n")
        self.tracer.stdin.flush()

    def work_to_the_end(self) -> None:
        self.work()
        wait_until(lambda: not is_running(self.child))

    def peak_kib(self) -> int:
        status = Path(f"/proc/{self.tracer.pid}/status").read_text()
        (peak,) = re.findall(r"^VmHWM:\s+(\d+) kB$", status, re.MULTILINE)
        return int(peak)


def wait_until(condition: object) -> None:
    assert callable(condition)
    deadline = time.monotonic() + _PATIENCE_SECONDS
    while not condition():
        assert time.monotonic() < deadline, "it hangs"
        time.sleep(0.005)


def attached(tracer: subprocess.Popen[bytes], form: str) -> None:
    """Wait until the tracer says so: to people on stderr, to programs among the events."""
    assert tracer.stdout is not None and tracer.stderr is not None
    if form == "text":
        assert tracer.stderr.readline() == b"Attached 1 probe\n"
    else:
        assert any(b'"attached' in line for line in iter(tracer.stdout.readline, b""))


@contextmanager
def traced(workload: Path, *words: str, form: str = "text") -> Iterator[Traced]:
    """A trace of the workload, attached; nothing of it is left afterwards."""
    command = f"sh -c 'read go; exec {workload} {_HITS_EACH} {_CPUS}'"
    tracer = subprocess.Popen(
        [*INVIVO, "-f", form, "-e", _PROGRAM, "-c", command, *words],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    try:
        attached(tracer, form)
        run = Traced(tracer)
        yield run
        tracer.wait(_PATIENCE_SECONDS)
        wait_until(lambda: not is_running(run.child))
        assert run.objects
        assert not remaining(run.objects)
    finally:
        tracer.kill()
        tracer.communicate()


def check_nothing_is_lost_uncounted(run: Traced, form: str = "text") -> None:
    out, errors = run.tracer.communicate(timeout=_PATIENCE_SECONDS)
    assert run.tracer.returncode == 0, errors
    hits, printed, lost, others = _READ[form](out.decode().splitlines(), errors)
    assert hits == _HITS_EACH * _CPUS
    assert lost > 0
    assert printed + lost == _HITS_EACH * _CPUS
    assert others == []  # nothing is cut or written twice


def _read_text(lines: list[str], errors: bytes) -> tuple[int, int, int, list[str]]:
    """What was counted, printed and lost, and what else there is."""
    (hits,) = [line.removeprefix("@hits: ") for line in lines if line.startswith("@hits: ")]
    others = [line for line in lines if line and not line.startswith("@hits: ") and not _LINE.fullmatch(line)]
    return int(hits), sum(map(bool, map(_LINE.fullmatch, lines))), _told_lost(errors), others


def _read_json(lines: list[str], errors: bytes) -> tuple[int, int, int, list[str]]:
    messages = [json.loads(line) for line in lines]
    printed = [each for each in messages if each["type"] == "printf" and _LINE.fullmatch(each["data"][:-1])]
    (counted,) = [each["data"]["@hits"] for each in messages if each["type"] == "map"]
    others = [each["type"] for each in messages if each["type"] not in ("printf", "map", "lost_events")]
    return counted, len(printed), _told_lost(errors), others


def _read_events(lines: list[str], errors: bytes) -> tuple[int, int, int, list[str]]:
    *events, end = [json.loads(line) for line in lines]
    assert end["type"] == "end"
    printed = [each for each in events if each["type"] == "printf" and _LINE.fullmatch(each["text"][:-1])]
    assert end["counts"]["printf"] == len(printed)
    (counted,) = [each["entries"][0]["value"] for each in events if each["type"] == "map"]
    (lost,) = [each["count"] for each in end["losses"] if each["kind"] == "ring-full"]
    others = [each["type"] for each in events if each["type"] not in ("printf", "map", "loss", "attached")]
    return counted, len(printed), lost, others


def _told_lost(errors: bytes) -> int:
    (lost,) = re.findall(rb"^warning: in all (\d+) events lost: ", errors, re.MULTILINE)
    return int(lost)


_LINE: Final = re.compile(r"\d \d+ as long as a line of a program that has something to say")
_READ: Final = {"text": _read_text, "json": _read_json, "ndjson": _read_events}


def test_a_tracer_that_is_stopped_counts_what_it_misses(workload: Path) -> None:
    with traced(workload) as run:
        before = run.peak_kib()
        run.tracer.send_signal(signal.SIGSTOP)
        wait_until(lambda: ") T " in Path(f"/proc/{run.tracer.pid}/stat").read_text())
        run.work_to_the_end()
        run.tracer.send_signal(signal.SIGCONT)
        assert run.tracer.stdout is not None
        select.select([run.tracer.stdout], (), ())  # it goes on
        assert run.peak_kib() - before < _MOST_GROWTH_KIB
        check_nothing_is_lost_uncounted(run)


@pytest.mark.parametrize("form", list(_READ))
def test_a_reader_that_does_not_read_costs_events_and_no_memory(form: str, workload: Path) -> None:
    with traced(workload, form=form) as run:
        before = run.peak_kib()
        run.work_to_the_end()
        assert run.peak_kib() - before < _MOST_GROWTH_KIB
        check_nothing_is_lost_uncounted(run, form)


def test_python_that_does_not_read_loses_events_and_has_their_count(workload: Path) -> None:
    children = Path(f"/proc/self/task/{os.getpid()}/children")
    others = set(children.read_text().split())
    with invivo.trace(_PROGRAM, command=[str(workload), str(_HITS_EACH), str(_CPUS)]) as session:
        (child,) = set(children.read_text().split()) - others
        events = iter(session)
        assert isinstance(next(events), Attached)
        wait_until(lambda: not is_running(int(child)))
        *read, end = events
    assert isinstance(end, Ended)
    ((kind, _, lost),) = end.losses
    assert kind == "ring-full"
    printed = sum(isinstance(event, Printed) for event in read)
    assert printed + lost == session.maps["@hits"].to_dict()[None] == _HITS_EACH * _CPUS


def test_a_write_that_nobody_reads_can_be_ended(workload: Path) -> None:
    with traced(workload) as run:
        run.work_to_the_end()
        deadline = time.monotonic() + _PATIENCE_SECONDS
        while run.tracer.poll() is None:
            assert time.monotonic() < deadline, "it hangs"
            run.tracer.send_signal(signal.SIGTERM)
            time.sleep(0.05)
        assert run.tracer.returncode == 130


def test_a_reader_that_goes_ends_the_trace(workload: Path) -> None:
    with traced(workload) as run:
        run.work()
        assert run.tracer.stdout is not None
        assert run.tracer.stdout.read(1)
        run.tracer.stdout.close()
        assert run.tracer.stderr is not None
        told = run.tracer.stderr.read().decode()
        assert run.tracer.wait(_PATIENCE_SECONDS) == 141
        assert all(line.startswith("warning: ") for line in told.splitlines())


def test_a_disk_without_space_ends_the_trace(workload: Path, tmp_path: Path) -> None:
    """The small file system is mounted in a mount namespace of its own. What is on it are the first records, whole."""
    script = 'mount -t tmpfs -o size=64k small "$0" || exit 99; "$@" -o "$0/out"; status=$?; cat "$0/out"; exit $status'
    program = f'{_LSEEK} {{ printf("%d\\n", args.offset); }}'
    unshared = ("unshare", "--mount", "--propagation", "private", "sh", "-c", script, str(tmp_path))
    done = subprocess.run(
        [*unshared, *INVIVO, "-q", "-e", program, "-c", f"{workload} {_HITS_EACH} 1"],
        capture_output=True,
        timeout=_PATIENCE_SECONDS,
        check=False,
    )
    errors = [line for line in done.stderr.decode().splitlines() if not line.startswith("warning: ")]
    assert errors == [f"invivo run: cannot write '{tmp_path}/out': No space left on device"]
    assert done.returncode == 1
    assert len(done.stdout) == 1 << 16
    assert "".join(f"{number}\n" for number in range(_HITS_EACH)).encode().startswith(done.stdout)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("form", ["text", "json", "ndjson"])
@pytest.mark.parametrize("to_file", [False, True])
def test_a_full_device_is_named(form: str, to_file: bool) -> None:
    words = [*INVIVO, "-q", "-f", form, "-e", 'BEGIN { printf("x\\n"); exit(); }']
    with open("/dev/full", "wb") as full:
        done = subprocess.run(
            [*words, "-o", "/dev/full"] if to_file else words,
            stdout=subprocess.PIPE if to_file else full,
            stderr=subprocess.PIPE,
            timeout=_PATIENCE_SECONDS,
            check=False,
        )
    name = "'/dev/full'" if to_file else "standard output"
    assert (done.returncode, done.stderr.decode()) == (
        1,
        f"invivo run: cannot write {name}: No space left on device\n",
    )


def closed(words: tuple[str, ...], redirection: str) -> tuple[int, str, str]:
    """Run with descriptors that the shell closed."""
    done = subprocess.run(
        ["sh", "-c", f'"$@" {redirection}', "sh", *words, "-q", "-e", 'BEGIN { printf("x\\n"); exit(); }'],
        capture_output=True,
        text=True,
        timeout=_PATIENCE_SECONDS,
        check=False,
    )
    return done.returncode, done.stdout, done.stderr


def test_descriptors_that_the_caller_closed_are_not_taken_for_others() -> None:
    cannot = "cannot write standard output: Bad file descriptor\n"
    assert closed(INVIVO, ">&-") == (1, "", f"invivo run: {cannot}")
    assert closed(BPFTRACE, ">&-") == (255, "", f"ERROR: {cannot}")
    assert closed(INVIVO, "<&-") == (0, "x\n", "")
    assert closed(INVIVO, "2>&-") == (0, "x\n", "")
    assert closed(INVIVO, "<&- 2>&-") == (0, "x\n", "")
    assert closed(INVIVO, "<&- >&- 2>&-") == (1, "", "")


def test_messages_that_nobody_can_read_do_not_end_the_trace() -> None:
    command = [*INVIVO, "-e", 'BEGIN { printf("x\\n"); exit(); }']
    with open("/dev/full", "wb") as full:
        done = subprocess.run(command, stdout=subprocess.PIPE, stderr=full, timeout=_PATIENCE_SECONDS, check=False)
    assert (done.returncode, done.stdout) == (0, b"x\n")
