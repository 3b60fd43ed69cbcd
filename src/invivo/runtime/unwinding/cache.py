"""Tables of large files, kept on disk: to read one takes a second, and again for each recording."""

from __future__ import annotations

import os
import struct
from array import array
from contextlib import suppress
from hashlib import blake2b
from typing import Final
from zlib import crc32

from invivo.formats.elf import Elf
from invivo.formats.unwinding.eh_frame import frame_section
from invivo.formats.unwinding.reading import read_unwind_table
from invivo.formats.unwinding.table import UnwindTable

_SMALL_BYTES: Final = 1 << 15  # of .eh_frame: read as soon as found in a cache
_MOST_BYTES: Final = 256 << 20  # of all files
# What is kept, and the version of how it is made of .eh_frame: another one for each change of the reader.
_HEADER: Final = struct.Struct("<8sQQIII")  # this, base, checksum, rows, rules, 0
_MAGIC: Final = b"unwind\x01\n"


def cache_folder() -> str:
    """Return where tables are kept, "" for nowhere: INVIVO_CACHE in the environment, else the user's place for caches.

    root's is not in a home: sudo leaves HOME as it was.
    """
    named = os.environ.get("INVIVO_CACHE")
    if named is not None:
        return named
    if os.geteuid() == 0:
        return "/var/cache/invivo"
    home = os.environ.get("XDG_CACHE_HOME") or os.path.join(os.environ.get("HOME", ""), ".cache")
    return os.path.join(home, "invivo") if home.startswith("/") else ""


class Cache:
    """Finds a table by what is in its .eh_frame: whatever the file is called, and wherever it is.

    What cannot be read or written is as if it was not there.
    """

    def __init__(self, folder: str | None = None) -> None:
        self._folder = cache_folder() if folder is None else folder
        self._usable: bool | None = None if self._folder else False

    def table(self, elf: Elf) -> UnwindTable | None:
        """As `read_unwind_table`."""
        section = frame_section(elf)
        if section is None or len(section.data) <= _SMALL_BYTES or not self._is_usable():
            return read_unwind_table(elf)
        digest = blake2b(_MAGIC + struct.pack("<QQI", section.address, elf.entry, elf.machine), digest_size=20)
        digest.update(section.data)
        path = f"{self._folder}/{digest.hexdigest()}"
        with suppress(OSError, ValueError, struct.error):
            return _parse(_read(path))
        table = read_unwind_table(elf)
        if table is not None:
            with suppress(OSError):
                self._write(path, table)
        return table

    def _is_usable(self) -> bool:
        """Whether the folder is there, and nobody else can write to it."""
        if self._usable is None:
            self._usable = False
            with suppress(OSError):
                os.makedirs(self._folder, mode=0o700, exist_ok=True)
                status = os.lstat(self._folder)
                is_folder = status.st_mode & 0o170000 == 0o040000
                self._usable = is_folder and status.st_uid == os.geteuid() and not status.st_mode & 0o022
        return bool(self._usable)

    def _write(self, path: str, table: UnwindTable) -> None:
        data = _format(table)
        self._make_room(len(data))
        temporary = f"{path}.{os.getpid()}"
        try:
            with open(temporary, "xb") as file:
                file.write(data)
            os.rename(temporary, path)
        except OSError:
            with suppress(OSError):
                os.unlink(temporary)
            raise

    def _make_room(self, size: int) -> None:
        """Remove the oldest files, if there is too much."""
        with os.scandir(self._folder) as entries:
            found = sorted((each.stat().st_mtime_ns, each.stat().st_size, each.path) for each in entries)
        whole = sum(each[1] for each in found) + size
        for _, length, path in found:
            if whole <= _MOST_BYTES:
                break
            os.unlink(path)
            whole -= length


def _read(path: str) -> bytes:
    with open(path, "rb") as file:
        return file.read()


def _format(table: UnwindTable) -> bytes:
    body = b"".join((table.starts.tobytes(), table.indexes.tobytes(), array("Q", table.words).tobytes()))
    return _HEADER.pack(_MAGIC, table.base, crc32(body), len(table.starts), len(table.words), 0) + body


def _parse(data: bytes) -> UnwindTable:
    """Raises `ValueError`, `struct.error` for what `_format` has not written."""
    magic, base, checksum, rows, rules, _ = _HEADER.unpack_from(data)
    body = memoryview(data)[_HEADER.size :]
    if magic != _MAGIC or len(body) != 8 * (rows + rules) or crc32(body) != checksum:
        raise ValueError
    starts, indexes, words = array("I"), array("I"), array("Q")
    starts.frombytes(body[: 4 * rows])
    indexes.frombytes(body[4 * rows : 8 * rows])
    words.frombytes(body[8 * rows :])
    return UnwindTable(base, starts, indexes, tuple(words))
