"""Variables of old scripts are declared around the block that assigns them and what uses them."""

from __future__ import annotations

import pytest

from fixture_target import FixtureTarget
from invivo.diagnostics import Code, CompileError, Diagnostics, SourceFile
from invivo.lang.hoist import hoist
from invivo.lang.parse import parse
from invivo.lang.text import format_script
from invivo.pipeline import CompileOptions, compile_source


def _hoisted(body: str) -> tuple[str, list[str]]:
    """The script's text afterwards, without layout, and what is said."""
    diagnostics = Diagnostics()
    script = hoist(parse(SourceFile("script.bt", f"begin {{ {body} }}"), ()), diagnostics)
    said = [each.message for each in diagnostics.found]
    return " ".join(format_script(script).split()), said


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        ("if (1) { $a = 1; } print($a);", "let $a; if (1) { $a = 1; } print($a);"),
        ("if (1) { $a = 1; } else { $a = 2; } @x = $a;", "let $a; if (1) { $a = 1; } else { $a = 2; } @x = $a;"),
        ("if (1) { if (2) { $a = 1; } } @[$a] = 1;", "let $a; if (1) { if (2) { $a = 1; } } @[$a] = 1;"),
        ("if (1) { if (2) { $a = 1; } print($a); }", "if (1) { let $a; if (2) { $a = 1; } print($a); }"),
        ("if (1) { $a = 1; } if (2) { print($a); }", "let $a; if (1) { $a = 1; } if (2) { print($a); }"),
        ("if (1) { $a = 1; } $a += 1;", "let $a; if (1) { $a = 1; } $a += 1;"),
        ("unroll (2) { $a = 1; } $b = $a;", "let $a; unroll (2) { $a = 1; } $b = $a;"),
    ],
)
def test_declared_around_both(body: str, expected: str) -> None:
    text, said = _hoisted(body)
    assert text == " ".join(format_script(parse(SourceFile("", f"begin {{ {expected} }}"), ())).split())
    assert said == ["$a is assigned in an inner block and used outside of it"]


@pytest.mark.parametrize(
    "body",
    [
        "$a = 0; if (1) { $a = 1; } print($a);",
        "if (1) { $a = 1; print($a); }",
        "if (1) { $a = 1; } $a = 2; print($a);",
        "if (1) { $a = 1; } let $a = 2; print($a);",
        "if (1) { let $a = 1; } print($a);",
        "for $a : 0..2 { $b = $a; } print($a);",
        "print($a);",
    ],
)
def test_left_alone(body: str) -> None:
    text, said = _hoisted(body)
    assert text == " ".join(format_script(parse(SourceFile("", f"begin {{ {body} }}"), ())).split())
    assert said == []


def _codes(program: str, *, bpftrace: bool = False) -> list[Code]:
    try:
        compiled = compile_source(SourceFile("", program), FixtureTarget(), CompileOptions(bpftrace=bpftrace))
    except CompileError as mistakes:
        return [each.code for each in mistakes.diagnostics]
    return [each.code for each in compiled.warnings]


def test_only_our_own_face_accepts_them() -> None:
    program = "begin { if (pid) { $a = 1; } print($a); }"
    assert _codes(program) == [Code.DEPRECATED]
    assert _codes(program, bpftrace=True) == [Code.UNKNOWN_VARIABLE]


def test_what_that_does_not_mend_is_said_as_it_was() -> None:
    assert _codes("begin { if (pid) { $a = 1; } else { $a = comm; } print($a); }") == [Code.UNKNOWN_VARIABLE]
    assert _codes("begin { if (pid) { $a = 1; } print($a); print($b); }") == [Code.DEPRECATED, Code.UNKNOWN_VARIABLE]
