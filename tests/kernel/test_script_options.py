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
    assert bpftrace.run_words(["-q", "--no-warnings", "-e", PROGRAM, "--", *words]) == 0
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


def test_a_missing_parameter_is_told_on_stdout(capfd: pytest.CaptureFixture[str]) -> None:
    assert bpftrace.run_words(["-q", "-e", "BEGIN { print($2); }", "7"]) == 0
    assert capfd.readouterr().out.splitlines() == [
        "stdin:1:15-17: WARNING: Positional parameter $2 is empty or not provided. ",
        "BEGIN { print($2); }",
        "              ~~",
        "0",
        "",
        "",
    ]


def test_who_waits_for_the_probes_is_told(capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("__BPFTRACE_NOTIFY_PROBES_ATTACHED", "1")
    assert bpftrace.run_words(["-q", "-e", 'BEGIN { printf("a\\n"); }']) == 0
    assert capfd.readouterr().out.startswith("__BPFTRACE_NOTIFY_PROBES_ATTACHED\na\n")


def test_a_tracepoint_that_is_not_there_in_both_faces(capfd: pytest.CaptureFixture[str]) -> None:
    assert bpftrace.run_words(["-e", "tracepoint:sched:nope { }"]) == 1
    assert "stdin:1:1-22: ERROR: Probe does not exist: tracepoint:sched:nope\n" in capfd.readouterr().err
    assert main.run_words(["run", "-e", "tracepoint:sched:nope { }"]) == 1
    assert "tracepoint:sched:nope cannot be probed on this kernel: no such tracepoint\n" in capfd.readouterr().err


def test_errors_come_before_warnings(capfd: pytest.CaptureFixture[str]) -> None:
    assert bpftrace.run_words(["-e", "BEGIN { $a = (int32)1; print(7 / $a); print(nosuch); }"]) == 1
    said = [line.split(": ")[1] for line in capfd.readouterr().err.splitlines() if line.startswith("stdin:")]
    assert said == ["ERROR", "WARNING"]


def test_an_output_file_that_cannot_be_opened(capfd: pytest.CaptureFixture[str]) -> None:
    assert bpftrace.run_words(["-o", "/nonexistent/file", "-e", "BEGIN { }"]) == 1
    said = 'ERROR: Failed to open output file: "/nonexistent/file": No such file or directory\n'
    assert capfd.readouterr().err == said
