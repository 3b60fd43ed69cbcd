"""What a reader of a format accepts: bytes in memory, or a file that is mapped."""

from __future__ import annotations

import mmap

Buffer = bytes | bytearray | memoryview | mmap.mmap
Searchable = bytes | bytearray | mmap.mmap


def searchable(data: Buffer) -> Searchable:
    """Return data with a ``find``: only a memoryview has none, and is copied."""
    return bytes(data) if isinstance(data, memoryview) else data
