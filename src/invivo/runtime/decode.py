"""Bytes → values, for every type: a decoder is built once for a type and called for each value."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import cache
from itertools import repeat
from operator import eq, itemgetter
from struct import Struct as Packed
from typing import Literal, Protocol, assert_never, cast

from invivo.errors import NotSupportedError
from invivo.events import Address, EnumValue, Frame, Stack, StackColumn, Symbol, Text, Value
from invivo.ir import types
from invivo.ir.types import Clock, Type
from invivo.record import Record


class Names(Protocol):
    """Who knows names: `runtime.names.SystemNames` asks the running system, a test has a table."""

    @property
    def longest_string(self) -> int:
        """The capacity (terminator included) of ``str()``: a string that fills it was probably cut."""
        ...

    def kernel_frames(self, addresses: Sequence[int]) -> tuple[Frame, ...]: ...

    def user_frames(self, tgid: int, addresses: Sequence[int]) -> tuple[Frame, ...]: ...

    def build_id_frames(self, tgid: int, addresses: Sequence[int]) -> tuple[Frame, ...]: ...

    def interpreted_frames(self, interpreter: str, tgid: int, words: Sequence[int]) -> tuple[Frame, ...]: ...

    def probe(self, index: int) -> str: ...

    def username(self, uid: int) -> str: ...

    def cgroup_path(self, cgroup: int, pattern: str) -> str: ...

    def wall_time(self, time_ns: int, form: str, clock: Clock) -> str: ...


Buffer = bytes | memoryview
Convert = Callable[[int], Value] | Callable[[bytes], Value]
Decoder = Callable[[Buffer, int], list[Value]]


class Shape(Record):
    """How ``struct`` reads a type, and what then becomes of what it read (None: nothing).

    Words are read as integers, everything else as bytes. ``column``: converts many at once, where that is cheaper.
    """

    code: str
    convert: Convert | None
    column: Callable[[Sequence[bytes]], Sequence[Value]] | None = None


def fields_decoder(fields: Sequence[types.Field], names: Names) -> Decoder:
    """Return a function (data, offset) → values of the fields, in their order."""
    if any(field.bit_size for field in fields) or not _in_order(fields):
        return _scattered(fields, names)
    return sequence_decoder([field.offset for field in fields], [field.type for field in fields], names)


def sequence_decoder(offsets: Sequence[int], parts: Sequence[Type], names: Names) -> Decoder:
    """Return a decoder of values at ascending offsets that do not overlap: one call of ``struct``."""
    code = "<"
    position = 0
    todo: list[tuple[int, Convert]] = []
    for index, (offset, part) in enumerate(zip(offsets, parts, strict=True)):
        shape = shape_of(part, names)
        if offset > position:
            code += f"{offset - position}x"
        code += shape.code
        position = offset + types.size_bytes(part)
        if shape.convert is not None:
            todo.append((index, shape.convert))
    unpack_from = Packed(code).unpack_from

    def decode_plain(data: Buffer, offset: int) -> list[Value]:
        return list(unpack_from(data, offset))

    def decode(data: Buffer, offset: int) -> list[Value]:
        values = list(unpack_from(data, offset))
        for index, convert in todo:
            values[index] = convert(values[index])
        return values

    return decode if todo else decode_plain


def tuple_decoder(parts: tuple[Type, ...], names: Names) -> Decoder:
    """Return a decoder of values side by side, as C lays them out (a map's key)."""
    return sequence_decoder(types.tuple_layout(parts)[0], parts, names)


def value_decoder(t: Type, names: Names) -> Callable[[Buffer], Value]:
    """Return a decoder of one value that begins at the start of the data."""
    decode = sequence_decoder([0], [t], names)
    return lambda data: decode(data, 0)[0]


def _in_order(fields: Sequence[types.Field]) -> bool:
    end = 0
    for field in fields:
        if field.offset < end:
            return False
        end = field.offset + types.size_bytes(field.type)
    return True


def _scattered(fields: Sequence[types.Field], names: Names) -> Decoder:
    """Members of a union and bitfields: each is read alone."""
    readers = [_bitfield(field) if field.bit_size else _single(field, names) for field in fields]
    return lambda data, offset: [read(data, offset) for read in readers]


def _single(field: types.Field, names: Names) -> Callable[[Buffer, int], Value]:
    decode = sequence_decoder([0], [field.type], names)
    start = field.offset
    return lambda data, offset: decode(data, offset + start)[0]


def _bitfield(field: types.Field) -> Callable[[Buffer, int], Value]:
    first, shift = divmod(field.bit_offset, 8)
    first += field.offset
    length = (shift + field.bit_size + 7) // 8
    mask = (1 << field.bit_size) - 1
    sign = 1 << (field.bit_size - 1) if getattr(field.type, "signed", False) else 0

    def read(data: Buffer, offset: int) -> Value:
        start = offset + first
        value = int.from_bytes(data[start : start + length], "little") >> shift & mask
        return (value ^ sign) - sign

    return read


_INT_CODES = {
    (8, True): "b",
    (8, False): "B",
    (16, True): "h",
    (16, False): "H",
    (32, True): "i",
    (32, False): "I",
    (64, True): "q",
    (64, False): "Q",
}


def shape_of(t: Type, names: Names) -> Shape:
    """Return how a type's values are read. Raises `NotSupportedError` for what has no single value."""
    match t:
        case types.Int(bits, signed):
            return Shape(_INT_CODES[bits, signed], None)
        case types.Bool():
            return Shape("?", None)
        case types.Enumeration(_, bits, signed, variants):
            return Shape(_INT_CODES[bits, signed], _enumeration(variants))
        case types.Pointer():
            return Shape("Q", Address)
        case types.KernelSymbol() | types.ProbeName() | types.Username() | types.CgroupPath() | types.Timestamp():
            return Shape("Q", _naming(t, names))
        case types.Stack():
            naming = _frames(t, names)
            return Shape(f"{types.size_bytes(t)}s", _stack(t, naming), lambda raws: _stacks(t, naming, raws))
        case _:
            return Shape(f"{types.size_bytes(t)}s", _memory(t, names))


def _naming(
    t: types.KernelSymbol | types.ProbeName | types.Username | types.CgroupPath | types.Timestamp, names: Names
) -> Callable[[int], Value]:
    match t:
        case types.KernelSymbol():
            return lambda address: _symbol(names.kernel_frames((address,)))
        case types.ProbeName():
            return names.probe
        case types.Username():
            return names.username
        case types.CgroupPath(pattern):
            return lambda cgroup: names.cgroup_path(cgroup, pattern)
        case types.Timestamp(form, clock):
            return lambda time_ns: names.wall_time(time_ns, form, clock)


def _memory(t: Type, names: Names) -> Callable[[bytes], Value]:
    match t:
        case types.String(capacity):
            return _longest_text if capacity == names.longest_string else _text
        case types.Buffer():
            return _counted
        case types.Array(element, length):
            size = types.size_bytes(element)
            elements = sequence_decoder([size * i for i in range(length)], [element] * length, names)
            return lambda data: elements(data, 0)
        case types.Struct(_, _, _, _, layout):
            return _struct(layout, names)
        case types.Tuple(parts):
            members = tuple_decoder(parts, names)
            return lambda data: tuple(members(data, 0))
        case types.NamedTuple(labels, parts):
            named = tuple_decoder(parts, names)
            return lambda data: dict(zip(labels, named(data, 0), strict=True))
        case types.UserSymbol():
            return lambda data: _user_symbol(data, names)
        case types.Inet():
            return _inet
        case types.MacAddress():
            return lambda data: ":".join(f"{byte:02X}" for byte in data)
        case types.Void():
            return lambda _: None
        case types.Int() | types.Bool() | types.Enumeration() | types.Pointer() | types.Stack():
            raise AssertionError(t)
        case types.KernelSymbol() | types.ProbeName() | types.Username() | types.CgroupPath() | types.Timestamp():
            raise AssertionError(t)
        case (
            types.Count()
            | types.Sum()
            | types.Average()
            | types.Minimum()
            | types.Maximum()
            | types.Stats()
            | types.Histogram()
            | types.LinearHistogram()
            | types.TimeSeries()
        ):
            raise NotSupportedError(f"a single value of {type(t).__name__.lower()}")
        case _:
            assert_never(t)


def _text(raw: bytes) -> str:
    """A string up to its terminator; without one it is a `Text`: its end may be missing."""
    end = raw.find(0)
    if end < 0:
        return Text(raw.decode("utf-8", "surrogateescape"))
    return raw[:end].decode("utf-8", "surrogateescape")


def _longest_text(raw: bytes) -> str:
    """As `_text`; the kernel's helpers end also those strings with a terminator that they cut."""
    text = _text(raw)
    return Text(text) if raw.find(0) == len(raw) - 1 else text


def numbers_at(data: bytes | bytearray, stride: int, offset: int, code: str) -> memoryview:
    """Return the numbers at an offset in each entry. (C's layout: offset and stride are multiples of their size.)"""
    numbers: memoryview = memoryview(data).cast(cast("Literal['q']", code))
    return numbers[offset // numbers.itemsize :: stride // numbers.itemsize]


def convert_all(raws: Sequence[int | bytes], shape: Shape) -> Sequence[Value]:
    """Convert many values: stacks and strings all at once, of others each different one once."""
    if shape.column is not None:
        return shape.column(cast("Sequence[bytes]", raws))
    if shape.convert is None:
        return cast("Sequence[int]", raws)
    convert = cast("Callable[[int | bytes], Value]", shape.convert)
    if shape.convert in (_text, _longest_text):
        texts = _texts(cast("Sequence[bytes]", raws), reserved=int(convert is _longest_text))
        if texts is not None:
            return texts
    known = {raw: convert(raw) for raw in set(raws)}
    return list(map(known.__getitem__, raws))


def _texts(raws: Sequence[bytes], reserved: int) -> list[str] | None:
    """Strings with zeros behind them and without line breaks; None if one is not like that, or was cut."""
    capacity = len(raws[0])
    lines = b"\n".join(raws).translate(None, b"\0").split(b"\n")
    padded = map(bytes.ljust, lines, repeat(capacity), repeat(b"\0"))
    is_cut = max(map(len, lines)) >= capacity - reserved
    if is_cut or len(lines) != len(raws) or not all(map(eq, padded, raws)):
        return None
    return b"\n".join(lines).decode("utf-8", "surrogateescape").split("\n")


def _counted(raw: bytes) -> bytes:
    return raw[4 : 4 + int.from_bytes(raw[:4], "little")]


def _enumeration(variants: tuple[tuple[str, int], ...]) -> Callable[[int], Value]:
    known = {value: EnumValue(value, name) for name, value in reversed(variants)}

    def convert(value: int) -> Value:
        found = known.get(value)
        return EnumValue(value, None) if found is None else found

    return convert


def _struct(layout: tuple[types.Field, ...] | None, names: Names) -> Callable[[bytes], Value]:
    if layout is None:
        return bytes
    labels = [field.name for field in layout]
    members = fields_decoder(layout, names)
    return lambda data: dict(zip(labels, members(data, 0), strict=True))


_STACK = Packed("<IIQ")  # how many addresses follow, whose they are, whether the stack ends early
_PIECE = 8  # addresses
Naming = Callable[[int, Sequence[int]], tuple[Frame, ...]]


def _frames(t: types.Stack, names: Names) -> Naming:
    """Who names the addresses of a process's stack."""
    if t.interpreter:
        return lambda tgid, words: names.interpreted_frames(t.interpreter, tgid, words)
    if t.mode is types.StackMode.RAW:
        return lambda tgid, addresses: tuple(Frame(address, "", 0, "") for address in addresses)
    if t.kernel:
        return lambda tgid, addresses: names.kernel_frames(addresses)
    return names.build_id_frames if t.mode is types.StackMode.BUILD_ID else names.user_frames


def _stack(t: types.Stack, naming: Naming) -> Callable[[bytes], Value]:
    def convert(data: bytes) -> Value:
        count, tgid, flags = _STACK.unpack_from(data)
        frames = naming(tgid, _addresses(data[_STACK.size : _STACK.size + 8 * min(count, t.limit)]))
        return Stack(t.kernel, t.mode, frames, not flags, t.interpreter)

    return convert


def _addresses(data: bytes) -> Sequence[int]:
    return tuple(memoryview(data).cast("Q"))


class _Pieces(dict[bytes, int]):
    """Where the frames of a part of a process's stacks are among all pieces; they are named when first asked for.

    Parts longer than ``size_bytes`` begin with the last address of the part before: on what an address has called
    depends whether it is one that a call returns to.
    """

    def __init__(self, naming: Naming, tgid: int, pieces: list[tuple[Frame, ...]], size_bytes: int) -> None:
        self._naming = naming
        self._tgid = tgid
        self._pieces = pieces
        self._size_bytes = size_bytes

    def __missing__(self, part: bytes) -> int:
        place = self[part] = len(self._pieces)
        frames = self._naming(self._tgid, _addresses(part))
        self._pieces.append(frames[1:] if len(part) > self._size_bytes else frames)
        return place


def _stacks(t: types.Stack, naming: Naming, raws: Sequence[bytes]) -> StackColumn:
    size_bytes = 8 * (t.limit if t.interpreter else _PIECE)
    pieces: list[tuple[Frame, ...]] = [()]
    known: dict[int, _Pieces] = {}
    stacks: list[tuple[int, ...]] = []
    for raw in raws:
        count, tgid, flags = _STACK.unpack_from(raw)
        of_process = known.get(tgid)
        if of_process is None:
            of_process = known[tgid] = _Pieces(naming, tgid, pieces, size_bytes)
        places = tuple(map(of_process.__getitem__, _split(min(count, t.limit), size_bytes)(raw)))
        stacks.append((*places, StackColumn.CUT) if flags else places)
    return StackColumn((t.kernel, t.mode, t.interpreter), pieces, stacks)


@cache
def _split(count: int, size_bytes: int) -> Callable[[bytes], tuple[bytes, ...]]:
    """Return what cuts a stack of so many addresses into parts for `_Pieces`.

    Full ones are counted from the outermost frame: there the same functions have called all others.
    """
    end = _STACK.size + 8 * count
    first = end - max(8 * count - 1, 0) // size_bytes * size_bytes
    if first == end:
        return lambda raw: (raw[_STACK.size : end],)
    return itemgetter(
        slice(_STACK.size, first), *[slice(at - 8, at + size_bytes) for at in range(first, end, size_bytes)]
    )


def _symbol(frames: tuple[Frame, ...]) -> Symbol:
    return Symbol(frames[0].address, frames[0].symbol)


def _user_symbol(data: bytes, names: Names) -> Symbol:
    address = int.from_bytes(data[:8], "little")
    return _symbol(names.user_frames(int.from_bytes(data[8:12], "little"), (address,)))


def _inet(data: bytes) -> str:
    if data[0] == 4:
        return ".".join(map(str, data[4:8]))
    from socket import AF_INET6, inet_ntop  # 2 ms that only IPv6 addresses need

    return inet_ntop(AF_INET6, data[4:20])
