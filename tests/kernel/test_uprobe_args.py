"""Typed arguments of functions of programs, by their debug information: of every class, optimised and not."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from invivo.diagnostics import CompileError
from running import run
from user_programs import build_id_path, build_program, strip_into

LONG = "ns::f(double, int, float, char const*, ns::C&, bool, ns::color, short, unsigned char, long, int)"


@pytest.fixture(scope="module", params=["-O0", "-O1", "-O2", "-O3", "-O2 -gdwarf-4", "-O1 -gdwarf-2 -gstrict-dwarf"])
def shapes(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> str:
    return str(build_program("shapes.cc", tmp_path_factory.mktemp("shapes"), *str(request.param).split()))


def printed(program: str, signature: str, *expressions: str) -> list[str]:
    prints = " ".join(f"print({expression});" for expression in expressions)
    result = run(f'uprobe:{program}:cpp:"{signature}" {{ {prints} }}', command=[program])
    assert result.errors == ""
    return result.text.splitlines()


def refused(program: str, clause: str) -> str:
    with pytest.raises(CompileError) as refusal:
        run(f"uprobe:{program}:{clause}", command=[program])
    return refusal.value.diagnostics[0].message


def test_numbers_in_registers_and_on_the_stack(shapes: str) -> None:
    expressions = ["args.number", "args.yes", "args.hue", "args.low", "args.tiny", "args.on_stack", "args.also"]
    assert printed(shapes, LONG, *expressions) == ["7", "true", "green", "-3", "200", "1234567890123", "-9"]


@pytest.mark.parametrize(
    ("expression", "value"),
    [
        ("str(args.text)", "text"),
        ("args.c.base", "40"),
        ("args.c->base", "40"),
        ("(args.c.a, args.c.b, args.c.shift)", "(5, 300, -3)"),
        ("args.c.on", "true"),
        ("args.c.at.y", "2"),
        ("args.c.at", "{ .x = 1, .y = 2 }"),
        ("args.c.points[2].x", "-5"),
        ("args.c.points", "[{ .x = 1, .y = 2 },{ .x = 3, .y = 4 },{ .x = -5, .y = 6 }]"),
        ("str(args.c.next.next.name)", "hello"),
        ("args.c.next.label", "tag"),
        ("args.c.hue", "green"),
        ("args.c.whole", "67305985"),
        ("args.c.parts[2]", "3"),
        ("args.c.grid[1][2]", "6"),
        ("args.number + args.c.base", "47"),
        ("*args.text", "116"),
        ("arg0", "7"),
    ],
)
def test_an_expression(shapes: str, expression: str, value: str) -> None:
    assert printed(shapes, LONG, expression) == [value]


def test_all_arguments_at_once(shapes: str) -> None:
    """What no program can read (structs by value) is left out."""
    script = f'uprobe:{shapes}:cpp:"ns::make*" {{ print(args); @ = *args; print(@.last); }}'
    shown = "{ .number = 9, .last = 77 }"
    assert run(script, command=[shapes]).text == f"{shown}\n77\n\n\n@: {shown}\n"


def test_a_result_in_memory_moves_the_arguments(shapes: str) -> None:
    """A pointer to where the result is to be put takes the first register, a struct by value takes two."""
    values = printed(shapes, "ns::make", "args.number", "args.last")
    assert values == ["9", "77"]


def test_what_is_in_two_registers_moves_what_follows(shapes: str) -> None:
    result = run(f"uprobe:{shapes}:wide {{ print((args.after, args.later)); }}", command=[shapes])
    assert result.text == "(6, 8)\n"


def test_an_object_and_its_method(shapes: str) -> None:
    assert printed(shapes, "ns::C::C", "args.first") == ["40"]
    assert printed(shapes, "ns::twice<int>", "args.v") == ["4"]


@pytest.mark.parametrize(
    ("clause", "message"),
    [
        (f'cpp:"{LONG}" {{ print(args.d); }}', "args.d is a double in %xmm0 here"),
        (f'cpp:"{LONG}" {{ print(args.q); }}', "args.q is a float in %xmm1 here"),
        ('cpp:"ns::make" { print(args.p); }', "args.p is a struct point by value here"),
    ],
)
def test_what_cannot_be_read_is_refused(shapes: str, clause: str, message: str) -> None:
    assert refused(shapes, clause) == f"{message}, which no program in the kernel can read"


def test_functions_with_different_arguments_in_one_clause(shapes: str) -> None:
    result = run(
        f'uprobe:{shapes}:cpp:"ns::f", uprobe:{shapes}:cpp:"ns::f(int)" {{ print(args.number); }}', command=[shapes]
    )
    assert sorted(result.text.split()) == ["1", "1", "7"]


def test_an_unknown_argument_is_told_with_those_that_there_are(shapes: str) -> None:
    with pytest.raises(CompileError) as refusal:
        run(f'uprobe:{shapes}:cpp:"ns::f(int)" {{ print(args.numer); }}', command=[shapes])
    assert refusal.value.diagnostics[0].hint == "did you mean number?"


def test_a_function_that_was_changed_by_the_compiler(tmp_path: Path) -> None:
    """A clone does not keep to the convention: an argument is where the debug information says, or nowhere."""
    source = tmp_path / "clone.c"
    source.write_text(
        "static __attribute__((noinline)) long scaled(long unused, long by, long *p) { return *p * by; }\n"
        "long value = 5;\n"
        "int main(int argc, char **argv) { return (scaled(1, 3, &value) + scaled(argc, 3, &value)) != 30; }\n"
    )
    program = tmp_path / "clone"
    subprocess.run(["gcc", "-g", "-O2", "-fno-inline", "-o", program, source], check=True)
    names = subprocess.run(["nm", program], check=True, capture_output=True, text=True).stdout.split()
    clone = next(name for name in names if name.startswith("scaled."))
    assert refused(str(program), f"{clone} {{ print(args.unused); }}") == (
        "args.unused is optimized out here, which no program in the kernel can read"
    )


def test_without_debug_information(tmp_path: Path) -> None:
    program = str(build_program("plain.c", tmp_path, "-g0"))
    assert refused(program, "hidden { print(args.n); }") == (
        f"no debug information tells the arguments of uprobe:{program}:hidden"
    )


def test_debug_information_in_another_file(tmp_path: Path) -> None:
    program = build_program("plain.c", tmp_path)
    strip_into(program, build_id_path(program, tmp_path / "debug"), link=False)
    command = [Path(sys.executable).with_name("invivo-bpftrace"), "--debuginfo", tmp_path / "debug"]
    text = f"uprobe:{program}:hidden /pid == cpid/ {{ print((args.times, args.n.value)); }}"
    done = subprocess.run(
        [*map(str, command), "-c", str(program), "-e", text], capture_output=True, text=True, check=True
    )
    assert done.stdout.split("\n")[:2] == ["(3, 20)", "(3, 1)"]
    listed = subprocess.run(
        [*map(str, command), "-lv", f"uprobe:{program}:hidden"], capture_output=True, text=True, check=True
    )
    assert listed.stdout == f"uprobe:{program}:hidden\n    struct node * n\n    int times\n"


def test_compressed_debug_information(tmp_path: Path) -> None:
    program = str(build_program("plain.c", tmp_path, "-gz"))
    result = run(f"uprobe:{program}:hidden {{ print(args.n.next != 0); }}", command=[program])
    assert result.text == "true\nfalse\n"


def line_of(source: Path, text: str) -> int:
    return next(number for number, line in enumerate(source.read_text().split("\n"), 1) if text in line)


@pytest.mark.parametrize("flags", [("-O0",), ("-O0", "-gdwarf-4"), ("-Og",)])
def test_a_line_of_source(tmp_path: Path, flags: tuple[str, ...]) -> None:
    program = build_program("plain.c", tmp_path, *flags)
    line = line_of(tmp_path / "plain.c", "sum += hidden")
    for file in ("plain.c", str(tmp_path / "plain.c")):
        result = run(f"uprobe:{program}@{file}:{line} {{ print(probe); }}", command=[str(program)])
        assert result.text == f"uprobe:{program}@{file}:{line}\n" * 2


def test_a_column_of_a_line(tmp_path: Path) -> None:
    program = build_program("plain.c", tmp_path)
    line = line_of(tmp_path / "plain.c", "for (struct node")
    text = (tmp_path / "plain.c").read_text().split("\n")[line - 1]
    column = text.index("n = n->next") + 1
    with pytest.raises(CompileError) as refusal:
        run(f"uprobe:{program}@plain.c:{line}:1 {{ }}", command=["true"])
    assert refusal.value.diagnostics[0].hint is not None
    assert refusal.value.diagnostics[0].hint.startswith("the line has code at columns ")
    columns = refusal.value.diagnostics[0].hint.removeprefix("the line has code at columns ").split(", ")
    assert str(column + 2) in columns or str(column) in columns
    chosen = column + 2 if str(column + 2) in columns else column
    result = run(f"uprobe:{program}@plain.c:{line}:{chosen} {{ print(func); }}", command=[str(program)])
    assert result.text == "main\n" * 2


@pytest.mark.parametrize(
    ("place", "hint"),
    [
        ("plain.c:1", "the next line with code is 4"),
        ("plain.c:100000", "the last line with code is "),
        ("other.c:1", "the debug information has no other.c"),
    ],
)
def test_a_line_without_code(tmp_path: Path, place: str, hint: str) -> None:
    program = build_program("plain.c", tmp_path)
    with pytest.raises(CompileError) as refusal:
        run(f"uprobe:{program}@{place} {{ }}", command=["true"])
    (diagnostic,) = refusal.value.diagnostics
    assert diagnostic.message == f"Could not resolve source location: {program}@{place}"
    assert diagnostic.hint is not None
    assert diagnostic.hint.startswith(hint)


def test_a_return_at_a_line_is_refused(tmp_path: Path) -> None:
    program = build_program("plain.c", tmp_path)
    assert refused(f"{program}", "x {}").startswith("Could not resolve symbol")
    with pytest.raises(CompileError) as refusal:
        run(f"uretprobe:{program}@plain.c:4 {{ }}", command=["true"])
    assert refusal.value.diagnostics[0].message == "uretprobes cannot be attached to a source location"


def test_a_function_in_two_parts(tmp_path: Path) -> None:
    """What is seldom run is moved elsewhere: the function has ranges and no end."""
    source = tmp_path / "parts.c"
    source.write_text(
        "#include <stdlib.h>\n"
        "__attribute__((cold, noipa)) void refuse(int number) { exit(number); }\n"
        "__attribute__((noipa)) int half(int number) {\n"
        "    if (number % 2) { refuse(number); exit(2); }\n"
        "    return number / 2;\n"
        "}\n"
        "int main(int argc, char **argv) { return half(argc + 7) != 4; }\n"
    )
    program = tmp_path / "parts"
    subprocess.run(["gcc", "-g", "-O2", "-o", program, source], check=True)
    assert "half.cold" in subprocess.run(["nm", program], check=True, capture_output=True, text=True).stdout
    result = run(f"uprobe:{program}:half {{ print(args.number); }}", command=[str(program)])
    assert result.text == "8\n"
