"""Which part of a ring's memory is committed, against a reader that walks from record to record."""

from __future__ import annotations

import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from invivo.kernel import abi
from invivo.kernel.ringbuf import committed_bytes

STRIDE = 32

# A record: strides, busy, discarded.
Shape = tuple[int, bool, bool]
RECORDS = st.lists(st.tuples(st.integers(1, 4), st.booleans(), st.booleans()), max_size=20)


def memory(records: list[Shape], noise: int) -> bytes:
    """Return the records; those that are not submitted have noise where zeros belong."""
    data = bytearray()
    for strides, busy, discarded in records:
        length = strides * STRIDE - 8
        busy_bit = abi.RINGBUF_BUSY_BIT if busy else 0
        discard_bit = abi.RINGBUF_DISCARD_BIT if discarded and not busy else 0
        inner = 0 if not busy and not discarded else noise
        record = bytearray(struct.pack("<II", length | busy_bit | discard_bit, 7).ljust(strides * STRIDE, b"\xee"))
        for at in range(STRIDE, len(record), STRIDE):
            struct.pack_into("<I", record, at, inner)
        data += record
    return bytes(data)


def walked(records: list[Shape], limit: int) -> int:
    at = 0
    for strides, busy, _ in records:
        if busy or at >= limit:
            break
        at += strides * STRIDE
    return at


@given(RECORDS, st.integers(1, 80), st.integers(0, 0xFFFFFFFF))
def test_the_window_ends_where_a_walk_would(records: list[Shape], limit: int, noise: int) -> None:
    data = memory(records, noise)
    size = min(len(data), limit * STRIDE)
    if data:
        found = committed_bytes(memoryview(data), 0, size, len(data), STRIDE)
        assert found == walked(records, size)


@pytest.mark.parametrize(
    ("records", "expected"),
    [
        pytest.param([(1, True, False)], 0, id="the first is busy"),
        pytest.param([(1, False, False), (2, True, False), (1, False, False)], 1, id="one in the middle is busy"),
        pytest.param([(3, False, False), (1, True, False)], 3, id="a long one before a busy one"),
        pytest.param([(1, False, True), (3, False, True), (1, True, False)], 4, id="discarded ones before a busy one"),
        pytest.param([(1, False, True), (3, False, True), (1, False, False)], 5, id="all committed"),
    ],
)
def test_a_window_ends_before_the_first_busy_record(records: list[Shape], expected: int) -> None:
    data = memory(records, 0x80808080)
    assert committed_bytes(memoryview(data), 0, len(data), len(data), STRIDE) == expected * STRIDE
