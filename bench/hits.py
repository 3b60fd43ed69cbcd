"""Question 2: what does a hit cost, in the kernel and to the traced program: aggregations, keys, pairs of probes?"""

from __future__ import annotations

import os
import struct
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from bench.contenders import CONTENDERS, INVIVO, Bench, Contender, Launcher, Load, LoadResult, Run
from bench.figures import LOST, RUNS, Figures
from bench.machine import BenchError
from bench.results import (
    OFFSETS,
    all_in_histogram,
    all_in_series,
    entry,
    equal_steps,
    hits_in_histogram,
    offsets_added,
    powers_of_two,
)
from invivo.kernel import links, perf, programs, syscalls
from invivo.kernel.programs import Program, Statistics
from invivo.kernel.tracefs import Tracefs
from invivo.record import Record
from invivo.target import ProgramType

TITLE = "The cost of a hit"
_PROBE = "tracepoint:syscalls:sys_enter_lseek /scope/"
_LOAD_FILE = 3  # the first that it opens
_UNTRACED = "untraced"
_EMPTY = "empty program"
_RETURN_0 = bytes.fromhex("b700000000000000 9500000000000000")  # r0 = 0; exit
_PROG_GET_FD_BY_ID = 13  # BPF_PROG_GET_FD_BY_ID, enum bpf_cmd, linux/bpf.h

_CALL = "traced call, ns"
_ADDED = "added to the call, ns"
_OWN = "program's own, ns"
_INSTRUCTIONS = "instructions"


class Case(Record):
    """An aggregation, and how many of the load's calls a run's maps show; ``programs``: how many run for each call.

    ``with_path``: the calls have a path. ``is_new``: bpftrace 0.17 does not know it.
    """

    name: str
    count: Callable[[Run, LoadResult, int], int]
    source: str = ""  # if it is not the action alone
    programs: int = 1
    with_path: bool = False
    is_new: bool = False

    def program(self) -> str:
        return self.source or f"{_PROBE} {{ {self.name}; }}"


def _last_time(run: Run, load: LoadResult, calls: int) -> int:
    """All calls if the time that stayed is of the load's life (nsecs may count suspended time, too), else none."""
    monotonic_ns = time.monotonic_ns()  # read first: the difference is never too small, however long we wait between
    suspended_ns = time.clock_gettime_ns(time.CLOCK_BOOTTIME) - monotonic_ns
    noted_ns = entry(run.maps, "@start", str(load.pid))
    return calls if load.began_ns <= noted_ns <= load.ended_ns + suspended_ns else 0


def _all_if(is_right: Callable[[Run, int], bool]) -> Callable[[Run, LoadResult, int], int]:
    """All calls if a value is what it must be, else none."""
    return lambda run, load, calls: calls if is_right(run, calls) else 0


_STATISTICS = ("count", "average", "total")

