"""Reading the kernel's small text files.

``pathlib`` would do it, but costs 4 ms at import, a twentieth of the start-up budget.
"""

from __future__ import annotations

import os


def read_text(path: str) -> str:
    """Return a file's text. Raises `OSError`."""
    with os.fdopen(os.open(path, os.O_RDONLY | os.O_CLOEXEC), "rb") as file:
        return file.read().decode(errors="replace")


def exists(path: str) -> bool:
    """Whether a file is there and may be read by this process."""
    return os.access(path, os.R_OK)
