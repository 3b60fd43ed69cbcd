"""Tables in rising order of addresses, and how they are built from the rows of functions."""

from __future__ import annotations

from array import array
from bisect import bisect_right
from collections.abc import Iterator
from itertools import pairwise
from typing import Final

from invivo.errors import BadFileError
from invivo.formats.unwinding.rule import END
from invivo.record import Record

MOST_ROWS: Final = 1 << 24
PADDING_BYTES: Final = 16  # functions are aligned to this; between them is nothing that runs
_ENTRY_BYTES: Final = 64  # of code at the entry point that call nothing but the program


class UnwindTable(Record, eq=False):
    """Rows in rising order: from ``base + starts[i]`` to the next start, ``words[indexes[i]]`` holds.

    Addresses are those of the ELF file.  ``words`` are distinct rules (`formats.unwinding.rule`).
    """

    base: int
    starts: array[int]  # u32
    indexes: array[int]  # u32
    words: tuple[int, ...]

    def rule(self, address: int) -> int:
        """Return the word of the rule at an address, 0 if nothing is known there."""
        at = bisect_right(self.starts, address - self.base) - 1
        return self.words[self.indexes[at]] if at >= 0 else 0


def table_of(path: str, rows: Iterator[tuple[int, int, int]], entry: int) -> UnwindTable | None:
    """Build a table from rows in any order; of those with one address the last one counts."""
    by_address: dict[int, int] = {}
    for address, _, word in sorted(rows, key=lambda row: row[:2]):
        by_address[address] = word
    if not by_address:
        return None
    if len(by_address) > MOST_ROWS:
        raise BadFileError(path, "too many rows in .eh_frame")
    ordered = with_entry(list(by_address.items()), entry)
    base = ordered[0][0]
    if ordered[-1][0] - base >= 1 << 32:
        raise BadFileError(path, ".eh_frame describes more than 4 GiB of code")
    starts, indexes = array("I"), array("I")
    numbers: dict[int, int] = {}
    for (address, word), (following, _) in pairwise([*ordered, (1 << 64, 0)]):
        if not word and following - address < PADDING_BYTES:
            continue  # the next function begins here
        index = numbers.setdefault(word, len(numbers))
        if not indexes or indexes[-1] != index:
            starts.append(address - base)
            indexes.append(index)
    return UnwindTable(base, starts, indexes, tuple(numbers))


def with_entry(rows: list[tuple[int, int]], entry: int) -> list[tuple[int, int]]:
    """Say that the code at a file's entry point has no caller, if nothing else is known of it."""
    at = bisect_right(rows, entry, key=lambda row: row[0])
    before = rows[at - 1][1] if at else 1
    new = entry_rows(entry, before, rows[at][0] if at < len(rows) else None)
    return [*rows[:at], *new, *rows[at:]]


def entry_rows(entry: int, before: int, following: int | None) -> list[tuple[int, int]]:
    """Return rows (address, word) for a program's entry point, if it has none.

    ``before``: the word that holds there; ``following``: the address of the next row.
    """
    if not entry or before:
        return []
    end = entry + _ENTRY_BYTES
    if following is not None and following <= end:
        return [(entry, END)]
    return [(entry, END), (end, 0)]
