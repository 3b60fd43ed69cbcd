"""tests/kernel on other kernels: each is booted once, and each of its tests is a subtest here."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from guest.boot import Guest, HungError
from guest.packages import RELEASES, Kernel, MissingError, fetch_kernel, install_tools

_PROJECT = Path(__file__).parents[2]
# A test takes 5 to 15 times as long as on the machine itself; this is far from the slowest.
_SILENCE_S = 240.0
_CONSOLE_LINES = 60


@pytest.mark.parametrize("release", RELEASES)
def test_kernel(release: str, subtests: pytest.Subtests, pytestconfig: pytest.Config, tmp_path: Path) -> None:
    kernel = _kernel(release)
    expression = pytestconfig.getoption("--guest-tests")
    counts = {"passed": 0, "skipped": 0, "failed": 0}
    with Guest(kernel, _command(expression), tmp_path, _PROJECT, _environment()) as guest:
        status = None
        for fields in _reports(guest):
            if "exit" in fields:
                status = str(fields["exit"])
                continue
            counts[fields["outcome"]] += 1
            with subtests.test(msg=fields["test"]):
                if fields["outcome"] == "failed":
                    pytest.fail(fields["detail"], pytrace=False)
                if fields["outcome"] == "skipped":
                    pytest.skip(fields["detail"])
        assert status in {"0", "1"}, f"the guest ended early (status {status})\n{_console(guest)}"
        assert counts["passed"] + counts["failed"] > 0, counts


def _kernel(release: str) -> Kernel:
    try:
        install_tools()
        return fetch_kernel(release)
    except MissingError as error:
        if os.environ.get("CI"):
            pytest.fail(str(error), pytrace=False)
        pytest.skip(str(error))


def _command(expression: str) -> list[str]:
    words = [
        sys.executable,
        "-m",
        "pytest",
        "-p",
        "guest.report",
        "-p",
        "no:cacheprovider",
        "-v",
        "--tb=no",
        "--color=no",
    ]
    return [*words, *(["-k", expression] if expression else []), "tests/kernel"]


def _environment() -> dict[str, str]:
    return {"PYTHONPATH": str(_PROJECT / "tests"), "CI": "true"}


def _reports(guest: Guest) -> Iterator[dict[str, str]]:
    """Yield how each test of the guest ended. Fails, with the console, if the guest hangs."""
    running = "nothing yet"
    try:
        for line in guest.lines(_SILENCE_S):
            fields = json.loads(line)
            if fields.get("outcome") == "started":
                running = fields["test"]
            else:
                yield fields
    except HungError as error:
        pytest.fail(f"{error}; it ran {running}\n{_console(guest)}", pytrace=False)


def _console(guest: Guest) -> str:
    return "\n".join(["the end of its console:", *guest.console().splitlines()[-_CONSOLE_LINES:]])
