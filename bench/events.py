"""Question 3: how many printed events a second reach a file, how many are lost, and what does that cost?"""

from __future__ import annotations

import re

from bench.contenders import BPFTRACE, CONTENDERS, Bench, Contender, Launcher, Load
from bench.figures import LOST, Figures
from bench.machine import BenchError
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


class Case(Record):
    """A rate of the load in calls a second (0: as fast as it can), and how many calls for one of the bench's."""

    name: str
    rate: int
    share: float


CASES = (
    Case("as fast as they come", 0, 8.0),
    Case("1,000,000 a second", 1_000_000, 4.0),
    Case("100,000 a second", 100_000, 0.5),
    Case("1,000 a second", 1_000, 0.005),
)


def measure(bench: Bench) -> Figures:
    """Run each case, the contenders in turn."""
    figures = Figures()
    for number in range(bench.runs):
        for case in CASES:
            bench.note(f"events, run {number + 1}: {case.name}")
            for contender in CONTENDERS:
                figures.add(case.name, contender.name, _measure_one(bench.launcher, case, contender, bench.load))
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
    seconds = run.wall_s - (result.began_ns - run.started_ns) / 1e9
    return {
        "written event, ns": seconds * 1e9 / max(written, 1),
        "lost, %": 100 * (calls - written) / calls,
        "tracer's processor time, ns/event": (run.cpu_s * 1e9 - result.cpu_ns) / max(written, 1),
        "traced call, ns": result.call_ns,
        LOST: calls - written - told,  # lost and not told
    }


def _events(text: bytes, pid: int) -> int:
    """How many whole lines of the load's events there are. `BenchError` if other lines are among them."""
    start = f"{pid} {pid} load ".encode()
    lines = [line for line in text.split(b"\n") if line]
    foreign = [line for line in lines if not line.startswith(start) and not line.startswith((b"Attach", b"Lost"))]
    if foreign:
        raise BenchError(f"a line that is no event of the load: {foreign[0]!r}")
    return sum(line.startswith(start) for line in lines)
