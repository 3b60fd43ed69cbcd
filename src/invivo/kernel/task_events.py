"""Records of what processes map and execute, and of their forks: perf's own, read from its ring buffers.

A dummy event for each thread and processor, inherited by all descendants.  Nothing is sampled and nothing is slowed
down: the kernel writes a record when a file is mapped executable, a process forked, another program executed.
"""

from __future__ import annotations

import mmap
import os
import struct
from collections.abc import Sequence
from typing import Final

from invivo.errors import InvivoError, SyscallError
from invivo.kernel import abi, cpus, syscalls
from invivo.record import Record

_PAGES: Final = 64  # of a processor's ring, a power of two: room for 2,000 mappings between two looks
_MOST_EVENTS: Final = 1024

# struct perf_event_attr and its flags, enum perf_event_type, include/uapi/linux/perf_event.h
_ATTRIBUTES: Final = struct.Struct("<IIQQQQQIIQQ40x")
_COUNT_SW_DUMMY: Final = 9
_SAMPLE_TIME: Final = 1 << 2
_MMAP, _COMM, _TASK, _SAMPLE_ID_ALL, _MMAP2, _COMM_EXEC = 1 << 8, 1 << 9, 1 << 13, 1 << 18, 1 << 23, 1 << 24
_IOC_SET_OUTPUT: Final = 0x2405
_RECORD_LOST, _RECORD_COMM, _RECORD_FORK, _RECORD_MMAP2 = 2, 3, 7, 10
_MISC_COMM_EXEC: Final = 1 << 13
_HEAD, _TAIL = 1024 // 8, 1032 // 8  # data_head and data_tail of struct perf_event_mmap_page, in words

_HEADER: Final = struct.Struct("<IHH")  # type, misc, size
_IDS: Final = struct.Struct("<II")
_MAPPED: Final = struct.Struct("<IIQQQIIQQII")  # pid, tid, addr, len, pgoff, maj, min, ino, generation, prot, flags
_TIME: Final = struct.Struct("<Q")


class Mapped(Record):
    """A process has mapped a file executable: addresses [start, end) show it from ``offset`` on."""

    tgid: int
    start: int
    end: int
    offset: int
    device: tuple[int, int]
    inode: int
    path: str


class Forked(Record):
    """A process has made another one (or a thread: then both are the same)."""

    tgid: int
    parent: int


class Executed(Record):
    """A process has become another program: what it had mapped is gone."""

    tgid: int


TaskEvent = Mapped | Forked | Executed


class TaskEvents:
    """The records of some threads and all that they create. ``lost`` counts records for which there was no room."""

    def __init__(self, tids: Sequence[int]) -> None:
        """``tids``: of threads; none: all of the machine.

        perf could watch a control group, too.  But then each switch to or from one of its processes starts the time
        of all other perf events on the processor anew: an interval of a second never ends while they are busy.

        Raises `InvivoError` if the machine refuses, or there are too many threads.
        """
        self.lost = 0
        self._fds: list[int] = []
        self._rings: list[tuple[mmap.mmap, memoryview]] = []
        online = cpus.online()
        subjects = list(tids) or [-1]
        if len(subjects) * len(online) > _MOST_EVENTS:
            raise InvivoError(f"too many threads to watch: {len(subjects)}")
        try:
            for cpu in online:
                self._open(cpu, subjects)
        except BaseException:
            self.close()
            raise

    def read(self) -> list[TaskEvent]:
        """Return what has happened since the last time, in order."""
        found: list[tuple[int, TaskEvent]] = []
        for ring, words in self._rings:
            # x86-64 keeps the order of these reads: what lies before the head has been written.
            head, tail = words[_HEAD], words[_TAIL]
            if head == tail:
                continue
            found += self._records(_content(ring, tail, head))
            words[_TAIL] = head
        found.sort(key=_time_of)
        return [event for _, event in found]

    def close(self) -> None:
        """Close the events. Twice does no harm."""
        for ring, words in self._rings:
            words.release()
            ring.close()
        self._rings = []
        while self._fds:
            os.close(self._fds.pop())

    def _open(self, cpu: int, subjects: Sequence[int]) -> None:
        flags = abi.PERF_ATTR_INHERIT | _MMAP | _COMM | _TASK | _SAMPLE_ID_ALL | _MMAP2 | _COMM_EXEC
        first = -1
        for subject in subjects:
            attributes = bytearray(
                _ATTRIBUTES.pack(
                    abi.TYPE_SOFTWARE, abi.PERF_ATTR_SIZE_VER5, _COUNT_SW_DUMMY, 0, _SAMPLE_TIME, 0, flags, 0, 0, 0, 0
                )
            )
            try:
                fd = syscalls.perf_event_open(attributes, subject, cpu, "watch mappings")
            except SyscallError:
                if first < 0:
                    raise
                continue  # a thread that has ended since
            self._fds.append(fd)
            if first < 0:
                first = fd
                size = (1 + _PAGES) * abi.PAGE_SIZE
                try:
                    ring = mmap.mmap(fd, size, mmap.MAP_SHARED, mmap.PROT_READ | mmap.PROT_WRITE)
                except OSError as error:
                    raise SyscallError("map a ring of mappings", error.errno or 0) from error
                self._rings.append((ring, memoryview(ring)[: abi.PAGE_SIZE].cast("Q")))
            else:
                syscalls.ioctl(fd, _IOC_SET_OUTPUT, first, "share a ring of mappings")

    def _records(self, data: bytes) -> list[tuple[int, TaskEvent]]:
        found: list[tuple[int, TaskEvent]] = []
        at = 0
        while at + _HEADER.size <= len(data):
            kind, misc, size = _HEADER.unpack_from(data, at)
            if size < _HEADER.size or at + size > len(data):
                break
            event = self._event(kind, misc, data[at + _HEADER.size : at + size - _TIME.size])
            if event is not None:
                found.append((_TIME.unpack_from(data, at + size - _TIME.size)[0], event))
            at += size
        return found

    def _event(self, kind: int, misc: int, body: bytes) -> TaskEvent | None:
        if kind == _RECORD_MMAP2:
            tgid, _, start, length, offset, major, minor, inode, *_ = _MAPPED.unpack_from(body)
            path = body[_MAPPED.size :].partition(b"\0")[0].decode("utf-8", "surrogateescape")
            return Mapped(tgid, start, start + length, offset, (major, minor), inode, path)
        if kind == _RECORD_FORK:
            return Forked(*_IDS.unpack_from(body))
        if kind == _RECORD_COMM and misc & _MISC_COMM_EXEC:
            return Executed(_IDS.unpack_from(body)[0])
        if kind == _RECORD_LOST:
            self.lost += int.from_bytes(body[8:16], "little")
        return None


def _content(ring: mmap.mmap, tail: int, head: int) -> bytes:
    """What lies between two positions of a ring, which goes around."""
    size = _PAGES * abi.PAGE_SIZE
    start, length = tail % size, head - tail
    first = min(length, size - start)
    begin = abi.PAGE_SIZE + start
    return ring[begin : begin + first] + ring[abi.PAGE_SIZE : abi.PAGE_SIZE + length - first]


def _time_of(entry: tuple[int, TaskEvent]) -> int:
    return entry[0]
