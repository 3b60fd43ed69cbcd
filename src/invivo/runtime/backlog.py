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
        """As `kernel.ringbuf.Ring.window`."""
        return memoryview(self._copies[0]) if self._copies else self._ring.window(limit_bytes)

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
            while self._size_bytes < _MOST_BYTES and len(window := self._ring.window(limit_bytes)):
                self._copies.append(bytes(window))
                self._size_bytes += len(window)
                self._ring.release(len(window))
        if failure:
            raise failure[0]
