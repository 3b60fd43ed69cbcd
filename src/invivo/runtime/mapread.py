"""A map of the script → a snapshot in display order; and clearing and zeroing it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from operator import itemgetter
from struct import iter_unpack
from typing import TypeVar, cast

from invivo.events import EntryColumns, MapSnapshot, Value
from invivo.ir import types
from invivo.ir.layout import MapLayout, Storage
from invivo.ir.types import Type
from invivo.runtime.decode import Names, convert_all, numbers_at, shape_of
from invivo.runtime.reduce import divide, reduction
from invivo.runtime.seams import EntriesRead, MapHandle

_MANY = 5_000  # entries, from which on their keys are sorted without an object for each
_WIDEST = 128  # bytes of such keys: larger ones, stacks, are objects anyway
_STACK_HEADER_BYTES = 16  # `ir.types.Stack`; the number of addresses stands first
T = TypeVar("T")
_SIGN_FLIPPED = bytes(byte ^ 0x80 for byte in range(256))


class MapReader:
    """Reads one map of the script. ``cpus`` are the possible CPUs: the number of per-CPU slots."""

    def __init__(
        self, layout: MapLayout, source: MapHandle, cpus: int, names: Names, *, bpftrace: bool = False
    ) -> None:
        self.layout = layout
        self._source = source
        self._is_cell = layout.storage in (Storage.CELL, Storage.PERCPU_CELL)
        self._slots = cpus if layout.storage in (Storage.PERCPU_CELL, Storage.PERCPU_HASH) else 1
        self._size = types.size_bytes(layout.value)
        self._padded = -(-self._size // 8) * 8
        self._reduction = reduction(layout.value, self._slots, names, bpftrace=bpftrace)
        self._keys = KeyReader(layout.key or (), names)

    def snapshot(self, top: int = 0, divisor: int = 0, *, take: bool = False, at_end: bool = False) -> MapSnapshot:
        """Read the map; ``take`` empties it in the same breath.

        ``top``: only the last (largest) entries, 0: all. ``divisor``: 0 or 1: values as they are.
        """
        layout = self.layout
        if layout.key is None:
            slots = self._scalar(take)
            entries = EntryColumns(None, self._reduction.reduce(slots, len(slots)))
        else:
            entries = self._sorted(self._source.take_all() if take else self._source.read_all(), top)
        if divisor > 1:
            entries = EntryColumns(entries.parts, [divide(value, divisor) for value in entries.values])
        return MapSnapshot(layout.name, self._reduction.kind, layout.key is None, entries, at_end)

    def clear(self) -> None:
        """Remove all keys; a scalar map becomes unwritten."""
        if self._is_cell:
            self._scalar(take=True)
        else:
            self._source.clear()

    def zero(self) -> None:
        """Keep the keys, set all values to zero."""
        if self._is_cell:
            present = self._present()
            self._scalar(take=True)
            if present is not None:
                present[0] = 1
            return
        for key, value in self._source.read_all():
            self._source.update(key, bytes(len(value)))

    def _scalar(self, take: bool) -> bytes:
        """All slots of a scalar map, one after another."""
        if not self._is_cell:
            found = self._source.take_all() if take else self._source.read_all()
            return bytes(found.all_values) or bytes(self._slots * self._padded)
        # Programs on other CPUs write at the same time.  Words are taken one by one, the new
        # zero right behind the read, so that as little as possible falls between.
        result = b""
        for words in self._cells():
            if take:
                for index in range(len(words)):
                    word = words[index]
                    words[index] = 0
                    result += word.to_bytes(8, "little")
            else:
                result += words.tobytes()
        if take and (present := self._present()) is not None:
            present[0] = 0
        return result

    def _cells(self) -> Iterator[memoryview]:
        memory = self._source.memory()
        for slot in range(self._slots):
            start = self.layout.offset + slot * self.layout.stride
            yield memory[start : start + self._padded].cast("B").cast("Q")

    def _present(self) -> memoryview | None:
        start = self.layout.present
        return None if start < 0 else self._source.memory()[start : start + 8].cast("B").cast("Q")

    def _sorted(self, found: EntriesRead, top: int) -> EntryColumns:
        reduction = self._reduction
        values = reduction.reduce(found.all_values, found.value_size)
        weigh = reduction.weigh
        weights: Sequence[int] = ()
        if weigh is not None:
            weights = cast("Sequence[int]", values) if weigh is int else list(map(weigh, values))
        order = self._keys.order(found, weights)
        if top:
            order = order[-top:]
        # Keys are decoded last, and only those that are shown: stacks in them cost symbol lookups.
        return EntryColumns(self._keys.columns(found, order), _picked(values, order))


class KeyReader:
    """Decodes and ranks keys, many at a time."""

    def __init__(self, parts: tuple[Type, ...], names: Names) -> None:
        self._offsets, _ = types.tuple_layout(parts)
        self._shapes = [shape_of(part, names) for part in parts]
        self._numbers = list(_sorted_as_numbers(parts, 0))
        self._is_stack = len(parts) == 1 and isinstance(parts[0], types.Stack)
        self._is_number = len(parts) == len(self._numbers) == 1 and not self._shapes[0].code.endswith("s")

    def order(self, found: EntriesRead, weights: Sequence[int] = ()) -> Sequence[int]:
        """Return the entries' indices, sorted by weight, then by key: part by part, strings bytewise."""
        if not found:
            return []
        if len(found) >= _MANY and found.key_size <= _WIDEST:
            from invivo.runtime.large import sorted_rows

            return sorted_rows(self._rows(found), found.key_size, weights)
        ranks = self._ranks(found)
        order = sorted(range(len(ranks)), key=ranks.__getitem__)
        if weights:
            order.sort(key=weights.__getitem__)
        return order

    def _ranks(self, found: EntriesRead) -> Sequence[int | bytes]:
        """What the keys are compared by: a number that is alone, or all bytes."""
        if self._is_number:
            ((offset, code),) = self._numbers
            return numbers_at(found.all_keys, found.key_size, offset, code).tolist()
        if not self._numbers:
            return found.each_key(self._used_bytes(found))
        return _items(self._rows(found), found.key_size, 0, found.key_size)

    def _rows(self, found: EntriesRead) -> bytearray:
        """The keys, each number with its first byte first: as bytes they are compared three times as fast as tuples."""
        if not self._numbers:
            return found.all_keys
        rows = bytearray(found.all_keys)
        for offset, code in self._numbers:
            numbers = numbers_at(rows, found.key_size, offset, code)
            numbers[:] = memoryview(_swapped(code, numbers.tobytes()))
            if code.islower():
                rows[offset :: found.key_size] = rows[offset :: found.key_size].translate(_SIGN_FLIPPED)
        return rows

    def columns(self, found: EntriesRead, order: Sequence[int]) -> list[Sequence[Value]]:
        """Return the parts of the keys, in an order."""
        if not order:
            return [()] * len(self._shapes)
        columns: list[Sequence[Value]] = []
        for offset, shape in zip(self._offsets, self._shapes, strict=True):
            column = _picked(self._column(found, offset, shape.code), order)
            columns.append(convert_all(column, shape))
        return columns

    def _column(self, found: EntriesRead, offset: int, code: str) -> Sequence[int | bytes]:
        """One part of all keys, as `decode.Shape` says how it is read."""
        if not code.endswith("s"):
            return numbers_at(found.all_keys, found.key_size, offset, code)
        size = int(code[:-1])
        if size == found.key_size:
            return found.each_key(self._used_bytes(found))
        return _items(found.all_keys, found.key_size, offset, size)

    def _used_bytes(self, found: EntriesRead) -> int:
        """How much of the keys is used by any: most stacks are much shorter than what they have room for."""
        if not self._is_stack or not found:
            return found.key_size
        most = max(numbers_at(found.all_keys, found.key_size, 0, "I"))
        return min(_STACK_HEADER_BYTES + 8 * most, found.key_size)


