"""The text of attach points: where they end, their parts, quotes and parameters."""

from __future__ import annotations

import pytest

from invivo.lang.bt.attach_points import AttachPointError, split_attach_point
from invivo.lang.bt.c_statements import definition_end
from invivo.lang.bt.config import canonical_key


@pytest.mark.parametrize(
    ("text", "end", "parts"),
    [
        ("BEGIN{", 5, ("BEGIN",)),
        ("BEGIN/1/{", 5, ("BEGIN",)),
        ("uprobe:/bin/ls:main /1/", 19, ("uprobe", "/bin/ls", "main")),
        ("kprobe:f,kprobe:g", 8, ("kprobe", "f")),
        ("kprobe:f\t{", 8, ("kprobe", "f")),
        ("kprobe:", 7, ("kprobe", "")),
        ("uprobe::f ", 9, ("uprobe", "", "f")),
        ('usdt:"/a b:c":d {', 15, ("usdt", "/a b:c", "d")),
        ('u:/a:cpp:"f(int, char)"{', 23, ("u", "/a", "cpp", "f(int, char)")),
        (r'u:"a\"b\\c\d":e', 15, ("u", r"a\"b\c\d".replace("\\" + '"', '"'), "e")),
        ('u:a"b c"d', 9, ("u", "ab cd")),
        ("kprobe:f+0x10 {", 13, ("kprobe", "f+0x10")),
        ("u:/\udcff\u00e9:f", 7, ("u", "/\udcff\u00e9", "f")),
        ("*:*fo?[a-z]}", 12, ("*", "*fo?[a-z]}")),
    ],
)
def test_an_attach_point_ends_and_has_parts(text: str, end: int, parts: tuple[str, ...]) -> None:
    point = split_attach_point(text, 0, ())
    assert (point.end, point.parts) == (end, parts)


def test_parameters_are_inserted_whole() -> None:
    point = split_attach_point('u:$1:a$2b$2:"$1":$3$10{', 0, ("x:y {", "-"))
    assert point.parts == ("u", "x:y {", "a-b-", "$1", "")
    assert point.expanded == 'u:x:y {:a-b-:"$1":'


def test_a_label_is_no_part() -> None:
    point = split_attach_point("a b=u:c=d:e ", 2, ())
    assert (point.label, point.parts, point.expanded) == ("b", ("u", "c=d", "e"), "u:c=d:e")
    assert split_attach_point("1=u:x", 0, ()).label == ""


@pytest.mark.parametrize(
    ("text", "start", "end", "message"),
    [
        ("u:$x", 2, 4, "invalid trailing character for positional param"),
        ("u:$", 2, 3, "invalid trailing character for positional param"),
        ("u:$#", 2, 4, "invalid trailing character for positional param"),
        ("u:$0", 2, 4, "param $0 is out of integer range [1, 9223372036854775807]"),
        ("u:$99999999999999999999:x", 2, 23, "param $99999999999999999999 is out of integer range"),
        ('u:"x\ny"', 2, 4, "unterminated string"),
        ("u:a\x1bb", 3, 4, "unexpected character 'U+001B'"),
        ("\ufeffu:a", 0, 1, "unexpected character 'U+FEFF'"),
        ("a= ", 0, 2, "expected a probe after its name"),
    ],
)
def test_what_cannot_be_read_is_said_where(text: str, start: int, end: int, message: str) -> None:
    with pytest.raises(AttachPointError) as caught:
        split_attach_point(text, 0, ())
    assert (caught.value.start, caught.value.end) == (start, end)
    assert caught.value.message.startswith(message)


@pytest.mark.parametrize(
    ("text", "rest"),
    [
        ("struct x { int y; }; BEGIN", " BEGIN"),
        ("struct x { struct { int y; } z; } BEGIN", " BEGIN"),
        ("struct x /* { ; */ { // }\n int y; } ; BEGIN", " BEGIN"),
        ("struct x;BEGIN", "BEGIN"),
        ("struct x { int y; } __attribute__((packed)) __attribute__ ((aligned(8))); BEGIN", " BEGIN"),
        ("enum x { A = 1 }\nBEGIN { }", "\nBEGIN { }"),
    ],
)
def test_a_definition_ends_after_its_brace_its_attributes_and_its_semicolon(text: str, rest: str) -> None:
    end = definition_end(text, 0)
    assert end is not None
    assert text[end:] == rest


@pytest.mark.parametrize(
    "text", ["struct x { int y;", "struct x", "struct x { /* } */", "struct x { } __attribute__((a)"]
)
def test_a_definition_may_have_no_end(text: str) -> None:
    assert definition_end(text, 0) is None


def test_keys_have_one_spelling() -> None:
    assert {canonical_key(key) for key in ("max_strlen", "MAX_STRLEN", "BPFTRACE_MAX_STRLEN")} == {"max_strlen"}
