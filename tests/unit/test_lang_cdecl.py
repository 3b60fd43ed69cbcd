"""C declarations as data. What is refused is in tests/golden/cdecl."""

from __future__ import annotations

import pytest

from invivo.diagnostics import Diagnostics, SourceFile
from invivo.lang import ast, cdecl
from invivo.lang.cdecl import BaseType, CType, Declarations, NamedType, PointerTo
from invivo.lang.parse import parse

INT = BaseType("int", 4, True)
CHAR = BaseType("char", 1, True)


def declared(text: str, *predefined: str) -> Declarations:
    diagnostics = Diagnostics()
    found = cdecl.parse_declarations(
        parse(SourceFile("script.bt", text)).c_statements, diagnostics, predefined or ("BPFTRACE_HAVE_BTF",)
    )
    assert diagnostics.found == []
    return found


def members(text: str) -> list[tuple[str, CType, int | None]]:
    """Declare the members of one struct."""
    (struct,) = declared(f"struct x {{ {text} }};").structs
    return [(member.name, member.type, member.bits) for member in struct.members]


@pytest.mark.parametrize(
    ("text", "type_"),
    [
        ("char", CHAR),
        ("signed char", CHAR),
        ("unsigned char", BaseType("unsigned char", 1, False)),
        ("short int", BaseType("short", 2, True)),
        ("unsigned short", BaseType("unsigned short", 2, False)),
        ("int", INT),
        ("signed", INT),
        ("unsigned", BaseType("unsigned int", 4, False)),
        ("const unsigned int", BaseType("unsigned int", 4, False)),
        ("long", BaseType("long", 8, True)),
        ("int long unsigned", BaseType("unsigned long", 8, False)),
        ("unsigned long long int", BaseType("unsigned long long", 8, False)),
        ("_Bool", BaseType("_Bool", 1, False)),
        ("bool", BaseType("_Bool", 1, False)),
        ("__u32", NamedType("", "__u32")),
        ("struct a", NamedType("struct", "a")),
        ("union a", NamedType("union", "a")),
        ("enum a", NamedType("enum", "a")),
        ("volatile int const", INT),
    ],
)
def test_types(text: str, type_: CType) -> None:
    assert members(f"{text} m;") == [("m", type_, None)]


def test_declarators() -> None:
    assert members(
        "int a, *b, c[3], *d[2][N], **e; void *f; int g[]; int (*h)(struct x *, int (*)(void));".replace("N", "4")
    ) == [
        ("a", INT, None),
        ("b", PointerTo(INT), None),
        ("c", cdecl.ArrayOf(INT, 3), None),
        ("d", cdecl.ArrayOf(cdecl.ArrayOf(PointerTo(INT), 4), 2), None),
        ("e", PointerTo(PointerTo(INT)), None),
        ("f", PointerTo(cdecl.VoidType()), None),
        ("g", cdecl.ArrayOf(INT, None), None),
        ("h", PointerTo(cdecl.VoidType()), None),
    ]


def test_bitfields() -> None:
    assert members("int a : 3, b : 1 + 1; int : 0; long c : 40;") == [
        ("a", INT, 3),
        ("b", INT, 2),
        ("", INT, 0),
        ("c", BaseType("long", 8, True), 40),
    ]


def test_nested_structs_are_members_and_declared() -> None:
    found = declared("struct a { struct b { int x; } y[2]; union { int z; struct c { int w; }; }; enum d { E } f; };")
    assert [struct.name for struct in found.structs] == ["b", "c", "a"]
    assert [enum.name for enum in found.enums] == ["d"]
    outer = found.structs[-1]
    assert [member.name for member in outer.members] == ["y", "", "f"]
    array, union = outer.members[0].type, outer.members[1].type
    assert isinstance(array, cdecl.ArrayOf)
    assert array.element is found.structs[0]
    assert isinstance(union, cdecl.StructDeclaration)
    assert (union.keyword, [member.name for member in union.members]) == ("union", ["z"])


