"""The ring, and a copy of what it could not hold while this process was busy with something long."""

from __future__ import annotations

from _thread import allocate_lock, start_new_thread
from collections import deque
from collections.abc import Callable

from invivo.runtime.seams import RingHandle

_LOOK_SECONDS = 0.004
# What comes in 0.3 s at a million records of 64 bytes a second: twice as long as numpy's import took on a busy machine.
_MOST_BYTES = 1 << 25


class Backlog:
    """Windows of records in their order: copies first, then those of the ring."""

    def __init__(self, ring: RingHandle) -> None:
        self._ring = ring
        self._copies: deque[bytes] = deque()
        self._size_bytes = 0

    def window(self, limit_bytes: int = 1 << 22) -> memoryview:
        """As `kernel.ringbuf.Ring.window`. Until this process has caught up, the ring is kept empty."""
        if not self._copies:
            return self._ring.window(limit_bytes)
        self._copy(limit_bytes)
        return memoryview(self._copies[0])

    def release(self, size_bytes: int) -> None:
        """Give back a window, whole."""
        if self._copies:
            self._size_bytes -= len(self._copies.popleft())
        else:
            self._ring.release(size_bytes)

    def pending_bytes(self) -> int:
        """The size of what is there, also what is not committed yet."""
        return self._size_bytes + self._ring.pending_bytes()

    def during(self, work: Callable[[], None], limit_bytes: int) -> None:
        """Do some work that takes long, while what comes is copied, in pieces of about ``limit_bytes``.

        No more than 32 MiB: what comes then stays in the ring.  Raises what the work raises.
        """
        failure: list[BaseException] = []
        running = allocate_lock()

        def run() -> None:
            try:
                work()
            except BaseException as problem:
                failure.append(problem)
            finally:
                running.release()

        running.acquire()
        start_new_thread(run, ())
        while not running.acquire(timeout=_LOOK_SECONDS):
            self._copy(limit_bytes)
        if failure:
            raise failure[0]

    def _copy(self, limit_bytes: int) -> None:
        """Whole windows only: what is less has room in the ring, and a probe may write faster than this looks."""
        while self._size_bytes < _MOST_BYTES and self._ring.pending_bytes() >= limit_bytes:
            window = self._ring.window(limit_bytes)
            if not window:
                return
            self._copies.append(bytes(window))
            self._size_bytes += len(window)
            self._ring.release(len(window))
