"""What a program stores and sends, and how its bytes are decoded again.

Written by the compile side, read by the runtime; no word here of any language.
"""

from __future__ import annotations

from invivo.diagnostics import Span
from invivo.enums import Enum
from invivo.ir.format import Format
from invivo.ir.types import Field, Type
from invivo.record import Record


class MapType(Enum):
    """``enum bpf_map_type``, include/uapi/linux/bpf.h."""

    HASH = 1
    ARRAY = 2
    PERCPU_HASH = 5
    PERCPU_ARRAY = 6
    LRU_HASH = 9
    LRU_PERCPU_HASH = 10
    RINGBUF = 27


class MapSpec(Record):
    """A map to be created. Names are unique within an image; ``flags`` are BPF_F_* bits.

    ``initial`` (ARRAY with one entry only) is written before programs are loaded; ``frozen``
    makes it read-only to programs and user space afterwards, so the verifier knows its content.
    """

    name: str
    type: MapType
    key_size: int
    value_size: int
    max_entries: int
    flags: int = 0
    initial: bytes = b""
    frozen: bool = False


class Storage(Enum):
    """Where the values of a map of the script live."""

    HASH = "hash"  # one value for each key
    PERCPU_HASH = "percpu_hash"  # one value for each key and CPU, reduced when read
    CELL = "cell"  # one value, at ``offset`` of a mapped array
    PERCPU_CELL = "percpu_cell"  # one value in each CPU's slot of a mapped array:
    # at offset + cpu * stride


class MapLayout(Record):
    """A map of the script (``@``, ``@start``): where its values are and what they mean.

    ``key`` is None for a scalar map; else the types of its parts, laid out as a tuple
    (`types.tuple_layout`), padding zero.  ``map`` names a `MapSpec`.  ``value`` may be an
    aggregation.  For cells ``offset`` and ``stride`` are in bytes; ``present`` is the offset
    of a u64 that is 1 once the cell was written, or -1 if nobody needs to know.
    """

    name: str
    key: tuple[Type, ...] | None
    value: Type
    storage: Storage
    map: str
    offset: int = 0
    stride: int = 0
    present: int = -1


class ErrorSite(Record):
    """A place in the source where a helper may fail at run time."""

    span: Span | None
    helper: str  # "map_update_elem"
    message: str  # what to say; "" stands for strerror(-retcode)


class Printf(Record):
    """Write a formatted text."""

    format: Format


class PrintValue(Record):
    """Write the record's only field (named ``value``)."""


class PrintMapValue(Record):
    """Write one element of a map: fields ``key`` (absent for a scalar map) and ``value``."""

    map: str


class PrintMap(Record):
    map: str
    top: int = 0  # 0: all
    divisor: int = 0  # 0: as it is


class ClearMap(Record):
    """Remove all keys."""

    map: str


class ZeroMap(Record):
    """Keep the keys, set the values to zero."""

    map: str


class PrintTime(Record):
    """Write the wall time of the moment the record is handled."""

    format: str


class Cat(Record):
    """Write the content of the file whose name is the formatted text."""

    format: Format


class System(Record):
    """Run a shell command and write what it prints."""

    format: Format


class Join(Record):
    """Write the strings of the record's fields up to the first absent one, with a separator.

    Fields: ``count`` (u64), then ``0`` ... (strings).
    """

    separator: str


class Exit(Record):
    """End the session; field ``code`` (i64)."""


class Unwatch(Record):
    """Detach the watchpoints at an address; field ``address`` (u64)."""


class WritePacket(Record):
    """Add a packet to a pcap file; fields ``time_ns`` (u64, the boot clock), ``length`` (u32), ``data`` (buffer)."""

    path: str


class Complain(Record):
    """``errorf`` and ``warnf``: a formatted text on stderr, with the place it came from.

    ``runtime``: the program was not told to say this, something went wrong in it.
    """

    format: Format
    span: Span | None
    severity: str  # "ERROR" or "WARNING"
    runtime: bool = False


class HelperFailed(Record):
    """A helper failed where the program did not look at the result.

    Fields: ``site`` (u64 index into `Layout.sites`), ``code`` (i64, negative errno).
    """


Action = (
    Printf
    | PrintValue
    | PrintMapValue
    | PrintMap
    | ClearMap
    | ZeroMap
    | PrintTime
    | Cat
    | System
    | Join
    | Exit
    | Unwatch
    | WritePacket
    | Complain
    | HelperFailed
)


