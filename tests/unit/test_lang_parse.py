"""The tree of a program: spans, kinds of nodes, values of literals. Its forms are in tests/golden/parse."""

from __future__ import annotations

import pytest

from invivo.diagnostics import Code, CompileError, SourceFile
from invivo.lang import ast
from invivo.lang.parse import parse, parse_constant
from invivo.lang.parse.literals import BadLiteralError, parse_integer, parse_string


def script(text: str, *parameters: str) -> ast.Script:
    return parse(SourceFile("script.bt", text), parameters)


def body(text: str) -> ast.Block:
    """Parse the statements of one probe."""
    return script(f"BEGIN {{ {text} }}").probes[0].body


def expression(text: str) -> ast.Expr:
    statement = body(f"_ = {text};").statements[0]
    assert isinstance(statement, ast.Discard)
    return statement.expr


def errors(text: str) -> list[tuple[Code, str, str]]:
    """Return code, marked text and message of each mistake."""
    with pytest.raises(CompileError) as caught:
        script(text)
    found = []
    for diagnostic in caught.value.diagnostics:
        assert diagnostic.span is not None
        found.append((diagnostic.code, diagnostic.span.text, diagnostic.message))
    return found


@pytest.mark.parametrize(
    ("text", "marked"),
    [
        ("1 + 2 * 3", "1 + 2 * 3"),
        ("(1 + 2) * 3", "(1 + 2) * 3"),
        ("3 * (1 + 2)", "3 * (1 + 2)"),
        ("(a) ? b : (c)", "(a) ? b : (c)"),
        ("-$x.y[1]", "-$x.y[1]"),
        ("f( 1 , 2 )", "f( 1 , 2 )"),
        ("@m[ 1 ]", "@m[ 1 ]"),
        ("a ? b : c", "a ? b : c"),
        ("(uint8) 5", "(uint8) 5"),
        ("(1, 2)", "(1, 2)"),
        ("(a = 1)", "(a = 1)"),
        ("$x++", "$x++"),
        ("++$x", "++$x"),
        ("sizeof( int )", "sizeof( int )"),
        ("offsetof(struct x, y.z)", "offsetof(struct x, y.z)"),
        ("comptime f()", "comptime f()"),
        ("if (1) { 2 } else { 3 }", "if (1) { 2 } else { 3 }"),
        ("{ 1 }", "{ 1 }"),
        ('"a\\n"', '"a\\n"'),
        ("$12", "$12"),
    ],
)
def test_an_expression_spans_its_text(text: str, marked: str) -> None:
    assert expression(text).span.text == marked


@pytest.mark.parametrize(
    "text",
    [
        "$x = 1",
        "@x[1] += 2",
        "let $x : uint8 = 1",
        "while (1) { f(); }",
        "unroll (3) { f(); }",
        "for ($i : 0..5) { f(); }",
        "for $kv : @m { f(); }",
        "return 1",
        "break",
        "_ = f()",
        'import "x"',
    ],
)
def test_a_statement_spans_its_text_without_the_semicolon(text: str) -> None:
    assert body(f"{text} ;").statements[0].span.text == text


def test_items_span_their_text() -> None:
    source = """\
#define A 1
struct x { int y; } ;
config = { max_strlen = 5 }
import "a.bt";
let @m = hash(5);
macro m($x) { 1 }
fn f() : void { }
kprobe:f, here=BEGIN / 1 / { f(); }
"""
    tree = script(source)
    items = [
        *tree.c_statements,
        tree.config,
        *tree.imports,
        *tree.map_declarations,
        *tree.macros,
        *tree.subprograms,
        *tree.probes,
    ]
    expected = source.replace('"a.bt";', '"a.bt"').replace("hash(5);", "hash(5)").splitlines()
    assert [item.span.text for item in items if item is not None] == expected
    assert tree.span.text == source
    first, second = tree.probes[0].attach_points
    assert (first.span.text, first.text, first.label) == ("kprobe:f", "kprobe:f", "")
    assert (second.span.text, second.text, second.label) == ("here=BEGIN", "BEGIN", "here")


