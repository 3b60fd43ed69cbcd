"""Matching names against wildcards, and finding the names nearest to a mistyped one."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Final

_MOST_EDITS: Final = 3
_LONG: Final = 8


def is_wildcard(pattern: str) -> bool:
    """Whether a part of an attach point stands for several names: ``*`` is the only wildcard."""
    return "*" in pattern


def matcher(pattern: str) -> Callable[[str], bool]:
    """Return the test for a pattern in which ``*`` stands for any run of characters, also none.

    All other characters stand for themselves (``?`` and ``[`` occur in C++ names).
    """
    first, *rest = pattern.split("*")
    if not rest:
        return pattern.__eq__
    *middle, last = rest
    middle = [piece for piece in middle if piece]
    if not middle:
        shortest = len(first) + len(last)
        return lambda name: len(name) >= shortest and name.startswith(first) and name.endswith(last)

    def matches(name: str) -> bool:
        if not name.startswith(first):
            return False
        position = len(first)
        for piece in middle:
            found = name.find(piece, position)
            if found < 0:
                return False
            position = found + len(piece)
        return len(name) - position >= len(last) and name.endswith(last)

    return matches


def select(pattern: str, names: Iterable[str]) -> list[str]:
    """Return the names that match, sorted."""
    return sorted(filter(matcher(pattern), names))


def nearest(name: str, candidates: Iterable[str], count: int = 3) -> list[str]:
    """Return up to ``count`` candidates that a typing error could have turned into ``name``, nearest first.

    At most a third of the characters may differ, and three: more is no typing error.
    """
    limit = max(1, min(len(name) // 3, _MOST_EDITS))
    # So many mistakes leave one of so many pieces as it is. A kernel has 50,000 functions, and comparing
    # two names takes 50 us.
    size = len(name) // (limit + 1) if len(name) >= _LONG else 0
    pieces = [name[at : at + size] for at in range(0, len(name), size)] if size else [""]
    found: list[tuple[int, str]] = []
    for candidate in set(candidates):
        if abs(len(candidate) - len(name)) <= limit and any(piece in candidate for piece in pieces):
            distance = _distance(name, candidate, limit)
            if distance <= limit:
                found.append((distance, candidate))
    if not found and len(name) >= 3:
        # Not a typing error: perhaps a part of the name.
        found = [(len(candidate), candidate) for candidate in set(candidates) if name in candidate]
    return [candidate for _, candidate in sorted(found)[:count]]


def did_you_mean(name: str, candidates: Iterable[str]) -> str | None:
    """Return the hint for a name that does not exist, or None if nothing is near."""
    names = nearest(name, candidates)
    if not names:
        return None
    listed = names[0] if len(names) == 1 else ", ".join(names[:-1]) + " or " + names[-1]
    return f"did you mean {listed}?"


def _distance(left: str, right: str, limit: int) -> int:
    """Levenshtein's distance with neighbours swapped counting one; ``limit + 1`` if it is larger."""
    # Most candidates share few characters: counting those is far cheaper than the table.
    if len(set(left) - set(right)) > limit:
        return limit + 1
    before: list[int] = []
    last = list(range(len(right) + 1))
    for row, character in enumerate(left, 1):
        line = [row]
        for column, other in enumerate(right, 1):
            cost = min(last[column] + 1, line[-1] + 1, last[column - 1] + (character != other))
            if row > 1 and column > 1 and character == right[column - 2] and left[row - 2] == other:
                cost = min(cost, before[column - 2] + 1)
            line.append(cost)
        if min(line) > limit:
            return limit + 1
        before, last = last, line
    return last[-1]
