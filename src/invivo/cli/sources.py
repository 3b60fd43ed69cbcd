"""Where a program's text comes from, and where the results go."""

from __future__ import annotations

import os
import stat
import sys

from invivo.diagnostics import SourceFile
from invivo.errors import InvivoError


def read_source(path: str) -> SourceFile:
    """Read a script, ``-`` from standard input. Raises `InvivoError`.

    Bytes that are not UTF-8 become surrogates, and the same bytes again in the program's strings.
    """
    try:
        if path == "-":
            data = sys.stdin.buffer.read()
        else:
            with open(path, "rb") as file:
                data = file.read()
    except OSError as problem:
        hint = "-e takes a program from the command line" if "{" in path else None
        raise InvivoError(f"cannot read '{path}': {problem.strerror}", hint) from problem
    return SourceFile("stdin" if path == "-" else path, decoded(data))


def decoded(data: bytes) -> str:
    return data.decode("utf-8", "surrogateescape").removeprefix("\ufeff")


def open_output(path: str) -> int:
    """Open a file for results, emptied; return its descriptor. Raises `InvivoError`.

    In a directory where everybody may write, a symbolic link is not followed and a file of
    somebody else's is not written: it may be a trap for root.
    """
    directory = os.path.dirname(path) or "."
    flags = os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC
    try:
        shared = os.stat(directory).st_mode & stat.S_IWOTH
        fd = os.open(path, flags | (os.O_NOFOLLOW if shared else 0), 0o644)
    except OSError as problem:
        raise InvivoError(f"cannot write '{path}': {problem.strerror}") from problem
    status = os.fstat(fd)
    if shared and stat.S_ISREG(status.st_mode) and status.st_uid != os.geteuid():
        os.close(fd)
        raise InvivoError(f"cannot write '{path}': it belongs to another user, in a directory that all may write")
    if stat.S_ISREG(status.st_mode):
        os.ftruncate(fd, 0)
    return fd
