"""Growth as a picture: a plot for each series, both axes logarithmic, bars from the least to the greatest run."""

from __future__ import annotations

import json
import statistics
from collections.abc import Sequence
from pathlib import Path

import matplotlib as mpl
from matplotlib import pyplot
from matplotlib.axes import Axes

from bench.growth import SERIES, Points


def draw(results: Path, picture: Path) -> None:
    """Read what ``python -m bench growth`` wrote, write a PNG."""
    mpl.use("Agg")
    read = json.loads(results.read_text())
    points: Points = read["points"]
    figure, axes = pyplot.subplots(2, 3, figsize=(13, 7.5), layout="constrained")
    for axis, series in zip(axes.flat, SERIES, strict=False):
        for name, steps in points[series.name].items():
            _draw_line(axis, name, steps)
        axis.set(xscale="log", yscale="log", xlabel=series.name, ylabel=series.unit)
        axis.grid(visible=True, which="major", alpha=0.3)
        axis.legend()
    for axis in list(axes.flat)[len(SERIES) :]:
        axis.axis("off")
        axis.text(0, 0.5, "\n".join(f"{name}: {value}" for name, value in read["machine"].items()), va="center")
    picture.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(picture, dpi=80)


def _draw_line(axis: Axes, name: str, steps: Sequence[tuple[int, Sequence[float]]]) -> None:
    medians = [statistics.median(values) for _, values in steps]
    low = [median - min(values) for median, (_, values) in zip(medians, steps, strict=True)]
    high = [max(values) - median for median, (_, values) in zip(medians, steps, strict=True)]
    axis.errorbar([step for step, _ in steps], medians, yerr=[low, high], marker="o", capsize=3, label=name)
