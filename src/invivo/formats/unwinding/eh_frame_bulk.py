"""Unwind tables of files with thousands of functions: all functions take one step of their instructions at a time.

The result is that of `formats.unwinding.eh_frame`, which does what is rare: a function with an instruction
that is not known here is left to it.
"""

from __future__ import annotations

from array import array
from collections.abc import Callable, Iterator
from typing import Final

import numpy as np
from numpy.typing import NDArray

from invivo.errors import BadFileError
from invivo.formats.unwinding.call_frames import Cie, Interpreter
from invivo.formats.unwinding.eh_frame import FrameSection, Function, rows_of
from invivo.formats.unwinding.rule import RBP, RBX, RuleKind
from invivo.formats.unwinding.table import MOST_ROWS, PADDING_BYTES, UnwindTable, entry_rows

Numbers = NDArray[np.int64]

_PCREL_SDATA4: Final = 0x1B
_DEEPEST: Final = 4  # remembered states
_FEW: Final = 64  # functions that are still running: from here on one after another is faster
_OTHER: Final = 255
_COLUMNS: Final = (
    "number", "size", "position", "end", "place", "register", "offset", "rbp", "rbx", "depth", "remembered", "failed",
)  # fmt: skip


def _classes() -> NDArray[np.uint8]:
    classes = np.full(256, _OTHER, np.uint8)
    classes[0] = 0
    classes[0x40:0x80] = 1  # DW_CFA_advance_loc
    classes[0x02:0x05] = (2, 3, 4)  # advance_loc1, 2, 4
    classes[0x80:0xC0] = 5  # offset
    classes[0xC0:] = 6  # restore
    classes[0x0A:0x0F] = (7, 8, 9, 10, 11)  # remember_state, restore_state, def_cfa, def_cfa_register, def_cfa_offset
    classes[0x2E] = 12  # GNU_args_size
    return classes


def table(section: FrameSection, cies: dict[int, Cie], functions: list[Function], entry: int) -> UnwindTable | None:
    """As `formats.unwinding.table.table_of`. Raises `BadFileError`."""
    fields = np.array([(f.cie, f.at, f.end) for f in functions], np.int64)
    rest: list[Function] = []
    parts: list[tuple[Numbers, Numbers, NDArray[np.uint64]]] = []
    for offset, cie in cies.items():
        chosen = np.flatnonzero(fields[:, 0] == offset)
        initial = Interpreter(cie).initial
        simple = cie.encoding == _PCREL_SDATA4 and cie.augmented and not cie.is_signal
        if simple and initial[0] == RuleKind.REGISTER and not any(initial[5:]):
            left = _Batch(section, cie, fields[chosen, 1], fields[chosen, 2]).run(parts)
            rest += [functions[chosen[index]] for index in left]
        else:
            rest += [functions[index] for index in chosen]
    if rest:
        parts.append(_columns(rows_of(section, cies, rest)))
    return _joined(section.path, parts, entry)


def _columns(rows: Iterator[tuple[int, int, int]]) -> tuple[Numbers, Numbers, NDArray[np.uint64]]:
    listed = [row for row in rows if row[0] < 1 << 63]
    words = np.array([row[2] for row in listed], np.uint64)
    return np.array([row[0] for row in listed], np.int64), np.array([row[1] for row in listed], np.int64), words


def _joined(path: str, parts: list[tuple[Numbers, Numbers, NDArray[np.uint64]]], entry: int) -> UnwindTable | None:
    """Sort the rows; of those with one address the last one counts."""
    addresses, kinds, words = (np.concatenate([part[index] for part in parts]) for index in range(3))
    if not len(addresses):
        return None
    order = np.lexsort((kinds, addresses))
    addresses, words = addresses[order], words[order].view(np.uint64)
    last = np.append(addresses[1:] != addresses[:-1], True)
    addresses, words = addresses[last], words[last]
    at = int(np.searchsorted(addresses, entry, "right"))
    before = int(words[at - 1]) if at else 1
    for address, word in entry_rows(entry, before, int(addresses[at]) if at < len(addresses) else None):
        addresses, words = np.insert(addresses, at, address), np.insert(words, at, np.uint64(word))
        at += 1
    gaps = np.append(np.diff(addresses), 1 << 62)
    kept = (words != 0) | (gaps >= PADDING_BYTES)
    addresses, words = addresses[kept], words[kept]
    changes = np.append(True, words[1:] != words[:-1])
    addresses, words = addresses[changes], words[changes]
    base = int(addresses[0])
    if int(addresses[-1]) - base >= 1 << 32:
        raise BadFileError(path, ".eh_frame describes more than 4 GiB of code")
    if len(addresses) > MOST_ROWS:
        raise BadFileError(path, "too many rows in .eh_frame")
    distinct, indexes = np.unique(words, return_inverse=True)
    return UnwindTable(
        base,
        array("I", (addresses - base).astype(np.uint32).tobytes()),
        array("I", indexes.astype(np.uint32).tobytes()),
        tuple(distinct.tolist()),
    )


