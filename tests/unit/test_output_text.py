"""Text output: bpftrace's shapes, losses told, control characters never raw."""

from __future__ import annotations

import io
import time

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
from invivo.output.outputs import SinkOptions, open_sink
from invivo.output.sink import Buffering, Dialect
from invivo.output.terminal import display
from invivo.values import ValueText


def shown(*events: Event, dialect: Dialect = Dialect.INVIVO, options: SinkOptions | None = None) -> tuple[str, str]:
    out, errors = io.BytesIO(), io.BytesIO()
    sink = open_sink("text", out, errors, dialect, options)
    for event in events:
        sink.event(event)
    sink.close()
    return out.getvalue().decode("utf-8", "surrogateescape"), errors.getvalue().decode()


FRAMES = (
    Frame(0xFFFF_0010, "vfs_read", 16, "[kernel]"),
    Frame(0x7F00_1234, "", 0, "/lib/x.so"),
)

VALUES: list[tuple[str, Value, str]] = [
    ("int", -5, "-5"),
    ("bool", True, "true"),
    ("string", 'a "b"', 'a "b"'),
    ("cut-string", Text("abc"), "abc.."),
    ("pointer", Address(0xDEAD), "0xdead"),
    ("enum", EnumValue(1, "ONE"), "ONE"),
    ("enum-unknown", EnumValue(7, None), "7"),
    ("buffer", b"\x00a\\b\xff", "\\x00a\\b\\xff"),
    ("array", [1, 2, 3], "[1,2,3]"),
    ("tuple", (1, "abc", (2, 3)), "(1, abc, (2, 3))"),
    ("struct", {"a": 1, "b": "x"}, "{ .a = 1, .b = x }"),
    ("empty-struct", {}, "{}"),
    ("stats", StatsValue(2, 3, 6), "{ .count = 2, .average = 3, .total = 6 }"),
    ("symbol", Symbol(0x10, "main"), "main"),
    ("symbol-unknown", Symbol(0x10, ""), "0x10"),
    ("none", None, "null"),
    ("stack", Stack(True, StackMode.BPFTRACE, FRAMES), "\n        vfs_read+16\n        0x7f001234\n"),
    (
        "perf",
        Stack(True, StackMode.PERF, FRAMES),
        "\n\tffff0010 vfs_read+16 ([kernel])\n\t7f001234 [unknown] (/lib/x.so)\n",
    ),
    ("raw", Stack(True, StackMode.RAW, FRAMES), "\nffff0010\n7f001234\n"),
    ("no-series", SeriesValue(10, ()), "\n<no data>"),
    ("empty-histogram", HistogramValue((), 0, 0), ""),
]


_START_NS = 1_700_000_000 * 10**9
_HOUR = time.strftime("%H:%M:%S", time.localtime(1_700_000_000))


@pytest.mark.parametrize(
    ("interval_ns", "header", "clock"),
    [
        (10**9, "hh:mm:ss ", f"{_HOUR} "),
        (5 * 10**7, "hh:mm:ss.ms  ", f"{_HOUR}.000 "),
        (1_500_000_000, "hh:mm:ss ", f"{_HOUR} "),
        (20_000, "hh:mm:ss.us     ", f"{_HOUR}.000000 "),
        (3, "hh:mm:ss.ns        ", f"{_HOUR}.000000000 "),
    ],
)
def test_a_series_tells_its_intervals_apart(interval_ns: int, header: str, clock: str) -> None:
    points = ((_START_NS, 7), (_START_NS + interval_ns, None))
    lines = ValueText().text(SeriesValue(interval_ns, points)).split("\n")
    margin = " " * len(header)
    assert lines[:4] + lines[5:] == [
        "",
        f"{margin}6{' ' * 51}8",
        f"{header}|{'_' * 51}|",
        f"{clock}|{' ' * 25}*{' ' * 25}| 7",
        f"{margin}v{'_' * 51}v",
        f"{margin}6{' ' * 51}8",
    ]


def test_a_series_is_drawn_between_its_least_and_its_greatest_value() -> None:
    points = ((_START_NS, -5), (_START_NS + 1, -4), (_START_NS + 2, None), (_START_NS + 3, 0), (_START_NS + 4, 5))
    drawn = [line[19:] for line in ValueText().text(SeriesValue(1, points)).split("\n")[3:8]]
    assert drawn == [
        "*                         .                         | -5",
        "|    *                    .                         | -4",
        "|                         .                         | -",
        "|                         *                         | 0",
        "|                         .                         * 5",
    ]


@pytest.mark.parametrize(("value", "text"), [row[1:] for row in VALUES], ids=[row[0] for row in VALUES])
def test_values(value: Value, text: str) -> None:
    assert ValueText().text(value) == text


