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
from invivo.lang.cdecl.preprocessor import Preprocessor
from invivo.lang.cdecl.reader import BadDeclarationError, Found, Reader
from invivo.lang.cdecl.types import read_definition

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


def parse_declarations(
    statements: tuple[ast.CStatement, ...],
    diagnostics: Diagnostics,
    predefined: tuple[str, ...] = ("BPFTRACE_HAVE_BTF",),
) -> Declarations:
    """Read a script's C. Mistakes go to ``diagnostics``, and reading goes on after them.

    ``predefined`` are names that ``#ifdef`` finds defined.
    """
    found = Found()
    conditions = Preprocessor(predefined, found)
    for statement in statements:
        source, start, stop = statement.span.source, statement.span.start, statement.span.end
        try:
            if statement.text.startswith("#"):
                conditions.directive(source, start, stop, diagnostics)
            elif conditions.active:
                read_definition(Reader(source, start, stop, found))
        except BadDeclarationError as error:
            diagnostics.found.append(error.diagnostic)
    if conditions.open:
        diagnostics.error(Code.BAD_DECLARATION, conditions.open[-1][0], "this condition has no #endif")
    return Declarations(
        tuple(found.structs),
        tuple(found.enums),
        tuple(found.defines.values()),
        tuple(found.includes),
        tuple(found.constants.items()),
    )
