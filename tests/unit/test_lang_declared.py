"""Structs that a script declares have the layout that a C compiler gives them."""

from __future__ import annotations

import random
import re
import shutil
import subprocess
from pathlib import Path

import pytest

from fixture_target import FixtureTarget
from invivo.diagnostics import Code, Diagnostics, SourceFile
from invivo.ir import types as t
from invivo.lang.cdecl import parse_declarations
from invivo.lang.declared import DeclaredTarget
from invivo.lang.parse import parse

_BY_HAND = """
struct empty_end { char a; long b; char c; };
struct arrays { char name[5]; short s[3]; int i[2][2]; };
struct packed { char a; int b; short c; long d; } __attribute__((packed));
struct aligned { char a; int b; } __attribute__((aligned(16)));
struct member_aligned { char a; int b __attribute__((aligned(8))); char c; };
struct nested { char a; struct arrays b; char c; };
struct packed_nested { char a; struct arrays b; char c; } __attribute__((packed));
struct pointers { char a; void *p; struct pointers *self; char b; };
union either { char a; long b; short c[5]; };
struct with_union { char a; union either u; char b; };
struct unnamed { int a; struct { char b; int c; }; union { long d; char e; }; short f; };
struct bits { unsigned int a : 3; unsigned int b : 5; unsigned int c : 24; unsigned int d : 1; };
struct bits_gap { unsigned int a : 3; unsigned int : 0; unsigned int b : 5; char c; };
struct bits_wide { unsigned long a : 33; unsigned long b : 20; unsigned int c : 20; };
struct bits_mixed { char x; unsigned short a : 4; unsigned int b : 12; char y; unsigned char c : 7; };
struct bits_padding { unsigned int a : 5; unsigned int : 10; unsigned int b : 5; };
struct bits_packed { char x; unsigned int a : 3; unsigned int b : 30; char y; } __attribute__((packed));
union bits_union { unsigned int a : 3; unsigned char b : 8; };
"""
_BASE_TYPES = ("char", "unsigned char", "short", "unsigned short", "int", "unsigned int", "long", "unsigned long")
_UNSIGNED = {"unsigned char": 8, "unsigned short": 16, "unsigned int": 32, "unsigned long": 64}


def _random_struct(number: int) -> str:
    choose = random.Random(number)
    members = []
    for index in range(choose.randint(1, 7)):
        name = f"m{index}"
        match choose.randrange(6):
            case 0 | 1:
                members.append(f"{choose.choice(_BASE_TYPES)} {name};")
            case 2:
                members.append(f"{choose.choice(_BASE_TYPES)} {name}[{choose.randint(1, 5)}];")
            case 3:
                members.append(f"void *{name};")
            case _:
                type_ = choose.choice(list(_UNSIGNED))
                members.append(f"{type_} {name} : {choose.randint(1, _UNSIGNED[type_])};")
    packed = " __attribute__((packed))" if choose.random() < 0.2 else ""
    keyword = "union" if choose.random() < 0.1 else "struct"
    return f"{keyword} random{number} {{ {' '.join(members)} }}{packed};\n"


_RANDOM = "".join(_random_struct(number) for number in range(300))
_TEXT = _BY_HAND + _RANDOM

# For each member: the bits that are set when the member alone has all its bits set.
_PROGRAM = """
#include <stdio.h>
#include <string.h>
static void show(const char *name, const unsigned char *bytes, size_t size) {{
    printf("%s", name);
    for (size_t bit = 0; bit < size * 8; bit++) if (bytes[bit / 8] >> bit % 8 & 1) {{ printf(" %zu", bit); break; }}
    size_t count = 0;
    for (size_t bit = 0; bit < size * 8; bit++) count += bytes[bit / 8] >> bit % 8 & 1;
    printf(" %zu\\n", count);
}}
{declarations}
int main(void) {{
{statements}
    return 0;
}}
"""


def _laid_out(text: str) -> tuple[DeclaredTarget, list[t.Struct]]:
    diagnostics = Diagnostics()
    script = parse(SourceFile("script.bt", text + "\nbegin { }"))
    declarations = parse_declarations(script.c_statements, diagnostics)
    target = DeclaredTarget(FixtureTarget(), declarations, diagnostics)
    assert diagnostics.found == []
    structs = [target.struct(each.keyword, each.name) for each in declarations.structs if each.name]
    return target, [struct for struct in structs if struct is not None]


def _ours(target: DeclaredTarget, structs: list[t.Struct]) -> str:
    lines = []
    for struct in structs:
        lines.append(f"{struct.keyword} {struct.name} {struct.size}")
        for field in target.fields(struct):
            first = field.offset * 8 + field.bit_offset
            lines.append(f"{field.name} {first} {field.bit_size or 8 * t.size_bytes(field.type)}")
    return "\n".join(lines) + "\n"