def test_names_inside_have_spans_of_their_own() -> None:
    call = expression("print (args . x)")
    assert isinstance(call, ast.Call)
    assert call.name_span.text == "print"
    member = call.arguments[0]
    assert isinstance(member, ast.Member)
    assert (member.name_span.text, member.arrow) == ("x", False)


def test_else_if_is_nested() -> None:
    chain = expression("if (1) { 2 } else if (3) { 4 } else { 5 }")
    assert isinstance(chain, ast.IfExpr)
    inner = chain.otherwise
    assert isinstance(inner, ast.IfExpr)
    assert inner.span.text == "if (3) { 4 } else { 5 }"
    assert isinstance(inner.otherwise, ast.Block)


def test_an_arrow_is_known_as_one() -> None:
    member = expression("args->x")
    assert isinstance(member, ast.Member)
    assert member.arrow


def test_a_short_conditional_has_no_middle() -> None:
    ternary = expression("$a ?: 2")
    assert isinstance(ternary, ast.Ternary)
    assert ternary.then is None


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("if (1) { 2 } else { 3 }", True),
        ("if (1) { 2 } else { 3; }", False),
        ("if (1) { 2 }", False),
        ("if (1) { 2 } else if (3) { 4 }", False),
        ("if (1) { 2 } else if (3) { 4 } else { 5 }", True),
        ("{ 1 }", True),
        ("{ 1; }", False),
        ("1", True),
        ("1;", False),
        ("f()", True),
        ("comptime if (1) { 2 } else { 3 }", True),
        ("comptime if (1) { 2 }", False),
    ],
)
def test_a_block_has_the_value_of_its_last_expression(text: str, value: bool) -> None:
    block = body(text)
    assert (block.result is not None) is value
    assert len(block.statements) == (0 if value else 1)


@pytest.mark.parametrize(
    ("text", "value", "duration"),
    [
        ("0", 0, False),
        ("00", 0, False),
        ("017", 15, False),
        ("0_17", 15, False),
        ("0xdead_BEEF", 0xDEADBEEF, False),
        ("1_0e1_0", 10 * 10**10, False),
        ("1e19", 10**19, False),
        ("2E2ul", 200, False),
        ("9ULL", 9, False),
        ("5m", 300 * 10**9, True),
        ("2d", 172800 * 10**9, True),
        ("1e3ms", 10**9, True),
        ("0s", 0, True),
        ("18446744073709551615", 2**64 - 1, False),
    ],
)
def test_integer_literals_have_a_value(text: str, value: int, duration: bool) -> None:
    assert parse_integer(text) == (value, duration)


@pytest.mark.parametrize("text", ["0x", "0xg", "1_", "1__", "08", "1x", "1e", "1e_", "2e19", "1lll", "5MS", "9" * 5000])
def test_integer_literals_without_a_value_are_refused(text: str) -> None:
    with pytest.raises(BadLiteralError):
        parse_integer(text)


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("abc", b"abc"),
        (r"\n\t\r\"\\", b'\n\t\r"\\'),
        (r"\0\012\377", b"\0\n\xff"),
        (r"\x4\xfFf\X41", b"\x04\xfffA"),
        (r"\1234", b"S4"),
        ("é€😀", "é€😀".encode()),
        ("\udcff", b"\xff"),
    ],
)
def test_string_literals_are_bytes(text: str, value: bytes) -> None:
    assert parse_string(text).encode("latin-1") == value


def test_paths_and_config_values_are_text() -> None:
    tree = script('config = { str_trunc_trailer = "…" } import "é.bt"; BEGIN { import "ü"; }')
    assert tree.config is not None
    assert tree.config.entries[0].value == "…"
    assert tree.imports[0].path == "é.bt"
    statement = tree.probes[0].body.statements[0]
    assert isinstance(statement, ast.ImportStatement)
    assert statement.path == "ü"


def test_config_values_keep_their_type() -> None:
    config = script('config = { A = 1; b = true; BPFTRACE_C = false; d = warn; e = "1" } BEGIN { }').config
    assert config is not None
    values = {entry.key: entry.value for entry in config.entries}
    assert values == {"a": 1, "b": True, "c": False, "d": "warn", "e": "1"}
    assert values["b"] is True


