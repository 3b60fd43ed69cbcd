"""Where a program's text comes from, and where the results go."""

from __future__ import annotations

import os
import select
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
        raise OutputFileError(path, problem) from problem
    status = os.fstat(fd)
    if shared and stat.S_ISREG(status.st_mode) and status.st_uid != os.geteuid():
        os.close(fd)
        raise InvivoError(f"cannot write '{path}': it belongs to another user, in a directory that all may write")
    if stat.S_ISREG(status.st_mode):
        os.ftruncate(fd, 0)
    return fd


class OutputFileError(InvivoError):
    """A file for results that cannot be opened."""

    def __init__(self, path: str, problem: OSError) -> None:
        super().__init__(f"cannot write '{path}': {problem.strerror}")
        self.classic = f'Failed to open output file: "{path}": {problem.strerror}'


class Messages:
    """Standard error, for what is said about a trace: that nobody can read it is no reason to end the trace."""

    def write(self, data: bytes | bytearray, /) -> int:
        try:
            sys.stderr.buffer.write(data)
            sys.stderr.buffer.flush()
        except OSError:
            pass
        return len(data)

    def flush(self) -> None:
        """Nothing is held back."""


class Output:
    """Where results go: a descriptor, written at once and completely, so that an error comes once and from here.

    Raises `InvivoError` that names the file, and `BrokenPipeError` if nobody reads any more.
    """

    def __init__(self, path: str | None) -> None:
        """``path``: a file to open, None for standard output."""
        self._name = f"'{path}'" if path is not None else "standard output"
        self._own = path is not None
        self.fd = open_output(path) if path is not None else sys.stdout.fileno()

    def __enter__(self) -> Output:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        fd, self.fd = self.fd, -1
        try:
            if self._own:
                os.close(fd)
        except OSError as problem:  # a file system may say only now that there was no space
            raise self._failure(problem) from problem

    def write(self, data: bytes | bytearray, /) -> int:
        rest = memoryview(data)
        while rest:
            try:
                rest = rest[os.write(self.fd, rest) :]
            except BlockingIOError:  # somebody has made the pipe that we share non-blocking
                select.select((), (self.fd,), ())
            except BrokenPipeError:
                raise
            except OSError as problem:
                raise self._failure(problem) from problem
        return len(data)

    def flush(self) -> None:
        """Nothing is held back."""

    def _failure(self, problem: OSError) -> InvivoError:
        return InvivoError(f"cannot write {self._name}: {problem.strerror}")
