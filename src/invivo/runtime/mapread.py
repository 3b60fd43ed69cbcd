"""A map of the script → a snapshot in display order; and clearing and zeroing it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from struct import Struct as Packed
from struct import unpack

from invivo.events import EntryColumns, MapSnapshot, Value
from invivo.ir import types
from invivo.ir.layout import MapLayout, Storage
from invivo.ir.types import Type
from invivo.runtime.decode import Names, shape_of
from invivo.runtime.reduce import divide, reduction
from invivo.runtime.seams import EntriesRead, MapHandle


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
        values = self._reduction.reduce(found.all_values, found.value_size)
        order = self._keys.order(found)
        if self._reduction.weigh is not None:
            order.sort(key=list(map(self._reduction.weigh, values)).__getitem__)  # stable: equal ones stay by key
        if top:
            order = order[-top:]
        # Keys are decoded last, and only those that are shown: stacks in them cost symbol lookups.
        return EntryColumns(self._keys.columns(found, order), [values[index] for index in order])


class KeyReader:
    """Decodes and ranks keys, many at a time."""

    def __init__(self, parts: tuple[Type, ...], names: Names) -> None:
        offsets, size = types.tuple_layout(parts)
        shapes = [shape_of(part, names) for part in parts]
        self._size = size
        self._unpack = Packed(_code([(o, s.code) for o, s in zip(offsets, shapes, strict=True)], size))
        self._converts = [shape.convert for shape in shapes]
        ranked = list(_ranked(parts, 0))
        self._rank = Packed(_code(ranked, size))
        self._ranks_alone = len(ranked) == 1  # numbers are compared faster than tuples of one
        # Keys of one number each are an array of such numbers.
        self._word = ranked[0][1] if self._rank.format in ("<b", "<B", "<h", "<H", "<i", "<I", "<q", "<Q") else ""

    def order(self, found: EntriesRead) -> list[int]:
        """Return the keys' indices, sorted: integers as signed, strings bytewise, tuples part by part."""
        keys = self._trimmed(found)
        if not keys:
            return []
        if self._word:
            return sorted(range(len(found)), key=unpack(f"<{len(found)}{self._word}", keys).__getitem__)
        ranks = list(self._rank.iter_unpack(keys))
        if self._ranks_alone:
            return sorted(range(len(ranks)), key=[rank for (rank,) in ranks].__getitem__)
        return sorted(range(len(ranks)), key=ranks.__getitem__)

    def columns(self, found: EntriesRead, order: Sequence[int]) -> list[Sequence[Value]]:
        """Return the parts of the keys, in an order."""
        keys = self._trimmed(found)
        if not order:
            return [()] * len(self._converts)
        if self._word and self._unpack.format == self._rank.format:
            parts = [unpack(f"<{len(found)}{self._word}", keys)]
        else:
            parts = list(zip(*self._unpack.iter_unpack(keys), strict=True))
        columns: list[Sequence[Value]] = []
        for part, convert in zip(parts, self._converts, strict=True):
            column = [part[index] for index in order]
            if convert is not None:
                # Keys of several parts repeat them: each different one is converted once.
                known = {each: convert(each) for each in set(column)}
                column = [known[each] for each in column]
            columns.append(column)
        return columns

    def _trimmed(self, found: EntriesRead) -> bytes | bytearray:
        """The keys without the padding that a map's key may have beyond the tuple's own size."""
        if found.key_size == self._size:
            return found.all_keys
        return b"".join([key[: self._size] for key, _ in found])


def _code(parts: Sequence[tuple[int, str]], size: int) -> str:
    """Return the format of values at offsets, padded to a whole size."""
    code = "<"
    for offset, part in parts:
        code += f"{offset - Packed(code).size}x{part}"
    return f"{code}{size - Packed(code).size}x"


def _ranked(parts: tuple[Type, ...], base: int) -> Iterator[tuple[int, str]]:
    """Offsets and formats of those parts that a key is sorted by."""
    for offset, part in zip(types.tuple_layout(parts)[0], parts, strict=True):
        match part:
            case types.Int(bits, signed) | types.Enumeration(_, bits, signed):
                code = {8: "b", 16: "h", 32: "i", 64: "q"}[bits]
                yield base + offset, code if signed or bits == 64 else code.upper()
            case types.Bool():
                yield base + offset, "B"
            case types.String(capacity):
                yield base + offset, f"{capacity}s"
            case types.Tuple(elements) | types.NamedTuple(_, elements):
                yield from _ranked(elements, base + offset)
            case types.Inet() | types.MacAddress() | types.Buffer() | types.Stack() | types.UserSymbol():
                # bpftrace leaves these and the next as they come; an order of their own makes
                # equal results equal texts.
                yield base + offset, f"{types.size_bytes(part)}s"
            case _ if types.is_scalar(part):
                yield base + offset, "Q"
            case _:
                pass
