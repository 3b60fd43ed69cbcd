"""What each record asks the runtime to do, in the program's order."""

from __future__ import annotations

import gc
import os
from collections.abc import Callable, Mapping
from errno import E2BIG, ENOENT
from itertools import groupby
from typing import Protocol, assert_never

from invivo.diagnostics import Span
from invivo.events import Complaint, Event, MapValue, Output, Printed, Row, Value
from invivo.ir import layout as kinds
from invivo.ir.format import Format
from invivo.ir.layout import RECORD_READ_FAILED, Layout, RecordLayout
from invivo.runtime.clocks import format_now
from invivo.runtime.commands import file_start, shell_output
from invivo.runtime.decode import Names
from invivo.runtime.formatting import Formatter, compile_format
from invivo.runtime.mapread import MapReader
from invivo.runtime.records import (
    DISCARDED,
    HEADER,
    HEADER_BYTES,
    LENGTH,
    Columns,
    record_decoders,
    record_positions,
)
from invivo.values import LineForm, ValueText

Act = Callable[[list[Value], int], Event | None]
Bulk = Callable[[memoryview], "list[Event] | None"]

_MANY = 128  # records in a window that are worth numpy when it is there
_VERY_MANY = 1024  # records in a window, or
_ALL = 20_000  # records in such windows so far, that are worth importing it, which takes 80 ms
_RUN = 16  # records of one kind in a row that are worth being read by columns


class Vectors(Protocol):
    """Many records at once: `runtime.vector`, which is imported when there is work for it."""

    def runs(self, window: memoryview) -> list[tuple[int, int]]: ...

    def events(self, window: memoryview) -> list[Event] | None: ...


