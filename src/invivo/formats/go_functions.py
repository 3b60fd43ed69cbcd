"""Names of Go's functions, from the table that its own tracebacks use: stripped programs have it too.

The table begins with ``runtime.pcHeader`` (src/runtime/symtab.go of Go), all words little-endian:

    u32 magic   u16 0   u8 1   u8 8 (size of a pointer)
    u64 functions, files, [start of the code, since Go 1.18]
    u64 offsets, from the header on: names, compilation units, files, tables, functions

The functions' part is an array of pairs (entry, offset of its record from the array on), rising, and the
end of the last one. A record has the entry again, and i32 the offset of its name.
"""

from __future__ import annotations

import struct
from bisect import bisect_right
from typing import Final

from invivo.errors import BadFileError
from invivo.formats.elf import Elf, Section

_SECTIONS: Final = (".gopclntab", ".data.rel.ro.gopclntab")  # the second one of position-independent programs
# Since Go 1.20 (0xFFFFFFF1) and 1.18 entries count from the start of the code, before (Go 1.16) they are addresses.
_RELATIVE: Final = (0xFFFFFFF1, 0xFFFFFFF0)
_ABSOLUTE: Final = 0xFFFFFFFA
_LONGEST_NAME: Final = 4096
_RELA: Final = struct.Struct("<QQq")
_R_X86_64_RELATIVE: Final = 8


class GoFunctions:
    """A program's functions by address."""

    def __init__(self, path: str, table: memoryview, start: int) -> None:
        """``start``: of the code, if the table does not say it. Raises `BadFileError`."""
        self._path = path
        self._table = table
        magic, count = self._word("<I", 0), self._word("<Q", 8)
        is_relative = magic in _RELATIVE
        if not is_relative and magic != _ABSOLUTE:
            raise BadFileError(path, f"an unknown table of Go's functions ({magic:#x})")
        if is_relative:
            start = self._word("<Q", 24) or start
        self._start = start if is_relative else 0
        offsets = 32 if is_relative else 24
        self._names = self._word("<Q", offsets)
        self._functions = self._word("<Q", offsets + 32)
        self._entry_bytes = 4 if is_relative else 8
        size = (2 * count + 1) * self._entry_bytes
        if self._functions + size > len(table):
            raise BadFileError(path, "the table of Go's functions ends within them", self._functions)
        pairs = table[self._functions : self._functions + size]
        self._pairs = pairs.cast("I") if is_relative else pairs.cast("Q")
        self._entries = self._pairs[::2].tolist()

    def at(self, address: int) -> tuple[str, int] | None:
        """Return name and start of the function that an address lies in. Raises `BadFileError`."""
        place = bisect_right(self._entries, address - self._start) - 1
        if not 0 <= place < len(self._entries) - 1:
            return None
        record = self._functions + self._pairs[2 * place + 1]
        at = self._names + self._word("<i", record + self._entry_bytes)
        if not 0 <= at < len(self._table):
            raise BadFileError(self._path, "a name of a Go function does not lie in the table", record)
        name = bytes(self._table[at : at + _LONGEST_NAME]).partition(b"\0")[0].decode("utf-8", "replace")
        return (name, self._entries[place] + self._start) if name else None

    def _word(self, form: str, at: int) -> int:
        try:
            return int(struct.unpack_from(form, self._table, at)[0])
        except struct.error:
            raise BadFileError(self._path, "the table of Go's functions ends", at) from None


def go_functions(elf: Elf) -> GoFunctions | None:
    """Return the functions of a Go program, None if it is none. Raises `BadFileError`."""
    for name in _SECTIONS:
        found = elf.section(name)
        if found is not None:
            return GoFunctions(elf.path, elf.content(found), _start_of_code(elf, found))
    return None


def _start_of_code(elf: Elf, table: Section) -> int:
    """The start of the code where the dynamic linker writes it into the table, or the linker has left it out."""
    place = table.address + 24
    relocations = elf.section(".rela.dyn")
    if relocations is not None:
        content = elf.content(relocations)
        for address, kind, addend in _RELA.iter_unpack(content[: len(content) // _RELA.size * _RELA.size]):
            if address == place and kind == _R_X86_64_RELATIVE:
                return int(addend)
    text = elf.section(".text")
    return text.address if text is not None else 0
