"""Large maps are sorted and written by columns, few and many keys: the same bytes as entry by entry."""

from __future__ import annotations

import random
import struct
from collections.abc import Iterator, Sequence
from itertools import pairwise
from unittest.mock import patch

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from invivo.events import Entry, Event, Frame, MapSnapshot, StackColumn, StatsValue, Value
from invivo.ir import types as t
from invivo.ir.layout import MapLayout, MapSpec, MapType, Storage
from invivo.output.json_lines import JsonSink
from invivo.output.ndjson import EventSink
from invivo.output.sink import Dialect, Header, Sink
from invivo.output.text import TextSink
from invivo.runtime import mapread
from invivo.runtime.decode import convert_all, shape_of, tuple_decoder, value_decoder
from invivo.runtime.mapread import MapReader
from invivo.values import ValueText
from runtime_fakes import FakeMap, FakeNames

CPUS = 3
NUMBERS: list[t.Type] = [t.Int(bits, signed) for bits in (8, 16, 32, 64) for signed in (False, True)]
ENUM = t.Enumeration("e", 32, True, (("ZERO", 0), ("MINUS", -1)))
PARTS: list[t.Type] = [
    *NUMBERS,
    ENUM,
    t.Bool(),
    t.String(5),
    t.String(16),
    t.String(64),
    t.Pointer(t.UINT64),
    t.ProbeName(),
    t.MacAddress(),
    t.Tuple((t.INT16, t.String(3), t.INT64)),
]
STACK_KINDS = [
    t.Stack(False, t.StackMode.BPFTRACE, 30),
    t.Stack(True, t.StackMode.PERF, 16),
    t.Stack(False, t.StackMode.BUILD_ID, 5),
    t.Stack(True, t.StackMode.RAW, 127),
    t.Stack(False, t.StackMode.BPFTRACE, 30, "python"),
]
SUMMED: list[t.Type] = [
    kind(signed) for kind in (t.Sum, t.Average, t.Stats, t.Minimum, t.Maximum) for signed in (False, True)
]


