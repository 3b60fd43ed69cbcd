"""What the command lines of ``run`` and ``invivo-bpftrace`` ask for."""

from __future__ import annotations

from pathlib import Path

import pytest

from invivo.cli import run
from invivo.cli.options import UsageError, parse
from invivo.cli.sources import open_output, read_source
from invivo.cli.tracing import Request
from invivo.errors import InvivoError
from invivo.target import Scope


def understood(*words: str) -> Request:
    return run.understand(parse(run.OPTIONS, words))


@pytest.mark.parametrize(
    ("words", "scope"),
    [
        ([], Scope.ALL),
        (["-c", "ls"], Scope.TREE),
        (["-p", "1"], Scope.PROCESS),
        (["-p", "1", "--follow"], Scope.TREE),
        (["-c", "ls", "--all-processes"], Scope.ALL),
        (["-p", "1", "--all-processes"], Scope.ALL),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_scope(words: list[str], scope: Scope) -> None:
    assert understood("-e", "BEGIN { }", *words).scope is scope


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("ls -l /", ("ls", "-l", "/")),
        ("sh -c 'echo $HOME; ls *'", ("sh", "-c", "echo $HOME; ls *")),
        ('find . -name "*.py"', ("find", ".", "-name", "*.py")),
        ("a\\ b", ("a b",)),
    ],
)
def test_a_command_is_split_without_expansions(text: str, words: tuple[str, ...]) -> None:
    assert understood("-e", "BEGIN { }", "-c", text).command == words


@pytest.mark.parametrize("text", ["", "  ", "'open", '"open'])
def test_bad_commands(text: str) -> None:
    with pytest.raises(UsageError):
        understood("-e", "BEGIN { }", "-c", text)


def test_parameters_of_a_program() -> None:
    request = understood("-e", "BEGIN { }", "a", "-q", "b", "--", "--name=1")
    assert (request.parameters, request.quiet) == (("a", "b", "--name=1"), True)
    assert (request.source.name, request.source.text) == ("-e", "BEGIN { }")


def test_parameters_of_a_script(tmp_path: Path) -> None:
    script = tmp_path / "x.bt"
    script.write_bytes(b"\xef\xbb\xbfBEGIN { } // \xff")
    request = understood(str(script), "a")
    assert request.parameters == ("a",)
    assert request.source.text == "BEGIN { } // \udcff"


def test_a_program_given_as_a_file_name_is_recognised() -> None:
    with pytest.raises(InvivoError) as caught:
        read_source("BEGIN { exit(); }")
    assert caught.value.hint == "-e takes a program from the command line"


def test_results_do_not_follow_links_where_all_may_write(tmp_path: Path) -> None:
    shared = tmp_path / "shared"
    shared.mkdir()
    shared.chmod(0o1777)
    precious = tmp_path / "precious"
    precious.write_text("precious")
    (shared / "link").symlink_to(precious)
    with pytest.raises(InvivoError, match="cannot write"):
        open_output(str(shared / "link"))
    assert precious.read_text() == "precious"


def test_a_link_of_ones_own_is_followed(tmp_path: Path) -> None:
    target = tmp_path / "target"
    target.write_text("old")
    (tmp_path / "link").symlink_to(target)
    with open(open_output(str(tmp_path / "link")), "w", encoding="ascii") as stream:
        stream.write("new")
    assert target.read_text() == "new"
