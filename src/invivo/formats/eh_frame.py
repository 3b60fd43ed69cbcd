"""Unwind tables from .eh_frame: for each address, how the caller's frame is found.

The format is in the Linux Standard Base, Core, 10.6 (exception frames); what it says of a function
in `formats.call_frames`.
"""

from __future__ import annotations

import struct
import sys
from array import array
from bisect import bisect_right
from collections.abc import Iterator
from itertools import pairwise
from typing import Final

from invivo.errors import BadFileError
from invivo.formats.call_frames import Cie, Interpreter, MalformedError, read_signed, read_unsigned
from invivo.formats.elf import MACHINE_X86_64, Elf, Section
from invivo.formats.unwind_rule import END
from invivo.record import Record

MOST_ROWS: Final = 1 << 24
_MANY_FUNCTIONS: Final = 8000  # from here on numpy is worth being imported
_SOME_FUNCTIONS: Final = 500  # if it has been imported
_PT_GNU_EH_FRAME: Final = 0x6474E550
PADDING_BYTES: Final = 16  # functions are aligned to this; between them is nothing that runs
_ENTRY_BYTES: Final = 64  # of code at the entry point that call nothing but the program

# DW_EH_PE_*: the low four bits are the form, the next three what an address counts from.
_FORMS: Final = {0x00: ("<Q", 8), 0x02: ("<H", 2), 0x03: ("<I", 4), 0x04: ("<Q", 8)} | {
    0x0A: ("<h", 2),
    0x0B: ("<i", 4),
    0x0C: ("<q", 8),
}
_RELATIVE_TO_PLACE: Final = 0x10
_MASK64: Final = (1 << 64) - 1


class UnwindTable(Record, eq=False):
    """Rows in rising order: from ``base + starts[i]`` to the next start, ``words[indexes[i]]`` holds.

    Addresses are those of the ELF file.  ``words`` are distinct rules (`formats.unwind_rule`).
    """

    base: int
    starts: array[int]  # u32
    indexes: array[int]  # u32
    words: tuple[int, ...]

    def rule(self, address: int) -> int:
        """Return the word of the rule at an address, 0 if nothing is known there."""
        at = bisect_right(self.starts, address - self.base) - 1
        return self.words[self.indexes[at]] if at >= 0 else 0


class FrameSection(Record, eq=False):
    """The bytes of .eh_frame and the address that they are loaded at."""

    data: memoryview
    address: int
    path: str


class Function(Record, eq=False):
    """A frame description entry: the place of its fields in the section."""

    cie: int  # the offset of the `Cie`
    at: int  # of its first address
    end: int


def read_unwind_table(elf: Elf) -> UnwindTable | None:
    """Return the table of a file, None if it has no rows (or is not for x86-64).

    Raises `BadFileError`, with the offset where the section stops making sense.
    """
    if elf.machine != MACHINE_X86_64:
        return None
    section = _section(elf)
    if section is None:
        return None
    cies, functions = scan(section)
    if not functions:
        return None
    # numpy costs 70 ms once, in which other threads stand still, and then a third of the time.
    if len(functions) >= (_SOME_FUNCTIONS if "numpy" in sys.modules else _MANY_FUNCTIONS):
        from invivo.formats import eh_frame_bulk

        return eh_frame_bulk.table(section, cies, functions, elf.entry)
    return table_of(section.path, rows_of(section, cies, functions), elf.entry)


def scan(section: FrameSection) -> tuple[dict[int, Cie], list[Function]]:
    """Find the entries of a section: the usable `Cie` by offset, and the functions that have one."""
    data = section.data
    size = len(data)
    cies: dict[int, Cie] = {}
    functions: list[Function] = []
    word, long = struct.Struct("<I").unpack_from, struct.Struct("<Q").unpack_from
    at = 0
    while at + 4 <= size:
        (length,) = word(data, at)
        start = at + 4
        if length == 0xFFFFFFFF and at + 12 <= size:
            (length,) = long(data, start)
            start += 8
        if not length:
            break  # the terminator
        end = start + length
        if end > size or length < 4:
            raise BadFileError(section.path, "an entry of .eh_frame does not lie inside it", at)
        (pointer,) = word(data, start)
        if pointer == 0:
            cie = _read_cie(bytes(data[start + 4 : end]))
            if cie is not None:
                cies[at] = cie
        else:
            functions.append(Function(start - pointer, start + 4, end))
        at = end
    return cies, [function for function in functions if function.cie in cies]


def rows_of(section: FrameSection, cies: dict[int, Cie], functions: list[Function]) -> Iterator[tuple[int, int, int]]:
    """Yield (address, 1, word) for each row, and (address, 0, 0) where a function ends."""
    interpreters: dict[int, Interpreter] = {}
    for function in functions:
        interpreter = interpreters.get(function.cie)
        if interpreter is None:
            interpreter = interpreters[function.cie] = Interpreter(cies[function.cie])
        place = function_range(section, cies[function.cie], function)
        if place is None or not interpreter.is_usable:
            continue
        start, size, at = place
        for offset, code in interpreter.rows(bytes(section.data[at : function.end]), size):
            yield start + offset, 1, code
        yield start + size, 0, 0


