"""Question 1: how long until a tracer is at work, how long is its shortest run, how much memory does it take?"""

from __future__ import annotations

from collections.abc import Callable

from bench.contenders import CONTENDERS, Bench, Contender, Launcher, Load, Run
from bench.figures import LOST, Figures
from bench.machine import OPENS, PARENTS, libc_path
from bench.results import entry
from invivo.record import Record

TITLE = "Start-up"
_CALLS = 100  # lseek calls of the load
_BEGIN = "BEGIN { exit(); }"


class Case(Record):
    """A program, how many hits the load makes, and how many of them a run's maps show."""

    name: str
    program: str
    hits: int
    count: Callable[[Run], int]
    is_slow: bool = False  # in bpftrace, which takes half a minute to detach


def cases() -> tuple[Case, ...]:
    """The five programs."""
    return (
        Case(_BEGIN, _BEGIN, 0, lambda run: 0),
        Case(
            "a string argument",
            "tracepoint:syscalls:sys_enter_openat /scope/ { @[str(args->filename)] = count(); }",
            OPENS,
            lambda run: entry(run.maps, "@", "/dev/null"),
        ),
        Case(
            "a task_struct walk",
            "tracepoint:syscalls:sys_enter_lseek /scope/ { @[curtask->real_parent->tgid] = count(); }",
            _CALLS,
            lambda run: entry(run.maps, "@", str(run.pid)),  # the tracer is the load's parent
        ),
        Case(
            "all system calls",
            "tracepoint:syscalls:sys_enter_* /scope/ { @[probe] = count(); }",
            _CALLS + PARENTS,
            lambda run: sum(
                entry(run.maps, "@", f"tracepoint:syscalls:sys_enter_{name}") for name in ("lseek", "getppid")
            ),
            is_slow=True,
        ),
        Case(
            "a uprobe on libc",
            f"uprobe:{libc_path()}:getppid /scope/ {{ @ = count(); }}",
            PARENTS,
            lambda run: entry(run.maps, "@"),
        ),
    )


def measure(bench: Bench) -> Figures:
    """Run each case, the contenders in turn; fewer times where bpftrace is slow."""
    figures = Figures()
    for contender in CONTENDERS:
        bench.launcher.run(contender.command(_BEGIN))  # files and byte code into memory
    small = Load(bench.load.program, _CALLS)
    for number in range(max(bench.runs, bench.slow_runs)):
        for case in cases():
            if number >= (bench.slow_runs if case.is_slow else bench.runs):
                continue
            bench.note(f"start-up, run {number + 1}: {case.name}")
            for contender in CONTENDERS:
                figures.add(case.name, contender.name, _measure_one(bench.launcher, case, contender, small))
    return figures


def _measure_one(launcher: Launcher, case: Case, contender: Contender, load: Load) -> dict[str, float]:
    load.reset()
    run = launcher.run(contender.command(case.program, load.command if case.hits else ()))
    values = {"first word, ms": run.said_s * 1e3}
    if case.hits:
        # Both start the command when everything is attached, so its own clock is the same measure for both.
        values["attached, ms"] = (load.finished().began_ns - run.started_ns) / 1e6
    values |= {"whole run, ms": run.wall_s * 1e3, "peak memory, MiB": run.peak_kib / 1024}
    if case.hits:
        values[LOST] = case.hits - case.count(run)
    return values
