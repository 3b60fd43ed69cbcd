"""Tables for pandas, DuckDB and their like: a row an event, a typed column for each value that is printed.

The file and what stands in its metadata are described in ``docs/how-to/tables.md``.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from importlib import import_module
from types import ModuleType

import numpy as np

from invivo.errors import InvivoError
from invivo.events import (
    Column,
    Ended,
    Event,
    HistogramValue,
    MapSnapshot,
    Numbers,
    RecordTable,
    RecordTables,
    Selection,
    SeriesValue,
    StatsValue,
    Texts,
    Value,
    Values,
)
from invivo.ir import types
from invivo.ir.layout import Layout, MapLayout, Printf, PrintValue, RecordLayout
from invivo.json_text import quote
from invivo.output.sink import ClosingStream, Dialect, Header, Stream
from invivo.output.text import TextSink
from invivo.values import ValueText

_GROUP_ROWS = 1 << 18  # that are held in memory and written together
_PLACE = "event"  # the column that tells the kinds of records apart


class TablesMissingError(InvivoError):
    """The library that writes tables is not installed."""

    def __init__(self) -> None:
        super().__init__("writing Parquet needs pyarrow, which is not installed", "pip install 'invivo[parquet]'")


def libraries() -> tuple[ModuleType, ModuleType]:
    """Import pyarrow and its writer. Raises `TablesMissingError`."""
    try:
        return import_module("pyarrow"), import_module("pyarrow.parquet")
    except ImportError as problem:
        raise TablesMissingError from problem


class ParquetSink:
    """What is printed as rows of one file, maps as files beside it; everything else as text on ``errors``."""

    def __init__(
        self,
        stream: Stream,
        errors: Stream,
        layout: Layout,
        labels: Sequence[tuple[str, ...]],
        header: Header,
        path: str,
        open_stream: Callable[[str], ClosingStream],
        *,
        quiet: bool = False,
    ) -> None:
        """``labels`` of the values of each kind of record; ``open_stream`` opens the files of maps."""
        self._open_stream = open_stream
        self._said = TextSink(errors, errors, Dialect.INVIVO, quiet=quiet)
        self._columns = _columns(layout, labels)
        self._places = {record.id: _place(record) for record in layout.records}
        self._facts = {"version": header.version, "kernel": header.kernel}
        self._facts |= {"program": "\n".join(text for _, text in header.sources)}
        self._path = path.removesuffix(".parquet")
        self._table = _TableFile(stream, [(_PLACE, _TEXT), *((name, kind) for name, kind, _ in self._columns)])
        self._layouts = {each.name: each for each in layout.maps}
        self._maps: dict[str, _MapFile] = {}

    def open(self) -> None:
        """Nothing comes before the first rows."""

    def event(self, event: Event) -> None:
        match event:
            case RecordTables():
                self._table.add(event.count, self._rows(event))
            case MapSnapshot(name):
                if name not in self._maps:
                    path = f"{self._path}.{name.removeprefix('@') or '@'}.parquet"
                    self._maps[name] = _MapFile(self._open_stream, path, self._layouts[name])
                self._maps[name].add(event)
            case Ended(reason, status, losses):
                parts = [f'{{"kind":{quote(k)},"subject":{quote(s)},"count":{n}}}' for k, s, n in losses]
                self._facts |= {"reason": reason, "status": str(status), "losses": f"[{','.join(parts)}]"}
                self._said.event(event)
            case _:
                self._said.event(event)

    def events(self, events: Sequence[Event]) -> None:
        for event in events:
            self.event(event)

    def flush(self) -> None:
        """Rows are written in large groups."""
        self._said.flush()

    def close(self) -> None:
        """Write what is left and the end, without which nobody can read the files."""
        self._said.close()
        self._table.close(self._facts)
        for held in self._maps.values():
            held.close(self._facts)

    def _rows(self, event: RecordTables) -> list[object]:
        """One array for each column of the file."""
        made = [self._of_kind(table) for table in event.tables]
        if len(made) == 1:
            return made[0]
        pa, _ = libraries()
        places = np.concatenate([np.frombuffer(table.order or b"", np.int64) for table in event.tables])
        back = np.empty(len(places), np.int64)
        back[places] = np.arange(len(places))
        order = pa.Array.from_buffers(pa.int64(), len(back), [None, pa.py_buffer(back)])
        return [pa.concat_arrays(column).take(order) for column in zip(*made, strict=True)]

    def _of_kind(self, table: RecordTable) -> list[object]:
        pa, _ = libraries()
        found: list[object] = [_repeated(pa, self._places[table.record], table.count)]
        for _, kind, sources in self._columns:
            index = sources.get(table.record)
            if index is None:
                found.append(pa.nulls(table.count, _arrow(pa, kind)))
            else:
                found.append(_array(pa, table.columns[index], table.count, kind))
        return found


class _TableFile:
    """A file that rows are added to in batches."""

    def __init__(self, stream: Stream, columns: Sequence[tuple[str, str]]) -> None:
        pa, parquet = libraries()
        self._pa = pa
        self._schema = pa.schema([(name, _arrow(pa, kind)) for name, kind in columns])
        self._batches: list[object] = []
        self._rows = 0
        packed = {name: "DELTA_BINARY_PACKED" for name, kind in columns if kind[0] in "iu"}
        self._writer = parquet.ParquetWriter(
            pa.PythonFile(_Counted(stream), mode="w"),
            self._schema,
            compression="zstd",
            compression_level=1,
            use_dictionary=[name for name, kind in columns if kind == _TEXT],
            column_encoding=packed or None,
        )

    def add(self, count: int, columns: Sequence[object]) -> None:
        self._batches.append(self._pa.RecordBatch.from_arrays(columns, schema=self._schema))
        self._rows += count
        if self._rows >= _GROUP_ROWS:
            self._write()

    def close(self, facts: dict[str, str]) -> None:
        """``facts`` become the file's metadata."""
        self._write()
        self._writer.add_key_value_metadata(_metadata(facts))
        self._writer.close()

    def _write(self) -> None:
        batches, self._batches, self._rows = self._batches, [], 0
        if batches:
            self._writer.write_table(self._pa.Table.from_batches(batches, schema=self._schema))


