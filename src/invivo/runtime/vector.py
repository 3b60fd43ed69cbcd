"""The text of many records of ``printf`` and ``print`` at once, with numpy: ten times as fast as Python's ``%``.

A chunk of records becomes a matrix of 32-bit words, one row a record, one or more columns a piece of the format;
what a piece does not fill is zero bytes, which are deleted at the end.  Numbers are written four digits at a time
from tables; strings are cut behind their terminator word by word; a column of names is written once a name.

What has no fast way here (stacks, structures, flags such as ``%+d``, text that is escaped for a terminal) makes
a kind of records have no columns: its records take the plain way, with the same bytes for a result.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import cache, partial

import numpy as np
from numpy.typing import NDArray

from invivo.ir import layout as kinds
from invivo.ir import types
from invivo.ir.format import Directive, Format
from invivo.ir.layout import Layout, RecordLayout
from invivo.record import Record
from invivo.runtime.decode import Names, shape_of
from invivo.runtime.formatting import integer_bits
from invivo.runtime.records import HEADER_BYTES
from invivo.values import ValueText

Words = NDArray[np.uint32]  # (records, words): four bytes of text each, unused ones zero
_Numbers = NDArray[np.uint64]

_WORD = 4
_SHORTEST = 64  # records in a row that are worth a matrix
_CHUNK = 8192  # records; beyond it the matrix leaves the processor's cache
_LONGEST_STRING = 256  # bytes; longer ones are sought for their terminator one by one, by the plain way
_LEFTMOST, _INNER, _UNITS = 0, 1, 2  # tables of a group of digits: no leading zeros; all digits; zero is "0"
_ONES = np.uint64(0x0101010101010101)
_TOPS = np.uint64(0x8080808080808080)


class Rows(Record, eq=False):
    """Records of one kind in a window: all, or those that ``picked`` has the indices of."""

    window: memoryview
    count: int
    stride: int
    picked: NDArray[np.intp] | None

    def column(self, code: str, offset: int) -> NDArray[np.int64]:
        """The integers of numpy's type ``code`` at ``offset`` from the start of each record, widened."""
        whole: NDArray[np.int64] = np.ndarray((self.count,), code, self.window, offset, (self.stride,))
        return (whole if self.picked is None else whole[self.picked]).astype(np.int64)


Column = Callable[[Rows], "Words | None"]


class VectorText:
    """Writes the records of a layout whose kinds have columns. Not for records of several strides."""

    def __init__(self, layout: Layout, names: Names, text: ValueText, *, bpftrace: bool) -> None:
        """``text``: how values are written; it must not escape."""
        stride = self._stride = layout.stride
        self._columns: dict[int, Sequence[Column]] = {}
        for record in layout.records:
            found = _shown(record)
            if found is not None and record.strides == 1:
                columns = _columns(*found, _Ways(stride, names, text, bpftrace=bpftrace))
                if columns is not None:
                    self._columns[record.id] = columns
        self._known = np.zeros(len(layout.records), bool)
        self._known[list(self._columns)] = True

    def runs(self, window: memoryview) -> list[tuple[int, int]]:
        """Return where runs of records begin and end that are committed, plain and have a fast way."""
        stride = self._stride
        count = len(window) // stride
        words: NDArray[np.uint32] = np.ndarray((count, 4), np.uint32, window, 0, (stride, 4))
        heads, kinds, flags = words[:, 0], words[:, 2], words[:, 3]
        plain = (heads == stride - HEADER_BYTES) & (flags == 0) & (kinds < len(self._known))
        plain &= self._known[np.where(plain, kinds, 0)]
        edges = np.flatnonzero(np.diff(plain.astype(np.int8), prepend=np.int8(0), append=np.int8(0))).tolist()
        return [
            (start * stride, end * stride)
            for start, end in zip(edges[::2], edges[1::2], strict=True)
            if end - start >= _SHORTEST
        ]

    def text(self, window: memoryview) -> bytes | None:
        """Return the text of a run of records; None if one of them needs the plain way."""
        size = _CHUNK * self._stride
        pieces: list[bytes] = []
        for start in range(0, len(window), size):
            piece = self._chunk(window[start : start + size])
            if piece is None:
                return None
            pieces.append(piece)
        return b"".join(pieces)

    def _chunk(self, window: memoryview) -> bytes | None:
        stride = self._stride
        count = len(window) // stride
        kinds: NDArray[np.uint32] = np.ndarray((count,), np.uint32, window, HEADER_BYTES, (stride,))
        first = int(kinds[0])
        if (kinds == first).all():
            matrix = _matrix(self._columns[first], Rows(window, count, stride, None), count)
        else:
            matrix = self._mixed(window, kinds)
        return None if matrix is None else matrix.tobytes().translate(None, b"\0")

    def _mixed(self, window: memoryview, kinds: NDArray[np.uint32]) -> Words | None:
        """Records of several kinds: a matrix for each, put together in the order of the records."""
        count = len(kinds)
        parts: list[tuple[NDArray[np.intp], Words]] = []
        for kind in np.flatnonzero(np.bincount(kinds)).tolist():
            picked = np.flatnonzero(kinds == kind)
            part = _matrix(self._columns[kind], Rows(window, count, self._stride, picked), len(picked))
            if part is None:
                return None
            parts.append((picked, part))
        whole = np.zeros((count, max(part.shape[1] for _, part in parts)), np.uint32)
        for picked, part in parts:
            whole[picked, : part.shape[1]] = part
        return whole


