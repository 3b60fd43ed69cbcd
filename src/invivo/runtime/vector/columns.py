"""The values of many records as columns of memory, for outputs that keep types: no object for each value."""

from __future__ import annotations

from collections.abc import Callable
from itertools import chain, pairwise
from typing import cast

import numpy as np
from numpy.typing import NDArray

from invivo.events import Column, Event, Numbers, RecordTable, RecordTables, Selection, Text, Texts, Value, Values
from invivo.ir import layout as kinds
from invivo.ir import types
from invivo.ir.layout import Layout, RecordLayout
from invivo.runtime.decode import Names, fields_decoder, shape_of
from invivo.runtime.records import DISCARDED, HEADER_BYTES
from invivo.runtime.vector.rows import Rows
from invivo.values import ValueText

_Reader = Callable[[Rows], Column]
_VALUE_TEXT = ValueText()
_WHOLE_TEXT = ValueText("")  # for names, which are whole however long


class VectorColumns:
    """Reads the records of a layout that print values. Not for records of several strides."""

    def __init__(self, layout: Layout, names: Names) -> None:
        self._stride = layout.stride
        self._readers: dict[int, list[_Reader]] = {
            record.id: [_reader(field, layout.stride, names) for field in printed_fields(record)]
            for record in layout.records
            if isinstance(record.action, kinds.Printf | kinds.PrintValue)
        }
        self._known = np.zeros(len(layout.records), bool)
        self._known[list(self._readers)] = True

    def runs(self, window: memoryview) -> list[tuple[int, int]]:
        """Return where runs of records begin and end that can be read; among them are discarded ones."""
        count = len(window) // self._stride
        numbers: NDArray[np.uint32] = np.ndarray((count,), np.uint32, window, HEADER_BYTES, (self._stride,))
        heads: NDArray[np.uint32] = np.ndarray((count,), np.uint32, window, 0, (self._stride,))
        known = (heads & DISCARDED != 0) | self._known[np.minimum(numbers, len(self._known) - 1)]
        if known.all():
            return [(0, len(window))]
        edges = np.flatnonzero(np.diff(known.astype(np.int8), prepend=np.int8(0), append=np.int8(0))).tolist()
        return [(start * self._stride, end * self._stride) for start, end in zip(edges[::2], edges[1::2], strict=True)]

    def events(self, window: memoryview) -> list[Event]:
        """Read a run of records."""
        return [self._tables(window)]

    def _tables(self, window: memoryview) -> RecordTables:
        count = len(window) // self._stride
        heads: NDArray[np.uint32] = np.ndarray((count,), np.uint32, window, 0, (self._stride,))
        numbers: NDArray[np.uint32] = np.ndarray((count,), np.uint32, window, HEADER_BYTES, (self._stride,))
        first = int(numbers[0])
        if (heads == heads[0]).all() and not int(heads[0]) & DISCARDED and (numbers == first).all():
            return RecordTables(count, (self._table(first, Rows(window, count, self._stride, None, {}), None),))
        valid = heads & DISCARDED == 0
        tables: list[RecordTable] = []
        # Where the records of a kind are among those that count.
        places = np.cumsum(valid) - 1
        for number in np.unique(numbers[valid]).tolist():
            picked = np.flatnonzero(valid & (numbers == number))
            order = _memory(places[picked].astype(np.int64))
            tables.append(self._table(number, Rows(window, count, self._stride, picked, {}), order))
        return RecordTables(int(valid.sum()), tuple(tables))

    def _table(self, record: int, rows: Rows, order: memoryview | None) -> RecordTable:
        return RecordTable(record, len(rows), order, tuple(read(rows) for read in self._readers[record]))


def printed_fields(record: RecordLayout) -> tuple[types.Field, ...]:
    """The fields of a record that become columns: a printed tuple has one for each element."""
    if not isinstance(record.action, kinds.PrintValue):
        return record.fields
    whole = record.fields[0]
    match whole.type:
        case types.Tuple(parts) | types.NamedTuple(_, parts) if parts:
            places = types.tuple_layout(parts)[0]
            return tuple(types.Field("", part, whole.offset + at) for part, at in zip(parts, places, strict=True))
        case _:
            return (whole,)


