"""Frames of interpreted code: tells programs which processes run an interpreter, and names what they found.

What the maps hold is in `interpreters.record`.
"""

from __future__ import annotations

import os
from collections.abc import Mapping as Dictionary
from collections.abc import Sequence

from invivo.errors import BadFileError, SyscallError
from invivo.events import Frame
from invivo.formats.elf import PF_X, PT_LOAD, Elf
from invivo.interpreters import MODULES
from invivo.interpreters.record import CODE_KEY, ENTRY, HEADER, Interpreter, Recognised, find_interpreter
from invivo.kernel.processes import INITIAL_PID_NAMESPACE
from invivo.runtime.seams import MapHandle
from invivo.runtime.symbols import Binary, Mapping

_PAGE_BYTES = 4096
_MOST_FRAMES = 1 << 16  # that are remembered


def interpreted(maps: Dictionary[str, MapHandle]) -> dict[str, Interpreted]:
    """Return who keeps the maps of a session, by builtin value; empty if its programs ask for no such frames."""
    found: dict[str, Interpreted] = {}
    for builtin in MODULES:
        record = find_interpreter(builtin)
        if record.processes.name in maps:
            found[builtin] = Interpreted(record, maps[record.processes.name], maps[record.codes.name])
    return found


class Interpreted:
    """One interpreter: the processes that run it, and the names of its frames."""

    def __init__(self, interpreter: Interpreter, processes: MapHandle, codes: MapHandle) -> None:
        self._interpreter = interpreter
        self._processes = processes
        self._codes = codes
        self._files: dict[tuple[str, int], tuple[Elf, Recognised] | None] = {}
        self._told: dict[int, bytes] = {}
        self._frames: dict[tuple[int, int], Frame] = {}

    def mapped(self, tgid: int, mapping: Mapping, binary: Binary | None) -> None:
        """Look at what a process has mapped."""
        if binary is None or not self._interpreter.is_candidate(mapping.path):
            return
        if mapping.file not in self._files:
            self._files[mapping.file] = self._recognised(binary)
        known = self._files[mapping.file]
        shift = None if known is None else _shift(known[0], mapping)
        if known is None or shift is None:
            return
        header = HEADER.pack((known[1].address + shift) & (1 << 64) - 1, *_pid_namespace(tgid))
        self._tell(tgid, header + known[1].table)

    def forked(self, tgid: int, parent: int) -> None:
        if parent in self._told:
            self._tell(tgid, self._told[parent])

    def executed(self, tgid: int) -> None:
        if self._told.pop(tgid, None) is not None:
            self._processes.delete(tgid.to_bytes(4, "little"))

    def frames(self, tgid: int, words: Sequence[int]) -> tuple[Frame, ...]:
        """Return a frame for each word; without a symbol where its name is not known."""
        return tuple([self._frames.get((tgid, word)) or self._frame(tgid, word) for word in words])

    def _recognised(self, binary: Binary) -> tuple[Elf, Recognised] | None:
        elf = binary.elf()
        try:
            found = None if elf is None else self._interpreter.recognise(elf)
        except BadFileError:
            return None
        return None if elf is None or found is None else (elf, found)

    def _tell(self, tgid: int, value: bytes) -> None:
        if self._told.get(tgid) == value:
            return
        try:
            self._processes.update(tgid.to_bytes(4, "little"), value)
        except SyscallError:
            return  # more processes than there is room for: they have native frames only
        self._told[tgid] = value

    def _frame(self, tgid: int, word: int) -> Frame:
        value = self._codes.lookup(CODE_KEY.pack(word & ~ENTRY, tgid))
        frame = self._interpreter.frame(word, value)
        if value is not None:
            if len(self._frames) >= _MOST_FRAMES:
                self._frames.clear()
            self._frames[tgid, word] = frame
        return frame


def _shift(elf: Elf, mapping: Mapping) -> int | None:
    """How far the addresses in the process are from those in the file; mappings begin at whole pages."""
    for segment in elf.segments:
        is_code = segment.type == PT_LOAD and segment.flags & PF_X
        if is_code and segment.offset & -_PAGE_BYTES <= mapping.offset < segment.offset + segment.file_size:
            return mapping.start - (mapping.offset - segment.offset + segment.address)
    return None


def _pid_namespace(tgid: int) -> tuple[int, int]:
    """Device and inode of the namespace that a process's own thread ids are of; zero for the initial one."""
    try:
        found = os.stat(f"/proc/{tgid}/ns/pid")
    except OSError:
        return 0, 0
    return (0, 0) if found.st_ino == INITIAL_PID_NAMESPACE else (found.st_dev, found.st_ino)
