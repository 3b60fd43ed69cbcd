"""Tests and benchmarks written in a script: a program run by the session instead of by an event."""

from __future__ import annotations

import time
from collections.abc import Callable

from invivo.events import Complaint, Event
from invivo.record import Record
from invivo.runtime.seams import Closeable, ProgramHandle

_BENCH_SECONDS = 0.2
_FEWEST_RUNS = 100
_ROUND = 50


class TestOutcome(Record):
    """``passed``: it has returned 0, called exit() with nothing else, and reported no error."""

    name: str
    passed: bool
    duration_ns: int
    events: tuple[Event, ...]


class BenchOutcome(Record):
    """``average_ns`` of a run, as the kernel has measured it."""

    name: str
    average_ns: int
    runs: int


class Trial:
    """One test or benchmark."""

    def __init__(
        self,
        name: str,
        program: ProgramHandle,
        outcome: Callable[[], tuple[list[Event], int]],
        count_runs: Callable[[], Closeable],
    ) -> None:
        """``outcome`` gives what the program has sent, and its exit status; ``count_runs`` is `Kernel.count_runs`."""
        self._count_runs = count_runs
        self.name = name
        self._program = program
        self._outcome = outcome

    def test(self) -> TestOutcome:
        """Run it once."""
        started = time.perf_counter_ns()
        result = self._program.run()
        duration_ns = time.perf_counter_ns() - started
        events, status = self._outcome()
        failed = any(isinstance(event, Complaint) and event.severity == "ERROR" for event in events)
        return TestOutcome(self.name, not (result or status or failed), duration_ns, tuple(events))

    def bench(self) -> BenchOutcome:
        """Run it for a while; what it sends is thrown away."""
        counting = self._count_runs()
        try:
            end = time.monotonic() + _BENCH_SECONDS
            while self._program.run_count() < _FEWEST_RUNS or time.monotonic() < end:
                for _ in range(_ROUND):
                    self._program.run()
                self._outcome()
        finally:
            counting.close()
        runs = self._program.run_count()
        return BenchOutcome(self.name, self._program.run_time_ns() // runs, runs)
