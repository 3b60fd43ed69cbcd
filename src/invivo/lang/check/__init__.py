"""Source tree to typed tree: what every name means and what type every value has."""

from __future__ import annotations

from collections.abc import Callable

from invivo.diagnostics import Code, Diagnostic, Diagnostics, Note, Severity
from invivo.ir import types as t
from invivo.lang import ast
from invivo.lang.check.expressions import check_expression
from invivo.lang.check.model import Checked, Instance
from invivo.lang.check.operators import check_condition
from invivo.lang.check.options import ScriptOptions
from invivo.lang.check.probes import expand_probes, walk
from invivo.lang.check.scope import Checker
from invivo.lang.check.statements import check_block
from invivo.library.record import Config
from invivo.library.spelling import spell
from invivo.record import replace
from invivo.target import NoFiles, ScriptFiles, Target

_MAX_ROUNDS = 50


def check(
    script: ast.Script,
    target: Target,
    config: Config,
    diagnostics: Diagnostics,
    *,
    parameters: tuple[str, ...] = (),
    unsafe: bool = False,
    bpftrace: bool = False,
    warnings: bool = False,
    files: ScriptFiles | None = None,
    named: tuple[str, ...] = (),
) -> Checked:
    """Type a script against a machine. Raises `CompileError` with everything that is wrong."""
    target, defines, constants = _declare(script, target, files or NoFiles(), diagnostics, bpftrace=bpftrace)
    diagnostics.stop_on_errors()
    defined = [expr for expr in defines.values() if expr is not None]
    instances = expand_probes(script, target, config, defined, diagnostics, bpftrace=bpftrace)
    checker = Checker(target, config, parameters, check_expression)
    checker.defines, checker.header_constant = defines, constants
    checker.unsafe, checker.bpftrace = unsafe, bpftrace
    checker.options = ScriptOptions(named)
    checker.left_out = _left_out(script, instances) if diagnostics.has_errors else frozenset()
    _declare_maps(script, checker, diagnostics)
    _merge(diagnostics, _settle(checker, instances))
    _check_declarations(checker, diagnostics)
    checker.options.check(diagnostics)
    diagnostics.stop_on_errors()
    return Checked(script, target, tuple(instances), checker.maps, config, parameters, bpftrace, warnings)


def _left_out(script: ast.Script, instances: list[Instance]) -> frozenset[str]:
    """Return the maps of probes that have no program: nothing is said about what would have assigned to them."""
    there = {instance.probe for instance in instances}
    missing = [probe for probe in script.probes if probe not in there]
    return frozenset(node.name for probe in missing for node in walk(probe) if isinstance(node, ast.MapAccess))


def _declare(
    script: ast.Script, target: Target, files: ScriptFiles, diagnostics: Diagnostics, *, bpftrace: bool
) -> tuple[Target, dict[str, ast.Expr | None], Callable[[str], int | None]]:
    """Put the script's own C types before the machine's; return these, its ``#define``s, and the
    constants of headers if it includes any."""
    if not script.c_statements:
        return target, {}, _no_constant
    from invivo.lang.cdecl import parse_declarations
    from invivo.lang.cdecl.headers import check_include, header_constant
    from invivo.lang.declared import DeclaredTarget

    found = Diagnostics()
    declarations = parse_declarations(script.c_statements, found, files=files)
    # The neighbour has a whole preprocessor, and says nothing of what scripts cannot use.
    diagnostics.found += [each for each in found.found if each.severity is Severity.ERROR or not bpftrace]
    for include in declarations.includes:
        check_include(include, diagnostics, bpftrace=bpftrace)
    defines = {define.name: define.value for define in declarations.defines}
    constants = header_constant if declarations.includes else _no_constant
    return DeclaredTarget(target, declarations, diagnostics), defines, constants


def _no_constant(name: str) -> int | None:
    return None