class _Batch:
    """Functions with one `Cie`, all at the same step."""

    def __init__(self, section: FrameSection, cie: Cie, at: Numbers, end: Numbers) -> None:
        # A look at a whole operand must not leave the array.
        self.data = np.append(np.frombuffer(section.data, np.uint8), np.zeros(16, np.uint8))
        self.factor = cie.data_alignment
        count = len(at)
        _, register, offset, rbp, rbx, _, _ = Interpreter(cie).initial
        self.initial = (rbp, rbx)
        start: Numbers = section.address + at + self.signed32(at)
        size = self.unsigned(at + 4, 4)
        length, width = self.uleb(at + 8)
        self.number = np.arange(count)
        self.start, self.size = start, size
        self.position, self.end = at + 8 + width + length, end
        self.place = np.zeros(count, np.int64)
        self.register = np.full(count, register, np.int64)
        self.offset = np.full(count, offset, np.int64)
        self.rbp = np.full(count, rbp, np.int64)
        self.rbx = np.full(count, rbx, np.int64)
        self.depth = np.zeros(count, np.int64)
        self.remembered = np.zeros((count, _DEEPEST, 4), np.int64)
        bad = (width == 0) | (size <= 0) | (start < 0) | (at + 9 > end) | (self.position > end)
        self.failed = bad

    # -- operands ------------------------------------------------------------------------------

    def unsigned(self, at: Numbers, width: int) -> Numbers:
        at = np.minimum(at, len(self.data) - 8)
        value = self.data[at].astype(np.int64)
        for index in range(1, width):
            value |= self.data[at + index].astype(np.int64) << (8 * index)
        return value

    def signed32(self, at: Numbers) -> Numbers:
        return self.unsigned(at, 4).astype(np.uint32).view(np.int32).astype(np.int64)

    def uleb(self, at: Numbers) -> tuple[Numbers, Numbers]:
        """Values and widths; width 0 where there are more than three bytes."""
        at = np.minimum(at, len(self.data) - 8)
        first = self.data[at].astype(np.int64)
        if not (first >= 0x80).any():
            return first, np.ones(len(first), np.int64)
        second, third = self.data[at + 1].astype(np.int64), self.data[at + 2].astype(np.int64)
        value = first & 0x7F
        two, three = first >= 0x80, (first >= 0x80) & (second >= 0x80)
        value = np.where(two, value | (second & 0x7F) << 7, value)
        value = np.where(three, value | (third & 0x7F) << 14, value)
        width = 1 + two.astype(np.int64) + three
        return value, np.where(three & (third >= 0x80), 0, width)

    # -- running -------------------------------------------------------------------------------

    def run(self, parts: list[tuple[Numbers, Numbers, NDArray[np.uint64]]]) -> list[int]:
        """Add the rows to ``parts``; return the numbers of the functions that were not understood."""
        left: list[int] = []
        found: list[tuple[Numbers, Numbers, NDArray[np.uint64]]] = []  # number, place, word
        whole_start, whole_size, whole_number = self.start, self.size, self.number
        while True:
            done = (self.position >= self.end) & ~self.failed
            if done.any():
                found.append(self.rows(np.flatnonzero(done)))
            if self.failed.any() or done.any():
                left += self.number[self.failed].tolist()
                self.keep(np.flatnonzero(~done & ~self.failed))
            if len(self.number) < _FEW:
                break
            self.step(found)
        left += self.number.tolist()
        if found:
            numbers, places = (np.concatenate([each[index] for each in found]) for index in (0, 1))
            words = np.concatenate([each[2] for each in found])
            understood = np.ones(len(whole_start), bool)
            understood[left] = False
            chosen = understood[numbers] & (places < whole_size[numbers])
            addresses: Numbers = whole_start[numbers[chosen]] + places[chosen]
            parts.append((addresses, np.ones(len(addresses), np.int64), words[chosen]))
            ends = whole_number[understood]
            parts.append(
                (whole_start[ends] + whole_size[ends], np.zeros(len(ends), np.int64), np.zeros(len(ends), np.uint64))
            )
        return sorted(left)

    def keep(self, chosen: Numbers) -> None:
        for name in _COLUMNS:
            setattr(self, name, getattr(self, name)[chosen])

    def rows(self, chosen: Numbers) -> tuple[Numbers, Numbers, NDArray[np.uint64]]:
        """What holds for some functions from their places on."""
        offset, rbp, rbx = self.offset[chosen], self.rbp[chosen], self.rbx[chosen]
        word: NDArray[np.uint64] = (
            RuleKind.REGISTER
            | self.register[chosen] << 4
            | (offset & 0xFFFFFF) << 16
            | (rbp >> 3 & 0xFFF) << 40
            | (rbx >> 3 & 0xFFF) << 52
        ).astype(np.uint64)
        fits = (offset < 1 << 23) & (self.register[chosen] < 16)
        for saved in (rbp, rbx):
            fits &= (saved & 7 == 0) & (saved >= -(1 << 14)) & (saved < 1 << 14)
        word[~fits] = RuleKind.UNSUPPORTED
        return self.number[chosen], self.place[chosen], word

    def step(self, found: list[tuple[Numbers, Numbers, NDArray[np.uint64]]]) -> None:
        code: NDArray[np.uint8] = self.data[self.position]
        kind = _CLASSES[code]
        self.position = self.position + 1
        present = np.flatnonzero(np.bincount(kind, minlength=256))
        moving = np.flatnonzero((kind >= 1) & (kind <= 4))
        if len(moving):
            found.append(self.rows(moving))
        for each in present.tolist():
            chosen = np.flatnonzero(kind == each)
            if each == 1:
                self.place[chosen] += code[chosen] & 0x3F
            elif each in (2, 3, 4):
                width = 1 << (each - 2)
                self.place[chosen] += self.unsigned(self.position[chosen], width)
                self.position[chosen] += width
            elif each == _OTHER:
                self.failed[chosen] = True
            elif each:
                _STEPS[each](self, chosen, (code[chosen] & 0x3F).astype(np.uint8))
        self.failed |= (self.place > self.size) | (self.position > self.end)

    def operand(self, chosen: Numbers) -> Numbers:
        value, width = self.uleb(self.position[chosen])
        self.position[chosen] += width
        self.failed[chosen] |= width == 0
        return value

    def save(self, chosen: Numbers, register: NDArray[np.uint8]) -> None:
        value = self.operand(chosen) * self.factor
        for number, saved in ((RBP, self.rbp), (RBX, self.rbx)):
            which = register == number
            saved[chosen[which]] = value[which]
        self.failed[chosen] |= (register == 16) & (value != -8)

    def restore(self, chosen: Numbers, register: NDArray[np.uint8]) -> None:
        for number, saved, initial in ((RBP, self.rbp, self.initial[0]), (RBX, self.rbx, self.initial[1])):
            saved[chosen[register == number]] = initial

    def remember(self, chosen: Numbers, register: NDArray[np.uint8]) -> None:
        depth = self.depth[chosen]
        self.failed[chosen] |= depth >= _DEEPEST
        place = np.minimum(depth, _DEEPEST - 1)
        for index, values in enumerate((self.register, self.offset, self.rbp, self.rbx)):
            self.remembered[chosen, place, index] = values[chosen]
        self.depth[chosen] += 1

    def recall(self, chosen: Numbers, register: NDArray[np.uint8]) -> None:
        self.depth[chosen] -= 1
        depth = self.depth[chosen]
        self.failed[chosen] |= depth < 0
        place = np.maximum(depth, 0)
        for index, values in enumerate((self.register, self.offset, self.rbp, self.rbx)):
            values[chosen] = self.remembered[chosen, place, index]

    def define(self, chosen: Numbers, register: NDArray[np.uint8]) -> None:
        self.register[chosen] = self.operand(chosen)
        self.offset[chosen] = self.operand(chosen)

    def define_register(self, chosen: Numbers, register: NDArray[np.uint8]) -> None:
        self.register[chosen] = self.operand(chosen)

    def define_offset(self, chosen: Numbers, register: NDArray[np.uint8]) -> None:
        self.offset[chosen] = self.operand(chosen)

    def argument_size(self, chosen: Numbers, register: NDArray[np.uint8]) -> None:
        self.operand(chosen)


_CLASSES: Final = _classes()
_STEPS: Final[dict[int, Callable[[_Batch, Numbers, NDArray[np.uint8]], None]]] = {
    5: _Batch.save,
    6: _Batch.restore,
    7: _Batch.remember,
    8: _Batch.recall,
    9: _Batch.define,
    10: _Batch.define_register,
    11: _Batch.define_offset,
    12: _Batch.argument_size,
}
