"""Numbers as text, four digits at a time from tables."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import cache, partial

import numpy as np
from numpy.typing import NDArray

from invivo.ir.format import Directive
from invivo.runtime.formatting import integer_bits
from invivo.runtime.vector.rows import WORD, Column, Numbers, Part, Rows, Words

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


def number(piece: Directive, bits: int, signed: bool, offset: int, *, bpftrace: bool) -> Column:
    """An integer, cut as `formatting` cuts it."""
    code = f"{'i' if signed else 'u'}{bits // 8}"
    base = 16 if piece.conversion == "x" else 10
    template = f"%{piece.flags}{piece.width or ''}{'x' if base == 16 else 'd'}"
    shown = _shown_code(piece, code, bpftrace=bpftrace)

    def column(rows: Rows) -> Sequence[Part]:
        values = rows.column(code, offset)
        if shown != code:
            values = values.astype(shown)
        low, high = int(values.min()), int(values.max())
        if low == high:
            return ((template % low).encode(),)
        if low >= 0:
            return padded(piece, *digits(_unsigned(values), low, high, base))
        wide = values.astype(np.int64).view(np.uint64)
        negative = values < 0
        sizes = np.where(negative, np.uint64(0) - wide, wide)
        return padded(piece, b"", digits(sizes, 0, int(sizes.max()), base)[1], negative)

    return column


def _shown_code(piece: Directive, code: str, *, bpftrace: bool) -> str:
    """numpy's type of what a directive shows of an integer."""
    if piece.conversion == "s":
        return code
    bits = integer_bits(piece, bpftrace=bpftrace)
    if piece.conversion in "ux":
        return f"u{(bits or 64) // 8}"
    return code if bits is None else f"i{bits // 8}"


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