class RecordLayout(Record):
    """One kind of record in the ring. Payload: u32 id, u32 flags, then the fields.

    ``fields`` have offsets from the start of the payload; ``size`` is the payload's whole size.
    The ring's header word (8 bytes) comes before the payload; header and payload together
    occupy ``strides`` strides of `Layout.stride` bytes, and at each inner stride's start the
    payload has an 8-byte continuation word (zero) in place of data.
    Flags: bit 0: a read of the traced program's memory failed.
    """

    id: int
    action: Action
    fields: tuple[Field, ...]
    size: int
    strides: int
    span: Span | None = None


RECORD_READ_FAILED = 1


class LossKind(Enum):
    """Why something is missing from the result."""

    RING_FULL = "ring-full"  # reserve failed: full, or contended
    MAP_FULL = "map-full"
    MAP_UPDATE = "map-update"  # failed for another reason than a full map
    SCRATCH_BUSY = "scratch-busy"  # no scratch slot free: programs nested too deep
    READ_FAILED = "read-failed"  # memory of the traced program was not resident
    STACK_FAILED = "stack-failed"
    LOOP_CAPPED = "loop-capped"
    UNWIND_NO_TABLE = "unwind-no-table"  # the code was mapped a moment ago, or nothing is known to be there
    UNWIND_UNKNOWN = "unwind-unknown"  # code that is not described
    INTERPRETER_MEMORY = "interpreter-memory"  # of the traced process's interpreter: not resident, or changing
    UNWIND_MEMORY = "unwind-memory"  # of the stack, not resident


class LossCounter(Record):
    """A u64 at ``offset`` of the map ``invivo_losses``, added to atomically by programs."""

    kind: LossKind
    subject: str  # the script's map name, or ""
    offset: int


class LoadConstant(Enum):
    """Values that are only known when the image is loaded: u64 cells of ``invivo_constants``."""

    CHILD_PID = "child_pid"  # of -c, else 0
    SCOPE_PID = "scope_pid"  # of -p, else 0
    START_BOOT_NS = "start_boot_ns"
    SELF_PID = "self_pid"
    TAI_OFFSET_NS = "tai_offset_ns"
    SCOPE_COMMAND = "scope_command"  # as CHILD_PID, but no number of a process if there is no command
    SCOPE_CGROUP = "scope_cgroup"  # number and depth of the group of --cgroup, else 0
    SCOPE_DEPTH = "scope_depth"
    WALL_OFFSET_NS = "wall_offset_ns"  # nanoseconds since 1970 minus boot time


CONSTANTS_MAP = "invivo_constants"  # frozen ARRAY, one entry: LoadConstant cells in order, then read-only data
LOSSES_MAP = "invivo_losses"  # mmapable ARRAY, one entry
CELLS_MAP = "invivo_cells"  # mmapable ARRAY, one entry: scalar maps
WAKE_MAP = "invivo_wake"  # mmapable ARRAY, one entry: u64, 1 asks the next record for a wakeup
RING_MAP = "invivo_ring"
UNWIND_MAP = "invivo_unwind_p"  # what the processes have mapped whose stacks are walked: see `ir.unwinding`
INTERPRETER_MAPS = "invivo_i_"  # beginning of the names of what interpreters' frames are found and named by
SCOPE_MAP = "invivo_scope"  # HASH u32 tgid -> u8: the thread groups of -c


class Settings(Record):
    """What a script's ``config`` block says to the runtime (names and defaults are bpftrace's)."""

    print_maps_on_exit: bool = True
    truncation_trailer: str = ".."
    max_cat_bytes: int = 10240
    cpp_demangle: bool = True
    ring_pages: int = 0  # 0: chosen by the runtime
    max_strlen: int = 1024  # a string that fills this capacity is taken to have been cut


class Layout(Record):
    """Everything the runtime needs to understand an image's memory."""

    maps: tuple[MapLayout, ...]
    records: tuple[RecordLayout, ...]  # index = id
    stride: int  # bytes; 0 if the program sends no records
    probes: tuple[str, ...]  # full names; `types.ProbeName` indexes here
    sites: tuple[ErrorSite, ...]
    losses: tuple[LossCounter, ...]
    settings: Settings = Settings()