def _reader(field: types.Field, stride: int, names: Names) -> _Reader:
    offset = field.offset + HEADER_BYTES
    if field.bit_size:
        return _any_reader(field, stride, names)
    match field.type:
        case types.Int(bits, signed):
            return _number_reader(f"{'i' if signed else 'u'}{bits // 8}", offset)
        case types.Bool():
            return _number_reader("u1", offset)
        case types.Pointer():
            return _number_reader("u8", offset)
        case types.String(capacity):
            return _string_reader(capacity, offset, capacity - int(capacity == names.longest_string))
        case types.Enumeration() | types.KernelSymbol() | types.ProbeName():
            return _name_reader(field, offset, names)
        case types.Username() | types.CgroupPath() | types.Timestamp():
            return _name_reader(field, offset, names)
        case types.Buffer():
            return _any_reader(field, stride, names)
        case _:
            return _text_reader(field, offset, names)


def _memory(array: NDArray[np.int64] | NDArray[np.int32]) -> memoryview:
    return array.data.cast("B")


def _number_reader(code: str, offset: int) -> _Reader:
    return lambda rows: Numbers(code, _memory(rows.column(code, offset)))


def _string_reader(capacity: int, offset: int, cut_at: int) -> _Reader:
    """Strings up to their terminators; those of ``cut_at`` bytes were probably cut and are `Text`."""

    def read(rows: Rows) -> Column:
        whole: NDArray[np.uint8] = np.ndarray((rows.count, capacity), np.uint8, rows.window, offset, (rows.stride, 1))
        matrix = whole if rows.picked is None else whole[rows.picked]
        size = 16
        while True:  # most strings are much shorter than there is room for
            part = matrix[:, :size]
            ends = part == 0
            lengths: NDArray[np.int64] = ends.argmax(axis=1).astype(np.int64)
            lengths[~ends.any(axis=1)] = part.shape[1]
            if size >= capacity or int(lengths.max(initial=0)) < part.shape[1]:
                break
            size *= 4
        if len(lengths) and (lengths == lengths[0]).all() and (part[:, : lengths[0]] == part[0, : lengths[0]]).all():
            return Selection(None, (_text(part[0, : lengths[0]].tobytes(), cut_at),))
        data = part[np.arange(part.shape[1]) < lengths[:, None]].tobytes()
        offsets = np.zeros(len(lengths) + 1, np.int32)
        np.cumsum(lengths, out=offsets[1:])
        if data.isascii() and int(lengths.max(initial=0)) < cut_at:
            return Texts(_memory(offsets), data)
        bounds = offsets.tolist()
        return Values([_text(data[start:end], cut_at) for start, end in pairwise(bounds)])

    return read


def _text(data: bytes, cut_at: int) -> str:
    text = data.decode("utf-8", "replace")
    return text if len(data) < cut_at else Text(text)


def _name_reader(field: types.Field, offset: int, names: Names) -> _Reader:
    """Values with names: each different one is named once."""
    shape = shape_of(field.type, names)
    meaning: Callable[..., Value] | None = shape.convert
    assert meaning is not None
    code = np.dtype(shape.code).str

    def read(rows: Rows) -> Column:
        values, codes = np.unique(rows.column(code, offset), return_inverse=True)
        texts = tuple(_shown(meaning(value)) for value in values.tolist())
        return Selection(_memory(codes.astype(np.int32)), texts)

    return read


def _shown(value: Value) -> str:
    return _as_text(_WHOLE_TEXT.text(Text(value) if type(value) is str else value))


def _as_text(shown: str) -> str:
    return shown.encode("utf-8", "surrogateescape").decode("utf-8", "replace")


def _text_reader(field: types.Field, offset: int, names: Names) -> _Reader:
    """Values that become text (stacks, structures, addresses of hosts): each different one is read once."""
    shape = shape_of(field.type, names)
    meaning = cast("Callable[[bytes], Value]", shape.convert)
    size = types.size_bytes(field.type)

    def read(rows: Rows) -> Column:
        memory = rows.memory(size, offset)
        places = {each: place for place, each in enumerate(dict.fromkeys(memory))}
        codes = np.fromiter(map(places.__getitem__, memory), np.int32, len(memory))
        return Selection(_memory(codes), tuple(_as_text(_VALUE_TEXT.text(meaning(each))) for each in places))

    return read


def _any_reader(field: types.Field, stride: int, names: Names) -> _Reader:
    """One value after the other, as events have them."""
    moved = types.Field(field.name, field.type, field.offset + HEADER_BYTES, field.bit_offset, field.bit_size)
    decode = fields_decoder((moved,), names)

    def read(rows: Rows) -> Column:
        indices = range(rows.count) if rows.picked is None else rows.picked.tolist()
        return Values(list(chain.from_iterable(decode(rows.window, index * stride) for index in indices)))

    return read
