"""Bytes → values, for every type; records that are cut into strides."""

from __future__ import annotations

import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from invivo.errors import NotSupportedError
from invivo.events import Address, EnumValue, Frame, Stack, Symbol, Text, Value
from invivo.ir import types as t
from invivo.ir.layout import PrintValue, RecordLayout
from invivo.runtime.decode import fields_decoder, value_decoder
from invivo.runtime.records import record_decoders, record_positions
from runtime_fakes import STRIDE, FakeNames, layout, ring_record

NAMES = FakeNames()
COLOUR = t.Enumeration("colour", 32, False, (("RED", 0), ("GREEN", 1), ("VERT", 1)))
UNION = t.Struct("union", "u", 8, 0, (t.Field("whole", t.UINT64, 0), t.Field("low", t.UINT32, 0)))
BITS = t.Struct(
    "struct", "b", 4, 0, (t.Field("a", t.UINT32, 0, 0, 3), t.Field("b", t.INT32, 0, 3, 7), t.Field("c", t.UINT8, 3))
)

CASES: list[tuple[str, t.Type, bytes, Value]] = [
    ("int8", t.INT8, b"\xff", -1),
    ("uint8", t.UINT8, b"\xff", 255),
    ("int16", t.INT16, b"\x00\x80", -(1 << 15)),
    ("uint32", t.UINT32, b"\xff\xff\xff\xff", (1 << 32) - 1),
    ("int64", t.INT64, b"\xfe" + b"\xff" * 7, -2),
    ("uint64", t.UINT64, b"\xff" * 8, (1 << 64) - 1),
    ("bool", t.BOOL, b"\x01", True),
    ("pointer", t.Pointer(t.VOID), struct.pack("<Q", 16), Address(16)),
    ("string", t.String(8), b"abc\0junk", "abc"),
    ("string-full", t.String(4), b"abcd", Text("abcd")),
    ("string-fits", t.String(4), b"abc\0", "abc"),
    ("string-longest-fits", t.String(64), b"x" * 62 + b"\0x", "x" * 62),
    ("string-longest-cut", t.String(64), b"x" * 63 + b"\0", Text("x" * 63)),
    ("string-bytes", t.String(4), b"\xff\0\0\0", "\udcff"),
    ("buffer", t.Buffer(4), struct.pack("<I4s", 2, b"abcd"), b"ab"),
    ("buffer-overlong", t.Buffer(2), struct.pack("<I2s", 99, b"ab"), b"ab"),
    ("array", t.Array(t.INT16, 3), struct.pack("<3h", 1, -2, 3), [1, -2, 3]),
    ("tuple", t.Tuple((t.UINT8, t.UINT32, t.String(4))), b"\x01xxx\x02\0\0\0hi\0\0", (1, 2, "hi")),
    ("named", t.NamedTuple(("a", "b"), (t.UINT8, t.UINT8)), b"\x01\x02", {"a": 1, "b": 2}),
    ("struct-plain", t.Struct("struct", "x", 2), b"ab", b"ab"),
    ("union", UNION, struct.pack("<Q", 1 << 32 | 5), {"whole": 1 << 32 | 5, "low": 5}),
    ("bitfields", BITS, struct.pack("<I", 5 | 0x7F << 3 | 9 << 24), {"a": 5, "b": -1, "c": 9}),
    ("kernel-symbol", t.KernelSymbol(), struct.pack("<Q", 16), Symbol(16, "k10")),
    ("user-symbol", t.UserSymbol(), struct.pack("<QII", 16, 7, 0), Symbol(16, "u7_10")),
    ("probe", t.ProbeName(), struct.pack("<Q", 3), "probe3"),
    ("username", t.Username(), struct.pack("<Q", 3), "user3"),
    ("cgroup", t.CgroupPath("u*"), struct.pack("<Q", 3), "u*:/3"),
    ("time", t.Timestamp("%H", t.Clock.BOOT), struct.pack("<Q", 3), "%H@3@boot"),
    ("inet4", t.Inet(), bytes([4, 0, 0, 0, 127, 0, 0, 1]).ljust(20, b"\0"), "127.0.0.1"),
    ("inet6", t.Inet(), bytes([6, 0, 0, 0]) + bytes(15) + b"\x01", "::1"),
    ("mac", t.MacAddress(), bytes([0, 1, 2, 0xAB, 0xFF, 0x10]), "00:01:02:AB:FF:10"),
    (
        "stack",
        t.Stack(True, t.StackMode.BPFTRACE, 3),
        struct.pack("<IIQ3Q", 2, 7, 0, 1, 2, 0),
        Stack(True, t.StackMode.BPFTRACE, (Frame(1, "k1", 0, "[kernel]"), Frame(2, "k2", 0, "[kernel]"))),
    ),
    (
        "stack-user",
        t.Stack(False, t.StackMode.PERF, 2),
        struct.pack("<IIQ2Q", 1, 7, 0, 1, 0),
        Stack(False, t.StackMode.PERF, (Frame(1, "u7_1", 1, "/bin/x"),)),
    ),
    (
        "stack-build-id",
        t.Stack(False, t.StackMode.BUILD_ID, 1),
        struct.pack("<IIQQ", 1, 7, 0, 1),
        Stack(False, t.StackMode.BUILD_ID, (Frame(1, "", 0, "abcd"),)),
    ),
    (
        "stack-overlong",
        t.Stack(True, t.StackMode.RAW, 1),
        struct.pack("<IIQQ", 99, 7, 0, 1),
        Stack(True, t.StackMode.RAW, (Frame(1, "", 0, ""),)),
    ),
]


