"""How long from the end of the traced command until a map of 100,000 keys is printed, sorted, as text?"""

from __future__ import annotations

from bench.contenders import BPFTRACE, CONTENDERS, INVIVO, Bench, Contender, Load
from bench.figures import LOST, Figures
from invivo.record import Record

TITLE = "Large maps as text"
_PROGRAM = "tracepoint:syscalls:sys_enter_lseek /scope/ { @[nsecs] = count(); }"  # every call has a key of its own


class Case(Record):
    """A number of keys."""

    name: str
    keys: int


CASES = (Case("10,000 keys", 10_000), Case("100,000 keys", 100_000))
# Both keep 4,096 keys unless they are told; 0.17 has no `config` yet.
_CONFIGURED = {INVIVO.name: "config = { max_map_keys = 131072 } "}
_ENVIRONMENT = {BPFTRACE.name: ("env", "BPFTRACE_MAP_KEYS_MAX=131072")}


def measure(bench: Bench) -> Figures:
    """Run each case, the contenders in turn."""
    figures = Figures()
    for number in range(bench.runs):
        for case in CASES:
            bench.note(f"maps, run {number + 1}: {case.name}")
            for contender in CONTENDERS:
                figures.add(case.name, contender.name, _measure_one(bench, case, contender))
    return figures


def _measure_one(bench: Bench, case: Case, contender: Contender) -> dict[str, float]:
    load = Load(bench.load.program, case.keys)
    load.reset()
    output = load.program.with_name("map")
    program = _CONFIGURED.get(contender.name, "") + _PROGRAM
    words = [*_ENVIRONMENT.get(contender.name, ()), *contender.command(program, load.command, output)]
    run = bench.launcher.run(words)
    result = load.finished()
    lines = [line for line in output.read_bytes().split(b"\n") if line.startswith(b"@[")]
    return {
        "end of the load to end of the run, ms": (run.wall_s - (result.ended_ns - run.started_ns) / 1e9) * 1e3,
        "peak memory, MiB": run.peak_kib / 1024,
        LOST: case.keys - sum(int(line.rpartition(b": ")[2]) for line in lines),
    }
