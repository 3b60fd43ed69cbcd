"""Sleeping until there is something to do, without ever asking a probe for more than one wakeup."""

from __future__ import annotations

import os
import select
import signal
from collections.abc import Callable
from types import FrameType

from invivo.runtime.seams import RingHandle

_RETRY_SECONDS = 0.001  # for a record that is being written now


class Signals:
    """SIGINT and SIGTERM, counted; the third one is raised. Only in the main thread (elsewhere: none come)."""

    def __init__(self) -> None:
        self.received = 0
        self.asked = 0  # times that SIGUSR1 came
        self._old: list[tuple[int, Callable[[int, FrameType | None], object] | int | None]] = []
        self._old_wakeup = -1
        self.fd, self._write = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)

    def install(self) -> None:
        """Take over, also where SIGINT is ignored: a shell script's background job is stopped by it."""
        try:
            for number in (signal.SIGINT, signal.SIGTERM):
                self._old.append((number, signal.signal(number, self._count)))
            self._old_wakeup = signal.set_wakeup_fd(self._write, warn_on_full_buffer=False)
        except ValueError:
            return  # not the main thread

    def listen(self) -> None:
        """Count SIGUSR1, too; only in the main thread."""
        try:
            self._old.append((signal.SIGUSR1, signal.signal(signal.SIGUSR1, self._ask)))
            signal.set_wakeup_fd(self._write, warn_on_full_buffer=False)
        except ValueError:
            return

    def wake(self) -> None:
        """End a sleep from another thread or a signal's action."""
        os.write(self._write, b"\0")

    def take(self) -> None:
        """Empty the pipe, so that the next sleep is one."""
        try:
            while len(os.read(self.fd, 64)) == 64:
                pass
        except BlockingIOError:
            pass

    def close(self) -> None:
        if self.fd < 0:
            return
        if self._old:
            signal.set_wakeup_fd(self._old_wakeup)
        for number, action in self._old:
            signal.signal(number, action)
        os.close(self.fd)
        os.close(self._write)
        self.fd = -1

    def _ask(self, number: int, frame: FrameType | None) -> None:
        self.asked += 1

    def _count(self, number: int, frame: FrameType | None) -> None:
        self.received += 1
        if self.received > 2:
            raise KeyboardInterrupt  # the way out of a write to a pipe that nobody reads


class Sleeper:
    """Sleeps on descriptors, and on the ring if asked."""

    def __init__(self, ring: RingHandle | None) -> None:
        self._ring = ring
        self._without_ring = select.poll()
        self._with_ring = select.poll()
        if ring is not None:
            self._with_ring.register(ring.fd, select.POLLIN)

    def watch(self, fd: int) -> None:
        self._without_ring.register(fd, select.POLLIN)
        self._with_ring.register(fd, select.POLLIN)

    def pause(self, seconds: float) -> None:
        """Sleep while records are expected: they do not end it."""
        self._without_ring.poll(seconds * 1000)

    def idle(self, seconds: float) -> None:
        """Sleep until the next record, which is asked for one wakeup, or for so many seconds.

        The ring asks first and looks then: a record that comes between is not slept over.  One
        that was being written then is found by the next look, so time-outs must not be long.
        """
        if self._ring is None:
            self.pause(seconds)
            return
        if self._ring.arm():
            self._with_ring.poll(seconds * 1000)
        else:
            self.pause(min(seconds, _RETRY_SECONDS))
        self._ring.disarm()
