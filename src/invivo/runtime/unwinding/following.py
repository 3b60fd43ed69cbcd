"""What processes have mapped, kept in a map for programs that walk user stacks, as processes come and go.

What the maps hold is in `ir.unwinding`.  A thread group's mappings are read when the session
begins to follow it, when a program asks (it came to code that it did not know, or the group has
executed another file), and a few times more soon after: a program maps its libraries within its
first milliseconds.  All this is done by a thread of its own: the session may be busy with names for a
tenth of a second, and programs begin meanwhile.
"""

from __future__ import annotations

import os
import select
import struct
import time
from collections.abc import Mapping as Dictionary
from contextlib import suppress
from threading import Thread
from typing import Final

from invivo.errors import BadFileError, SyscallError
from invivo.formats.elf import Elf
from invivo.ir.layout import UNWIND_MAP
from invivo.ir.unwinding import ASKED_MAP, ASKS_MAP, PAGES_MAP, RANGE_BYTES, RANGES, RULES_MAP
from invivo.kernel.files import read_text
from invivo.runtime.seams import Kernel, MapHandle
from invivo.runtime.symbols import Mapping, parse_maps
from invivo.runtime.unwinding.tables import Tables, hurry

_RANGE: Final = struct.Struct("<QQII")
_UNUSED: Final = _RANGE.pack(1 << 62, 1 << 62, 0, 0)
_ASK_BYTES: Final = 16  # in the ring, with the header
_AGAIN_SECONDS: Final = (0.001, 0.002, 0.004, 0.008, 0.016, 0.032, 0.064, 0.128, 0.25)
_USER_END: Final = 1 << 47
_MOST_LIBRARIES: Final = 64  # that are read before a command begins


class _Followed:
    """A thread group whose mappings are kept."""

    def __init__(self) -> None:
        self.value = b""
        self.turn = 0  # index into `_AGAIN_SECONDS`
        self.due = 0.0


