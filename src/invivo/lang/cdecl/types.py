"""Definitions of structs, unions and enums."""

from __future__ import annotations

from typing import Final

from invivo.lang.cdecl.constant import read_constant
from invivo.lang.cdecl.declarations import (
    ArrayOf,
    BaseType,
    CType,
    EnumDeclaration,
    Member,
    NamedType,
    PointerTo,
    StructDeclaration,
    VoidType,
)
from invivo.lang.cdecl.reader import Reader

# Sorted words of a base type, without "int" beside others and without "signed" except before char.
_BASE_TYPES: Final = {
    ("char",): BaseType("char", 1, True),
    ("char", "unsigned"): BaseType("unsigned char", 1, False),
    ("short",): BaseType("short", 2, True),
    ("short", "unsigned"): BaseType("unsigned short", 2, False),
    (): BaseType("int", 4, True),
    ("unsigned",): BaseType("unsigned int", 4, False),
    ("long",): BaseType("long", 8, True),
    ("long", "unsigned"): BaseType("unsigned long", 8, False),
    ("long", "long"): BaseType("long long", 8, True),
    ("long", "long", "unsigned"): BaseType("unsigned long long", 8, False),
    ("_Bool",): BaseType("_Bool", 1, False),
    ("bool",): BaseType("_Bool", 1, False),
}
_BASE_WORDS: Final = ("char", "short", "int", "long", "signed", "unsigned", "_Bool", "bool")
_QUALIFIERS: Final = ("const", "volatile", "restrict", "__restrict", "__user", "__rcu", "__kernel", "__percpu")
_DEEPEST: Final = 32
_TAGS: Final = ("struct", "union", "enum")


def read_definition(r: Reader) -> None:
    """Read ``struct x { ... } __attribute__((packed));``, or a typedef."""
    if r.accept("typedef"):
        for member in _members(r):
            r.found.typedefs[member.name] = member
        return
    type_ = _specifier(r)
    if isinstance(type_, StructDeclaration) and not type_.name:
        r.fail(f"a {type_.keyword} outside of others has a name", type_.span)
    r.accept(";")
    if r.kind != "end":
        r.fail_expected("';'")


# -- types -------------------------------------------------------------------------------------


def _specifier(r: Reader) -> CType:
    """Read the part of a declaration before its declarators."""
    _qualifiers(r)
    if r.kind != "name":
        r.fail_expected("a type")
    type_: CType
    if r.text in _TAGS:
        type_ = _tagged(r)
    elif r.text in _BASE_WORDS:
        type_ = _base_type(r)
    elif r.text == "void":
        r.advance()
        type_ = VoidType()
    elif r.text in ("static", "extern", "inline", "float", "double"):
        r.fail(f"'{r.text}' is not supported in a declaration")
    else:
        known = r.found.typedefs.get(r.text)
        type_ = NamedType("", r.text) if known is None else known.type
        r.advance()
    _qualifiers(r)
    return type_


def _qualifiers(r: Reader) -> None:
    while r.text in _QUALIFIERS:
        r.advance()


def _base_type(r: Reader) -> BaseType:
    start = r.start
    words: list[str] = []
    while r.text in _BASE_WORDS or r.text in _QUALIFIERS:
        if r.text in _BASE_WORDS:
            words.append(r.text)
        r.advance()
    type_ = _BASE_TYPES.get(tuple(sorted(word for word in words if word not in ("int", "signed"))))
    if type_ is None:
        r.fail(f"there is no type '{' '.join(words)}'", r.span(start))
    return type_


def _tagged(r: Reader) -> CType:
    """Read a struct, union or enum: its name, its definition, or both."""
    start, keyword = r.start, r.text
    r.advance()
    packed, aligned = _attributes(r)
    name = ""
    if r.kind == "name":
        name = r.text
        r.advance()
    if r.text != "{":
        if not name:
            r.fail_expected(f"a name or '{{' after '{keyword}'")
        return NamedType(keyword, name)
    r.advance()
    if keyword == "enum":
        variants = _variants(r)
        _attributes(r)
        enum = EnumDeclaration(name, variants, r.span(start))
        if name:
            r.found.enums.append(enum)
        return enum
    r.depth += 1
    if r.depth > _DEEPEST:
        r.fail(f"nested deeper than {_DEEPEST} levels")
    members: list[Member] = []
    while not r.accept("}"):
        if r.kind == "end":
            r.fail_expected("'}'")
        members += _members(r)
    r.depth -= 1
    more_packed, more_aligned = _attributes(r)
    _check_names(r, members, set())
    struct = StructDeclaration(
        keyword, name, tuple(members), packed or more_packed, more_aligned or aligned, r.span(start)
    )
    if name:
        if any((other.keyword, other.name) == (keyword, name) for other in r.found.structs):
            r.fail(f"{keyword} {name} is declared twice", struct.span)
        r.found.structs.append(struct)
    return struct


def _check_names(r: Reader, members: list[Member], seen: set[str]) -> None:
    for member in members:
        if isinstance(member.type, StructDeclaration) and not member.name:
            _check_names(r, list(member.type.members), seen)
        elif member.name:
            if member.name in seen:
                r.fail(f"member '{member.name}' is there twice", member.span)
            seen.add(member.name)


