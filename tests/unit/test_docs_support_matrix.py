"""The matrix of what works on which kernel: its page is up to date, and a run that differs from it is told."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from guest.matrix import KERNELS, PAGE, Row, differences, page, read_rows

_KERNEL_TESTS = Path(__file__).parents[1] / "kernel"
_ROW = Row("source", "feature", {"6.18": "refused"}, ["test_it.py::test_this", "test_it.py::test_that"])
_THIS = "tests/kernel/test_it.py::test_this[1]"
_THAT = "tests/kernel/test_it.py::test_that"


def test_the_page_is_up_to_date() -> None:
    assert page(read_rows()) == PAGE.read_text(encoding="utf-8"), "cd tests && python -m guest.matrix"


@pytest.mark.parametrize("row", read_rows(), ids=lambda row: f"{row.section}: {row.sentence}")
def test_each_cell_has_a_test_or_a_reason(row: Row) -> None:
    assert set(row.without) <= set(KERNELS)
    assert all(row.without.values())
    assert row.tests or set(row.without) == set(KERNELS)
    for test in row.tests:
        file, _, function = test.partition("::")
        assert re.search(rf"^def {function.partition('[')[0]}", (_KERNEL_TESTS / file).read_text(), re.MULTILINE), test


@pytest.mark.parametrize(
    ("kernel", "outcomes", "told"),
    [
        ("6.1", {_THIS: "passed"}, None),
        ("6.1", {_THIS: "passed", _THAT: "skipped"}, None),
        ("6.1", {_THIS: "skipped"}, "not proven, its tests were skipped"),
        ("6.1", {}, "not proven, no test of it ran"),
        ("6.1", {_THIS: "passed", _THAT: "failed"}, f"failed {_THAT}"),
        ("6.18", {_THIS: "skipped"}, None),
        ("6.18", {}, None),
        ("6.18", {_THIS: "passed"}, "it works, but the matrix says: refused"),
    ],
)
def test_a_run_that_differs_is_told(kernel: str, outcomes: dict[str, str], told: str | None) -> None:
    expected = [f"source, feature, on {kernel}: {told}"] if told else []
    assert list(differences([_ROW], kernel, outcomes)) == expected


def test_of_a_run_of_some_tests_only_contradictions_are_told() -> None:
    assert list(differences([_ROW], "6.1", {}, complete=False)) == []
    assert list(differences([_ROW], "6.1", {_THIS: "skipped"}, complete=False)) == []
    assert len(list(differences([_ROW], "6.18", {_THIS: "passed"}, complete=False))) == 1
