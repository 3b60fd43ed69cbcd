"""The ring on the running kernel: a hand-assembled program writes its records."""

from __future__ import annotations

import struct
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

import pytest

from fixture_kernel import loaded, opened, ring_writer
from invivo.ir.layout import MapSpec, MapType
from invivo.kernel import abi
from invivo.kernel.programs import Program
from invivo.kernel.ringbuf import Ring
from invivo.record import Record

SIZE = 4096
RING = MapSpec("ring", MapType.RINGBUF, 0, 0, SIZE)
WAKE = MapSpec("wake", MapType.ARRAY, 4, 8, 1, abi.F_MMAPABLE)


class Bench(Record):
    """A ring and programs that write to it."""

    ring: Ring
    programs: tuple[Program, ...]

    def write(self, value: int, program: int = 0) -> int:
        return self.programs[program].run(struct.pack("<Q", value))

    def values(self, window: memoryview) -> list[tuple[int, int]]:
        """Return number and value of the records of a window, discarded ones left out."""
        found = []
        at = 0
        while at < len(window):
            word, _, number, _, value = struct.unpack_from("<IIIIQ", window, at)
            assert not word & abi.RINGBUF_BUSY_BIT
            if not word & abi.RINGBUF_DISCARD_BIT:
                found.append((number, value))
            at += self.ring.strides(word) * self.ring.stride
        assert at == len(window)
        return found

    def drain(self) -> list[tuple[int, int]]:
        window = self.ring.window()
        found = self.values(window)
        self.ring.release(len(window))
        return found


@contextmanager
def bench(stride: int, *records: tuple[int, bool], wake: bool = False) -> Iterator[Bench]:
    """Make programs that write records of so many strides; True: that discard them."""
    with ExitStack() as stack:
        maps = stack.enter_context(opened(RING, WAKE))
        programs = tuple(
            stack.enter_context(
                loaded(ring_writer(strides * stride - 8, stride, discard=discard, wake=wake, number=number), maps)
            )
            for number, (strides, discard) in enumerate(records)
        )
        ring = Ring(maps["ring"], maps["wake"] if wake else None, stride)
        yield Bench(ring, programs)
        ring.close()


def test_an_empty_ring_has_an_empty_window() -> None:
    with bench(32, (1, False)) as it:
        assert len(it.ring.window()) == 0
        assert it.ring.pending_bytes() == 0
        assert it.ring.size_bytes == SIZE


def test_records_come_out_in_order_and_stay_until_they_are_released() -> None:
    with bench(32, (1, False)) as it:
        for value in range(10):
            assert it.write(value) == 0
        assert it.ring.pending_bytes() == 320
        expected = [(0, value) for value in range(10)]
        assert it.values(it.ring.window()) == expected
        it.ring.release(96)
        assert it.values(it.ring.window()) == expected[3:]
        it.ring.release(224)
        assert len(it.ring.window()) == 0


def test_a_full_ring_refuses_and_goes_on_after_a_release() -> None:
    with bench(64, (1, False)) as it:
        # The kernel keeps the positions one byte apart at least: 63 of 64 places.
        written = [it.write(value) for value in range(70)]
        assert written == [0] * 64 + [1] * 6 or written == [0] * 63 + [1] * 7
        assert len(it.drain()) == written.count(0)
        assert it.write(99) == 0
        assert it.drain() == [(0, 99)]


@pytest.mark.parametrize("stride", [32, 48, 56, 72])
def test_a_window_never_wraps(stride: int) -> None:
    with bench(stride, (1, False), (3, False)) as it:
        expected: list[tuple[int, int]] = []
        found: list[tuple[int, int]] = []
        for value in range(600):
            program = value % 3 == 0
            assert it.write(value, program) == 0
            expected.append((int(program), value))
            if value % 7 == 0:
                found += it.drain()
        assert found + it.drain() == expected
        assert 600 * stride > 4 * SIZE


def test_discarded_records_are_in_the_window_and_marked() -> None:
    with bench(40, (1, False), (1, True), (3, True), (2, False)) as it:
        for value, program in enumerate([0, 1, 0, 2, 3, 2, 1, 0]):
            assert it.write(value, program) == 0
        window = it.ring.window()
        assert len(window) == 40 * (1 + 1 + 1 + 3 + 2 + 3 + 1 + 1)
        assert it.values(window) == [(0, 0), (0, 2), (3, 4), (0, 7)]


def test_a_limit_cuts_at_the_end_of_a_record() -> None:
    with bench(32, (1, False), (4, False)) as it:
        for value, program in enumerate([0, 1, 0, 1]):
            it.write(value, program)
        # 32, 160, 192, 320: the ends of the records.
        sizes = [len(it.ring.window(limit)) for limit in (1, 32, 33, 64, 160, 161, 192, 193, 320, 10_000)]
        assert sizes == [32, 32, 160, 160, 160, 192, 192, 320, 320, 320]
        assert it.values(it.ring.window(64)) == [(0, 0), (1, 1)]


def test_a_limit_cuts_at_the_end_of_a_discarded_record_too() -> None:
    with bench(32, (1, False), (4, True)) as it:
        for value, program in enumerate([0, 1, 0]):
            it.write(value, program)
        assert [len(it.ring.window(limit)) for limit in (32, 64, 160, 161)] == [32, 160, 160, 192]


def test_waiting_ends_by_itself() -> None:
    with bench(32, (1, False), wake=True) as it:
        start = time.monotonic()
        it.ring.wait(0.05)
        assert 0.04 < time.monotonic() - start < 2


def test_waiting_ends_at_once_if_there_are_records() -> None:
    with bench(32, (1, False), wake=True) as it:
        assert it.write(1) == 0
        start = time.monotonic()
        it.ring.wait(10)
        assert time.monotonic() - start < 5


def test_a_record_wakes_the_reader_that_asked_for_it_once() -> None:
    with bench(32, (1, False), wake=True) as it:
        results: list[int] = []

        def write_later() -> None:
            time.sleep(0.1)
            results.extend([it.write(1), it.write(2)])

        writer = threading.Thread(target=write_later)
        start = time.monotonic()
        writer.start()
        it.ring.wait(20)
        waited = time.monotonic() - start
        writer.join()
        # The first record woke, the second had no reason to.
        assert results == [2, 0]
        assert 0.05 < waited < 10
        assert it.drain() == [(0, 1), (0, 2)]
        assert it.write(3) == 0


def test_arming_says_whether_there_is_something_already() -> None:
    with bench(32, (1, False), wake=True) as it:
        assert it.ring.arm() is True
        assert it.write(1) == 2
        assert it.ring.arm() is False
        it.ring.disarm()
        assert it.write(2) == 0


def test_windows_stay_readable_after_the_ring_is_closed() -> None:
    with bench(32, (1, False)) as it:
        it.write(5)
        window = it.ring.window()
    assert struct.unpack_from("<Q", window, 16) == (5,)
