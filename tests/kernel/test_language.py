"""The language on a real kernel: every case is compiled, loaded, run, and its output compared."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from case_files import Case, read_cases
from running import run, run_bpftrace

_FOLDER = Path(__file__).parent / "language"
_CASES = [(path.stem, case) for path in sorted(_FOLDER.glob("*.test")) for case in read_cases(path)]


@pytest.mark.parametrize("case", [case for _, case in _CASES], ids=[f"{stem}: {c.sentence}" for stem, c in _CASES])
def test_language(case: Case) -> None:
    """``output`` (or ``matches``, a pattern) and ``errors`` are what `invivo run` says.

    ``bpftrace`` (or ``bpftrace-matches``) and ``bpftrace-errors`` are what `invivo-bpftrace` says on stdout and
    stderr, without the empty lines at the end; errors only need to begin so.
    """
    parameters = tuple(case.sections.get("parameters", "").split())
    theirs = case.sections.keys() & {"bpftrace", "bpftrace-matches", "bpftrace-errors"}
    assert theirs or case.sections.keys() & {"output", "matches", "errors"}
    if theirs:
        result = run_bpftrace(case.program, parameters=parameters)
        if "bpftrace-matches" in theirs:
            assert re.fullmatch(case.sections["bpftrace-matches"].rstrip("\n"), result.text.rstrip("\n"))
        else:
            assert result.text.rstrip("\n") == case.sections.get("bpftrace", "").rstrip("\n"), result.errors
        _compare_errors(result.errors, case.sections.get("bpftrace-errors"))
    if not case.sections.keys() & {"output", "matches", "errors"}:
        return
    result = run(case.program, parameters=parameters)
    if "matches" in case.sections:
        assert re.fullmatch(case.sections["matches"].rstrip("\n"), result.text.rstrip("\n"))
    else:
        assert result.text.rstrip("\n") == case.sections["output"].rstrip("\n")
    _compare_errors(result.errors, case.sections.get("errors"))


def _compare_errors(said: str, expected: str | None) -> None:
    assert said.startswith((expected or "").rstrip("\n")), said
    assert bool(said) == (expected is not None), said


def test_the_cases_are_found() -> None:
    assert {"declarations", "expressions", "loops", "maps", "printing"} <= {stem for stem, _ in _CASES}
