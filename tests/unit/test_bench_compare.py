"""Two runs of the bench are compared by ratios, never by times."""

from __future__ import annotations

from bench.compare import compare, ratios
from bench.figures import LOST, Figure


def _figures(ours: float, theirs: float, case: str = "case", metric: str = "wall, ms") -> list[Figure]:
    return [Figure(case, metric, "invivo", (ours,)), Figure(case, metric, "bpftrace", (theirs,))]


def test_a_slower_machine_changes_nothing() -> None:
    assert compare({"q": _figures(10, 30)}, {"q": _figures(20, 60)}).splitlines()[2:] == [
        "| q        | `case` | wall, ms | 3.00   | 3.00 | same |"
    ]


def test_better_worse_and_new() -> None:
    old = {"q": [*_figures(10, 30), *_figures(10, 30, "other")]}
    new = {"q": [*_figures(10, 60), *_figures(20, 30, "other"), *_figures(1, 1, "new")]}
    rows = [[cell.strip() for cell in line.split("|")[1:-1]] for line in compare(old, new).splitlines()[2:]]
    assert rows == [
        ["q", "`case`", "wall, ms", "3.00", "6.00", "better by 2.00"],
        ["q", "`other`", "wall, ms", "3.00", "1.50", "worse by 2.00"],
    ]


def test_losses_and_what_is_lost_in_noise_have_no_ratio() -> None:
    assert ratios([*_figures(1, 2, metric=LOST), *_figures(-1, 5), *_figures(5, 0, "b")]) == {}
