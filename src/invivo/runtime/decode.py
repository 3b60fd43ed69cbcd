"""Bytes → values, for every type: a decoder is built once for a type and called for each value."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import repeat
from operator import eq
from struct import Struct as Packed
from typing import Literal, Protocol, assert_never, cast

from invivo.errors import NotSupportedError
from invivo.events import Address, EnumValue, Frame, Stack, Symbol, Text, Value
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

    Words are read as integers, everything else as bytes.
    """

    code: str
    convert: Convert | None


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
        case types.Stack():
            return _stack(t, names)
        case types.UserSymbol():
            return lambda data: _user_symbol(data, names)
        case types.Inet():
            return _inet
        case types.MacAddress():
            return lambda data: ":".join(f"{byte:02X}" for byte in data)
        case types.Void():
            return lambda _: None
        case types.Int() | types.Bool() | types.Enumeration() | types.Pointer():
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


def convert_all(raws: Sequence[int | bytes], convert: Callable[..., Value]) -> Sequence[Value]:
    """Convert many values: strings all at once, of others each different one once."""
    if convert in (_text, _longest_text):
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


def _stack(t: types.Stack, names: Names) -> Callable[[bytes], Value]:
    header = Packed("<IIQ").unpack_from

    def convert(data: bytes) -> Value:
        count, tgid, flags = header(data)
        count = min(count, t.limit)
        addresses = Packed(f"<{count}Q").unpack_from(data, 16)
        if t.interpreter:
            frames = names.interpreted_frames(t.interpreter, tgid, addresses)
        elif t.mode is types.StackMode.RAW:
            frames = tuple(Frame(address, "", 0, "") for address in addresses)
        elif t.kernel:
            frames = names.kernel_frames(addresses)
        elif t.mode is types.StackMode.BUILD_ID:
            frames = names.build_id_frames(tgid, addresses)
        else:
            frames = names.user_frames(tgid, addresses)
        return Stack(t.kernel, t.mode, frames, not flags, t.interpreter)

    return convert


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
