"""What the lines of one kind of records are made of: literal text, and columns of numbers, strings and names."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import cast

import numpy as np

from invivo.events import Value
from invivo.ir import layout as kinds
from invivo.ir import types
from invivo.ir.format import Directive, Format
from invivo.ir.layout import RecordLayout
from invivo.json_text import quote
from invivo.record import replace
from invivo.runtime.decode import Names, shape_of
from invivo.runtime.formatting import compile_format
from invivo.runtime.records import HEADER_BYTES
from invivo.runtime.vector import numbers, strings
from invivo.runtime.vector.rows import Column, Part, Rows
from invivo.values import LineForm, ValueText

_WHOLE = Directive("", 0, "", "s")  # a value, as it is
_Piece = bytes | Column


class LineColumns:
    """Makes the columns of records' lines in an output's form."""

    def __init__(self, names: Names, text: ValueText, form: LineForm, stride: int, *, bpftrace: bool) -> None:
        """``text``: how ``%s`` shows a value."""
        self._names = names
        self._text = text
        self._form = form
        self._stride = stride
        self._bpftrace = bpftrace
        # Then the only strings that have a fast way are those of plain characters, which any form leaves as they are.
        self._is_choosy = form.is_json or text.escapes or form.errors == "strict"
        self._made: dict[tuple[object, ...], Column] = {}

    def of(self, record: RecordLayout) -> list[Column] | None:
        """Return the columns of a kind of records, None if there is no fast way for it."""
        if record.strides > 1 or any(field.bit_size for field in record.fields):
            return None
        try:
            pieces = list(self._pieces(record))
        except UnicodeEncodeError:  # in the format; a form may have no such bytes
            return None
        has_zeros = any(isinstance(piece, bytes) and b"\0" in piece for piece in pieces)
        if not pieces or has_zeros:  # which stand for nothing in a matrix of text
            return None
        return [_literal(piece) if isinstance(piece, bytes) else piece for piece in pieces]

    def _pieces(self, record: RecordLayout) -> Iterator[_Piece]:
        form = self._form
        match record.action:
            case kinds.Printf(pattern):
                yield from self._printf(pattern, record.fields)
            case kinds.PrintValue() if form.row is not None:
                (value,) = record.fields
                yield form.row[0].encode()
                yield from self._value(value.type, value.offset)
                yield form.row[1].encode()
            case _:
                return

    def _printf(self, pattern: Format, fields: Sequence[types.Field]) -> Iterator[_Piece]:
        printed = [part.encode() for part in self._form.printed]
        yield printed[0]
        remaining = iter(fields)
        for piece in pattern.pieces:
            yield self._encoded(piece) if isinstance(piece, str) else self._directive(piece, next(remaining))
        yield printed[1]
        if len(printed) > 2:
            for index, field in enumerate(fields):
                yield b"," if index else b""
                yield from self._value(field.type, field.offset)
            yield printed[2]

    def _value(self, kind: types.Type, offset: int) -> Iterator[_Piece]:
        """A value as ``form.value`` writes it."""
        form = self._form
        match kind:
            case types.Tuple(parts) if parts:
                yield from self._sequence(form.elements, [""] * len(parts), parts, offset)
            case types.NamedTuple(labels, parts) if parts:
                yield from self._sequence(form.members, [form.label % label for label in labels], parts, offset)
            case types.Int(64, signed) if form.is_json:
                yield numbers.exact(self._number(_WHOLE, 64, signed, offset), signed, offset + HEADER_BYTES)
            case types.Int(bits, signed):
                yield self._number(_WHOLE, bits, signed, offset)
            case types.String(capacity):
                quotation = b'"' if form.is_json else b""
                yield self._string(_WHOLE, capacity, offset, form.value, quotation)
            case _:
                yield self._distinct(kind, offset, form.value)

    def _sequence(
        self, marks: tuple[str, str, str], labels: Sequence[str], parts: Sequence[types.Type], offset: int
    ) -> Iterator[_Piece]:
        before, between, behind = marks
        starts = types.tuple_layout(tuple(parts))[0]
        for index, (label, part, start) in enumerate(zip(labels, parts, starts, strict=True)):
            yield f"{between if index else before}{label}".encode()
            yield from self._value(part, offset + start)
        yield behind.encode()

    def _directive(self, piece: Directive, field: types.Field) -> Column:
        """A value as a directive of a format shows it."""
        offset = field.offset
        formatter = compile_format(Format((piece,)), self._text, [field.type], bpftrace=self._bpftrace)
        is_plain = piece.flags in ("", "-", "0")

        def write(value: Value) -> str:
            return self._escaped(formatter.fill((value,)))

        match field.type, piece.conversion:
            case types.Int(bits, signed) | types.Enumeration(_, bits, signed), "d" | "i" | "u" | "x" if is_plain:
                return self._number(piece, bits, signed, offset)
            case types.Int(bits, signed), "s" if is_plain and piece.flags != "0":
                return self._number(piece, bits, signed, offset)
            case types.Int(bits, signed), "x" if piece.flags == "#" and not piece.width:
                shown = numbers.shown_code(piece, bits, signed, bpftrace=self._bpftrace)
                code = f"u{min(bits // 8, int(shown[1]))}"
                digits = self._number(replace(piece, flags=""), bits, signed, offset)
                return numbers.prefixed(digits, code, offset + HEADER_BYTES)
            case types.Pointer(), "p" | "s" if is_plain and not piece.width:
                return numbers.address(offset + HEADER_BYTES)
            case types.String(capacity), "s" if is_plain and piece.flags != "0":
                return self._string(piece, capacity, offset, write)
            case _:
                return self._distinct(field.type, offset, write)

    def _number(self, piece: Directive, bits: int, signed: bool, offset: int) -> Column:
        shown = numbers.shown_code(piece, bits, signed, bpftrace=self._bpftrace)
        base = 16 if piece.conversion == "x" else 10
        code = f"{'i' if signed else 'u'}{bits // 8}"
        return self._once(
            (offset, code, shown, base, piece.flags, piece.width),
            lambda: numbers.number(piece, code, shown, base, offset + HEADER_BYTES),
        )

    def _string(
        self, piece: Directive, capacity: int, offset: int, write: Callable[..., str], quotation: bytes = b""
    ) -> Column:
        """A string; those that are not plain text are written by ``write``."""
        named = self._distinct(types.String(capacity), offset, write)
        plain = self._string_column(piece, capacity, offset)
        if plain is None:
            return named

        def column(rows: Rows) -> Sequence[Part] | None:
            parts = plain(rows)
            return named(rows) if parts is None else [quotation, *parts, quotation]

        return column

    def plain_string(self, capacity: int, offset: int) -> Column | None:
        """Return the column of a string as it is, None if there is no fast way for it."""
        return self._string_column(_WHOLE, capacity, offset)

    def _string_column(self, piece: Directive, capacity: int, offset: int) -> Column | None:
        if offset + HEADER_BYTES + -(-capacity // 8) * 8 > self._stride:
            return None  # it is not whole words
        return self._once(
            (offset, capacity, piece.flags, piece.width), lambda: self._made_string(piece, capacity, offset)
        )

    def _made_string(self, piece: Directive, capacity: int, offset: int) -> Column:
        cut_at = capacity - 1 if capacity == self._names.longest_string else None
        trailer = None if self._is_choosy else self._text.trailer.encode()
        column = strings.string(piece, capacity, offset + HEADER_BYTES, cut_at, trailer)
        return strings.harmless(column) if self._is_choosy else column

    def _distinct(self, kind: types.Type, offset: int, write: Callable[..., str]) -> Column:
        """Values of any type: each different one is decoded and written once."""
        shape = shape_of(kind, self._names)
        convert = cast("Callable[..., Value] | None", bool if shape.code == "?" else shape.convert)

        def write_all(raws: Iterable[int | bytes]) -> list[bytes] | None:
            values = raws if convert is None else map(convert, raws)
            try:
                texts = list(map(write, values))
                pieces = "\0".join(texts).encode("utf-8", self._form.errors).split(b"\0")
            except (TypeError, ValueError, KeyError):
                return None
            return pieces if len(pieces) == len(texts) else None

        if shape.code.endswith("s"):
            return strings.described(types.size_bytes(kind), offset + HEADER_BYTES, write_all)
        return strings.named("u1" if shape.code == "?" else np.dtype(shape.code).str, offset + HEADER_BYTES, write_all)

    def _once(self, key: tuple[object, ...], make: Callable[[], Column]) -> Column:
        """A column that may stand in several places of a line."""
        if key not in self._made:
            self._made[key] = _remembered(make())
        return self._made[key]

    def _encoded(self, text: str) -> bytes:
        return self._escaped(text).encode("utf-8", self._form.errors)

    def _escaped(self, text: str) -> str:
        return quote(text)[1:-1] if self._form.is_json else text


def _literal(text: bytes) -> Column:
    return lambda rows: (text,)


def _remembered(column: Column) -> Column:
    def made(rows: Rows) -> Sequence[Part] | None:
        if made not in rows.made:
            rows.made[made] = column(rows)
        return rows.made[made]

    return made
