"""What .eh_frame says, one function after another: rows, each how the caller's frame is found from an address on.

The format is in the Linux Standard Base, Core, 10.6 (exception frames); what it says of a function
in `formats.unwinding.call_frames`.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from typing import Final

from invivo.errors import BadFileError
from invivo.formats.elf import Elf, Section
from invivo.formats.unwinding.call_frames import Cie, Interpreter, MalformedError, read_signed, read_unsigned
from invivo.record import Record

_PT_GNU_EH_FRAME: Final = 0x6474E550

# DW_EH_PE_*: the low four bits are the form, the next three what an address counts from.
_FORMS: Final = {0x00: ("<Q", 8), 0x02: ("<H", 2), 0x03: ("<I", 4), 0x04: ("<Q", 8)} | {
    0x0A: ("<h", 2),
    0x0B: ("<i", 4),
    0x0C: ("<q", 8),
}
_RELATIVE_TO_PLACE: Final = 0x10
_MASK64: Final = (1 << 64) - 1


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


def frame_section(elf: Elf) -> FrameSection | None:
    """Find .eh_frame in a file, by its name or as the C library does."""
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