def _matrix(columns: Sequence[Column], rows: Rows, count: int) -> Words | None:
    made: list[Words] = []
    for column in columns:
        words = column(rows)
        if words is None:
            return None
        made.append(words)
    matrix = np.empty((count, sum(words.shape[1] for words in made)), np.uint32)
    at = 0
    for words in made:
        matrix[:, at : at + words.shape[1]] = words
        at += words.shape[1]
    return matrix


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


def _columns(form: Format, fields: Sequence[types.Field], ways: _Ways) -> list[Column] | None:
    columns: list[Column] = []
    remaining = iter(fields)
    for piece in form.pieces:
        if isinstance(piece, str):
            if "\0" in piece:
                return None
            columns.append(_literal(piece.encode("utf-8", "surrogateescape")))
            continue
        field = next(remaining)
        column = _field_column(piece, field, ways) or _named_column(piece, field, ways)
        if column is None:
            return None
        columns.append(column)
    return columns


def _field_column(piece: Directive, field: types.Field, ways: _Ways) -> Column | None:
    """The column of a number or a string, if there is a fast way for its directive."""
    if piece.flags not in ("", "-", "0") or field.bit_size:
        return None
    offset = field.offset + HEADER_BYTES
    match field.type, piece.conversion:
        case types.Int(bits, signed), "d" | "i" | "u" | "x":
            return _number(piece, bits, signed, offset, bpftrace=ways.bpftrace)
        case types.Int(bits, signed), "s" if piece.flags != "0":
            return _number(piece, bits, signed, offset, bpftrace=ways.bpftrace)
        case types.Enumeration(_, bits, signed), "d" | "i" | "u" | "x":
            return _number(piece, bits, signed, offset, bpftrace=ways.bpftrace)
        case types.Pointer(), "p" | "s" if not piece.width:
            return _address(offset)
        case types.String(capacity), "s" if piece.flags != "0" and offset + -(-capacity // 8) * 8 <= ways.stride:
            cut_at = capacity - 1 if capacity == ways.names.longest_string else None
            return _string(piece, capacity, offset, cut_at, ways.text.trailer.encode())
        case _:
            return None


def _literal(text: bytes) -> Column:
    words = _words(text)[None, :]
    return lambda rows: words


def _words(text: bytes) -> Words:
    return np.frombuffer(text.ljust(-(-len(text) // _WORD) * _WORD, b"\0"), np.uint32)


def _named_column(piece: Directive, field: types.Field, ways: _Ways) -> Column | None:
    """Values with names (enums, symbols, users, probes, times): each different one is written once."""
    named = types.Enumeration | types.KernelSymbol | types.ProbeName | types.Username | types.CgroupPath
    if piece.conversion != "s" or not isinstance(field.type, named | types.Timestamp):
        return None
    shape = shape_of(field.type, ways.names)
    decode = shape.convert
    if decode is None:
        return None
    template = f"%{'-' if '-' in piece.flags else ''}{piece.width or ''}s"
    code, offset = np.dtype(shape.code).str, field.offset + HEADER_BYTES
    wide = np.int64 if shape.code.islower() else np.uint64

    def column(rows: Rows) -> Words | None:
        values = rows.column(code, offset)
        which = None
        if (values != values[0]).any():
            values, which = np.unique(values, return_inverse=True)
        texts = [
            (template % (ways.text.text(decode(value)),)).encode("utf-8", "surrogateescape")
            for value in (values[:1] if which is None else values).view(wide).tolist()
        ]
        if any(b"\0" in text for text in texts):
            return None
        longest = max(map(len, texts))
        table = np.stack([_words(text.ljust(longest, b"\0")) for text in texts])
        return table if which is None else table[which]

    return column


# -- numbers -----------------------------------------------------------------------------------


def _digit_tables(base: int) -> Words:
    """Four digits of every number below base⁴, in the three forms that a group of digits has, one after the other."""
    numbers = np.arange(base**_WORD)
    digits = np.empty((_UNITS + 1, base**_WORD, _WORD), np.uint8)
    for place in range(_WORD):
        digits[:, :, place] = numbers // base ** (_WORD - 1 - place) % base
    text = np.frombuffer(b"0123456789abcdef", np.uint8)[digits]
    for place in range(_WORD):
        is_leading = numbers < base ** (_WORD - 1 - place)
        text[_LEFTMOST, is_leading, place] = 0
        if place < _WORD - 1:
            text[_UNITS, is_leading, place] = 0
    return text.reshape(-1).view(np.uint32)


_TABLES: Mapping[int, Callable[[], Words]] = {base: cache(partial(_digit_tables, base)) for base in (10, 16)}


def _digits(numbers: _Numbers, base: int) -> Words:
    """Numbers as text without leading zeros, at the right end of as many words as the largest one takes."""
    table = _TABLES[base]()
    unit = base**_WORD
    groups = 1
    largest = int(numbers.max()) // unit
    while largest:
        largest //= unit
        groups += 1
    words = np.empty((len(numbers), groups), np.uint32)
    if unit > int(numbers.max()):
        words[:, 0] = table[numbers.astype(np.intp) + _UNITS * unit]
        return words
    rest = numbers
    for group in range(groups - 1, 0, -1):
        higher = rest // np.uint64(unit)
        here = (rest - higher * np.uint64(unit)).astype(np.intp)
        form = _UNITS if group == groups - 1 else _LEFTMOST
        words[:, group] = table[here + np.where(higher > 0, _INNER * unit, form * unit)]
        rest = higher
    words[:, 0] = table[rest.astype(np.intp)]
    return words


def _number(piece: Directive, bits: int, signed: bool, offset: int, *, bpftrace: bool) -> Column:
    """An integer, cut as `formatting` cuts it."""
    code = f"{'i' if signed else 'u'}{bits // 8}"
    base = 16 if piece.conversion == "x" else 10
    cut_code, is_signed = None, signed
    if piece.conversion != "s":
        shown_bits = integer_bits(piece, bpftrace=bpftrace)
        if piece.conversion in "ux":
            cut_code, is_signed = f"u{(shown_bits or 64) // 8}", False
        elif shown_bits is not None:
            cut_code, is_signed = f"i{shown_bits // 8}", True

    def column(rows: Rows) -> Words | None:
        values = rows.column(code, offset)
        if cut_code is not None:
            values = values.astype(cut_code).astype(np.int64)
        numbers = values.view(np.uint64)
        if not is_signed or values.min() >= 0:
            return _padded(piece, _digits(numbers, base))
        negative = values < 0
        return _padded(piece, _digits(np.where(negative, np.uint64(0) - numbers, numbers), base), negative)

    return column


def _address(offset: int) -> Column:
    prefix = _words(b"0x")

    def column(rows: Rows) -> Words | None:
        digits = _digits(rows.column("u8", offset).view(np.uint64), 16)
        return np.concatenate([np.broadcast_to(prefix, (len(digits), 1)), digits], axis=1)

    return column


def _padded(piece: Directive, content: Words, negative: NDArray[np.bool_] | None = None) -> Words:
    """Content with its sign, filled up to the directive's width."""
    count = len(content)
    parts = [content]
    if negative is not None:
        sign = np.where(negative, np.uint32(ord("-")), np.uint32(0))[:, None]
        parts.insert(0, sign)
    if piece.width:
        lengths = np.count_nonzero(content.view(np.uint8).reshape(count, -1), axis=1)
        if negative is not None:
            lengths += negative
        width = -(-piece.width // _WORD) * _WORD
        fill = ord("0") if piece.flags == "0" else ord(" ")
        padding = np.where(np.arange(width) < (piece.width - lengths)[:, None], np.uint8(fill), np.uint8(0))
        at = len(parts) if piece.flags == "-" else len(parts) - 1 if piece.flags == "0" else 0
        parts.insert(at, padding.view(np.uint32))
    return parts[0] if len(parts) == 1 else np.concatenate(parts, axis=1)


# -- strings -----------------------------------------------------------------------------------


def _zero_at(byte: int) -> np.uint64:
    return np.uint64(1 << 8 * byte + 7)


def _string(piece: Directive, capacity: int, offset: int, cut_at: int | None, trailer: bytes) -> Column:
    """A string up to its terminator. ``cut_at``: where one stands if the string was probably cut."""
    words = -(-capacity // 8)
    last_mask = np.uint64((1 << 8 * (capacity - 8 * (words - 1))) - 1)
    marker = _words(trailer)
    # Where the first zero byte of the last word is if there is no terminator: behind the end, or nowhere.
    cut_bits = [_zero_at(capacity % 8) if capacity % 8 else np.uint64(0)]
    if cut_at is not None:
        cut_bits.append(_zero_at(cut_at % 8))

    def column(rows: Rows) -> Words | None:
        made: list[_Numbers] = []
        going = np.ones(1, bool)  # whose terminator did not come yet
        lowest = np.zeros(1, np.uint64)
        for index in range(words):
            if len(made) * 8 >= _LONGEST_STRING:
                return None
            word = rows.column("u8", offset + 8 * index).view(np.uint64)
            word = np.where(going, word & last_mask if index == words - 1 else word, np.uint64(0))
            zero = (word - _ONES) & ~word & _TOPS
            lowest = zero & (np.uint64(0) - zero)
            made.append(word & ((lowest >> np.uint64(7)) - np.uint64(1)))
            if index < words - 1:
                going = going & (zero == 0)
                if not going.any():
                    break
        content = np.stack(made, axis=1).view(np.uint32)
        if piece.width and (content & np.uint32(0x80808080)).any():
            return None  # a width counts characters, not bytes
        is_cut = going & np.isin(lowest, cut_bits)
        if is_cut.any():
            end = np.where(is_cut[:, None], marker[None, :], np.uint32(0))
            content = np.concatenate([content, end], axis=1)
        return _padded(piece, content)

    return column
