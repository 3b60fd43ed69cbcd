"""The text of many records of ``printf`` and ``print`` at once, with numpy: ten times as fast as Python's ``%``.

A chunk of records becomes a matrix of 32-bit words, one row a record, a few columns a piece of the line (`lines`);
what a piece does not fill is zero bytes, which are deleted at the end.  Numbers are written four digits at a time
from tables; strings are cut behind their terminator word by word; of everything else each different value is written
once.  What is equal in all rows (a process, the upper digits of a time) is one piece with the literal text around it.

What has no fast way (records of several strides, values with zero bytes in their text) takes the plain way, with the
same bytes for a result.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from invivo.events import Event, PrintedText
from invivo.ir.layout import Layout, Printf
from invivo.runtime.decode import Names
from invivo.runtime.records import HEADER_BYTES
from invivo.runtime.vector.lines import LineColumns
from invivo.runtime.vector.rows import Column, Part, Rows, fill, joined, matrix, merged, width
from invivo.values import LineForm, ValueText

_SHORTEST = 64  # records in a row that are worth a matrix
_LONGEST = 8192, 1 << 20  # records and bytes of them; beyond it the matrix leaves the processor's cache


class VectorText:
    """Writes the records of a layout whose kinds have columns."""

    def __init__(self, layout: Layout, names: Names, text: ValueText, form: LineForm, *, bpftrace: bool) -> None:
        """``text``: how values are shown in formats; ``form``: the output's."""
        stride = self._stride = layout.stride
        records, size_bytes = _LONGEST
        self._longest = max(_SHORTEST, min(records, size_bytes // stride))
        columns = self.columns = LineColumns(names, text, form, stride, bpftrace=bpftrace)
        made = {record.id: columns.of(record) for record in layout.records}
        self._columns: dict[int, Sequence[Column]] = {id: each for id, each in made.items() if each is not None}
        self._known = np.zeros(len(layout.records), bool)
        self._known[list(self._columns)] = True
        self._is_printf = np.array([isinstance(record.action, Printf) for record in layout.records])

    def runs(self, window: memoryview) -> list[tuple[int, int]]:
        """Return where runs of records begin and end that are committed, plain and have a fast way."""
        stride = self._stride
        count = len(window) // stride
        heads: NDArray[np.uint32] = np.ndarray((count,), np.uint32, window, 0, (stride,))
        marks: NDArray[np.uint64] = np.ndarray((count,), np.uint64, window, HEADER_BYTES, (stride,)).copy()
        plain = heads == stride - HEADER_BYTES
        plain &= marks < len(self._known)  # flags stand in the upper half
        plain &= self._known[np.where(plain, marks, 0)]
        edges = np.flatnonzero(np.diff(plain.astype(np.int8), prepend=np.int8(0), append=np.int8(0))).tolist()
        return [
            (at * stride, min(at + self._longest, end) * stride)
            for start, end in zip(edges[::2], edges[1::2], strict=True)
            for at in range(start, end, self._longest)
            if end - at >= _SHORTEST
        ]

    def events(self, window: memoryview) -> list[Event] | None:
        """Return the text of a run of records; None if one of them needs the plain way."""
        numbers = self.numbers(window)
        printed = int(np.count_nonzero(self._is_printf[numbers]))
        first = int(numbers[0])
        is_mixed = bool((numbers != first).any())
        text = self._mixed(window, numbers) if is_mixed else self.text(first, self.rows(window))
        return None if text is None else [PrintedText(text, printed, len(numbers) - printed)]

    def knows(self, record: int) -> bool:
        """Whether there is a fast way for a kind of records."""
        return record in self._columns

    def numbers(self, window: memoryview) -> NDArray[np.uint32]:
        """Return the kinds of the records of a run."""
        return np.ndarray((len(window) // self._stride,), np.uint32, window, HEADER_BYTES, (self._stride,))

    def rows(self, window: memoryview, picked: NDArray[np.intp] | None = None) -> Rows:
        """Return the records of a run that are of one kind."""
        return Rows(window, len(window) // self._stride, self._stride, picked, {})

    def text(self, record: int, rows: Rows) -> bytes | bytearray | None:
        """Return the text of records of one kind."""
        parts = _parts(self._columns[record], rows)
        return None if parts is None else joined(parts, len(rows))

    def _mixed(self, window: memoryview, numbers: NDArray[np.uint32]) -> bytearray | None:
        """Records of several kinds: the text of each, put together in the order of the records."""
        found: list[tuple[NDArray[np.intp], list[Part]]] = []
        for record in np.flatnonzero(np.bincount(numbers)).tolist():
            picked = np.flatnonzero(numbers == record)
            parts = _parts(self._columns[record], self.rows(window, picked))
            if parts is None:
                return None
            found.append((picked, parts))
        text, whole = matrix(len(numbers), max(width(parts) for _, parts in found))
        for picked, parts in found:
            part = np.empty((len(picked), width(parts)), np.uint32)
            fill(part, parts)
            whole[picked, : part.shape[1]] = part
        del whole
        return text.translate(None, b"\0")


def _parts(columns: Sequence[Column], rows: Rows) -> list[Part] | None:
    parts: list[Part] = []
    for column in columns:
        made = column(rows)
        if made is None:
            return None
        parts += made
    return merged(parts)
