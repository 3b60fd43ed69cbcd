"""What programs that walk user stacks share with the runtime: maps, and how they ask for tables.

- ``UNWIND_MAP`` of `ir.layout`: thread group -> `RANGES` ranges of 24 bytes in rising order, the first one all
  zero, those that are not used far above any address: u64 start, u64 end, u32 page (0: the file has
  no table), u32 what is added to the distance from ``start``.
- ``PAGES_MAP``: page -> `PAGE_ROWS` rows: u32 below, u32 start.  A file's first page has the starts
  of the pages with its rows; a row's ``below`` is a page there, and a rule here.  Unused rows have
  the greatest start.
- ``RULES_MAP``: number -> `formats.unwinding.rule` word.
- ``ASKED_MAP``: the thread groups that have asked, ``ASKS_MAP``: a ring with their u64 numbers.
"""

from __future__ import annotations

from typing import Final

from invivo.ir import helpers
from invivo.ir.builder import Builder
from invivo.ir.layout import UNWIND_MAP, MapSpec, MapType
from invivo.ir.ops import CompareOp, Operand

PAGES_MAP: Final = "invivo_unwind_t"
RULES_MAP: Final = "invivo_unwind_r"
ASKED_MAP: Final = "invivo_unwind_a"
ASKS_MAP: Final = "invivo_unwind_q"

RANGES: Final = 512
RANGE_BYTES: Final = 24
PAGE_ROWS: Final = 512
LEVELS: Final = 2
MOST_PROCESSES: Final = 4096
MOST_PAGES: Final = 1 << 15  # 128 MiB, 16 million rows
MOST_RULES: Final = 1 << 15
_MOST_ASKED: Final = 1024
_ASKS_BYTES: Final = 4096
_NO_PREALLOC: Final = 1  # BPF_F_NO_PREALLOC
_MMAPABLE: Final = 1 << 10  # BPF_F_MMAPABLE

MAPS: Final = (
    MapSpec(UNWIND_MAP, MapType.HASH, 4, RANGES * RANGE_BYTES, MOST_PROCESSES, _NO_PREALLOC),
    MapSpec(PAGES_MAP, MapType.HASH, 4, PAGE_ROWS * 8, MOST_PAGES, _NO_PREALLOC),
    MapSpec(RULES_MAP, MapType.ARRAY, 4, 8, MOST_RULES, _MMAPABLE),
    MapSpec(ASKED_MAP, MapType.HASH, 4, 8, _MOST_ASKED),
    MapSpec(ASKS_MAP, MapType.RINGBUF, 0, 0, _ASKS_BYTES),
)


def ask(b: Builder, tgid: Operand) -> None:
    """Ask the runtime to look at a thread group's mappings, and wake it, unless that has been asked already."""
    key, value = b.stack_slot(8), b.stack_slot(8)
    b.store(key, 0, 8, tgid)
    b.store(value, 0, 8, 1)
    code = b.call(helpers.MAP_UPDATE_ELEM, b.map(ASKED_MAP), key, value, helpers.BPF_NOEXIST)
    new, asked = b.label("ask"), b.label("asked")
    b.branch(CompareOp.EQ, code, 0, new, asked)
    b.start(new)
    b.call_void(helpers.RINGBUF_OUTPUT, b.map(ASKS_MAP), key, 8, 0)
    b.jump(asked)
    b.start(asked)
