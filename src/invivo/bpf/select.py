"""Instruction selection: IR of one function → instructions on virtual registers, in blocks.

Blocks stand in reverse postorder, so most jumps fall through.  Addresses of stack slots, maps
and globals, and pointers with a constant offset, are not computed where they are defined but
folded into the loads and stores that use them.  What a block ends with, the next one follows:
every block falls through to its successor in the list unless its last instruction is JA or EXIT.
"""

from __future__ import annotations

from collections import Counter
from itertools import chain
from typing import Final

from invivo.bpf import insn as bpf
from invivo.bpf.insn import FIRST_VIRTUAL, FRAME, Insn
from invivo.diagnostics import Span
from invivo.ir import ops
from invivo.ir.helpers import PROBE_READ_KERNEL
from invivo.ir.ops import BinaryOp, CompareOp, Function, Op, Operand, Value
from invivo.ir.uses import operands, predecessors, reverse_postorder
from invivo.record import Record

MASK64: Final = (1 << 64) - 1
_INLINE_ZERO: Final = 512  # bytes; more is left to a helper
_INLINE_COPY: Final = 256
_COMMUTATIVE: Final = {BinaryOp.ADD, BinaryOp.MUL, BinaryOp.AND, BinaryOp.OR, BinaryOp.XOR}
# What needs no instruction where it is defined (an offset only if it is constant).
_ADDRESSES: Final = frozenset(
    {ops.StackSlot, ops.GlobalAddress, ops.MapAddress, ops.KernelVariable, ops.FunctionAddress, ops.Offset}
)
_SHIFTS: Final = {BinaryOp.SHL, BinaryOp.LSHR, BinaryOp.ASHR}
INVERSE: Final[dict[CompareOp, CompareOp]] = {
    CompareOp.EQ: CompareOp.NE,
    CompareOp.NE: CompareOp.EQ,
    CompareOp.ULT: CompareOp.UGE,
    CompareOp.UGE: CompareOp.ULT,
    CompareOp.ULE: CompareOp.UGT,
    CompareOp.UGT: CompareOp.ULE,
    CompareOp.SLT: CompareOp.SGE,
    CompareOp.SGE: CompareOp.SLT,
    CompareOp.SLE: CompareOp.SGT,
    CompareOp.SGT: CompareOp.SLE,
}
SWAPPED: Final[dict[CompareOp, CompareOp]] = {
    CompareOp.EQ: CompareOp.EQ,
    CompareOp.NE: CompareOp.NE,
    CompareOp.ULT: CompareOp.UGT,
    CompareOp.UGT: CompareOp.ULT,
    CompareOp.ULE: CompareOp.UGE,
    CompareOp.UGE: CompareOp.ULE,
    CompareOp.SLT: CompareOp.SGT,
    CompareOp.SGT: CompareOp.SLT,
    CompareOp.SLE: CompareOp.SGE,
    CompareOp.SGE: CompareOp.SLE,
}


def fits_immediate(value: int) -> bool:
    """Whether a 64-bit constant is the sign extension of 32 bits."""
    return (value + 0x8000_0000) & MASK64 < 0x1_0000_0000


def signed32(value: int) -> int:
    value &= 0xFFFF_FFFF
    return value - 0x1_0000_0000 if value >> 31 else value


class SelectedBlock(Record, eq=False):
    """Instructions under a label; ``targets`` are the labels they may continue at."""

    label: str
    insns: list[Insn]
    targets: tuple[str, ...]


class Selected(Record, eq=False):
    """One function on virtual registers (``FIRST_VIRTUAL`` up to ``registers``).

    ``frame_bytes`` is what its stack slots take; spills come below them.  ``held`` are registers
    of a few instructions that may not be spilled, because the verifier learns their bounds.
    """

    name: str
    blocks: list[SelectedBlock]
    registers: int
    frame_bytes: int
    held: frozenset[int]


class _Root(Record, eq=False):
    """Where an address that is not in a register comes from: the frame, or a symbol."""

    kind: int  # 0: the frame; else the source field of a LD_IMM64
    symbol: str


_FRAME: Final = _Root(0, "")


def select(function: Function) -> Selected:
    """Select the instructions of a function. Unreachable blocks are left out."""
    return _Selector(function).run()


