"""The symbols of an ELF file, by name and by address.

Tables are unpacked once as rows of numbers; names are decoded when they are asked for.
"""

from __future__ import annotations

import struct
from bisect import bisect_right
from collections.abc import Iterator
from itertools import repeat
from typing import Final

from invivo.errors import BadFileError
from invivo.formats.buffer import Searchable
from invivo.record import Record

_SYMBOL: Final = struct.Struct("<IBBHQQ")  # Elf64_Sym: name, info, other, shndx, value, size

STT_NOTYPE: Final = 0
STT_OBJECT: Final = 1
STT_FUNC: Final = 2
STT_SECTION: Final = 3
STT_FILE: Final = 4
STT_TLS: Final = 6
STT_GNU_IFUNC: Final = 10
STB_LOCAL: Final = 0
STB_GLOBAL: Final = 1
STB_WEAK: Final = 2

_SHN_UNDEF: Final = 0
_SHN_ABS: Final = 0xFFF1
_VERSION_HIDDEN: Final = 0x8000  # of an entry of .gnu.version: not the default version
_BINDING_RANK: Final = {STB_GLOBAL: 0, STB_WEAK: 1, STB_LOCAL: 2}
_LONGEST_NAME: Final = 1 << 16  # bytes; of C++ templates some have thousands
_ENCLOSING: Final = 8  # how many symbols back one may begin that encloses an address

_Row = tuple[int, int, int, int, int, int]


class Symbol(Record):
    """A defined symbol. ``address`` is the table's: add where the file is loaded. ``size`` in bytes, 0 if unknown."""

    name: str
    address: int
    size: int
    type: int  # STT_*
    binding: int  # STB_*
    section: int

    @property
    def is_function(self) -> bool:
        return self.type in (STT_FUNC, STT_GNU_IFUNC)


def readable(name: str) -> str:
    """Return a symbol's name as the program's source has it: C++ names demangled, others as they are."""
    if not name.startswith("_Z"):
        return name
    from invivo.formats.itanium import demangle  # only C++ programs need it

    return demangle(name) or name


class SymbolSource(Record):
    """A symbol table of some file, the extent of its strings there, and its versions (u16 each) if it has any."""

    data: Searchable
    table: memoryview
    strings_start: int
    strings_end: int
    versions: memoryview


