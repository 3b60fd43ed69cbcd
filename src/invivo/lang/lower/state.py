"""What lowering gathers for the whole program: maps, records, losses, read-only data."""

from __future__ import annotations

from collections.abc import Iterable

from invivo.diagnostics import Span
from invivo.ir import types as t
from invivo.ir.layout import (
    CELLS_MAP,
    CONSTANTS_MAP,
    LOSSES_MAP,
    RING_MAP,
    SCOPE_MAP,
    WAKE_MAP,
    Action,
    ErrorSite,
    LoadConstant,
    LossCounter,
    LossKind,
    MapLayout,
    MapSpec,
    MapType,
    RecordLayout,
    Storage,
)
from invivo.ir.ops import Function
from invivo.ir.types import Field, Type
from invivo.lang.check.model import Checked, MapInfo
from invivo.library.spelling import PROBE_NAME_CAPACITY
from invivo.record import Record, replace
from invivo.target import Scope, Target

SCRATCH_MAP = "invivo_scratch"
BUSY_MAP = "invivo_busy"
NAMES_MAP = "invivo_names"  # the probes' names, for programs that compare or copy them
SCRATCH_SLOTS = 8  # for each CPU: programs that interrupt each other
CACHE_LINE = 64

# include/uapi/linux/bpf.h
BPF_F_NO_PREALLOC = 1
BPF_F_RDONLY_PROG = 1 << 7
BPF_F_MMAPABLE = 1 << 10

_LARGE_VALUE = 256  # bytes: preallocating thousands of these would be wasteful
_MIN_RING, _MAX_RING = 1 << 20, 1 << 23  # mapped twice, it counts twice in the memory of 40 MiB
_RING_RECORDS = 8192
_SCOPE_ENTRIES = 65536


class StoredMap(Record):
    """A map of the script with its storage decided."""

    info: MapInfo
    layout: MapLayout
    key_size: int
    value_size: int


