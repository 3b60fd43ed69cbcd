"""The nearest name to a mistyped one."""

from __future__ import annotations

from collections.abc import Iterable


def nearest(word: str, names: Iterable[str]) -> str | None:
    """Return the name that is fewest edits away, if that is few enough to be a typing mistake."""
    best, best_distance = None, max(1, len(word) // 3) + 1
    for name in names:
        if abs(len(name) - len(word)) < best_distance:
            distance = _edits(word.lower(), name.lower())
            if distance < best_distance:
                best, best_distance = name, distance
    return best


def _edits(a: str, b: str) -> int:
    """Levenshtein distance, a swap of neighbours counting as one edit."""
    before: list[int] = []
    row = list(range(len(b) + 1))
    for i, x in enumerate(a, 1):
        older, before, row = before, row, [i]
        for j, y in enumerate(b, 1):
            cost = min(before[j] + 1, row[j - 1] + 1, before[j - 1] + (x != y))
            if i > 1 and j > 1 and x == b[j - 2] and a[i - 2] == y:
                cost = min(cost, older[j - 2] + 1)
            row.append(cost)
    return row[-1]
