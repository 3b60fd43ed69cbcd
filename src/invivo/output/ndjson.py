"""``-f ndjson``: invivo's own typed stream. A header, one object for each event, a trailer.

The schema is described in ``docs/events.md``.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

from invivo.events import (
    Address,
    Attached,
    Bucket,
    Complaint,
    Ended,
    Entry,
    EntryColumns,
    EnumValue,
    Event,
    Frame,
    HistogramValue,
    Loss,
    MapSnapshot,
    MapValue,
    Output,
    Printed,
    PrintedText,
    Row,
    SeriesValue,
    Stack,
    StatsValue,
    Symbol,
    Text,
    Value,
)
from invivo.json_text import exact_number, json_bool, json_column, json_null, quote
from invivo.output.sink import Buffering, Header, Stream, Writer
from invivo.values import LineForm, ValueText, column_slices, filled

SCHEMA = 1


class EventSink:
    """One JSON object a line; the values keep their types."""

    def __init__(self, stream: Stream, header: Header, *, buffering: Buffering = Buffering.LINE) -> None:
        self._out = Writer(stream, buffering)
        self._header = header
        self._writers: dict[type, tuple[str, Callable[..., str]]] = {
            Attached: ("attached", _attached),
            Printed: ("printf", self._printed),
            Row: ("value", _row),
            MapSnapshot: ("map", _map),
            MapValue: ("map_value", _map_value),
            Output: ("output", _output),
            Complaint: ("complaint", _complaint),
            Loss: ("loss", _loss),
        }
        self._counts = {kind: 0 for kind, _ in self._writers.values()}

    def open(self) -> None:
        import time  # the header is written once

        header = self._header
        sources = ",".join(f'{{"name":{quote(name)},"text":{json_value(text)}}}' for name, text in header.sources)
        arguments = ",".join(map(json_value, header.arguments))
        started_ns = time.time_ns()
        boot_ns = time.clock_gettime_ns(time.CLOCK_BOOTTIME)
        self._out.write(
            f'{{"type":"header","schema":{SCHEMA},"invivo":{quote(header.version)},"kernel":{quote(header.kernel)},'
            f'"clock":{{"name":"boot","boot_ns":"{boot_ns}","wall_ns":"{started_ns}"}},'
            f'"sources":[{sources}],"arguments":[{arguments}]}}\n'
        )

    def event(self, event: Event) -> None:
        if isinstance(event, Ended):
            self._trailer(event)
            return
        if isinstance(event, PrintedText):
            self._counts["printf"] += event.printed
            self._counts["value"] += event.rows
            self._out.write_bytes(event.data)
            return
        kind, write = self._writers[type(event)]
        self._counts[kind] += 1
        self._out.write(f'{{"type":"{kind}",{write(event)}}}\n')

    def events(self, events: Sequence[Event]) -> None:
        for event in events:
            self.event(event)

    def flush(self) -> None:
        self._out.flush()

    def close(self) -> None:
        self._out.push()

    def _printed(self, event: Printed) -> str:
        return f'"text":{json_value(str(event.text))},"values":{_list(event.values)}{_incomplete(event)}'

    def _trailer(self, event: Ended) -> None:
        losses = ",".join(
            f'{{"kind":{quote(kind)},"subject":{json_value(subject)},"count":{exact_number(count)}}}'
            for kind, subject, count in event.losses
        )
        counts = ",".join(f"{quote(kind)}:{count}" for kind, count in self._counts.items() if count)
        self._out.write(
            f'{{"type":"end","reason":{quote(event.reason)},"status":{event.status},'
            f'"losses":[{losses}],"counts":{{{counts}}}}}\n'
        )
        self._out.push()


def line_form(text: ValueText) -> LineForm:
    """What `EventSink` makes of prints, for many at once. Text that is not UTF-8 cannot be written in parts."""
    return LineForm(
        ('{"type":"printf","text":"', '","values":[', "]}\n"),
        ('{"type":"value","value":', "}\n"),
        ("[", ",", "]"),
        ('{"struct":{', ",", "}}"),
        '"%s":',
        json_value,
        errors="strict",
    )


def json_value(value: Value) -> str:
    """Return a value with its type; see ``docs/events.md``."""
    return _VALUES[type(value)](value)


def _text(value: str) -> str:
    """A string; bytes that are not UTF-8 cannot be in one."""
    try:
        value.encode()
    except UnicodeEncodeError:
        return _base64(value.encode("utf-8", "surrogateescape"))
    return quote(value)


def _cut(value: Text) -> str:
    return f'{{"text":{_text(value)},"truncated":true}}'


def _address(value: Address) -> str:
    return f'{{"address":"{int(value):#x}"}}'


def _base64(data: bytes) -> str:
    import binascii  # only where there are bytes

    return f'{{"b64":"{binascii.b2a_base64(data, newline=False).decode()}"}}'


def _list(values: tuple[Value, ...] | list[Value]) -> str:
    return f"[{','.join(map(json_value, values))}]"


def _struct(value: dict[str, Value]) -> str:
    members = ",".join(f"{quote(name)}:{json_value(member)}" for name, member in value.items())
    return f'{{"struct":{{{members}}}}}'


def _enum(value: EnumValue) -> str:
    name = "null" if value.name is None else quote(value.name)
    return f'{{"enum":{name},"value":{exact_number(value)}}}'


def _frame(frame: Frame) -> str:
    return (
        f'{{"address":"{frame.address:#x}","symbol":{_text(frame.symbol)},"offset":{exact_number(frame.offset)},'
        f'"module":{_text(frame.module)}}}'
    )


def _symbol(symbol: Symbol) -> str:
    return f'{{"address":"{symbol.address:#x}","symbol":{_text(symbol.name)}}}'


def _stack(stack: Stack) -> str:
    space = "kernel" if stack.kernel else "user"
    end = "" if stack.complete else ',"truncated":true'
    return f'{{"stack":"{space}","frames":[{",".join(map(_frame, stack.frames))}]{end}}}'


def _bucket(bucket: Bucket) -> str:
    low = "null" if bucket.low is None else exact_number(bucket.low)
    high = "null" if bucket.high is None else exact_number(bucket.high)
    return f'{{"min":{low},"max":{high},"count":{exact_number(bucket.count)}}}'


def _histogram(value: HistogramValue) -> str:
    step = f'"step":{value.linear_step},' if value.linear_step else ""
    buckets = ",".join(map(_bucket, value.buckets))
    return f'{{{step}"total":{exact_number(value.total)},"buckets":[{buckets}]}}'


def _stats(value: StatsValue) -> str:
    return (
        f'{{"count":{exact_number(value.count)},"average":{exact_number(value.average)},'
        f'"total":{exact_number(value.total)}}}'
    )


def _series(value: SeriesValue) -> str:
    points = ",".join(
        f'{{"start_ns":"{start_ns}","value":{"null" if point is None else exact_number(point)}}}'
        for start_ns, point in value.points
    )
    return f'{{"interval_ns":{exact_number(value.interval_ns)},"points":[{points}]}}'


_VALUES: dict[type, Callable[..., str]] = {
    int: exact_number,
    bool: json_bool,
    type(None): json_null,
    str: _text,
    Text: _cut,
    Address: _address,
    EnumValue: _enum,
    bytes: _base64,
    tuple: _list,
    list: _list,
    dict: _struct,
    Stack: _stack,
    Symbol: _symbol,
    StatsValue: _stats,
    HistogramValue: _histogram,
    SeriesValue: _series,
}


def _attached(event: Attached) -> str:
    return f'"probes":{event.probes}'


def _row(event: Row) -> str:
    return f'"value":{json_value(event.value)}{_incomplete(event)}'


def _output(event: Output) -> str:
    return f'"kind":{quote(event.kind)},"text":{json_value(event.text)}'


def _incomplete(event: Printed | Row) -> str:
    return ',"incomplete":true' if event.incomplete else ""


def _key(key: tuple[Value, ...] | None) -> str:
    return "null" if key is None else _list(key)


def _map(event: MapSnapshot) -> str:
    entries = ",".join(_entries(event.entries))
    scalar = "true" if event.scalar else "false"
    at_end = "true" if event.at_end else "false"
    return (
        f'"name":{quote(event.name)},"kind":{quote(event.kind)},"scalar":{scalar},"at_end":{at_end},'
        f'"entries":[{entries}]'
    )


def _entries(entries: Sequence[Entry]) -> Iterator[str]:
    """The entries of a map, many at a time."""
    if not isinstance(entries, EntryColumns) or not entries.parts or not entries:
        for key, value in entries:
            yield f'{{"key":{_key(key)},"value":{json_value(value)}}}'
        return
    line = f'{{"key":[{",".join(["%s"] * len(entries.parts))}],"value":%s}},'
    for columns in column_slices((*entries.parts, entries.values)):
        yield filled(line, [json_column(column, json_value) for column in columns])[:-1]


def _map_value(event: MapValue) -> str:
    return f'"name":{quote(event.name)},"key":{_key(event.key)},"value":{json_value(event.value)}'


def _complaint(event: Complaint) -> str:
    helper = f',"helper":{quote(event.helper)},"code":{event.code}' if event.helper else ""
    return (
        f'"severity":{quote(event.severity)},"message":{json_value(event.message)},"file":{json_value(event.filename)},'
        f'"line":{event.line},"column":{event.column}{helper}'
    )


def _loss(event: Loss) -> str:
    return (
        f'"kind":{quote(event.kind)},"subject":{json_value(event.subject)},"count":{exact_number(event.count)},'
        f'"total":{exact_number(event.total)}'
    )
