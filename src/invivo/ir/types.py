"""The types of values: what a program computes with, what a map stores, what a record carries.

One type system serves the whole way of a value: languages check against it,
lowering lays it out in memory, and the runtime decodes bytes by it.  All
multi-byte values are little-endian (x86-64).
"""

from __future__ import annotations

from typing import assert_never

from invivo.enums import Enum
from invivo.record import Record


class AddressSpace(Enum):
    """Which memory a pointer points into, and so how it may be read."""

    KERNEL = "kernel"  # bpf_probe_read_kernel, or a direct load through BTF
    USER = "user"  # bpf_probe_read_user
    NONE = "none"  # not known: an integer that was cast to a pointer


class Void(Record):
    """No value."""


class Int(Record):
    bits: int  # 8, 16, 32 or 64
    signed: bool


class Bool(Record):
    """One byte, 0 or 1."""


class Enumeration(Record):
    """A C enum: an integer with names for some values."""

    name: str
    bits: int
    signed: bool
    variants: tuple[tuple[str, int], ...]


class Pointer(Record):
    """8 bytes. ``pointee`` is `Void` for ``void *``."""

    pointee: Type
    space: AddressSpace = AddressSpace.KERNEL


class String(Record):
    """A zero-terminated string in a fixed array of ``capacity`` bytes (terminator included).

    In memory that another program compares (a map key), the tail after the
    terminator is zero; in an event record it is not.
    """

    capacity: int


class Buffer(Record):
    """Bytes of which the first ``length`` count: a u32 length, then ``capacity`` bytes."""

    capacity: int


class Array(Record):
    element: Type
    length: int


class Field(Record):
    """A member of a struct, union or record. Offsets count from its start.

    ``bit_size`` is 0 for an ordinary member; a bitfield has its size and its
    offset in bits from ``offset`` on.
    """

    name: str
    type: Type
    offset: int
    bit_offset: int = 0
    bit_size: int = 0
    tag: str | None = None  # BTF type tag of a pointer: "user", "rcu", "percpu" ...
    overlaid: bool = False  # in a union, or from an anonymous one: other members share its place


class Struct(Record):
    """A C struct or union, by name. Its members are asked of the compile's `Target`
    (``Target.fields``), since a kernel struct may reach thousands of others.

    ``type_id`` is the BTF type id that the members come from (0: declared in the script,
    negative: of a traced program);
    ``layout`` is filled only where values of the type leave the program (records, maps),
    so that they can be decoded without asking anybody.
    """

    keyword: str  # "struct" or "union"
    name: str
    size: int
    type_id: int = 0
    layout: tuple[Field, ...] | None = None


class Tuple(Record):
    """Values side by side, aligned as C would: ``(1, "abc")``."""

    elements: tuple[Type, ...]


class NamedTuple(Record):
    """A tuple with names: ``(pid=1, name="abc")``."""

    names: tuple[str, ...]
    elements: tuple[Type, ...]


class StackMode(Enum):
    BPFTRACE = "bpftrace"
    PERF = "perf"
    RAW = "raw"
    BUILD_ID = "build_id"


class Stack(Record):
    """A stack by value: u32 number of frames, u32 tgid, u64 1 if it ends early, then ``limit`` u64 addresses.

    The frames after the last one are zero, so equal stacks are equal bytes.
    """

    kernel: bool
    mode: StackMode
    limit: int
    interpreter: str = ""  # the builtin value that found the frames of interpreted code; words instead of addresses


class KernelSymbol(Record):
    """A u64 kernel address that is shown as a symbol."""


class UserSymbol(Record):
    """A user address that is shown as a symbol: u64 address, u32 tgid, u32 zero."""


class ProbeName(Record):
    """A u64 index into the image's table of probe names, shown as the name."""


class Inet(Record):
    """An address: u8 family (4 or 6), 3 zero bytes, then 16 bytes (4 used for IPv4)."""


class MacAddress(Record):
    """6 bytes."""


class Username(Record):
    """A u64 user id that is shown as the name."""


class CgroupPath(Record):
    """A u64 cgroup id that is shown as its path; ``filter`` is a glob over hierarchies."""

    filter: str = ""


class Timestamp(Record):
    """u64 nanoseconds of a clock, shown by a strftime format as wall time."""

    format: str
    clock: Clock


class Clock(Enum):
    """What a u64 of nanoseconds counts from."""

    MONOTONIC = "monotonic"  # bpf_ktime_get_ns
    BOOT = "boot"  # bpf_ktime_get_boot_ns
    TAI = "tai"  # bpf_ktime_get_tai_ns
    SW_TAI = "sw_tai"  # boot time plus an offset read at start


class Count(Record):
    """A u64 for each CPU."""


class Sum(Record):
    signed: bool


class Average(Record):
    """For each CPU a sum, then a count of u64."""

    signed: bool


class Minimum(Record):
    """For each CPU a value, then a u64 that is 1 once it was set.

    The value is stored XORed with `extreme_bias`, so that the greatest stored number (unsigned)
    is the least or greatest value, and zeroed memory is a neutral start.
    """

    signed: bool


class Maximum(Record):
    signed: bool


class Stats(Record):
    """As `Average`, shown as count, average and total."""

    signed: bool


