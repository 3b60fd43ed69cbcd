"""Numbers as text, four digits at a time from tables."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import cache, partial

import numpy as np
from numpy.typing import NDArray

from invivo.ir.format import Directive
from invivo.json_text import exact_number
from invivo.runtime.formatting import integer_bits
from invivo.runtime.vector.rows import WORD, Column, Numbers, Part, Rows, Words

_EXACT = 1 << 53  # a double holds integers up to it, and of larger ones those that end in enough zero bits
_HEX_PREFIX = np.frombuffer(b"0x\0\0", np.uint32)[0]
_LEFTMOST, _INNER, _UNITS = 0, 1, 2  # tables of a group of digits: no leading zeros; all digits; zero is "0"


def _digit_tables(base: int) -> Words:
    """Four digits of every number below base⁴, in the three forms that a group of digits has."""
    numbers = np.arange(base**WORD)
    digits = np.empty((_UNITS + 1, base**WORD, WORD), np.uint8)
    for place in range(WORD):
        digits[:, :, place] = numbers // base ** (WORD - 1 - place) % base
    text = np.frombuffer(b"0123456789abcdef", np.uint8)[digits]
    for place in range(WORD):
        is_leading = numbers < base ** (WORD - 1 - place)
        text[_LEFTMOST, is_leading, place] = 0
        if place < WORD - 1:
            text[_UNITS, is_leading, place] = 0
    return text.reshape(-1).view(np.uint32).reshape(_UNITS + 1, -1)


_TABLES: Mapping[int, Callable[[], Words]] = {base: cache(partial(_digit_tables, base)) for base in (10, 16)}


def digits(numbers: Numbers, low: int, high: int, base: int) -> tuple[bytes, Words]:
    """Numbers as text without leading zeros: the digits that all begin with, and the words of the others.

    ``low`` and ``high`` are the least and the greatest.  If they begin differently, numbers stand at the right
    end of as many words as the greatest one takes.
    """
    unit = base**WORD
    groups = 1
    while low // unit**groups != high // unit**groups:
        groups += 1
    head = high // unit**groups
    if head:
        numbers = numbers - numbers.dtype.type(head * unit**groups)
        high -= head * unit**groups
    if high < 1 << 32 and numbers.dtype != np.uint32:
        numbers = numbers.astype(np.uint32)
    text = _groups(numbers, groups, base, _INNER if head else _LEFTMOST)
    return (f"{head:x}" if base == 16 else str(head)).encode() if head else b"", text


def _groups(numbers: Numbers, groups: int, base: int, first: int) -> Words:
    """So many groups of digits; ``first``: the form of the first one."""
    forms = _TABLES[base]()
    unit = base**WORD
    text = np.empty((len(numbers), groups), np.uint32)
    if groups == 1:
        text[:, 0] = forms[_INNER if first == _INNER else _UNITS].take(numbers)
        return text
    rest = numbers
    step = numbers.dtype.type(unit)
    for group in range(groups - 1, 0, -1):
        higher = rest // step
        here = (rest - higher * step).astype(np.intp)
        if first == _INNER:
            text[:, group] = forms[_INNER].take(here)
        else:
            form = _UNITS if group == groups - 1 else _LEFTMOST
            text[:, group] = forms.reshape(-1).take(here + np.where(higher > 0, _INNER * unit, form * unit))
        rest = higher
    text[:, 0] = forms[first].take(rest)
    return text


def number(piece: Directive, code: str, shown: str, base: int, offset: int) -> Column:
    """An integer of numpy's type ``code``, shown as one of the type ``shown``."""
    template = f"%{piece.flags}{piece.width or ''}{'x' if base == 16 else 'd'}"

    def column(rows: Rows) -> Sequence[Part]:
        values = rows.column(code, offset)
        if shown != code:
            values = values.astype(shown)
        low, high = int(values.min()), int(values.max())
        if low == high:
            return ((template % low).encode(),)
        if low >= 0:
            return padded(piece, *digits(_unsigned(values), low, high, base))
        sizes, negative = _magnitudes(values)
        return padded(piece, b"", digits(sizes, 0, int(sizes.max()), base)[1], negative)

    return column


