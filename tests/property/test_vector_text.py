"""The fast way from records to text writes the same bytes as the plain way, whatever the records are."""

from __future__ import annotations

import io
import json
import random
import struct

import pytest
from hypothesis import event, given, settings
from hypothesis import strategies as st

from invivo.events import Printed, PrintedText, Row
from invivo.ir import layout as kinds
from invivo.ir import types as t
from invivo.ir.format import parse_format
from invivo.ir.layout import RecordLayout
from invivo.output.json_lines import JsonSink
from invivo.runtime.actions import Actions
from invivo.runtime.records import DISCARDED
from invivo.values import ValueText
from runtime_fakes import FakeNames, layout

STRIDE = 192
HEADER_BYTES = 8

INTEGERS = [t.Int(bits, signed) for bits in (8, 16, 32, 64) for signed in (False, True)]
ENUM = t.Enumeration("e", 32, False, (("ZERO", 0), ("ONE", 1), ("ELEVEN_HUNDRED", 1100)))
STRINGS = [t.String(capacity) for capacity in (1, 5, 8, 16, 20, 64)]
TYPES: list[t.Type] = [*INTEGERS, *STRINGS, ENUM, t.Pointer(t.UINT64), t.KernelSymbol(), t.ProbeName(), t.Username()]
LENGTHS = ["", "h", "hh", "l", "ll", "j", "z"]
LITERALS = ["", " ", "a", "%%", "\n", "five ", "a longer text: ", "ä€"]


def _directives(kind: t.Type) -> st.SearchStrategy[str]:
    """Directives with a fast way, and now and then one without: what they mean must not depend on it."""
    width = st.sampled_from(["", "", "", "3", "12", "25"])
    match kind:
        case t.Int() | t.Enumeration():
            flags = st.sampled_from([*["", "-", "0"] * 10, "+"])
            number = st.tuples(flags, width, st.sampled_from(LENGTHS), st.sampled_from("diux")).map("".join)
            return st.one_of(number.map(lambda text: f"%{text}"), st.sampled_from(["%-7s", "%#x"]))
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


def _text(actions: Actions, window: memoryview) -> tuple[bytes, int]:
    """The text of all events, and how many of them were made the fast way."""
    text, fast = b"", 0
    if actions.wants_speed(len(window)):
        actions.speed_up()
    for seen in actions.handle(window):
        match seen:
            case PrintedText(data):
                text, fast = text + data, fast + 1
            case Printed(printed):
                text += printed.encode("utf-8", "surrogateescape")
            case Row(value):
                text += f"{ValueText().text(value)}\n".encode("utf-8", "surrogateescape")
            case _:
                raise AssertionError(seen)
    return text, fast


def _actions(records: list[RecordLayout], *, bpftrace: bool, joins_text: bool, as_json: bool = False) -> Actions:
    described = layout(tuple(records), stride=STRIDE)
    return Actions(described, {}, FakeNames(), ValueText(), bpftrace=bpftrace, joins_text=joins_text, as_json=as_json)


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


@given(st.tuples(_kind(0), _kind(1), _row()), st.integers(0, 1 << 32), st.booleans(), st.booleans(), st.booleans())
@settings(max_examples=100, deadline=None)
def test_the_same_bytes(
    drawn: tuple[RecordLayout, ...], seed: int, bpftrace: bool, is_alone: bool, is_plain: bool
) -> None:
    records = [*drawn, ROW]
    window = _window(records[:1] if is_alone else records, 1100, seed, plain=is_plain, odd_share=0.005)
    plain, _ = _text(_actions(records, bpftrace=bpftrace, joins_text=False), window)
    joined, fast = _text(_actions(records, bpftrace=bpftrace, joins_text=True), window)
    event(f"fast: {fast > 0}")
    assert joined == plain


@pytest.mark.parametrize("bpftrace", [False, True])
def test_what_people_print_takes_the_fast_way(bpftrace: bool) -> None:
    fields = (
        t.Field("pid", t.Int(32, False), 8),
        t.Field("comm", t.String(16), 12),
        t.Field("result", t.Int(64, True), 32),
        t.Field("path", t.String(64), 40),
        t.Field("address", t.Pointer(t.UINT64), 104),
        t.Field("probe", t.ProbeName(), 112),
    )
    form = parse_format("%-6d %-16s %5d %s %p %s\n")
    record = RecordLayout(0, kinds.Printf(form), fields, STRIDE - HEADER_BYTES, 1)
    window = _window([record], 20_000, 1, plain=True)
    joined, fast = _text(_actions([record], bpftrace=bpftrace, joins_text=True), window)
    plain, none = _text(_actions([record], bpftrace=bpftrace, joins_text=False), window)
    assert joined == plain
    assert (fast, none) == (1, 0)


@given(st.tuples(_kind(0), _kind(1), _row()), st.integers(0, 1 << 32), st.booleans(), st.booleans())
@settings(max_examples=60, deadline=None)
def test_the_same_json(drawn: tuple[RecordLayout, ...], seed: int, bpftrace: bool, is_plain: bool) -> None:
    records = [*drawn, ROW]
    window = _window(records, 1100, seed, plain=is_plain, odd_share=0.005)
    assert _json(_actions(records, bpftrace=bpftrace, joins_text=True, as_json=True), window) == _json(
        _actions(records, bpftrace=bpftrace, joins_text=False), window
    )


def test_json_of_numbers_and_paths_takes_the_fast_way() -> None:
    fields = (t.Field("pid", t.Int(32, False), 8), t.Field("path", t.String(64), 16))
    record = RecordLayout(0, kinds.Printf(parse_format('%d "%s"\n')), fields, STRIDE - HEADER_BYTES, 1)
    window = _window([record], 2000, 1, plain=True)
    actions = _actions([record], bpftrace=False, joins_text=True, as_json=True)
    actions.speed_up()
    assert [type(found) for found in actions.handle(window)] == [PrintedText]
    lines = _json(actions, window).splitlines()
    assert len(lines) == 2000
    assert json.loads(lines[0]).keys() == {"type", "data"}


def _json(actions: Actions, window: memoryview) -> bytes:
    """What the output for JSON makes of a window."""
    if actions.wants_speed(len(window)):
        actions.speed_up()
    stream = io.BytesIO()
    sink = JsonSink(stream, stream)
    sink.events(actions.handle(window))
    sink.close()
    return stream.getvalue()
