"""``invivo flame``: files in, pictures and texts out; what it says of files that are not what they say."""

from __future__ import annotations

import io
import re
from pathlib import Path

import pytest

from invivo.cli.main import run_words

_OLD = "sh;main;often 60\nsh;main;seldom 20\n"
_NEW = "sh;main;often 30\nsh;main;never 10\n"
_SCRIPT = "prog 7 [000] 1.5: 10101010 cpu-clock:\n\t401136 work+0x10 (/bin/prog)\n\t401150 main+0x20 (/bin/prog)\n\n"


@pytest.fixture
def files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    (tmp_path / "old.folded").write_text(_OLD)
    (tmp_path / "new.folded").write_text(_NEW)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def _titles(path: Path) -> dict[str, str]:
    """What each box of a picture says, by its function's name."""
    found = re.findall(r"<g[^>]*><title>(.*?) \(([^()]*)\)</title>", path.read_text())
    return dict(found)


def test_several_files_are_added_up(files: Path, capfd: pytest.CaptureFixture[str]) -> None:
    assert run_words(["flame", "old.folded", "new.folded", "-o", "sum.folded"]) == 0
    assert (files / "sum.folded").read_text() == "sh;main;never 10\nsh;main;often 90\nsh;main;seldom 20\n"
    assert capfd.readouterr().err == "120 samples, 0 events lost\n"


def test_the_ending_or_the_format_says_what_is_written(files: Path, capfd: pytest.CaptureFixture[str]) -> None:
    assert run_words(["flame", "old.folded", "-o", "x.json"]) == 0
    assert run_words(["flame", "x.json", "-f", "svg", "-o", "x.picture"]) == 0
    assert _titles(files / "x.picture")["often"] == "60 samples, 75.00%"
    capfd.readouterr()
    assert run_words(["flame", "x.json"]) == 0
    assert "  75.0%   75.0%  often\n" in capfd.readouterr().out
    assert run_words(["flame", "x.json", "-f", "folded"]) == 0
    assert capfd.readouterr().out == _OLD


def test_standard_input_may_be_what_perf_script_prints(
    files: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(_SCRIPT.encode())))
    assert run_words(["flame", "-", "-f", "folded"]) == 0
    assert re.fullmatch(r"prog;main;work \d+\n", capfd.readouterr().out)


def test_a_comparison_has_the_widths_of_the_new_file(files: Path) -> None:
    assert run_words(["flame", "--diff", "old.folded", "new.folded", "-o", "d.svg"]) == 0
    assert _titles(files / "d.svg") == {
        "all": "40 samples, 100.00%; -100.00%",
        "sh": "40 samples, 100.00%; -100.00%",
        "main": "40 samples, 100.00%; -100.00%",
        "often": "30 samples, 75.00%; -75.00%",
        "never": "10 samples, 25.00%; +25.00%",
    }


def test_a_comparison_may_show_what_has_vanished(files: Path) -> None:
    assert run_words(["flame", "--diff", "--negate", "old.folded", "new.folded", "-o", "d.svg"]) == 0
    assert set(_titles(files / "d.svg")) == {"all", "sh", "main", "often", "seldom"}
    assert _titles(files / "d.svg")["seldom"].startswith("20 samples, 25.00%; ")


def test_a_comparison_may_be_of_shares(files: Path) -> None:
    assert run_words(["flame", "--diff", "--normalize", "old.folded", "new.folded", "-o", "d.svg"]) == 0
    assert _titles(files / "d.svg")["often"] == "30 samples, 75.00%; +0.00%"
    assert _titles(files / "d.svg")["all"] == "40 samples, 100.00%; +0.00%"


@pytest.mark.parametrize(
    ("words", "status", "message"),
    [
        (["flame"], 2, "no file"),
        (["flame", "nowhere"], 1, "cannot read 'nowhere': No such file or directory"),
        (["flame", "."], 1, "cannot read '.': Is a directory"),
        (["flame", "--diff", "old.folded"], 2, "--diff compares two files, found 1"),
        (["flame", "--normalize", "old.folded"], 2, "--normalize goes with --diff"),
        (["flame", "--diff", "old.folded", "new.folded"], 2, "text cannot compare two profiles"),
        (["flame", "old.folded", "-o", "x.png"], 2, "what is 'x.png' to be?"),
        (["flame", "old.folded", "-o", "x.svg", "--width", "wide"], 2, "--width is a number of pixels"),
        (["flame", "old.folded", "-o", "x.svg", "--colors", "plaid"], 2, "plaid"),
    ],
)
def test_mistakes(files: Path, words: list[str], status: int, message: str, capfd: pytest.CaptureFixture[str]) -> None:
    assert run_words(words) == status
    printed = capfd.readouterr()
    assert message in printed.err and printed.out == "" and not list(files.glob("x.*"))


@pytest.mark.parametrize(
    ("data", "offset", "reason"),
    [
        (b"", 0, "has no stacks in it"),
        (b"\x7fELF\x02\x01\x01" + bytes(50), 0, "is none of folded stacks"),
        (b"sh;a 5\nsh;b x\nsh;c 2\n", 7, "no folded stack, which ends with its weight: 'sh;b x'"),
        (b"sh;a 5\nsh;b -1\n", 7, "no folded stack"),
        (b"sh;a 5\nsh;b nan\n", 7, "no folded stack"),
        (b'{"type": "profile", "stacks": [[0,', 34, "no JSON"),
        (b"PERFILE2" + bytes(24), 8, "ends"),
        (b"# a comment\n\n", 0, "has no stacks in it"),
    ],
)  # fmt: skip
def test_a_file_that_is_not_what_it_says_is_told_with_the_place(
    files: Path, data: bytes, offset: int, reason: str, capfd: pytest.CaptureFixture[str]
) -> None:
    (files / "given").write_bytes(data)
    assert run_words(["flame", "given", "-o", "x.svg"]) == 1
    told = capfd.readouterr().err
    assert told.startswith(f"invivo flame: given: {reason}") and f"(at offset {offset})" in told
    assert told.count("\n") == 1 and not (files / "x.svg").exists()
