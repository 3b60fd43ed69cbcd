"""``/tmp/perf-PID.map``: what a JIT compiler has made, as it tells profilers.

The file lies where everybody may write: it counts only if it belongs to the process's user or to root, and nobody else
may write it.  What is in it is text of the traced program.
"""

from __future__ import annotations

import os
import stat
from bisect import bisect_right
from typing import Final

_MOST_BYTES: Final = 256 << 20
_LONGEST_NAME: Final = 4096


class PerfMap:
    """The code of one process; of what overlaps, the later line counts."""

    def __init__(self, fd: int, path: str) -> None:
        """``fd`` is closed with the map."""
        self.path = path
        self._fd = fd
        self._size = -1
        self._starts: list[int] = []
        self._rows: list[tuple[int, str]] = []

    def name(self, address: int) -> tuple[str, int]:
        """Return the name of what is at an address and the distance from its start; ("", 0) if nothing is known."""
        found = self._at(address)
        if found is None and self._grew():
            self._read()
            found = self._at(address)
        return found or ("", 0)

    def close(self) -> None:
        """Close the file. Twice does no harm."""
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1

    def _at(self, address: int) -> tuple[str, int] | None:
        index = bisect_right(self._starts, address) - 1
        if index < 0 or address >= self._rows[index][0]:
            return None
        return self._rows[index][1], address - self._starts[index]

    def _grew(self) -> bool:
        return self._fd >= 0 and os.fstat(self._fd).st_size != self._size

    def _read(self) -> None:
        self._size = os.fstat(self._fd).st_size
        data = b""
        while len(data) < min(self._size, _MOST_BYTES) and (part := os.pread(self._fd, 1 << 20, len(data))):
            data += part
        entries = parse_perf_map(data)
        self._starts = sorted(entries)
        self._rows = [entries[start] for start in self._starts]


def parse_perf_map(data: bytes) -> dict[int, tuple[int, str]]:
    """Return start → (end, name). Lines that are none are passed over: the last one may be half written.

    Code that is thrown away leaves its line: what a later one overlaps at its start is cut there.
    """
    entries: dict[int, tuple[int, str]] = {}
    for line in data.split(b"\n"):
        fields = line.split(None, 2)
        if len(fields) < 3:
            continue
        try:
            start, size = int(fields[0], 16), int(fields[1], 16)
        except ValueError:
            continue
        if 0 < size < 1 << 40 and 0 <= start < 1 << 63:
            entries[start] = start + size, fields[2][:_LONGEST_NAME].rstrip().decode("utf-8", "replace")
    return entries


def open_perf_map(tgid: int) -> PerfMap | None:
    """Open the map of a living process, None if there is none that can be trusted."""
    try:
        uid, inner = _identity(tgid)
    except (OSError, ValueError):
        return None
    name = f"/tmp/perf-{inner}.map"
    return open_map_file(f"/proc/{tgid}/root{name}", name, uid)


def open_map_file(path: str, name: str, uid: int) -> PerfMap | None:
    """Open a map that belongs to a user or to root, None if it cannot be trusted. ``name``: what it is called."""
    try:
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK)
    except OSError:
        return None
    status = os.fstat(fd)
    others = stat.S_IWGRP | stat.S_IWOTH
    if not stat.S_ISREG(status.st_mode) or status.st_uid not in (uid, 0) or status.st_mode & others:
        os.close(fd)
        return None
    return PerfMap(fd, name)


def _identity(tgid: int) -> tuple[int, int]:
    """The effective user of a process, and its number in its own PID namespace."""
    uid, inner = -1, tgid
    with open(f"/proc/{tgid}/status", encoding="utf-8", errors="replace") as lines:
        for line in lines:
            key, _, rest = line.partition(":")
            if key == "Uid":
                uid = int(rest.split()[1])
            elif key == "NSpid":
                inner = int(rest.split()[-1])
    return uid, inner
