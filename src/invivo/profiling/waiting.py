"""Threads that wait from before a recording until after it: no probe ever sees them, /proc knows where they are."""

from __future__ import annotations

import os
from collections.abc import Iterable

from invivo.events import Frame, Stack
from invivo.ir.types import StackMode
from invivo.kernel.files import read_text
from invivo.record import Record
from invivo.runtime.symbols import UserSymbols


class Waiting(Record):
    """A thread that waits. ``user`` has the innermost function only: of the others nothing is known."""

    pid: int
    tid: int
    comm: str
    state: str  # a letter as of ps(1)
    kernel: Stack
    user: Stack


class Waiters:
    """The threads of some processes as they are now, to be looked at again later."""

    def __init__(self, pids: Iterable[int]) -> None:
        self._switches = {(pid, tid): switches for pid in pids for tid in _threads(pid) if (switches := _count(tid))}

    def still(self) -> list[Waiting]:
        """Return the threads that have not run since."""
        symbols = UserSymbols()
        try:
            found = [
                _waiting(pid, tid, symbols)
                for (pid, tid), switches in self._switches.items()
                if _count(tid) == switches
            ]
        finally:
            symbols.close()
        return [each for each in found if each is not None]


def _threads(pid: int) -> list[int]:
    try:
        return sorted(int(name) for name in os.listdir(f"/proc/{pid}/task"))
    except OSError:
        return []


def _count(tid: int) -> str:
    """How often a thread has left the processor, as /proc writes it; "" if it is gone, or runs."""
    try:
        text = read_text(f"/proc/{tid}/status")
    except OSError:
        return ""
    lines = text.splitlines()
    if any(line.startswith("State:\tR") for line in lines):
        return ""
    return " ".join(line for line in lines if "ctxt_switches:" in line)


def _waiting(pid: int, tid: int, symbols: UserSymbols) -> Waiting | None:
    try:
        comm = read_text(f"/proc/{tid}/comm").rstrip("\n")
        state = read_text(f"/proc/{tid}/stat").rpartition(")")[2].split()[0]
        kernel = parse_kernel_stack(read_text(f"/proc/{tid}/stack"))
        place = parse_place(read_text(f"/proc/{tid}/syscall"))
    except (OSError, IndexError):
        return None
    symbols.observe((pid,))
    frames = symbols.frames(pid, [place]) if place else ()
    return Waiting(
        pid,
        tid,
        comm,
        state,
        Stack(True, StackMode.BPFTRACE, kernel),
        Stack(False, StackMode.BPFTRACE, frames, complete=False),
    )


def parse_kernel_stack(text: str) -> tuple[Frame, ...]:
    """Parse ``/proc/PID/stack``: a line ``[<0>] futex_wait+0x77/0xb0 [module]`` for each frame, innermost first."""
    found: list[Frame] = []
    for line in text.splitlines():
        words = line.split()
        if len(words) < 2:
            continue
        name, _, offset = words[1].partition("/")[0].rpartition("+")
        if name and offset.startswith("0x"):
            found.append(Frame(0, name, int(offset, 16), words[2].strip("[]") if len(words) > 2 else "[kernel]"))
    return tuple(found)


def parse_place(text: str) -> int:
    """Return the user-space address of ``/proc/PID/syscall``: its last word; 0 for a thread that runs, or has none."""
    words = text.split()
    return int(words[-1], 16) if len(words) > 1 else 0