class SymbolTable:
    """All symbols that a file defines; .symtab and .dynsym in one."""

    def __init__(self, path: str, sources: list[SymbolSource], executable: frozenset[int]) -> None:
        """``executable``: indices of the sections with code."""
        self._path = path
        self._sources = sources
        self._executable = executable
        self._unpacked: list[list[_Row]] = []
        self._packed: list[bytes] = []
        self._places: tuple[list[int], list[tuple[int, int]]] | None = None

    def __len__(self) -> int:
        """How many rows the tables have, undefined symbols included."""
        return sum(len(source.table) // _SYMBOL.size for source in self._sources)

    @property
    def _rows(self) -> list[list[_Row]]:
        """All rows of each table: for a name alone they are not unpacked."""
        if not self._unpacked:
            self._unpacked = [list(_SYMBOL.iter_unpack(_whole_rows(source.table))) for source in self._sources]
        return self._unpacked

    def __iter__(self) -> Iterator[Symbol]:
        """All defined symbols with a name."""
        for source, rows in enumerate(self._rows):
            for row in rows:
                if row[3] and row[0] and row[1] & 15 not in (STT_SECTION, STT_FILE):
                    yield self._symbol(source, row)

    def functions(self) -> list[Symbol]:
        """Return all functions in the order of addresses, each name at an address once."""
        found = {(symbol.address, symbol.name): symbol for symbol in self if symbol.is_function}
        return [found[key] for key in sorted(found)]

    def find(self, name: str) -> Symbol | None:
        """Return the symbol of a name: a function before data, the default version before others."""
        best: tuple[tuple[bool, bool, int], Symbol] | None = None
        for source, index, row in self._named(name):
            symbol = self._symbol(source, row)
            key = (not symbol.is_function, self._is_hidden(source, index), _BINDING_RANK.get(symbol.binding, 3))
            if best is None or key < best[0]:
                best = key, symbol
        return best[1] if best is not None else None

    def at(self, address: int) -> Symbol | None:
        """Return the function that an address lies in; None if it lies in none.

        Of several names for a place the global one is taken, then the one with fewer underscores in
        front.  A symbol without a size (from assembly) reaches to the next one.
        """
        if self._places is None:
            self._places = self._by_address()
        starts, rows = self._places
        place = bisect_right(starts, address) - 1
        for candidate in range(place, max(place - _ENCLOSING, -1), -1):
            size = self._row(rows[candidate])[5]
            if address < starts[candidate] + size or (not size and starts[candidate] == starts[place]):
                return self._best_at(candidate, address)
        return None

    def _best_at(self, candidate: int, address: int) -> Symbol:
        assert self._places is not None
        starts, rows = self._places
        first = candidate
        while first > 0 and starts[first - 1] == starts[candidate]:
            first -= 1
        same = [self._symbol(place[0], self._row(place)) for place in rows[first : candidate + 1]]
        around = [symbol for symbol in same if address < symbol.address + symbol.size]
        return min(around or same, key=_preference)

    def _by_address(self) -> tuple[list[int], list[tuple[int, int]]]:
        """Where functions begin, and the table and index of each one's row; read by columns, which is soon done."""
        starts: list[int] = []
        places: list[tuple[int, int]] = []
        for number, source in enumerate(self._sources):
            table = _whole_rows(source.table)
            words, addresses = table.cast("I"), table.cast("Q")[1 :: _SYMBOL.size // 8].tolist()
            kinds = words[1 :: _SYMBOL.size // 4].tolist()  # info, other and section: few are different
            wanted = {kind for kind in set(kinds) if self._is_code(kind & 15, kind >> 16)}
            names = words[:: _SYMBOL.size // 4].tolist()
            found = [index for index, kind in enumerate(kinds) if kind in wanted and names[index]]
            starts += map(addresses.__getitem__, found)
            places += zip(repeat(number), found)
        order = sorted(range(len(starts)), key=starts.__getitem__)
        return [starts[index] for index in order], [places[index] for index in order]

    def _is_code(self, kind: int, section: int) -> bool:
        if kind in (STT_FUNC, STT_GNU_IFUNC):
            return section not in (_SHN_UNDEF, _SHN_ABS)
        return kind == STT_NOTYPE and section != _SHN_UNDEF and section in self._executable

    def _row(self, place: tuple[int, int]) -> _Row:
        """The row of a table and an index."""
        return _SYMBOL.unpack_from(self._sources[place[0]].table, place[1] * _SYMBOL.size)

    def _named(self, name: str) -> Iterator[tuple[int, int, _Row]]:
        """Yield table, index and row of the defined symbols of a name: searched as bytes, which is soon done.

        A name may be the end of a longer one in the strings (``open`` in ``fopen``), so each place
        where the text ends counts, if a symbol begins its name there.
        """
        wanted = name.encode() + b"\0"
        if len(wanted) == 1:
            return
        self._packed = self._packed or [bytes(_whole_rows(source.table)) for source in self._sources]
        for number, (source, table) in enumerate(zip(self._sources, self._packed, strict=True)):
            at = source.data.find(wanted, source.strings_start, source.strings_end)
            while at >= 0:
                for index in _rows_that_begin(table, struct.pack("<I", at - source.strings_start)):
                    row: _Row = _SYMBOL.unpack_from(table, index * _SYMBOL.size)
                    if row[3]:
                        yield number, index, row
                at = source.data.find(wanted, at + 1, source.strings_end)

    def _is_hidden(self, source: int, index: int) -> bool:
        versions = self._sources[source].versions
        if len(versions) < 2 * index + 2:
            return False
        return bool(int.from_bytes(versions[2 * index : 2 * index + 2], "little") & _VERSION_HIDDEN)

    def _symbol(self, source: int, row: _Row) -> Symbol:
        name_at, info, _, section, address, size = row
        extent = self._sources[source]
        start = extent.strings_start + name_at
        longest = start + _LONGEST_NAME
        end = extent.data.find(b"\0", start, min(extent.strings_end, longest))
        if end < 0 and longest < extent.strings_end:
            end = longest  # made to hurt: the other names are good
        if end < 0:
            raise BadFileError(self._path, f"symbol name {name_at} has no end", extent.strings_start)
        name = extent.data[start:end].decode(errors="replace")
        return Symbol(name, address, size, info & 15, info >> 4, section)


def _whole_rows(table: memoryview) -> memoryview:
    return table[: len(table) // _SYMBOL.size * _SYMBOL.size]


def _rows_that_begin(table: bytes, word: bytes) -> Iterator[int]:
    at = table.find(word)
    while at >= 0:
        if at % _SYMBOL.size == 0:
            yield at // _SYMBOL.size
        at = table.find(word, at + 1)


def _preference(symbol: Symbol) -> tuple[int, int, str]:
    underscores = len(symbol.name) - len(symbol.name.lstrip("_"))
    return _BINDING_RANK.get(symbol.binding, 3), underscores, symbol.name
