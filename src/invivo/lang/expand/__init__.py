"""From the script as written to the script as meant: imported files read, macros and functions expanded.

Before: a tree as parsed.  After: one tree without imports, macros and function definitions, in
which every node has its own identity; spans know the calls that brought them there.
"""

from __future__ import annotations

from invivo.diagnostics import Diagnostics, SourceFile
from invivo.lang import ast
from invivo.lang.expand.functions import function_as_macro
from invivo.lang.expand.macros import Expander
from invivo.lang.expand.selection import Macros, check_definitions
from invivo.library import find_builtin
from invivo.record import replace
from invivo.target import ScriptFiles


def expand(script: ast.Script, files: ScriptFiles, parameters: tuple[str, ...], diagnostics: Diagnostics) -> ast.Script:
    """Read imports, expand macros. Raises `CompileError` with all mistakes of the first bad step."""
    if script.imports:
        from invivo.lang.expand.imports import Importer

        script = Importer(files, parameters, diagnostics).resolve(script)
        diagnostics.stop_on_errors()
    functions = tuple(function_as_macro(function, diagnostics) for function in script.subprograms)
    macros = (*script.macros, *functions)
    check_definitions(macros, diagnostics)
    expander = Expander(Macros(macros, library_macros), frozenset(functions), diagnostics)
    probes = tuple(expander.probe(probe) for probe in script.probes)
    diagnostics.stop_on_errors()
    return replace(script, macros=(), subprograms=(), probes=probes)


def library_macros(name: str) -> tuple[ast.Macro, ...]:
    """The definitions of a function of the library that is written in the language itself."""
    builtin = find_builtin(name)
    if builtin is None or not builtin.text:
        return ()
    from invivo.lang.parse import parse

    return parse(SourceFile(f"stdlib/{name}.bt", builtin.text)).macros
