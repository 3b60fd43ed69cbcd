"""What is proven on which kernel: reads matrix.rows, compares it with what ran, writes docs/support-matrix.md.

    cd tests && python -m guest.matrix

The rows say which tests prove a source or a feature (beginnings of their names, below tests/kernel), and which
kernels cannot have it and why. A run that differs from that fails, so the page is true of the last run that passed.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import NamedTuple

KERNELS = ("6.1", "6.12", "6.18")
HOST = KERNELS[-1]  # the development machine's; the others are guests

ROWS = Path(__file__).with_name("matrix.rows")
PAGE = Path(__file__).parents[2] / "docs/support-matrix.md"
_TESTS = "tests/kernel/"

_HEAD = """# What works on which kernel

<!-- Written by tests/guest/matrix.py from matrix.rows. Do not edit. -->

Columns are kernels: Debian's 6.1 and 6.12, emulated, and the development machine's own 6.18. "proven" is a test that
runs there; anything else is the reason why that kernel or machine cannot have it. `make test` compares both with what
ran and fails if they differ. The tests are in `tests/kernel/`; a name stands for all that begin so.
"""


class Row(NamedTuple):
    """``without``: the kernels that cannot have it, and why. ``tests``: beginnings of the names of tests."""

    section: str
    sentence: str
    without: dict[str, str]
    tests: list[str]


def read_rows(path: Path = ROWS) -> list[Row]:
    """Read ``== section``, a row on a line, and indented below it ``KERNELS: reason`` or tests."""
    rows: list[Row] = []
    section = ""
    for line in path.read_text(encoding="utf-8").splitlines():
        if line.startswith("== "):
            section = line.removeprefix("== ")
        elif line.startswith("    test_"):
            rows[-1].tests.append(line.strip())
        elif line.startswith("    "):
            kernels, _, reason = line.strip().partition(": ")
            rows[-1].without.update(dict.fromkeys(kernels.split(), reason))
        elif line and not line.startswith("#"):
            rows.append(Row(section, line, {}, []))
    return rows


def differences(rows: list[Row], kernel: str, outcomes: Mapping[str, str], *, complete: bool = True) -> Iterator[str]:
    """Yield what is not on a kernel as the rows say; ``outcomes`` are those of the tests that ran there, by name.

    Of a run of some tests it says only what they contradict.
    """
    for row in rows:
        beginnings = tuple(_TESTS + test for test in row.tests)
        ran = {name: outcome for name, outcome in outcomes.items() if name.startswith(beginnings)} if beginnings else {}
        passed = "passed" in ran.values()
        where = f"{row.section}, {row.sentence}, on {kernel}"
        reason = row.without.get(kernel)
        if reason is not None and passed:
            yield f"{where}: it works, but the matrix says: {reason}"
        elif reason is None and "failed" in ran.values():
            yield f"{where}: failed {', '.join(name for name, outcome in ran.items() if outcome == 'failed')}"
        elif reason is None and not passed and complete:
            yield f"{where}: not proven, {'its tests were skipped' if ran else 'no test of it ran'}"


def page(rows: list[Row]) -> str:
    """Return the text of the page."""
    parts = [_HEAD]
    section = ""
    for row in rows:
        if row.section != section:
            section = row.section
            parts.append(
                f"\n## {section}\n\n| what | {' | '.join(KERNELS)} | tests |\n|---|{'---|' * len(KERNELS)}---|\n"
            )
        cells = [row.without.get(kernel, "proven") for kernel in KERNELS]
        tests = ", ".join(f"`{test}`" for test in row.tests)
        parts.append(f"| {row.sentence} | {' | '.join(cells)} | {tests} |\n".replace("|  |", "| |"))
    return "".join(parts)


if __name__ == "__main__":
    PAGE.write_text(page(read_rows()), encoding="utf-8")
