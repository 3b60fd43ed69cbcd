"""ELF files of 64-bit little-endian machines: segments, sections, notes, addresses and offsets.

The format is elf(5) and include/uapi/linux/elf.h.  Only what is asked for is read; the symbols are
in `formats.elf_symbols`.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator, Sequence
from enum import IntEnum
from typing import BinaryIO, Final

from invivo.errors import BadFileError
from invivo.formats.buffer import Buffer, searchable
from invivo.formats.elf_symbols import Symbol, SymbolSource, SymbolTable
from invivo.record import Record

__all__ = ["Elf", "ElfType", "Note", "Section", "Segment", "Symbol", "SymbolTable"]

_HEADER: Final = struct.Struct("<16sHHIQQQIHHHHHH")  # Elf64_Ehdr
_SEGMENT: Final = struct.Struct("<IIQQQQQQ")  # Elf64_Phdr
_SECTION: Final = struct.Struct("<IIQQQQIIQQ")  # Elf64_Shdr
_NOTE: Final = struct.Struct("<III")  # Elf64_Nhdr: namesz, descsz, type
_DYNAMIC: Final = struct.Struct("<QQ")  # Elf64_Dyn

MACHINE_X86_64: Final = 62  # EM_X86_64

PT_LOAD: Final = 1
PT_DYNAMIC: Final = 2
PT_INTERP: Final = 3
PT_NOTE: Final = 4
PF_X: Final = 1

SHT_SYMTAB: Final = 2
SHT_NOBITS: Final = 8
SHT_DYNSYM: Final = 11
SHT_GNU_VERSYM: Final = 0x6FFFFFFF
SHF_EXECINSTR: Final = 4

_PN_XNUM: Final = 0xFFFF
_SHN_XINDEX: Final = 0xFFFF
_NT_GNU_BUILD_ID: Final = 3
_DT_NEEDED: Final = 1
_DT_STRTAB: Final = 5
_LONGEST_PATH: Final = 4096
_DT_SONAME: Final = 14
_DT_FLAGS_1: Final = 0x6FFFFFFB
_DF_1_PIE: Final = 0x08000000
_LONGEST_SECTION_NAME: Final = 256  # so that many names in one long string take no more than they are worth
DEBUG_DIRECTORIES: Final = ("", ".debug", "/usr/lib/debug")  # where others look, too


class ElfType(IntEnum):
    """``ET_*``."""

    NONE = 0
    REL = 1
    EXEC = 2
    DYN = 3
    CORE = 4


class Segment(Record):
    """A program header; sizes and places in bytes."""

    type: int
    flags: int
    offset: int
    address: int
    file_size: int
    memory_size: int
    alignment: int


class Section(Record):
    """A section header; ``link`` and ``info`` as its type says."""

    name: str
    type: int
    flags: int
    address: int
    offset: int
    size: int
    link: int
    info: int
    alignment: int
    entry_size: int


class Note(Record):
    """A note: who defined it, its type there, and its content."""

    name: str
    type: int
    description: bytes


class Elf:
    """An ELF file. Every method raises `BadFileError` on garbage."""

    def __init__(self, data: Buffer, path: str) -> None:
        """``data`` has to stay as it is while the reader is used."""
        self.path = path
        self._data = searchable(data)
        if len(self._data) < _HEADER.size or self._data[:4] != b"\x7fELF":
            raise BadFileError(path, "is no ELF file")
        header = _HEADER.unpack_from(self._data)
        ident, kind, self.machine, version, self.entry, segments, sections = header[:7]
        if ident[4] != 2 or ident[5] != 1:
            raise BadFileError(path, "is not a 64-bit little-endian ELF file", 4)
        if version != 1 or kind not in ElfType.__members__.values():
            raise BadFileError(path, f"unknown version {version} or type {kind}", 16)
        self.type = ElfType(kind)
        segment_size, segment_count, section_size, section_count, self._names_index = header[9:]
        self._section_offset = sections
        self._section_count = section_count
        self._sections: tuple[Section, ...] | None = None
        self._symbols: SymbolTable | None = None
        self._companion: Elf | None = None
        if sections:
            if section_size != _SECTION.size:
                raise BadFileError(path, f"section headers of {section_size} bytes", 58)
            segment_count = self._extended(segment_count)
        else:
            self._section_count = 0
        if segment_count and segment_size != _SEGMENT.size:
            raise BadFileError(path, f"program headers of {segment_size} bytes", 54)
        self.segments = tuple(self._read_segments(segments, segment_count))

    @property
    def sections(self) -> tuple[Section, ...]:
        """All sections, the empty first one too; none in a file whose headers were stripped."""
        if self._sections is None:
            self._sections = tuple(self._read_sections())
        return self._sections

    def section(self, name: str) -> Section | None:
        """Return the first section of a name."""
        return next((section for section in self.sections if section.name == name), None)

    def content(self, section: Section) -> memoryview:
        """Return a section's bytes in the file; a section without any (.bss) is empty."""
        if section.type == SHT_NOBITS:
            return memoryview(b"")
        return self._slice(section.offset, section.size, f"section {section.name}")

    @property
    def is_stripped(self) -> bool:
        """Whether only the symbols are left that the dynamic linker needs."""
        return not any(section.type == SHT_SYMTAB for section in self.sections)

    def complete(self, companion: Elf) -> None:
        """Add the symbols of the file that they were stripped into; before they are asked for."""
        self._companion = companion

    def symbols(self) -> SymbolTable:
        """Return the symbols of .symtab and .dynsym; read once."""
        if self._symbols is None:
            sources = list(self._symbol_sources())
            if self._companion is not None:
                sources += self._companion._symbol_sources()
            self._symbols = SymbolTable(self.path, sources, self._executable())
        return self._symbols

    def stream(self) -> BinaryIO:
        """Return the file's bytes to be read from the start; there is one position for all who ask."""
        from io import BytesIO

        return BytesIO(self._data)

    def whole(self) -> memoryview:
        """Return all bytes of the file."""
        return memoryview(self._data)

    @property
    def is_go(self) -> bool:
        """Whether it was made by Go's compiler, whose functions move their stacks."""
        return any(section.name in (".go.buildinfo", ".note.go.buildid", ".gopclntab") for section in self.sections)

    def file_offset(self, address: int) -> int | None:
        """Return where in the file the byte at an address comes from; None if from nowhere."""
        for segment in self.segments:
            if segment.type == PT_LOAD and 0 <= address - segment.address < segment.file_size:
                return address - segment.address + segment.offset
        return None

    def address(self, file_offset: int) -> int | None:
        """Return the address of a byte of the file; executable segments go first, None if it is not loaded."""
        found = None
        for segment in self.segments:
            if segment.type == PT_LOAD and 0 <= file_offset - segment.offset < segment.file_size:
                address = file_offset - segment.offset + segment.address
                if segment.flags & PF_X:
                    return address
                if found is None:
                    found = address
        return found

    @property
    def build_id(self) -> str | None:
        """The build id as hexadecimal digits, None if there is none."""
        for segment in self.segments:
            if segment.type == PT_NOTE:
                content = self._slice(segment.offset, segment.file_size, "notes")
                found = _build_id(self._read_notes(content, segment.alignment))
                if found is not None:
                    return found
        return _build_id(self.notes(".note.gnu.build-id"))

    def notes(self, section: str) -> tuple[Note, ...]:
        """Return the notes in a section of a name (``.note.stapsdt``); none if there is no such section."""
        found = self.section(section)
        return tuple(self._read_notes(self.content(found), found.alignment)) if found is not None else ()

    @property
    def interpreter(self) -> str | None:
        """The dynamic linker that starts the program; None for a static one and for most libraries."""
        for segment in self.segments:
            if segment.type == PT_INTERP:
                content = self._slice(segment.offset, segment.file_size, "the interpreter's name")
                return bytes(content).partition(b"\0")[0].decode(errors="replace")
        return None

    @property
    def needed(self) -> list[str]:
        """The libraries that the dynamic linker loads for it (``libc.so.6``), in its order."""
        entries = list(self._dynamic())
        start = self.file_offset(dict(entries).get(_DT_STRTAB, 0))
        if start is None:
            return []
        names = [bytes(self._data[start + at : start + at + _LONGEST_PATH]) for tag, at in entries if tag == _DT_NEEDED]
        return [name.partition(b"\0")[0].decode(errors="replace") for name in names]

    @property
    def is_pie(self) -> bool:
        """Whether it is a program (not a library) that is loaded at any address."""
        if self.type is not ElfType.DYN:
            return False
        dynamic = dict(self._dynamic())
        if dynamic.get(_DT_FLAGS_1, 0) & _DF_1_PIE:
            return True
        # Linkers before 2015 did not set the flag. The C library has an interpreter too, but a name.
        return self.interpreter is not None and _DT_SONAME not in dynamic

    @property
    def debug_link(self) -> tuple[str, int] | None:
        """The name and CRC-32 of the file that has the debug information (.gnu_debuglink)."""
        section = self.section(".gnu_debuglink")
        if section is None:
            return None
        content = bytes(self.content(section))
        name, end, _ = content.partition(b"\0")
        at = (len(name) + 4) & ~3
        if not end or not name or len(content) < at + 4:
            raise BadFileError(self.path, ".gnu_debuglink is malformed", section.offset)
        return name.decode(errors="replace"), int.from_bytes(content[at : at + 4], "little")

    @property
    def alternate_link(self) -> tuple[str, str] | None:
        """Path and build id of the file with what ``dwz`` found in several files' debug information."""
        section = self.section(".gnu_debugaltlink")
        if section is None:
            return None
        name, end, build_id = bytes(self.content(section)).partition(b"\0")
        if not end or not name or not build_id:
            raise BadFileError(self.path, ".gnu_debugaltlink is malformed", section.offset)
        return name.decode(errors="replace"), build_id.hex()

    def debug_paths(self, directories: Sequence[str] = DEBUG_DIRECTORIES) -> list[str]:
        """Return the places where the file with the debug information may be, best first.

        An empty directory is that of the file itself, one without ``/`` at its start is relative to that.
        """
        build_id, link = self.build_id, self.debug_link
        own = self.path.rpartition("/")[0]
        # A file of another mount namespace is seen through /proc/PID/root, its debug information too.
        parts = own.split("/", 4)
        foreign = len(parts) > 3 and parts[1] == "proc" and parts[3] == "root"
        root, inside = ("/".join(parts[:4]), own[len("/".join(parts[:4])) :]) if foreign else ("", own)
        found: list[str] = []
        for directory in directories:
            if directory.startswith("/") and build_id:
                found.append(f"{root}{directory}/.build-id/{build_id[:2]}/{build_id[2:]}.debug")
        for directory in directories:
            if link is None or "/" in link[0]:
                break
            if directory.startswith("/"):
                found += [f"{root}{directory}{inside}/{link[0]}", f"{root}{directory}/{link[0]}"]
            else:
                found.append("/".join(filter(None, (own, directory, link[0]))))
        return found

    def _slice(self, offset: int, size: int, what: str) -> memoryview:
        if offset + size > len(self._data):
            raise BadFileError(self.path, f"{what} does not lie inside the file", offset)
        return memoryview(self._data)[offset : offset + size]

    def _extended(self, segment_count: int) -> int:
        """Take large counts from the first section header, where they are if they do not fit."""
        first = _SECTION.unpack(self._slice(self._section_offset, _SECTION.size, "section header"))
        _, _, _, _, _, size, link, info, _, _ = first
        if not self._section_count:
            self._section_count = size
        if self._names_index == _SHN_XINDEX:
            self._names_index = link
        return info if segment_count == _PN_XNUM else segment_count

    def _read_segments(self, offset: int, count: int) -> Iterator[Segment]:
        table = self._slice(offset, count * _SEGMENT.size, "program headers")
        for kind, flags, place, address, _, file_size, memory_size, alignment in _SEGMENT.iter_unpack(table):
            yield Segment(kind, flags, place, address, file_size, memory_size, alignment)

    def _read_sections(self) -> Iterator[Section]:
        table = self._slice(self._section_offset, self._section_count * _SECTION.size, "section headers")
        rows = list(_SECTION.iter_unpack(table))
        names = memoryview(b"")
        if self._names_index < len(rows) and rows[self._names_index][1] != SHT_NOBITS:
            offset, size = struct.unpack_from("<QQ", table, self._names_index * _SECTION.size + 24)
            names = self._slice(offset, size, "section names")
        text = bytes(names)
        for name_at, kind, flags, address, offset, size, link, info, alignment, entry_size in rows:
            name = text[name_at : name_at + _LONGEST_SECTION_NAME].partition(b"\0")[0]
            yield Section(
                name.decode(errors="replace"),
                kind,
                flags,
                address,
                offset,
                size,
                link,
                info,
                alignment,
                entry_size,
            )

    def _symbol_sources(self) -> Iterator[SymbolSource]:
        sections = self.sections
        versions = next((section for section in sections if section.type == SHT_GNU_VERSYM), None)
        for kind in (SHT_SYMTAB, SHT_DYNSYM):  # a file has at most one of each
            section = next((section for section in sections if section.type == kind), None)
            if section is None:
                continue
            if section.link >= len(sections):
                raise BadFileError(self.path, f"section {section.name} has no strings", section.offset)
            strings = sections[section.link]
            self.content(strings)  # for its bounds
            versioned = section.type == SHT_DYNSYM and versions is not None
            yield SymbolSource(
                self._data,
                self.content(section),
                strings.offset,
                strings.offset + strings.size,
                self.content(versions) if versioned and versions is not None else memoryview(b""),
            )

    def _executable(self) -> frozenset[int]:
        return frozenset(index for index, section in enumerate(self.sections) if section.flags & SHF_EXECINSTR)

    def _read_notes(self, content: memoryview, alignment: int) -> Iterator[Note]:
        # Notes are padded to 4 bytes, whatever the specification says; .note.gnu.property to 8.
        unit = 8 if alignment == 8 else 4
        at = 0
        while at + _NOTE.size <= len(content):
            name_size, size, kind = _NOTE.unpack_from(content, at)
            name_at = at + _NOTE.size
            start = _aligned(name_at + name_size, unit)
            if start + size > len(content):
                raise BadFileError(self.path, "a note does not lie inside its section", at)
            name = bytes(content[name_at : name_at + name_size]).partition(b"\0")[0].decode(errors="replace")
            yield Note(name, kind, bytes(content[start : start + size]))
            at = _aligned(start + size, unit)

    def _dynamic(self) -> Iterator[tuple[int, int]]:
        for segment in self.segments:
            if segment.type == PT_DYNAMIC:
                size = segment.file_size // _DYNAMIC.size * _DYNAMIC.size
                for tag, value in _DYNAMIC.iter_unpack(self._slice(segment.offset, size, "dynamic section")):
                    if not tag:
                        return
                    yield tag, value


def _build_id(notes: Iterator[Note] | tuple[Note, ...]) -> str | None:
    for note in notes:
        if note.type == _NT_GNU_BUILD_ID and note.name == "GNU":
            return note.description.hex()
    return None


def _aligned(value: int, unit: int) -> int:
    return (value + unit - 1) // unit * unit
