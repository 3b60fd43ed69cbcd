"""perf.data files: samples with their call chains, and what is needed to name them: mappings, processes, build ids.

The format is tools/perf/Documentation/perf.data-file-format.txt; the records are those of perf_event_open(2),
include/uapi/linux/perf_event.h.
"""

from __future__ import annotations

import struct
from bisect import bisect_right
from collections.abc import Iterator
from typing import Final, Protocol

from invivo.errors import BadFileError
from invivo.record import Record, replace
from invivo.stacks import FrameKind, Function, Profile, ProfileBuilder, Quality

MAGIC: Final = b"PERFILE2"
_FILE_HEADER: Final = struct.Struct("<8sQQQQQQQQ4Q")  # magic, size, attr_size, attrs, data, event_types, features
_RECORD: Final = struct.Struct("<IHH")  # type, misc, size
_QWORD: Final = struct.Struct("<Q")
_IDS: Final = struct.Struct("<II")
_MMAP: Final = struct.Struct("<IIQQQ")
_MMAP2: Final = struct.Struct("<IIQQQ24sII")

_IP, _TID, _TIME, _ADDR, _READ, _CALLCHAIN, _ID, _CPU, _PERIOD, _STREAM_ID = (1 << bit for bit in range(10))
_IDENTIFIER: Final = 1 << 16
_SAMPLE_ID_ALL: Final = 1 << 18  # of perf_event_attr's flags
_READ_ENABLED, _READ_RUNNING, _READ_ID, _READ_GROUP, _READ_LOST = (1 << bit for bit in range(5))

_T_MMAP, _T_LOST, _T_COMM, _T_FORK, _T_SAMPLE, _T_MMAP2, _T_LOST_SAMPLES = 1, 2, 3, 7, 9, 10, 13
_T_AUXTRACE, _T_COMPRESSED, _T_COMPRESSED2 = 71, 81, 83
_MISC_COMM_EXEC: Final = 1 << 13
_MISC_MMAP_BUILD_ID: Final = 1 << 14
_FIRST_CONTEXT: Final = (1 << 64) - 4095  # PERF_CONTEXT_MAX: what is above says whose the next addresses are
_CONTEXT_KERNEL: Final = (1 << 64) - 128
_CONTEXT_USER: Final = (1 << 64) - 512
_FEATURE_BUILD_ID: Final = 2
_FEATURE_OSRELEASE: Final = 4
_MOST_FRAMES: Final = 1 << 16


class PerfMapping(Record):
    """Addresses [start, end) show a file from ``offset`` on; ``build_id`` in hexadecimal, "" if it is not known."""

    start: int
    end: int
    offset: int
    path: str
    build_id: str


class Resolver(Protocol):
    """Names addresses: the files are not in the file."""

    def user(self, pid: int, mapping: PerfMapping | None, address: int, *, is_caller: bool) -> Function:
        """Return what is at an address of a process; a name in brackets where it has none."""
        ...

    def kernel(self, address: int, text: int, release: str, *, is_caller: bool) -> Function:
        """Return what is at an address of a kernel, whose ``_text`` was at ``text`` (0: unknown)."""
        ...


class _Layout(Record):
    """Where the fields of one event's samples are, from the record's header on; -1: not there."""

    pid: int
    time: int
    chain: int  # also of what has to be walked over first
    ip: int
    read_format: int  # -1: no counts stand before the chain
    trailing_time: int  # in other records, counted from their end; 0: not there


