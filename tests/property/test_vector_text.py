"""The fast ways from records to lines and to events have the plain way's results, whatever the records are."""

from __future__ import annotations

import io
import json
import random
import struct
from collections import Counter
from collections.abc import Callable
from itertools import chain

import pytest
from hypothesis import event, given, settings
from hypothesis import strategies as st

from invivo.events import Ended, EnumValue, Event, Printed, PrintedText, Row, Value
from invivo.ir import layout as kinds
from invivo.ir import types as t
from invivo.ir.format import parse_format
from invivo.ir.layout import RecordLayout
from invivo.output.outputs import SinkOptions, lines_of, open_sink
from invivo.output.terminal import display
from invivo.record import replace
from invivo.runtime.actions import Actions
from invivo.runtime.records import DISCARDED
from invivo.runtime.vector.events import VectorEvents
from invivo.values import LineForm, ValueText
from runtime_fakes import FakeNames, layout

STRIDE = 192
HEADER_BYTES = 8

INTEGERS = [t.Int(bits, signed) for bits in (8, 16, 32, 64) for signed in (False, True)]
ENUM = t.Enumeration("e", 32, False, (("ZERO", 0), ("ONE", 1), ("ELEVEN_HUNDRED", 1100)))
STRINGS = [t.String(capacity) for capacity in (1, 5, 8, 16, 20, 64)]
BYTES = t.Array(t.Int(8, False), 6)
TIME = t.Timestamp("%H", t.Clock.BOOT)
NAMED: list[t.Type] = [ENUM, t.Bool(), t.KernelSymbol(), t.ProbeName(), t.Username(), TIME]
TYPES: list[t.Type] = [*INTEGERS, *STRINGS, *NAMED, t.Pointer(t.UINT64), t.MacAddress(), BYTES]
LENGTHS = ["", "h", "hh", "l", "ll", "j", "z"]
LITERALS = [*["", " ", "a", "%%", "\n", "five ", "a longer text: ", "ä€"] * 5, "\udcff"]  # and a byte that is not UTF-8


def _directives(kind: t.Type) -> st.SearchStrategy[str]:
    """Directives with a fast way, and now and then one without: what they mean must not depend on it."""
    width = st.sampled_from(["", "", "", "3", "12", "25"])
    match kind:
        case t.Int() | t.Enumeration():
            flags = st.sampled_from([*["", "-", "0"] * 10, "+", "#"])
            number = st.tuples(flags, width, st.sampled_from(LENGTHS), st.sampled_from("diuxXo")).map("".join)
            return st.one_of(number.map(lambda text: f"%{text}"), st.sampled_from(["%-7s", "%#x", "%#lx", "%c", "%p"]))
        case t.Pointer():
            return st.sampled_from(["%p", "%s"])
        case _:
            return st.tuples(st.sampled_from(["", "-"]), width).map(lambda parts: f"%{''.join(parts)}s")


