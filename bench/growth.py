"""How do costs grow with probes, keys, the depth of stacks, the length of strings, the rate of events?

``python -m bench growth`` measures and writes ``build/growth.json``; ``bench/plots.py`` draws it.
"""

from __future__ import annotations

import subprocess
from collections.abc import Callable
from pathlib import Path

from bench.contenders import CONTENDERS, INVIVO, Bench, Contender, Load
from bench.results import entry
from invivo.record import Record

_CALLS = 100_000
_FUNCTIONS = 10_000
_EVENTS = Path("/sys/kernel/tracing/events/syscalls")
_MOST_PROBES = 100  # of bpftrace, which attaches to 512 at most and needs tens of milliseconds to let go of each


class Series(Record):
    """What is varied, in which steps, what is measured, and one measurement of it (None: not for this contender)."""

    name: str
    unit: str
    steps: tuple[int, ...]
    measure: Callable[[Bench, Contender, int], float | None]


def _probes(bench: Bench, contender: Contender, count: int) -> float | None:
    """Milliseconds of a whole run that attaches to so many functions."""
    if contender is not INVIVO and count > _MOST_PROBES:
        return None
    library = _library(bench.load.program.with_name("functions"))
    pattern = f"f_{'0' * (6 - len(str(count)))}*"
    allowed = "config = { max_probes = 20000 } " if contender is INVIVO else ""
    program = f"{allowed}uprobe:{library}:{pattern} {{ @ = count(); }} BEGIN {{ exit(); }}"
    return bench.launcher.run(contender.command(program)).wall_s * 1e3


def _tracepoints(bench: Bench, contender: Contender, count: int) -> float | None:
    """Milliseconds of a whole run that attaches to the entries of so many system calls, of a command that makes few."""
    if contender is not INVIVO and count > _MOST_PROBES // 10:
        return None
    names = sorted(path.name for path in _EVENTS.glob("sys_enter_*"))[:count]
    points = ", ".join(f"tracepoint:syscalls:{name}" for name in names)
    load = Load(bench.load.program, 1)
    load.reset()
    return bench.launcher.run(contender.command(f"{points} /scope/ {{ @ = count(); }}", load.command)).wall_s * 1e3


def _library(path: Path) -> Path:
    """A library of 10,000 functions; ``f_0*`` are 10,000, ``f_00*`` 1,000, ``f_000*`` 100 and so on."""
    if not path.exists():
        names = [f"f_{number:05}" for number in range(_FUNCTIONS)]
        source = "".join(f"void {name}(void) {{}}\n" for name in names)
        command = ["gcc", "-shared", "-fPIC", "-O0", "-x", "c", "-", "-o", str(path)]
        subprocess.run(command, input=source, text=True, check=True)
    return path


def _keys(bench: Bench, contender: Contender, count: int) -> float | None:
    """Milliseconds from the end of the load to the end of the run, with so many keys printed."""
    load = Load(bench.load.program, count)
    load.reset()
    program = "tracepoint:syscalls:sys_enter_lseek /scope/ { @[nsecs] = count(); }"
    words = contender.command(program, load.command, load.program.with_name("map"))
    if contender is INVIVO:
        words = [word.replace("tracepoint:", "config = { max_map_keys = 1048576 } tracepoint:") for word in words]
    else:
        words = ["env", "BPFTRACE_MAP_KEYS_MAX=1048576", *words]
    run = bench.launcher.run(words)
    return (run.wall_s - (load.finished().ended_ns - run.started_ns) / 1e9) * 1e3


def _deep(bench: Bench, contender: Contender, key: str, depth: int, length: int) -> float | None:
    """Nanoseconds that a call takes longer than untraced, counted by a key."""
    program = bench.load.program.with_name("deep")
    if not program.exists():
        source = Path(__file__).with_name("deep.c")
        subprocess.run(["gcc", "-O2", "-fno-omit-frame-pointer", "-o", str(program), str(source)], check=True)
    load = Load(program, _CALLS)
    load.command = [str(program), str(_CALLS), str(depth), str(length), load.command[-1]]
    load.reset()
    bench.launcher.run(load.command)
    untraced_ns = load.finished().call_ns
    load.reset()
    script = f"tracepoint:syscalls:sys_enter_access /scope/ {{ @[{key}] = count(); @n = count(); }}"
    run = bench.launcher.run(contender.command(script, load.command))
    assert entry(run.maps, "@n") >= _CALLS
    return load.finished().call_ns - untraced_ns


def _rate(bench: Bench, contender: Contender, rate: int) -> float | None:
    """Percent of a processor that the tracer takes while it prints so many events a second."""
    load = Load(bench.load.program, rate, rate)  # a second
    load.reset()
    program = 'tracepoint:syscalls:sys_enter_lseek /scope/ { printf("%d %lld %s\\n", tid, args->offset, comm); }'
    run = bench.launcher.run(contender.command(program, load.command, load.program.with_name("events")))
    result = load.finished()
    return 100 * (run.cpu_s * 1e9 - result.cpu_ns) / (result.ended_ns - result.began_ns)


SERIES = (
    Series("functions probed (uprobe)", "Whole run, ms", (1, 10, 100, 1_000, 10_000), _probes),
    Series("tracepoints probed", "Whole run, ms", (1, 3, 10, 30, 100, 300), _tracepoints),
    Series(
        "keys of a map, printed", "End of load to end of run, ms", (10, 100, 1_000, 10_000, 100_000, 1_000_000), _keys
    ),
    Series(
        "frames of a user stack as a key",
        "Added to a call, ns",
        (1, 4, 16, 64, 120),
        lambda b, c, n: _deep(b, c, "ustack", n, 8),
    ),
    Series(
        "characters of a string as a key",
        "Added to a call, ns",
        (1, 8, 16, 32, 62),
        lambda b, c, n: _deep(b, c, "str(args->filename, 64)", 1, n),
    ),
    Series(
        "printed events a second (start-up is in it)",
        "Tracer's processor time, %",
        (100, 1_000, 10_000, 100_000, 300_000),
        _rate,
    ),
)

Points = dict[str, dict[str, list[tuple[int, list[float]]]]]


def measure(bench: Bench) -> Points:
    """Return for each series and contender the steps with the values of all runs."""
    points: Points = {series.name: {each.name: [] for each in CONTENDERS} for series in SERIES}
    for series in SERIES:
        for step in series.steps:
            bench.note(f"growth: {step:,} {series.name}")
            values: dict[str, list[float]] = {}
            for _ in range(bench.runs):
                for contender in CONTENDERS:
                    value = series.measure(bench, contender, step)
                    if value is not None:
                        values.setdefault(contender.name, []).append(value)
            for name, found in values.items():
                points[series.name][name].append((step, found))
    return points
