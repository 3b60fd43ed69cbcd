"""Maps of very many keys with numpy: sorted, and put in order."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np
from numpy.typing import NDArray


def sorted_rows(rows: bytearray, size: int, weights: Sequence[int]) -> memoryview:
    """Return the indices of rows of so many bytes, sorted by their weights (none: all are equal), then bytewise."""
    words = [*_weight_words(weights), *_words(rows, size)]
    differing = [column.astype(np.uint64) for column in reversed(words) if (column != column[0]).any()]
    order: NDArray[np.intp] = np.lexsort(differing) if differing else np.arange(len(rows) // size)
    return order.data


def _words(rows: bytes | bytearray, size: int) -> NDArray[np.uint64]:
    """Columns of eight bytes, the first one first."""
    whole = np.zeros((len(rows) // size, -(-size // 8) * 8), np.uint8)
    whole[:, :size] = np.frombuffer(rows, np.uint8).reshape(-1, size)
    return whole.view(">u8").T


def _weight_words(weights: Sequence[int]) -> Iterable[NDArray[np.uint64]]:
    """Numbers as far apart as the weights, as columns of eight bytes; none if all are equal."""
    low, high = min(weights, default=0), max(weights, default=0)
    if low == high:
        return ()
    size = (high - low).bit_length() // 8 + 1
    return _words(b"".join([(weight - low).to_bytes(size, "big") for weight in weights]), size)


def picked(numbers: memoryview, order: Sequence[int]) -> memoryview:
    """Return numbers in an order."""
    found: NDArray[np.generic] = np.asarray(numbers)[np.asarray(order)]
    return found.data
