"""What literals and script parameters alone determine."""

from __future__ import annotations

import pytest

from invivo.diagnostics import SourceFile
from invivo.lang import ast
from invivo.lang.check.fold import Folder, parse_number
from invivo.lang.parse import parse

_PARAMETERS = ("42", "word", "0x10", "")


def _folded(text: str) -> int | str | None:
    script = parse(SourceFile("script.bt", f"begin {{ _ = {text}; }}"), _PARAMETERS)
    statement = script.probes[0].body.statements[0]
    assert isinstance(statement, ast.Discard)
    return Folder(_PARAMETERS, {}, {})(statement.expr)


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("1 + 2 * 3", 7),
        ("(1 + 2) * 3", 9),
        ("7 / 2", 3),
        ("-7 / 2", -3),
        ("7 / -2", -3),
        ("-7 % 3", -1),
        ("7 % -3", 1),
        ("1 << 63", 1 << 63),
        ("-8 >> 1", -4),
        ("~0", -1),
        ("!5", 0),
        ("!0", 1),
        ("3 > 2", 1),
        ("-1 < 0", 1),
        ("2 <= 1", 0),
        ("0 && 1", 0),
        ("2 && 1", 1),
        ("0 || 0", 0),
        ("6 & 3 | 8 ^ 1", 11),
        ("true + true", 2),
        ("18446744073709551615", (1 << 64) - 1),
        ("-9223372036854775808", -(1 << 63)),
        ('"a" == "a"', 1),
        ('"a" == "b"', 0),
        ('"a" != "b"', 1),
        ("$#", 4),
        ("$1", 42),
        ("$1 + 1", 43),
        ("$3", 16),
        ("$2", "word"),
        ("$4", 0),
        ("$9", 0),
        ("str($1)", "42"),
        ("str($2)", "word"),
        ("str($9)", ""),
        ("str($2 + 2)", "rd"),
        ('str("lit")', "lit"),
        ("comptime (1 + 1)", 2),
    ],
)
def test_value(text: str, value: int | str) -> None:
    assert _folded(text) == value


@pytest.mark.parametrize(
    "text",
    [
        "pid",
        "pid + 1",
        "1 / 0",
        "1 % 0",
        "1 << 64",
        "1 << -1",
        "18446744073709551615 + 1",
        "-18446744073709551615",
        "-9223372036854775807 - 2",
        "9223372036854775808 * 4",
        '"a" + "b"',
        '"a" < "b"',
        '"a" - 1',
        "str(pid)",
        "str($1 + pid)",
        "-comm",
    ],
)
def test_no_value(text: str) -> None:
    assert _folded(text) is None


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("0", 0),
        ("12", 12),
        ("-12", -12),
        ("1_000", 1000),
        ("0xff", 255),
        ("0XFF", 255),
        ("-0x10", -16),
        ("010", 8),
        ("-010", -8),
        ("1e3", 1000),
        ("10ms", 10_000_000),
        ("5u", 5),
        ("18446744073709551615", (1 << 64) - 1),
    ],
)
def test_number_of_a_parameter(text: str, value: int) -> None:
    assert parse_number(text) == value


@pytest.mark.parametrize(
    "text", ["", "-", "word", "0x", "0xg", "08", "1.5", "12x", "1_", "18446744073709551616", "--1", "+1"]
)
def test_what_is_no_number(text: str) -> None:
    assert parse_number(text) is None
