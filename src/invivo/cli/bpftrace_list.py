"""``bpftrace -l``: probes by patterns, the kernel's types, or the probes of a program."""

from __future__ import annotations

import sys
from collections.abc import Mapping

from invivo.cli.failures import say
from invivo.cli.list import Line, found, write
from invivo.diagnostics import Diagnostics, SourceFile
from invivo.errors import NotSupportedError
from invivo.lang.check.probes import points_of
from invivo.lang.config import read_config
from invivo.lang.parse import parse
from invivo.probes import find, provider_of
from invivo.probes.facts import LiveFacts
from invivo.probes.machine import Machine
from invivo.probes.provider import Role

_SHOWN = (Role.EVENT, Role.WATCH, Role.TIMER, Role.ITERATOR)  # not what the session runs itself


class ListedFacts(LiveFacts):
    """This machine, with all that it knows of: where probes would be is listed even if it cannot attach them."""

    def has(self, feature: str) -> bool:
        return True


def list_patterns(patterns: str, facts: LiveFacts, *, verbose: bool) -> int:
    """List what matches one of several patterns, separated by commas; return the exit status."""
    if patterns.endswith(".bt"):
        sys.stdout.write(
            f"WARNING: It appears that '{patterns}' is a filename but the file does not exist. "
            f"Treating '{patterns}' as a search pattern.\n"
        )
    for pattern in patterns.split(","):
        try:
            write(map(_as_defined, found(_whole(pattern), facts, verbose=verbose)), "text")
        except NotSupportedError as problem:
            say(f"WARNING: {problem}")
    return 0


def _whole(pattern: str) -> str:
    """A pattern of probes, from one of names; types and providers are told by themselves."""
    is_name = pattern and ":" not in pattern and " " not in pattern and find(pattern) is None
    return f"*:{pattern}" if is_name else pattern


def _as_defined(line: Line) -> Line:
    """A type's definition with whose it is before, as bpftrace indents it; a probe or a type's name as it is."""
    if not line.name.endswith("};"):
        return line
    first, *members = line.name.replace(" " * 8, "\t").splitlines()
    return Line("\n".join((f"vmlinux: {first}", *(member.replace(" : ", ": ", 1) for member in members), "")))


def list_program(
    source: SourceFile, parameters: tuple[str, ...], environment: Mapping[str, str], facts: LiveFacts, *, verbose: bool
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
    write(lines, "text")
    return 0
