"""Many records at once as the events that they are alone, for Python that reads events (`Session`)."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from itertools import repeat
from typing import cast

import numpy as np

from invivo.events import Event, Printed, Row, Value
from invivo.ir import layout as kinds
from invivo.ir import types
from invivo.ir.layout import Layout
from invivo.record import replace
from invivo.runtime.decode import Names, shape_of
from invivo.runtime.records import HEADER_BYTES
from invivo.runtime.vector.rows import Column, Rows, joined, merged
from invivo.runtime.vector.text import VectorText
from invivo.values import LineForm, ValueText, text_form

_END = "\x1e"  # behind the text of each printf; one that is in the text itself makes it take the plain way
_Reader = Callable[[Rows], "Iterable[Value]"]


class VectorEvents:
    """Makes the events of prints: their texts together, their values by columns."""

    def __init__(self, layout: Layout, names: Names, text: ValueText, *, bpftrace: bool) -> None:
        self._text = VectorText(layout, names, text, _ended(text_form(text)), bpftrace=bpftrace)
        self._names = names
        self._readers: dict[int, list[_Reader]] = {
            record.id: [self._reader(field.type, field.offset) for field in record.fields]
            for record in layout.records
            if self._text.knows(record.id)
        }
        self._is_printf = {record.id: isinstance(record.action, kinds.Printf) for record in layout.records}
        self.runs = self._text.runs

    def events(self, window: memoryview) -> list[Event] | None:
        """Return the events of a run of records; None if one of them needs the plain way."""
        numbers = self._text.numbers(window)
        first = int(numbers[0])
        if (numbers == first).all():
            return self._of_kind(first, self._text.rows(window))
        events: list[Event | None] = [None] * len(numbers)
        for record in np.flatnonzero(np.bincount(numbers)).tolist():
            picked = np.flatnonzero(numbers == record)
            made = self._of_kind(record, self._text.rows(window, picked))
            if made is None:
                return None
            for place, event in zip(picked.tolist(), made, strict=True):
                events[place] = event
        return cast("list[Event]", events)

    def _of_kind(self, record: int, rows: Rows) -> list[Event] | None:
        columns = [read(rows) for read in self._readers[record]]
        if not self._is_printf[record]:
            return list(map(Row, columns[0]))
        written = self._text.text(record, rows)
        texts = None if written is None else _split(written, len(rows))
        if texts is None:
            return None
        return list(map(Printed, texts, zip(*columns, strict=True) if columns else repeat(())))

    def _reader(self, kind: types.Type, offset: int) -> _Reader:
        """What reads the values of a type that stand at an offset in records."""
        match kind:
            case types.Tuple(parts) if parts:
                elements = self._parts(parts, offset)
                return lambda rows: zip(*[read(rows) for read in elements], strict=True)
            case types.NamedTuple(labels, parts) if parts:
                members = self._parts(parts, offset)
                return lambda rows: [
                    dict(zip(labels, each, strict=True)) for each in zip(*[read(rows) for read in members], strict=True)
                ]
            case types.Int(bits, signed):
                return _number_reader(f"{'i' if signed else 'u'}{bits // 8}", offset + HEADER_BYTES)
            case types.String(capacity):
                return _string_reader(self._text.columns.plain_string(capacity, offset), self._any(kind, offset))
            case _:
                return self._any(kind, offset)

    def _parts(self, parts: tuple[types.Type, ...], offset: int) -> list[_Reader]:
        starts = types.tuple_layout(parts)[0]
        return [self._reader(part, offset + start) for part, start in zip(parts, starts, strict=True)]

    def _any(self, kind: types.Type, offset: int) -> _Reader:
        """Values of any type: each different one is decoded once."""
        shape = shape_of(kind, self._names)
        convert = cast("Callable[[int | bytes], Value]", bool if shape.code == "?" else shape.convert)
        size, code = types.size_bytes(kind), "" if shape.code.endswith("s") else np.dtype(shape.code).str

        def read(rows: Rows) -> Iterable[Value]:
            at = offset + HEADER_BYTES
            raws: Sequence[int | bytes] = rows.column(code, at).tolist() if code else rows.memory(size, at)
            if isinstance(kind, types.Array | types.Struct):
                return map(convert, raws)  # lists and dictionaries: each event has its own
            known = {raw: convert(raw) for raw in set(raws)}
            return map(known.__getitem__, raws)

        return read


def _number_reader(code: str, offset: int) -> _Reader:
    def read(rows: Rows) -> list[Value]:
        numbers = rows.column(code, offset)
        return [int(numbers[0])] * len(rows) if (numbers == numbers[0]).all() else numbers.tolist()

    return read


def _string_reader(column: Column | None, read_any: _Reader) -> _Reader:
    """Strings of plain text are cut out of the memory together."""
    if column is None:
        return read_any

    def read(rows: Rows) -> Iterable[Value]:
        parts = column(rows)
        if parts is None:
            return read_any(rows)
        equal = [part for part in parts if isinstance(part, bytes)]
        if len(equal) == len(parts):
            return [b"".join(equal).decode()] * len(rows)
        texts = _split(joined(merged([*parts, _END.encode()]), len(rows)), len(rows))
        return read_any(rows) if texts is None else texts

    return read


def _split(text: bytes | bytearray, count: int) -> list[str] | None:
    texts = text.decode().split(_END)
    return texts[:-1] if len(texts) == count + 1 else None


def _ended(form: LineForm) -> LineForm:
    """A form whose texts can be told apart. Bytes that are not UTF-8 take the plain way: two could become one."""
    return replace(form, printed=("", _END), errors="strict")
