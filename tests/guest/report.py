"""Plugin of the pytest inside a guest: leaves out what a guest need not run, and tells the host, a line of JSON each,
when a test starts and how it ended."""

from __future__ import annotations

import json
import time

import pytest

from guest.selection import is_left_out

PORT = "/dev/ttyS1"


class Report:
    def __init__(self) -> None:
        self._port = open(PORT, "w", encoding="ascii", buffering=1)  # noqa: SIM115
        self._outcome = "passed"
        self._detail = ""
        self._started = time.monotonic()

    def _tell(self, test: str, outcome: str, detail: str = "") -> None:
        seconds = time.monotonic() - self._started
        fields = {"test": test, "outcome": outcome, "detail": detail, "seconds": round(seconds, 2)}
        self._port.write(json.dumps(fields) + "\n")

    def pytest_runtest_logstart(self, nodeid: str) -> None:
        self._outcome, self._detail = "passed", ""
        self._started = time.monotonic()
        self._tell(nodeid, "started")

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        if report.outcome != "passed":
            self._outcome = report.outcome
            # Of a skip there is path, line and reason.
            self._detail = report.longrepr[2] if isinstance(report.longrepr, tuple) else report.longreprtext

    def pytest_runtest_logfinish(self, nodeid: str) -> None:
        self._tell(nodeid, self._outcome, self._detail)

    def pytest_collectreport(self, report: pytest.CollectReport) -> None:
        if report.outcome != "passed":
            self._tell(report.nodeid, report.outcome, report.longreprtext)

    def pytest_unconfigure(self) -> None:
        self._port.close()


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    items[:] = [item for item in items if not is_left_out(item.nodeid)]


def pytest_configure(config: pytest.Config) -> None:
    config.pluginmanager.register(Report())