CASES = (
    Case("@ = count()", lambda run, load, calls: entry(run.maps, "@")),
    Case("@[tid] = count()", lambda run, load, calls: entry(run.maps, "@", str(load.pid))),
    Case("@[comm] = count()", lambda run, load, calls: entry(run.maps, "@", "load")),
    Case("@ = hist(args->offset)", lambda run, load, calls: hits_in_histogram(run.maps, powers_of_two(calls))),
    Case(
        "@[comm] = hist(args->offset)",
        lambda run, load, calls: hits_in_histogram(run.maps, powers_of_two(calls), "load"),
    ),
    Case("@ = sum(args->offset)", _all_if(lambda run, calls: entry(run.maps, "@") == offsets_added(calls))),
    Case("@ = avg(args->offset)", _all_if(lambda run, calls: entry(run.maps, "@") == offsets_added(calls) // calls)),
    Case("@ = min(args->offset)", _all_if(lambda run, calls: run.maps.get("@") == 0)),
    Case("@ = max(args->offset)", _all_if(lambda run, calls: entry(run.maps, "@") == OFFSETS - 1)),
    Case(
        "@ = stats(args->offset)",
        _all_if(
            lambda run, calls: (
                tuple(entry(run.maps, "@", name) for name in _STATISTICS)
                == (calls, offsets_added(calls) // calls, offsets_added(calls))
            )
        ),
    ),
    Case(
        "@ = lhist(args->offset, 0, 1024, 64)",
        lambda run, load, calls: hits_in_histogram(run.maps, equal_steps(calls, 64)),
    ),
    Case('@ = tseries(1, 1s, 100, "sum")', lambda run, load, calls: all_in_series(run.maps), is_new=True),
    Case(
        # As much room as bpftrace 0.17 gives a string; later ones and invivo give 1,024 bytes, all of them hashed.
        "@[str(args->filename, 64)] = count()",
        lambda run, load, calls: entry(run.maps, "@", "/dev/null"),
        "tracepoint:syscalls:sys_enter_access /scope/ { @[str(args->filename, 64)] = count(); }",
        with_path=True,
    ),
    Case("@start[tid] = nsecs", _last_time),
    Case(
        "@[pid, comm, args->fd] = count()",
        lambda run, load, calls: entry(run.maps, "@", f"{load.pid},load,{_LOAD_FILE}"),
    ),
    Case(
        "@start[tid] = nsecs; then @ = hist(nsecs - @start[tid])",
        lambda run, load, calls: all_in_histogram(run.maps),
        f"{_PROBE} {{ @start[tid] = nsecs; }} tracepoint:syscalls:sys_exit_lseek /scope/ "
        "{ @ = hist(nsecs - @start[tid]); delete(@start[tid]); }",
        programs=2,
    ),
)


def measure(bench: Bench) -> Figures:
    """Run everything in turn: once for the load's own time, once more with the kernel's statistics."""
    figures = Figures()
    for number in range(bench.runs):
        for case in CASES:
            bench.note(f"hits, run {number + 1}: {case.name}")
            load = Load(bench.load.program, bench.load.calls, with_path=True) if case.with_path else bench.load
            _measure_round(bench.launcher, case, load, figures)
    return figures


def _measure_round(launcher: Launcher, case: Case, load: Load, figures: Figures) -> None:
    """One run of each contender. Differences are taken within the round: the machine changes between rounds."""
    untraced_ns = _run_load(launcher, load).call_ns
    figures.add(case.name, _UNTRACED, {_CALL: untraced_ns})
    with empty_program("sys_enter_access" if case.with_path else "sys_enter_lseek") as empty:
        empty_ns = _run_load(launcher, load).call_ns
        statistics_fd = programs.enable_statistics()
        try:
            _run_load(launcher, load)
            base_ns = mean_ns(empty.statistics())
        finally:
            os.close(statistics_fd)
    figures.add(case.name, _EMPTY, {_CALL: empty_ns, _ADDED: empty_ns - untraced_ns})
    for contender in (INVIVO,) if case.is_new else CONTENDERS:
        call_ns, lost = _timed(launcher, case, contender, load)
        seen = _counted(launcher, case, contender, load)
        values = {
            _CALL: call_ns,
            _ADDED: call_ns - untraced_ns,
            _OWN: sum(map(mean_ns, seen)) - case.programs * base_ns,
        }
        values |= {RUNS: sum(each.run_count for each in seen) / load.calls / case.programs, LOST: lost}
        values |= {_INSTRUCTIONS: sum(each.translated_bytes for each in seen) // 8}
        figures.add(case.name, contender.name, values)


def _run_load(launcher: Launcher, load: Load) -> LoadResult:
    load.reset()
    launcher.run(load.command)
    return load.finished()


def _timed(launcher: Launcher, case: Case, contender: Contender, load: Load) -> tuple[float, int]:
    """The load's own time of a call, without statistics, and the hits that the contender lost."""
    load.reset()
    run = launcher.run(contender.command(case.program(), load.command))
    result = load.finished()
    return result.call_ns, load.calls - case.count(run, result, load.calls)


def _counted(launcher: Launcher, case: Case, contender: Contender, load: Load) -> list[Statistics]:
    """What the kernel says of the contender's busiest programs, looked at while the load waits."""
    load.reset()
    seen: list[Statistics] = []

    def look(pid: int) -> bool:
        if load.result() is None:
            return False
        every = sorted(map(statistics_of, program_ids(pid)), key=lambda found: -found.run_count)
        seen.extend(every[: case.programs])
        load.release()
        return True

    statistics_fd = programs.enable_statistics()
    try:
        launcher.run(contender.command(case.program(), load.held_command), look)
    finally:
        os.close(statistics_fd)
    if len(seen) < case.programs or seen[-1].run_count < load.calls:
        raise BenchError(f"{contender.name}: {case.programs} programs of it should have run {load.calls} times each")
    return seen


def mean_ns(found: Statistics) -> float:
    return found.run_time_ns / max(found.run_count, 1)


def program_ids(pid: int) -> set[int]:
    """The numbers of the BPF programs that a process of ours holds, from its /proc/PID/fdinfo."""
    found: set[int] = set()
    for path in Path(f"/proc/{pid}/fdinfo").iterdir():
        with suppress(FileNotFoundError):  # closed meanwhile
            found |= {int(line.split()[1]) for line in path.read_text().splitlines() if line.startswith("prog_id:")}
    return found


def statistics_of(program_id: int) -> Statistics:
    """The kernel's counts of a program, by its number."""
    attributes = bytearray(struct.pack("<III", program_id, 0, 0))
    fd = syscalls.bpf(_PROG_GET_FD_BY_ID, attributes, f"open program {program_id}")
    program = Program(fd, str(program_id))
    try:
        return program.statistics()
    finally:
        program.close()


@contextmanager
def empty_program(event: str) -> Iterator[Program]:
    """A program that only returns, at the traced tracepoint: what being traced costs at least."""
    tracefs = Tracefs()
    try:
        event_id = tracefs.event_id("syscalls", event)
    finally:
        tracefs.close()
    program = programs.load_code("empty", _RETURN_0, ProgramType.TRACEPOINT)
    try:
        link = links.perf_event(program, perf.open_tracepoint(event_id))
        try:
            yield program
        finally:
            link.close()
    finally:
        program.close()
