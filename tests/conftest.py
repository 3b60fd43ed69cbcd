"""Options of the test run, and what tests of the kernel require."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from invivo.errors import InvivoError
from invivo.kernel.features import Features

_KERNEL_TESTS = Path(__file__).parent / "kernel"
_KNOWN = pytest.StashKey[Features]()


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--bless", action="store_true", help="rewrite the golden cases with what is there now")
    parser.addoption("--guest-tests", default="", metavar="EXPRESSION", help="as -k, for the tests inside the guests")


def pytest_configure(config: pytest.Config) -> None:
    os.environ["INVIVO_CACHE"] = ""  # each recording is a machine's first one, and leaves nothing behind
    if config.pluginmanager.has_plugin("hypothesispytest"):  # a guest does without: the import takes 8 seconds there
        from hypothesis import HealthCheck, settings

        # What a test may cost is no question for a machine that is shared: no example has a deadline.
        settings.register_profile("shared machine", deadline=None, suppress_health_check=[HealthCheck.too_slow])
        settings.load_profile("shared machine")


def pytest_runtest_setup(item: pytest.Item) -> None:
    """Skip, by name, what this kernel cannot do: ``@pytest.mark.requires("kprobe_multi")``.

    Names are those of `kernel.features`.  All of tests/kernel requires "bpf"; where CI runs, a
    machine that cannot load programs is a failure.
    """
    required = [feature for marker in item.iter_markers("requires") for feature in marker.args]
    if _KERNEL_TESTS in item.path.parents:
        required.insert(0, "bpf")
    for feature in required:
        if not _has(item.config, feature):
            reason = f"requires {feature}, which Linux {os.uname().release} does not give to this process"
            if feature == "bpf" and os.environ.get("CI"):
                pytest.fail(reason, pytrace=False)
            pytest.skip(reason)


def _has(config: pytest.Config, feature: str) -> bool:
    known = config.stash.setdefault(_KNOWN, Features())
    try:
        return known.has(feature)
    except InvivoError:
        return False