def shown_code(piece: Directive, bits: int, signed: bool, *, bpftrace: bool) -> str:
    """Return numpy's type of what a directive shows of an integer, as `formatting` cuts it.

    That of the integer itself if all of its values are shown as they are.
    """
    code = f"{'i' if signed else 'u'}{bits // 8}"
    if piece.conversion == "s":
        return code
    shown_bits = integer_bits(piece, bpftrace=bpftrace)
    if piece.conversion in "ux":
        shown_bits = shown_bits or 64
        return code if not signed and bits <= shown_bits else f"u{shown_bits // 8}"
    if shown_bits is None or bits < shown_bits:
        return code
    return f"i{shown_bits // 8}"


def prefixed(column: Column, code: str, offset: int) -> Column:
    """A column of hexadecimal numbers with 0x before them, unless they are zero: what of them is shown is."""

    def made(rows: Rows) -> Sequence[Part] | None:
        parts = column(rows)
        is_zero = rows.column(code, offset) == 0
        if parts is None or is_zero.all():
            return parts
        return [b"0x" if not is_zero.any() else np.where(is_zero, np.uint32(0), _HEX_PREFIX)[:, None], *parts]

    return made


def exact(column: Column, signed: bool, offset: int) -> Column:
    """A column of words as `json_text.exact_number` writes them: in quotes what a double cannot hold."""

    def quoted(rows: Rows) -> Sequence[Part] | None:
        parts = column(rows)
        values = rows.column("i8" if signed else "u8", offset)
        low, high = int(values.min()), int(values.max())
        if -_EXACT <= low <= high <= _EXACT or parts is None:
            return parts
        if low == high:
            return (exact_number(low).encode(),)
        sizes, _ = _magnitudes(values) if signed else (values.view(np.uint64), None)
        lowest_bit = np.maximum(sizes & (np.uint64(0) - sizes), np.uint64(1))
        marks = np.where(sizes // lowest_bit > _EXACT, np.uint32(ord('"')), np.uint32(0))[:, None]
        return [marks, *parts, marks]

    return quoted


def _magnitudes(values: NDArray[np.int64]) -> tuple[NDArray[np.uint64], NDArray[np.bool_]]:
    """Integers without their signs, and which are negative."""
    wide = values.astype(np.int64).view(np.uint64)
    negative = values < 0
    return np.where(negative, np.uint64(0) - wide, wide), negative


def _unsigned(values: NDArray[np.int64]) -> Numbers:
    """Integers of any type that are not negative, as one of the two types that digits are made of."""
    size = values.dtype.itemsize
    return values.view(np.uint64) if size == 8 else values.view(np.uint32) if size == WORD else values.astype(np.uint32)


def address(offset: int) -> Column:
    """A pointer."""

    def column(rows: Rows) -> Sequence[Part]:
        values = rows.column("u8", offset).view(np.uint64)
        low, high = int(values.min()), int(values.max())
        if low == high:
            return (b"%#x" % low,)
        head, text = digits(values, low, high, 16)
        return b"0x" + head, text

    return column


def padded(piece: Directive, head: bytes, content: Words, negative: NDArray[np.bool_] | None = None) -> Sequence[Part]:
    """What all begin with and the content, with its sign, filled up to the directive's width."""
    parts: list[Part] = [head, content]
    if negative is not None:
        parts.insert(0, np.where(negative, np.uint32(ord("-")), np.uint32(0))[:, None])
    if not piece.width:
        return parts
    lengths = np.count_nonzero(content.view(np.uint8).reshape(len(content), -1), axis=1) + len(head)
    if negative is not None:
        lengths += negative
    width = -(-piece.width // WORD) * WORD
    fill = ord("0") if piece.flags == "0" else ord(" ")
    padding = np.where(np.arange(width) < (piece.width - lengths)[:, None], np.uint8(fill), np.uint8(0))
    at = len(parts) if piece.flags == "-" else len(parts) - 2 if piece.flags == "0" else 0
    parts.insert(at, padding.view(np.uint32))
    return parts
