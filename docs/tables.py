"""Writes the tables of src/invivo/linux that Python's standard library knows: errors and signals.

    python docs/tables.py          writes the files (on Linux, x86-64, with the C library's own English texts)
    python docs/tables.py --check  says whether they are up to date (exit status 1 if not)

src/invivo/linux/syscalls.py was made from the kernel's own tables, as it says.
"""

from __future__ import annotations

import os
import signal
import sys
from pathlib import Path

LINUX = Path(__file__).parents[1] / "src" / "invivo" / "linux"
_LAST_ERROR = 133  # EHWPOISON, include/uapi/asm-generic/errno.h


def errors() -> str:
    """Return the module of error texts; the place of a text is the error's number."""
    texts = [os.strerror(number) for number in range(_LAST_ERROR + 1)]
    texts = ["" if text.startswith("Unknown error") else text for text in texts]
    return _module("Texts of the kernel's errors, at the place of their number (strerror(3)).", "ERRORS", texts)


def signals() -> str:
    """Return the module of signal names; the place of a name is the signal's number."""
    names = [""] * (signal.SIGRTMAX + 1)
    for each in signal.Signals:
        names[each.value] = each.name
    for number in range(signal.SIGRTMIN + 1, signal.SIGRTMAX):
        names[number] = f"SIGRTMIN+{number - signal.SIGRTMIN}"
    return _module("Names of signals, at the place of their number (signal(7)).", "SIGNALS", names)


def _module(doc: str, name: str, texts: list[str]) -> str:
    lines = "".join(f'    "{text}",\n' for text in texts)
    head = f'"""{doc}\n\nWritten by docs/tables.py.\n"""\n\nfrom __future__ import annotations\n'
    return f"{head}\nfrom typing import Final\n\n{name}: Final = (\n{lines})\n"


def main() -> int:
    status = 0
    for name, text in (("errors.py", errors()), ("signals.py", signals())):
        path = LINUX / name
        if "--check" not in sys.argv[1:]:
            path.write_text(text, encoding="utf-8")
        elif path.read_text(encoding="utf-8") != text:
            status = 1
    return status


if __name__ == "__main__":
    sys.exit(main())