class Memory:
    """Random content of a map."""

    def __init__(self, seed: int) -> None:
        self._random = random.Random(seed)

    def of(self, kind: t.Type) -> bytes:
        match kind:
            case t.String(capacity):
                return self._string(capacity)
            case t.Tuple(parts):
                data = bytearray(t.size_bytes(kind))
                for offset, part in zip(t.tuple_layout(parts)[0], parts, strict=True):
                    data[offset : offset + t.size_bytes(part)] = self.of(part)
                return bytes(data)
            case t.Bool():
                return self._random.choice([b"\0", b"\1"])
            case t.Stack():
                return self._stack(kind)
            case _:
                return self.number(t.size_bytes(kind))

    def _string(self, capacity: int) -> bytes:
        letters = self._random.choice([b"ab", b"a\n%s\xc3\xa4\xff", b"/usr"])
        length = self._random.choice([0, 1, capacity - 1, capacity, self._random.randrange(capacity + 1)])
        return bytes(self._random.choices(letters, k=length)).ljust(capacity, b"\0")

    def _stack(self, kind: t.Stack) -> bytes:
        """Few different addresses, often the same outermost ones."""
        count = self._random.choice([0, 1, 7, 8, 9, 10, kind.limit, self._random.randrange(kind.limit)])
        count = min(count, kind.limit)
        addresses = [self._random.choice([0, 1, 2, 1 << 40]) for _ in range(count)]
        if count > 6:
            addresses[6:] = range(100 + count, 106, -1)
        words = struct.pack(f"<{count}Q", *addresses)
        header = struct.pack("<IIQ", count, self._random.choice([7, 8]), self._random.choice([0, 0, 1]))
        return (header + words).ljust(t.size_bytes(kind), b"\0")

    def number(self, size: int) -> bytes:
        value = self._random.choice([0, 1, -1, 1 << 31, 1 << 53, self._random.getrandbits(self._random.randint(1, 64))])
        return struct.pack("<Q", value & (1 << 64) - 1)[:size].ljust(size, b"\0")

    def value(self, kind: t.Type, slots: int) -> bytes:
        """All slots of a value; the second word of some is a count, or a flag."""
        size = -(-t.size_bytes(kind) // 8) * 8
        if isinstance(kind, t.Minimum | t.Maximum | t.Average | t.Stats):
            return b"".join(self.number(8) + struct.pack("<Q", self._random.choice([0, 1, 3])) for _ in range(slots))
        if isinstance(kind, t.Sum | t.Count):
            return b"".join(self.number(8) for _ in range(slots))
        return self.of(kind).ljust(size, b"\0")


def _ranks(parts: Sequence[t.Type], values: Sequence[Value]) -> Iterator[object]:
    """What a key is sorted by."""
    for part, value in zip(parts, values, strict=True):
        match part, value:
            case t.Tuple(inner), tuple():
                yield from _ranks(inner, value)
            case t.Int(64), int():
                yield value - (1 << 64) if value >> 63 else value
            case (t.String(), str()):
                yield value.encode("utf-8", "surrogateescape")
            case (t.MacAddress(), str()):
                yield value
            case (t.ProbeName(), str()):
                yield int(value.removeprefix("probe"))
            case _:
                assert isinstance(value, int)
                yield int(value)


def _weight(kind: t.Type, value: Value) -> int:
    match kind, value:
        case t.Stats(), StatsValue():
            return value.average
        case t.String(), _:
            return 0
        case _:
            assert isinstance(value, int)
            return int(value)


def _made(parts: tuple[t.Type, ...], kind: t.Type, count: int, seed: int) -> tuple[MapReader, dict[bytes, bytes]]:
    memory = Memory(seed)
    is_summed = isinstance(kind, t.Count | t.Sum | t.Average | t.Stats | t.Minimum | t.Maximum)
    source = FakeMap(MapSpec("m0", MapType.HASH, 8, 8, 16), [])
    whole = t.Tuple(parts)
    source.entries = {memory.of(whole): memory.value(kind, CPUS if is_summed else 1) for _ in range(count)}
    storage = Storage.PERCPU_HASH if is_summed else Storage.HASH
    return MapReader(MapLayout("@", parts, kind, storage, "m0"), source, CPUS, FakeNames()), source.entries


CASES = {
    "parts": st.lists(st.sampled_from(PARTS), min_size=1, max_size=3).map(tuple),
    "kind": st.sampled_from([t.Count(), *SUMMED, *NUMBERS, t.String(16)]),
    "seed": st.integers(0, 1 << 32),
}


@given(**CASES)
@settings(max_examples=150, deadline=None)
@pytest.mark.parametrize("least", [1, 1 << 40], ids=["by the C library", "by Python"])
def test_entries_are_in_order(least: int, parts: tuple[t.Type, ...], kind: t.Type, seed: int) -> None:
    """Sorted by value, then by key; every entry as it is read alone."""
    with patch.object(mapread, "_MANY", least):
        reader, entries = _made(parts, kind, 60, seed)
        found = list(reader.snapshot().entries)
        decode = tuple_decoder(parts, FakeNames())
        assert sorted(map(repr, found)) == sorted(
            repr(entry)
            for data, value in entries.items()
            for entry in _made_alone(parts, kind, data, value)
            if tuple(decode(data, 0)) == entry[0]
        )
        ranked = [(_weight(kind, value), *_ranks(parts, key or ())) for key, value in found]
        assert all(before <= after for before, after in pairwise(ranked))
        assert list(reader.snapshot(top=7).entries) == found[-7:]


def _made_alone(parts: tuple[t.Type, ...], kind: t.Type, key: bytes, value: bytes) -> Sequence[Entry]:
    """The entry of a map that has no other; a plain value is decoded as such."""
    reader, entries = _made(parts, kind, 0, 0)
    entries[key] = value
    if not isinstance(kind, t.Count | t.Sum | t.Average | t.Stats | t.Minimum | t.Maximum):
        assert [found for _, found in reader.snapshot().entries] == [value_decoder(kind, FakeNames())(value)]
    return reader.snapshot().entries


class Bytes:
    def __init__(self) -> None:
        self.data = b""

    def write(self, data: bytes | bytearray, /) -> int:
        self.data += data
        return len(data)

    def flush(self) -> None:
        pass


def _written(sink: str, event: Event) -> bytes:
    stream = Bytes()
    made: dict[str, Sink] = {
        "text": TextSink(stream, Bytes()),
        "terminal": TextSink(stream, Bytes(), escape=ascii),
        "json": JsonSink(stream, Bytes()),
        "bpftrace's json": JsonSink(stream, Bytes(), Dialect.BPFTRACE),
        "ndjson": EventSink(stream, Header("", "", (), ())),
    }
    made[sink].event(event)
    made[sink].close()
    return stream.data


@given(**CASES)
@settings(max_examples=100, deadline=None)
@pytest.mark.parametrize("more", [[], STACK_KINDS], ids=["", "stacks"])
@pytest.mark.parametrize("sink", ["text", "terminal", "json", "bpftrace's json", "ndjson"])
def test_columns_are_written_as_entries_are(
    sink: str, more: list[t.Type], parts: tuple[t.Type, ...], kind: t.Type, seed: int
) -> None:
    if more:
        parts = (more[seed % len(more)], *parts[1:])
    with patch("invivo.values._ENTRIES", 16), patch.object(mapread, "_MANY", 1):
        reader, _ = _made(parts, kind, 40, seed)
        columns = reader.snapshot(at_end=True)
        entries = MapSnapshot(columns.name, columns.kind, columns.scalar, tuple(columns.entries), columns.at_end)
        assert _written(sink, columns) == _written(sink, entries)


class CallersNames(FakeNames):
    """A frame's name depends on the address before it, as it does where calls return to and signals interrupt."""

    def user_frames(self, tgid: int, addresses: Sequence[int]) -> tuple[Frame, ...]:
        return tuple(
            Frame(address, f"u{tgid}_{address:x}_{before:x}", 1, "")
            for before, address in zip([1 << 63, *addresses], addresses, strict=False)
        )

    def kernel_frames(self, addresses: Sequence[int]) -> tuple[Frame, ...]:
        return self.user_frames(0, addresses)

    def build_id_frames(self, tgid: int, addresses: Sequence[int]) -> tuple[Frame, ...]:
        return self.user_frames(tgid, addresses)


@given(kind=st.sampled_from(STACK_KINDS), seed=st.integers(0, 1 << 32), count=st.integers(1, 40))
@settings(max_examples=200, deadline=None)
def test_a_column_of_stacks_is_each_of_them(kind: t.Stack, seed: int, count: int) -> None:
    memory = Memory(seed)
    raws = [memory.of(kind) for _ in range(count)]
    shape = shape_of(kind, CallersNames())
    column = convert_all(raws, shape)
    decode = value_decoder(kind, CallersNames())
    alone = [decode(raw) for raw in raws]
    assert isinstance(column, StackColumn)
    assert list(column) == alone
    assert [column[index] for index in range(count)] == alone
    text = ValueText()
    assert text.stacks(column)(column[1:]) == list(map(text.text, alone[1:]))
