"""A small BPF program for tests of attaching: it counts what one process does, and keeps what it saw last.

Written by hand, so that attaching is tested without the compiler.  Events of other processes
do nothing: the program looks at the thread group first.
"""

from __future__ import annotations

import os
import struct
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from invivo import probes
from invivo.image import ProgramImage, Relocation, RelocationKind
from invivo.ir.layout import MapSpec, MapType
from invivo.kernel.maps import Map
from invivo.kernel.programs import load_program
from invivo.target import Access, ContextLoad, ContextPointer, Plan

_GET_CURRENT_PID_TGID, _GET_STACK, _GET_ATTACH_COOKIE = 14, 67, 174  # enum bpf_func_id
_F_MMAPABLE = 1 << 10
_SIZES = {8: 0x18, 4: 0x00, 2: 0x08, 1: 0x10}  # BPF_DW, BPF_W, BPF_H, BPF_B
_COOKIES = 16  # cells of counts by cookie
_KEPT = 16  # then one for each word that is kept
_FRAMES = 32  # then the last kernel stack


def _instruction(code: int, target: int = 0, source: int = 0, offset: int = 0, value: int = 0) -> bytes:
    return struct.pack("<BBhi", code, target | source << 4, offset, value)


def _load(target: int, source: int, offset: int, size: int) -> bytes:
    return _instruction(0x61 & ~0x18 | _SIZES[size], target, source, offset)


def _read(access: Access) -> bytes:
    """Load a word of the context into r2."""
    match access:
        case ContextLoad(offset, size, _):
            return _load(2, 6, offset, size)
        case ContextPointer(slot, offset, size, _):
            return _load(2, 6, slot, 8) + _load(2, 2, offset, size)
        case _:
            raise AssertionError(f"{access} is not one word")


def _program(plan: Plan, pid: int, kept: Sequence[Access]) -> tuple[bytes, int]:
    """Return the instructions, and the index of the one that takes the map's address."""
    gate = plan.context.gate
    body = b""
    if gate is not None:
        # r8 = index of the number in the table; not in it: leave.
        body += _read(gate.access) + _instruction(0xB7, 8, value=-1)
        for number, index in gate.table:
            body += _instruction(0x55, 2, offset=1, value=number) + _instruction(0xB7, 8, value=index)
    elif plan.cookies:
        body += _instruction(0xBF, 1, 6) + _instruction(0x85, value=_GET_ATTACH_COOKIE) + _instruction(0xBF, 8, 0)
    else:
        body += _instruction(0xB7, 8)
    count = _instruction(0xBF, 1, 7) + _instruction(0x67, 8, value=3) + _instruction(0x0F, 1, 8)
    count += _instruction(0xB7, 2, value=1) + _instruction(0xDB, 1, 2)  # lock *(u64 *)r1 += r2
    keep = b"".join(
        _read(access) + _instruction(0x7B, 7, 2, offset=8 * (_COOKIES + place)) for place, access in enumerate(kept)
    )
    stack = _instruction(0xBF, 1, 6) + _instruction(0xBF, 2, 7)
    stack += _instruction(0x07, 2, value=8 * (_COOKIES + _KEPT)) + _instruction(0xB7, 3, value=8 * _FRAMES)
    stack += _instruction(0xB7, 4, value=plan.context.stack_skip) + _instruction(0x85, value=_GET_STACK)
    rest = count + keep + stack
    body += _instruction(0x35, 8, offset=len(rest) // 8, value=_COOKIES) + rest
    start = _instruction(0xBF, 6, 1)
    address = _instruction(0x18, 7) + _instruction(0)
    filtered = _instruction(0x85, value=_GET_CURRENT_PID_TGID) + _instruction(0x77, 0, value=32)
    filtered += _instruction(0x55, 0, offset=len(body) // 8, value=pid)
    code = start + address + filtered + body + _instruction(0xB7) + _instruction(0x95)
    return code, len(start) // 8


class Seen:
    """What a counting program has seen so far."""

    def __init__(self, cells: memoryview) -> None:
        self._cells = cells

    def counts(self) -> list[int]:
        """How often each cookie (or entry of the gate's table) was seen."""
        return list(struct.unpack_from(f"<{_COOKIES}Q", self._cells))

    def count(self) -> int:
        return sum(self.counts())

    def kept(self, place: int) -> int:
        """The last value of a word of the context."""
        value: int = struct.unpack_from("<Q", self._cells, 8 * (_COOKIES + place))[0]
        return value

    def stack(self) -> list[int]:
        """The last kernel stack, without the frames that the plan leaves out."""
        words = struct.unpack_from(f"<{_FRAMES}Q", self._cells, 8 * (_COOKIES + _KEPT))
        return [word for word in words if word]


@contextmanager
def counting(plan: Plan, keep: Sequence[Access] = (), *, pid: int | None = None) -> Iterator[Seen]:
    """Attach a program to all points of a plan; it counts the events of one process (default: this one)."""
    only = os.getpid() if pid is None else pid
    code, at = _program(plan, only, keep)
    cells = Map.create(MapSpec("seen", MapType.ARRAY, 4, 8 * (_COOKIES + _KEPT + _FRAMES), 1, _F_MMAPABLE))
    relocations = (Relocation(at, RelocationKind.MAP_VALUE, "seen"),)
    try:
        program = load_program(ProgramImage("count", code, relocations, (), (), plan, 0), {"seen": cells}, -1, "GPL")
        try:
            links = probes.attach(plan, program, only)
            try:
                yield Seen(cells.memory())
            finally:
                for link in links:
                    link.close()
        finally:
            program.close()
    finally:
        cells.close()