class Histogram(Record):
    """Powers of two, each cut into ``2**bits`` buckets: an array of u64 counts for each CPU.

    Bucket 0 counts negative values; see `invivo.ir.buckets` for the rest.
    """

    bits: int = 0


class LinearHistogram(Record):
    """Bucket 0: below ``low``; then one for each whole ``step``; the last: what follows them.

    It begins at ``high``, or before it where the steps do not fill the range.
    """

    low: int
    high: int
    step: int


SERIES_BUCKET_BYTES = 32


class TimeSeries(Record):
    """The last ``length`` intervals of a value, each reduced by ``reduce``.

    A ring of buckets, shared by all CPUs: interval ``i`` (wall-clock time divided by
    ``interval_ns``) is in bucket ``i % length``.  A bucket is a u64 interval (0: none yet), the
    value (of min and max as in `Minimum`, of avg the sum), a count or 1, and 8 unused bytes.
    """

    signed: bool
    interval_ns: int
    length: int
    reduce: str = "last"  # last avg max min sum


Aggregation = Count | Sum | Average | Minimum | Maximum | Stats | Histogram | LinearHistogram | TimeSeries
Scalar = Int | Bool | Enumeration | Pointer | KernelSymbol | Username | ProbeName | CgroupPath | Timestamp
Memory = String | Buffer | Array | Struct | Tuple | NamedTuple | Stack | UserSymbol | Inet | MacAddress
Type = Void | Scalar | Memory | Aggregation

VOID = Void()
BOOL = Bool()
INT8, INT16, INT32, INT64 = (Int(bits, True) for bits in (8, 16, 32, 64))
UINT8, UINT16, UINT32, UINT64 = (Int(bits, False) for bits in (8, 16, 32, 64))

_AGGREGATIONS = frozenset({Count, Sum, Average, Minimum, Maximum, Stats, Histogram, LinearHistogram, TimeSeries})
_SCALARS = frozenset({Int, Bool, Enumeration, Pointer, KernelSymbol, Username, ProbeName, CgroupPath, Timestamp})


def is_aggregation(t: Type) -> bool:
    return type(t) in _AGGREGATIONS


def is_scalar(t: Type) -> bool:
    """Whether values of the type are one machine word in the IR."""
    return type(t) in _SCALARS


def size_bytes(t: Type) -> int:
    """The size of a value in memory (of one CPU's slot, for an aggregation)."""
    match t:
        case Int(bits) | Enumeration(_, bits):
            return bits // 8
        case Void():
            return 0
        case Bool():
            return 1
        case Pointer() | KernelSymbol() | Username() | ProbeName() | CgroupPath() | Timestamp():
            return 8
        case String(capacity):
            return capacity
        case Buffer(capacity):
            return 4 + capacity
        case Array(element, length):
            return size_bytes(element) * length
        case Struct(_, _, size):
            return size
        case Tuple(elements) | NamedTuple(_, elements):
            return tuple_layout(elements)[1]
        case Stack(_, _, limit):
            return 16 + 8 * limit
        case UserSymbol():
            return 16
        case Inet():
            return 20
        case MacAddress():
            return 6
        case Count() | Sum():
            return 8
        case Average() | Stats() | Minimum() | Maximum():
            return 16
        case Histogram() | LinearHistogram():
            return 8 * bucket_count(t)
        case TimeSeries(_, _, length):
            return SERIES_BUCKET_BYTES * length
        case _:
            assert_never(t)


def alignment(t: Type) -> int:
    """The alignment that C would give the type; at most 8."""
    match t:
        case Array(element, _):
            return alignment(element)
        case Tuple(elements) | NamedTuple(_, elements):
            return max((alignment(element) for element in elements), default=1)
        case String() | MacAddress() | Void():
            return 1
        case Buffer() | Inet():
            return 4
        case Struct(_, _, size):
            return 8 if size % 8 == 0 else 4 if size % 4 == 0 else 2 if size % 2 == 0 else 1
        case Stack() | UserSymbol():
            return 8
        case _:
            return min(size_bytes(t), 8) if is_scalar(t) else 8


def extreme_bias(t: Minimum | Maximum) -> int:
    """What a value of min() or max() is XORed with in memory."""
    sign = 1 << 63
    every = (1 << 64) - 1
    if isinstance(t, Maximum):
        return sign if t.signed else 0
    return every ^ sign if t.signed else every


def tuple_layout(elements: tuple[Type, ...]) -> tuple[tuple[int, ...], int]:
    """Return the offset of each element, in declared order as C lays them out, and the whole size."""
    offsets: list[int] = []
    position = 0
    widest = 1
    for element in elements:
        align = alignment(element)
        widest = max(widest, align)
        position = -(-position // align) * align
        offsets.append(position)
        position += size_bytes(element)
    return tuple(offsets), -(-position // widest) * widest


def bucket_count(t: Histogram | LinearHistogram) -> int:
    """How many u64 counts a histogram has."""
    match t:
        case Histogram(bits):
            # Negative, then 2**(bits+1) exact values, then 2**bits for each further power of two.
            return 1 + (2 << bits) + (63 - bits) * (1 << bits)
        case LinearHistogram(low, high, step):
            return 2 + (high - low) // step
        case _:
            assert_never(t)
