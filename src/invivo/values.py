"""How a value is written as text: shared by ``printf``'s ``%s`` and by the sinks that write text."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from struct import Struct as Packed
from typing import TypeVar

from invivo.events import (
    Address,
    Bucket,
    EnumValue,
    Frame,
    HistogramValue,
    SeriesValue,
    Stack,
    StackColumn,
    StatsValue,
    Symbol,
    Text,
    Value,
)
from invivo.ir.types import StackMode
from invivo.record import Record

T = TypeVar("T")
BAR_WIDTH = 52  # columns of a histogram's longest bar
STACK_INDENT = " " * 8
_CUT = f"{STACK_INDENT}[truncated]\n"
_PRINTABLE = frozenset(range(0x20, 0x7F))


def escaped_bytes(data: bytes) -> str:
    r"""``\x00abc``: what is printable is kept, a backslash too; the rest in hexadecimal."""
    return "".join(chr(byte) if byte in _PRINTABLE else f"\\x{byte:02x}" for byte in data)


class ValueText:
    """Writes values as text, in bpftrace's shapes.

    ``trailer`` follows a string that was cut. ``escape`` is applied to text that came from the
    traced system (a terminal must not see its control characters); None: as it is.
    """

    def __init__(self, trailer: str = "..", escape: Callable[[str], str] | None = None) -> None:
        self.trailer = trailer
        self.escapes = escape is not None
        self.escape = escape or _unchanged
        self._writers: dict[type, Callable[..., str]] = {
            int: str,
            bool: _bool,
            type(None): _none,
            str: self.escape,
            Text: self._cut,
            Address: hex,
            EnumValue: _enum,
            bytes: escaped_bytes,
            tuple: self._tuple,
            list: self._list,
            dict: self._struct,
            Stack: self.stack,
            Symbol: self._symbol,
            StatsValue: _stats,
            HistogramValue: _histogram,
            SeriesValue: _series,
        }

    def text(self, value: Value) -> str:
        return self._writers[type(value)](value)

    def parts(self, values: Iterable[Value]) -> str:
        """Values side by side, as in a key: ``1, abc, (2, 3)``."""
        return ", ".join(map(self.text, values))

    def key(self, key: tuple[Value, ...]) -> str:
        """A map's key without brackets; a key that is one tuple has no parentheses either."""
        if len(key) == 1 and type(key[0]) is tuple:
            return self.parts(key[0])
        return self.parts(key)

    def stack(self, stack: Stack) -> str:
        """A stack begins with a line break and ends with one; one frame a line."""
        return f"\n{self._frames(stack.frames, stack.mode, stack.interpreter)}{'' if stack.complete else _CUT}"

    def stacks(self, column: StackColumn) -> Callable[[StackColumn], list[str]]:
        """Return what writes slices of a column of stacks: the pieces that they share are written once."""
        _, mode, interpreter = column.kind
        pieces = [self._frames(piece, mode, interpreter) for piece in column.pieces]
        pieces[column.CUT] = _CUT
        piece = pieces.__getitem__
        return lambda column: ["\n" + "".join(map(piece, places)) for places in column.stacks]

    def _frames(self, frames: tuple[Frame, ...], mode: StackMode, interpreter: str) -> str:
        line = _interpreted_frame if interpreter else _FRAME_TEXT[mode]
        return "".join([f"{self.escape(line(frame))}\n" for frame in frames])

    def _cut(self, value: Text) -> str:
        return self.escape(value) + self.trailer

    def _tuple(self, value: tuple[Value, ...]) -> str:
        return f"({self.parts(value)})"

    def _list(self, value: list[Value]) -> str:
        return f"[{','.join(map(self.text, value))}]"

    def _symbol(self, value: Symbol) -> str:
        return self.escape(value.name) if value.name else hex(value.address)

    def _struct(self, value: dict[str, Value]) -> str:
        if not value:
            return "{}"
        return "{ " + ", ".join(f".{name} = {self.text(member)}" for name, member in value.items()) + " }"