def _metadata(facts: dict[str, str]) -> dict[str, str]:
    return {f"invivo.{name}": value for name, value in facts.items()}


class _Counted:
    """A stream as pyarrow wants one."""

    def __init__(self, stream: Stream) -> None:
        self._stream = stream
        self._size = 0
        self.closed = False

    def write(self, data: bytes) -> int:
        self._stream.write(bytes(data))
        self._size += len(data)
        return len(data)

    def tell(self) -> int:
        return self._size

    def flush(self) -> None:
        self._stream.flush()

    def close(self) -> None:
        self.closed = True

    def seekable(self) -> bool:
        return False

    def readable(self) -> bool:
        return False

    def writable(self) -> bool:
        return True


# -- types -------------------------------------------------------------------------------------

_TEXT, _BYTES, _BOOL = "text", "bytes", "bool"  # beside i1 ... u8


def _kind(t: types.Type) -> str:
    match t:
        case types.Int(bits, signed):
            return f"{'i' if signed else 'u'}{bits // 8}"
        case types.Bool():
            return _BOOL
        case types.Pointer():
            return "u8"
        case types.Buffer():
            return _BYTES
        case _:
            return _TEXT


def _arrow(pa: ModuleType, kind: str) -> object:
    match kind:
        case "text":
            return pa.string()
        case "bytes":
            return pa.binary()
        case "bool":
            return pa.bool_()
        case _:
            signed = "int" if kind[0] == "i" else "uint"
            return getattr(pa, f"{signed}{8 * int(kind[1:])}")()


def _place(record: RecordLayout) -> str:
    """Where in the program a kind of record is printed: line and column."""
    at = record.span.location() if record.span is not None else None
    return "" if at is None else f"{at.line}:{at.column}"


def _columns(layout: Layout, labels: Sequence[tuple[str, ...]]) -> list[tuple[str, str, dict[int, int]]]:
    """Name and kind of each column, and which value of which records it has: equal names of equal types are one."""
    found: dict[tuple[str, str], dict[int, int]] = {}
    for record, names in zip(layout.records, labels, strict=True):
        if isinstance(record.action, Printf | PrintValue):
            for index, (name, kind) in enumerate(zip(names, _kinds(record), strict=True)):
                found.setdefault((name, kind), {})[record.id] = index
    columns: list[tuple[str, str, dict[int, int]]] = []
    taken = {_PLACE}
    for (name, kind), sources in found.items():
        label, number = name, 2
        while label in taken:
            label, number = f"{name}_{number}", number + 1
        taken.add(label)
        columns.append((label, kind, sources))
    return columns


def _kinds(record: RecordLayout) -> list[str]:
    if isinstance(record.action, PrintValue):
        match record.fields[0].type:
            case types.Tuple(parts) | types.NamedTuple(_, parts) if parts:
                return [_kind(part) for part in parts]
            case _:
                pass
    return [_kind(field.type) for field in record.fields]


def _array(pa: ModuleType, column: Column, count: int, kind: str) -> object:
    match column:
        case Numbers(code, data):
            made = pa.Array.from_buffers(_arrow(pa, code), count, [None, pa.py_buffer(data)])
            return made.cast(pa.bool_()) if kind == _BOOL else made
        case Texts(offsets, data):
            return pa.Array.from_buffers(pa.string(), count, [None, pa.py_buffer(offsets), pa.py_buffer(data)])
        case Selection(None, texts):
            return _repeated(pa, _text(texts[0]), count)
        case Selection(codes, texts):
            numbers = pa.Array.from_buffers(pa.int32(), count, [None, pa.py_buffer(codes)])
            return pa.DictionaryArray.from_arrays(numbers, _pieces(pa, texts, _TEXT)).cast(pa.string())
        case Values(values):
            return _pieces(pa, values, kind)


