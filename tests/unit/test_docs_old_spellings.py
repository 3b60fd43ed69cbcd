"""The table of old spellings: each row is proven by a case."""

from __future__ import annotations

from pathlib import Path

import pytest

from case_files import read_cases

_ROOT = Path(__file__).parents[2]
_ROWS = [
    line.strip("|").rsplit("|", 1)[1].strip()
    for line in (_ROOT / "docs/language/old-spellings.md").read_text().splitlines()
    if line.startswith("| ") and not line.startswith("| old")
]
_CASES = [case.sentence for case in read_cases(_ROOT / "tests/kernel/language/old_spellings.test")]


@pytest.mark.parametrize("row", _ROWS)
def test_each_row_has_a_case(row: str) -> None:
    assert row in _CASES


def test_each_case_of_an_old_spelling_is_in_the_table() -> None:
    unlisted = set(_CASES) - set(_ROWS)
    assert unlisted <= {"probes side by side, each with a predicate"}
