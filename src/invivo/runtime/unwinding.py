"""Tables for programs that walk user stacks: read from mapped files, kept in maps as processes come and go.

What the maps hold is in `ir.unwinding`.  A thread group's mappings are read when the session
begins to follow it, when a program asks (it came to code that it did not know, or the group has
executed another file), and a few times more soon after: a program maps its libraries within its
first milliseconds.  A file's table is read once and stays.  All this is done by a thread of its own:
the session may be busy with names for a tenth of a second, and programs begin meanwhile.
"""

from __future__ import annotations

import mmap
import os
import select
import struct
import time
from array import array
from collections.abc import Callable
from collections.abc import Mapping as Dictionary
from contextlib import suppress
from queue import SimpleQueue
from threading import Lock, Thread
from typing import Final

from invivo.errors import BadFileError, SyscallError
from invivo.formats.elf import PF_X, PT_LOAD, Elf
from invivo.formats.unwinding.reading import read_unwind_table
from invivo.formats.unwinding.table import UnwindTable
from invivo.ir.layout import UNWIND_MAP
from invivo.ir.unwinding import (
    ASKED_MAP,
    ASKS_MAP,
    MOST_PAGES,
    MOST_RULES,
    PAGE_ROWS,
    PAGES_MAP,
    RANGE_BYTES,
    RANGES,
    RULES_MAP,
)
from invivo.kernel.files import read_text
from invivo.record import Record
from invivo.runtime.seams import Kernel, MapHandle
from invivo.runtime.symbols import Mapping, map_file, parse_maps

_RANGE: Final = struct.Struct("<QQII")
_UNUSED: Final = _RANGE.pack(1 << 62, 1 << 62, 0, 0)
_NO_ROW: Final = 0xFFFFFFFF << 32
_PAGE_BYTES: Final = 4096
_ASK_BYTES: Final = 16  # in the ring, with the header
_AGAIN_SECONDS: Final = (0.001, 0.002, 0.004, 0.008, 0.016, 0.032, 0.064, 0.128, 0.25)
_USER_END: Final = 1 << 47
_VDSO: Final = "[vdso]"


_SMALL_BYTES: Final = 1 << 17  # of a file that is read at once: the rest would be slower

FileKey = tuple[str, int]  # `Mapping.file`


class Code(Record):
    """An executable segment: file offsets [start, end), and the address of ``start``."""

    start: int
    end: int
    address: int


class FileTable(Record):
    """A file's table in the maps: (address counted from ``floor``, page) of each piece; none if it has no table."""

    floor: int
    code: tuple[Code, ...]
    pieces: tuple[tuple[int, int], ...]

    def address(self, offset: int) -> int | None:
        """Return the address of a mapping's first byte; mappings begin at whole pages."""
        for code in self.code:
            if code.start & -_PAGE_BYTES <= offset < code.end:
                return offset - code.start + code.address
        return None


_NO_TABLE: Final = FileTable(0, (), ())


class _Read(Record, eq=False):
    """What was read of a file: its segments, and its rows with their rules."""

    floor: int
    code: tuple[Code, ...]
    table: UnwindTable | None


def _read_file(data: bytes | mmap.mmap, path: str) -> _Read | None:
    """Read a file's table; None if the file is something else: a JIT's cache."""
    try:
        elf = Elf(data, path)
        table = read_unwind_table(elf)
    except BadFileError:
        return None
    loaded = [segment for segment in elf.segments if segment.type == PT_LOAD]
    code = tuple(
        Code(segment.offset, segment.offset + segment.file_size, segment.address)
        for segment in loaded
        if segment.flags & PF_X
    )
    floor = min((segment.address for segment in loaded), default=0) & -_PAGE_BYTES
    if table is not None and (table.base < floor or table.base + table.starts[-1] - floor >> 32):
        table = None
    return _Read(floor, code, table)


class _Reader:
    """Reads files in a thread of its own: a large one takes seconds, and programs ask meanwhile."""

    def __init__(self, wake: Callable[[], None]) -> None:
        self._wake = wake
        self._jobs: SimpleQueue[tuple[FileKey, bytes | mmap.mmap, str] | None] = SimpleQueue()
        self._done: SimpleQueue[tuple[FileKey, _Read | None]] = SimpleQueue()
        self._thread: Thread | None = None
        self._open = True
        self._lock = Lock()

    def submit(self, key: FileKey, data: bytes | mmap.mmap, path: str) -> None:
        if self._thread is None:
            self._thread = Thread(target=self._run, name="unwind tables", daemon=True)
            self._thread.start()
        self._jobs.put((key, data, path))

    def results(self) -> list[tuple[FileKey, _Read | None]]:
        found: list[tuple[FileKey, _Read | None]] = []
        while not self._done.empty():
            found.append(self._done.get())
        return found

    def close(self) -> None:
        """Let the thread end after the file that it reads now; it wakes nobody any more."""
        with self._lock:
            self._open = False
        self._jobs.put(None)

    def _run(self) -> None:
        while (job := self._jobs.get()) is not None and self._open:
            key, data, path = job
            self._done.put((key, _read_file(data, path)))
            with self._lock:
                if self._open:
                    self._wake()