def function_range(section: FrameSection, cie: Cie, function: Function) -> tuple[int, int, int] | None:
    """Return a function's address and size, and the place of its instructions; None if it has no such things."""
    form, width = _FORMS.get(cie.encoding & 0x0F, ("", 0))
    at, end = function.at, function.end
    if not form or at + 2 * width > end:
        return None
    (start,) = struct.unpack_from(form, section.data, at)
    if start == 0 and width == 8:
        return None
    if cie.encoding & 0x70 == _RELATIVE_TO_PLACE:
        start = start + section.address + at
    size = int.from_bytes(section.data[at + width : at + 2 * width], "little")
    at += 2 * width
    if cie.augmented:
        try:
            length, width = read_unsigned(bytes(section.data[at : min(at + 10, end)]), 0)
        except (IndexError, MalformedError):
            return None
        at += width + length
    start &= _MASK64
    if not size or at > end or start + size > _MASK64:
        return None
    return start, size, at


def table_of(path: str, rows: Iterator[tuple[int, int, int]], entry: int) -> UnwindTable | None:
    """Build a table from rows in any order; of those with one address the last one counts."""
    by_address: dict[int, int] = {}
    for address, _, word in sorted(rows, key=lambda row: row[:2]):
        by_address[address] = word
    if not by_address:
        return None
    if len(by_address) > MOST_ROWS:
        raise BadFileError(path, "too many rows in .eh_frame")
    ordered = with_entry(list(by_address.items()), entry)
    base = ordered[0][0]
    if ordered[-1][0] - base >= 1 << 32:
        raise BadFileError(path, ".eh_frame describes more than 4 GiB of code")
    starts, indexes = array("I"), array("I")
    numbers: dict[int, int] = {}
    for (address, word), (following, _) in pairwise([*ordered, (1 << 64, 0)]):
        if not word and following - address < PADDING_BYTES:
            continue  # the next function begins here
        index = numbers.setdefault(word, len(numbers))
        if not indexes or indexes[-1] != index:
            starts.append(address - base)
            indexes.append(index)
    return UnwindTable(base, starts, indexes, tuple(numbers))


def with_entry(rows: list[tuple[int, int]], entry: int) -> list[tuple[int, int]]:
    """Say that the code at a file's entry point has no caller, if nothing else is known of it."""
    at = bisect_right(rows, entry, key=lambda row: row[0])
    before = rows[at - 1][1] if at else 1
    new = entry_rows(entry, before, rows[at][0] if at < len(rows) else None)
    return [*rows[:at], *new, *rows[at:]]


def entry_rows(entry: int, before: int, following: int | None) -> list[tuple[int, int]]:
    """Return rows (address, word) for a program's entry point, if it has none.

    ``before``: the word that holds there; ``following``: the address of the next row.
    """
    if not entry or before:
        return []
    end = entry + _ENTRY_BYTES
    if following is not None and following <= end:
        return [(entry, END)]
    return [(entry, END), (end, 0)]


def _section(elf: Elf) -> FrameSection | None:
    found = elf.section(".eh_frame")
    if found is not None:
        return FrameSection(elf.content(found), found.address, elf.path)
    for segment in elf.segments:
        if segment.type == _PT_GNU_EH_FRAME:
            return _section_by_header(elf, segment.address)
    return None


def _section_by_header(elf: Elf, address: int) -> FrameSection | None:
    """Find the frames by the header that the C library uses, in a file without section headers."""
    whole = elf.whole()
    at = elf.file_offset(address)
    if at is None or at + 8 > len(whole):
        return None
    version, encoding, _, _, pointer = struct.unpack_from("<BBBBi", whole, at)
    if version != 1 or encoding != 0x1B:  # DW_EH_PE_pcrel | DW_EH_PE_sdata4
        return None
    place = address + 4 + pointer
    start = elf.file_offset(place)
    if start is None:
        return None
    size = max(
        0,
        min(
            len(whole) - start,
            *(
                segment.offset + segment.file_size - start
                for segment in elf.segments
                if segment.offset <= start < segment.offset + segment.file_size
            ),
        ),
    )
    section = Section(".eh_frame", 1, 0, place, start, size, 0, 0, 8, 0)
    return FrameSection(elf.content(section), place, elf.path)


def _read_cie(body: bytes) -> Cie | None:
    """Read what follows an entry's first 8 bytes; None if it cannot be understood."""
    try:
        version = body[0]
        augmentation, end, _ = body[1:].partition(b"\0")
        if version not in (1, 3) or not end or (augmentation and augmentation[:1] != b"z"):
            return None
        at = 2 + len(augmentation)
        code_alignment, at = read_unsigned(body, at)
        data_alignment, at = read_signed(body, at)
        register, at = (body[at], at + 1) if version == 1 else read_unsigned(body, at)
        if register != 16 or code_alignment != 1:
            return None
        encoding, after = 0, at
        if augmentation:
            size, at = read_unsigned(body, at)
            after = at + size
            encoding = _encoding(augmentation, body, at)
            if encoding < 0:
                return None
        return Cie(data_alignment, encoding, bool(augmentation), b"S" in augmentation, body[after:])
    except (IndexError, MalformedError):
        return None


def _encoding(augmentation: bytes, body: bytes, at: int) -> int:
    """Return how addresses are written; -1 if that cannot be found out."""
    encoding = 0
    for letter in augmentation[1:]:
        if letter == ord("R"):
            encoding = body[at]
            at += 1
        elif letter == ord("L"):
            at += 1
        elif letter == ord("P"):
            width = _FORMS.get(body[at] & 0x0F, ("", -1))[1]
            if width < 0:
                return -1
            at += 1 + width
        elif letter not in b"SB":
            return -1
    return encoding if encoding & 0x70 in (0, _RELATIVE_TO_PLACE) and not encoding & 0x80 else -1
