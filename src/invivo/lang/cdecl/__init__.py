"""C in a script: declarations of structs, unions and enums, and object-like ``#define``s, as plain data.

What is read is C as tracing scripts use it.  Anything else is a `BAD_DECLARATION` diagnostic.
"""

from __future__ import annotations

from invivo.diagnostics import Code, Diagnostics
from invivo.lang import ast
from invivo.lang.cdecl.declarations import (
    ArrayOf,
    BaseType,
    CType,
    Declarations,
    Define,
    EnumDeclaration,
    Include,
    Member,
    NamedType,
    PointerTo,
    StructDeclaration,
    VoidType,
)
from invivo.lang.cdecl.header_text import header_statements
from invivo.lang.cdecl.preprocessor import Preprocessor
from invivo.lang.cdecl.reader import BadDeclarationError, Found, Reader
from invivo.lang.cdecl.types import read_definition
from invivo.target import NoFiles, ScriptFiles

__all__ = [
    "ArrayOf",
    "BaseType",
    "CType",
    "Declarations",
    "Define",
    "EnumDeclaration",
    "Include",
    "Member",
    "NamedType",
    "PointerTo",
    "StructDeclaration",
    "VoidType",
    "parse_declarations",
]


_DEEPEST = 30


def parse_declarations(
    statements: tuple[ast.CStatement, ...],
    diagnostics: Diagnostics,
    predefined: tuple[str, ...] = ("BPFTRACE_HAVE_BTF",),
    files: ScriptFiles | None = None,
) -> Declarations:
    """Read a script's C. Mistakes go to ``diagnostics``, and reading goes on after them.

    ``predefined`` are names that ``#ifdef`` finds defined. Headers that ``files`` has are read too.
    """
    reading = _Reading(predefined, files or NoFiles(), diagnostics)
    line = 2  # after the one that brings the kernel's types
    for statement in statements:
        reading.statement(statement, line)
        line += statement.text.count("\n") + 1
    return reading.finish()


class _Reading:
    """One pass over a script's C and the headers that it includes."""

    def __init__(self, predefined: tuple[str, ...], files: ScriptFiles, diagnostics: Diagnostics) -> None:
        self._found = Found()
        self._conditions = Preprocessor(predefined, self._found)
        self._files = files
        self._diagnostics = diagnostics
        self._depth = 0

    def statement(self, statement: ast.CStatement, line: int) -> None:
        source, start, stop = statement.span.source, statement.span.start, statement.span.end
        try:
            if statement.text.startswith("#"):
                include = self._conditions.directive(source, start, stop, self._diagnostics)
                if include is not None:
                    self._include(include, source.name, line)
            elif self._conditions.active:
                read_definition(Reader(source, start, stop, self._found))
        except BadDeclarationError as error:
            self._diagnostics.found.append(error.diagnostic)

    def _include(self, include: Include, importer: str, line: int) -> None:
        header = self._files.header(include.path, importer, quoted=include.quoted)
        if header is None:
            self._found.includes.append(Include(include.path, include.span, include.quoted, line))
        elif self._depth >= _DEEPEST:
            what = f"headers include each other deeper than {_DEEPEST} levels"
            self._diagnostics.error(Code.LIMIT, include.span, what)
        else:
            self._depth += 1
            for statement in header_statements(header.source):
                self.statement(statement, line)
            self._depth -= 1

    def finish(self) -> Declarations:
        if self._conditions.open:
            opened = self._conditions.open[-1][0]
            self._diagnostics.error(Code.BAD_DECLARATION, opened, "this condition has no #endif")
        found = self._found
        return Declarations(
            tuple(found.structs),
            tuple(found.enums),
            tuple(found.defines.values()),
            tuple(found.includes),
            tuple(found.constants.items()),
            tuple(found.typedefs.items()),
        )
