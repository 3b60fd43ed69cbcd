"""How long does a tool's script of some thirty probes take to compile, stage by stage?

In this process, after a first time that imports what compiling needs; the machine is asked anew each time.  Time on
a processor: compiling waits for nothing.
"""

from __future__ import annotations

import gc
import time
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

from bench.contenders import INVIVO, Bench
from bench.figures import Figures
from invivo import pipeline
from invivo.bpf import generate
from invivo.diagnostics import Diagnostics, SourceFile
from invivo.lang.check import check
from invivo.lang.config import read_config
from invivo.lang.lower import lower
from invivo.lang.parse import parse
from invivo.passes import run as run_passes
from invivo.probes.machine import Machine

TITLE = "Compiling a tool"
_SCRIPT = Path(__file__).with_name("tool.bt")

T = TypeVar("T")


class _Stages:
    """Milliseconds by stage."""

    def __init__(self) -> None:
        self.values: dict[str, float] = {}

    def time(self, name: str, stage: Callable[[], T]) -> T:
        start_ns = time.process_time_ns()
        made = stage()
        self.values[f"{name}, ms"] = (time.process_time_ns() - start_ns) / 1e6
        return made


def measure(bench: Bench) -> Figures:
    """Compile as often as other questions run a tracer. Without garbage collections, as the command compiles."""
    figures = Figures()
    bench.note(f"compiling: {_SCRIPT.name}")
    source = SourceFile(_SCRIPT.name, _SCRIPT.read_text())
    with Machine() as machine:
        image = pipeline.compile_source(source, machine).image
    case = f"{sum(len(program.plan.points) for program in image.programs)} probes"
    was_enabled = gc.isenabled()
    gc.disable()
    try:
        for _ in range(bench.runs):
            figures.add(case, INVIVO.name, _compile(source))
            gc.collect()
    finally:
        if was_enabled:
            gc.enable()
    figures.add(case, INVIVO.name, {"instructions": sum(len(program.code) // 8 for program in image.programs)})
    return figures


def _compile(source: SourceFile) -> dict[str, float]:
    """The stages of `pipeline.compile_source`, one by one."""
    stages = _Stages()
    diagnostics = Diagnostics()
    start_ns = time.process_time_ns()
    with Machine() as machine:
        script = stages.time("parse", lambda: parse(source, ()))
        config, settings = read_config(script.config, {}, diagnostics)
        checked = stages.time("check", lambda: check(script, machine, config, diagnostics))
        program = stages.time("lower", lambda: lower(checked, settings))
        program = stages.time("passes", lambda: run_passes(program))
        stages.time("select, allocate, encode", lambda: generate(program))
    return {"all, ms": (time.process_time_ns() - start_ns) / 1e6} | stages.values