def test_all_mistakes_are_found_the_first_one_first() -> None:
    text = "BEGIN { $x = ; { } } END { f(1 } kprobe:$a { } interval:s:1 { 5q; $y = 1 ? 2; }"
    assert errors(text) == [
        (Code.SYNTAX, ";", "expected an expression, found ';'"),
        (Code.SYNTAX, "}", "expected ')', found '}'"),
        (Code.BAD_ATTACH_POINT, "$a", "invalid trailing character for positional param"),
        (Code.BAD_LITERAL, "q", "invalid integer suffix 'q'"),
        (Code.SYNTAX, ";", "expected ':', found ';'"),
    ]


def test_an_unclosed_block_names_its_brace() -> None:
    with pytest.raises(CompileError) as caught:
        script("BEGIN {\n  while (1) {\n  f();\n")
    (diagnostic,) = caught.value.diagnostics
    assert diagnostic.message == "expected '}'"
    (note,) = diagnostic.notes
    assert note.span.location().line == 2


def test_a_missing_brace_does_not_swallow_the_next_probe() -> None:
    text = "BEGIN {\n f();\n\nkprobe:g {\n $x = ;\n}\nEND { 1q }\n"
    assert [message for _, _, message in errors(text)] == [
        "expected '}'",
        "expected an expression, found ';'",
        "invalid integer suffix 'q'",
    ]


@pytest.mark.parametrize(
    "text",
    [
        "(" * 5000,
        "-" * 5000,
        "!" * 5000 + "1",
        "{" * 5000,
        "if (1) {" * 5000,
        "f(" * 5000,
        "@[" * 5000,
        "1 ? " * 5000,
        "1 ? 2 : " * 5000,
        "(a = " * 5000,
        "(uint8)" * 5000,
        "comptime " * 5000,
        "sizeof(" * 5000,
        "typeof(" * 5000,
        "(typeof(" * 5000,
        "1" + " + 1" * 5000,
        "$x" + ".y" * 5000,
        "$x" + "[1]" * 5000,
        "if (1) { } " + "else if (1) { } " * 5000,
        "(int " + "*" * 5000 + ")1",
        "let $x : int" + "[1]" * 5000,
        "1||1&&1|1^1&1==1<1<<1+1*(" * 500,
        "&" * 5000,
        "for $i : " * 5000,
        "while { " * 5000,
    ],
    ids=lambda text: text[:12],
)
def test_what_is_too_deep_is_a_mistake_and_no_crash(text: str) -> None:
    with pytest.raises(CompileError):
        body(text)


def test_as_much_as_people_write_is_not_too_deep() -> None:
    nested = "(" * 60 + "1" + ")" * 60
    long = " || ".join(["$x == 1"] * 150)
    chain = " else ".join(["if ($x) { f(); }"] * 150)
    assert len(body(f"$a = {nested}; $b = {long}; {chain}").statements) == 3


def test_a_byte_order_mark_and_carriage_returns_are_skipped() -> None:
    tree = script("\ufeff#!/usr/bin/invivo\r\nBEGIN\r\n{ f();\r\n}\r\n")
    assert tree.probes[0].attach_points[0].provider == "BEGIN"


@pytest.mark.parametrize("word", ["pid", "args", "arg0", "sarg3", "__builtin_cpu", "kstack"])
def test_builtin_words_are_no_types(word: str) -> None:
    binary = expression(f"({word}) * 2")
    assert isinstance(binary, ast.Binary)


@pytest.mark.parametrize("word", ["argument", "arg", "args_t", "foo", "uint64_t"])
def test_other_words_are(word: str) -> None:
    cast = expression(f"({word}) * $x")
    assert isinstance(cast, ast.Cast)


def test_a_constant_is_one_expression() -> None:
    source = SourceFile("script.bt", "#define A (1 + B) // c\n#define C 1 2")
    value = parse_constant(source, 10, 17)
    assert isinstance(value, ast.Binary)
    assert value.span.text == "1 + B"
    assert parse_constant(source, 33, 36) is None
    assert parse_constant(source, 8, 8) is None
