"""Maps of many keys: sorted by the C library, in half the time that Python needs with an object for each key."""

from __future__ import annotations

import ctypes
from array import array
from collections.abc import Sequence
from typing import Final, Literal

_UNITS: Final[dict[int, Literal["B", "H", "I", "Q"]]] = {1: "B", 2: "H", 4: "I", 8: "Q"}
_WORD: Final = (1 << 64) - 1

_libc: Final = ctypes.CDLL(None)
# void qsort_r(void *base, size_t count, size_t size, int (*compare)(const void *, const void *, void *), void *)
_libc.qsort_r.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_size_t, ctypes.c_void_p, ctypes.c_void_p]
_libc.qsort_r.restype = None
# With a size as the argument, memcmp(3) is such a function.
_MEMCMP: Final = ctypes.cast(_libc.memcmp, ctypes.c_void_p)


def sorted_rows(rows: bytearray, size: int, weights: Sequence[int]) -> list[int]:
    """Return the indices of rows of so many bytes, sorted by their weights (none: all are equal), then bytewise."""
    count = len(rows) // size
    ranks = _rank_words(weights)
    first = 8 * len(ranks)
    end = first + size
    step = -(-end // 8) + 1  # words of an entry: ranks, row, index
    table = bytearray(8 * step * count)
    words = memoryview(table).cast("Q")
    for place, column in enumerate(ranks):
        words[place::step] = memoryview(column)
    unit = min(size & -size, 8)
    source, target = (memoryview(data).cast(_UNITS[unit]) for data in (rows, table))
    for at in range(0, size, unit):
        target[(first + at) // unit :: 8 * step // unit] = source[at // unit :: size // unit]
    words[step - 1 :: step] = memoryview(array("Q", range(count)))
    address = ctypes.addressof(ctypes.c_char.from_buffer(table))
    _libc.qsort_r(address, count, 8 * step, _MEMCMP, end)
    return words[step - 1 :: step].tolist()


def _rank_words(weights: Sequence[int]) -> list[array[int]]:
    """Numbers as far apart as the weights, in words with their first byte first; none if all are equal."""
    low = min(weights, default=0)
    bits = (max(weights, default=0) - low).bit_length()
    columns: list[array[int]] = []
    for shift in reversed(range(0, bits, 64)):
        column = array("Q", [weight - low >> shift & _WORD for weight in weights])
        column.byteswap()
        columns.append(column)
    return columns
