"""A writer of small ELF executables for tests: one segment of code, and the symbols in it."""

from __future__ import annotations

import struct
from collections.abc import Sequence

_HEADER = struct.Struct("<16sHHIQQQIHHHHHH")
_SEGMENT = struct.Struct("<IIQQQQQQ")
_SECTION = struct.Struct("<IIQQQQIIQQ")
_SYMBOL = struct.Struct("<IBBHQQ")

CODE_ADDRESS = 0x401000  # where the code is in memory
CODE_OFFSET = 0x1000  # and in the file


def executable(functions: Sequence[tuple[str, int, int]], marks: Sequence[tuple[str, str, int, str]] = ()) -> bytes:
    """Return a static x86-64 executable.

    Functions are name, offset in the code, and size in bytes; marks (USDT) are provider, name, offset in the code, and
    arguments.
    """
    code_size = max((offset + size for _, offset, size in functions), default=1)
    names = bytearray(b"\0")
    symbols = bytearray(_SYMBOL.pack(0, 0, 0, 0, 0, 0))
    for name, offset, size in functions:
        symbols += _SYMBOL.pack(len(names), 1 << 4 | 2, 0, 1, CODE_ADDRESS + offset, size)  # STB_GLOBAL, STT_FUNC
        names += name.encode() + b"\0"
    section_names = b"\0.text\0.symtab\0.strtab\0.shstrtab\0.note.stapsdt\0"
    code = b"\x90" * code_size
    symbols_at = CODE_OFFSET + len(code) + -len(code) % 8
    names_at = symbols_at + len(symbols)
    section_names_at = names_at + len(names)
    notes = b"".join(_mark(*mark) for mark in marks)
    notes_at = section_names_at + len(section_names) + -(section_names_at + len(section_names)) % 8
    sections_at = notes_at + len(notes) + -len(notes) % 8
    sections = [
        (0, 0, 0, 0, 0, 0, 0, 0, 0, 0),
        (1, 1, 6, CODE_ADDRESS, CODE_OFFSET, code_size, 0, 0, 16, 0),  # SHT_PROGBITS, ALLOC | EXECINSTR
        (7, 2, 0, 0, symbols_at, len(symbols), 3, 1, 8, _SYMBOL.size),  # SHT_SYMTAB, names in section 3
        (15, 3, 0, 0, names_at, len(names), 0, 0, 1, 0),  # SHT_STRTAB
        (23, 3, 0, 0, section_names_at, len(section_names), 0, 0, 1, 0),
        (33, 7, 0, 0, notes_at, len(notes), 0, 0, 4, 0),  # SHT_NOTE
    ]
    identity = b"\x7fELF" + bytes([2, 1, 1]) + bytes(9)
    header = _HEADER.pack(
        identity, 2, 62, 1, CODE_ADDRESS, _HEADER.size, sections_at, 0, _HEADER.size, _SEGMENT.size, 1,
        _SECTION.size, len(sections), 4,
    )  # fmt: skip
    segment = _SEGMENT.pack(1, 5, CODE_OFFSET, CODE_ADDRESS, CODE_ADDRESS, code_size, code_size, 0x1000)
    data = bytearray(sections_at)
    data[: len(header)] = header
    data[len(header) : len(header) + len(segment)] = segment
    data[CODE_OFFSET : CODE_OFFSET + len(code)] = code
    data[symbols_at : symbols_at + len(symbols)] = symbols
    data[names_at : names_at + len(names)] = names
    data[section_names_at : section_names_at + len(section_names)] = section_names
    data[notes_at : notes_at + len(notes)] = notes
    return bytes(data) + b"".join(_SECTION.pack(*section) for section in sections)


def _mark(provider: str, name: str, offset: int, arguments: str) -> bytes:
    texts = b"".join(text.encode() + b"\0" for text in (provider, name, arguments))
    description = struct.pack("<QQQ", CODE_ADDRESS + offset, 0, 0) + texts
    return struct.pack("<III8s", 8, len(description), 3, b"stapsdt") + description + bytes(-len(description) % 4)
