"""Imports: the files that a script names, and those that these name, become part of it."""

from __future__ import annotations

from typing import Final

from invivo.diagnostics import Code, Diagnostics, SourceFile, Span
from invivo.lang import ast
from invivo.lang.cdecl.header_text import header_statements
from invivo.lang.parse import parse
from invivo.record import replace
from invivo.target import ImportedFile, ScriptFiles

_C_PROGRAMS: Final = (".bpf.c", ".c", ".bpf.o", ".o")
_DEEPEST: Final = 40


def is_of_the_library(path: str) -> bool:
    """Whether an import means the neighbour's own library, whose functions are always there."""
    return path == "stdlib" or path.startswith("stdlib/")


class Importer:
    """Reads what a script imports, each file once."""

    def __init__(self, files: ScriptFiles, parameters: tuple[str, ...], diagnostics: Diagnostics) -> None:
        self._files = files
        self._parameters = parameters
        self._diagnostics = diagnostics
        self._read: set[str] = set()
        self._scripts: list[ast.Script] = []  # those imported before those that import them
        self._statements: list[ast.CStatement] = []

    def resolve(self, script: ast.Script) -> ast.Script:
        """Return the script with everything that it imports before it."""
        self._read.add(self._files.identity(script.source.name))
        self._follow(script, 0)
        scripts = [*self._scripts, script]
        return replace(
            script,
            imports=(),
            c_statements=(*self._statements, *(each for part in scripts for each in part.c_statements)),
            map_declarations=tuple(each for part in scripts for each in part.map_declarations),
            macros=tuple(each for part in scripts for each in part.macros),
            subprograms=tuple(each for part in scripts for each in part.subprograms),
            probes=tuple(each for part in scripts for each in part.probes),
        )

    def _follow(self, script: ast.Script, depth: int) -> None:
        for import_ in script.imports:
            found = self._files.find(import_.path, script.source.name)
            if found.refused:
                self._diagnostics.error(Code.BAD_IMPORT, import_.span, found.refused)
            elif found.files:
                for file in found.files:
                    self._file(file, import_.span, depth)
            elif not is_of_the_library(import_.path):
                self._diagnostics.error(
                    Code.BAD_IMPORT,
                    import_.span,
                    "Unable to find suitable path for import",
                    f"checked: {', '.join(found.checked)}",
                )

    def _file(self, file: ImportedFile, span: Span, depth: int) -> None:
        name = file.source.name
        if file.identity in self._read:
            return
        self._read.add(file.identity)
        if name.endswith(".bt"):
            self._script(file.source, span, depth)
        elif name.endswith(".h"):
            self._statements += header_statements(file.source)
        elif name.endswith(_C_PROGRAMS):
            self._diagnostics.error(
                Code.BAD_IMPORT,
                span,
                f"{name} cannot be imported: a program in C needs a C compiler, and invivo does without one",
                "write what it does as a macro in a .bt file",
            )
        else:
            self._diagnostics.error(Code.BAD_IMPORT, span, "unknown import type")

    def _script(self, source: SourceFile, span: Span, depth: int) -> None:
        if depth > _DEEPEST:
            self._diagnostics.error(Code.LIMIT, span, f"imports are nested deeper than {_DEEPEST} levels")
            return
        script = parse(source, self._parameters)
        if script.config is not None:
            self._diagnostics.error(Code.BAD_IMPORT, script.config.span, "invalid `config` within import")
        self._follow(script, depth + 1)
        self._scripts.append(script)
