"""The text of many records of ``printf`` and ``print`` at once, with numpy: ten times as fast as Python's ``%``.

A chunk of records becomes a matrix of 32-bit words, one row a record, a few columns a piece of the format; what a
piece does not fill is zero bytes, which are deleted at the end.  Numbers are written four digits at a time from
tables; strings are cut behind their terminator word by word; a column of names is written once a name.  What is
equal in all rows (a process, the upper digits of a time) is one piece with the literal text around it.

What has no fast way here (stacks, structures, flags such as ``%+d``, text that is escaped for a terminal) makes
a kind of records have no columns: its records take the plain way, with the same bytes for a result.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

import numpy as np
from numpy.typing import NDArray

from invivo.events import PrintedText, Value
from invivo.ir import layout as kinds
from invivo.ir import types
from invivo.ir.format import Directive, Format
from invivo.ir.layout import Layout, RecordLayout
from invivo.json_text import quote
from invivo.record import Record
from invivo.runtime.decode import Names, shape_of
from invivo.runtime.records import HEADER_BYTES
from invivo.runtime.vector import numbers, strings
from invivo.runtime.vector.rows import WORD, Column, Part, Rows, fill, merged, width
from invivo.values import ValueText

_SHORTEST = 64  # records in a row that are worth a matrix
_JSON_HEAD, _JSON_TAIL = b'{"type": "printf", "data": "', b'"}\n'
_CHUNK = 8192  # records; beyond it the matrix leaves the processor's cache


class VectorText:
    """Writes the records of a layout whose kinds have columns. Not for records of several strides."""

    def __init__(self, layout: Layout, names: Names, text: ValueText, *, bpftrace: bool, as_json: bool = False) -> None:
        """``text``: how values are written; it must not escape. ``as_json``: ``printf`` as `output.json_lines` does."""
        stride = self._stride = layout.stride
        self._columns: dict[int, Sequence[Column]] = {}
        for record in layout.records:
            found = _shown(record)
            is_written = not as_json or isinstance(record.action, kinds.Printf)
            if found is not None and record.strides == 1 and is_written:
                columns = _columns(*found, _Ways(stride, names, text, bpftrace, as_json))
                if columns is not None:
                    self._columns[record.id] = columns
        self._known = np.zeros(len(layout.records), bool)
        self._known[list(self._columns)] = True

    def runs(self, window: memoryview) -> list[tuple[int, int]]:
        """Return where runs of records begin and end that are committed, plain and have a fast way."""
        stride = self._stride
        count = len(window) // stride
        heads: NDArray[np.uint32] = np.ndarray((count,), np.uint32, window, 0, (stride,))
        marks: NDArray[np.uint64] = np.ndarray((count,), np.uint64, window, HEADER_BYTES, (stride,)).copy()
        whole = heads == stride - HEADER_BYTES
        if count >= _SHORTEST and int(marks.max()) < len(self._known) and whole.all() and self._known[marks].all():
            return [(0, count * stride)]
        plain = whole & (marks < len(self._known))  # flags stand in the upper half
        plain &= self._known[np.where(plain, marks, 0)]
        edges = np.flatnonzero(np.diff(plain.astype(np.int8), prepend=np.int8(0), append=np.int8(0))).tolist()
        return [
            (start * stride, end * stride)
            for start, end in zip(edges[::2], edges[1::2], strict=True)
            if end - start >= _SHORTEST
        ]

    def event(self, window: memoryview) -> PrintedText | None:
        """Return the text of a run of records; None if one of them needs the plain way."""
        text = self._text(window)
        return None if text is None else PrintedText(text)

    def _text(self, window: memoryview) -> bytes | bytearray | None:
        size = _CHUNK * self._stride
        if len(window) <= size:
            return self._chunk(window)
        pieces: list[bytes | bytearray] = []
        for start in range(0, len(window), size):
            piece = self._chunk(window[start : start + size])
            if piece is None:
                return None
            pieces.append(piece)
        return b"".join(pieces)

    def _chunk(self, window: memoryview) -> bytes | bytearray | None:
        stride = self._stride
        count = len(window) // stride
        kinds: NDArray[np.uint32] = np.ndarray((count,), np.uint32, window, HEADER_BYTES, (stride,))
        first = int(kinds[0])
        if (kinds != first).any():
            return self._mixed(window, kinds)
        parts = _parts(self._columns[first], Rows(window, count, stride, None))
        if parts is None:
            return None
        if not parts or (len(parts) == 1 and isinstance(parts[0], bytes)):
            return b"".join(part for part in parts if isinstance(part, bytes)) * count
        text, matrix = _matrix(count, width(parts))
        fill(matrix, parts)
        del matrix
        return text.translate(None, b"\0")

    def _mixed(self, window: memoryview, kinds: NDArray[np.uint32]) -> bytearray | None:
        """Records of several kinds: the text of each, put together in the order of the records."""
        count = len(kinds)
        found: list[tuple[NDArray[np.intp], list[Part]]] = []
        for kind in np.flatnonzero(np.bincount(kinds)).tolist():
            picked = np.flatnonzero(kinds == kind)
            parts = _parts(self._columns[kind], Rows(window, count, self._stride, picked))
            if parts is None:
                return None
            found.append((picked, parts))
        text, whole = _matrix(count, max(width(parts) for _, parts in found))
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


def _matrix(count: int, width: int) -> tuple[bytearray, NDArray[np.uint32]]:
    """Zero bytes, and the same as rows of words."""
    text = bytearray(count * width * WORD)
    return text, np.frombuffer(text, np.uint32).reshape(count, width)


# -- the columns of a format -------------------------------------------------------------------


def _shown(record: RecordLayout) -> tuple[Format, Sequence[types.Field]] | None:
    """The format that a record's fields are written with."""
    match record.action:
        case kinds.Printf(form):
            return form, record.fields
        case kinds.PrintValue():
            pieces: list[str | Directive] = []
            fields: list[types.Field] = []
            for piece in (*_flat(record.fields[0].type, record.fields[0].offset), "\n"):
                if isinstance(piece, str):
                    pieces.append(piece)
                else:
                    pieces.append(Directive("", 0, "", "s"))
                    fields.append(piece)
            return Format(tuple(pieces)), fields
        case _:
            return None