def _settle(checker: Checker, instances: list[Instance]) -> list[tuple[Instance, Diagnostic]]:
    """Check until no type changes any more; return what the last round, which knows all types, finds wrong.

    Branches of ``if comptime`` are decided each time that no type has changed.
    """
    for number in range(_MAX_ROUNDS):
        # Most scripts use nothing before they assign it: the second round finds no other types, and is the last.
        checker.final = number == 1 and not checker.unknown and not checker.undecided
        found = _round(checker, instances)
        if checker.changed:
            continue
        if checker.final:
            return found
        if not checker.undecided:
            break
        checker.deciding = True
        _round(checker, instances)
        checker.deciding = False
        if not checker.changed:
            break
    checker.final = True
    return _round(checker, instances)


def _round(checker: Checker, instances: list[Instance]) -> list[tuple[Instance, Diagnostic]]:
    """Check every instance once; return what is wrong in which."""
    checker.changed = checker.undecided = checker.unknown = False
    checker.diagnostics = Diagnostics()
    found: list[tuple[Instance, Diagnostic]] = []
    for instance in instances:
        checker.enter(instance)
        probe = instance.probe
        if probe.predicate is not None:
            check_condition(checker, probe.predicate)
        check_block(checker, probe.body)
        found += [(instance, diagnostic) for diagnostic in checker.diagnostics.found[len(found) :]]
    return found


def _merge(into: Diagnostics, found: list[tuple[Instance, Diagnostic]]) -> None:
    """Add diagnostics. A body that is compiled for many events is wrong for each of them: only the
    first says so in full, with the number of the others."""
    places: dict[tuple[object, ...], list[tuple[Instance, Diagnostic]]] = {}
    for instance, diagnostic in found:
        span = diagnostic.span
        places.setdefault((diagnostic.code, span), []).append((instance, diagnostic))
    for same in places.values():
        first = same[0][0]
        others = {id(instance): len(instance.plan.points) for instance, _ in same if instance is not first}
        more = sum(others.values())
        messages = dict.fromkeys(diagnostic.message for _, diagnostic in same)
        for instance, diagnostic in same:
            if instance is not first or diagnostic.message not in messages:
                continue
            del messages[diagnostic.message]
            if more and messages:
                others_too = f"(the same for {more} other probe{'' if more == 1 else 's'})"
                diagnostic = replace(diagnostic, message=f"{diagnostic.message} {others_too}")
            into.found.append(diagnostic)


def _declare_maps(script: ast.Script, checker: Checker, diagnostics: Diagnostics) -> None:
    for declaration in script.map_declarations:
        info = checker.map(declaration.name)
        if info.declaration is not None:
            note = Note(info.declaration.span, "declared here")
            diagnostics.error(
                Code.BAD_DECLARATION, declaration.span, f"{declaration.name} is declared twice", notes=(note,)
            )
        elif declaration.max_entries < 1:
            diagnostics.error(Code.LIMIT, declaration.span, f"{declaration.name} needs room for at least one element")
        info.declaration = declaration


def _check_declarations(checker: Checker, diagnostics: Diagnostics) -> None:
    for info in checker.maps.values():
        if info.declaration is None:
            continue
        if info.value is None:
            diagnostics.warning(Code.UNUSED_MAP, info.declaration.span, f"Unused map: {info.name}")
            continue
        aggregated, per_cpu = t.is_aggregation(info.value), info.declaration.kind.startswith("percpu")
        # Where it is not for the neighbour, an aggregation gets its values for each processor in any case.
        if aggregated != per_cpu and (per_cpu or checker.bpftrace):
            suits = "count() and its like" if per_cpu else "plain values"
            diagnostics.error(
                Code.BAD_DECLARATION,
                info.declaration.span,
                f"Incompatible map types. Type from declaration: {info.declaration.kind}. "
                f"Type from value/key type: {'percpuhash' if aggregated else 'hash'}",
                f"{info.declaration.kind} suits {suits}, not '{spell(info.value)}'",
            )
