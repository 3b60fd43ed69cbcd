"""A processor that goes away and comes back while it is traced. Only a guest's may be switched off."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from invivo.kernel import cpus
from running import session

_LAST = Path("/sys/devices/system/cpu/cpu1/online")
_PROGRAM = """
    profile:hz:99 { @samples[cpu] = count(); }
    interval:ms:20 { @ticks = count(); }
    tracepoint:syscalls:sys_enter_getppid /pid == $1/ { @calls = count(); }
"""


@pytest.fixture
def last() -> Iterator[Path]:
    if "INVIVO_MODULES" not in os.environ:
        pytest.skip("requires a processor that a test may switch off: only a guest's")
    assert cpus.online() == [0, 1]
    try:
        yield _LAST
    finally:
        _LAST.write_text("1")


def test_a_processor_that_goes_away_ends_nothing(last: Path) -> None:
    with session(_PROGRAM, parameters=(str(os.getpid()),)) as opened:
        for online in ("0", "1"):
            last.write_text(online)
            os.getppid()
            until = time.monotonic() + 0.2
            while time.monotonic() < until:
                pass
        opened.stop()
        for _ in opened:
            pass
    assert opened.maps["@calls"].to_dict() == {None: 2}
    assert 0 in opened.maps["@samples"].to_dict()
    ticks = opened.maps["@ticks"].to_dict()[None]
    assert isinstance(ticks, int)
    assert ticks > 2


def test_a_trace_that_begins_without_it(last: Path) -> None:
    last.write_text("0")
    with session(_PROGRAM, parameters=(str(os.getpid()),)) as opened:
        os.getppid()
        opened.stop()
        for _ in opened:
            pass
    assert opened.maps["@calls"].to_dict() == {None: 1}
    assert set(opened.maps["@samples"].to_dict()) <= {0}
