"""Reading the kernel's small text files.

``pathlib`` would do it, but costs 4 ms at import, a twentieth of the start-up budget.
"""

from __future__ import annotations

import os


def read_bytes(path: str) -> bytes:
    """Return a file's content. Raises `OSError`."""
    with os.fdopen(os.open(path, os.O_RDONLY | os.O_CLOEXEC), "rb") as file:
        return file.read()


def read_text(path: str) -> str:
    """Return a file's text; bytes that are no UTF-8 stay what they are (surrogateescape). Raises `OSError`."""
    return read_bytes(path).decode("utf-8", "surrogateescape")


def exists(path: str) -> bool:
    """Whether a file is there and may be read by this process."""
    return os.access(path, os.R_OK)
