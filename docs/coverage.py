"""Writes docs/language/coverage.md: for each row of the language, the tests that prove it.

    python docs/coverage.py          writes the page
    python docs/coverage.py --check  names rows without a test and patterns that no test matches (exit status 1)

The rows stand in docs/language/coverage.rows: a section after ``==``, a row on a line, and indented below it patterns
(those of `fnmatch`, case counts) of the tests. A test is known by its file and its sentence or function:
``kernel/language/maps: a deleted element is gone``, ``kernel/test_cli.py: test_version``. The examples of the manual,
which a test runs, are known as ``manual: pid``.
"""

from __future__ import annotations

import ast
import sys
from collections.abc import Iterator
from fnmatch import fnmatchcase
from pathlib import Path
from typing import NamedTuple

_DOCS = Path(__file__).parent
_TESTS = _DOCS.parent / "tests"
ROWS = _DOCS / "language" / "coverage.rows"
PAGE = _DOCS / "language" / "coverage.md"

_HEAD = """# What of the language is proven

<!-- Written by docs/coverage.py from coverage.rows. Do not edit. -->

Each row is something that the language has; the number is that of the tests that prove it, the names are where they
are: `tests/` is left out. Python functions are tests of pytest, sentences stand after `===` in files of cases.
"""


class Row(NamedTuple):
    section: str
    sentence: str
    patterns: list[str]


def read_rows(path: Path = ROWS) -> list[Row]:
    rows: list[Row] = []
    section = ""
    for line in path.read_text(encoding="utf-8").splitlines():
        if line.startswith("== "):
            section = line.removeprefix("== ")
        elif line.startswith("    "):
            rows[-1].patterns.append(line.strip())
        elif line and not line.startswith("#"):
            rows.append(Row(section, line, []))
    return rows


def all_tests() -> list[str]:
    """Return the names of all tests, in the order of their files."""
    found: list[str] = []
    for path in sorted(_TESTS.rglob("*.test")):
        name = path.relative_to(_TESTS).with_suffix("")
        found += [f"{name}: {line[4:].strip()}" for line in path.read_text().splitlines() if line.startswith("=== ")]
    examples = (_DOCS / "language" / "examples.test").read_text(encoding="utf-8")
    found += [f"manual: {line[4:].strip()}" for line in examples.splitlines() if line.startswith("=== ")]
    for path in sorted(_TESTS.rglob("test_*.py")):
        functions = (node for node in ast.parse(path.read_text()).body if isinstance(node, ast.FunctionDef))
        name = path.relative_to(_TESTS)
        found += [f"{name}: {each.name}" for each in functions if each.name.startswith("test_")]
    return found


def mistakes(rows: list[Row], tests: list[str]) -> Iterator[str]:
    for row in rows:
        if not row.patterns:
            yield f"no test: {row.section}: {row.sentence}"
        for pattern in row.patterns:
            if not any(fnmatchcase(test, pattern) for test in tests):
                yield f"matches nothing: {pattern} ({row.section}: {row.sentence})"


def page(rows: list[Row], tests: list[str]) -> str:
    """Return the text of the page."""
    parts = [_HEAD]
    section = ""
    for row in rows:
        if row.section != section:
            section = row.section
            parts.append(f"\n## {section}\n\n| what | tests | where |\n|---|---|---|\n")
        proof = [test for test in tests if any(fnmatchcase(test, pattern) for pattern in row.patterns)]
        files = sorted({test.partition(": ")[0] for test in proof})
        where = ", ".join(f"`{file}`" for file in files) or "**nothing proves this**"
        parts.append(f"| {_cell(row.sentence)} | {len(proof)} | {where} |\n")
    return "".join(parts)


def _cell(text: str) -> str:
    return text.replace("|", "\\|").replace("<", "&lt;").replace("*", "\\*").replace("_", "\\_")


def main() -> int:
    rows, tests = read_rows(), all_tests()
    wrong = list(mistakes(rows, tests))
    if "--check" not in sys.argv[1:]:
        PAGE.write_text(page(rows, tests), encoding="utf-8")
    sys.stderr.writelines(f"{line}\n" for line in wrong)
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