class LineForm(Record, eq=False):
    """How an output writes what is printed, for `runtime.vector`, which writes many such lines at once.

    ``printed`` stands before and behind the text of a ``printf``; with a third part its values stand before that,
    with commas between them.  ``row`` stands before and behind the value of a ``print`` (None: that has no lines),
    ``elements`` before, between and behind those of a tuple, ``members`` those of a named tuple, and ``label``, a
    template, before each of these.  ``value`` writes one value.
    ``is_json``: text is escaped as in a JSON string.  ``errors``: what becomes of bytes that are not UTF-8.
    """

    printed: tuple[str, ...]
    row: tuple[str, str] | None
    elements: tuple[str, str, str]
    members: tuple[str, str, str]
    label: str
    value: Callable[[Value], str]
    is_json: bool = True
    errors: str = "surrogateescape"


def text_form(text: ValueText) -> LineForm:
    """The lines of `ValueText`, as they are."""
    return LineForm(("", ""), ("", "\n"), ("(", ", ", ")"), ("{ ", ", ", " }"), ".%s = ", text.text, is_json=False)


def _unchanged(text: str) -> str:
    return text


def _bool(value: bool) -> str:
    return "true" if value else "false"


def _none(_: None) -> str:
    return "null"


def _enum(value: EnumValue) -> str:
    return value.name or str(int(value))


def _stats(value: StatsValue) -> str:
    return f"{{ .count = {value.count}, .average = {value.average}, .total = {value.total} }}"


def _histogram(value: HistogramValue) -> str:
    return "".join(f"\n{line}" for line in histogram_lines(value))


def _series(value: SeriesValue) -> str:
    return "\n" + "\n".join(series_lines(value))


def _plain_frame(frame: Frame) -> str:
    if not frame.symbol:
        return f"{STACK_INDENT}{frame.address:#x}"
    return f"{STACK_INDENT}{frame.symbol}+{frame.offset}"


def _interpreted_frame(frame: Frame) -> str:
    return f"{STACK_INDENT}{frame.symbol or '[unknown]'} ({frame.module}:{frame.offset})"


def _perf_frame(frame: Frame) -> str:
    symbol = f"{frame.symbol}+{frame.offset}" if frame.symbol else "[unknown]"
    return f"\t{frame.address:x} {symbol} ({frame.module or '[unknown]'})"


def _raw_frame(frame: Frame) -> str:
    return f"{frame.address:x}"


def _build_id_frame(frame: Frame) -> str:
    return f"{frame.module or '0' * 40} {frame.address:#x}"


_FRAME_TEXT: dict[StackMode, Callable[[Frame], str]] = {
    StackMode.BPFTRACE: _plain_frame,
    StackMode.PERF: _perf_frame,
    StackMode.RAW: _raw_frame,
    StackMode.BUILD_ID: _build_id_frame,
}

# -- large maps: one % for thousands of entries takes a third of the time of one each ------------

_ENTRIES = 2048  # at a time


def column_slices(columns: Sequence[Sequence[T]]) -> Iterator[list[Sequence[T]]]:
    """Yield columns of equal length piece by piece, all of them from the same entry to the same."""
    for start in range(0, len(columns[0]), _ENTRIES):
        yield [column[start : start + _ENTRIES] for column in columns]


def filled(line: str, columns: Sequence[Sequence[object]]) -> str:
    """Return a line for each entry; ``line`` has as many ``%s`` as there are columns."""
    count = len(columns[0])
    values: list[object] = [None] * (count * len(columns))
    for place, column in enumerate(columns):
        values[place :: len(columns)] = column
    return line * count % tuple(values)


# -- histograms --------------------------------------------------------------------------------


def histogram_lines(value: HistogramValue) -> list[str]:
    """One line a bucket: its range in 16 columns, its count in 8, a bar of at most 52."""
    highest = max((bucket.count for bucket in value.buckets), default=0)
    return [
        f"{bucket_label(bucket, value):<16}{bucket.count:>8} |{_bar(bucket.count, highest):<{BAR_WIDTH}}|"
        for bucket in value.buckets
    ]


def _bar(count: int, highest: int) -> str:
    return "@" * int(_single(_single(_single(count) / _single(highest)) * BAR_WIDTH)) if highest > 0 else ""


