"""From the probes of a script to the programs that will run: wildcards, grouping, limits."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from typing import TypeGuard

from invivo.diagnostics import Code, Diagnostics, Span
from invivo.lang import ast
from invivo.lang.check.model import Instance
from invivo.library import find_builtin
from invivo.library.record import Config
from invivo.target import AttachPoint, NoSuchProbeError, ProbeSpec, Target

_NO_PROBES = "No probes to attach"
_LEAVES = frozenset({Span, str, int, bool, type(None)})  # most of what nodes have
_NUMBERED = re.compile(r"arg\d+\Z")


def expand_probes(
    script: ast.Script,
    target: Target,
    config: Config,
    defined: Iterable[ast.Expr],
    diagnostics: Diagnostics,
    *,
    bpftrace: bool = False,
) -> list[Instance]:
    """Return one instance for each program that the script's probes need.

    ``defined``: expressions that names of the script stand for, wherever they are used.
    """
    everywhere = frozenset(use for expr in defined for use in body_uses(expr))
    instances: list[Instance] = []
    total = 0
    for probe in script.probes:
        points = points_of(probe, target, config, diagnostics, bpftrace=bpftrace)
        total += len(points)
        if not points:
            continue
        uses = body_uses(probe) | everywhere
        instances += [Instance(probe, plan) for plan in target.plan(points, uses)]
    _refuse_same_names(script, diagnostics)
    if not script.probes:
        hint = None if bpftrace else "begin { ... } runs at once"
        diagnostics.error(Code.NO_MATCH, None, "there is no probe in this script", hint, classic=_NO_PROBES)
    elif not instances and not diagnostics.has_errors:
        span = None if bpftrace else script.probes[0].span
        diagnostics.error(Code.NO_MATCH, span, "no probe of this script can be attached", classic=_NO_PROBES)
    if not diagnostics.has_errors:
        _check_limits(script, total, len(instances), config, diagnostics, bpftrace=bpftrace)
    return instances


def _check_limits(
    script: ast.Script, points: int, programs: int, config: Config, diagnostics: Diagnostics, *, bpftrace: bool
) -> None:
    def refuse(message: str, key: str) -> None:
        hint = None if bpftrace else f"raise it with config = {{ {key} = N }}"
        more = f" You can increase the limit through the BPFTRACE_{key.upper()} environment variable."
        diagnostics.error(Code.TOO_MANY_PROBES, script.probes[0].span, message, hint, classic=message + more)

    if points > config.max_probes:
        limit = f"it exceeds the current limit of {config.max_probes} probes."
        refuse(f"Can't attach to {points} probes because {limit}", "max_probes")
    elif programs > config.max_bpf_progs:
        refuse(
            f"Your program is trying to generate more than {programs} BPF programs, "
            f"which exceeds the current limit of {config.max_bpf_progs}.",
            "max_bpf_progs",
        )


def _refuse_same_names(script: ast.Script, diagnostics: Diagnostics) -> None:
    """Tests and benchmarks are told by their names, also where they are not run."""
    seen: set[tuple[str, str]] = set()
    for probe in script.probes:
        for point in probe.attach_points:
            kind = point.provider.lower()
            if kind not in ("test", "bench") or len(point.fields) != 1:
                continue
            name = (kind, point.fields[0])
            if name in seen:
                message = f'"{name[1]}" was used as the name for more than one {kind.upper()} probe'
                diagnostics.error(Code.BAD_ATTACH_POINT, probe.span, message)
            seen.add(name)


def points_of(
    probe: ast.Probe, target: Target, config: Config, diagnostics: Diagnostics, *, bpftrace: bool
) -> list[AttachPoint]:
    """Return where a probe is attached; what is missing is reported as ``missing_probes`` says."""
    if bpftrace and (iterator := _among_others(probe)) is not None:
        diagnostics.error(Code.BAD_ATTACH_POINT, iterator.span, "Only single iter attach point is allowed.")
        return []
    points: list[AttachPoint] = []
    pruned = False
    for written in probe.attach_points:
        try:
            points += _first_there(written, target)
            for remark in target.take_remarks():
                diagnostics.warning(Code.NO_MATCH, written.span, remark)
        except NoSuchProbeError as error:
            code = Code.BAD_ATTACH_POINT if error.malformed else Code.NO_MATCH
            said = error.classic
            classic = said.with_args if said.with_args and "args" in body_uses(probe) else said.message
            hint = error.hint if said.hint is None or not bpftrace else said.hint or None
            no_match = (classic or error.message).startswith("No matches for ")
            pruned = pruned or no_match
            if error.malformed or config.missing_probes == "error":
                diagnostics.error(code, written.span, error.message, hint, classic=classic)
            elif config.missing_probes == "warn":
                skipping = " Skipping." if no_match else ""
                message = error.message if classic else error.message + skipping
                diagnostics.warning(code, written.span, message, hint, classic=classic and classic + skipping)
    if bpftrace and pruned and not points and config.missing_probes == "error":
        diagnostics.error(
            Code.NO_MATCH,
            probe.attach_points[-1].span,
            "Probe has no valid attach points. "
            "If this is expected, set the 'missing_probes' config variable to 'warn'.",
        )
    return points


def _among_others(probe: ast.Probe) -> ast.AttachPoint | None:
    """The first iterator of several attach points."""
    iterators = (each for each in probe.attach_points if each.provider.lower() in ("iter", "it"))
    return next(iterators, None) if len(probe.attach_points) > 1 else None


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
    whole = 0  # how often args is more than the beginning of args.NAME
    for node in walk(probe):
        if type(node) is ast.Member and _is_args(node.object):
            uses.add(f"args.{node.name}")
            whole -= 1
        if type(node) is not ast.Name and type(node) is not ast.Call:
            continue
        name = node.name
        if name == "args":
            uses.add("args")
            whole += 1
        elif _NUMBERED.match(name):
            uses.add("argN")
        elif (builtin := find_builtin(name)) is not None:
            uses |= builtin.uses
    return frozenset(uses | {"args.*"} if whole else uses)


def _is_args(node: ast.Expr) -> bool:
    match node:
        case ast.Name(_, "args") | ast.Unary(_, "*", ast.Name(_, "args")):
            return True
        case _:
            return False


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
    pending: list[object] = [node]
    while pending:
        item = pending.pop()
        if _is_tuple(item):
            pending += reversed(item)
        elif isinstance(item, ast.Node):
            yield item
            values = [getattr(item, name) for name in reversed(type(item).__record_fields__)]
            pending += [value for value in values if type(value) not in _LEAVES]


def _is_tuple(value: object) -> TypeGuard[tuple[object, ...]]:
    return isinstance(value, tuple)
