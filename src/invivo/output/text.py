"""Text for people and pipes, in bpftrace's shapes."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import groupby

from invivo.events import (
    Attached,
    Complaint,
    Ended,
    EntryColumns,
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
    StackColumn,
    Value,
)
from invivo.ir.layout import LossKind
from invivo.output.losses import describe_loss, events_lost
from invivo.output.sink import Buffering, Dialect, Stream, Writer
from invivo.values import ValueText, column_slices, filled


class TextSink:
    """Results on ``stream``; what is said about the session on ``errors``.

    ``escape``: applied to the traced system's text where ``stream`` is a terminal.
    ``errors_escape``: the same for ``errors``.
    """

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
        escape: Callable[[str], str] | None = None,
        errors_escape: Callable[[str], str] | None = None,
    ) -> None:
        self._out = Writer(stream, buffering)
        self._errors = Writer(errors, Buffering.NONE)
        self._buffering = buffering
        self._dialect = dialect
        self._quiet = quiet
        self._warnings = warnings
        self._text = ValueText(trailer, escape)
        self._escape = escape or str
        self._errors_escape = errors_escape or str
        self._as_they_are = {int} if escape is not None else {int, str}
        self._told: set[tuple[str, str]] = set()
        self._at_end = False
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
        for kind, group in groupby(events, type):
            if kind is Printed and self._buffering is not Buffering.NONE:
                self._out.write("".join([event.text for event in group if isinstance(event, Printed)]))
                continue
            write = self._writers[kind]
            for event in group:
                write(event)

    def flush(self) -> None:
        self._out.flush()

    def close(self) -> None:
        self._out.push()

    # -- results -------------------------------------------------------------------------------

    def _printed(self, event: Printed) -> None:
        self._out.write(event.text)

    def _printed_text(self, event: PrintedText) -> None:
        self._out.write_bytes(event.data)

    def _row(self, event: Row) -> None:
        self._out.write(f"{self._text.text(event.value)}\n")

    def _output(self, event: Output) -> None:
        # The content of a file and a command's output have lines of their own.
        keeps_lines = event.kind in ("time", "join")
        self._out.write(event.text if keeps_lines else "\n".join(map(self._escape, event.text.split("\n"))))

    def _map(self, event: MapSnapshot) -> None:
        if event.at_end:
            self._separate()
        self._entries(event)
        if event.entries and not event.at_end:
            self._out.flush()

    def _entries(self, event: MapSnapshot) -> None:
        """Large maps are written column by column: most columns are shown as they are."""
        entries = event.entries
        keys = entries.parts if isinstance(entries, EntryColumns) else None
        is_tuple = keys is not None and len(entries) > 0 and len(keys) == 1 and type(keys[0][0]) is tuple
        if not isinstance(entries, EntryColumns) or event.kind not in ("map", "stats") or not keys or is_tuple:
            for key, value in entries:
                self._out.write(self._entry(event.name, key, value))
            return
        line = f"{event.name}[{', '.join(['%s'] * len(keys))}]: %s\n"
        every = (*keys, entries.values)
        writers: list[Callable[..., Sequence[object]]] = [
            self._text.stacks(column) if isinstance(column, StackColumn) else self._column for column in every
        ]
        for columns in column_slices(every):
            self._out.write(filled(line, [write(column) for write, column in zip(writers, columns, strict=True)]))

    def _column(self, values: Sequence[Value]) -> Sequence[object]:
        return values if set(map(type, values)) <= self._as_they_are else list(map(self._text.text, values))

    def _map_value(self, event: MapValue) -> None:
        self._out.write(self._entry(event.name, event.key, event.value))

    def _entry(self, name: str, key: tuple[Value, ...] | None, value: Value) -> str:
        label = name if key is None else f"{name}[{self._text.key(key)}]"
        if isinstance(value, HistogramValue | SeriesValue):
            has_lines = isinstance(value, HistogramValue) or value.points
            return f"{label}:{self._text.text(value)}\n" + ("\n" if has_lines else "")
        return f"{label}: {self._text.text(value)}\n"

    # -- about the session ---------------------------------------------------------------------

    def _attached(self, event: Attached) -> None:
        if not self._quiet:
            self._say(f"Attached {event.probes} probe{'' if event.probes == 1 else 's'}\n")

    def _complaint(self, event: Complaint) -> None:
        if self._warnings or event.severity != "WARNING":
            self._say(complaint_text(event, self._errors_escape))

    def _loss(self, event: Loss) -> None:
        if self._dialect is Dialect.BPFTRACE:
            if event.kind == LossKind.RING_FULL.value:
                self._say(f"Lost {event.count} events\n")
        elif (event.kind, event.subject) not in self._told:
            self._told.add((event.kind, event.subject))
            told = describe_loss(event.kind, event.subject, event.count, self._errors_escape)
            self._say(f"warning: {told} (told once; the sum follows at the end)\n")

    def _separate(self) -> None:
        """Two newlines stand between what came during the run and the maps at the end."""
        if not self._at_end:
            self._at_end = True
            self._out.write("\n\n")

    def _ended(self, event: Ended) -> None:
        if self._dialect is Dialect.BPFTRACE:
            self._separate()  # bpftrace writes them without maps, too
            if self._warnings and (lost := events_lost(event)):
                self._say(f"WARNING: Total lost event count: {lost}\n")
            return
        for kind, subject, count in event.losses:
            self._say(f"warning: in all {describe_loss(kind, subject, count, self._errors_escape)}\n")

    def _say(self, text: str) -> None:
        # What was printed before must also be seen before, if both go to one terminal.
        self._out.flush()
        self._errors.write(text)


def complaint_text(event: Complaint, escape: Callable[[str], str]) -> str:
    """Return a complaint as bpftrace writes it: place, severity, message; helper; the source underlined."""
    place = f"{event.place}: " if event.place else ""
    lines = f"{place}{event.severity}: {escape(event.message)}\n"
    if event.helper:
        lines += f"Additional Info - helper: {event.helper}, retcode: {event.code}\n"
    shown = event.helper or event.runtime
    lines += event.source if shown else ""
    for origin, source in event.expanded_from:
        lines += f"{origin}: {event.severity}: expanded from\n" + (source if shown else "")
    return lines
