"""Every row of the language names tests that prove it, and every name is that of a test."""

from __future__ import annotations

import runpy
from pathlib import Path

_COVERAGE = runpy.run_path(str(Path(__file__).parents[2] / "docs" / "coverage.py"))


def test_every_row_of_the_language_is_proven() -> None:
    assert list(_COVERAGE["mistakes"](_COVERAGE["read_rows"](), _COVERAGE["all_tests"]())) == []