def test_results_go_to_the_stream_and_the_rest_to_errors() -> None:
    out, errors = shown(
        Attached(2),
        Printed("hello 1\n", (1,)),
        Row((1, "a")),
        MapValue("@m", (1, "k"), 5),
        MapValue("@x", None, 6),
        Output("time", "12:00:00\n"),
        Ended("exit", 0, ()),
    )
    assert out == "hello 1\n(1, a)\n@m[1, k]: 5\n@x: 6\n12:00:00\n"
    assert errors == "Attached 2 probes\n"


def test_one_probe_is_singular_and_quiet_says_nothing() -> None:
    assert shown(Attached(1)) == ("", "Attached 1 probe\n")
    assert shown(Attached(1), options=SinkOptions(quiet=True)) == ("", "")


def test_maps_at_the_end_come_after_two_newlines() -> None:
    out, _ = shown(
        MapSnapshot("@a", "map", True, ((None, 3),), at_end=True),
        MapSnapshot("@b", "map", False, (), at_end=True),
        MapSnapshot("@c", "map", False, (((1, "abc"), 2), ((4, Text("d")), 6)), at_end=True),
        MapSnapshot("@d", "map", False, ((((4, 5),), 6),), at_end=True),
    )
    assert out == "\n\n@a: 3\n@c[1, abc]: 2\n@c[4, d..]: 6\n@d[4, 5]: 6\n"


def test_the_neighbour_s_two_newlines_come_without_maps_too() -> None:
    events = (Printed("x\n", ()), Ended("exit", 0, ()))
    assert shown(*events, dialect=Dialect.BPFTRACE)[0] == "x\n\n\n"
    assert shown(*events)[0] == "x\n"
    at_end = MapSnapshot("@a", "map", True, ((None, 3),), at_end=True)
    assert shown(at_end, Ended("exit", 0, ()), dialect=Dialect.BPFTRACE)[0] == "\n\n@a: 3\n"


def test_a_map_that_is_printed_has_no_newlines_before_it() -> None:
    assert shown(MapSnapshot("@a", "map", False, ((("x",), 3),)))[0] == "@a[x]: 3\n"


def test_a_stack_as_key() -> None:
    stack = Stack(True, StackMode.BPFTRACE, (Frame(1, "a", 1, ""), Frame(2, "b", 2, "")))
    assert shown(MapSnapshot("@", "map", False, (((stack,), 5),)))[0] == "@[\n        a+1\n        b+2\n]: 5\n"


def test_histogram() -> None:
    value = HistogramValue((Bucket(0, 0, 1), Bucket(1, 1, 2), Bucket(2, 3, 10)), 0, 13)
    assert shown(MapSnapshot("@", "hist", True, ((None, value),)))[0] == (
        "@:\n"
        "[0]                    1 |@@@@@                                               |\n"
        "[1]                    2 |@@@@@@@@@@                                          |\n"
        "[2, 4)                10 |@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@|\n"
        "\n"
    )


BUCKETS = [
    (Bucket(None, -1, 1), 0, "(..., 0)"),
    (Bucket(512, 1023, 1), 0, "[512, 1K)"),
    (Bucket(1 << 20, (1 << 21) - 1, 1), 0, "[1M, 2M)"),
    (Bucket(1 << 62, (1 << 63) - 1, 1), 0, "[4E, 8E)"),
    (Bucket(None, 9, 1), 10, "(..., 10)"),
    (Bucket(100, None, 1), 10, "[100, ...)"),
    (Bucket(5, 5, 1), 1, "[5]"),
    (Bucket(10, 19, 1), 10, "[10, 20)"),
    (Bucket(0, 1023, 1), 1024, "[0, 1K)"),
    (Bucket(1 << 20, (1 << 20) + 1023, 1), 1024, "[1M, 1025K)"),
]


@pytest.mark.parametrize(("bucket", "step", "label"), BUCKETS, ids=[row[2] for row in BUCKETS])
def test_bucket_labels(bucket: Bucket, step: int, label: str) -> None:
    value = HistogramValue((bucket,), step, 1)
    assert ValueText().text(value).startswith(f"\n{label:<16}       1 |@")


def test_losses_are_told_once_and_summed_up() -> None:
    events = (Loss("ring-full", "", 5, 5), Loss("ring-full", "", 2, 7), Ended("exit", 0, (("ring-full", "", 7),)))
    _, errors = shown(*events)
    assert errors.splitlines() == [
        "warning: 5 events lost: the ring buffer was full or busy (told once; the sum follows at the end)",
        "warning: in all 7 events lost: the ring buffer was full or busy",
    ]
    assert shown(*events, dialect=Dialect.BPFTRACE)[1] == (
        "Lost 5 events\nLost 2 events\nWARNING: Total lost event count: 7\n"
    )


