"""From the probes of a script to the programs that will run: wildcards, grouping, limits."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from typing import TypeGuard

from invivo.diagnostics import Code, Diagnostics
from invivo.lang import ast
from invivo.lang.check.model import Instance
from invivo.library import find_builtin
from invivo.library.record import Config
from invivo.target import AttachPoint, NoSuchProbeError, ProbeSpec, Target

_NUMBERED = re.compile(r"arg\d+\Z")


def expand_probes(
    script: ast.Script, target: Target, config: Config, defined: Iterable[ast.Expr], diagnostics: Diagnostics
) -> list[Instance]:
    """Return one instance for each program that the script's probes need.

    ``defined``: expressions that names of the script stand for, wherever they are used.
    """
    everywhere = frozenset(use for expr in defined for use in body_uses(expr))
    instances: list[Instance] = []
    total = 0
    for probe in script.probes:
        points = _expand(probe, target, config, diagnostics)
        total += len(points)
        if not points:
            continue
        uses = body_uses(probe) | everywhere
        instances += [Instance(probe, plan) for plan in target.plan(points, uses)]
    _refuse_same_names(instances, diagnostics)
    if not script.probes:
        diagnostics.error(Code.NO_MATCH, None, "there is no probe in this script", "begin { ... } runs at once")
    elif not instances and not diagnostics.has_errors:
        diagnostics.error(Code.NO_MATCH, script.probes[0].span, "no probe of this script can be attached")
    if total > config.max_probes and not diagnostics.has_errors:
        diagnostics.error(
            Code.TOO_MANY_PROBES,
            script.probes[0].span,
            f"Can't attach to {total} probes because it exceeds the current limit of {config.max_probes} probes",
            "raise it with config = { max_probes = N }",
        )
    return instances


def _refuse_same_names(instances: list[Instance], diagnostics: Diagnostics) -> None:
    """Tests and benchmarks are told by their names."""
    seen: set[str] = set()
    for instance in instances:
        if "unique" not in instance.plan.context.features:
            continue
        provider, _, name = instance.plan.points[0].name.partition(":")
        if instance.plan.points[0].name in seen:
            message = f'"{name}" was used as the name for more than one {provider.upper()} probe'
            diagnostics.error(Code.BAD_ATTACH_POINT, instance.probe.span, message)
        seen.add(instance.plan.points[0].name)


def _expand(probe: ast.Probe, target: Target, config: Config, diagnostics: Diagnostics) -> list[AttachPoint]:
    points: list[AttachPoint] = []
    for written in probe.attach_points:
        try:
            points += _first_there(written, target)
            for remark in target.take_remarks():
                diagnostics.warning(Code.NO_MATCH, written.span, remark)
        except NoSuchProbeError as error:
            code = Code.BAD_ATTACH_POINT if error.malformed else Code.NO_MATCH
            if error.malformed or config.missing_probes == "error":
                diagnostics.error(code, written.span, error.message, error.hint, classic=error.classic)
            elif config.missing_probes == "warn":
                said = error.classic or error.message
                skipping = " Skipping." if said.startswith("No matches for ") else ""
                classic = error.classic and error.classic + skipping
                message = error.message if classic else error.message + skipping
                diagnostics.warning(code, written.span, message, error.hint, classic=classic)
    return points


def _first_there(written: ast.AttachPoint, target: Target) -> Sequence[AttachPoint]:
    """Expand an attach point, or the first of its alternatives that this machine has. Raises `NoSuchProbeError`."""
    specs = [ProbeSpec(each.provider, each.fields, each.span, each.text) for each in (written, *written.alternatives)]
    for spec in specs[1:]:
        target.check(spec)  # a mistake is told everywhere, not only on the machine that needs it
    refusals: list[NoSuchProbeError] = []
    for spec in specs:
        try:
            return target.expand(spec)
        except NoSuchProbeError as error:
            if error.malformed:
                raise
            refusals.append(error)
    if len(refusals) == 1:
        raise refusals[0]
    raise NoSuchProbeError("; ".join(refusal.message for refusal in refusals), refusals[0].hint)


def body_uses(probe: ast.Node) -> frozenset[str]:
    """What a probe's body needs from its program: see `Target.plan`."""
    uses: set[str] = set()
    for node in walk(probe):
        name = node.name if isinstance(node, ast.Name | ast.Call) else None
        if name is None:
            continue
        if name == "args":
            uses.add("args")
        elif _NUMBERED.match(name):
            uses.add("argN")
        elif (builtin := find_builtin(name)) is not None:
            uses |= builtin.uses
    return frozenset(uses)


def children(node: ast.Node) -> Iterator[ast.Node]:
    """Yield the nodes that a node directly consists of."""
    for name in type(node).__record_fields__:
        value: object = getattr(node, name)
        if isinstance(value, ast.Node):
            yield value
        elif _is_tuple(value):
            yield from (part for part in value if isinstance(part, ast.Node))


def walk(node: ast.Node) -> Iterator[ast.Node]:
    """Yield a node and all nodes below it."""
    yield node
    for name in type(node).__record_fields__:
        yield from _walk_value(getattr(node, name))


def _walk_value(value: object) -> Iterator[ast.Node]:
    if isinstance(value, ast.Node):
        yield from walk(value)
    elif _is_tuple(value):
        for item in value:
            yield from _walk_value(item)


def _is_tuple(value: object) -> TypeGuard[tuple[object, ...]]:
    return isinstance(value, tuple)