def _statements(target: DeclaredTarget, structs: list[t.Struct]) -> str:
    lines = []
    for struct in structs:
        spelled = f"{struct.keyword} {struct.name}"
        lines.append(f'    {{ {spelled} v; printf("{spelled} %zu\\n", sizeof v);')
        for field in target.fields(struct):
            fill = f"v.{field.name} = -1" if field.bit_size else f"memset(&v.{field.name}, 255, sizeof v.{field.name})"
            show = f'show("{field.name}", (unsigned char *)&v, sizeof v);'
            lines.append(f"      memset(&v, 0, sizeof v); {fill}; {show}")
        lines.append("    }")
    return "\n".join(lines)


@pytest.mark.skipif(shutil.which("gcc") is None, reason="needs gcc to compare with")
def test_layout_is_that_of_a_compiler(tmp_path: Path) -> None:
    target, structs = _laid_out(_TEXT)
    assert len(structs) == len(re.findall(r"^(?:struct|union) ", _TEXT, re.MULTILINE))
    source, program = tmp_path / "layout.c", tmp_path / "layout"
    source.write_text(_PROGRAM.format(declarations=_TEXT, statements=_statements(target, structs)))
    subprocess.run(["gcc", "-w", "-O0", "-o", program, source], check=True, timeout=60)
    theirs = subprocess.run([program], check=True, capture_output=True, text=True, timeout=10).stdout
    assert _ours(target, structs).splitlines() == theirs.splitlines()


def test_types_of_members() -> None:
    target, structs = _laid_out(
        "struct s { char c; char name[8]; unsigned short n[2]; _Bool b; struct task_struct *t; };"
    )
    types = {field.name: field.type for field in target.fields(structs[0])}
    assert types["c"] == t.INT8
    assert types["name"] == t.String(8)
    assert types["n"] == t.Array(t.UINT16, 2)
    assert types["b"] == t.BOOL
    pointer = types["t"]
    assert isinstance(pointer, t.Pointer)
    assert pointer.space is t.AddressSpace.NONE
    assert isinstance(pointer.pointee, t.Struct) and pointer.pointee.name == "task_struct"


def test_the_script_comes_before_the_kernel() -> None:
    target, structs = _laid_out("struct task_struct { int mine; };")
    assert target.struct("struct", "task_struct") == structs[0]
    assert [field.name for field in target.fields(structs[0])] == ["mine"]
    kernels = target.struct("struct", "mm_struct")
    assert kernels is not None and kernels.type_id


def test_an_opaque_pointer_points_to_nothing_known() -> None:
    target, structs = _laid_out("struct s { struct never_declared *p; };")
    assert target.fields(structs[0])[0].type == t.Pointer(t.VOID, t.AddressSpace.NONE)


@pytest.mark.parametrize(
    ("text", "code"),
    [
        ("struct s { struct s inner; };", Code.BAD_DECLARATION),
        ("struct s { int x : 0; };", Code.BAD_DECLARATION),
        ("struct s { int x[1000000000]; };", Code.LIMIT),
        ("struct s { char c; unsigned long x : 60; } __attribute__((packed));", None),
        ("struct s { char a : 4; unsigned long x : 61; } __attribute__((packed));", Code.NOT_SUPPORTED),
        ("struct s { struct s inner[2]; };", Code.BAD_DECLARATION),
        ("struct s { struct never_declared inner; };", Code.UNKNOWN_TYPE),
        ("struct s { never_t inner; };", Code.UNKNOWN_TYPE),
    ],
)
def test_what_cannot_be_laid_out(text: str, code: Code | None) -> None:
    diagnostics = Diagnostics()
    declarations = parse_declarations(parse(SourceFile("script.bt", text + " begin { }")).c_statements, diagnostics)
    DeclaredTarget(FixtureTarget(), declarations, diagnostics)
    assert [found.code for found in diagnostics.found] == ([] if code is None else [code])


def test_constants_of_enums() -> None:
    text = "enum color { RED = 3, GREEN, BLUE = -1 }; enum big { HUGE = 8589934592 };"
    diagnostics = Diagnostics()
    declarations = parse_declarations(parse(SourceFile("script.bt", text + " begin { }")).c_statements, diagnostics)
    target = DeclaredTarget(FixtureTarget(), declarations, diagnostics)
    found = target.enum_constant("GREEN")
    assert found is not None and found[1] == 4
    assert (found[0].name, found[0].bits, found[0].signed) == ("color", 32, True)
    wide = target.enum_constant("HUGE")
    assert wide is not None and (wide[0].bits, wide[1]) == (64, 1 << 33)
    assert target.enum_constant("PIDTYPE_TGID") is not None
    assert target.enum_constant("NONE_SUCH") is None
