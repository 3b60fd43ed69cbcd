"""Strings up to their terminators, word by word, and values that have names."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

import numpy as np
from numpy.typing import NDArray

from invivo.ir.format import Directive
from invivo.runtime.vector.numbers import padded
from invivo.runtime.vector.rows import WORD, Column, Part, Rows, Words, words

_LONGEST = 256  # bytes; longer strings are sought for their terminator one by one, by the plain way
_ONES = np.uint64(0x0101010101010101)
_TOPS = np.uint64(0x8080808080808080)
_MOST_BYTES = 1 << 22  # of text, one value in all rows of a chunk: a long one among short ones is as wide as all
_NAMES = 1 << 12  # how far apart values with names are at most, to be told apart by a table


def _zero_at(byte: int) -> np.uint64:
    return np.uint64(1 << 8 * byte + 7)


def string(piece: Directive, capacity: int, offset: int, cut_at: int | None, trailer: bytes | None) -> Column:
    """A string up to its terminator. ``cut_at``: where one stands if the string was probably cut.

    ``trailer`` follows a string that was cut; without one these have no fast way.
    """
    count = -(-capacity // 8)
    last_mask = np.uint64((1 << 8 * (capacity - 8 * (count - 1))) - 1)
    marker = words(trailer or b"")
    # Where the first zero byte of the last word is if there is no terminator: behind the end, or nowhere.
    cut_bits = [_zero_at(capacity % 8) if capacity % 8 else np.uint64(0)]
    if cut_at is not None:
        cut_bits.append(_zero_at(cut_at % 8))

    def column(rows: Rows) -> Sequence[Part] | None:
        made: list[NDArray[np.uint64]] = []
        going = np.ones(1, bool)  # whose terminator did not come yet
        lowest = np.zeros(1, np.uint64)
        for index in range(count):
            if len(made) * 8 >= _LONGEST:
                return None
            word = rows.column("u8", offset + 8 * index).view(np.uint64)
            if len(going) == 1 and (word == word[0]).all():
                word = word[:1]  # so far all strings are one
            if index == count - 1:
                word = word & last_mask
            if index:
                word = np.where(going, word, np.uint64(0))
            zero = (word - _ONES) & ~word & _TOPS
            lowest = zero & (np.uint64(0) - zero)
            made.append(word & ((lowest >> np.uint64(7)) - np.uint64(1)))
            if index < count - 1:
                going = going & (zero == 0)
                if not going.any():
                    break
        content = _side_by_side(made)
        if piece.width and (content & np.uint32(0x80808080)).any():
            return None  # a width counts characters, not bytes
        is_cut = going & np.isin(lowest, cut_bits) if going.any() else going
        if is_cut.any():
            if trailer is None:
                return None
            end = np.where(is_cut[:, None], marker[None, :], np.uint32(0))
            content = np.concatenate([np.broadcast_to(content, (len(end), content.shape[1])), end], axis=1)
        parts = padded(piece, b"", content)
        if len(content) == 1:
            return [part if isinstance(part, bytes) else part.tobytes().translate(None, b"\0") for part in parts]
        return parts

    return column


def harmless(column: Column) -> Column:
    """The same for strings that JSON and terminals have as they are: ASCII without controls, quotes, backslashes."""

    def checked(rows: Rows) -> Sequence[Part] | None:
        parts = column(rows)
        for part in parts or ():
            text = np.frombuffer(part, np.uint8) if isinstance(part, bytes) else part.view(np.uint8)
            if (((text < 0x20) & (text != 0)) | (text == 0x22) | (text == 0x5C) | (text >= 0x7F)).any():
                return None
        return parts

    return checked


def _side_by_side(columns: Sequence[NDArray[np.uint64]]) -> Words:
    """Columns of eight bytes as rows of words; those of one row are the same in all."""
    text = np.empty((max(map(len, columns)), len(columns)), np.uint64)
    for index, column in enumerate(columns):
        text[:, index] = column
    return text.view(np.uint32)


def named(code: str, offset: int, write_all: Callable[[Iterable[int]], list[bytes] | None]) -> Column:
    """Values with names: each different one is written once."""

    def column(rows: Rows) -> Sequence[Part] | None:
        values = rows.column(code, offset)
        low, high = int(values.min()), int(values.max())
        if low == high:
            return _chosen(write_all([low]), None)
        if high - low < _NAMES:
            # Modulo 2**64, since the difference may be more than the type has room for.
            which = (values.astype(np.uint64) - np.uint64(low & (1 << 64) - 1)).astype(np.intp)
            known = np.flatnonzero(np.bincount(which)).tolist()
            order = np.zeros(high - low + 1, np.intp)
            order[known] = np.arange(len(known))
            which = order[which]
            distinct = [low + value for value in known]
        else:
            found, which = np.unique(values, return_inverse=True)
            distinct = found.tolist()
        return _chosen(write_all(distinct), which)

    return column


def described(size: int, offset: int, write_all: Callable[[Iterable[bytes]], list[bytes] | None]) -> Column:
    """The same for values in ``size`` bytes of memory."""

    def column(rows: Rows) -> Sequence[Part] | None:
        memory = rows.memory(size, offset)
        places = {each: place for place, each in enumerate(dict.fromkeys(memory))}
        which = np.fromiter(map(places.__getitem__, memory), np.intp, len(memory)) if len(places) > 1 else None
        return _chosen(write_all(places), which)

    return column


def _chosen(texts: Sequence[bytes] | None, which: NDArray[np.intp] | None) -> Sequence[Part] | None:
    """In each row one of the texts. (None: there is one only.)"""
    if texts is None or which is None:
        return texts
    width = -(-max(map(len, texts)) // WORD) * WORD
    if width * len(which) > _MOST_BYTES:
        return None
    matrix = np.frombuffer(b"".join([text.ljust(width, b"\0") for text in texts]), np.uint32)
    return (matrix.reshape(len(texts), -1)[which],)
