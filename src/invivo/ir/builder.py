"""Writes the IR of one function, operation by operation."""

from __future__ import annotations

from collections.abc import Callable

from invivo.diagnostics import Span
from invivo.ir import ops
from invivo.ir.ops import AtomicOp, BinaryOp, CompareOp, FunctionKind, Kind, Operand, Value, Variable

MASK64 = (1 << 64) - 1


class Builder:
    """Appends to the current block; `start` opens one, a terminator closes it.

    Code after a terminator, before the next `start`, is unreachable and dropped.
    """

    def __init__(self, name: str, kind: FunctionKind, parameters: tuple[Kind, ...]) -> None:
        self.name = name
        self.kind = kind
        self.span: Span | None = None
        self.called = 0  # the helper of the last call
        self._next_value = 0
        self._next_variable = 0
        self._labels: dict[str, int] = {}
        self._blocks: list[ops.Block] = []
        self._label: str | None = self.label("entry")
        self._ops: list[ops.Op] = []
        self._slots: list[ops.StackSlot] = []
        self.parameters = tuple(self.value(k) for k in parameters)

    # -- names ---------------------------------------------------------------------------------

    def value(self, kind: Kind = Kind.WORD) -> Value:
        self._next_value += 1
        return Value(self._next_value - 1, kind)

    def variable(self, name: str = "", kind: Kind = Kind.WORD) -> Variable:
        self._next_variable += 1
        return Variable(self._next_variable - 1, kind, name)

    def label(self, hint: str) -> str:
        """Return a label that no other block has."""
        number = self._labels.get(hint, 0)
        self._labels[hint] = number + 1
        return f"{hint}{number}" if number else hint

    # -- blocks --------------------------------------------------------------------------------

    @property
    def open(self) -> bool:
        """Whether code that is emitted now can be reached."""
        return self._label is not None

    def start(self, label: str) -> None:
        if self._label is not None:
            self.jump(label)
        self._label = label

    def _close(self, end: ops.Terminator) -> None:
        if self._label is not None:
            self._blocks.append(ops.Block(self._label, tuple(self._ops), end))
        self._label = None
        self._ops = []

    def jump(self, target: str) -> None:
        self._close(ops.Jump(target))

    def branch(self, op: CompareOp, left: Operand, right: Operand, then: str, otherwise: str) -> None:
        self._close(ops.Branch(op, left, right, then, otherwise, self.span))

    def ret(self, value: Operand = 0) -> None:
        self._close(ops.Return(value))

    def finish(self) -> ops.Function:
        """Close the function; stack slots are gathered at its entry."""
        if self._label is not None:
            self.ret()
        entry = self._blocks[0]
        self._blocks[0] = ops.Block(entry.label, (*self._slots, *entry.ops), entry.end)
        return ops.Function(self.name, self.kind, self.parameters, tuple(self._blocks))

    def emit(self, op: ops.Op) -> None:
        if self._label is not None:
            self._ops.append(op)

    # -- operations ----------------------------------------------------------------------------

    def binary(self, op: BinaryOp, left: Operand, right: Operand) -> Operand:
        if isinstance(left, int) and isinstance(right, int):
            folded = _FOLD.get(op)
            if folded is not None:
                return folded(left, right) & MASK64
        if isinstance(right, int):
            neutral = (op in _NEUTRAL_ZERO and right == 0) or (op in _NEUTRAL_ONE and right == 1)
            if neutral:
                return left
        result = self.value()
        self.emit(ops.Binary(result, op, left, right, self.span))
        return result

    def add(self, left: Operand, right: Operand) -> Operand:
        return self.binary(BinaryOp.ADD, left, right)

    def sub(self, left: Operand, right: Operand) -> Operand:
        return self.binary(BinaryOp.SUB, left, right)

    def mask(self, value: Operand, bits: int) -> Operand:
        return self.binary(BinaryOp.AND, value, bits)

    def shift_left(self, value: Operand, amount: Operand) -> Operand:
        return self.binary(BinaryOp.SHL, value, amount)

    def shift_right(self, value: Operand, amount: Operand) -> Operand:
        return self.binary(BinaryOp.LSHR, value, amount)

    def compare(self, op: CompareOp, left: Operand, right: Operand) -> Value:
        result = self.value()
        self.emit(ops.Compare(result, op, left, right, self.span))
        return result

    def extend(self, value: Operand, bits: int, signed: bool) -> Operand:
        if isinstance(value, int):
            low = value & ((1 << bits) - 1)
            return low - (1 << bits) if signed and low >> (bits - 1) else low
        if bits >= 64:
            return value
        result = self.value()
        self.emit(ops.Extend(result, value, bits, signed, self.span))
        return result

    def byte_swap(self, value: Operand, bits: int) -> Value:
        result = self.value()
        self.emit(ops.ByteSwap(result, value, bits, self.span))
        return result

    def offset(self, pointer: Value, amount: Operand) -> Value:
        if amount == 0:
            return pointer
        result = self.value(pointer.kind)
        self.emit(ops.Offset(result, pointer, amount, self.span))
        return result

    def bounded(self, value: Operand, limit: int) -> Value:
        result = self.value()
        self.emit(ops.BoundedIndex(result, value, limit, self.span))
        return result

    def load(self, pointer: Value, offset: int, size: int, signed: bool = False, kind: Kind = Kind.WORD) -> Value:
        result = self.value(kind)
        self.emit(ops.Load(result, pointer, offset, size, signed, self.span))
        return result

    def store(self, pointer: Value, offset: int, size: int, value: Operand) -> None:
        self.emit(ops.Store(pointer, offset, size, value, self.span))

    def atomic(self, op: AtomicOp, pointer: Value, offset: int, value: Operand, size: int = 8) -> None:
        self.emit(ops.Atomic(None, op, pointer, offset, size, value, self.span))

    def atomic_fetch(self, op: AtomicOp, pointer: Value, offset: int, value: Operand, size: int = 8) -> Value:
        result = self.value()
        self.emit(ops.Atomic(result, op, pointer, offset, size, value, self.span))
        return result

    def compare_exchange(self, pointer: Value, offset: int, expected: Operand, new: Operand) -> Value:
        result = self.value()
        self.emit(ops.CompareExchange(result, pointer, offset, expected, new, self.span))
        return result

    def stack_slot(self, size: int) -> Value:
        """Return the address of new memory in this frame; it exists from the function's entry on."""
        result = self.value(Kind.STACK)
        self._slots.append(ops.StackSlot(result, size, None))
        return result

    def reserve_slot(self) -> Value:
        """Return the address of a stack slot whose size `size_slot` will tell."""
        return self.value(Kind.STACK)

    def size_slot(self, slot: Value, size: int) -> None:
        self._slots.append(ops.StackSlot(slot, size, None))

    def copy(
        self, target: Value, target_offset: int, source: Value, source_offset: int, size: int, align: int = 8
    ) -> None:
        if size:
            self.emit(ops.Copy(target, target_offset, source, source_offset, size, align, self.span))

    def zero(self, target: Value, offset: int, size: int, align: int = 8) -> None:
        if size:
            self.emit(ops.Zero(target, offset, size, align, self.span))

    def call(self, helper: int, *arguments: Operand, kind: Kind = Kind.WORD) -> Value:
        result = self.value(kind)
        self.called = helper
        self.emit(ops.Call(result, helper, arguments, self.span))
        return result

    def call_void(self, helper: int, *arguments: Operand) -> None:
        self.emit(ops.Call(None, helper, arguments, self.span))

    def call_kernel(self, type_id: int, *arguments: Operand, kind: Kind = Kind.WORD) -> Value:
        result = self.value(kind)
        self.emit(ops.CallKernel(result, type_id, arguments, self.span))
        return result

    def call_kernel_void(self, type_id: int, *arguments: Operand) -> None:
        self.emit(ops.CallKernel(None, type_id, arguments, self.span))

    def map(self, name: str) -> Value:
        result = self.value(Kind.MAP)
        self.emit(ops.MapAddress(result, name))
        return result

    def global_address(self, map_name: str, offset: int) -> Value:
        result = self.value(Kind.MAP_VALUE)
        self.emit(ops.GlobalAddress(result, map_name, offset))
        return result

    def kernel_variable(self, type_id: int) -> Value:
        result = self.value(Kind.BTF)
        self.emit(ops.KernelVariable(result, type_id))
        return result

    def function(self, name: str) -> Value:
        result = self.value(Kind.FUNCTION)
        self.emit(ops.FunctionAddress(result, name))
        return result

    def get(self, variable: Variable) -> Value:
        result = self.value(variable.kind)
        self.emit(ops.GetVariable(result, variable))
        return result

    def set(self, variable: Variable, value: Operand) -> None:
        self.emit(ops.SetVariable(variable, value))


_NEUTRAL_ZERO = {BinaryOp.ADD, BinaryOp.SUB, BinaryOp.OR, BinaryOp.XOR, BinaryOp.SHL, BinaryOp.LSHR, BinaryOp.ASHR}
_FOLD: dict[BinaryOp, Callable[[int, int], int]] = {
    BinaryOp.ADD: lambda a, b: a + b,
    BinaryOp.SUB: lambda a, b: a - b,
    BinaryOp.MUL: lambda a, b: a * b,
    BinaryOp.AND: lambda a, b: a & b,
    BinaryOp.OR: lambda a, b: a | b,
    BinaryOp.XOR: lambda a, b: a ^ b,
}
_NEUTRAL_ONE = {BinaryOp.MUL, BinaryOp.DIV}
