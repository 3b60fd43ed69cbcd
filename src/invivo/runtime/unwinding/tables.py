"""Tables of files, read from .eh_frame once and put into the maps of programs that walk user stacks."""

from __future__ import annotations

import errno
import mmap
import os
import sys
from array import array
from collections.abc import Callable
from contextlib import suppress
from queue import SimpleQueue
from threading import Lock, Thread, get_native_id
from typing import Final

from invivo.errors import BadFileError, SyscallError
from invivo.formats.elf import PF_X, PT_LOAD, Elf
from invivo.formats.unwinding.table import UnwindTable
from invivo.ir.unwinding import MOST_PAGES, MOST_RULES, PAGE_ROWS
from invivo.record import Record
from invivo.runtime.seams import MapHandle
from invivo.runtime.symbols import Mapping, map_file
from invivo.runtime.unwinding.cache import Cache

_NO_ROW: Final = 0xFFFFFFFF << 32
_PAGE_BYTES: Final = 4096
_VDSO: Final = "[vdso]"
_MANY_ROWS: Final = 100_000  # numpy is worth being imported
_NICE: Final = -10
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


def _read_file(cache: Cache, data: bytes | mmap.mmap, path: str) -> _Read | None:
    """Read a file's table; None if the file is something else: a JIT's cache."""
    try:
        elf = Elf(data, path)
        table = cache.table(elf)
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

    def __init__(self, cache: Cache, wake: Callable[[], None]) -> None:
        self._cache = cache
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
        hurry()
        while (job := self._jobs.get()) is not None and self._open:
            key, data, path = job
            self._done.put((key, _read_file(self._cache, data, path)))
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
        self._cache = Cache()
        self._reader = _Reader(self._cache, wake)
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
                self._files[key] = self._stored(_read_file(self._cache, data, mapping.path))
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
            self._files[key] = self._stored(_read_file(self._cache, data, path))
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
        rows = self._rows(table, shift)
        if shift:
            rows.insert(0, 0)
        tops = array(
            "Q", [rows[first] & _NO_ROW | self._page(rows[first : first + PAGE_ROWS]) for first in _firsts(rows)]
        )
        pieces = [(tops[first] >> 32, self._page(tops[first : first + PAGE_ROWS])) for first in _firsts(tops)]
        return ((0, pieces[0][1]), *pieces[1:])

    def _rows(self, table: UnwindTable, shift: int) -> array[int]:
        """A table's rows as pages have them: start and the rule's number."""
        numbers = [self._number(word) for word in table.words]
        if "numpy" not in sys.modules and len(table.starts) < _MANY_ROWS:
            return array(
                "Q",
                [
                    (start + shift) << 32 | numbers[index]
                    for start, index in zip(table.starts, table.indexes, strict=True)
                ],
            )
        import numpy as np

        starts = np.frombuffer(table.starts, np.uint32).astype(np.uint64) + np.uint64(shift)
        below = np.array(numbers, np.uint64)[np.frombuffer(table.indexes, np.uint32)]
        return array("Q", (starts << np.uint64(32) | below).tobytes())

    def _page(self, rows: array[int]) -> int:
        page = self._next_page
        if page > MOST_PAGES:
            raise SyscallError("store a table for unwinding", errno.E2BIG)
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


def hurry() -> None:
    """Let this thread go before others: what it reads, samples wait for, and the rest of the machine may be busy."""
    with suppress(OSError):
        os.setpriority(os.PRIO_PROCESS, get_native_id(), _NICE)
