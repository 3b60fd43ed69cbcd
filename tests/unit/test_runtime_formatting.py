"""printf: the neighbour's rules in its face, whole values in ours."""

from __future__ import annotations

import pytest

from invivo.events import EnumValue, Frame, Stack, Text, Value
from invivo.ir.format import parse_format
from invivo.ir.types import StackMode
from invivo.output.terminal import display
from invivo.runtime.formatting import compile_format
from invivo.values import ValueText

BIG = (1 << 32) + 1
ALL = (1 << 64) - 1


def printed(form: str, *values: Value, bpftrace: bool = True) -> str:
    return compile_format(parse_format(form), ValueText(), bpftrace=bpftrace).write(values)


CASES: list[tuple[str, tuple[Value, ...], str, str]] = [
    # format, values, in the neighbour's face, in ours
    ("%d", (BIG,), "1", str(BIG)),
    ("%d", (-1,), "-1", "-1"),
    ("%d", (ALL,), "-1", str(ALL)),
    ("%ld", (BIG,), str(BIG), str(BIG)),
    ("%lld", (ALL,), "-1", "-1"),
    ("%u", (-1,), str((1 << 32) - 1), str(ALL)),
    ("%lu", (-1,), str(ALL), str(ALL)),
    ("%x", (-1,), "ffffffff", "f" * 16),
    ("%hhx", (0x1234,), "34", "34"),
    ("%hd", (0xFFFF,), "-1", "-1"),
    ("%jd %zu %td", (BIG, BIG, BIG), f"{BIG} {BIG} {BIG}", f"{BIG} {BIG} {BIG}"),
    ("%#x %#x %#o", (255, 0, 0), "0xff 0 0", "0xff 0 0"),
    ("%X", (255,), "FF", "FF"),
    ("%o %#o", (8, 8), "10 010", "10 010"),
    ("%5d|%-5d|%05d|%+d|% d", (42, 42, 42, 42, 42), "   42|42   |00042|+42| 42", "   42|42   |00042|+42| 42"),
    ("%5s|%-5s|", ("ab", "ab"), "   ab|ab   |", "   ab|ab   |"),
    ("%c%c", (65, 0x141), "AA", "AA"),
    ("%p %12p", (255, 255), "0xff         0xff", "0xff         0xff"),
    ("%s", (BIG,), str(BIG), str(BIG)),
    ("%s %d", (EnumValue(2, "TWO"), EnumValue(2, "TWO")), "TWO 2", "TWO 2"),
    ("%s %d", (True, True), "true 1", "true 1"),
    ("%s", ((1, "a"),), "(1, a)", "(1, a)"),
    ("%s", (Text("ab"),), "ab..", "ab.."),
    ("%r", (b"\x00ab\xff",), "\\x00ab\\xff", "\\x00ab\\xff"),
    ("%rx", (b"\x00ab",), "\\x00\\x61\\x62", "\\x00\\x61\\x62"),
    ("%rh", (b"\x00ab",), "00 61 62", "00 61 62"),
    ("%rh", ([1, 255],), "01 ff", "01 ff"),
    ("100%% %s%%", ("x",), "100% x%", "100% x%"),
    ("100%", (), "100%", "100%"),
    ("plain", (), "plain", "plain"),
]


@pytest.mark.parametrize(("form", "values", "theirs", "ours"), CASES, ids=[f"{row[0]}-{row[2]}" for row in CASES])
def test_directives(form: str, values: tuple[Value, ...], theirs: str, ours: str) -> None:
    assert printed(form, *values) == theirs
    assert printed(form, *values, bpftrace=False) == ours


def test_what_does_not_fit_says_so_in_the_text() -> None:
    assert printed("%d", "text") == "!{not a number}"
    assert printed("%f", 1) == "!{unsupported format specifier: f}"


def test_only_the_values_are_escaped_for_a_terminal() -> None:
    write = compile_format(parse_format("\x1b[1m%s\n%c%s\t"), ValueText("..", display))
    stack = Stack(True, StackMode.BPFTRACE, (Frame(1, "f\x1b", 1, ""),))
    assert write.write(["a\x1b\n", 7, stack]) == "\x1b[1ma\\x1b\\n\n\\x07\n        f\\x1b+1\n\t"