class Actions:
    """Handles windows of the ring: decodes the records and does what they ask for.

    ``exit_code`` is None until a record of `layout.Exit` came by; what follows it is left alone.
    """

    def __init__(
        self,
        layout: Layout,
        maps: Mapping[str, MapReader],
        names: Names,
        text: ValueText,
        *,
        bpftrace: bool = False,
        lines: LineForm | None = None,
        tables: bool = False,
    ) -> None:
        """``lines``: many prints may come as one `PrintedText` in this form; ``tables``: their values as tables."""
        self.exit_code: int | None = None
        self.unwatched: list[int] = []  # addresses whose watchpoints the session has to detach
        self._layout = layout
        self._maps = maps
        self._text = text
        self._bpftrace = bpftrace
        self._names = names
        self._decoders = record_decoders(layout, names)
        self._packet_files: set[str] = set()  # that have packets of this session
        self._acts = [self._act(record) for record in layout.records]
        self._bulk = self._bulks()
        shown = (kinds.Printf, kinds.PrintValue)
        self._lines = lines
        self._prints = any(isinstance(record.action, shown) for record in layout.records)
        self._vectors: Vectors | None = None
        self._least_bytes = _MANY * layout.stride
        if tables:
            from invivo.runtime.vector.columns import VectorColumns

            self._vectors, self._least_bytes = VectorColumns(layout, names), 1
        self._seen = 0  # records that came together
        self._position = 0
        self._pairs = _Pairs(layout)

    def handle(self, window: memoryview) -> list[Event]:
        """Do what the records of a window ask for, and return the events that come of it."""
        self._pairs.look(window)
        vector = self._vectors
        if vector is None or len(window) < self._least_bytes:
            return self._handle_part(window, 0, len(window))
        events: list[Event] = []
        done = 0
        for start, end in vector.runs(window):
            events += self._handle_part(window, done, start)
            if self.exit_code is not None:
                return events
            made = _undistracted(vector.events, window[start:end])
            events += self._handle_part(window, start, end) if made is None else made
            done = end
        return events + self._handle_part(window, done, len(window))

    def wants_speed(self, size_bytes: int) -> bool:
        """Whether a window of this size is the one from which on `speed_up` is worth its time."""
        records = size_bytes // self._layout.stride if self._prints and self._vectors is None else 0
        if records < _MANY:
            return False
        self._seen += records
        return records >= _VERY_MANY or self._seen >= _ALL

    def speed_up(self) -> None:
        """Make the fast way ready, which takes a tenth of a second; another thread may do it."""
        if self._lines is None:
            from invivo.runtime.vector.events import VectorEvents

            self._vectors = VectorEvents(self._layout, self._names, self._text, bpftrace=self._bpftrace)
        else:
            from invivo.runtime.vector.text import VectorText

            self._vectors = VectorText(self._layout, self._names, self._text, self._lines, bpftrace=self._bpftrace)

    @property
    def pairs_records(self) -> bool:
        """Whether `wants_more` can ever be true."""
        return self._pairs.active

    def _handle_part(self, window: memoryview, position: int, end: int) -> list[Event]:
        events: list[Event] = []
        decoders, acts, unpack_from = self._decoders, self._acts, HEADER.unpack_from
        word: int
        record: int
        flags: int
        runs = self._runs(window, position, end)
        while position < end:
            if position in runs and (made := self._handle_run(window, position, runs[position])) is not None:
                events += made
                position = runs[position]
                continue
            word, record, flags = unpack_from(window, position)
            if not word & DISCARDED:
                values = decoders[record](window, position)
                self._position = position
                event = acts[record](values, flags)
                if event is not None:
                    events.append(event)
                if self.exit_code is not None:
                    break
            position += (word & LENGTH) + 15 & ~7
        return events

    def _bulks(self) -> dict[int, Bulk]:
        """How records are handled many at a time, for those kinds that are sent at high rates."""
        if any(record.strides > 1 for record in self._layout.records):
            return {}
        return {
            record.id: self._printf_bulk(record, record.action.format)
            for record in self._layout.records
            if isinstance(record.action, kinds.Printf) and record.fields
        }

    def _runs(self, window: memoryview, start: int, end: int) -> dict[int, int]:
        """Return where runs of equal, plain records begin and end."""
        stride = self._layout.stride
        found: dict[int, int] = {}
        if not self._bulk or end - start < _RUN * stride:
            return found
        words = window[start:end].cast("I")
        heads, records = words[0 :: stride // 4].tolist(), words[2 :: stride // 4].tolist()
        plain = stride - HEADER_BYTES
        first = 0
        for record, group in groupby(records):
            length = len(list(group))
            is_worth_it = length >= _RUN and record in self._bulk
            if is_worth_it and heads[first : first + length].count(plain) == length:
                found[start + first * stride] = start + (first + length) * stride
            first += length
        return found

    def _handle_run(self, window: memoryview, start: int, end: int) -> list[Event] | None:
        record = HEADER.unpack_from(window, start)[1]
        return _undistracted(self._bulk[record], window[start:end])

    def wants_more(self, window: memoryview) -> bool:
        """Whether a window ends after a ``print`` whose ``clear`` may be about to be committed."""
        return self._pairs.is_open(window)

    # -- one function for each kind of action; called once a record's layout ---------------------

    def _act(self, record: RecordLayout) -> Act:
        action = record.action
        match action:
            case kinds.Printf(form):
                return self._printf(record, form)
            case kinds.PrintValue():
                return lambda values, flags: Row(values[0], bool(flags & RECORD_READ_FAILED))
            case kinds.PrintMapValue(name):
                return self._print_map_value(record, name)
            case kinds.PrintMap() | kinds.ClearMap() | kinds.ZeroMap():
                return self._map_action(action)
            case kinds.PrintTime(clock_form):
                return lambda values, flags: Output("time", format_now(clock_form))
            case kinds.Cat(form):
                return self._cat(form, record.span)
            case kinds.System(form):
                return self._system(form, record.span)
            case kinds.Join(separator):
                return lambda values, flags: Output("join", self._joined(separator, values))
            case kinds.Exit():
                return self._exit
            case kinds.Unwatch():
                return self._unwatch
            case kinds.WritePacket(path):
                return self._write_packet(path)
            case kinds.Complain(form, span, severity, runtime):
                return self._complain(form, span, severity, runtime=runtime)
            case kinds.HelperFailed():
                return self._helper_failed
            case _:
                assert_never(action)

    def _printf_bulk(self, record: RecordLayout, form: Format) -> Bulk:
        formatter = self._formatter(record, form)
        columns = Columns(record, self._layout.stride, formatter.converts, self._names)
        write = formatter.template.__mod__

        def bulk(window: memoryview) -> list[Event] | None:
            rows = columns.read(window)
            if rows is None:
                return None
            values, shown = rows
            return list(map(Printed, map(write, shown), values))

        return bulk

    def _formatter(self, record: RecordLayout, form: Format) -> Formatter:
        return compile_format(form, self._text, [field.type for field in record.fields], bpftrace=self._bpftrace)

    def _printf(self, record: RecordLayout, form: Format) -> Act:
        write = self._formatter(record, form).write
        return lambda values, flags: Printed(write(values), tuple(values), bool(flags & RECORD_READ_FAILED))

    def _print_map_value(self, record: RecordLayout, name: str) -> Act:
        parts = self._maps[name].layout.key
        labels = [field.name for field in record.fields]
        value_at = labels.index("value")
        if parts is None or "key" not in labels:
            return lambda values, flags: MapValue(name, None, values[value_at])
        key_at = labels.index("key")
        if len(parts) == 1:
            return lambda values, flags: MapValue(name, (values[key_at],), values[value_at])

        def act(values: list[Value], flags: int) -> Event:
            key = values[key_at]
            assert isinstance(key, tuple)
            return MapValue(name, key, values[value_at])

        return act

    def _map_action(self, action: kinds.PrintMap | kinds.ClearMap | kinds.ZeroMap) -> Act:
        reader = self._maps[action.map]
        match action:
            case kinds.PrintMap(_, top, divisor):
                return lambda values, flags: reader.snapshot(top, divisor, take=self._position in self._pairs.taken)
            case kinds.ClearMap():
                return lambda values, flags: None if self._position in self._pairs.cleared else reader.clear()
            case kinds.ZeroMap():
                return lambda values, flags: reader.zero()
            case _:
                assert_never(action)

    def _cat(self, form: Format, span: Span | None) -> Act:
        write = compile_format(form, ValueText(trailer=""), bpftrace=self._bpftrace).write

        def act(values: list[Value], flags: int) -> Event:
            path = write(values)
            try:
                content = file_start(path, self._layout.settings.max_cat_bytes)
            except (OSError, ValueError) as problem:
                place = None if self._bpftrace else span
                return complaint("ERROR", f"failed to open file '{path}': {_reason(problem)}", place)
            return Output("cat", content)

        return act

    def _system(self, form: Format, span: Span | None) -> Act:
        write = compile_format(form, ValueText(trailer=""), bpftrace=self._bpftrace).write

        def act(values: list[Value], flags: int) -> Event:
            try:
                return Output("system", shell_output(write(values)))
            except (OSError, ValueError) as problem:
                return complaint("ERROR", f"failed to run a command: {_reason(problem)}", span)

        return act

    def _joined(self, separator: str, values: list[Value]) -> str:
        count = values[0]
        assert isinstance(count, int)
        return separator.join(map(self._text.text, values[1 : 1 + count])) + "\n"

    def _exit(self, values: list[Value], flags: int) -> None:
        code = values[0]
        assert isinstance(code, int)
        self.exit_code = code

    def _unwatch(self, values: list[Value], flags: int) -> None:
        address = values[0]
        assert isinstance(address, int)
        self.unwatched.append(address)

    def _write_packet(self, path: str) -> Act:
        from invivo.runtime.packets import write_packet  # few programs do

        def act(values: list[Value], flags: int) -> Event | None:
            time_ns, length, data = values
            assert isinstance(time_ns, int) and isinstance(length, int) and isinstance(data, bytes)
            try:
                write_packet(path, self._packet_files, time_ns, length, data)
            except OSError as problem:
                return complaint("ERROR", f"failed to write a packet to '{path}': {_reason(problem)}", None)
            return None

        return act

    def _complain(self, form: Format, span: Span | None, severity: str, *, runtime: bool) -> Act:
        write = compile_format(form, self._text, bpftrace=self._bpftrace).write
        return lambda values, flags: complaint(severity, write(values), span, runtime=runtime)

    def _helper_failed(self, values: list[Value], flags: int) -> Event:
        index, code = values
        assert isinstance(index, int)
        assert isinstance(code, int)
        site = self._layout.sites[index]
        message = _FAILURES.get((site.helper, -code)) or site.message or os.strerror(-code)
        return complaint("WARNING", message, site.span, site.helper, code)


def _undistracted(make: Bulk, window: memoryview) -> list[Event] | None:
    """Make many events. None of them refers to itself: looking for such things would take as long again."""
    was_enabled = gc.isenabled()
    gc.disable()
    try:
        return make(window)
    finally:
        if was_enabled:
            gc.enable()


class _Pairs:
    """Finds ``clear(@m)`` records behind ``print(@m)`` in a window.

    Both together read and remove the map in one batch: what the program counts between the two
    would be lost otherwise, since printing reads the map, and only then is it cleared.
    What is lost still is at most one update for each CPU: of a program that had looked its element
    up when the kernel deleted it.
    ``taken``: positions of prints that clear; ``cleared``: of clears that are done by then.
    """

    def __init__(self, layout: Layout) -> None:
        touched = {record.id: _touched(record) for record in layout.records}
        cleared = {name for name, kind in touched.values() if kind is kinds.ClearMap}
        self._touched = {record: what for record, what in touched.items() if what[0] in cleared}
        self.active = any(kind is kinds.PrintMap for _, kind in self._touched.values())
        self.taken: set[int] = set()
        self.cleared: set[int] = set()

    def look(self, window: memoryview) -> None:
        if self.active:
            self.taken, self.cleared, _ = self._scan(window)

    def is_open(self, window: memoryview) -> bool:
        return self.active and bool(self._scan(window)[2])

    def _scan(self, window: memoryview) -> tuple[set[int], set[int], dict[str, int]]:
        taken: set[int] = set()
        cleared: set[int] = set()
        waiting: dict[str, int] = {}
        for position, record in record_positions(window):
            name, kind = self._touched.get(record, ("", None))
            if kind is kinds.PrintMap:
                waiting[name] = position
            elif kind is kinds.ClearMap and name in waiting:
                taken.add(waiting.pop(name))
                cleared.add(position)
            elif kind is not None:
                waiting.pop(name, None)
        return taken, cleared, waiting


def _touched(record: RecordLayout) -> tuple[str, type | None]:
    match record.action:
        case kinds.PrintMap(name) | kinds.ClearMap(name) | kinds.ZeroMap(name) as action:
            return name, type(action)
        case _:
            return "", None


_MAP_FULL = (
    "Map full; can't update element. Try increasing max_map_keys config or manually setting the max entries in a map "
    "declaration e.g. `let @a = hash(5000)`"
)
_FAILURES = {
    ("map_update_elem", E2BIG): _MAP_FULL,
    ("map_delete_elem", ENOENT): "Can't delete map element because it does not exist.",
    ("map_lookup_elem", ENOENT): "Can't lookup map element because it does not exist.",
}


def _reason(problem: OSError | ValueError) -> str:
    return problem.strerror or str(problem) if isinstance(problem, OSError) else str(problem)


def complaint(
    severity: str, message: str, span: Span | None, helper: str = "", code: int = 0, *, runtime: bool = False
) -> Complaint:
    """Return a complaint with its place: where in the source, and that source line underlined."""
    if span is None:
        return Complaint(severity, message, "", 0, 0, helper, code)
    at = span.location()
    place, source = _rendered(span)
    expanded_from = tuple(_rendered(origin) for origin in span.origins())
    return Complaint(
        severity, message, span.source.name, at.line, at.column, helper, code, source, place, expanded_from, runtime
    )


def _rendered(span: Span) -> tuple[str, str]:
    """A place as text, and its source."""
    at = span.location()
    name = span.source.name
    if at.line != at.end_line:
        lines = [span.source.line(number) for number in range(at.line, at.end_line + 1)]
        return f"{name}:{at.line}-{at.end_line}", "\n".join(lines).replace("\t", "    ") + "\n"
    line = span.source.line(at.line)
    tabs = line[: at.column - 1].count("\t")
    underline = " " * (at.column - 1 + 3 * tabs) + "~" * max(1, at.end_column - at.column)
    return f"{name}:{at.line}:{at.column}-{at.end_column}", line.replace("\t", "    ") + f"\n{underline}\n"