class ProgramState:
    """Shared by all programs of a script while they are lowered."""

    def __init__(self, checked: Checked, target: Target, *, demangles: bool) -> None:
        """``demangles``: names of C++ functions are shown as its programs have them."""
        self.demangles = demangles
        self.checked = checked
        self.target = target
        self.cpu_slots = 1 << (max(1, target.cpus) - 1).bit_length()
        self.functions: list[Function] = []
        self.records: list[RecordLayout] = []
        self.probes: dict[str, int] = {"": 0}  # indexes of names; the first is what a map's missing element shows
        self.sites: list[ErrorSite] = []
        self.losses: dict[tuple[LossKind, str], LossCounter] = {}
        self.constants = bytearray(8 * len(LoadConstant))
        self.zeros: tuple[int, int] | None = None
        self.scratch_size = 0
        self.name_rows = 0
        self.cells_size = 0  # shared cells
        self.cpu_cells_size = 0  # in each CPU's area
        self.maps: dict[str, StoredMap] = {}
        self.specs: list[MapSpec] = []
        for name, info in sorted(checked.maps.items()):
            if info.value is not None:
                self._store(name, info)
        self._place_cells()

    # -- maps of the script --------------------------------------------------------------------

    def _store(self, name: str, info: MapInfo) -> None:
        value = info.value
        assert value is not None
        value_size = max(8, -(-t.size_bytes(value) // 8) * 8)
        shared = isinstance(value, t.Histogram | t.LinearHistogram | t.TimeSeries) or not t.is_aggregation(value)
        if info.scalar is not False:
            self._store_cell(name, info, value, value_size)
            return
        assert info.key is not None
        key_size = t.tuple_layout(info.key)[1]
        kind, entries = self._declared(info, shared)
        storage = Storage.PERCPU_HASH if kind in (MapType.PERCPU_HASH, MapType.LRU_PERCPU_HASH) else Storage.HASH
        lru = kind in (MapType.LRU_HASH, MapType.LRU_PERCPU_HASH)
        flags = BPF_F_NO_PREALLOC if key_size + value_size > _LARGE_VALUE and not lru else 0
        map_name = f"m{len(self.specs)}"
        self.specs.append(MapSpec(map_name, kind, key_size, value_size, entries, flags))
        layout = MapLayout(name, info.key, value, storage, map_name)
        self.maps[name] = StoredMap(info, layout, key_size, value_size)

    def _declared(self, info: MapInfo, shared: bool) -> tuple[MapType, int]:
        default = MapType.HASH if shared else MapType.PERCPU_HASH
        if info.declaration is None:
            return default, self.checked.config.max_map_keys
        kind = _DECLARABLE.get(info.declaration.kind, default)
        if not shared and kind in (MapType.HASH, MapType.LRU_HASH):
            kind = MapType.PERCPU_HASH if kind is MapType.HASH else MapType.LRU_PERCPU_HASH
        if isinstance(info.value, t.TimeSeries) and kind in (MapType.PERCPU_HASH, MapType.LRU_PERCPU_HASH):
            kind = MapType.HASH if kind is MapType.PERCPU_HASH else MapType.LRU_HASH
        return kind, info.declaration.max_entries

    def _store_cell(self, name: str, info: MapInfo, value: Type, value_size: int) -> None:
        present = -1
        if t.is_aggregation(value) and not isinstance(value, t.TimeSeries):
            offset, storage = self.cpu_cells_size, Storage.PERCPU_CELL
            self.cpu_cells_size += value_size
        else:
            offset, storage = self.cells_size, Storage.CELL
            self.cells_size += value_size
        if info.deleted:
            present = self.cells_size
            self.cells_size += 8
        layout = MapLayout(name, None, value, storage, CELLS_MAP, offset, 0, present)
        self.maps[name] = StoredMap(info, layout, 0, value_size)

    def _place_cells(self) -> None:
        """Put the CPUs' areas after the shared cells, each on cache lines of its own."""
        self.cells_size = -(-self.cells_size // CACHE_LINE) * CACHE_LINE
        stride = max(CACHE_LINE, 1 << (self.cpu_cells_size - 1).bit_length()) if self.cpu_cells_size else 0
        self.cpu_stride = stride
        for name, stored in self.maps.items():
            layout = stored.layout
            if layout.storage is Storage.PERCPU_CELL:
                moved = MapLayout(
                    layout.name,
                    None,
                    layout.value,
                    layout.storage,
                    layout.map,
                    self.cells_size + layout.offset,
                    stride,
                    layout.present,
                )
                self.maps[name] = StoredMap(stored.info, moved, 0, stored.value_size)

    # -- read-only data ------------------------------------------------------------------------

    def constant(self, data: bytes) -> int:
        """Put bytes into the read-only data; the result is their offset there."""
        offset = len(self.constants)
        self.constants += data + bytes(-len(data) % 8)
        return offset

    def name_indexes(self, names: Iterable[str]) -> tuple[int, ...]:
        """Return the indexes of names of probes and functions; equal names have one."""
        return tuple(self.probes.setdefault(name, len(self.probes)) for name in names)

    def zero_bytes(self, size: int) -> int:
        """The offset of at least ``size`` zero bytes in the read-only data."""
        if self.zeros is None or self.zeros[1] < size:
            self.zeros = (self.constant(bytes(size)), size)
        return self.zeros[0]

    def use_names(self) -> int:
        """Ask for the table of names; the result is its number of rows, a power of two."""
        points = sum(len(instance.plan.points) for instance in self.checked.instances)
        self.name_rows = 1 << (2 * points).bit_length()  # no name, a probe's name and its function's
        return self.name_rows

    def need_map(self, spec: MapSpec) -> None:
        """Have a map that the script does not name."""
        if spec not in self.specs:
            self.specs.append(spec)

    def has_map(self, name: str) -> bool:
        return any(spec.name == name for spec in self.specs)

    # -- records, losses, places ---------------------------------------------------------------

    def record(self, action: Action, fields: list[tuple[str, Type]], span: Span | None) -> RecordLayout:
        """Lay out a new kind of record."""
        position = 8
        placed: list[Field] = []
        for name, type_ in fields:
            align = t.alignment(type_)
            position = -(-position // align) * align
            placed.append(Field(name, self.decodable(type_), position))
            position += t.size_bytes(type_)
        size = -(-position // 8) * 8
        layout = RecordLayout(len(self.records), action, tuple(placed), size, 1, span)
        self.records.append(layout)
        return layout

    def decodable_map(self, stored: StoredMap) -> MapLayout:
        layout = stored.layout
        key = None if layout.key is None else tuple(self.decodable(part) for part in layout.key)
        return replace(layout, key=key, value=self.decodable(layout.value))

    def decodable(self, type_: Type) -> Type:
        """Return a type with the members of its structs, so that its values can be taken apart."""
        match type_:
            case t.Struct(layout=None):
                fields = [replace(f, type=self.decodable(f.type)) for f in self.target.fields(type_)]
                return replace(type_, layout=tuple(fields))
            case t.Array(element, length):
                return t.Array(self.decodable(element), length)
            case t.Tuple(elements):
                return t.Tuple(tuple(self.decodable(element) for element in elements))
            case t.NamedTuple(names, elements):
                return t.NamedTuple(names, tuple(self.decodable(element) for element in elements))
            case _:
                return type_

    @property
    def stride(self) -> int:
        return 8 + max(record.size for record in self.records) if self.records else 0

    def loss(self, kind: LossKind, subject: str) -> LossCounter:
        counter = self.losses.get((kind, subject))
        if counter is None:
            counter = self.losses[kind, subject] = LossCounter(kind, subject, 8 * len(self.losses))
        return counter

    def site(self, span: Span | None, helper: str, message: str) -> int:
        self.sites.append(ErrorSite(span, helper, message))
        return len(self.sites) - 1

    # -- the maps that the program needs -------------------------------------------------------

    def map_specs(self) -> tuple[MapSpec, ...]:
        """All maps, the program's own first."""
        specs = [
            MapSpec(
                CONSTANTS_MAP,
                MapType.ARRAY,
                4,
                len(self.constants),
                1,
                BPF_F_RDONLY_PROG,
                bytes(self.constants),
                frozen=True,
            )
        ]
        if self.name_rows:
            rows = [name.encode()[: PROBE_NAME_CAPACITY - 1].ljust(PROBE_NAME_CAPACITY, b"\0") for name in self.probes]
            size = self.name_rows * PROBE_NAME_CAPACITY
            initial = b"".join(rows).ljust(size, b"\0")
            specs.append(MapSpec(NAMES_MAP, MapType.ARRAY, 4, size, 1, BPF_F_RDONLY_PROG, initial, frozen=True))
        if self.losses:
            specs.append(MapSpec(LOSSES_MAP, MapType.ARRAY, 4, 8 * len(self.losses), 1, BPF_F_MMAPABLE))
        cells = self.cells_size + self.cpu_stride * self.cpu_slots
        if cells:
            specs.append(MapSpec(CELLS_MAP, MapType.ARRAY, 4, cells, 1, BPF_F_MMAPABLE))
        if self.records:
            specs.append(MapSpec(WAKE_MAP, MapType.ARRAY, 4, 8, 1, BPF_F_MMAPABLE))
            specs.append(MapSpec(RING_MAP, MapType.RINGBUF, 0, 0, self._ring_size()))
        if self.scratch_size:
            entries = self.cpu_slots * SCRATCH_SLOTS
            specs.append(MapSpec(SCRATCH_MAP, MapType.ARRAY, 4, self.scratch_size, entries))
            busy = self.cpu_slots * CACHE_LINE
            specs.append(MapSpec(BUSY_MAP, MapType.ARRAY, 4, busy, 1, BPF_F_MMAPABLE))
        if self.target.scope is Scope.TREE:
            specs.append(MapSpec(SCOPE_MAP, MapType.HASH, 4, 1, _SCOPE_ENTRIES, BPF_F_NO_PREALLOC))
        return (*specs, *self.specs)

    def _ring_size(self) -> int:
        """A power of two with room for some thousand records, within the memory budget."""
        wanted = 1 << (self.stride * _RING_RECORDS - 1).bit_length()
        return max(_MIN_RING, min(_MAX_RING, wanted), 1 << (4 * self.stride - 1).bit_length())


_DECLARABLE = {
    "hash": MapType.HASH,
    "lruhash": MapType.LRU_HASH,
    "percpuhash": MapType.PERCPU_HASH,
    "percpulruhash": MapType.LRU_PERCPU_HASH,
}