class _Selector:
    def __init__(self, function: Function) -> None:
        self.function = function
        self.blocks: list[SelectedBlock] = []
        self.insns: list[Insn] = []
        self.label = ""
        self.part = 0
        self.span: Span | None = None
        self.next_register = FIRST_VIRTUAL
        self.registers: dict[Value | ops.Variable, int] = {}
        self.places: dict[Operand | _Root, tuple[Value | _Root, int]] = {}  # folded addresses
        self.loaded: dict[str, tuple[int, int]] = {}  # map -> register with its value's address, offset
        self.frame_bytes = 0
        self.held: set[int] = set()
        self.uses: Counter[Operand] = Counter()

    def run(self) -> Selected:
        order = reverse_postorder(self.function)
        leaving: dict[str, dict[str, tuple[int, int]]] = {}
        every = [op for block in order for op in (*block.ops, block.end)]
        self.uses = Counter(chain.from_iterable(map(operands, every)))
        for op in every:
            if type(op) in _ADDRESSES:
                self.note_place(op)
        before = predecessors(self.function)
        for index, block in enumerate(order):
            # A block with one way in still has the addresses that were loaded on that way.
            only = before[block.label][0] if len(before[block.label]) == 1 else ""
            self.open(block.label, leaving.get(only, {}))
            if index == 0:
                for number, parameter in enumerate(self.function.parameters):
                    self.move(self.define(parameter), number + 1)
            for op in block.ops:
                self.span = getattr(op, "span", None) or self.span
                self.op(op)
            self.span = getattr(block.end, "span", None) or self.span
            self.end(block.end, order[index + 1].label if index + 1 < len(order) else "")
            leaving[block.label] = self.loaded
            self.span = None
        return Selected(self.function.name, self.blocks, self.next_register, self.frame_bytes, frozenset(self.held))

    # -- blocks and registers ------------------------------------------------------------------

    def open(self, label: str, loaded: dict[str, tuple[int, int]]) -> None:
        self.label = label
        self.part = 0
        self.insns = []
        self.loaded = dict(loaded)

    def close(self, *targets: str) -> None:
        self.blocks.append(SelectedBlock(self.label, self.insns, targets))

    def split(self) -> tuple[str, str]:
        """Return labels for two further pieces of the current block."""
        base, _, _ = self.label.partition("|")
        self.part += 2
        return f"{base}|{self.part - 1}", f"{base}|{self.part}"

    def continue_at(self, label: str) -> None:
        self.label = label
        self.insns = []
        # Addresses that were loaded in the piece before still are: pieces run one after another.

    def emit(
        self, code: int, target: int = 0, source: int = 0, offset: int = 0, *, immediate: int = 0, symbol: str = ""
    ) -> None:
        self.insns.append(Insn(code, target, source, offset, immediate, symbol, self.span))

    def fresh(self) -> int:
        self.next_register += 1
        return self.next_register - 1

    def define(self, value: Value | ops.Variable) -> int:
        register = self.registers.get(value)
        if register is None:
            register = self.registers[value] = self.fresh()
        return register

    # -- addresses -----------------------------------------------------------------------------

    def note_place(self, op: Op | ops.Terminator) -> None:
        """Remember an address that needs no instruction of its own."""
        match op:
            case ops.StackSlot(result, size):
                self.frame_bytes += -(-size // 8) * 8
                self.places[result] = (_FRAME, -self.frame_bytes)
            case ops.GlobalAddress(result, name, offset):
                self.places[result] = (_Root(bpf.PSEUDO_MAP_VALUE, name), offset)
            case ops.MapAddress(result, name):
                self.places[result] = (_Root(bpf.PSEUDO_MAP, name), 0)
            case ops.KernelVariable(result, type_id):
                self.places[result] = (_Root(bpf.PSEUDO_BTF_ID, str(type_id)), 0)
            case ops.FunctionAddress(result, name):
                self.places[result] = (_Root(bpf.PSEUDO_FUNCTION, name), 0)
            case ops.Offset(result, pointer, int() as amount):
                amount = (amount + (1 << 63) & MASK64) - (1 << 63)
                self.places[result] = (pointer, amount)
            case _:
                pass

    def root(self, value: Value, offset: int) -> tuple[Value | _Root, int]:
        """Follow folded addresses to a value in a register, the frame, or a symbol."""
        root: Value | _Root = value
        while root in self.places:
            root, more = self.places[root]
            offset += more
        return root, offset

    def address(self, pointer: Value, offset: int) -> tuple[int, int]:
        """Return a register and an offset of 16 bits for an access."""
        root, offset = self.root(pointer, offset)
        if type(root) is Value:
            register = self.define(root)
        elif root.kind == 0:
            register = FRAME
        else:
            register, base = self.loaded.get(root.symbol, (0, 0))
            if not register or not -0x8000 <= offset - base < 0x7FF8:
                base = offset
                register = self.fresh()
                self.emit(bpf.LD_IMM64, register, root.kind, immediate=offset, symbol=root.symbol)
                self.loaded[root.symbol] = (register, base)
            offset -= base
        if -0x8000 <= offset < 0x7FF8:
            return register, offset
        moved = self.fresh()
        self.move(moved, register)
        self.add(moved, offset)
        return moved, 0

    # -- operands ------------------------------------------------------------------------------

    def move(self, target: int, source: int) -> None:
        self.emit(bpf.MOV64_REGISTER, target, source)

    def constant(self, target: int, value: int) -> None:
        value &= MASK64
        if fits_immediate(value):
            self.emit(bpf.MOV64_IMMEDIATE, target, immediate=signed32(value))
        elif value < 1 << 32:
            self.emit(bpf.MOV32_IMMEDIATE, target, immediate=signed32(value))
        else:
            self.emit(bpf.LD_IMM64, target, immediate=value)

    def add(self, target: int, amount: int) -> None:
        if not amount:
            return
        if fits_immediate(amount & MASK64):
            self.emit(bpf.ALU64, target, immediate=signed32(amount))
            return
        register = self.fresh()
        self.constant(register, amount)
        self.emit(bpf.ALU64 | bpf.SOURCE_REGISTER, target, register)

    def into(self, target: int, operand: Operand) -> None:
        """Bring an operand into a register of the caller's choice."""
        if isinstance(operand, int):
            self.constant(target, operand)
            return
        root, offset = self.root(operand, 0)
        if type(root) is Value:
            self.move(target, self.define(root))
        elif root.kind == 0:
            self.move(target, FRAME)
        elif root.kind == bpf.PSEUDO_MAP_VALUE:
            self.emit(bpf.LD_IMM64, target, root.kind, immediate=offset, symbol=root.symbol)
            return
        else:
            self.emit(bpf.LD_IMM64, target, root.kind, symbol=root.symbol)
        self.add(target, offset)

    def register(self, operand: Operand) -> int:
        """Return a register that holds an operand, to be read only."""
        if type(operand) is Value and operand not in self.places:
            return self.define(operand)
        register = self.fresh()
        self.into(register, operand)
        return register

    # -- operations ----------------------------------------------------------------------------

    def op(self, op: Op) -> None:
        if type(op) is ops.Load:
            register, offset = self.address(op.pointer, op.offset)
            self.emit(bpf.LDX | bpf.MEM | bpf.SIZES[op.size], self.define(op.result), register, offset)
            if op.signed and op.size < 8:
                self.sign_extend(self.define(op.result), op.size * 8)
        elif type(op) is ops.Store:
            self.store(op.pointer, op.offset, op.size, op.value)
        elif type(op) is ops.Binary:
            self.binary(self.define(op.result), op.op, op.left, op.right)
        elif type(op) is ops.GetVariable:
            self.move(self.define(op.result), self.define(op.variable))
        elif type(op) is ops.SetVariable:
            self.into(self.define(op.variable), op.value)
        elif type(op) is ops.Call:
            self.call(op.result, op.arguments, op.helper, "")
        elif type(op) is ops.Atomic:
            self.atomic(op.result, bpf.ATOMICS[op.op], (op.pointer, op.offset, op.size), op.value)
        elif type(op) not in _ADDRESSES or type(op) is ops.Offset:
            self.rarer(op)

    def rarer(self, op: Op) -> None:
        match op:
            case ops.CallFunction(called, name, arguments):
                self.call(called, arguments, 0, name)
            case ops.CallKernel(called, type_id, arguments):
                self.call(called, arguments, type_id, "", bpf.PSEUDO_KERNEL_CALL)
            case ops.Extend(result, value, bits, signed):
                self.extend(self.define(result), value, bits, signed)
            case ops.Compare(result, comparison, left, right):
                self.compare(self.define(result), comparison, left, right)
            case ops.Offset(result, pointer, amount):
                if isinstance(amount, Value):
                    target = self.define(result)
                    self.into(target, pointer)
                    self.emit(bpf.ALU64 | bpf.SOURCE_REGISTER, target, self.register(amount))
            case ops.BoundedIndex(result, value, limit):
                self.bounded(self.define(result), value, limit)
            case ops.ByteSwap(result, value, bits):
                target = self.define(result)
                self.into(target, value)
                self.emit(bpf.ENDIAN_SWAP, target, immediate=bits)
            case ops.CompareExchange(result, pointer, offset, expected, new):
                register, offset = self.address(pointer, offset)
                source = self.register(new)
                self.into(0, expected)
                code = bpf.STX | bpf.ATOMIC | bpf.SIZES[8]
                self.emit(code, register, source, offset, immediate=bpf.COMPARE_EXCHANGE)
                self.move(self.define(result), 0)
            case ops.Copy(target_value, to, source_value, start, size, align):
                self.copy((target_value, to), (source_value, start), size, align)
            case ops.Zero(target_value, offset, size, align):
                self.zero(target_value, offset, size, align)
            case _:
                pass  # addresses: folded into their uses

    def store(self, pointer: Value, offset: int, size: int, value: Operand) -> None:
        register, offset = self.address(pointer, offset)
        code = bpf.MEM | bpf.SIZES[size]
        if isinstance(value, int) and (size < 8 or fits_immediate(value & MASK64)):
            self.emit(bpf.ST | code, register, 0, offset, immediate=signed32(value))
        else:
            self.emit(bpf.STX | code, register, self.register(value), offset)

    def binary(self, target: int, kind: BinaryOp, left: Operand, right: Operand) -> None:
        if kind in _COMMUTATIVE and (
            isinstance(left, int) or (type(right) is Value and self.uses[left] > 1 and self.uses[right] == 1)
        ):
            left, right = right, left
        self.into(target, left)
        code = bpf.ALU64 | bpf.ARITHMETIC[kind]
        if isinstance(right, int):
            right &= 63 if kind in _SHIFTS else MASK64
            if kind is BinaryOp.AND and right == 0xFFFF_FFFF:
                self.emit(bpf.MOV32_REGISTER, target, target)
                return
            if right == 0 and kind in (BinaryOp.DIV, BinaryOp.MOD):
                if kind is BinaryOp.DIV:  # the verifier refuses an immediate of 0
                    self.constant(target, 0)
                return
            if fits_immediate(right):
                self.emit(code, target, immediate=signed32(right))
                return
        self.emit(code | bpf.SOURCE_REGISTER, target, self.register(right))

    def sign_extend(self, target: int, bits: int) -> None:
        self.emit(bpf.ALU64 | bpf.ARITHMETIC[BinaryOp.SHL], target, immediate=64 - bits)
        self.emit(bpf.ALU64 | bpf.ARITHMETIC[BinaryOp.ASHR], target, immediate=64 - bits)

    def extend(self, target: int, value: Operand, bits: int, signed: bool) -> None:
        if not signed and bits == 32:
            self.emit(bpf.MOV32_REGISTER, target, self.register(value))
            return
        self.into(target, value)
        if signed:
            self.sign_extend(target, bits)
        else:
            self.emit(bpf.ALU64 | bpf.ARITHMETIC[BinaryOp.AND], target, immediate=(1 << bits) - 1)

    def compare(self, target: int, op: CompareOp, left: Operand, right: Operand) -> None:
        """``target = 1; if left op right skip; target = 0``: a piece of control flow inside the block."""
        code, first, second, immediate = self.comparison(op, left, right)
        otherwise, after = self.split()
        self.constant(target, 1)
        self.emit(code, first, second, immediate=immediate, symbol=after)
        self.close(after, otherwise)
        self.continue_at(otherwise)
        self.constant(target, 0)
        self.close(after)
        self.continue_at(after)

    def comparison(self, op: CompareOp, left: Operand, right: Operand) -> tuple[int, int, int, int]:
        """Return a conditional jump's code, registers and immediate; emits what loads them."""
        if isinstance(left, int) and isinstance(right, Value):
            left, right, op = right, left, SWAPPED[op]
        first = self.register(left)
        code = bpf.JMP | bpf.JUMPS[op]
        if isinstance(right, int) and fits_immediate(right & MASK64):
            return code, first, 0, signed32(right)
        return code | bpf.SOURCE_REGISTER, first, self.register(right), 0

    def bounded(self, target: int, value: Operand, limit: int) -> None:
        if limit & (limit - 1) == 0:
            self.into(target, value)
            self.emit(bpf.ALU64 | bpf.ARITHMETIC[BinaryOp.AND], target, immediate=limit - 1)
            return
        # What a comparison tells the verifier holds for this register and not for a stack slot
        # that it was loaded from, so it must be one register all the time.
        index = self.fresh()
        self.held.add(index)
        self.into(index, value)
        otherwise, after = self.split()
        self.emit(bpf.JMP | bpf.JUMPS[CompareOp.ULT], index, immediate=limit, symbol=after)
        self.close(after, otherwise)
        self.continue_at(otherwise)
        self.constant(index, 0)
        self.close(after)
        self.continue_at(after)
        self.move(target, index)

    def atomic(self, fetched: Value | None, kind: int, place: tuple[Value, int, int], value: Operand) -> None:
        pointer, offset, size = place
        register, offset = self.address(pointer, offset)
        code = bpf.STX | bpf.ATOMIC | bpf.SIZES[size]
        if fetched is None and not kind & bpf.FETCH:
            self.emit(code, register, self.register(value), offset, immediate=kind)
            return
        source = self.fresh() if fetched is None else self.define(fetched)
        self.into(source, value)
        self.emit(code, register, source, offset, immediate=kind | bpf.FETCH)

    def call(
        self, result: Value | None, arguments: tuple[Operand, ...], number: int, function: str, pseudo: int = 0
    ) -> None:
        for index, argument in enumerate(arguments):
            self.into(index + 1, argument)
        pseudo = bpf.PSEUDO_CALL if function else pseudo
        self.emit(bpf.CALL, 0, pseudo, len(arguments), immediate=number, symbol=function)
        self.loaded = {}  # an address is cheaper to load again than to keep across a call
        if result is not None:
            self.move(self.define(result), 0)

    def copy(self, target: tuple[Value, int], source: tuple[Value, int], size: int, align: int) -> None:
        if size > _INLINE_COPY:
            self.read_kernel(target, source, size)
            return
        done = 0
        for width in _widths(size, align):
            register, offset = self.address(source[0], source[1] + done)
            word = self.fresh()
            self.emit(bpf.LDX | bpf.MEM | bpf.SIZES[width], word, register, offset)
            register, offset = self.address(target[0], target[1] + done)
            self.emit(bpf.STX | bpf.MEM | bpf.SIZES[width], register, word, offset)
            done += width

    def zero(self, pointer: Value, offset: int, size: int, align: int) -> None:
        if size > _INLINE_ZERO:
            # Reading from the null pointer fails, and then the helper zeroes the target.
            self.read_kernel((pointer, offset), None, size)
            return
        for width in _widths(size, align):
            register, place = self.address(pointer, offset)
            self.emit(bpf.ST | bpf.MEM | bpf.SIZES[width], register, 0, place)
            offset += width

    def read_kernel(self, target: tuple[Value, int], source: tuple[Value, int] | None, size: int) -> None:
        """bpf_probe_read_kernel(target, size, source)."""
        self.into(1, target[0])
        self.add(1, target[1])
        self.constant(2, size)
        if source is None:
            self.constant(3, 0)
        else:
            self.into(3, source[0])
            self.add(3, source[1])
        self.emit(bpf.CALL, 0, 0, 3, immediate=PROBE_READ_KERNEL)
        self.loaded = {}

    # -- the end of a block --------------------------------------------------------------------

    def end(self, end: ops.Terminator, following: str) -> None:
        if type(end) is ops.Jump:
            self.jump(end.target, following)
            self.close(end.target)
        elif type(end) is ops.Return:
            self.into(0, end.value)
            self.emit(bpf.EXIT)
            self.close()
        elif type(end) is ops.Branch:
            op, then, otherwise = end.op, end.then, end.otherwise
            if then == otherwise:
                self.jump(then, following)
                self.close(then)
                return
            if then == following:
                op, then, otherwise = INVERSE[op], otherwise, then
            code, first, second, immediate = self.comparison(op, end.left, end.right)
            self.emit(code, first, second, immediate=immediate, symbol=then)
            self.jump(otherwise, following)
            self.close(then, otherwise)

    def jump(self, target: str, following: str) -> None:
        if target != following:
            self.emit(bpf.JA, symbol=target)


def _widths(size: int, align: int) -> list[int]:
    """Return the sizes of the accesses that cover a range whose start has an alignment."""
    widths: list[int] = []
    while size:
        while align > size:
            align //= 2
        widths.append(align)
        size -= align
    return widths
