"""Maps of very many keys with numpy: sorted, and put in order."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray


def sorted_rows(rows: bytearray, size: int, ranks: bytes, rank_size: int) -> memoryview:
    """Return the indices of rows of so many bytes, sorted by their ranks, then bytewise."""
    words = [*(_words(ranks, rank_size) if rank_size else ()), *_words(rows, size)]
    differing = [column.astype(np.uint64) for column in reversed(words) if (column != column[0]).any()]
    order: NDArray[np.intp] = np.lexsort(differing) if differing else np.arange(len(rows) // size)
    return order.data


def _words(rows: bytes | bytearray, size: int) -> NDArray[np.uint64]:
    """Columns of eight bytes, the first one first."""
    whole = np.zeros((len(rows) // size, -(-size // 8) * 8), np.uint8)
    whole[:, :size] = np.frombuffer(rows, np.uint8).reshape(-1, size)
    return whole.view(">u8").T


def picked(numbers: memoryview, order: Sequence[int]) -> memoryview:
    """Return numbers in an order."""
    found: NDArray[np.generic] = np.asarray(numbers)[np.asarray(order)]
    return found.data
