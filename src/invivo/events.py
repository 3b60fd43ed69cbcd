"""What a trace produces: typed events. Text, JSON and tables are views of these.

Values in events are plain Python: int, bool, str, bytes (buffers), tuple, dict (structs and
named tuples, in order), None, and the records below where a value means more than a number.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from itertools import chain, repeat
from typing import overload

from invivo.ir.types import StackMode
from invivo.record import Record

# -- values ------------------------------------------------------------------------------------


class Text(str):
    """A string that filled its capacity, so that its end may be missing."""

    __slots__ = ()


class Address(int):
    """A pointer: shown in hexadecimal."""

    __slots__ = ()


class EnumValue(int):
    """An integer with a name for its value; ``name`` is None where the enum has none."""

    name: str | None

    def __new__(cls, value: int, name: str | None) -> EnumValue:
        self = super().__new__(cls, value)
        self.name = name
        return self


class Frame(Record):
    """One frame of a stack. ``symbol`` is "" where no name was found: ``offset`` is then that in the file."""

    address: int
    symbol: str
    offset: int
    module: str  # path of the mapped file, "[kernel]", a kernel module's name, or ""
    in_file: int = 0  # the address's offset in the mapped file
    is_entry: bool = False  # of interpreted code: the interpreter was called by other code here


class Stack(Record):
    """Innermost frame first. ``complete`` is False where it is known to end early."""

    kernel: bool
    mode: StackMode
    frames: tuple[Frame, ...]
    complete: bool = True
    interpreter: str = ""  # of interpreted code: frames' offsets are the first lines of functions, modules their files


class StackColumn(Sequence[Stack]):
    """Stacks of one kind, made of pieces of a few frames, which many of them share: no object for each stack.

    ``stacks``: the indices of each one's pieces, the innermost first. Where a stack is known to end early, `CUT`, a
    piece without frames, is the last.
    """

    CUT = 0

    def __init__(
        self,
        kind: tuple[bool, StackMode, str],
        pieces: Sequence[tuple[Frame, ...]],
        stacks: Sequence[tuple[int, ...]],
    ) -> None:
        """``kind``: the stacks' ``kernel``, ``mode`` and ``interpreter``."""
        self.kind = kind
        self.pieces = pieces
        self.stacks = stacks

    def __len__(self) -> int:
        return len(self.stacks)

    def __iter__(self) -> Iterator[Stack]:
        """Equal stacks are one object."""
        known = {places: self._stack(places) for places in set(self.stacks)}
        return map(known.__getitem__, self.stacks)

    @overload
    def __getitem__(self, index: int) -> Stack: ...

    @overload
    def __getitem__(self, index: slice) -> StackColumn: ...

    def __getitem__(self, index: int | slice) -> Stack | StackColumn:
        if isinstance(index, slice):
            return StackColumn(self.kind, self.pieces, self.stacks[index])
        return self._stack(self.stacks[index])

    def _stack(self, places: tuple[int, ...]) -> Stack:
        kernel, mode, interpreter = self.kind
        frames = tuple(chain.from_iterable([self.pieces[place] for place in places]))
        return Stack(kernel, mode, frames, places[-1] != self.CUT, interpreter)


class Symbol(Record):
    """An address with its name; ``name`` is "" where none was found."""

    address: int
    name: str


class StatsValue(Record):
    count: int
    average: int
    total: int


class Bucket(Record):
    """``low`` and ``high`` are inclusive; None: open."""

    low: int | None
    high: int | None
    count: int


class HistogramValue(Record):
    """Buckets from the first to the last that is not empty.

    ``linear_step`` is 0 for powers of two; each of these is cut into 2**bits buckets.
    """

    buckets: tuple[Bucket, ...]
    linear_step: int
    total: int
    bits: int = 0


class SeriesValue(Record):
    """``points``: (start of the interval in wall-clock nanoseconds, value or None), oldest first."""

    interval_ns: int
    points: tuple[tuple[int, int | None], ...]


Value = (
    None
    | bool
    | int
    | str
    | bytes
    | tuple["Value", ...]
    | list["Value"]
    | dict[str, "Value"]
    | Stack
    | Symbol
    | StatsValue
    | HistogramValue
    | SeriesValue
)

Entry = tuple[tuple[Value, ...] | None, Value]  # of a map: the parts of the key; None in a scalar map

# -- events ------------------------------------------------------------------------------------


class Attached(Record):
    """The session runs; ``probes`` counts the attach points, begin and end probes too."""

    probes: int


class Printed(Record):
    """``printf``: the text, and the values it was made of. ``incomplete``: a read of the traced
    program's memory failed, so a value in it is empty."""

    text: str
    values: tuple[Value, ...]
    incomplete: bool = False


class PrintedText(Record):
    """What an output writes of many prints in a row, in a form of its own (`values.LineForm`).

    ``printed``: how many ``printf`` are in it; ``rows``: how many ``print``.
    """

    data: bytes | bytearray
    printed: int
    rows: int


