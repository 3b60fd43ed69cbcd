"""How diagnostics are shown, in invivo's form and in bpftrace's."""

from __future__ import annotations

from invivo.diagnostics import Code, Diagnostic, Note, Severity, SourceFile, Span
from invivo.rendering import format_bpftrace, format_diagnostic

SOURCE = SourceFile("script.bt", "kprobe:vfs_read { nsec(); }\n\tline two\nthree\n")


def at(marked: str, source: SourceFile = SOURCE) -> Span:
    start = source.text.index(marked)
    return Span(source, start, start + len(marked))


def test_our_form() -> None:
    diagnostic = Diagnostic(
        Code.UNKNOWN_FUNCTION, at("nsec()"), "unknown function nsec()", "did you mean nsecs?", Severity.ERROR
    )
    assert format_diagnostic(diagnostic) == (
        "script.bt:1:19: error[unknown-function]: unknown function nsec()\n"
        "    kprobe:vfs_read { nsec(); }\n"
        "                      ^^^^^^\n"
        "  hint: did you mean nsecs?"
    )


def test_bpftrace_form() -> None:
    diagnostic = Diagnostic(Code.UNKNOWN_FUNCTION, at("nsec()"), "message", "hint text")
    assert format_bpftrace(diagnostic) == (
        "script.bt:1:19-25: ERROR: message\nkprobe:vfs_read { nsec(); }\n                  ~~~~~~\nHINT: hint text"
    )


def test_bpftrace_names_its_parser_before_messages_about_syntax() -> None:
    assert "ERROR: syntax: expected ';'\n" in format_bpftrace(Diagnostic(Code.SYNTAX, at("line"), "expected ';'"))


def test_warnings() -> None:
    diagnostic = Diagnostic(Code.DISCARDED, at("three"), "return value discarded", None, Severity.WARNING)
    assert format_diagnostic(diagnostic).startswith("script.bt:3:1: warning[discarded]: return value discarded\n")
    assert format_bpftrace(diagnostic) == "script.bt:3:1-6: WARNING: return value discarded\nthree\n~~~~~"


def test_without_a_place() -> None:
    diagnostic = Diagnostic(Code.LIMIT, None, "too large", "make it smaller")
    assert format_diagnostic(diagnostic) == "error[limit]: too large\n  hint: make it smaller"
    assert format_bpftrace(diagnostic) == "ERROR: too large\nHINT: make it smaller"


def test_tabs_are_four_spaces() -> None:
    assert format_diagnostic(Diagnostic(Code.SYNTAX, at("two"), "m")).splitlines()[1:] == [
        "        line two",
        "             ^^^",
    ]
    assert format_bpftrace(Diagnostic(Code.SYNTAX, at("two"), "m")).splitlines() == [
        "script.bt:2:7-10: ERROR: syntax: m",
        "    line two",
        "         ~~~",
    ]


def test_several_lines() -> None:
    span = at("nsec(); }\n\tline two\nth")
    assert format_diagnostic(Diagnostic(Code.LIMIT, span, "m")).splitlines()[1:] == [
        "    kprobe:vfs_read { nsec(); }",
        "                      ^^^^^^^^^",
    ]
    assert format_bpftrace(Diagnostic(Code.LIMIT, span, "m")).splitlines() == [
        "script.bt:1-3: ERROR: m",
        "kprobe:vfs_read { nsec(); }",
        "    line two",
        "three",
    ]


def test_an_empty_span_has_one_caret() -> None:
    end = len(SOURCE.text)
    for position, column in ((27, 28), (end, 1), (end - 1, 6)):
        text = format_diagnostic(Diagnostic(Code.SYNTAX, Span(SOURCE, position, position), "m"))
        assert text.splitlines()[0].split(":")[2] == str(column)
        assert text.splitlines()[2] == "    " + " " * (column - 1) + "^"


def test_notes_show_their_place() -> None:
    diagnostic = Diagnostic(Code.SYNTAX, at("three"), "m", "h", notes=(Note(at("{"), "opened here"),))
    assert format_diagnostic(diagnostic).splitlines()[3:] == [
        "  script.bt:1:17: note: opened here",
        "    kprobe:vfs_read { nsec(); }",
        "                    ^",
        "  hint: h",
    ]
    assert format_bpftrace(diagnostic).splitlines()[3:] == [
        "script.bt:1:17-18: ERROR: opened here",
        "kprobe:vfs_read { nsec(); }",
        "                ~",
        "HINT: h",
    ]


def test_nothing_of_the_script_reaches_the_terminal_raw() -> None:
    source = SourceFile("a\x1b.bt", 'BEGIN { "\x1b[31m\x85\u202e" }')
    diagnostic = Diagnostic(Code.SYNTAX, Span(source, 8, 17), "found '\x1b[31m'", "not \x07 this")
    for text in (format_diagnostic(diagnostic), format_bpftrace(diagnostic)):
        assert all(line.isprintable() for line in text.splitlines())
    assert format_diagnostic(diagnostic).splitlines()[:3] == [
        "a\\x1b.bt:1:9: error[syntax]: found '\\x1b[31m'",
        '    BEGIN { "\\x1b[31m\\x85\\u202e" }',
        "            " + "^" * 20,
    ]


def test_wide_characters_take_two_columns() -> None:
    source = SourceFile("a", "日本 x")
    assert format_diagnostic(Diagnostic(Code.SYNTAX, Span(source, 3, 4), "m")).splitlines()[2] == "         ^"


def test_a_long_line_is_cut_around_the_place() -> None:
    source = SourceFile("a", "x" * 500 + "HERE" + "y" * 500)
    _, line, carets = format_diagnostic(Diagnostic(Code.SYNTAX, at("HERE", source), "m")).splitlines()
    assert len(line) <= 170
    assert line[carets.index("^") : carets.rindex("^") + 1] == "HERE"
    assert line[4] == "…" == line[-1]
