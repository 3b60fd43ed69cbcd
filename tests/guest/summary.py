"""Plugin of the host's pytest: remembers what ran where, and says at the end what the guests did."""

from __future__ import annotations

from collections.abc import Mapping

import pytest

from guest.selection import BOOTS, Boot

_KERNEL_TESTS = "tests/kernel/"
_SLOWEST = 8  # named, so that nobody has to look for what makes the guests slow


class Summary:
    def __init__(self, expression: str) -> None:
        self.missing: dict[str, str] = {}  # releases: why
        self.ran_in_guests: set[str] = set()
        self.skipped_here: set[str] = set()
        self.outcomes_here: dict[str, str] = {}
        self._lines: dict[Boot, str] = {}
        self._is_part = bool(expression)

    def ran(self, boot: Boot, counts: Mapping[str, int], seconds: float, by_test: Mapping[str, float]) -> None:
        told = ", ".join(f"{count} {outcome}" for outcome, count in counts.items() if count)
        slowest = sorted(by_test, key=by_test.__getitem__, reverse=True)[:_SLOWEST]
        listed = [f"  {by_test[test]:6.1f} s {test}" for test in slowest]
        self._lines[boot] = "\n".join([f"{told} in {seconds:.0f} s; the slowest:", *listed])

    def is_complete(self) -> bool:
        """Whether the kernel's tests and all guests were in this run."""
        return bool(self.outcomes_here) and set(self._lines) == set(BOOTS) and not self._is_part

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        if not report.nodeid.startswith(_KERNEL_TESTS):
            return
        if report.skipped:
            self.skipped_here.add(report.nodeid)
        elif report.when == "call" or report.failed:
            self.outcomes_here[report.nodeid] = "failed" if report.failed else "passed"

    def pytest_terminal_summary(self, terminalreporter: pytest.TerminalReporter) -> None:
        for boot, line in self._lines.items():
            terminalreporter.write_line(f"guest {boot.name}: {line}")
        for release, why in self.missing.items():
            terminalreporter.write_line(f"guest {release} is missing: {why}", yellow=True)
