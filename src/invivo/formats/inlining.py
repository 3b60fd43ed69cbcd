"""Which functions of the source an instruction belongs to: the function, those inlined there, the line of each."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterator
from typing import Any

from elftools.dwarf.compileunit import CompileUnit
from elftools.dwarf.die import DIE

from invivo.errors import BadFileError
from invivo.formats.dwarf import MISTAKES, Dwarf, attribute, beginnings, children, covers, number, source_files, text
from invivo.formats.elf_symbols import readable
from invivo.formats.rust_names import readable_rust
from invivo.record import Record

_DEEPEST = 64


class SourceFrame(Record):
    """A function and where in it the instruction is. ``line`` is 0 if that is not known."""

    name: str
    path: str
    line: int


class _Unit:
    """What is kept of a unit: where its functions are, and its line table."""

    def __init__(
        self, functions: list[tuple[int, DIE]], files: dict[int, str], rows: list[tuple[int, int, int]]
    ) -> None:
        self.functions = functions
        self.starts = [start for start, _ in functions]
        self.files = files
        self.rows = rows  # address, number of the file, line; 0 where a sequence ends
        self.places = [address for address, _, _ in rows]


class Inlining:
    """Answers for one file's addresses. Raises `BadFileError` on garbage."""

    def __init__(self, dwarf: Dwarf) -> None:
        self._dwarf = dwarf
        self._units: dict[int, _Unit] = {}

    def frames(self, address: int) -> list[SourceFrame]:
        """Return the function that an address is in, and what is inlined there, innermost last; [] if unknown."""
        try:
            return self._frames(address)
        except MISTAKES as problem:
            raise BadFileError(self._dwarf.path, f"debug information: {problem}") from problem

    def _frames(self, address: int) -> list[SourceFrame]:
        found = self._dwarf.unit(address)
        if found is None:
            return []
        unit = self._unit(found)
        index = bisect_right(unit.starts, address) - 1
        if index < 0 or not covers(self._dwarf.info, unit.functions[index][1], address):
            return []
        chain = list(self._inlined(unit.functions[index][1], address))
        names = [_name(die) for die in chain]
        # Where an inlined function was called is a line of the one around it.
        calls = [
            (number(die.attributes.get("DW_AT_call_file")), number(die.attributes.get("DW_AT_call_line")))
            for die in chain[1:]
        ]
        places = [*calls, _line_at(unit, address)]
        return [
            SourceFrame(name, unit.files.get(file, ""), line) for name, (file, line) in zip(names, places, strict=True)
        ]

    def _inlined(self, function: DIE, address: int) -> Iterator[DIE]:
        """Yield a function and, from outside to inside, what is inlined at an address."""
        yield function
        around: DIE | None = function
        for _ in range(_DEEPEST):
            if around is None:
                return
            inner = None
            for child in children(around):
                if child.tag in ("DW_TAG_inlined_subroutine", "DW_TAG_lexical_block") and covers(
                    self._dwarf.info, child, address
                ):
                    inner = child
                    break
            if inner is not None and inner.tag == "DW_TAG_inlined_subroutine":
                yield inner
            around = inner

    def _unit(self, unit: CompileUnit) -> _Unit:
        known = self._units.get(unit.cu_offset)
        if known is None:
            functions = sorted(beginnings(self._dwarf.info, unit), key=lambda pair: pair[0])
            program: Any = self._dwarf.info.line_program_for_CU(unit)
            rows: list[tuple[int, int, int]] = []
            for entry in program.get_entries() if program is not None else ():
                state = entry.state
                if state is not None:
                    rows.append((state.address, state.file, 0 if state.end_sequence else state.line))
            rows.sort(key=lambda row: row[0])
            files = dict(source_files(program)) if program is not None else {}
            known = self._units[unit.cu_offset] = _Unit(functions, files, rows)
        return known


def _line_at(unit: _Unit, address: int) -> tuple[int, int]:
    index = bisect_right(unit.places, address) - 1
    return unit.rows[index][1:] if index >= 0 else (0, 0)


def _name(die: DIE) -> str:
    linkage = text(attribute(die, "DW_AT_linkage_name"))
    return readable_rust(readable(linkage)) if linkage else text(attribute(die, "DW_AT_name")) or "[unknown]"