class _Space:
    """What a process has mapped, and the stacks that were named with that."""

    def __init__(self, mappings: list[PerfMapping]) -> None:
        self.mappings = mappings
        self.starts = [each.start for each in mappings]
        self.known: dict[bytes, tuple[int, ...]] = {}
        self.frames: dict[tuple[int, bool], int] = {}

    def add(self, mapping: PerfMapping) -> None:
        """Take a mapping more; of those that were there what sticks out stays."""
        kept = [mapping]
        for each in self.mappings:
            if each.start < mapping.start:
                kept.append(replace(each, end=min(each.end, mapping.start)))
            if each.end > mapping.end:
                start = max(each.start, mapping.end)
                kept.append(replace(each, start=start, offset=each.offset + start - each.start))
        self.mappings = sorted(kept, key=lambda each: each.start)
        self.starts = [each.start for each in self.mappings]
        self.known = {}
        self.frames = {}

    def at(self, address: int) -> PerfMapping | None:
        index = bisect_right(self.starts, address) - 1
        return self.mappings[index] if index >= 0 and address < self.mappings[index].end else None


def parse_perf_data(data: bytes, path: str, resolver: Resolver) -> Profile:
    """Return the stacks of the first event's samples, each counting 1. Raises `BadFileError` with the offset."""
    return _Reader(data, path, resolver).read()


