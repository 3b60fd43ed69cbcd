"""The operations of the intermediate representation: flat, typed, one value defined once.

A function is a list of basic blocks; a block is a list of operations and one
terminator.  Every value is one 64-bit machine word: a plain number (`Kind.WORD`)
or a pointer whose kind says which memory it points into and so how that memory
may be touched.  Operands are values or Python integers (constants, taken modulo
2**64).  There are no phi operations: what changes along a path is a `Variable`,
read and written by its own operations; after ``passes.promote`` a variable is a
register unless something takes its address.
"""

from __future__ import annotations

from typing import final

from invivo.diagnostics import Span
from invivo.enums import Enum
from invivo.record import Record


class Kind(Enum):
    """What a value is, to the verifier and to us."""

    WORD = "word"
    CONTEXT = "ctx"  # the program's argument: constant-offset loads only
    STACK = "stack"  # this frame's memory
    MAP_VALUE = "mapvalue"  # inside a map's value: scratch slots, aggregations, globals
    MAP_VALUE_OR_NULL = "mapvalue?"  # a lookup's result before it was compared with 0
    RING = "ring"  # a reserved ring-buffer record
    RING_OR_NULL = "ring?"
    BTF = "btf"  # a kernel pointer of known BTF type: constant-offset loads only, never arithmetic
    MAP = "map"  # a map itself, as a helper's argument
    FUNCTION = "function"  # a callback, as a helper's argument


@final
class Value(Record, eq=False):
    """The result of an operation, a function's parameter, or nothing else."""

    id: int
    kind: Kind = Kind.WORD


Operand = Value | int


class BinaryOp(Enum):
    """All on 64 bits. DIV and MOD are unsigned; by zero they give 0 and the dividend (BPF)."""

    ADD = "add"
    SUB = "sub"
    MUL = "mul"
    DIV = "div"
    MOD = "mod"
    AND = "and"
    OR = "or"
    XOR = "xor"
    SHL = "shl"  # the amount is taken modulo 64
    LSHR = "lshr"
    ASHR = "ashr"


class CompareOp(Enum):
    EQ = "eq"
    NE = "ne"
    ULT = "ult"
    ULE = "ule"
    UGT = "ugt"
    UGE = "uge"
    SLT = "slt"
    SLE = "sle"
    SGT = "sgt"
    SGE = "sge"


class AtomicOp(Enum):
    """Read-modify-write on 4 or 8 bytes; the result, if wanted, is the old value."""

    ADD = "add"
    OR = "or"
    AND = "and"
    XCHG = "xchg"


class Variable(Record, eq=False):
    """A mutable 64-bit cell of one function. Undefined until it is set (lowering sets it first)."""

    id: int
    kind: Kind = Kind.WORD
    name: str = ""


class Binary(Record, eq=False):
    result: Value
    op: BinaryOp
    left: Operand
    right: Operand
    span: Span | None = None


class Compare(Record, eq=False):
    """1 if the comparison holds, else 0."""

    result: Value
    op: CompareOp
    left: Operand
    right: Operand
    span: Span | None = None


class Extend(Record, eq=False):
    """The low ``bits`` (8, 16, 32) of a word, sign- or zero-extended to 64."""

    result: Value
    value: Operand
    bits: int
    signed: bool
    span: Span | None = None


class ByteSwap(Record, eq=False):
    """The low ``bits`` (16, 32, 64) with their bytes reversed, the rest zero."""

    result: Value
    value: Operand
    bits: int
    span: Span | None = None


class Offset(Record, eq=False):
    """A pointer moved by a number of bytes; a variable amount must be a `BoundedIndex`,
    possibly multiplied by a constant or shifted left."""

    result: Value
    pointer: Value
    amount: Operand
    span: Span | None = None


class BoundedIndex(Record, eq=False):
    """``value``, made evident to the verifier to be below ``limit`` (unsigned).

    If it is not below, the result is some number that is: the program checks first
    where that matters.  Selected so that compare or mask and use are on one register.
    """

    result: Value
    value: Operand
    limit: int
    span: Span | None = None


class Load(Record, eq=False):
    """Direct load of 1, 2, 4 or 8 bytes through a CONTEXT, STACK, MAP_VALUE, RING or BTF pointer.

    ``result.kind`` is BTF, or CONTEXT-provided pointer kinds, where the verifier knows the
    loaded word to be a pointer; WORD otherwise.
    """

    result: Value
    pointer: Value
    offset: int
    size: int
    signed: bool = False
    span: Span | None = None