class Numbers(Record, eq=False):
    """A column of integers in memory; ``code``: i or u, and how many bytes each has (little-endian)."""

    code: str
    data: memoryview


class Texts(Record, eq=False):
    """A column of strings (UTF-8), one after the other; ``offsets``: int32, where each begins, and the end."""

    offsets: memoryview
    data: bytes


class Selection(Record, eq=False):
    """A column of a few different strings; ``codes``: int32, which one, in each row; None: the only one."""

    codes: memoryview | None
    texts: tuple[str, ...]


class Values(Record, eq=False):
    """A column of values of any kind."""

    values: Sequence[Value]


Column = Numbers | Texts | Selection | Values


class RecordTable(Record, eq=False):
    """What records of one kind print, as columns.

    ``record``: its index in `ir.layout.Layout.records`.  ``order``: int64, the place of each row among all that
    came together; None if there is only this table.
    """

    record: int
    count: int
    order: memoryview | None
    columns: tuple[Column, ...]


class RecordTables(Record, eq=False):
    """The values of ``count`` prints in a row, for a consumer of tables (`SessionOptions.tables`)."""

    count: int
    tables: tuple[RecordTable, ...]


class Row(Record):
    """``print(x)`` of anything but a map."""

    value: Value
    incomplete: bool = False


class EntryColumns(Sequence[Entry]):
    """Entries of a map as columns, which large maps are made and written from: no object for each entry.

    ``parts`` are those of the keys, None for a scalar map.  (Not ``keys``: `dict` would take it all for a mapping.)
    Equal to a tuple of the same entries.
    """

    def __init__(self, parts: Sequence[Sequence[Value]] | None, values: Sequence[Value]) -> None:
        self.parts = parts
        self.values = values

    def __len__(self) -> int:
        return len(self.values)

    def __iter__(self) -> Iterator[Entry]:
        keys: Iterable[tuple[Value, ...] | None] = repeat(None, len(self))
        if self.parts is not None:
            keys = zip(*self.parts, strict=True) if self.parts else repeat((), len(self))
        return zip(keys, self.values, strict=True)

    @overload
    def __getitem__(self, index: int) -> Entry: ...

    @overload
    def __getitem__(self, index: slice) -> EntryColumns: ...

    def __getitem__(self, index: int | slice) -> Entry | EntryColumns:
        if isinstance(index, slice):
            return EntryColumns(self.parts and [part[index] for part in self.parts], self.values[index])
        return None if self.parts is None else tuple([part[index] for part in self.parts]), self.values[index]

    def __eq__(self, other: object) -> bool:
        return tuple(self) == (tuple(other) if isinstance(other, EntryColumns) else other)

    def __hash__(self) -> int:
        return hash(tuple(self))

    def __repr__(self) -> str:
        return repr(tuple(self))


class MapSnapshot(Record):
    """``print(@m)``, or a map at the end. ``entries`` are in display order.

    For a scalar map ``scalar`` is True and there is one entry with the key None. A key is a
    tuple of its parts. ``kind``: "map", "stats", "hist" or "tseries".
    """

    name: str
    kind: str
    scalar: bool
    entries: Sequence[Entry]
    at_end: bool = False

    def to_dict(self) -> dict[Value, Value]:
        """Return {key: value}; a key of one part stands alone; a scalar map gives {None: value}."""
        return {_plain(key): value for key, value in self.entries}


def _plain(key: tuple[Value, ...] | None) -> Value:
    return key[0] if key is not None and len(key) == 1 else key


class MapValue(Record):
    """``print(@m[k])``."""

    name: str
    key: tuple[Value, ...] | None
    value: Value


class Output(Record):
    """Text from ``time``, ``cat``, ``join`` or ``system``: ``kind`` says which."""

    kind: str
    text: str


class Complaint(Record):
    """``errorf``, ``warnf``, or a helper that failed. ``helper`` and ``code`` only for the latter.

    ``runtime``: neither, but something that went wrong in the program, such as a division by zero.
    """

    severity: str  # "ERROR" or "WARNING"
    message: str
    filename: str
    line: int
    column: int
    helper: str = ""
    code: int = 0
    source: str = ""  # the place, rendered: the source line and its underline
    place: str = ""  # "stdin:1:20-32": where, as text
    expanded_from: tuple[tuple[str, str], ...] = ()  # place and source of the macros' calls, innermost first
    runtime: bool = False


class Loss(Record):
    """Something is missing from the result: ``count`` more since the last report.

    ``kind`` is a `layout.LossKind` value ("ring-full", "map-full", ...), ``subject`` the map or "".
    """

    kind: str
    subject: str
    count: int
    total: int


class Ended(Record):
    """The session is over. ``reason``: "exit", "child", "process", "signal", "begin", "closed"."""

    reason: str
    status: int
    losses: tuple[tuple[str, str, int], ...]  # (kind, subject, total)


Event = (
    Attached | Printed | PrintedText | RecordTables | Row | MapSnapshot | MapValue | Output | Complaint | Loss | Ended
)
