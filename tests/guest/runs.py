"""Runs tests in guests, as many guests at a time as there are processors, and tells how each test ended."""

from __future__ import annotations

import json
import os
import queue
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import TracebackType
from typing import NamedTuple

from guest.boot import Guest, HungError
from guest.packages import Kernel
from guest.selection import Boot, files_left_out

PROJECT = Path(__file__).parents[2]
# The longest test takes 30 seconds while two guests and others share two processors.
SILENCE_S = 240.0
_CONSOLE_LINES = 60


class TestResult(NamedTuple):
    """``outcome``: "passed", "skipped" or "failed"."""

    test: str
    outcome: str
    detail: str
    seconds: float


class End(NamedTuple):
    """How a guest ended: the exit status of its command, or ``trouble`` with what its console says."""

    status: int
    trouble: str
    seconds: float


def follow(guest: Guest, silence_s: float = SILENCE_S) -> Iterator[TestResult | End]:
    """Yield each result as it comes, and at last how the guest ended."""
    started = time.monotonic()
    running, status, trouble = "nothing yet", None, ""
    try:
        for fields in _objects(guest.lines(silence_s)):
            if "exit" in fields:
                status = int(str(fields["exit"]))
            elif fields["outcome"] == "started":
                running = str(fields["test"])
            else:
                yield TestResult(
                    str(fields["test"]), str(fields["outcome"]), str(fields["detail"]), float(str(fields["seconds"]))
                )
        if status is None:
            trouble = f"the guest ended before its command did; it ran {running}"
    except HungError as error:
        trouble = f"{error}; it ran {running}"
    if trouble:
        trouble = "\n".join([trouble, "the end of its console:", *guest.console().splitlines()[-_CONSOLE_LINES:]])
    yield End(-1 if status is None else status, trouble, time.monotonic() - started)


def pytest_command(boot: Boot, expression: str) -> list[str]:
    """Return the command of a boot. What is not needed is not imported: that takes many seconds there."""
    without = ["no:cacheprovider", "no:hypothesispytest"]
    words = [sys.executable, "-m", "pytest", "-p", "guest.report", *(f"-p{plugin}" for plugin in without)]
    words += ["-v", "--tb=no", "--color=no", *(f"--ignore={name}" for name in files_left_out())]
    return [*words, *(["-k", expression] if expression else []), *boot.targets]


def environment(kernel: Kernel) -> dict[str, str]:
    """Return what the command of a guest finds in its environment: nothing of who started the tests."""
    return {
        "PYTHONPATH": str(PROJECT / "tests"),
        "CI": "true",
        "INVIVO_REPEAT": "3",
        "INVIVO_MODULES": str(kernel.modules),  # modules that a test may load
    }


def _objects(lines: Iterator[str]) -> Iterator[dict[str, object]]:
    for line in lines:
        if line.startswith("{"):
            yield json.loads(line)


class Guests:
    """Boots that were asked for, one after the other on each processor. Use as a context manager."""

    def __init__(self) -> None:
        self._pool = ThreadPoolExecutor(os.cpu_count() or 1)
        self._results: dict[str, queue.SimpleQueue[TestResult | End]] = {}
        self._guests: list[Guest] = []

    def start(self, boot: Boot, kernel: Kernel, folder: Path, expression: str) -> None:
        results = self._results[boot.name] = queue.SimpleQueue()
        command = pytest_command(boot, expression)

        def run() -> None:
            try:
                with Guest(kernel, command, folder, PROJECT, environment(kernel), boot.command_line) as guest:
                    self._guests.append(guest)
                    for result in follow(guest):
                        results.put(result)
            except Exception as error:
                results.put(End(-1, f"the guest was not started: {error!r}", 0.0))

        self._pool.submit(run)

    def results(self, boot: Boot) -> Iterator[TestResult | End]:
        """Yield a boot's results as they come; the last is its `End`."""
        while True:
            result = self._results[boot.name].get()
            yield result
            if isinstance(result, End):
                return

    def __enter__(self) -> Guests:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._pool.shutdown(wait=False, cancel_futures=True)
        for guest in self._guests:
            guest.stop()
        self._pool.shutdown()
