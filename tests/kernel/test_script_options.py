"""Options of the script's own: getopt() and what stands behind --."""

from __future__ import annotations

import pytest

from invivo.cli import bpftrace, main

PROGRAM = """BEGIN {
    printf("%d %s %s\\n", getopt("aa", 10, "Number of things"), getopt("name", "def", "A name"), getopt("flag"));
    if (getopt("flag")) { printf("on\\n"); }
    printf("%s %d\\n", str($1), $#);
}"""


@pytest.mark.parametrize(
    ("words", "shown"),
    [
        pytest.param([], "10 def false\n 0\n", id="defaults"),
        pytest.param(["--aa=7"], "7 def false\n 0\n", id="number"),
        pytest.param(["--aa=0x1F"], "31 def false\n 0\n", id="hexadecimal"),
        pytest.param(["--flag", "hello"], "10 def true\non\nhello 1\n", id="flag and a positional parameter"),
        pytest.param(["--flag=False", "--name=a b"], "10 a b false\n 0\n", id="flag with a value, and a text"),
        pytest.param(["--flag=1"], "10 def true\non\n 0\n", id="flag as a number"),
    ],
)
def test_values(words: list[str], shown: str, capfd: pytest.CaptureFixture[str]) -> None:
    assert bpftrace.run_words(["-q", "-e", PROGRAM, "--", *words]) == 0
    assert capfd.readouterr().out.rstrip("\n") == shown.rstrip("\n")
    assert main.run_words(["run", "-q", "-e", PROGRAM, "--", *words]) == 0
    assert capfd.readouterr().out == shown


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--aa=False"], "ERROR: program command line option --aa invalid integer (value: False)"),
        (["--aa"], "ERROR: program command line option --aa expects an integer (value: true)"),
        (["--flag=maybe"], "ERROR: program command line option --flag expects a boolean (value: maybe)"),
        (
            ["--bb"],
            "ERROR: unexpected program command line options: --bb\nHINT: expected program options: --aa",
        ),
        (["--help"], "HINT: expected program options:\n--aa: Number of things\n--flag: \n--name: A name\n"),
    ],
)
def test_mistakes(words: list[str], said: str, capfd: pytest.CaptureFixture[str]) -> None:
    assert bpftrace.run_words(["-q", "-e", PROGRAM, "--", *words]) == 1
    printed = capfd.readouterr()
    assert said in printed.err
    assert printed.out == ""


def test_one_default(capfd: pytest.CaptureFixture[str]) -> None:
    assert bpftrace.run_words(["-e", 'BEGIN { print(getopt("aa", 10)); print(getopt("aa", 11)); }']) == 1
    assert (
        "Command line option 'aa' needs to have the same default value in all places it is used. "
        "Previous default value: 10"
    ) in capfd.readouterr().err
