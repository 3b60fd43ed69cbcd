"""``-f json``: every message is valid JSON in bpftrace's shape."""

from __future__ import annotations

import io
import json

import pytest

from invivo.events import (
    Address,
    Attached,
    Bucket,
    Complaint,
    Ended,
    EnumValue,
    Event,
    Frame,
    HistogramValue,
    Loss,
    MapSnapshot,
    MapValue,
    Output,
    Printed,
    Row,
    SeriesValue,
    Stack,
    StatsValue,
    Symbol,
    Text,
    Value,
)
from invivo.ir.types import StackMode
from invivo.output.outputs import SinkOptions, open_sink, output_names
from invivo.output.sink import Dialect

HISTOGRAM = HistogramValue((Bucket(None, -1, 1), Bucket(0, 0, 1), Bucket(2, 3, 10)), 0, 12)

MESSAGES: list[tuple[str, Event, str]] = [
    ("attached", Attached(2), '{"type": "attached_probes", "count": 2, "data": {"probes": 2}}'),
    ("printf", Printed('a "b"\n\x01', ()), '{"type": "printf", "data": "a \\"b\\"\\n\\u0001"}'),
    ("value", Row((1, "abc", [2, 3])), '{"type": "value", "data": [1,"abc",[2,3]]}'),
    ("struct", Row({"a": 1, "b": "x"}), '{"type": "value", "data": {"a": 1, "b": "x"}}'),
    ("buffer", Row(b"\x00a"), '{"type": "value", "data": [0,97]}'),
    ("exact", Row(1 << 53), '{"type": "value", "data": 9007199254740992}'),
    ("inexact", Row((1 << 53) + 1), '{"type": "value", "data": "9007199254740993"}'),
    ("largest", Row((1 << 64) - 1), '{"type": "value", "data": "18446744073709551615"}'),
    ("pointer", Row(Address(16)), '{"type": "value", "data": 16}'),
    ("enum", Row(EnumValue(3, "THREE")), '{"type": "value", "data": 3}'),
    ("none", Row(None), '{"type": "value", "data": null}'),
    ("bool", Row(False), '{"type": "value", "data": false}'),
    ("cut", Row(Text("ab")), '{"type": "value", "data": "ab.."}'),
    ("symbol", Row(Symbol(1, "main")), '{"type": "value", "data": "main"}'),
    (
        "stack",
        Row(Stack(True, StackMode.BPFTRACE, (Frame(1, "f", 2, ""),))),
        '{"type": "value", "data": "\\n        f+2\\n"}',
    ),
    ("scalar", MapSnapshot("@x", "map", True, ((None, 1),)), '{"type": "map", "data": {"@x": 1}}'),
    (
        "keyed",
        MapSnapshot("@m", "map", False, (((1, "a b"), 2), (("x y",), 3))),
        '{"type": "map", "data": {"@m": {"1,ab": 2, "xy": 3}}}',
    ),
    (
        "stats",
        MapSnapshot("@s", "stats", True, ((None, StatsValue(2, 3, 6)),)),
        '{"type": "stats", "data": {"@s": {"count": 2, "average": 3, "total": 6}}}',
    ),
    (
        "hist",
        MapSnapshot("@", "hist", True, ((None, HISTOGRAM),)),
        '{"type": "hist", "data": {"@": [{"max": -1, "count": 1},{"min": 0, "max": 0, "count": 1},'
        '{"min": 2, "max": 3, "count": 10}]}}',
    ),
    ("element", MapValue("@m", ("k",), 5), '{"type": "map", "data": {"@m": {"k": 5}}}'),
    ("system", Output("system", "x\n"), '{"type": "syscall", "data": "x\\n"}'),
    ("time", Output("time", "x\n"), '{"type": "time", "data": "x\\n"}'),
    (
        "run time",
        Complaint("WARNING", "m", "stdin", 1, 9, runtime=True),
        '{"type": "runtime_error", "msg": "m", "filename": "stdin", "line": 1, "col": 9}',
    ),
    (
        "errorf",
        Complaint("ERROR", "m", "stdin", 1, 9),
        '{"type": "errorf", "msg": "m", "filename": "stdin", "line": 1, "col": 9}',
    ),
    (
        "helper",
        Complaint("WARNING", "m", "stdin", 1, 9, "map_delete_elem", -2),
        '{"type": "helper_error", "msg": "No such file or directory", '
        '"helper": "map_delete_elem", "retcode": -2, "filename": "stdin", '
        '"line": 1, "col": 9}',
    ),
]


def lines(*events: Event, dialect: Dialect = Dialect.BPFTRACE, quiet: bool = False) -> list[str]:
    out = io.BytesIO()
    sink = open_sink("json", out, io.BytesIO(), dialect, SinkOptions(quiet=quiet))
    for event in events:
        sink.event(event)
    sink.close()
    return out.getvalue().decode().splitlines()


@pytest.mark.parametrize(("event", "line"), [row[1:] for row in MESSAGES], ids=[row[0] for row in MESSAGES])
def test_messages(event: Event, line: str) -> None:
    assert lines(event) == [line]
    json.loads(line)


def test_losses_say_more_in_our_own_dialect() -> None:
    lost = Loss("map-full", "@m", 5, 9)
    assert lines(lost) == []
    assert lines(Loss("ring-full", "", 5, 5)) == ['{"type": "lost_events", "count": 5, "data": {"events": 5}}']
    assert json.loads(lines(lost, dialect=Dialect.INVIVO)[0]) == {
        "type": "lost_events",
        "count": 5,
        "data": {"events": 5},
        "kind": "map-full",
        "subject": "@m",
        "total": 9,
    }


def test_an_empty_keyed_map_and_the_end_say_nothing() -> None:
    assert lines(MapSnapshot("@", "map", False, ()), Ended("exit", 0, ())) == []
    assert lines(Attached(1), quiet=True) == []


def test_a_series_has_its_points() -> None:
    series: Value = SeriesValue(10**9, ((1_700_000_000_000_000_005, 5), (1_700_000_001_000_000_000, None)))
    points = json.loads(lines(Row(series))[0])["data"]
    assert [point["value"] for point in points] == [5]
    assert points[0]["interval_start"].endswith(".000000005")


@pytest.mark.parametrize("code", [*range(0x20), 0x7F, 0x9B])
def test_control_characters_are_escaped(code: int) -> None:
    line = lines(Printed(chr(code), ()))[0]
    assert line.isprintable()
    assert json.loads(line)["data"] == chr(code)


def test_bytes_that_are_not_utf8_pass() -> None:
    out = io.BytesIO()
    sink = open_sink("json", out, io.BytesIO())
    sink.event(Printed(b"\xff".decode("utf-8", "surrogateescape"), ()))
    sink.close()
    assert out.getvalue() == b'{"type": "printf", "data": "\xff"}\n'


def test_the_neighbours_face_has_no_typed_stream() -> None:
    assert output_names(Dialect.BPFTRACE) == ["text", "json"]
    assert output_names(Dialect.INVIVO) == ["text", "json", "ndjson", "parquet"]
    with pytest.raises(KeyError):
        open_sink("ndjson", io.BytesIO(), io.BytesIO(), Dialect.BPFTRACE)
