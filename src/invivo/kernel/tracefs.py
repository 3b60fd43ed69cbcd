"""The kernel's tracing files, read through a private mount if they are not mounted."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable
from typing import Final

from invivo.errors import NotSupportedError, PermissionDeniedError
from invivo.kernel import syscalls

_MOUNTS: Final = ("/sys/kernel/tracing", "/sys/kernel/debug/tracing")


class Tracefs:
    """The files of tracefs; nothing is opened before the first question.

    Questions raise `PermissionDeniedError` or `NotSupportedError` if tracefs cannot be had.
    """

    def __init__(self, mounts: tuple[str, ...] = _MOUNTS) -> None:
        """``mounts`` are the places where it may be mounted already."""
        self._mounts = mounts
        self._root = -1
        self._available: list[tuple[str, str]] | None = None

    def categories(self) -> list[str]:
        """Return the tracepoints' categories, sorted."""
        return sorted({category for category, _ in self._all()})

    def events(self, category: str = "*", event: str = "*") -> list[tuple[str, str]]:
        """Return category and name of the tracepoints that match two patterns (``*``: any characters), sorted."""
        if "*" not in category and "*" not in event:
            return [(category, event)] if self.has_event(category, event) else []
        right_category, right_event = _matcher(category), _matcher(event)
        return [pair for pair in self._all() if right_category(pair[0]) and right_event(pair[1])]

    def has_event(self, category: str, event: str) -> bool:
        """Whether there is a tracepoint of this name."""
        if not _is_name(category) or not _is_name(event):
            return False
        try:
            os.stat(f"events/{category}/{event}/id", dir_fd=self._directory())
        except OSError:
            return False
        return True

    def event_id(self, category: str, event: str) -> int:
        """Return the number by which perf_event_open(2) knows a tracepoint. Raises `FileNotFoundError`."""
        return int(self.read_text(f"events/{category}/{event}/id"))

    def format_text(self, category: str, event: str) -> str:
        """Return the description of a tracepoint's fields. Raises `FileNotFoundError`."""
        return self.read_text(f"events/{category}/{event}/format")

    def functions(self) -> str:
        """Return the text of available_filter_functions: ``name`` or ``name [module]`` on each line.

        Raises `NotSupportedError` for a kernel without the function tracer, `SyscallError` if it
        will not say.
        """
        try:
            return self.read_text("available_filter_functions")
        except PermissionError as error:
            hint = syscalls.privilege_hint(("CAP_DAC_READ_SEARCH", "CAP_SYS_ADMIN"))
            code = error.errno or errno.EPERM
            raise PermissionDeniedError("list the functions that can be probed", code, hint) from error
        except FileNotFoundError as error:
            raise NotSupportedError("function tracer", "", "the kernel needs CONFIG_FUNCTION_TRACER=y") from error

    def read_text(self, path: str) -> str:
        """Return a file's text; ``path`` is relative to the root of tracefs. Raises `OSError`."""
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC, dir_fd=self._directory())
        with os.fdopen(descriptor, "rb") as file:
            return file.read().decode(errors="replace")

    def close(self) -> None:
        """Give the mount back; the next question makes a new one."""
        root, self._root = self._root, -1
        if root >= 0:
            os.close(root)

    def _all(self) -> list[tuple[str, str]]:
        if self._available is None:
            pairs = (line.partition(":") for line in self.read_text("available_events").splitlines())
            self._available = sorted((category, event) for category, _, event in pairs)
        return self._available

    def _directory(self) -> int:
        if self._root < 0:
            self._root = self._open()
        return self._root

    def _open(self) -> int:
        for path in self._mounts:
            try:
                descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
            except OSError:
                continue
            try:
                os.stat("events", dir_fd=descriptor)
            except OSError:
                # The directory is there, the mount is not.
                os.close(descriptor)
                continue
            return descriptor
        return syscalls.mount_detached("tracefs")


def _is_name(text: str) -> bool:
    return bool(text) and "/" not in text and text not in (".", "..")


def _matcher(pattern: str) -> Callable[[str], bool]:
    first, *rest = pattern.split("*")
    if not rest:
        return pattern.__eq__
    *middle, last = rest

    def matches(name: str) -> bool:
        if not name.startswith(first):
            return False
        at = len(first)
        for piece in middle:
            found = name.find(piece, at)
            if found < 0:
                return False
            at = found + len(piece)
        return len(name) - at >= len(last) and name.endswith(last)

    return matches