def _attributes(r: Reader) -> tuple[bool, int | None]:
    """Read ``__attribute__((packed, aligned(8)))``; others mean nothing here."""
    packed, aligned = False, None
    while True:
        if r.accept("__packed"):
            packed = True
            continue
        if not (r.accept("__attribute__") or r.accept("__attribute")):
            return packed, aligned
        r.expect("(")
        r.expect("(")
        while r.text != ")":
            if r.kind != "name":
                r.fail_expected("an attribute")
            attribute = r.text.strip("_")
            r.advance()
            packed |= attribute == "packed"
            argument = _attribute_argument(r, attribute)
            aligned = argument or aligned
            if not r.accept(","):
                break
        r.expect(")")
        r.expect(")")


def _attribute_argument(r: Reader, attribute: str) -> int | None:
    """Return the number of bytes of ``aligned(n)``; skip other arguments."""
    if not r.accept("("):
        return 16 if attribute == "aligned" else None  # the largest alignment of x86-64
    if attribute == "aligned":
        start = r.start
        value = read_constant(r, (")",))
        if value <= 0 or value & (value - 1):
            r.fail("an alignment is a power of 2", r.span(start))
        r.expect(")")
        return value
    while not r.accept(")"):
        if r.kind == "end":
            r.fail_expected("')'")
        r.advance()
    return None


def _variants(r: Reader) -> tuple[tuple[str, int], ...]:
    variants: list[tuple[str, int]] = []
    following = 0
    while not r.accept("}"):
        if r.kind != "name":
            r.fail_expected("the name of a value")
        name = r.text
        if name in r.found.constants:
            r.fail(f"'{name}' has a value already")
        r.advance()
        if r.accept("="):
            following = read_constant(r, (",", "}"))
        variants.append((name, following))
        r.found.constants[name] = following
        following += 1
        if not r.accept(","):
            r.expect("}")
            break
    return tuple(variants)


# -- members -----------------------------------------------------------------------------------


def _members(r: Reader) -> list[Member]:
    """Read the declaration of one member or several: ``int a, *b[3], c : 5;``."""
    start = r.start
    specifier = _specifier(r)
    members: list[Member] = []
    if r.accept(";"):
        if not isinstance(specifier, StructDeclaration):
            if isinstance(specifier, EnumDeclaration):
                return []
            r.fail("expected the name of a member", r.span(start))
        # With a name of its own it is only declared here, as in C.
        return [] if specifier.name else [Member("", specifier, None, specifier.aligned, r.span(start))]
    while True:
        declarator_start = r.start
        name, type_ = _declarator(r, specifier)
        bits = None
        if r.accept(":"):
            bits = _bits(r, type_)
        elif not name:
            r.fail_expected("the name of a member")
        _, aligned = _attributes(r)
        if isinstance(type_, VoidType):
            r.fail(f"member '{name}' cannot be void", r.span(declarator_start))
        members.append(Member(name, type_, bits, aligned, r.span(start if not members else declarator_start)))
        if not r.accept(","):
            break
    r.expect(";")
    return members


def _declarator(r: Reader, type_: CType) -> tuple[str, CType]:
    """Read stars, name and arrays of one member, or a pointer to a function."""
    _qualifiers(r)
    while r.accept("*"):
        type_ = PointerTo(type_)
        _qualifiers(r)
    if r.accept("("):
        return _function_pointer(r)
    name = ""
    if r.kind == "name" and r.text != "__attribute__":
        name = r.text
        r.advance()
    lengths: list[int | None] = []
    while r.accept("["):
        if r.accept("]"):
            lengths.append(None)
            continue
        start = r.start
        length = read_constant(r, ("]",))
        if length < 0:
            r.fail("the length of an array is not negative", r.span(start))
        lengths.append(length)
        r.expect("]")
    if None in lengths[1:]:
        r.fail("only the first length of an array may be missing")
    for length_or_none in reversed(lengths):
        type_ = ArrayOf(type_, length_or_none)
    return name, type_


def _function_pointer(r: Reader) -> tuple[str, CType]:
    """Read ``*name)(parameters)``: what a function takes and returns does not matter here."""
    r.expect("*")
    _qualifiers(r)
    name = r.expect_name("the name of a member")
    r.expect(")")
    r.expect("(")
    depth = 1
    while depth:
        if r.kind == "end":
            r.fail_expected("')'")
        depth += {"(": 1, ")": -1}.get(r.text, 0)
        r.advance()
    return name, PointerTo(VoidType())


def _bits(r: Reader, type_: CType) -> int:
    start = r.start
    bits = read_constant(r, (",", ";", "__attribute__"))
    if isinstance(type_, BaseType):
        limit = 1 if type_.name == "_Bool" else type_.size * 8
    elif isinstance(type_, NamedType | EnumDeclaration):
        limit = 64
    else:
        r.fail("only integers can be bitfields", r.span(start))
    if not 0 <= bits <= limit:
        r.fail(f"a bitfield of this type has 0 to {limit} bits", r.span(start))
    return bits