def _repeated(pa: ModuleType, text: str, count: int) -> object:
    data = text.encode()
    offsets = np.arange(count + 1, dtype=np.int32) * np.int32(len(data))
    return pa.Array.from_buffers(pa.string(), count, [None, pa.py_buffer(offsets), pa.py_buffer(data * count)])


def _pieces(pa: ModuleType, values: Sequence[Value], kind: str) -> object:
    """Texts or bytes. (pyarrow's own way from Python's objects imports pandas, if there is one: half a second.)"""
    pieces = [value if isinstance(value, bytes) else _text(value).encode() for value in values]
    offsets = np.zeros(len(pieces) + 1, np.int32)
    np.cumsum([len(piece) for piece in pieces], out=offsets[1:])
    buffers = [None, pa.py_buffer(offsets), pa.py_buffer(b"".join(pieces))]
    return pa.Array.from_buffers(_arrow(pa, kind), len(pieces), buffers)


def _mapped(pa: ModuleType, values: Sequence[Value], kind: str) -> object:
    """A column of a map; None among numbers is null."""
    if kind in (_TEXT, _BYTES):
        return _pieces(pa, values, kind)
    code = "u1" if kind == _BOOL else kind
    numbers = np.array([int(value) if isinstance(value, int) else 0 for value in values], code)
    known = np.packbits(np.array([value is not None for value in values]), bitorder="little")
    made = pa.Array.from_buffers(_arrow(pa, code), len(values), [pa.py_buffer(known), pa.py_buffer(numbers)])
    return made.cast(pa.bool_()) if kind == _BOOL else made


_VALUE_TEXT = ValueText()


def _text(value: Value) -> str:
    return _VALUE_TEXT.text(value).encode("utf-8", "surrogateescape").decode("utf-8", "replace")


# -- maps --------------------------------------------------------------------------------------


class _MapFile:
    """The snapshots of one map: a row an element (of a histogram: a bucket), and which snapshot it is of."""

    def __init__(self, open_stream: Callable[[str], ClosingStream], path: str, layout: MapLayout) -> None:
        self._open_stream = open_stream
        self._path = path
        self._kinds = _map_columns(layout)
        self._snapshots = 0
        self._stream: ClosingStream | None = None

    def add(self, event: MapSnapshot) -> None:
        self._snapshots += 1
        rows = [{"snapshot": self._snapshots, **row} for row in _rows(event)]
        if not rows:
            return
        pa, parquet = libraries()
        schema = pa.schema([(name, _arrow(pa, kind)) for name, kind in self._kinds.items()])
        if self._stream is None:
            self._stream = self._open_stream(self._path)
            self._writer = parquet.ParquetWriter(
                pa.PythonFile(_Counted(self._stream), mode="w"), schema, compression="zstd"
            )
        columns = [_mapped(pa, [row[name] for row in rows], kind) for name, kind in self._kinds.items()]
        self._writer.write_table(pa.Table.from_arrays(columns, schema=schema))

    def close(self, facts: dict[str, str]) -> None:
        if self._stream is not None:
            self._writer.add_key_value_metadata(_metadata(facts))
            self._writer.close()
            self._stream.close()


def _map_columns(layout: MapLayout) -> dict[str, str]:
    """Names and kinds of a map's columns: by its types, since what comes later must fit, too."""
    found = {"snapshot": "i8"}
    parts = layout.key or ()
    found |= {"key" if len(parts) == 1 else f"key_{index + 1}": _kind(part) for index, part in enumerate(parts)}
    match layout.value:
        case types.Histogram() | types.LinearHistogram():
            return found | dict.fromkeys(("low", "high", "count"), "i8")
        case types.Stats(signed):
            return found | {"count": "i8"} | dict.fromkeys(("average", "total"), _word(signed))
        case types.TimeSeries(signed):
            return found | {"start_ns": "i8", "value": _word(signed)}
        case types.Count():
            return found | {"value": "i8"}
        case types.Sum(signed) | types.Average(signed) | types.Minimum(signed) | types.Maximum(signed):
            return found | {"value": _word(signed)}
        case types.Tuple(elements):
            return found | {f"value_{index + 1}": _kind(element) for index, element in enumerate(elements)}
        case _:
            return found | {"value": _kind(layout.value)}


def _word(signed: bool) -> str:
    return "i8" if signed else "u8"


def _rows(event: MapSnapshot) -> Iterator[dict[str, Value]]:
    """The elements as rows."""
    for key, value in event.entries:
        parts = key or ()
        named = {"key" if len(parts) == 1 else f"key_{index + 1}": part for index, part in enumerate(parts)}
        match value:
            case HistogramValue(buckets):
                yield from ({**named, "low": each.low, "high": each.high, "count": each.count} for each in buckets)
            case StatsValue(count, average, total):
                yield {**named, "count": count, "average": average, "total": total}
            case SeriesValue(_, points):
                yield from ({**named, "start_ns": start_ns, "value": point} for start_ns, point in points)
            case tuple():
                yield named | {f"value_{index + 1}": part for index, part in enumerate(value)}
            case _:
                yield {**named, "value": value}
