"""What a profile costs: the traced program, each walked stack, and the end of a run with 24,000 different stacks."""

from __future__ import annotations

import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from bench.contenders import BPFTRACE, INVIVO, Bench, Contender, Load
from bench.figures import STACKS, Figures
from bench.machine import BenchError

TITLE = "Profiles"
_DWARF, _COMMAND = "invivo, by tables", "invivo profile"
_LEAVES = 32_768  # samples do not hit all of them
_LEAF_NS = 100_000  # as long as between two samples
_OVERHEAD_NS = 1_000_000_000  # of a load whose slowing down is measured
_RATES = (99, 999)
_CALLS = 10_000
_DEPTHS = (16, 116)
_MOST_RUNS = 3

_PROFILE = "profile:hz:{rate} /scope/ {{ @[ustack] = count(); }}"
_WALK = "tracepoint:syscalls:sys_enter_access /scope/ {{ @[{key}] = count(); }}"


def measure(bench: Bench) -> Figures:
    """Run each contender in turn. Raises `BenchError` without perf."""
    if shutil.which("perf") is None:
        raise BenchError("perf is not installed (linux-perf)")
    figures = Figures()
    folder = bench.load.program.parent
    wide, deep = (_built(name, folder) for name in ("wide", "deep"))
    turns = _turns(bench, wide)
    for number in range(min(bench.runs, _MOST_RUNS)):
        bench.note(f"profiles, run {number + 1}: 24,000 stacks at 9,999 Hz")
        _many_stacks(bench, figures, _load(wide, _LEAVES, turns))
        for rate in _RATES:
            bench.note(f"profiles, run {number + 1}: {rate} Hz")
            _overhead(bench, figures, _load(wide, _OVERHEAD_NS // _LEAF_NS, turns), rate)
        for depth in _DEPTHS:
            bench.note(f"profiles, run {number + 1}: {depth} frames")
            _walks(bench, figures, _load(deep, _CALLS, depth, 8), depth)
    return figures


def _built(name: str, folder: Path) -> Path:
    program, source = folder / name, Path(__file__).with_name(f"{name}.c")
    if not program.exists():
        words = ["gcc", "-O2", "-fno-omit-frame-pointer", "-o", str(program), str(source)]
        subprocess.run(words, check=True)
    return program


def _load(program: Path, *words: int) -> Load:
    load = Load(program, words[0])
    load.command = [str(program), *map(str, words), load.command[-1]]
    return load


def _turns(bench: Bench, wide: Path) -> int:
    """How many turns of its loop take this processor as long as wanted."""
    load = _load(wide, 2000, 10_000)
    load.reset()
    bench.launcher.run(load.command)
    return round(10_000 * _LEAF_NS / load.finished().call_ns)


def _run_words(contender: Contender, program: str, load: Load) -> list[str]:
    """A contender with room for that many stacks."""
    if contender is BPFTRACE:
        room, words = "", ["env", "BPFTRACE_MAP_KEYS_MAX=131072"]
    else:
        room, words = "config = { max_map_keys = 131072 } ", []
    return [*words, *contender.command(room + program, load.command, load.program.with_name("stacks"))]


def _profile_words(load: Load, rate: int, *more: str) -> list[str]:
    command, out = " ".join(load.command), str(load.program.with_name("stacks.folded"))
    return [sys.executable, "-m", "invivo", "profile", "-U", "-q", "-F", str(rate), *more, "-o", out, "-c", command]


def _many_stacks(bench: Bench, figures: Figures, load: Load) -> None:
    """From the end of the load, by its own clock, to the end of the run: names are found, the result is written."""
    program = _PROFILE.format(rate=9999)
    ways: list[tuple[str, Sequence[str], str]] = [
        (each.name, _run_words(each, program, load), "stacks") for each in (INVIVO, BPFTRACE)
    ]
    ways.append((_COMMAND, _profile_words(load, 9999), "stacks.folded"))
    for name, words, output in ways:
        load.reset()
        run = bench.launcher.run(words)
        ended_s = (load.finished().ended_ns - run.started_ns) / 1e9
        lines = load.program.with_name(output).read_bytes().splitlines()
        stacks = len(lines) if output.endswith(".folded") else sum(line.startswith(b"@[") for line in lines)
        values = {
            "end of the load to end of the run, ms": (run.wall_s - ended_s) * 1e3,
            "peak memory, MiB": run.peak_kib / 1024,
            STACKS: stacks,
        }
        figures.add("9,999 Hz, many stacks", name, values)


def _overhead(bench: Bench, figures: Figures, load: Load, rate: int) -> None:
    """How much longer the program takes, of 16 frames and more."""
    program = _PROFILE.format(rate=rate)
    record = ["perf", "record", "-q", "-g", "-F", str(rate), "-e", "cpu-clock:u"]
    ways: tuple[tuple[str, Sequence[str]], ...] = (
        ("untraced", load.command),
        (INVIVO.name, _run_words(INVIVO, program, load)),
        (_DWARF, _run_words(INVIVO, program.replace("ustack", "dw_ustack"), load)),
        (BPFTRACE.name, _run_words(BPFTRACE, program, load)),
        ("perf record -g", [*record, "-o", str(load.program.with_name("perf.data")), *load.command]),
    )
    untraced_ns = 0.0
    for name, words in ways:
        load.reset()
        bench.launcher.run(words)
        took_ns = load.finished().call_ns
        untraced_ns = untraced_ns or took_ns
        if name != "untraced":
            figures.add(f"{rate} Hz", name, {"added to the program, %": 100 * (took_ns / untraced_ns - 1)})


def _walks(bench: Bench, figures: Figures, load: Load, depth: int) -> None:
    """What a call that is counted by its user stack takes longer than one that is counted alone."""
    ways = (
        (INVIVO.name, INVIVO, "ustack"),
        (_DWARF, INVIVO, "dw_ustack"),
        (BPFTRACE.name, BPFTRACE, "ustack"),
    )
    for name, contender, key in ways:
        took_ns: list[float] = []
        for counted in ("1", key):
            load.reset()
            bench.launcher.run(_run_words(contender, _WALK.format(key=counted), load))
            took_ns.append(load.finished().call_ns)
        figures.add(f"a stack of {depth} frames", name, {"added to a call, ns": took_ns[1] - took_ns[0]})
