"""The language on a real kernel: every case is compiled, loaded, run, and its output compared."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from case_files import Case, read_cases
from running import run

_FOLDER = Path(__file__).parent / "language"
_CASES = [(path.stem, case) for path in sorted(_FOLDER.glob("*.test")) for case in read_cases(path)]


@pytest.mark.parametrize("case", [case for _, case in _CASES], ids=[f"{stem}: {c.sentence}" for stem, c in _CASES])
def test_language(case: Case) -> None:
    parameters = tuple(case.sections.get("parameters", "").split())
    result = run(case.program, parameters=parameters)
    if "matches" in case.sections:
        assert re.fullmatch(case.sections["matches"].rstrip("\n"), result.text.rstrip("\n"))
    else:
        assert result.text.rstrip("\n") == case.sections["output"].rstrip("\n")
    assert result.errors.startswith(case.sections["errors"].rstrip("\n") if "errors" in case.sections else "")
    assert bool(result.errors) == ("errors" in case.sections), result.errors


def test_the_cases_are_found() -> None:
    assert {stem for stem, _ in _CASES} == {"declarations", "expressions", "loops", "maps", "printing"}