@pytest.mark.parametrize(
    ("text", "packed", "aligned"),
    [
        ("struct x { int y; };", False, None),
        ("struct x { int y; } __attribute__((packed));", True, None),
        ("struct __attribute__((__packed__)) x { int y; };", True, None),
        ("struct x { int y; } __attribute__((packed, aligned(4)));", True, 4),
        ("struct x { int y; } __attribute__((preserve_access_index)) __attribute__((aligned(1 << 4)));", False, 16),
        ("struct x { int y; } __attribute__((aligned));", False, 16),
        ('struct x { int y; } __attribute__((section("a")));', False, None),
    ],
)
def test_attributes(text: str, packed: bool, aligned: int | None) -> None:
    (struct,) = declared(text).structs
    assert (struct.packed, struct.aligned) == (packed, aligned)


def test_a_member_may_be_aligned() -> None:
    (struct,) = declared("struct x { char a; int b __attribute__((aligned(16))); };").structs
    assert [member.aligned for member in struct.members] == [None, 16]


def test_enums_count_on() -> None:
    found = declared("#define TEN 10\nenum a { A, B = TEN, C, D = -1, E, F = B | 1, }; enum { G = C * 2 };")
    assert found.enums[0].variants == (("A", 0), ("B", 10), ("C", 11), ("D", -1), ("E", 0), ("F", 11))
    assert dict(found.constants) == {"A": 0, "B": 10, "C": 11, "D": -1, "E": 0, "F": 11, "G": 22}
    assert [enum.name for enum in found.enums] == ["a"]


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("(1 << 4) - 1", 15),
        ("-7 / 2", -3),
        ("-7 % 2", -1),
        ("7 / -2", -3),
        ("1 ? 2 : 3", 2),
        ("0 ? 2 : 3", 3),
        ("~0", -1),
        ("!5 || 3 > 2 && 1 != 1", 0),
        ("0x10 ^ 0b1".replace("0b1", "1"), 17),
        ("0 ?: 9", 9),
        ("4 ?: 9", 4),
    ],
)
def test_constant_expressions(text: str, value: int) -> None:
    assert dict(declared(f"enum {{ A = {text} }};").constants) == {"A": value}


def test_defines_are_expressions_or_mean_nothing() -> None:
    found = declared('#define A (1 + B) // c\n#define B "x"\n#define C\n#define D do {\n#define A 2\n')
    assert [(define.name, define.text, type(define.value)) for define in found.defines] == [
        ("A", "2", ast.Integer),
        ("B", '"x"', ast.StringLiteral),
        ("C", "", type(None)),
        ("D", "do {", type(None)),
    ]
    assert found.defines[1].span.text == 'B "x"'


def test_includes() -> None:
    assert [i.path for i in declared('#include <linux/fs.h>\n#  include "a.h"\n').includes] == ["linux/fs.h", "a.h"]


@pytest.mark.parametrize(
    ("condition", "holds"),
    [
        ("#ifdef A", True),
        ("#ifdef X", False),
        ("#ifndef A", False),
        ("#ifndef X", True),
        ("#ifdef ONE", True),
        ("#if ONE", True),
        ("#if ZERO", False),
        ("#if X", False),
        ("#if defined(A) && !defined X", True),
        ("#if ONE + 1 == 2", True),
        ("#if 0\n#elif 1", True),
        ("#if 1\n#elif 1", False),
        ("#if 0\n#else", True),
        ("#if 0\n#ifdef A\n#endif\n#else", True),
        ("#undef A\n#ifdef A", False),
    ],
)
def test_conditions(condition: str, holds: bool) -> None:
    text = f"#define ONE 1\n#define ZERO 0\n{condition}\n#define FOUND 1\nstruct x {{ int y; }};\n#endif\n"
    found = declared(text, "A")
    assert ("FOUND" in [define.name for define in found.defines]) is holds
    assert (len(found.structs) == 1) is holds


def test_members_have_spans() -> None:
    (struct,) = declared("struct x { int a, *b; };").structs
    assert [member.span.text for member in struct.members] == ["int a", "*b"]
    assert struct.span.text == "struct x { int a, *b; }"
