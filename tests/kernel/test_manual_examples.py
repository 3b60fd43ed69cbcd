"""The manual's examples of every builtin run on a real kernel and give what the manual shows."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import pytest
from _pytest.mark.structures import ParameterSet

from case_files import Case, read_cases
from invivo.library import library
from running import run

_CASES = read_cases(Path(__file__).parents[2] / "docs" / "language" / "examples.test")
# Not records of the library: the checker itself knows their names.
_BESIDES = ["args", "argN"]


def _marked(case: Case) -> ParameterSet:
    needed = case.sections.get("requires", "").split()
    return pytest.param(case, id=case.sentence, marks=[pytest.mark.requires(*needed)] if needed else [])


@pytest.mark.parametrize("case", [_marked(case) for case in _CASES])
def test_example(case: Case, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)  # where an example may write a file
    command = shlex.split(case.sections.get("command", "")) or None
    unsafe = "unsafe" in case.sections.get("options", "")
    result = run(case.program, command=command, unsafe=unsafe)
    if "matches" in case.sections:
        assert re.fullmatch(case.sections["matches"].strip("\n"), result.text.strip("\n"))
    else:
        assert result.text.strip("\n") == case.sections.get("output", "").strip("\n")
    assert result.errors.startswith(case.sections.get("errors", "").rstrip("\n"))
    assert bool(result.errors) == ("errors" in case.sections), result.errors


def test_every_builtin_has_one() -> None:
    assert sorted(case.sentence for case in _CASES) == sorted([*_BESIDES, *(builtin.name for builtin in library())])
