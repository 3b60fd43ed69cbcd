"""The consumer's side of a BPF ring buffer whose records come in strides of one size.

A record is an 8-byte header (u32 length with the busy bit 31 and the discard bit 30, u32 page
offset) and its payload; both together fill a whole number of strides.  At the start of each inner
stride of a longer record stands an 8-byte word that is zero.  So the words at the starts of the
strides tell where records begin and whether they are committed, without walking from one to the
next::

    | header | payload ...          | header | payload ... | 0      | payload goes on ... |
    |<------- stride -------------->|<------- stride ----->|<------ stride ------------->|

Layout of the mapping (kernel/bpf/ringbuf.c): the consumer's page, the producer's page, the data
twice in a row, so no record is ever seen broken at the ring's end.
"""

from __future__ import annotations

import mmap
import select
import struct
import time
from typing import Final

from invivo.errors import SyscallError
from invivo.kernel import abi
from invivo.kernel.maps import Map

_HEADER: Final = struct.Struct("<I")
_LENGTH_MASK: Final = abi.RINGBUF_DISCARD_BIT - 1
_TOP_BYTE: Final = 3  # of the little-endian length word: bit 7 busy, bit 6 discarded
_RETRY_S: Final = 0.001


class Ring:
    """A ring and its consumer. The caller reads `window`, then gives it back with `release`."""

    def __init__(self, ring: Map, wake: Map | None, stride: int) -> None:
        """``wake``: the mapped array whose first u64 asks the next record for a wakeup, or None.

        ``stride`` in bytes, a multiple of 8.
        """
        assert stride > 0 and stride % 8 == 0, f"stride {stride} is not a multiple of 8"
        self.fd = ring.fd
        self.stride = stride
        self.size_bytes = ring.spec.max_entries
        page = abi.PAGE_SIZE
        try:
            own = mmap.mmap(ring.fd, page, mmap.MAP_SHARED, mmap.PROT_READ | mmap.PROT_WRITE)
            rest = mmap.mmap(ring.fd, page + 2 * self.size_bytes, mmap.MAP_SHARED, mmap.PROT_READ, offset=page)
        except OSError as error:
            raise SyscallError("map the ring's memory", error.errno or 0) from error
        # Positions are read and written as whole 8-byte words: a torn one would be a wrong one.
        self._consumer = memoryview(own)[:8].cast("Q")
        self._producer = memoryview(rest)[:8].cast("Q")
        self._data = memoryview(rest)[page:]
        self._wake = wake.memory()[:8].cast("Q") if wake is not None else None
        self._poll = select.poll()
        self._poll.register(ring.fd, select.POLLIN)

    def pending_bytes(self) -> int:
        """Return the size of what is in the ring, also what is not committed yet."""
        return self._producer[0] - self._consumer[0]

    def window(self, limit_bytes: int = 1 << 22) -> memoryview:
        """Return the committed records from the consumer's position on, in order, as one piece.

        Whole records only, so a multiple of the stride; empty if there is none.  It ends before the
        first record that is not committed, and at the first record's end at or beyond
        ``limit_bytes``.  Discarded records are inside (bit 30 of their length): the reader skips
        them.  The memory is valid until `release`.
        """
        consumer = self._consumer[0]
        # x86-64 keeps the order of these reads: what lies before the position is reserved.
        available = self._producer[0] - consumer
        if not available:
            return self._data[:0]
        start = consumer & (self.size_bytes - 1)
        size = available if available <= limit_bytes else min(-(-limit_bytes // self.stride) * self.stride, available)
        committed = committed_bytes(self._data, start, size, available, self.stride)
        return self._data[start : start + committed]

    def release(self, size_bytes: int) -> None:
        """Give back the first ``size_bytes`` of a window: whole records."""
        self._consumer[0] += size_bytes

    def arm(self) -> bool:
        """Ask the next record for a wakeup of a poll on ``fd``; return whether it may be slept on.

        False: something is in the ring already.
        """
        if self._wake is not None:
            self._wake[0] = 1
        return self._producer[0] == self._consumer[0]

    def disarm(self) -> None:
        """Take back `arm`: records are written without wakeup again."""
        if self._wake is not None:
            self._wake[0] = 0

    def wait(self, timeout_s: float) -> None:
        """Sleep until a record is written, or for ``timeout_s``; return at once if there are records.

        If the only records are being written now, sleep a millisecond.
        """
        try:
            if self.arm():
                self._poll.poll(timeout_s * 1000)
                return
        finally:
            self.disarm()
        if not self.window(self.stride):
            time.sleep(min(timeout_s, _RETRY_S))

    def close(self) -> None:
        """Let go of the mapping, whoever still holds the ring; it goes when the last window is gone."""
        self._consumer = self._producer = memoryview(bytes(8)).cast("Q")
        self._data = memoryview(b"")

    def strides(self, word: int) -> int:
        """Return how many strides a record takes whose header begins with ``word``."""
        return _strides(word, self.stride)


def committed_bytes(data: memoryview, start: int, size: int, available: int, stride: int) -> int:
    """Return how much of ``size`` bytes from ``start`` is committed, cut at a record's end.

    Records lie up to ``available`` bytes from there; ``size`` is that, or a whole number of strides.
    Costs 5 to 10 ns a stride, as long as no record was discarded.
    """
    tops = data[start + _TOP_BYTE : start + size : stride].tobytes()
    # One byte for each stride: a busy header has bit 7 set, which makes it not ASCII. A
    # discarded record's inner strides may hold anything.
    if tops.isascii():
        count = len(tops)
        if size == available:
            return size
    else:
        count = _first_busy(tops)
    if tops.count(0, 0, count) != count:
        return _walk(data, start, size, stride)
    if count == len(tops):
        # Cut by the limit, not by a busy record: go on to the end of the record.
        while count * stride < available and not _word(data, start + count * stride):
            count += 1
    return count * stride


def _walk(data: memoryview, start: int, size: int, stride: int) -> int:
    """The same, from record to record."""
    at = 0
    while at < size:
        word = _word(data, start + at)
        if word & abi.RINGBUF_BUSY_BIT:
            break
        at += _strides(word, stride) * stride
    return at


def _strides(word: int, stride: int) -> int:
    return -(-(abi.RINGBUF_HDR_SZ + (word & _LENGTH_MASK)) // stride)


def _word(data: memoryview, at: int) -> int:
    word: int = _HEADER.unpack_from(data, at)[0]
    return word


def _first_busy(tops: bytes) -> int:
    try:
        tops.decode("ascii")
    except UnicodeDecodeError as error:
        return error.start
    return len(tops)