def _single(number: float) -> float:
    """Round to single precision: bpftrace draws with it, and truncates."""
    return float(_SINGLE.unpack(_SINGLE.pack(number))[0])


_SINGLE = Packed("f")


def bucket_label(bucket: Bucket, of: HistogramValue) -> str:
    """``[4, 8)``, ``[5]``, ``(..., 0)``, ``[100, ...)``; bounds with K, M ... where they are exact."""
    low, high = bucket.low, bucket.high
    write = _linear_bound(of.linear_step) if of.linear_step else _power_bound(of.bits)
    if low is None:
        return f"(..., {write(0 if high is None else high + 1)})"
    if high is None:
        return f"[{write(low)}, ...)"
    if low == high:
        return f"[{write(low)}]"
    return f"[{write(low)}, {write(high + 1)})"


def _power_bound(bits: int) -> Callable[[int], str]:
    """Units are as large as what the buckets are wide: ``1K`` for a whole power of two, ``[1024, 1280)`` for parts."""

    def write(value: int) -> str:
        if value < 4 << bits:
            return str(value)
        decade = (value.bit_length() - 1 - bits) // 10
        return f"{value >> 10 * decade}{'KMGTPE'[decade - 1] if decade else ''}"

    return write


def _linear_bound(step: int) -> Callable[[int], str]:
    def write(value: int) -> str:
        if step % 1024 or value == 0:
            return str(value)
        if value % (1 << 20) == 0:
            return f"{value >> 20}M"
        return f"{value >> 10}K" if value % 1024 == 0 else str(value)

    return write


# -- time series -------------------------------------------------------------------------------

_PLOT_WIDTH = 53  # columns, the axes at both ends counted
_LOW_WIDTH = 21  # of these, for the least value above the left end


def series_lines(value: SeriesValue) -> list[str]:
    """A line an interval: when it begins (local time), its place between the least and the greatest value, its value.

    A point marks zero where there are values on both sides of it; a single value stands in the middle.
    """
    import time  # only here; a program without time series needs no clock

    known = [point for _, point in value.points if point is not None]
    if not known:
        return ["<no data>"]
    low, high = min(known), max(known)
    if low == high:
        low, high = low - 1, high + 1
    unit, digits = _clock_unit(value.points)
    width = len("hh:mm:ss") + (digits and digits + 1) + 1
    margin, inner = " " * width, "_" * (_PLOT_WIDTH - 2)
    bounds = f"{margin}{low:<{_LOW_WIDTH}}{high:>{_PLOT_WIDTH - _LOW_WIDTH}}"
    lines = [bounds, f"{'hh:mm:ss' + unit:<{width}}|{inner}|"]
    axis = ["|", *" " * (_PLOT_WIDTH - 2), "|"]
    if low < 0 < high and (zero := _place(0, low, high, _PLOT_WIDTH)):
        axis[zero] = "."
    for start_ns, point in value.points:
        clock = time.strftime("%H:%M:%S", time.localtime(start_ns // 10**9))
        part = f".{start_ns % 10**9 // 10 ** (9 - digits):0{digits}}" if digits else ""
        plot = axis.copy()
        if point is not None:
            plot[_place(point, low, high, _PLOT_WIDTH - 1)] = "*"
        lines.append(f"{clock}{part} {''.join(plot)} {'-' if point is None else point}")
    lines += [f"{margin}v{inner}v", bounds]
    return lines


def _clock_unit(points: Sequence[tuple[int, int | None]]) -> tuple[str, int]:
    """The header's ending and the decimals of a second, by the distance of the intervals."""
    distance_ns = (points[-1][0] - points[0][0]) // max(len(points) - 1, 1)
    for unit, digits, unit_ns in (("", 0, 10**9), (".ms", 3, 10**6), (".us", 6, 10**3)):
        if distance_ns >= unit_ns:
            return unit, digits
    return ".ns", 9


def _place(value: int, low: int, high: int, width: int) -> int:
    place = int(_single(_single(width * _single(value - low)) / _single(high - low)))
    return max(0, min(_PLOT_WIDTH - 1, place))
