"""Measured values: collected by case, contender and metric; kept as JSON, shown as a table."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence

from bench.contenders import BPFTRACE, INVIVO
from invivo.record import Record

LOST = "lost or wrong hits"
# Above 1: the program ran for calls of other processes, too, and left early; its own mean is too low then.
RUNS = "program runs for each call"
TOLD = "events lost and told"  # of what is shown in a form that can lose some
STACKS = "different stacks"
UNRATED = (LOST, RUNS, TOLD, STACKS)  # nothing to be better in


class Figure(Record):
    """All values that one contender reached in one metric of a case. ``metric`` names the unit."""

    case: str
    metric: str
    contender: str
    values: tuple[float, ...]

    @property
    def median(self) -> float:
        return statistics.median(self.values)

    def to_json(self) -> dict[str, object]:
        return {
            "case": self.case,
            "metric": self.metric,
            "contender": self.contender,
            "median": round(self.median, 3),
            "min": round(min(self.values), 3),
            "max": round(max(self.values), 3),
            "runs": len(self.values),
            "values": [round(value, 3) for value in self.values],
        }


class Figures:
    """What one question found out so far."""

    def __init__(self) -> None:
        self._values: dict[tuple[str, str, str], list[float]] = {}

    def add(self, case: str, contender: str, values: Mapping[str, float]) -> None:
        """Note what one run gave, by metric."""
        for metric, value in values.items():
            self._values.setdefault((case, metric, contender), []).append(value)

    def all(self) -> list[Figure]:
        """Everything noted, in the order of the first notes."""
        return [Figure(*name, tuple(values)) for name, values in self._values.items()]


def from_json(rows: Sequence[Mapping[str, object]]) -> list[Figure]:
    """The inverse of `Figure.to_json` for a list."""
    figures: list[Figure] = []
    for row in rows:
        values = row["values"]
        assert isinstance(values, list)
        figures.append(Figure(str(row["case"]), str(row["metric"]), str(row["contender"]), tuple(map(float, values))))
    return figures


def format_table(figures: Sequence[Figure]) -> str:
    """A Markdown table: a row for each case and metric, a column for each contender."""
    contenders = list(dict.fromkeys(figure.contender for figure in figures))
    cells: dict[tuple[str, str], dict[str, Figure]] = {}
    for figure in figures:
        cells.setdefault((figure.case, figure.metric), {})[figure.contender] = figure
    other = BPFTRACE.name if BPFTRACE.name in contenders else contenders[-1]
    rated = [f"{other} ÷ {INVIVO.name}"] if other != INVIVO.name else []
    rows = [["case", "measured", *contenders, *rated]]
    last = ""
    # The rows of a case stand together, in the order of its first figure.
    order = list(dict.fromkeys(figure.case for figure in figures))
    for case, metric in sorted(cells, key=lambda cell: order.index(cell[0])):
        found = cells[case, metric]
        shown = f"`{case}`" if case != last else ""
        last = case
        ratio = [_ratio(metric, found, other)] if rated else []
        rows.append([shown, metric, *[format_cell(found.get(name)) for name in contenders], *ratio])
    return aligned(rows)


def format_cell(figure: Figure | None) -> str:
    """``median (min to max, n)``; of what must be equal in all runs only that."""
    if figure is None:
        return ""
    low, high = min(figure.values), max(figure.values)
    if low == high and figure.median == round(figure.median):
        return f"{figure.median:.0f}"
    return f"{_short(figure.median)} ({_short(low)} to {_short(high)}, {len(figure.values)})"


def _short(value: float) -> str:
    if abs(value) >= 100:
        return f"{value:.0f}"
    return f"{value:.1f}" if abs(value) >= 10 else f"{value:.2f}"


def _ratio(metric: str, found: Mapping[str, Figure], other: str) -> str:
    """How many times better invivo is. What it loses is in bold."""
    ours, theirs = found.get(INVIVO.name), found.get(other)
    if metric in UNRATED or ours is None or theirs is None:
        return ""
    if ours.median <= 0 or theirs.median <= 0:
        return "within noise"
    ratio = theirs.median / ours.median
    return f"{ratio:.2f}" if ratio >= 1 else f"**{ratio:.2f}**"


def aligned(rows: Sequence[Sequence[str]]) -> str:
    """A Markdown table; the first row is its head."""
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    lines = [
        "| " + " | ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)) + " |" for row in rows
    ]
    lines.insert(1, "|" + "|".join("-" * (width + 2) for width in widths) + "|")
    return "\n".join(lines)
