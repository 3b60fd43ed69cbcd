"""Growth as a picture: a chart for each series, with the least and the greatest run, and names at the lines."""

from __future__ import annotations

import json
import math
import statistics
import textwrap
from collections.abc import Mapping, Sequence
from pathlib import Path

import matplotlib as mpl
from matplotlib import pyplot
from matplotlib.axes import Axes
from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

from bench.contenders import BPFTRACE, INVIVO
from bench.growth import SERIES, Points, Series

_COLOURS = {INVIVO.name: "#0b6e4f", BPFTRACE.name: "#c0561f"}
_QUIET = "#666666"


def draw(results: Path, picture: Path) -> None:
    """Read what ``python -m bench growth`` wrote, write a PNG."""
    mpl.use("Agg")
    read = json.loads(results.read_text())
    points: Points = read["points"]
    figure, axes = pyplot.subplots(2, 3, figsize=(14, 8.4), layout="constrained")
    figure.get_layout_engine().set(w_pad=0.12, h_pad=0.12, rect=(0, 0.055, 1, 0.85))
    figure.suptitle("How costs grow", x=0.01, y=0.99, ha="left", fontsize=17, fontweight="bold")
    explained = "Less is better. Lines: medians; bands: from the least to the greatest run. All axes are logarithmic."
    figure.text(0.01, 0.925, explained, color=_QUIET, fontsize=10.5)
    for axis, series in zip(axes.flat, SERIES, strict=True):
        _draw_series(axis, series, points[series.name])
    figure.text(0.01, 0.008, "\n".join(textwrap.wrap(_machine(read["machine"]), 190)), color=_QUIET, fontsize=9)
    picture.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(picture, dpi=100)


def _machine(machine: Mapping[str, str]) -> str:
    return "Measured on: " + "; ".join(f"{name} {value}" for name, value in machine.items()) + "."


def _draw_series(axis: Axes, series: Series, lines: Mapping[str, Sequence[tuple[int, Sequence[float]]]]) -> None:
    ends = {name: _draw_line(axis, name, steps) for name, steps in lines.items() if steps}
    axis.set(xscale="log", yscale="log", xlabel=series.name)
    axis.set_title(series.unit, loc="left", fontsize=11.5, fontweight="bold")
    low, high = axis.get_xlim()
    axis.set_xlim(low, high * (high / low) ** 0.22)  # room for the names
    axis.set_xticks(series.steps, [_short(step) for step in series.steps])
    axis.yaxis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0) if _decades(axis) < 3 else (1.0,)))
    axis.yaxis.set_major_formatter(FuncFormatter(lambda value, _: _short(value)))
    for each in (axis.xaxis, axis.yaxis):
        each.set_minor_formatter(NullFormatter())
    axis.tick_params(which="minor", length=0)
    axis.tick_params(which="major", length=3, color=_QUIET)
    axis.grid(visible=True, axis="y", which="major", color="#dddddd", linewidth=0.8)
    axis.set_axisbelow(True)
    axis.spines[["top", "right"]].set_visible(False)
    _name_lines(axis, ends)


def _name_lines(axis: Axes, ends: Mapping[str, tuple[int, float]]) -> None:
    """Write names and last values where the lines end; one above the other where they would meet."""
    places = {at for at, _ in ends.values()}
    heights = sorted(math.log10(value) for _, value in ends.values())
    meet = len(places) == 1 and len(heights) == 2 and heights[1] - heights[0] < 0.12 * _decades(axis)
    for name, (at, value) in ends.items():
        away = 0 if not meet else 13 if math.log10(value) == heights[1] else -13
        axis.annotate(
            f"{name}\n{_short(value)}",
            (at, value),
            xytext=(6, away),
            textcoords="offset points",
            color=_COLOURS[name],
            va="center",
            fontsize=10,
            fontweight="bold",
        )


def _decades(axis: Axes) -> float:
    low, high = axis.get_ylim()
    return math.log10(high / low)


def _draw_line(axis: Axes, name: str, steps: Sequence[tuple[int, Sequence[float]]]) -> tuple[int, float]:
    """Draw a contender's line; return its last point."""
    places = [step for step, _ in steps]
    # What is nothing, or less by noise, has no place on such an axis.
    medians = [max(statistics.median(values), _LEAST) for _, values in steps]
    low = [max(min(values), _LEAST) for _, values in steps]
    high = [max(*values, _LEAST) for _, values in steps]
    colour = _COLOURS[name]
    axis.fill_between(places, low, high, color=colour, alpha=0.15, linewidth=0)
    axis.plot(places, medians, color=colour, marker="o", markersize=4.5, linewidth=1.8)
    return places[-1], medians[-1]


_LEAST = 1.0


def _short(value: float) -> str:
    """A number in three digits: 12, 1.5K, 300K, 1M."""
    for unit, name in ((1e6, "M"), (1e3, "K")):
        if value >= unit:
            return f"{value / unit:.3g}{name}"
    return f"{value:.3g}" if value < 10 else f"{value:.0f}"
