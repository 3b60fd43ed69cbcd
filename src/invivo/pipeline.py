"""THE MAP: from a script's text to an image. One line for each stage."""

from __future__ import annotations

from collections.abc import Mapping

from invivo.bpf import LimitError, generate
from invivo.diagnostics import Code, CompileError, Diagnostic, Diagnostics, Severity, SourceFile
from invivo.image import Image
from invivo.ir.program import Program
from invivo.lang import ast
from invivo.lang.check import check
from invivo.lang.check.model import Checked
from invivo.lang.config import read_config
from invivo.lang.lower import lower
from invivo.lang.parse import parse
from invivo.library.record import Config
from invivo.passes import run as run_passes
from invivo.record import Record
from invivo.target import NoFiles, ScriptFiles, Target

_NO_ENVIRONMENT: Mapping[str, str] = {}
_NO_FILES: ScriptFiles = NoFiles()
_EXPANDED = ("assert",)  # what the library says in the language itself, beside macros of the script


class CompileOptions(Record):
    """``parameters`` are the script's $1, $2 ..., ``named`` its options (``--name=value``).

    ``environment`` may override its config.

    ``bpftrace``: the neighbour's meaning where it differs from ours (docs/language/differences.md).
    ``warnings``: programs report lookups, updates and deletions that fail.
    ``files``: what scripts may import and include; ``includes``: headers that are, unasked.
    """

    parameters: tuple[str, ...] = ()
    unsafe: bool = False
    bpftrace: bool = False
    environment: Mapping[str, str] = _NO_ENVIRONMENT
    warnings: bool = False
    files: ScriptFiles = _NO_FILES
    includes: tuple[str, ...] = ()
    named: tuple[str, ...] = ()


class Compilation(Record):
    """Every stage of one compilation, so that any can be looked at."""

    script: ast.Script
    program: Program
    image: Image
    warnings: tuple[Diagnostic, ...]


def compile_source(source: SourceFile, target: Target, options: CompileOptions | None = None) -> Compilation:
    """Compile a script for a machine. Raises `CompileError` with all mistakes of the first bad stage."""
    options = options or CompileOptions()
    diagnostics = Diagnostics()
    script = parse(source, options.parameters)
    if options.includes:
        from invivo.lang.cdecl.header_text import with_includes

        script = with_includes(script, options.includes)
    if script.imports or script.macros or script.subprograms or any(word in source.text for word in _EXPANDED):
        from invivo.lang.expand import expand

        script = expand(script, options.files, options.parameters, diagnostics)
    config, settings = read_config(script.config, options.environment, diagnostics)
    checked = _checked(script, target, config, diagnostics, options)
    program = run_passes(lower(checked, settings))
    try:
        return Compilation(script, program, generate(program), diagnostics.warnings)
    except LimitError as problem:
        raise CompileError([*diagnostics.found, _too_large(problem, checked)]) from problem


def _checked(
    script: ast.Script, target: Target, config: Config, diagnostics: Diagnostics, options: CompileOptions
) -> Checked:
    """Check a script; if a variable is not there, once more with the scopes that variables had in old scripts."""

    def once(script: ast.Script) -> Checked:
        return check(
            script,
            target,
            config,
            diagnostics,
            parameters=options.parameters,
            unsafe=options.unsafe,
            bpftrace=options.bpftrace,
            warnings=options.warnings,
            files=options.files,
            named=options.named,
        )

    before = tuple(diagnostics.found)
    try:
        return once(script)
    except CompileError as mistakes:
        if options.bpftrace or all(each.code is not Code.UNKNOWN_VARIABLE for each in mistakes.diagnostics):
            raise
        from invivo.lang.hoist import hoist

        diagnostics.found[:] = before
        try:
            return once(hoist(script, diagnostics))
        except CompileError as others:
            left = [each for each in others.diagnostics if each.severity is Severity.ERROR]
            wrong = [each for each in mistakes.diagnostics if each.severity is Severity.ERROR]
            raise (others if len(left) < len(wrong) else mistakes) from None


def _too_large(problem: LimitError, checked: Checked) -> Diagnostic:
    """Functions are named after the program they belong to: ``probe0``, ``probe0_loop1`` ..."""
    number = problem.function.removeprefix("probe").partition("_")[0]
    span = checked.instances[int(number)].probe.span if number.isdigit() else None
    hint = "fewer nested loops, shorter expressions or several probes make it smaller"
    return Diagnostic(Code.PROGRAM_TOO_LARGE, span, f"too large for the kernel: {problem.message}", hint)
