"""What C in a script declares, as plain data. Types stay names: their sizes are asked of the machine later."""

from __future__ import annotations

from invivo.diagnostics import Span
from invivo.lang import ast
from invivo.record import Record


class BaseType(Record):
    """An arithmetic type of C on x86-64. ``size`` in bytes; ``name`` in C's shortest spelling."""

    name: str
    size: int
    signed: bool


class VoidType(Record):
    """``void``; only behind a pointer."""


class NamedType(Record):
    """A type to be looked up: ``struct x``, or a typedef (``keyword`` is "")."""

    keyword: str
    name: str


class PointerTo(Record):
    """``target`` is `VoidType` for a pointer to a function."""

    target: CType


class ArrayOf(Record):
    """``length`` is None for a flexible array, the last member of a struct."""

    element: CType
    length: int | None


class Member(Record, eq=False):
    """``name`` is "" for an unnamed struct or union, whose members count as the outer one's.

    ``bits`` is the width of a bitfield; one without a name only takes room (0: up to the
    next unit).
    """

    name: str
    type: CType
    bits: int | None
    aligned: int | None
    span: Span


class StructDeclaration(Record, eq=False):
    """A struct or union. ``name`` is "" if it has none; ``aligned`` its least alignment in bytes."""

    keyword: str
    name: str
    members: tuple[Member, ...]
    packed: bool
    aligned: int | None
    span: Span


class EnumDeclaration(Record, eq=False):
    name: str
    variants: tuple[tuple[str, int], ...]
    span: Span


CType = BaseType | VoidType | NamedType | PointerTo | ArrayOf | StructDeclaration | EnumDeclaration


class Define(Record, eq=False):
    """``#define NAME text``. ``value`` is None if the text is no expression: the name means nothing then."""

    name: str
    text: str
    value: ast.Expr | None
    span: Span


class Include(Record, eq=False):
    """``#include <path>``, ``#include "path"``. ``line`` counts in the script's C alone, from 1."""

    path: str
    span: Span
    quoted: bool
    line: int = 0


class Declarations(Record):
    """Everything that a script's C says, each in the order of the text.

    ``structs`` and ``enums`` are those with a name, also those inside others.
    ``constants`` are the enums' values. ``includes`` are those that were not read.
    """

    structs: tuple[StructDeclaration, ...]
    enums: tuple[EnumDeclaration, ...]
    defines: tuple[Define, ...]
    includes: tuple[Include, ...]
    constants: tuple[tuple[str, int], ...]
    typedefs: tuple[tuple[str, Member], ...] = ()
