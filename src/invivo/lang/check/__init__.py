"""Source tree to typed tree: what every name means and what type every value has."""

from __future__ import annotations

from invivo.diagnostics import Code, Diagnostics
from invivo.lang import ast
from invivo.lang.check.expressions import check_expression
from invivo.lang.check.model import Checked, Instance
from invivo.lang.check.operators import check_condition
from invivo.lang.check.probes import expand_probes
from invivo.lang.check.scope import Checker
from invivo.lang.check.statements import check_block
from invivo.library.record import Config
from invivo.target import Target

_MAX_ROUNDS = 20


def check(
    script: ast.Script,
    target: Target,
    config: Config,
    diagnostics: Diagnostics,
    *,
    parameters: tuple[str, ...] = (),
    unsafe: bool = False,
    bpftrace: bool = False,
) -> Checked:
    """Type a script against a machine. Raises `CompileError` with everything that is wrong."""
    _refuse_what_is_not_supported(script, diagnostics)
    target, defines = _declare(script, target, diagnostics)
    diagnostics.stop_on_errors()
    instances = expand_probes(script, target, config, diagnostics)
    checker = Checker(target, config, parameters, check_expression)
    checker.defines = defines
    checker.unsafe, checker.bpftrace = unsafe, bpftrace
    for declaration in script.map_declarations:
        checker.map(declaration.name).declaration = declaration
    for _ in range(_MAX_ROUNDS):
        _round(checker, instances)
        if not checker.changed:
            break
    checker.final = True
    _round(checker, instances)
    _merge(diagnostics, checker.diagnostics)
    _check_declarations(checker, diagnostics)
    diagnostics.stop_on_errors()
    return Checked(script, target, tuple(instances), checker.maps, config, parameters, bpftrace)


def _declare(script: ast.Script, target: Target, diagnostics: Diagnostics) -> tuple[Target, dict[str, ast.Expr | None]]:
    """Put the script's own C types before the machine's."""
    if not script.c_statements:
        return target, {}
    from invivo.lang.cdecl import parse_declarations
    from invivo.lang.declared import DeclaredTarget

    declarations = parse_declarations(script.c_statements, diagnostics)
    for include in declarations.includes:
        diagnostics.warning(
            Code.DEPRECATED,
            include.span,
            f"{include.path} is not read: types come from the kernel's BTF",
            "struct, union and enum names of the kernel are there without it",
        )
    defines = {define.name: define.value for define in declarations.defines}
    return DeclaredTarget(target, declarations, diagnostics), defines


def _round(checker: Checker, instances: list[Instance]) -> None:
    checker.changed = False
    checker.diagnostics = Diagnostics()
    for instance in instances:
        checker.enter(instance)
        probe = instance.probe
        if probe.predicate is not None:
            check_condition(checker, probe.predicate)
        check_block(checker, probe.body)


def _merge(into: Diagnostics, found: Diagnostics) -> None:
    """Add diagnostics, once each: a body that is checked for several programs repeats itself."""
    seen = set()
    for diagnostic in found.found:
        span = diagnostic.span
        place = (diagnostic.code, span and (span.start, span.end), diagnostic.message)
        if place not in seen:
            seen.add(place)
            into.found.append(diagnostic)


def _check_declarations(checker: Checker, diagnostics: Diagnostics) -> None:
    for info in checker.maps.values():
        if info.declaration is not None and info.value is None:
            diagnostics.warning(Code.UNUSED_MAP, info.declaration.span, f"unused map: {info.name}")


def _refuse_what_is_not_supported(script: ast.Script, diagnostics: Diagnostics) -> None:
    """What the parser understands and nothing after it does yet."""
    for import_ in script.imports:
        diagnostics.error(Code.NOT_SUPPORTED, import_.span, "imports are not supported yet")
    for macro in script.macros:
        diagnostics.error(Code.NOT_SUPPORTED, macro.span, "macros are not supported yet")
    for subprogram in script.subprograms:
        diagnostics.error(Code.NOT_SUPPORTED, subprogram.span, "fn subprograms are not supported yet")