class Store(Record, eq=False):
    pointer: Value
    offset: int
    size: int
    value: Operand
    span: Span | None = None


class Atomic(Record, eq=False):
    result: Value | None
    op: AtomicOp
    pointer: Value
    offset: int
    size: int
    value: Operand
    span: Span | None = None


class CompareExchange(Record, eq=False):
    """Store ``new`` if the 8 bytes equal ``expected``; the result is the old value."""

    result: Value
    pointer: Value
    offset: int
    expected: Operand
    new: Operand
    span: Span | None = None


class StackSlot(Record, eq=False):
    """The address of ``size`` bytes of this frame, 8-byte aligned, undefined at first."""

    result: Value
    size: int
    span: Span | None = None


class Copy(Record, eq=False):
    """Copy a constant number of bytes between memories that loads and stores reach.

    ``align`` (1, 2, 4, 8) holds for both addresses; ranges do not overlap.
    """

    target: Value
    target_offset: int
    source: Value
    source_offset: int
    size: int
    align: int = 8
    span: Span | None = None


class Zero(Record, eq=False):
    """Set a constant number of bytes to zero."""

    target: Value
    offset: int
    size: int
    align: int = 8
    span: Span | None = None


class Call(Record, eq=False):
    """Call a kernel helper (number from ``enum bpf_func_id``, ``include/uapi/linux/bpf.h``)."""

    result: Value | None
    helper: int
    arguments: tuple[Operand, ...]
    span: Span | None = None


class CallFunction(Record, eq=False):
    """Call another function of the program (all words)."""

    result: Value | None
    function: str
    arguments: tuple[Operand, ...]
    span: Span | None = None


class CallKernel(Record, eq=False):
    """Call a function that the kernel offers to programs (a kfunc), by its BTF id."""

    result: Value | None
    type_id: int
    arguments: tuple[Operand, ...]
    span: Span | None = None


class MapAddress(Record, eq=False):
    """A map, to be passed to a helper."""

    result: Value
    map: str


class GlobalAddress(Record, eq=False):
    """The address of a byte of a global map's value (`layout.MapSpec` with ``max_entries`` 1)."""

    result: Value
    map: str
    offset: int


class KernelVariable(Record, eq=False):
    """A variable of the kernel, by its BTF id: of a per-CPU one, what helpers make an address of."""

    result: Value
    type_id: int


class FunctionAddress(Record, eq=False):
    """A function of kind callback, to be passed to ``bpf_loop`` or ``bpf_for_each_map_elem``."""

    result: Value
    function: str


class GetVariable(Record, eq=False):
    result: Value
    variable: Variable


class SetVariable(Record, eq=False):
    variable: Variable
    value: Operand


Op = (
    Binary
    | Compare
    | Extend
    | ByteSwap
    | Offset
    | BoundedIndex
    | Load
    | Store
    | Atomic
    | CompareExchange
    | StackSlot
    | Copy
    | Zero
    | Call
    | CallFunction
    | CallKernel
    | MapAddress
    | GlobalAddress
    | KernelVariable
    | FunctionAddress
    | GetVariable
    | SetVariable
)


class Jump(Record, eq=False):
    target: str


class Branch(Record, eq=False):
    """Go to ``then`` if the comparison holds, else to ``otherwise``.

    Comparing a nullable pointer with 0 makes it usable on the side where it is not null.
    """

    op: CompareOp
    left: Operand
    right: Operand
    then: str
    otherwise: str
    span: Span | None = None


class Return(Record, eq=False):
    value: Operand = 0


Terminator = Jump | Branch | Return


class Block(Record, eq=False):
    label: str
    ops: tuple[Op, ...]
    end: Terminator


class FunctionKind(Enum):
    ENTRY = "entry"  # a BPF program: one CONTEXT parameter
    LOOP = "loop"  # long f(u32 index, void *captures): callback of bpf_loop
    EACH = "each"  # long f(map, key *, value *, captures *): callback of bpf_for_each_map_elem
    LOCAL = "local"  # a subprogram of the script


class Function(Record, eq=False):
    """The first block is the entry. ``parameters`` are values of the right kinds."""

    name: str
    kind: FunctionKind
    parameters: tuple[Value, ...]
    blocks: tuple[Block, ...]