class _Reader:
    def __init__(self, data: bytes, path: str, resolver: Resolver) -> None:
        self._data = data
        self._path = path
        self._resolver = resolver
        self._builder = ProfileBuilder()
        self._spaces: dict[int, _Space] = {}
        self._comms: dict[int, int] = {}
        self._kernel_frames: dict[tuple[int, bool], int] = {}
        self._interrupts: set[int] = set()  # what comes next on the stack has not called them
        self._nameless: set[int] = set()
        self._unnamed = 0
        self._lost = 0
        self._left_out = 0
        self._text = 0
        if data[:8] != MAGIC:
            raise BadFileError(path, "is no perf.data file")
        if len(data) < _FILE_HEADER.size:
            size = int.from_bytes(data[8:16], "little")
            raise BadFileError(
                path, "is a perf.data file for a pipe: `perf script` shows it" if size == 16 else "ends", 8
            )
        header = _FILE_HEADER.unpack_from(data)
        _, size, attr_size, attrs_at, attrs_size, self._start, data_size, _, _, *features = header
        if size != _FILE_HEADER.size:
            reason = (
                "is a perf.data file for a pipe: `perf script` shows it" if size == 16 else f"header of {size} bytes"
            )
            raise BadFileError(path, reason, 8)
        self._end = self._start + data_size
        if self._end > len(data):
            raise BadFileError(path, f"ends at {len(data)}, within its records (to {self._end})", len(data))
        self._read_attributes(attr_size, attrs_at, attrs_size)
        self._features = dict(self._read_features(features))

    def read(self) -> Profile:
        release = _string(self._features.get(_FEATURE_OSRELEASE, b"")[4:])  # behind its length
        self._release = release
        self._build_ids = dict(_build_ids(self._features.get(_FEATURE_BUILD_ID, b"")))
        # Samples are counted as bytes until something changes that they are named by.
        same: dict[bytes, int] = {}
        key_of = self._plain_key if self._is_plain() else self._key
        for _, at, kind, misc, size in self._records():
            if kind == _T_SAMPLE:
                key = key_of(at + _RECORD.size, at + size)
                same[key] = same.get(key, 0) + 1
                continue
            body = at + _RECORD.size
            if kind == _T_LOST:
                self._lost += self._word(body + 8, at + size)
            elif kind == _T_LOST_SAMPLES:
                self._lost += self._word(body, at + size)
            elif kind in (_T_MMAP, _T_MMAP2, _T_COMM, _T_FORK):
                self._count(same)
                same = {}
                self._change(kind, misc, self._data[body : at + size], at)
        self._count(same)
        remarks = (f"{self._left_out:,} samples of other events left out",) if self._left_out else ()
        return self._builder.build(Quality(unnamed=self._unnamed, lost=self._lost, remarks=remarks))

    # -- the file ------------------------------------------------------------------------------

    def _read_attributes(self, attr_size: int, at: int, size: int) -> None:
        """Where each event's fields are; events are told apart by ids if there are several."""
        if attr_size < 64 + 16 or attr_size > 4096 or size % attr_size or not size:
            raise BadFileError(self._path, f"event descriptions of {attr_size} bytes in {size}", 16)
        if at + size > len(self._data):
            raise BadFileError(self._path, "ends within the descriptions of its events", 24)
        self._layouts: list[_Layout] = []
        self._by_id: dict[int, int] = {}
        self._id_at = -1
        for number, place in enumerate(range(at, at + size, attr_size)):
            sample_type, read_format, flags = struct.unpack_from("<QQQ", self._data, place + 24)
            self._layouts.append(_layout(sample_type, read_format, flags))
            ids_at, ids_size = struct.unpack_from("<QQ", self._data, place + attr_size - 16)
            if ids_at + ids_size > len(self._data):
                raise BadFileError(self._path, "ends within the ids of its events", place + attr_size - 16)
            for (each,) in _QWORD.iter_unpack(self._data[ids_at : ids_at + ids_size // 8 * 8]):
                self._by_id[each] = number
            if number == 0:
                self._id_at = 0 if sample_type & _IDENTIFIER else -1
        if self._layouts[0].chain < 0 and self._layouts[0].ip < 0:
            raise BadFileError(self._path, "its samples have neither addresses nor call chains", at + 24)

    def _read_features(self, bits: list[int]) -> Iterator[tuple[int, bytes]]:
        """Sections behind the records: offset and size of each feature that is set, in the order of their numbers."""
        at = self._end
        for number in range(256):
            if bits[number // 64] >> number % 64 & 1:
                if at + 16 > len(self._data):
                    return
                place, size = struct.unpack_from("<QQ", self._data, at)
                yield number, self._data[place : place + size]
                at += 16

    def _records(self) -> list[tuple[int, int, int, int, int]]:
        """(time, offset, type, misc, size) of all records, in the order of time: each processor's come together."""
        found: list[tuple[int, int, int, int, int]] = []
        data, at, end = self._data, self._start, self._end
        unpack, word = _RECORD.unpack_from, _QWORD.unpack_from
        first = self._layouts[0]
        time_at, trailing = first.time, first.trailing_time
        last = 0
        while at + 8 <= end:
            kind, misc, size = unpack(data, at)
            if size < 8 or at + size > end:
                raise BadFileError(self._path, f"a record of type {kind} with {size} bytes", at)
            if kind == _T_SAMPLE:
                if time_at >= 0 and size >= 16 + time_at:
                    last = word(data, at + 8 + time_at)[0]
                found.append((last, at, kind, misc, size))
            elif kind < 64:
                if trailing and size >= 8 + trailing:
                    last = word(data, at + size - trailing)[0]
                found.append((last, at, kind, misc, size))
            elif kind in (_T_COMPRESSED, _T_COMPRESSED2):
                raise BadFileError(self._path, "is compressed (perf record -z): `perf script` shows it", at)
            elif kind == _T_AUXTRACE and size >= 16:
                size += word(data, at + 8)[0]
            at += size
        found.sort()
        return found

    def _word(self, at: int, end: int) -> int:
        return int(_QWORD.unpack_from(self._data, at)[0]) if at + 8 <= end else 0

    # -- records -------------------------------------------------------------------------------

    def _mapped(self, kind: int, misc: int, body: bytes, at: int) -> None:
        fixed = _MMAP2 if kind == _T_MMAP2 else _MMAP
        if len(body) < fixed.size:
            raise BadFileError(self._path, f"a mapping of {len(body)} bytes", at)
        pid, _, start, length, offset, *more = fixed.unpack_from(body)
        path = _string(body[fixed.size :])
        if path.startswith("[kernel.kallsyms]") or path.startswith("[guest.kernel"):
            self._text = self._text or (offset if path.endswith("_text") else 0)
            return
        if start >= 1 << 63:
            return
        build_id = self._build_ids.get(path, "")
        if kind == _T_MMAP2 and misc & _MISC_MMAP_BUILD_ID:
            build_id = more[0][4 : 4 + min(more[0][0], 20)].hex()
        if length:
            mapping = PerfMapping(start, start + length, offset, "" if path == "//anon" else path, build_id)
            self._space(pid).add(mapping)

    def _named(self, misc: int, body: bytes) -> None:
        if len(body) >= 8:
            pid, tid = _IDS.unpack_from(body)
            self._comms[tid] = self._builder.index(_string(body[8:]), FrameKind.PROCESS)
            if misc & _MISC_COMM_EXEC:
                self._spaces[pid] = _Space([])

    def _forked(self, body: bytes) -> None:
        if len(body) >= 16:
            pid, parent, tid, parent_tid = struct.unpack_from("<IIII", body)
            if pid != parent:
                self._spaces[pid] = _Space(list(self._space(parent).mappings))
            if parent_tid in self._comms:
                self._comms[tid] = self._comms[parent_tid]

    def _space(self, pid: int) -> _Space:
        found = self._spaces.get(pid)
        if found is None:
            found = self._spaces[pid] = _Space([])
        return found

    def _change(self, kind: int, misc: int, body: bytes, at: int) -> None:
        if kind == _T_COMM:
            self._named(misc, body)
        elif kind == _T_FORK:
            self._forked(body)
        else:
            self._mapped(kind, misc, body, at)

    def _is_plain(self) -> bool:
        """Whether all samples are of one event, and have their call chain at one place."""
        layout = self._layouts[0]
        return len(self._layouts) == 1 and layout.chain >= 0 and layout.read_format < 0 and layout.pid >= 0

    def _plain_key(self, body: int, end: int) -> bytes:
        """Process, thread and call chain of a sample."""
        layout, data = self._layouts[0], self._data
        at, pid = body + layout.chain + 8, body + layout.pid
        chain_end = at + 8 * int.from_bytes(data[at - 8 : at], "little")
        if chain_end > end:
            self._chain(layout, body, end)  # says what is wrong
        return data[pid : pid + 8] + data[at:chain_end]

    def _key(self, body: int, end: int) -> bytes:
        """As `_plain_key`, of any sample; empty for one of another event."""
        layout = self._layouts[0]
        if len(self._layouts) > 1 and self._id_at >= 0 and self._by_id.get(self._word(body, end), 0) != 0:
            self._left_out += 1
            return b""
        at = body + layout.pid
        ids = self._data[at : at + 8] if layout.pid >= 0 and at + 8 <= end else bytes(8)
        return ids + self._chain(layout, body, end)

    def _count(self, same: dict[bytes, int]) -> None:
        for key, count in same.items():
            if key:
                pid, tid = _IDS.unpack_from(key)
                self._add(pid, tid, key[8:], count)

    def _add(self, pid: int, tid: int, chain: bytes, count: int) -> None:
        space = self._spaces.get(pid) or self._space(pid)
        stack = space.known.get(chain)
        if stack is None:
            stack = space.known[chain] = self._stack(pid, space, chain)
        process = self._comms.get(tid)
        if process is None:
            process = self._comms[tid] = self._builder.index(f"[{pid}]", FrameKind.PROCESS)
        self._builder.add((process, *stack), count)
        if not self._nameless.isdisjoint(stack):
            self._unnamed += count

    def _chain(self, layout: _Layout, body: int, end: int) -> bytes:
        """The call chain's words; the address alone where there is none."""
        if layout.chain < 0:
            return self._data[body + layout.ip : body + layout.ip + 8]
        at = body + layout.chain
        if layout.read_format >= 0:
            at += _size_of_counts(layout.read_format, self._word(at, end))
        count = self._word(at, end)
        if count > _MOST_FRAMES or at + 8 + 8 * count > end:
            raise BadFileError(self._path, f"a call chain of {count} addresses in {end - body} bytes", at)
        return self._data[at + 8 : at + 8 + 8 * count]

    def _stack(self, pid: int, space: _Space, chain: bytes) -> tuple[int, ...]:
        stack: list[int] = []
        context = 0
        is_caller = False
        for (address,) in _QWORD.iter_unpack(chain[: len(chain) // 8 * 8]):
            if address >= _FIRST_CONTEXT:
                context = address
                is_caller = False
                continue
            if context == _CONTEXT_KERNEL or (context != _CONTEXT_USER and address >= 1 << 63):
                stack.append(self._kernel(address, is_caller))
                is_caller = stack[-1] not in self._interrupts
            else:
                stack.append(self._user(pid, space, address, is_caller))
                is_caller = True
        stack.reverse()
        return tuple(stack)

    def _kernel(self, address: int, is_caller: bool) -> int:
        found = self._kernel_frames.get((address, is_caller))
        if found is None:
            function = self._resolver.kernel(address, self._text, self._release, is_caller=is_caller)
            found = self._kernel_frames[address, is_caller] = self._index(function)
            if function.name.startswith("asm_"):
                self._interrupts.add(found)
        return found

    def _user(self, pid: int, space: _Space, address: int, is_caller: bool) -> int:
        found = space.frames.get((address, is_caller))
        if found is None:
            function = self._resolver.user(pid, space.at(address), address, is_caller=is_caller)
            found = space.frames[address, is_caller] = self._index(function)
        return found

    def _index(self, function: Function) -> int:
        index = self._builder.index(function.name, function.kind, function.module)
        if function.name.startswith("["):
            self._nameless.add(index)
        return index


def _layout(sample_type: int, read_format: int, flags: int) -> _Layout:
    """Fields of a sample come in a fixed order, those that are asked for."""
    at = 0
    places: dict[int, int] = {}
    for bit in (_IDENTIFIER, _IP, _TID, _TIME, _ADDR, _ID, _STREAM_ID, _CPU, _PERIOD):
        if sample_type & bit:
            places[bit] = at
            at += 8
    trailing = 0
    if flags & _SAMPLE_ID_ALL and sample_type & _TIME:
        # TID, TIME, ID, STREAM_ID, CPU, IDENTIFIER stand at the end of other records.
        trailing = 8 * (1 + sum(1 for bit in (_ID, _STREAM_ID, _CPU, _IDENTIFIER) if sample_type & bit))
    return _Layout(
        pid=places.get(_TID, -1),
        time=places.get(_TIME, -1),
        chain=at if sample_type & _CALLCHAIN else -1,
        ip=places.get(_IP, -1),
        read_format=read_format if sample_type & _READ else -1,
        trailing_time=trailing,
    )


def _size_of_counts(read_format: int, first: int) -> int:
    """The size of what PERF_SAMPLE_READ adds; ``first`` is its first word."""
    times = sum(1 for bit in (_READ_ENABLED, _READ_RUNNING) if read_format & bit)
    each = 1 + sum(1 for bit in (_READ_ID, _READ_LOST) if read_format & bit)
    return 8 * (1 + times + min(first, _MOST_FRAMES) * each) if read_format & _READ_GROUP else 8 * (times + each)


def _string(data: bytes) -> str:
    return data.partition(b"\0")[0].decode("utf-8", "surrogateescape")


def _build_ids(section: bytes) -> Iterator[tuple[str, str]]:
    """``struct perf_record_header_build_id``: header, pid, 24 bytes of the id, the file's name."""
    at = 0
    while at + 36 <= len(section):
        size = int.from_bytes(section[at + 6 : at + 8], "little")
        if size < 36:
            return
        # Since Linux 5.10 ("perf tools: Store build id when available", 1ca6e80254141) byte 20 of the id is its size.
        length = (
            section[at + 32]
            if section[at + 4 : at + 6] and int.from_bytes(section[at + 4 : at + 6], "little") >> 15
            else 20
        )
        yield _string(section[at + 36 : at + size]), section[at + 12 : at + 12 + min(length, 20)].hex()
        at += size
