"""The parser on any text: it gives a tree or a `CompileError`, and a tree's text gives the same tree."""

from __future__ import annotations

from pathlib import Path

from hypothesis import example, given, settings
from hypothesis import strategies as st

from invivo.diagnostics import CompileError, Diagnostics, SourceFile
from invivo.lang import ast
from invivo.lang.cdecl import parse_declarations
from invivo.lang.parse import parse
from invivo.lang.text import format_script
from invivo.record import Record
from invivo.rendering import format_bpftrace, format_diagnostic

GOLDEN = Path(__file__).parents[1] / "golden"


def _programs() -> list[str]:
    """The programs of the golden cases: every form of the grammar, and every mistake."""
    programs = []
    for file in sorted(GOLDEN.glob("*/*.test")):
        for case in file.read_text(encoding="utf-8").split("=== ")[1:]:
            programs.append(case.split("\n", 1)[1].split("\n--- ", 1)[0])
    return programs


PROGRAMS = _programs()
PIECES = (
    *'{}()[]/:;,.=+-*&|^!~<>?$@#"\\ \n_',
    *("++", "->", "..", "<<=", "//", "/*", "*/", "0x", "1e9", "5ms", "$1", "$#", "$x", "@m", "pid", "args", "typeof("),
    *("if", "else", "for", "while", "unroll", "let", "return", "comptime", "sizeof(", "offsetof(", "struct x", "uint8"),
    *("config = {", 'import "a";', "macro m(", "fn f(", "BEGIN {", "kprobe:f", "#define A ", "#if ", "#endif\n"),
    *('"\\x', "\x00", "\x1b", "é", "\ud800", "\udcff", "\ufeff", "日", "__attribute__((", "true", "\r\n", "\t"),
)


@st.composite
def mutated(draw: st.DrawFn) -> str:
    """A program with pieces removed, doubled, swapped for others, or put in."""
    text = draw(st.sampled_from(PROGRAMS))
    for _ in range(draw(st.integers(1, 4))):
        start = draw(st.integers(0, len(text)))
        end = min(len(text), start + draw(st.integers(0, 12)))
        piece = draw(st.sampled_from(["", text[start:end] * 2, *PIECES]))
        text = text[:start] + piece + text[end:]
    return text


def check(text: str) -> None:
    source = SourceFile("script.bt", text)
    try:
        script = parse(source, ("1", "a b", 'c"d:{'))
    except CompileError as error:
        assert error.diagnostics
        for diagnostic in error.diagnostics:
            assert diagnostic.span is not None
            assert 0 <= diagnostic.span.start <= diagnostic.span.end <= len(text)
            for shown in (format_diagnostic(diagnostic), format_bpftrace(diagnostic)):
                assert all(line.isprintable() for line in shown.split("\n"))
        return
    parse_declarations(script.c_statements, Diagnostics())
    formatted = format_script(script)
    again = parse(SourceFile("again", formatted))
    assert shape(again) == shape(script)
    assert format_script(again) == formatted


def shape(value: object) -> object:
    """A tree as nested tuples, without spans, order of items aside."""
    if isinstance(value, ast.Node):
        fields = [name for name in type(value).__record_fields__ if name not in ("span", "name_span", "source")]
        if isinstance(value, ast.AttachPoint):
            fields.remove("text")  # it keeps the quotes as they were written
        return (type(value).__name__, *[shape(getattr(value, name)) for name in fields])
    if isinstance(value, tuple):
        return tuple(map(shape, value))
    assert not isinstance(value, Record)
    return value


@given(mutated())
@settings(max_examples=600, deadline=None)
def test_mutated_programs_never_crash_the_parser(text: str) -> None:
    check(text)


@given(st.text(alphabet=st.sampled_from('{}()[]/:;,.=+-*&|!<>?$@#"\\ \n_a1pB'), max_size=60))
@settings(max_examples=300, deadline=None)
def test_random_signs_never_crash_the_parser(text: str) -> None:
    check(text)


@given(st.lists(st.sampled_from(PIECES), max_size=40).map(" ".join))
@example("BEGIN { $x = 1 ? 2 : { ; } }")
@settings(max_examples=400, deadline=None)
def test_random_pieces_never_crash_the_parser(text: str) -> None:
    check("BEGIN { " + text)


@given(st.sampled_from(PROGRAMS), st.data())
@settings(max_examples=150, deadline=None)
def test_a_program_cut_off_anywhere_never_crashes_the_parser(text: str, data: st.DataObject) -> None:
    check(text[: data.draw(st.integers(0, len(text)))])


ALLOWED = {"there are no floating-point numbers"}

_NAMES = st.sampled_from(
    ["pid", "foo", "$x", "@m", "@m[1, 2]", "1", "5s", '"a"', "f(1)", "args.x", "(1, 2)", "(a = 1)"]
)


def _wrap(inner: st.SearchStrategy[str]) -> st.SearchStrategy[str]:
    binary = st.sampled_from([*"|^&<>+-*/%", "||", "&&", "==", "!=", "<=", ">=", "<<", ">>"])
    return st.one_of(
        st.tuples(inner, binary, inner).map(" ".join),
        st.tuples(st.sampled_from(["-", "!", "~", "*", "++", "comptime "]), inner).map("".join),
        inner.map(lambda e: f"({e})"),
        # A block after a type is no cast: it may be the body of a loop.
        st.tuples(st.sampled_from(["(uint8)", "(struct x *)", "(typeof(1))"]), inner).map(lambda e: f"{e[0]}({e[1]})"),
        st.tuples(inner, st.sampled_from([".x", "->y", ".0", "[1]", "++", "--"])).map("".join),
        st.tuples(inner, inner, inner).map(lambda e: f"{e[0]} ? {e[1]} : {e[2]}"),
        st.tuples(inner, inner).map(lambda e: f"{e[0]} ?: {e[1]}"),
        st.tuples(inner, inner).map(lambda e: f"if ({e[0]}) {{ {e[1]} }} else {{ {e[0]} }}"),
        inner.map(lambda e: f"({{ let $y = {e}; $y }})"),
        inner.map(lambda e: f"g(typeof({e}), sizeof({e}))"),
    )


@given(st.recursive(_NAMES, _wrap, max_leaves=12))
@settings(max_examples=400, deadline=None)
def test_an_expression_keeps_its_tree_through_its_text(text: str) -> None:
    try:
        parse(SourceFile("script.bt", f"BEGIN {{ $r = {text}; }}"))
    except CompileError as error:
        # What the generator puts together wrongly: fields of numbers, types without typeof.
        assert {d.message for d in error.diagnostics} <= ALLOWED
    else:
        check(f"BEGIN {{ $r = {text}; {text} }}")
