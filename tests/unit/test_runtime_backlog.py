"""What comes while something long is done is kept, in its order."""

from __future__ import annotations

import threading

import pytest

from invivo.runtime import backlog
from invivo.runtime.backlog import Backlog
from runtime_fakes import FakeRing


def _read(reader: Backlog) -> bytes:
    found = b""
    while window := reader.window(4):
        found += window
        reader.release(len(window))
    return found


def test_records_that_come_meanwhile_are_copied_and_come_first() -> None:
    ring = FakeRing()
    ring.put(b"abcdefgh")
    reader = Backlog(ring)

    def work() -> None:
        while ring.data:
            threading.Event().wait(0.001)
        ring.put(b"ij")

    reader.during(work, 4)
    ring.put(b"kl")
    assert reader.pending_bytes() == 12
    assert _read(reader) == b"abcdefghijkl"
    assert reader.pending_bytes() == 0
    ring.close()


def test_copies_have_a_bound(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(backlog, "_MOST_BYTES", 4)
    ring = FakeRing()
    ring.put(b"abcdefgh")
    reader = Backlog(ring)

    def work() -> None:
        while len(ring.data) > 4:
            threading.Event().wait(0.001)
        threading.Event().wait(0.02)

    reader.during(work, 4)
    assert ring.data == b"efgh"
    assert _read(reader) == b"abcdefgh"
    ring.close()


def test_what_the_work_raises_is_raised_here() -> None:
    ring = FakeRing()

    def work() -> None:
        raise MemoryError("no room")

    with pytest.raises(MemoryError, match="no room"):
        Backlog(ring).during(work, 4)
    ring.close()
