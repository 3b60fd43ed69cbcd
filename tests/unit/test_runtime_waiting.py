"""Sleeping: a record ends it only if it was asked to; signals and descriptors always do."""

from __future__ import annotations

import os
import signal

from invivo.runtime.waiting import Signals, Sleeper
from runtime_fakes import FakeRing

LONG = 30.0  # seconds: a sleep that nothing ends would be noticed


class Ring(FakeRing):
    """A ring that remembers whether it was asked for a wakeup."""

    def __init__(self) -> None:
        super().__init__()
        self.asked: list[str] = []

    def arm(self) -> bool:
        self.asked.append("arm")
        return not self.data

    def disarm(self) -> None:
        self.asked.append("disarm")


def test_an_idle_sleep_asks_for_one_wakeup_and_takes_it_back() -> None:
    ring = Ring()
    sleeper = Sleeper(ring)
    os.write(ring.write_end, b"x")  # what a forced wakeup does to the ring's descriptor
    sleeper.idle(LONG)
    assert ring.asked == ["arm", "disarm"]
    ring.close()


def test_a_record_that_came_before_the_flag_is_not_slept_over() -> None:
    ring = Ring()
    ring.put(b"x" * 64)
    Sleeper(ring).idle(LONG)
    assert ring.asked == ["arm", "disarm"]
    ring.close()


def test_a_pause_asks_for_nothing_and_ends_for_a_descriptor() -> None:
    ring = Ring()
    sleeper = Sleeper(ring)
    read_end, write_end = os.pipe()
    sleeper.watch(read_end)
    os.close(write_end)
    sleeper.pause(LONG)
    sleeper.idle(LONG)
    assert ring.asked == ["arm", "disarm"]
    os.close(read_end)
    ring.close()


def test_a_signal_ends_a_sleep_and_is_counted() -> None:
    before = signal.getsignal(signal.SIGTERM)
    signals = Signals()
    signals.install()
    try:
        sleeper = Sleeper(None)
        sleeper.watch(signals.fd)
        os.kill(os.getpid(), signal.SIGTERM)
        sleeper.idle(LONG)
        assert signals.received == 1
        signals.take()
        signals.wake()
        sleeper.pause(LONG)
    finally:
        signals.close()
    assert signal.getsignal(signal.SIGTERM) is before
    signals.close()
