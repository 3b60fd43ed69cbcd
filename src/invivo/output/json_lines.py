"""``-f json``: one JSON object a line, in bpftrace's shapes."""

from __future__ import annotations

import os
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
from invivo.output.losses import describe_loss, events_lost
from invivo.output.sink import Buffering, Dialect, Stream, Writer
from invivo.output.text import complaint_text
from invivo.values import LineForm, ValueText, column_slices, filled


class JsonSink:
    """Messages ``{"type": ..., "data": ...}`` on ``stream``; ``errors`` only for losses at the end."""

    def __init__(
        self,
        stream: Stream,
        errors: Stream,
        dialect: Dialect = Dialect.INVIVO,
        *,
        buffering: Buffering = Buffering.LINE,
        quiet: bool = False,
        warnings: bool = True,
        trailer: str = "..",
        errors_escape: Callable[[str], str] | None = None,
    ) -> None:
        self._warnings = warnings
        self._out = Writer(stream, buffering)
        self._errors = Writer(errors, Buffering.NONE)
        self._dialect = dialect
        self._quiet = quiet
        self._errors_escape = errors_escape or str
        self._values = JsonValues(trailer, dialect)
        self._writers: dict[type, Callable[..., None]] = {
            Printed: self._printed,
            PrintedText: self._printed_text,
            Row: self._row,
            MapSnapshot: self._map,
            MapValue: self._map_value,
            Output: self._output,
            Attached: self._attached,
            Complaint: self._complaint,
            Loss: self._loss,
            Ended: self._ended,
        }

    def open(self) -> None:
        """Nothing comes before the first event."""

    def event(self, event: Event) -> None:
        self._writers[type(event)](event)

    def events(self, events: Sequence[Event]) -> None:
        for event in events:
            self.event(event)

    def flush(self) -> None:
        self._out.flush()

    def close(self) -> None:
        self._out.push()

    def _message(self, kind: str, data: str) -> None:
        self._out.write(f'{{"type": "{kind}", "data": {data}}}\n')

    def _printed(self, event: Printed) -> None:
        self._message("printf", quote(event.text))

    def _printed_text(self, event: PrintedText) -> None:
        self._out.write_bytes(event.data)

    def _row(self, event: Row) -> None:
        self._message("value", self._values.text(event.value))

    def _output(self, event: Output) -> None:
        self._message("syscall" if event.kind == "system" else event.kind, quote(event.text))

    def _attached(self, event: Attached) -> None:
        if not self._quiet:
            count = event.probes
            self._out.write(f'{{"type": "attached_probes", "count": {count}, "data": {{"probes": {count}}}}}\n')

    def _map(self, event: MapSnapshot) -> None:
        if not event.entries:
            return
        values = self._values
        data = values.text(event.entries[0][1]) if event.scalar else f"{{{', '.join(values.members(event.entries))}}}"
        self._message(event.kind, f"{{{quote(event.name)}: {data}}}")

    def _map_value(self, event: MapValue) -> None:
        data = self._values.text(event.value)
        if event.key is not None:
            data = f"{{{quote(self._values.key(event.key))}: {data}}}"
        kind = "stats" if isinstance(event.value, StatsValue) else "map"
        self._message(kind, f"{{{quote(event.name)}: {data}}}")

    def _complaint(self, event: Complaint) -> None:
        if not event.filename:
            # Not from a place in the program: as bpftrace does, for people.
            self._out.flush()
            self._errors.write(complaint_text(event, self._errors_escape))
            return
        place = f'"filename": {quote(event.filename)}, "line": {event.line}, "col": {event.column}'
        if event.helper:
            # Without the words that text has for maps.
            start = f'"type": "helper_error", "msg": {quote(os.strerror(-event.code))}'
            start += f', "helper": {quote(event.helper)}, "retcode": {event.code}'
        else:
            kind = "runtime_error" if event.runtime else "errorf" if event.severity == "ERROR" else "warnf"
            start = f'"type": "{kind}", "msg": {quote(event.message)}'
        self._out.write(f"{{{start}, {place}}}\n")

    def _loss(self, event: Loss) -> None:
        count = event.count
        more = ""
        if self._dialect is Dialect.INVIVO:
            more = f', "kind": {quote(event.kind)}, "subject": {quote(event.subject)}, "total": {event.total}'
        elif event.kind != "ring-full":
            return
        self._out.write(f'{{"type": "lost_events", "count": {count}, "data": {{"events": {count}}}{more}}}\n')

    def _ended(self, event: Ended) -> None:
        self._out.push()
        if self._dialect is Dialect.INVIVO:
            for kind, subject, count in event.losses:
                told = describe_loss(kind, subject, count, self._errors_escape)
                self._errors.write(f"warning: in all {told}\n")
        elif self._warnings and (lost := events_lost(event)):
            self._errors.write(f"WARNING: Total lost event count: {lost}\n")


