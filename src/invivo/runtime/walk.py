"""Running an iterator's program over the kernel's objects while its records are being read."""

from __future__ import annotations

from _thread import allocate_lock, start_new_thread
from collections.abc import Callable, Sequence

from invivo.errors import InvivoError
from invivo.runtime.seams import Closeable, Kernel


class Walk:
    """One run over all objects, in a thread of its own: the ring may be smaller than what comes out."""

    def __init__(self, kernel: Kernel, links: Sequence[Closeable], ended: Callable[[], None]) -> None:
        """``ended`` is called from the thread, at the end."""
        self._kernel = kernel
        self._links = links
        self._ended = ended
        self._running = allocate_lock()
        self._over = False
        self._problem: InvivoError | None = None

    def start(self) -> None:
        self._running.acquire()
        start_new_thread(self._run, ())

    def goes_on(self) -> bool:
        """Whether it is still running. Raises what the run has raised."""
        if self._problem is not None:
            raise self._problem
        return not self._over

    def join(self) -> None:
        """Wait for the end."""
        with self._running:
            pass

    def _run(self) -> None:
        try:
            for link in self._links:
                self._kernel.walk(link)
        except InvivoError as problem:
            self._problem = problem
        finally:
            self._over = True
            self._ended()
            self._running.release()