class Tables:
    """The tables of files, each put into the maps when it is first needed."""

    def __init__(self, pages: MapHandle, rules: MapHandle, wake: Callable[[], None]) -> None:
        self._pages = pages
        self._rules = rules.memory().cast("B").cast("Q")
        self._numbers = {0: 0}
        self._next_page = 1
        self._files: dict[FileKey, FileTable | None] = {}
        self._reader = _Reader(wake)
        self._waiting: dict[FileKey, set[int]] = {}

    def close(self) -> None:
        """Let go of the mapped memory."""
        self._reader.close()
        self._rules.release()

    def of_mapping(self, tgid: int, mapping: Mapping, *, waits: bool) -> FileTable | None:
        """Return the table of the file that a process has mapped; None while it is being read.

        ``waits``: read it now, however long that takes.
        """
        key = (_VDSO, mapping.end - mapping.start) if mapping.path == _VDSO else mapping.file
        if key in self._waiting:
            self._waiting[key].add(tgid)
            return None
        if key not in self._files:
            data = (
                _vdso(tgid, mapping) if mapping.path == _VDSO else map_file(tgid, mapping) if mapping.file[1] else None
            )
            if data is None:
                return _NO_TABLE
            if waits or len(data) <= _SMALL_BYTES:
                self._files[key] = self._stored(_read_file(data, mapping.path))
            else:
                self._waiting[key] = {tgid}
                self._reader.submit(key, data, mapping.path)
                return None
        return self._files[key]

    def take_read(self) -> set[int]:
        """Put into the maps what has been read, and return who waits for it."""
        waiting: set[int] = set()
        for key, read in self._reader.results():
            self._files[key] = self._stored(read)
            waiting |= self._waiting.pop(key)
        return waiting

    def load(self, path: str) -> bytes | mmap.mmap | None:
        """Read a file's table before anybody maps it. Return its content, None if it cannot be read."""
        try:
            fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        except OSError:
            return None
        try:
            status = os.fstat(fd)
            data = mmap.mmap(fd, 0, prot=mmap.PROT_READ)
        except (OSError, ValueError):
            return None
        finally:
            os.close(fd)
        key = (f"{os.major(status.st_dev):02x}:{os.minor(status.st_dev):02x}", status.st_ino)
        if key not in self._files:
            self._files[key] = self._stored(_read_file(data, path))
        return data

    def _stored(self, read: _Read | None) -> FileTable:
        if read is None or read.table is None:
            return _NO_TABLE if read is None else FileTable(read.floor, read.code, ())
        try:
            return FileTable(read.floor, read.code, self._store(read.table, read.table.base - read.floor))
        except SyscallError:
            return _NO_TABLE  # no room

    def _store(self, table: UnwindTable, shift: int) -> tuple[tuple[int, int], ...]:
        """Put rows into pages, and the pages' starts into pages above them."""
        numbers = [self._number(word) for word in table.words]
        rows = array(
            "Q",
            [(start + shift) << 32 | numbers[index] for start, index in zip(table.starts, table.indexes, strict=True)],
        )
        if shift:
            rows.insert(0, 0)
        tops = array(
            "Q", [rows[first] & _NO_ROW | self._page(rows[first : first + PAGE_ROWS]) for first in _firsts(rows)]
        )
        pieces = [(tops[first] >> 32, self._page(tops[first : first + PAGE_ROWS])) for first in _firsts(tops)]
        return ((0, pieces[0][1]), *pieces[1:])

    def _page(self, rows: array[int]) -> int:
        page = self._next_page
        if page > MOST_PAGES:
            raise SyscallError("store a table for unwinding", 7)
        self._next_page += 1
        filled = rows + array("Q", [_NO_ROW]) * (PAGE_ROWS - len(rows))
        self._pages.update(page.to_bytes(4, "little"), filled.tobytes())
        return page

    def _number(self, word: int) -> int:
        number = self._numbers.get(word)
        if number is None:
            if len(self._numbers) >= MOST_RULES:
                return 0
            number = self._numbers[word] = len(self._numbers)
            self._rules[number] = word
        return number


def _firsts(rows: array[int]) -> range:
    return range(0, len(rows), PAGE_ROWS)


def _vdso(tgid: int, mapping: Mapping) -> bytes | None:
    """Read the kernel's own code in a process: the same in all 64-bit ones."""
    try:
        with open(f"/proc/{tgid}/mem", "rb", buffering=0) as memory:
            memory.seek(mapping.start)
            return memory.read(mapping.end - mapping.start)
    except (OSError, ValueError):
        return None


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
        data = self._tables.load(path)
        if data is None:
            return
        try:
            interpreter = Elf(data, path).interpreter
        except BadFileError:
            return
        if interpreter is None:
            return
        self._tables.load(interpreter)
        # The libraries of this process are the likely ones; the others are read when they are mapped.
        for mapping in parse_maps(read_text("/proc/self/maps")):
            name = os.path.basename(mapping.path)
            if name and data.find(name.encode()) >= 0:
                self._tables.load(mapping.path)

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
