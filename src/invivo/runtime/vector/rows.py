"""Records of one kind as columns of numbers, and what of their text is equal in all rows."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray

from invivo.record import Record

Words = NDArray[np.uint32]  # (records, words): four bytes of text each, unused ones zero
Numbers = NDArray[np.uint64] | NDArray[np.uint32]
Part = bytes | Words  # text that all rows have, or a few words for each row

WORD = 4


class Rows(Record, eq=False):
    """Records of one kind in a window: all, or those that ``picked`` has the indices of.

    ``made``: columns that stand in several places of a line.
    """

    window: memoryview
    count: int  # of the window's records
    stride: int
    picked: NDArray[np.intp] | None
    made: dict[Column, Sequence[Part] | None]

    def __len__(self) -> int:
        return self.count if self.picked is None else len(self.picked)

    def column(self, code: str, offset: int) -> NDArray[np.int64]:
        """The values of numpy's integer type ``code`` at ``offset`` from the start of each record, in one piece."""
        whole: NDArray[np.int64] = np.ndarray((self.count,), code, self.window, offset, (self.stride,))
        return whole.copy() if self.picked is None else whole[self.picked]

    def memory(self, size: int, offset: int) -> list[bytes]:
        """``size`` bytes at ``offset`` from the start of each record; the same one for all if they are equal."""
        shape, strides = (self.count, size), (self.stride, 1)
        whole: NDArray[np.uint8] = np.ndarray(shape, np.uint8, self.window, offset, strides)
        rows = whole if self.picked is None else whole[self.picked]
        if not size or (rows == rows[0]).all():
            return [rows[0].tobytes()] * len(rows)
        found: list[bytes] = np.ascontiguousarray(rows).view(f"V{size}")[:, 0].tolist()
        return found


# What a piece of a format becomes; None: a record needs the plain way.
Column = Callable[[Rows], "Sequence[Part] | None"]


def words(text: bytes) -> Words:
    """Text as a row of words."""
    return np.frombuffer(text.ljust(-(-len(text) // WORD) * WORD, b"\0"), np.uint32)


def merged(parts: Sequence[Part]) -> list[Part]:
    """The same, with what all rows have in one piece where it stands side by side: fewer words that are not full."""
    found: list[Part] = []
    for part in parts:
        if isinstance(part, bytes) and found and isinstance(found[-1], bytes):
            found[-1] += part
        elif not isinstance(part, bytes) or part:
            found.append(part)
    return found


def width(parts: Sequence[Part]) -> int:
    """How many words a row of the parts takes."""
    return sum(-(-len(part) // WORD) if isinstance(part, bytes) else part.shape[1] for part in parts)


def joined(parts: Sequence[Part], count: int) -> bytes | bytearray:
    """The text of so many rows of parts that are `merged`, without what is not used."""
    if not parts or (len(parts) == 1 and isinstance(parts[0], bytes)):
        return b"".join(part for part in parts if isinstance(part, bytes)) * count
    text, rows = matrix(count, width(parts))
    fill(rows, parts)
    del rows
    return text.translate(None, b"\0")


def matrix(count: int, width: int) -> tuple[bytearray, Words]:
    """Zero bytes, and the same as rows of words."""
    text = bytearray(count * width * WORD)
    return text, np.frombuffer(text, np.uint32).reshape(count, width)


def fill(matrix: Words, parts: Sequence[Part]) -> None:
    """Write parts side by side into a matrix."""
    at = 0
    for part in parts:
        content = words(part) if isinstance(part, bytes) else part
        end = at + content.shape[-1]
        matrix[:, at:end] = content
        at = end
