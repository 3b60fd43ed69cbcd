"""``bpftrace -l``: probes by patterns, the kernel's types, or the probes of a program."""

from __future__ import annotations

import sys
from collections.abc import Mapping

from invivo.cli.list import Line, found, write
from invivo.diagnostics import Diagnostics, SourceFile
from invivo.lang.check.probes import points_of
from invivo.lang.config import read_config
from invivo.lang.parse import parse
from invivo.probes import provider_of
from invivo.probes.machine import Machine
from invivo.probes.provider import Facts, Role

_SHOWN = (Role.EVENT, Role.WATCH, Role.TIMER, Role.ITERATOR)  # not what the session runs itself


def list_patterns(patterns: str, facts: Facts, *, verbose: bool) -> int:
    """List what matches one of several patterns, separated by commas; return the exit status."""
    if patterns.endswith(".bt"):
        sys.stdout.write(
            f"WARNING: It appears that '{patterns}' is a filename but the file does not exist. "
            f"Treating '{patterns}' as a search pattern.\n"
        )
    lines = (line for each in patterns.split(",") for line in found(each, facts, verbose=verbose))
    write((_with_module(line) for line in lines) if verbose else lines, "text")
    return 0


def _with_module(line: Line) -> Line:
    """A type's definition with whose it is before; a probe as it is."""
    is_type = line.name.partition(" ")[0] in ("struct", "union", "enum")
    return Line(f"vmlinux: {line.name}") if is_type else line


def list_program(
    source: SourceFile, parameters: tuple[str, ...], environment: Mapping[str, str], facts: Facts, *, verbose: bool
) -> int:
    """List where a program's probes would be attached; what they do does not matter. Raises `CompileError`."""
    diagnostics = Diagnostics()
    script = parse(source, parameters)
    config, _ = read_config(script.config, environment, diagnostics)
    names: list[str] = []
    with Machine(facts=facts) as machine:
        for probe in script.probes:
            points = points_of(probe, machine, config, diagnostics, bpftrace=True)
            names += [point.name for point in points if provider_of(point).role in _SHOWN]
    diagnostics.stop_on_errors()
    shown = (list(found(name, facts, verbose=True)) if verbose else [] for name in names)
    lines = [line for name, known in zip(names, shown, strict=True) for line in known or [Line(name)]]
    return 0 if write(lines, "text") else 1
