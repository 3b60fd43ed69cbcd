"""The kernel's own types: opening its BTF, and that of its modules."""

from __future__ import annotations

import mmap
import os

from invivo.formats.btf import Btf
from invivo.formats.buffer import Buffer

_DIRECTORY = "/sys/kernel/btf"


def open_btf(module: str = "", base: Btf | None = None, path: str = "") -> Btf | None:
    """Return the kernel's types, or a module's upon its ``base``; None if the kernel has none.

    ``path``: of a file that has them instead.
    Mapped, so only what is looked at is ever read (since Linux 6.16; read as a whole before).
    Raises `BadFileError`.
    """
    path = path or f"{_DIRECTORY}/{module or 'vmlinux'}"
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return None
    try:
        return Btf(_content(descriptor), path, base)
    finally:
        os.close(descriptor)


def modules() -> list[str]:
    """Return the loaded modules that have types, sorted."""
    try:
        return sorted(set(os.listdir(_DIRECTORY)) - {"vmlinux"})
    except OSError:
        return []


def modules_naming(symbol: str) -> list[str]:
    """Return the loaded modules whose types name a function or variable: their bytes are searched, nothing is read."""
    wanted = b"\0" + symbol.encode() + b"\0"
    found: list[str] = []
    for module in modules():
        try:
            with open(f"{_DIRECTORY}/{module}", "rb") as file:
                if wanted in file.read():
                    found.append(module)
        except OSError:
            continue  # unloaded meanwhile
    return found


def _content(descriptor: int) -> Buffer:
    size = os.fstat(descriptor).st_size
    try:
        # Since Linux commit a539e2a6d51d ("btf: Allow mmap of vmlinux btf"); private, or it is refused.
        return mmap.mmap(descriptor, size, mmap.MAP_PRIVATE, mmap.PROT_READ)
    except (OSError, ValueError):
        with os.fdopen(os.dup(descriptor), "rb") as file:
            return file.read()
