"""A file's table, by the reader that is the faster one for it."""

from __future__ import annotations

import sys
from typing import Final

from invivo.formats.elf import MACHINE_X86_64, Elf
from invivo.formats.unwinding.eh_frame import frame_section, rows_of, scan
from invivo.formats.unwinding.table import UnwindTable, table_of

_MANY_FUNCTIONS: Final = 2000  # from here on numpy is worth being imported: more files will follow
_SOME_FUNCTIONS: Final = 500  # if it has been imported


def read_unwind_table(elf: Elf) -> UnwindTable | None:
    """Return the table of a file, None if it has no rows (or is not for x86-64).

    Raises `BadFileError`, with the offset where the section stops making sense.
    """
    if elf.machine != MACHINE_X86_64:
        return None
    section = frame_section(elf)
    if section is None:
        return None
    cies, functions = scan(section)
    if not functions:
        return None
    # numpy costs 70 ms once, in which other threads stand still, and then a quarter of the time.
    if len(functions) >= (_SOME_FUNCTIONS if "numpy" in sys.modules else _MANY_FUNCTIONS):
        from invivo.formats.unwinding import eh_frame_bulk

        return eh_frame_bulk.table(section, cies, functions, elf.entry)
    return table_of(section.path, rows_of(section, cies, functions), elf.entry)
