"""Every kind of mistake has a golden case."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from invivo.diagnostics import Code

_SHOWN = re.compile(r"^(?:[^ ]+: )?(?:error|warning)\[([a-z-]+)\]: ", re.MULTILINE)
_FOLDER = Path(__file__).parent
_FOUND = {code for path in _FOLDER.glob("*/*.test") for code in _SHOWN.findall(path.read_text(encoding="utf-8"))}


@pytest.mark.parametrize("code", [*Code], ids=[code.value for code in Code])
def test_a_golden_case_shows_it(code: Code) -> None:
    assert code.value in _FOUND


def test_no_case_shows_what_is_no_code() -> None:
    assert {code.value for code in Code} >= _FOUND