def _swapped(code: str, data: bytes) -> memoryview:
    from array import array  # only sorting needs it

    numbers = array(code, data)
    numbers.byteswap()
    return memoryview(numbers)


def _items(data: bytes | bytearray, stride: int, offset: int, size: int) -> list[bytes]:
    return list(map(itemgetter(0), iter_unpack(f"{offset}x{size}s{stride - offset - size}x", data)))


def _picked(column: Sequence[T], order: Sequence[int]) -> Sequence[T]:
    """Return values in an order."""
    return itemgetter(*order)(column) if len(order) > 1 else [column[index] for index in order]


def _sorted_as_numbers(parts: tuple[Type, ...], base: int) -> Iterator[tuple[int, str]]:
    """Offsets and codes of those parts of a key that are numbers; all others are sorted by their bytes.

    (bpftrace leaves those but strings as they come; an order of their own makes equal results equal texts.)
    """
    for offset, part in zip(types.tuple_layout(parts)[0], parts, strict=True):
        match part:
            case types.Int(bits, signed) | types.Enumeration(_, bits, signed):
                code = {8: "b", 16: "h", 32: "i", 64: "q"}[bits]
                yield base + offset, code if signed or bits == 64 else code.upper()
            case types.Bool():
                pass
            case types.Tuple(elements) | types.NamedTuple(_, elements):
                yield from _sorted_as_numbers(elements, base + offset)
            case _ if types.is_scalar(part):
                yield base + offset, "Q"
            case _:
                pass