@st.composite
def _kind(draw: st.DrawFn, number: int) -> RecordLayout:
    fields: list[t.Field] = []
    form = ""
    offset = 8
    for index in range(draw(st.integers(1, 6))):
        kind = draw(st.sampled_from(TYPES))
        size = t.size_bytes(kind)
        alignment = min(8, size) if size in (1, 2, 4, 8) and not isinstance(kind, t.String) else 1
        offset = -(-offset // alignment) * alignment
        if offset + size > STRIDE - HEADER_BYTES:
            break
        fields.append(t.Field(f"f{index}", kind, offset))
        form += draw(st.sampled_from(LITERALS)) + draw(_directives(kind))
        offset += size
    form += draw(st.sampled_from(LITERALS))
    return RecordLayout(number, kinds.Printf(parse_format(form)), tuple(fields), STRIDE - HEADER_BYTES, 1)


class Values:
    """Random values that lie where numbers and strings change their length."""

    def __init__(self, seed: int, *, plain: bool) -> None:
        self._random = random.Random(seed)
        self._plain = plain
        self.chance = self._random.random

    def of(self, kind: t.Type) -> bytes:
        match kind:
            case t.String(capacity):
                return self._string(capacity)
            case t.Enumeration():
                return struct.pack("<I", self._random.choice([0, 1, 2, 1100, 1 << 31]))
            case t.Tuple(parts) | t.NamedTuple(_, parts):
                data = bytearray(self._random.randbytes(t.size_bytes(kind)))
                for offset, part in zip(t.tuple_layout(parts)[0], parts, strict=True):
                    data[offset : offset + t.size_bytes(part)] = self.of(part)
                return bytes(data)
            case t.Int(8) | t.Bool():
                return self._random.randbytes(1)
            case _:
                return self._number(t.size_bytes(kind))

    def _number(self, size: int) -> bytes:
        power = 10 ** self._random.randrange(20)
        value = self._random.choice(
            [0, 1, power, power - 1, -power, self._random.getrandbits(self._random.randint(1, 64))]
        )
        return struct.pack("<Q", value & (1 << 64) - 1)[:size]

    def _string(self, capacity: int) -> bytes:
        if self._plain:
            text = b"/usr/lib/x86_64-linux-gnu/"[: self._random.randrange(27)][: capacity - 1]
        else:
            text = bytes(
                self._random.choices(range(256), k=self._random.choice([capacity, self._random.randint(0, capacity)]))
            )
        if len(text) < capacity:
            text += b"\0"
        return text + self._random.randbytes(capacity - len(text))


def _window(records: list[RecordLayout], count: int, seed: int, *, plain: bool, odd_share: float = 0.0) -> memoryview:
    values = Values(seed, plain=plain)
    window = bytearray(random.Random(seed).randbytes(count * STRIDE))
    record = records[0]
    for index in range(count):
        if values.chance() < 0.3:
            record = records[int(values.chance() * len(records))]
        odd = values.chance() < odd_share
        head = STRIDE - HEADER_BYTES | (DISCARDED if odd and values.chance() < 0.3 else 0)
        struct.pack_into("<I4xII", window, index * STRIDE, head, record.id, int(odd) * (1 + int(values.chance() * 3)))
        for field in record.fields:
            data = values.of(field.type)
            start = index * STRIDE + HEADER_BYTES + field.offset
            window[start : start + len(data)] = data
    return memoryview(bytes(window))


def _actions(
    records: list[RecordLayout],
    *,
    bpftrace: bool,
    lines: Callable[[ValueText], LineForm] | None = None,
    terminal: bool = False,
) -> Actions:
    described = layout(tuple(records), stride=STRIDE)
    text = ValueText(escape=display if terminal else None)
    made = None if lines is None else lines(text)
    return Actions(described, {}, FakeNames(), text, bpftrace=bpftrace, lines=made)


@st.composite
def _row(draw: st.DrawFn) -> RecordLayout:
    """``print`` of a tuple, in which are others."""
    parts = st.lists(st.sampled_from(TYPES), min_size=1, max_size=3).map(tuple)
    kind = draw(st.one_of(parts.map(t.Tuple), parts.map(lambda found: t.NamedTuple(tuple("abc"[: len(found)]), found))))
    if draw(st.booleans()):
        kind = t.Tuple((t.INT64, kind))
    if t.size_bytes(kind) > STRIDE - HEADER_BYTES - 8:
        kind = t.Tuple((t.INT64, t.String(64)))
    return RecordLayout(2, kinds.PrintValue(), (t.Field("value", kind, 8),), STRIDE - HEADER_BYTES, 1)


ROW = RecordLayout(3, kinds.PrintValue(), (t.Field("value", t.Bool(), 8),), STRIDE - HEADER_BYTES, 1)


DRAWN = st.tuples(_kind(0), _kind(1), _row())
SEEDS = st.integers(0, 1 << 32)


def _written(form: str, window: memoryview, actions: Actions, *, terminal: bool = False) -> tuple[bytes, set[type]]:
    """What an output makes of a window, and the types of the events that it got."""
    stream = io.BytesIO()
    sink = open_sink(form, stream, io.BytesIO(), options=SinkOptions(terminal=terminal))
    sink.flush()
    stream.seek(0)
    stream.truncate()  # the header has times
    events = actions.handle(window)
    sink.events(events)
    sink.event(Ended("closed", 0, ()))
    sink.close()
    return stream.getvalue(), set(map(type, events))


def _check_lines(
    form: str, records: list[RecordLayout], window: memoryview, *, bpftrace: bool = False, terminal: bool = False
) -> bool:
    """Whether any of it took the fast way; the bytes must be the same."""
    fast = _actions(records, bpftrace=bpftrace, lines=lines_of(form), terminal=terminal)
    fast.speed_up()
    plain = _actions(records, bpftrace=bpftrace, terminal=terminal)
    expected, events = _written(form, window, plain, terminal=terminal)
    found, fast_events = _written(form, window, fast, terminal=terminal)
    assert found == expected
    assert PrintedText not in events
    return PrintedText in fast_events


@pytest.mark.parametrize("form", ["text", "json", "ndjson"])
@given(DRAWN, SEEDS, st.booleans(), st.booleans(), st.booleans(), st.booleans())
@settings(max_examples=40, deadline=None)
def test_the_same_bytes(
    form: str,
    drawn: tuple[RecordLayout, ...],
    seed: int,
    bpftrace: bool,
    terminal: bool,
    is_alone: bool,
    is_plain: bool,
) -> None:
    records = [*drawn, ROW]
    window = _window(records[:1] if is_alone else records, 500, seed, plain=is_plain, odd_share=0.005)
    event(f"fast: {_check_lines(form, records, window, bpftrace=bpftrace, terminal=terminal)}")


@given(DRAWN, SEEDS, st.booleans(), st.booleans(), st.booleans())
@settings(max_examples=40, deadline=None)
def test_the_same_events(
    drawn: tuple[RecordLayout, ...], seed: int, bpftrace: bool, is_alone: bool, is_plain: bool
) -> None:
    records = [*drawn, ROW]
    window = _window(records[:1] if is_alone else records, 500, seed, plain=is_plain, odd_share=0.005)
    fast = _actions(records, bpftrace=bpftrace)
    fast.speed_up()
    found, expected = fast.handle(window), _actions(records, bpftrace=bpftrace).handle(window)
    assert found == expected
    # A `Text` is equal to a string, True to 1: what they are is not.
    assert repr(found) == repr(expected)
    assert list(map(_types, found)) == list(map(_types, expected))


def _types(event: Event) -> object:
    match event:
        case Printed(_, values):
            return [_type(value) for value in values]
        case Row(value):
            return _type(value)
        case _:
            raise AssertionError(event)


def _type(value: Value) -> object:
    match value:
        case tuple() | list():
            return type(value), [_type(each) for each in value]
        case dict():
            return dict, [_type(each) for each in value.values()]
        case EnumValue(name=name):
            return EnumValue, name
        case _:
            return type(value)


FIELDS = (
    t.Field("pid", t.Int(32, False), 8),
    t.Field("comm", t.String(16), 12),
    t.Field("result", t.Int(64, True), 32),
    t.Field("path", t.String(64), 40),
    t.Field("address", t.Pointer(t.UINT64), 104),
    t.Field("probe", t.ProbeName(), 112),
)
WHAT_PEOPLE_PRINT = RecordLayout(
    0, kinds.Printf(parse_format("%-6d %-16s %5d %s %p %s\n")), FIELDS, STRIDE - HEADER_BYTES, 1
)
A_TUPLE = RecordLayout(
    0,
    kinds.PrintValue(),
    (t.Field("value", t.Tuple((t.UINT32, t.String(16), t.UINT64)), 8),),
    STRIDE - HEADER_BYTES,
    1,
)


@pytest.mark.parametrize("bpftrace", [False, True])
@pytest.mark.parametrize("form", ["text", "json", "ndjson"])
@pytest.mark.parametrize("record", [WHAT_PEOPLE_PRINT, A_TUPLE], ids=["printf", "tuple"])
def test_what_people_print_takes_the_fast_way(form: str, record: RecordLayout, bpftrace: bool) -> None:
    assert _check_lines(form, [record], _window([record], 5000, 1, plain=True), bpftrace=bpftrace)


@pytest.mark.parametrize("record", [WHAT_PEOPLE_PRINT, A_TUPLE], ids=["printf", "tuple"])
def test_events_come_by_the_fast_way(record: RecordLayout) -> None:
    window = _window([record], 5000, 1, plain=True)
    vectors = VectorEvents(layout((record,), stride=STRIDE), FakeNames(), ValueText(), bpftrace=False)
    made = [vectors.events(window[start:end]) for start, end in vectors.runs(window)]
    assert None not in made
    assert list(chain.from_iterable(events or () for events in made)) == _actions([record], bpftrace=False).handle(
        window
    )


def test_lists_belong_to_one_event() -> None:
    record = RecordLayout(0, kinds.PrintValue(), (t.Field("value", BYTES, 8),), STRIDE - HEADER_BYTES, 1)
    actions = _actions([record], bpftrace=False)
    actions.speed_up()
    first, second, *_ = actions.handle(memoryview(bytes(_window([record], 1, 1, plain=True)) * 100))
    assert isinstance(first, Row) and isinstance(second, Row)
    assert first.value == second.value
    assert first.value is not second.value


def test_the_trailer_counts_what_came_together() -> None:
    records = [WHAT_PEOPLE_PRINT, replace(ROW, id=1)]
    actions = _actions(records, bpftrace=False, lines=lines_of("ndjson"))
    actions.speed_up()
    lines = _written("ndjson", _window(records, 3000, 1, plain=True), actions)[0].decode().splitlines()
    counted = Counter(json.loads(line)["type"] for line in lines[:-1])
    assert json.loads(lines[-1])["counts"] == counted
    assert counted.total() == 3000