def test_a_failed_helper_is_shown_with_its_source() -> None:
    complaint = Complaint(
        "WARNING", "no such key", "stdin", 1, 20, "map_delete_elem", -2, "delete(@b);\n~~~~~~~~~~\n", "stdin:1:20-32"
    )
    assert shown(complaint)[1] == (
        "stdin:1:20-32: WARNING: no such key\n"
        "Additional Info - helper: map_delete_elem, retcode: -2\n"
        "delete(@b);\n~~~~~~~~~~\n"
    )
    assert shown(Complaint("ERROR", "bad", "stdin", 1, 2, place="stdin:1:2-3"))[1] == "stdin:1:2-3: ERROR: bad\n"


def test_what_went_wrong_in_a_macro_shows_the_calls() -> None:
    place, source = "stdin:1:2-3", "abc\n ~\n"
    calls = (("stdin:2:1-4", "def\n~~~\n"),)
    told = Complaint("WARNING", "odd", "stdin", 1, 2, source=source, place=place, expanded_from=calls)
    assert shown(told)[1] == f"{place}: WARNING: odd\nstdin:2:1-4: WARNING: expanded from\n"
    wrong = Complaint("WARNING", "odd", "stdin", 1, 2, source=source, place=place, expanded_from=calls, runtime=True)
    assert shown(wrong)[1] == f"{place}: WARNING: odd\n{source}stdin:2:1-4: WARNING: expanded from\ndef\n~~~\n"


EVIL = "a\x1b]0;title\x07\x9b31m\x7f\n\r\t\u202e\udcff b"


def test_control_characters_never_reach_a_terminal_raw() -> None:
    out, _ = shown(
        Row(EVIL),
        Row({"s": (EVIL, [EVIL])}),
        MapSnapshot("@", "map", False, (((EVIL,), EVIL),)),
        Output("cat", EVIL),
        options=SinkOptions(terminal=True),
    )
    allowed = {"\n"}
    assert not [c for c in out if (not c.isprintable() and c not in allowed)]
    assert out.startswith("a\\x1b]0;title\\x07\\x9b31m\\x7f\\n\\r\\t\\u202e\\xff b\n")


def test_bytes_pass_unchanged_to_a_file() -> None:
    data = b"\x1b[31m \xff\xfe \xc3\xa9\n"
    out = io.BytesIO()
    sink = open_sink("text", out, io.BytesIO())
    sink.event(Printed(data.decode("utf-8", "surrogateescape"), ()))
    sink.close()
    assert out.getvalue() == data


def test_display_keeps_what_is_harmless() -> None:
    assert display("grüße, 世界") == "grüße, 世界"


class Writes:
    """A stream that remembers each write."""

    def __init__(self) -> None:
        self.pieces: list[bytes] = []

    def write(self, data: bytes | bytearray, /) -> int:
        self.pieces.append(bytes(data))
        return len(data)

    def flush(self) -> None:
        """Nothing is held back."""


@pytest.mark.parametrize(
    ("buffering", "after_events", "after_flush"),
    [
        (Buffering.NONE, [b"1", b"2"], [b"1", b"2"]),
        (Buffering.LINE, [], [b"12"]),
        (Buffering.FULL, [], []),
    ],
)
def test_buffering(buffering: Buffering, after_events: list[bytes], after_flush: list[bytes]) -> None:
    stream = Writes()
    sink = open_sink("text", stream, io.BytesIO(), Dialect.INVIVO, SinkOptions(buffering=buffering))
    sink.event(Printed("1", ()))
    sink.event(Printed("2", ()))
    assert stream.pieces == after_events
    sink.flush()
    assert stream.pieces == after_flush
    sink.close()
    assert b"".join(stream.pieces) == b"12"


@pytest.mark.parametrize("buffering", [*Buffering])
def test_many_events_at_once_are_the_same_as_one_by_one(buffering: Buffering) -> None:
    events: list[Event] = [Attached(1), *(Printed(f"{i}\n", (i,)) for i in range(3)), Row(1), Printed("x", ())]
    options = SinkOptions(buffering=buffering)
    stream = Writes()
    sink = open_sink("text", stream, io.BytesIO(), Dialect.INVIVO, options)
    sink.events(events)
    sink.close()
    assert b"".join(stream.pieces).decode() == shown(*events, options=options)[0] == "0\n1\n2\n1\nx"
    assert len(stream.pieces) == (5 if buffering is Buffering.NONE else 1)


def test_what_was_printed_is_written_before_a_complaint() -> None:
    stream = Writes()
    sink = open_sink("text", stream, stream)
    sink.event(Printed("first\n", ()))
    sink.event(Complaint("ERROR", "second", "", 0, 0))
    sink.close()
    assert stream.pieces == [b"first\n", b"ERROR: second\n"]
