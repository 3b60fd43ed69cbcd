"""The table of outputs: one row each."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Final

from invivo.ir.layout import Layout
from invivo.output.sink import Buffering, ClosingStream, Dialect, Header, Sink, Stream
from invivo.output.terminal import display
from invivo.output.text import TextSink
from invivo.record import Record
from invivo.values import LineForm, ValueText, text_form


class SinkOptions(Record):
    """How an output writes. ``terminal``: whether the stream is one; ``errors_terminal``: the same for stderr.

    ``trailer`` follows a string that was cut; ``header`` is what the typed stream begins with.
    ``warnings``: whether text says what went wrong without an end to the trace.
    For tables: ``layout``, the ``labels`` of the values of each kind of record, the file's ``path``, and what
    opens files beside it.
    """

    buffering: Buffering = Buffering.LINE
    quiet: bool = False
    warnings: bool = True
    trailer: str = ".."
    terminal: bool = False
    errors_terminal: bool = False
    header: Header = Header("", "", (), ())
    layout: Layout | None = None
    labels: Sequence[tuple[str, ...]] = ()
    path: str = ""
    open_stream: Callable[[str], ClosingStream] | None = None


class Output(Record):
    """A row of the table. ``lines``: how many prints at once are written; None: not as lines."""

    name: str
    doc: str
    dialects: frozenset[Dialect]
    create: Callable[[Stream, Stream, Dialect, SinkOptions], Sink]
    lines: Callable[[ValueText], LineForm] | None


def _text(stream: Stream, errors: Stream, dialect: Dialect, options: SinkOptions) -> Sink:
    return TextSink(
        stream,
        errors,
        dialect,
        buffering=options.buffering,
        quiet=options.quiet,
        warnings=options.warnings,
        trailer=options.trailer,
        escape=display if options.terminal else None,
        errors_escape=display if options.errors_terminal else None,
    )


def _json(stream: Stream, errors: Stream, dialect: Dialect, options: SinkOptions) -> Sink:
    from invivo.output.json_lines import JsonSink

    return JsonSink(
        stream,
        errors,
        dialect,
        buffering=options.buffering,
        quiet=options.quiet,
        warnings=options.warnings,
        trailer=options.trailer,
        errors_escape=display if options.errors_terminal else None,
    )


def _json_lines(text: ValueText) -> LineForm:
    from invivo.output.json_lines import line_form

    return line_form(text)


def _ndjson(stream: Stream, errors: Stream, dialect: Dialect, options: SinkOptions) -> Sink:
    from invivo.output.ndjson import EventSink

    return EventSink(stream, options.header, buffering=options.buffering)


def _ndjson_lines(text: ValueText) -> LineForm:
    from invivo.output.ndjson import line_form

    return line_form(text)


def _parquet(stream: Stream, errors: Stream, dialect: Dialect, options: SinkOptions) -> Sink:
    from invivo.output.parquet import ParquetSink

    assert options.layout is not None and options.open_stream is not None
    return ParquetSink(
        stream,
        errors,
        options.layout,
        options.labels,
        options.header,
        options.path,
        options.open_stream,
        quiet=options.quiet,
    )


_INVIVO: Final = frozenset({Dialect.INVIVO})
SINKS: Final = (
    Output("text", "text for people and pipes", frozenset(Dialect), _text, text_form),
    Output("json", "JSON, one message a line, in bpftrace's shapes", frozenset(Dialect), _json, _json_lines),
    Output("ndjson", "typed events, one JSON object a line (docs/events.md)", _INVIVO, _ndjson, _ndjson_lines),
    Output("parquet", "a table for pandas and DuckDB (docs/how-to/tables.md)", _INVIVO, _parquet, None),
)


def output_names(dialect: Dialect) -> list[str]:
    """Return the names that ``-f`` accepts."""
    return [row.name for row in SINKS if dialect in row.dialects]


def lines_of(name: str) -> Callable[[ValueText], LineForm] | None:
    """Return how an output writes many prints at once."""
    return next(row.lines for row in SINKS if row.name == name)


def open_sink(
    name: str, stream: Stream, errors: Stream, dialect: Dialect = Dialect.INVIVO, options: SinkOptions | None = None
) -> Sink:
    """Return an opened sink. Raises KeyError for a name that `output_names` does not have."""
    table = {row.name: row for row in SINKS if dialect in row.dialects}
    sink = table[name].create(stream, errors, dialect, options or SinkOptions())
    sink.open()
    return sink