def _flat(kind: types.Type, offset: int) -> Iterator[str | types.Field]:
    """A value as text and the fields that stand in it; see `values.ValueText`."""
    match kind:
        case types.Tuple(parts):
            yield "("
            for index, (part, start) in enumerate(zip(parts, types.tuple_layout(parts)[0], strict=True)):
                yield ", " if index else ""
                yield from _flat(part, offset + start)
            yield ")"
        case types.NamedTuple(labels, parts):
            for index, (label, part, start) in enumerate(zip(labels, parts, types.tuple_layout(parts)[0], strict=True)):
                yield f"{', ' if index else '{ '}.{label} = "
                yield from _flat(part, offset + start)
            yield " }"
        case _:
            yield types.Field("", kind, offset)


class _Ways(Record):
    """What decides how columns are made."""

    stride: int
    names: Names
    text: ValueText
    bpftrace: bool
    as_json: bool

    def encoded(self, text: str) -> bytes:
        """Text as it is written."""
        return (quote(text)[1:-1] if self.as_json else text).encode("utf-8", "surrogateescape")


def _columns(form: Format, fields: Sequence[types.Field], ways: _Ways) -> list[Column] | None:
    columns: list[Column] = []
    if ways.as_json:
        columns.append(_literal(_JSON_HEAD))
    remaining = iter(fields)
    for piece in form.pieces:
        if isinstance(piece, str):
            if "\0" in piece:
                return None
            columns.append(_literal(ways.encoded(piece)))
            continue
        field = next(remaining)
        column = _field_column(piece, field, ways) or _named_column(piece, field, ways)
        if column is None:
            return None
        columns.append(strings.harmless(column) if ways.as_json and isinstance(field.type, types.String) else column)
    if ways.as_json:
        columns.append(_literal(_JSON_TAIL))
    return columns


def _literal(text: bytes) -> Column:
    return lambda rows: (text,)


def _field_column(piece: Directive, field: types.Field, ways: _Ways) -> Column | None:
    """The column of a number or a string, if there is a fast way for its directive."""
    if piece.flags not in ("", "-", "0") or field.bit_size:
        return None
    offset = field.offset + HEADER_BYTES
    match field.type, piece.conversion:
        case types.Int(bits, signed), "d" | "i" | "u" | "x":
            return numbers.number(piece, bits, signed, offset, bpftrace=ways.bpftrace)
        case types.Int(bits, signed), "s" if piece.flags != "0":
            return numbers.number(piece, bits, signed, offset, bpftrace=ways.bpftrace)
        case types.Enumeration(_, bits, signed), "d" | "i" | "u" | "x":
            return numbers.number(piece, bits, signed, offset, bpftrace=ways.bpftrace)
        case types.Pointer(), "p" | "s" if not piece.width:
            return numbers.address(offset)
        case types.String(capacity), "s" if piece.flags != "0" and offset + -(-capacity // 8) * 8 <= ways.stride:
            cut_at = capacity - 1 if capacity == ways.names.longest_string else None
            return strings.string(piece, capacity, offset, cut_at, ways.text.trailer.encode())
        case _:
            return None


def _named_column(piece: Directive, field: types.Field, ways: _Ways) -> Column | None:
    """Values with names (enums, symbols, users, probes, times)."""
    named = types.Enumeration | types.KernelSymbol | types.ProbeName | types.Username | types.CgroupPath
    if piece.conversion != "s" or not isinstance(field.type, named | types.Timestamp | types.Bool):
        return None
    is_bool = isinstance(field.type, types.Bool)
    shape = shape_of(field.type, ways.names)
    decode: Callable[..., Value] | None = bool if is_bool else shape.convert
    if decode is None:
        return None
    template = f"%{'-' if '-' in piece.flags else ''}{piece.width or ''}s"
    code = "u1" if is_bool else np.dtype(shape.code).str

    def write(value: int) -> bytes | None:
        text = ways.encoded(template % (ways.text.text(decode(value)),))
        return None if b"\0" in text else text

    return strings.named(code, field.offset + HEADER_BYTES, write)
