"""What got better or worse between two runs of the bench, by the ratio to bpftrace in the same run."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from bench.contenders import BPFTRACE, INVIVO
from bench.figures import UNRATED, Figure, aligned

# Ratios of medians on a shared machine differ by as much from run to run.
NOISE = 1.1


def compare(old: Mapping[str, Sequence[Figure]], new: Mapping[str, Sequence[Figure]]) -> str:
    """Return a table of all metrics that both runs have: both ratios, and how they differ."""
    before = {(question, *key): ratio for question, found in old.items() for key, ratio in ratios(found).items()}
    rows = [["question", "case", "measured", "before", "now", ""]]
    for question, found in new.items():
        for (case, metric), ratio in ratios(found).items():
            was = before.get((question, case, metric))
            if was is not None:
                rows.append([question, f"`{case}`", metric, f"{was:.2f}", f"{ratio:.2f}", verdict(was, ratio)])
    return aligned(rows)


def ratios(figures: Sequence[Figure]) -> dict[tuple[str, str], float]:
    """Return bpftrace ÷ invivo by case and metric, where both were measured and more than noise."""
    medians = {(figure.case, figure.metric, figure.contender): figure.median for figure in figures}
    found: dict[tuple[str, str], float] = {}
    for (case, metric, contender), ours in medians.items():
        theirs = medians.get((case, metric, BPFTRACE.name), 0.0)
        if contender == INVIVO.name and metric not in UNRATED and ours > 0 and theirs > 0:
            found[case, metric] = theirs / ours
    return found


def verdict(before: float, now: float) -> str:
    """How a ratio changed: a greater one is better."""
    change = now / before
    if 1 / NOISE <= change <= NOISE:
        return "same"
    return f"better by {change:.2f}" if change > 1 else f"worse by {1 / change:.2f}"
