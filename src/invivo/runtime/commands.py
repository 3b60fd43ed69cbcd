"""What actions do outside: the content of a file, the output of a shell command."""

from __future__ import annotations

import os
import signal


def file_start(path: str, limit_bytes: int) -> str:
    """Return the first bytes of a file as text. Raises OSError.

    The name may come from the traced system: a FIFO is not waited for, a terminal not acquired.
    """
    fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK | os.O_NOCTTY)
    try:
        pieces: list[bytes] = []
        while limit_bytes > 0 and (piece := os.read(fd, min(limit_bytes, 1 << 16))):
            pieces.append(piece)
            limit_bytes -= len(piece)
    finally:
        os.close(fd)
    return b"".join(pieces).decode("utf-8", "surrogateescape")


def shell_output(command: str) -> str:
    """Run a command by /bin/sh, wait for it, and return what it wrote to its standard output.

    Raises OSError if there is no shell. Its standard error is ours.
    """
    read_end, write_end = os.pipe2(os.O_CLOEXEC)
    try:
        pid = os.posix_spawn(
            "/bin/sh",
            [b"sh", b"-c", command.encode("utf-8", "surrogateescape")],
            os.environ,
            file_actions=[(os.POSIX_SPAWN_DUP2, write_end, 1)],
            setsigdef=(signal.SIGPIPE, signal.SIGXFSZ),  # Python ignores both, a shell should not
        )
    except BaseException:
        os.close(read_end)
        raise
    finally:
        os.close(write_end)
    with os.fdopen(read_end, "rb") as pipe:
        output = pipe.read()
    os.waitpid(pid, 0)
    return output.decode("utf-8", "surrogateescape")
