"""Command lines: what is understood, and what is said about the rest."""

from __future__ import annotations

import pytest

from invivo.cli.options import Option, UsageError, format_options, parse, parse_pid

TABLE = (
    Option(("-c", "--cmd"), "CMD", "run a command"),
    Option(("-e",), "PROG", "program text"),
    Option(("-v", "--verbose"), help="say more"),
    Option(("-q", "--quiet"), help="say less", section="Output"),
    Option(("-f", "--format"), "FORMAT", "text or json\nand more", choices=("text", "json")),
    Option(("--include",), "FILE", "hidden", hidden=True),
    Option(("--include-dir",), "DIR", "a directory with a name"),
)


@pytest.mark.parametrize(
    ("words", "given", "positional", "after"),
    [
        pytest.param([], {}, [], [], id="nothing"),
        pytest.param(["-c", "ls /"], {"cmd": ["ls /"]}, [], [], id="short with separate value"),
        pytest.param(["-cls"], {"cmd": ["ls"]}, [], [], id="short with attached value"),
        pytest.param(["--cmd=ls -l"], {"cmd": ["ls -l"]}, [], [], id="long with ="),
        pytest.param(["--cmd="], {"cmd": [""]}, [], [], id="long with empty value"),
        pytest.param(["--cmd", "-q"], {"cmd": ["-q"]}, [], [], id="a value may look like an option"),
        pytest.param(["-vqcls"], {"verbose": [""], "quiet": [""], "cmd": ["ls"]}, [], [], id="combined"),
        pytest.param(["-vv"], {"verbose": ["", ""]}, [], [], id="given twice"),
        pytest.param(["a.bt", "-q", "x"], {"quiet": [""]}, ["a.bt", "x"], [], id="options after words"),
        pytest.param(["-"], {}, ["-"], [], id="a dash is a word"),
        pytest.param(["a", "--", "--x=1", "-q"], {}, ["a"], ["--x=1", "-q"], id="-- ends options"),
        pytest.param(["-e", "a", "-e", "b"], {"e": ["a", "b"]}, [], [], id="both values are kept"),
    ],
)
def test_parse(words: list[str], given: dict[str, list[str]], positional: list[str], after: list[str]) -> None:
    arguments = parse(TABLE, words)
    assert arguments.given == given
    assert arguments.words == positional
    assert arguments.after == after


def test_the_last_value_wins() -> None:
    assert parse(TABLE, ["-e", "a", "-e", "b"]).value("e") == "b"


@pytest.mark.parametrize(
    ("words", "message", "hint"),
    [
        (["--formt", "x"], "unknown option --formt", "did you mean --format?"),
        (["--zzzzzz"], "unknown option --zzzzzz", None),
        (["-x"], "unknown option -x", None),
        (["-qx"], "unknown option -x", None),
        (["-quiet"], "unknown option -u", None),
        (["-c"], "option -c needs a value: -c CMD", None),
        (["--cmd"], "option --cmd needs a value: --cmd CMD", None),
        (["--quiet=yes"], "option --quiet takes no value, found 'yes'", None),
        (["-f", "jsn"], "option -f is one of text, json, found 'jsn'", "did you mean -f json?"),
        (["--quie"], "unknown option --quie", "did you mean --quiet?"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else None,
)
def test_mistakes(words: list[str], message: str, hint: str | None) -> None:
    with pytest.raises(UsageError) as caught:
        parse(TABLE, words)
    assert (caught.value.message, caught.value.hint) == (message, hint)


def test_an_unknown_word_with_one_dash_may_have_meant_two() -> None:
    with pytest.raises(UsageError) as caught:
        parse((Option(("--dump",), "STAGE"),), ["-dump", "ir"])
    assert (caught.value.message, caught.value.hint) == ("unknown option -dump", "did you mean --dump?")


def test_abbreviations() -> None:
    assert parse(TABLE, ["--verb", "--fo=json"], abbreviations=True).given == {"verbose": [""], "format": ["json"]}
    assert parse(TABLE, ["--include", "x"], abbreviations=True).given == {"include": ["x"]}
    with pytest.raises(UsageError) as caught:
        parse(TABLE, ["--inc", "x"], abbreviations=True)
    assert caught.value.message == "option --inc is ambiguous: --include, --include-dir"


def test_help_lists_what_is_not_hidden() -> None:
    assert format_options(TABLE) == (
        "  -c, --cmd CMD           run a command\n"
        "  -e PROG                 program text\n"
        "  -v, --verbose           say more\n"
        "\n"
        "Output:\n"
        "  -q, --quiet             say less\n"
        "  -f, --format FORMAT     text or json\n"
        "                          and more\n"
        "  --include-dir DIR       a directory with a name"
    )


@pytest.mark.parametrize(("text", "pid"), [("1", 1), ("4194304", 4194304)])
def test_pid(text: str, pid: int) -> None:
    assert parse_pid(text) == pid


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "-p needs a process id, found ''"),
        ("x", "-p needs a process id, found 'x'"),
        ("-1", "-p needs a process id, found '-1'"),
        ("٣", "-p needs a process id, found '٣'"),
        ("0", "process id out of range: 0"),
        ("4194305", "process id out of range: 4194305"),
    ],
)
def test_bad_pid(text: str, message: str) -> None:
    with pytest.raises(UsageError) as caught:
        parse_pid(text)
    assert caught.value.message == message