def line_form(text: ValueText) -> LineForm:
    """What `JsonSink` makes of prints, for many at once."""
    return LineForm(
        ('{"type": "printf", "data": "', '"}\n'),
        ('{"type": "value", "data": ', "}\n"),
        ("[", ",", "]"),
        ("{", ", ", "}"),
        '"%s": ',
        JsonValues(text.trailer).text,
    )


class JsonValues:
    """Values as bpftrace writes them in JSON."""

    def __init__(self, trailer: str = "..", dialect: Dialect = Dialect.INVIVO) -> None:
        self._dialect = dialect
        self._plain = ValueText(trailer)
        self._trailer = trailer
        self._writers: dict[type, Callable[..., str]] = {
            int: exact_number,
            bool: json_bool,
            type(None): json_null,
            str: quote,
            Text: self._cut,
            Address: exact_number,
            EnumValue: exact_number,
            bytes: _bytes,
            tuple: self._array,
            list: self._array,
            dict: self._struct,
            Stack: self._quoted,
            Symbol: self._quoted,
            StatsValue: _stats,
            HistogramValue: _histogram,
            SeriesValue: _series,
        }

    def text(self, value: Value) -> str:
        return self._writers[type(value)](value)

    def key(self, key: tuple[Value, ...]) -> str:
        """A key as text without spaces and outer parentheses; a string as it is, unless bpftrace is asked for."""
        if len(key) == 1 and isinstance(key[0], str) and self._dialect is not Dialect.BPFTRACE:
            return self._plain.text(key[0])
        return self._plain.key(key).replace(" ", "")

    def members(self, entries: Sequence[Entry]) -> Iterator[str]:
        """The entries of a map, some or many at a time."""
        parts = entries.parts if isinstance(entries, EntryColumns) else None
        is_plain = parts and all(set(map(type, part)) == {int} for part in parts)
        if not isinstance(entries, EntryColumns) or not parts or not is_plain:
            for key, value in entries:
                yield f"{quote(self.key(key or ()))}: {self.text(value)}"
            return
        line = f'"{",".join(["%s"] * len(parts))}": %s, '
        for *keys, values in column_slices((*parts, entries.values)):
            yield filled(line, [*keys, json_column(values, self.text)])[: -len(", ")]

    def _array(self, values: tuple[Value, ...] | list[Value]) -> str:
        return f"[{','.join(map(self.text, values))}]"

    def _struct(self, value: dict[str, Value]) -> str:
        return f"{{{', '.join(f'{quote(name)}: {self.text(member)}' for name, member in value.items())}}}"

    def _cut(self, value: Text) -> str:
        return quote(value + self._trailer)

    def _quoted(self, value: Stack | Symbol) -> str:
        return quote(self._plain.text(value))


def _bytes(value: bytes) -> str:
    return f"[{','.join(map(str, value))}]"


def _stats(value: StatsValue) -> str:
    return (
        f'{{"count": {exact_number(value.count)}, "average": {exact_number(value.average)}, '
        f'"total": {exact_number(value.total)}}}'
    )


def _histogram(value: HistogramValue) -> str:
    return f"[{','.join(map(_bucket, value.buckets))}]"


def _series(value: SeriesValue) -> str:
    return f"[{','.join(_point(start_ns, point) for start_ns, point in value.points if point is not None)}]"


def _bucket(bucket: Bucket) -> str:
    low = "" if bucket.low is None else f'"min": {bucket.low}, '
    high = "" if bucket.high is None else f'"max": {bucket.high}, '
    return f'{{{low}{high}"count": {bucket.count}}}'


def _point(start_ns: int, value: int) -> str:
    import time  # only time series need it

    clock = time.strftime("%Y-%m-%dT%H:%M:%S", time.localtime(start_ns // 10**9))
    return f'{{"interval_start":"{clock}.{start_ns % 10**9:09}","value":{value}}}'