class Unwinder:
    """Keeps the maps for a session whose programs walk user stacks."""

    def __init__(self, maps: Dictionary[str, MapHandle], kernel: Kernel) -> None:
        self._thread: Thread | None = None
        self._open = True
        self._processes = maps[UNWIND_MAP]
        self._asked = maps[ASKED_MAP]
        self._tables = Tables(maps[PAGES_MAP], maps[RULES_MAP], self._wake)
        self._asks = kernel.open_ring(ASKS_MAP, None, _ASK_BYTES)
        self._followed: dict[int, _Followed] = {}
        self._wakeup = os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK)

    def expect(self, tgid: int, path: str) -> None:
        """Prepare for a process that is about to execute a file."""
        self._processes.update(tgid.to_bytes(4, "little"), _value([]))
        wanted = [path]
        folders = dict.fromkeys(
            os.path.dirname(mapping.path)
            for mapping in parse_maps(read_text("/proc/self/maps"))
            if ".so" in mapping.path
        )
        # The libraries are likely to be where those of this process are; the others are read when they are mapped.
        for each in wanted:
            for needed in self._needed(each):
                places = [needed] if "/" in needed else [f"{folder}/{needed}" for folder in folders]
                found = next(filter(os.path.exists, places), "")
                if found and found not in wanted and len(wanted) < _MOST_LIBRARIES:
                    wanted.append(found)

    def _needed(self, path: str) -> list[str]:
        """Read the table of a file; return what the file says it needs: its interpreter and libraries."""
        data = self._tables.load(path)
        try:
            elf = None if data is None else Elf(data, path)
            return [] if elf is None else [*([elf.interpreter] if elf.interpreter else []), *elf.needed]
        except BadFileError:
            return []

    def follow(self, tgid: int) -> None:
        """Begin to keep the mappings of a living process, with the tables of all its files."""
        self._begin(tgid, waits=True)

    def start(self) -> None:
        """Begin to do what programs ask for."""
        self._thread = Thread(target=self._run, name="unwinder", daemon=True)
        self._thread.start()

    def close(self) -> None:
        """End the threads, and let go of the memory."""
        self._open = False
        self._wake()
        if self._thread is not None:
            self._thread.join()
        self._tables.close()
        self._asks.close()
        os.close(self._wakeup)

    def _wake(self) -> None:
        os.eventfd_write(self._wakeup, 1)

    def _run(self) -> None:
        hurry()
        poll = select.poll()
        for fd in (self._asks.fd, self._wakeup):
            poll.register(fd, select.POLLIN)
        while self._open:
            due = min((followed.due for followed in self._followed.values()), default=0.0)
            poll.poll(max(0.0, due - time.monotonic()) * 1000 if due else None)
            with suppress(BlockingIOError):
                os.eventfd_read(self._wakeup)
            self._look()

    def _look(self) -> None:
        """Do what programs have asked for, and what is due."""
        window = self._asks.window()
        size = len(window)
        for at in range(8, size, _ASK_BYTES):
            self._begin(int.from_bytes(window[at : at + 8], "little"))
        del window
        self._asks.release(size)
        for tgid in self._tables.take_read():
            self._begin(tgid)
        now = time.monotonic()
        for tgid, followed in list(self._followed.items()):
            if followed.due <= now:
                self._again(tgid, followed)

    def _begin(self, tgid: int, *, waits: bool = False) -> None:
        """Read the mappings now, and again until they have been the same for a while."""
        followed = self._followed.setdefault(tgid, _Followed())
        if self._read(tgid, followed, is_asked=True, waits=waits):
            followed.turn = 0
        followed.due = time.monotonic() + _AGAIN_SECONDS[followed.turn]

    def _again(self, tgid: int, followed: _Followed) -> None:
        self._asked.delete(tgid.to_bytes(4, "little"))
        if self._read(tgid, followed, is_asked=False):
            followed.turn = 0
        followed.turn += 1
        if followed.turn >= len(_AGAIN_SECONDS):
            del self._followed[tgid]
        else:
            followed.due = time.monotonic() + _AGAIN_SECONDS[followed.turn]

    def _read(self, tgid: int, followed: _Followed, *, is_asked: bool, waits: bool = False) -> bool:
        """Read a group's mappings and write them down; return whether they have changed."""
        try:
            mappings = parse_maps(read_text(f"/proc/{tgid}/maps"))
        except OSError:
            followed.turn = len(_AGAIN_SECONDS) - 1  # it has ended
            return False
        mappings = [mapping for mapping in mappings if mapping.end <= _USER_END]  # not [vsyscall]
        if not mappings:
            return False
        value = _value([entry for mapping in mappings for entry in self._ranges(tgid, mapping, waits=waits)])
        changed = value != followed.value
        if changed or is_asked:
            try:
                self._processes.update(tgid.to_bytes(4, "little"), value)
            except SyscallError:
                return False  # more processes than there is room for: they are counted as without a table
            followed.value = value
        return changed

    def _ranges(self, tgid: int, mapping: Mapping, *, waits: bool) -> list[bytes]:
        """Return the entries of a mapping: one for each piece of its file's table; none while that is being read."""
        table = self._tables.of_mapping(tgid, mapping, waits=waits)
        if table is None:
            return []
        address = table.address(mapping.offset)
        if address is None or not table.pieces:
            return [_RANGE.pack(mapping.start, mapping.end, 0, 0)]
        below = address - table.floor
        found: list[bytes] = []
        for index, (first, page) in enumerate(table.pieces):
            last = table.pieces[index + 1][0] if index + 1 < len(table.pieces) else 1 << 32
            start = max(mapping.start, mapping.start + first - below)
            end = min(mapping.end, mapping.start + last - below)
            if start < end:
                found.append(_RANGE.pack(start, end, page, start - mapping.start + below))
        return found


def _value(entries: list[bytes]) -> bytes:
    # The first entry, all zero, is below every address.
    used = entries[: RANGES - 1]
    return bytes(RANGE_BYTES) + b"".join(used) + _UNUSED * (RANGES - 1 - len(used))