@pytest.mark.parametrize(("kind", "data", "value"), [row[1:] for row in CASES], ids=[row[0] for row in CASES])
def test_values(kind: t.Type, data: bytes, value: Value) -> None:
    found = value_decoder(kind, NAMES)(data)
    assert found == value
    assert type(found) is type(value)


@pytest.mark.parametrize(("value", "name"), [(0, "RED"), (1, "GREEN"), (2, None)])
def test_an_enum_has_the_first_name_of_its_value(value: int, name: str | None) -> None:
    found = value_decoder(COLOUR, NAMES)(struct.pack("<I", value))
    assert isinstance(found, EnumValue)
    assert (int(found), found.name) == (value, name)


def test_an_aggregation_has_no_single_value() -> None:
    with pytest.raises(NotSupportedError):
        value_decoder(t.Count(), NAMES)


INTS = (t.INT8, t.UINT8, t.INT16, t.UINT16, t.INT32, t.UINT32, t.INT64, t.UINT64)


@given(st.lists(st.tuples(st.sampled_from(INTS), st.binary(min_size=8, max_size=8)), max_size=8))
def test_fields_anywhere_are_read_where_they_are(parts: list[tuple[t.Int, bytes]]) -> None:
    offsets, size = t.tuple_layout(tuple(part for part, _ in parts))
    data = bytearray(size + 8)
    expected = []
    for offset, (part, content) in zip(offsets, parts, strict=True):
        content = content[: part.bits // 8]
        data[offset + 8 : offset + 8 + len(content)] = content
        expected.append(int.from_bytes(content, "little", signed=part.signed))
    fields = [t.Field(str(i), part, offset) for i, (offset, (part, _)) in enumerate(zip(offsets, parts, strict=True))]
    assert fields_decoder(fields, NAMES)(bytes(data), 8) == expected
    # In another order they overlap no more and no less, but are read one by one.
    assert fields_decoder(fields[::-1], NAMES)(bytes(data), 8) == expected[::-1]


def test_a_record_of_several_strides_is_one_again() -> None:
    text = bytes(range(1, 151))
    record = RecordLayout(0, PrintValue(), (t.Field("a", t.UINT64, 8), t.Field("s", t.String(152), 16)), 168, 3)
    decode = record_decoders(layout([record]), NAMES)[0]
    data = ring_record(0, struct.pack("<Q", 7) + text, strides=3)
    assert len(data) == 3 * STRIDE
    window = memoryview(ring_record(0) + data)
    values = decode(window, STRIDE)
    assert values == [7, text.decode("utf-8", "surrogateescape")]


def test_discarded_records_are_not_among_the_positions() -> None:
    window = b"".join([ring_record(1), ring_record(2, strides=2, discarded=True), ring_record(3, strides=2)])
    assert list(record_positions(memoryview(window))) == [(0, 1), (3 * STRIDE, 3)]
