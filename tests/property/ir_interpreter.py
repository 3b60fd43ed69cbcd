"""A small interpreter of IR without the kernel: what the back end's code is compared with."""

from __future__ import annotations

from invivo.ir import ops
from invivo.ir.ops import AtomicOp, BinaryOp, CompareOp, Function, Op, Operand, Value, Variable
from invivo.record import Record

MASK64 = (1 << 64) - 1
Memory = dict[str, bytearray]


class Address(Record):
    memory: bytearray
    offset: int


Word = int | Address


def signed(value: int) -> int:
    return value - (1 << 64) if value >> 63 else value


def compare(op: CompareOp, a: int, b: int) -> bool:
    if op.value.startswith("s"):
        a, b = signed(a), signed(b)
    return {"eq": a == b, "ne": a != b, "lt": a < b, "le": a <= b, "gt": a > b, "ge": a >= b}[op.value[-2:]]


def binary(op: BinaryOp, a: int, b: int) -> int:
    if op is BinaryOp.DIV:
        return a // b if b else 0
    if op is BinaryOp.MOD:
        return a % b if b else a
    shift = b % 64
    table = {
        BinaryOp.ADD: a + b,
        BinaryOp.SUB: a - b,
        BinaryOp.MUL: a * b,
        BinaryOp.AND: a & b,
        BinaryOp.OR: a | b,
        BinaryOp.XOR: a ^ b,
        BinaryOp.SHL: a << shift,
        BinaryOp.LSHR: a >> shift,
        BinaryOp.ASHR: signed(a) >> shift,
    }
    return table[op] & MASK64


class Interpreter:
    """Runs one function; ``maps`` are the values of global maps, changed in place.

    Helpers give 0: programs that are compared may not depend on their answers.
    """

    def __init__(self, function: Function, arguments: tuple[int, ...], maps: Memory) -> None:
        self.function = function
        self.maps = maps
        context = bytearray(b"".join((a & MASK64).to_bytes(8, "little") for a in arguments))
        self.values: dict[int, Word] = {function.parameters[0].id: Address(context, 0)}
        self.variables: dict[Variable, Word] = {}

    def run(self) -> int:
        blocks = {block.label: block for block in self.function.blocks}
        block = self.function.blocks[0]
        for _ in range(100_000):
            for op in block.ops:
                self.op(op)
            end = block.end
            match end:
                case ops.Return(value):
                    return self.word(value)
                case ops.Jump(target):
                    block = blocks[target]
                case ops.Branch(op_kind, left, right, then, otherwise):
                    holds = compare(op_kind, self.word(left), self.word(right))
                    block = blocks[then if holds else otherwise]
        raise AssertionError("the program does not end")

    def any(self, operand: Operand) -> Word:
        return self.values[operand.id] if isinstance(operand, Value) else operand & MASK64

    def word(self, operand: Operand) -> int:
        value = self.any(operand)
        assert isinstance(value, int)
        return value

    def address(self, operand: Operand, offset: int = 0) -> Address:
        value = self.any(operand)
        assert isinstance(value, Address)
        return Address(value.memory, value.offset + offset)

    def read(self, at: Address, size: int) -> int:
        assert 0 <= at.offset <= len(at.memory) - size
        return int.from_bytes(at.memory[at.offset : at.offset + size], "little")

    def write(self, at: Address, size: int, value: int) -> None:
        assert 0 <= at.offset <= len(at.memory) - size
        at.memory[at.offset : at.offset + size] = (value & ((1 << size * 8) - 1)).to_bytes(size, "little")

    def set(self, result: Value | None, value: Word) -> None:
        if result is not None:
            self.values[result.id] = value & MASK64 if isinstance(value, int) else value

    def op(self, op: Op) -> None:
        match op:
            case ops.Binary(result, kind, left, right):
                self.set(result, binary(kind, self.word(left), self.word(right)))
            case ops.Compare(result, comparison, left, right):
                self.set(result, int(compare(comparison, self.word(left), self.word(right))))
            case ops.Extend(result, value, bits, is_signed):
                low = self.word(value) & ((1 << bits) - 1)
                self.set(result, low - (1 << bits) if is_signed and low >> (bits - 1) else low)
            case ops.ByteSwap(result, value, bits):
                low = self.word(value) & ((1 << bits) - 1)
                self.set(result, int.from_bytes(low.to_bytes(bits // 8, "little"), "big"))
            case ops.Offset(result, pointer, amount):
                self.set(result, self.address(pointer, signed(self.word(amount))))
            case ops.BoundedIndex(result, value, limit):
                index = self.word(value)
                if index >= limit:  # which number it is instead is the back end's choice
                    index = index & (limit - 1) if limit & (limit - 1) == 0 else 0
                self.set(result, index)
            case ops.Load(result, pointer, offset, size, is_signed):
                loaded = self.read(self.address(pointer, offset), size)
                if is_signed and loaded >> (size * 8 - 1):
                    loaded -= 1 << (size * 8)
                self.set(result, loaded)
            case ops.Store(pointer, offset, size, value):
                self.write(self.address(pointer, offset), size, self.word(value))
            case ops.Atomic(fetched, atomic, pointer, offset, size, value):
                self.atomic(fetched, atomic, self.address(pointer, offset), size, self.word(value))
            case ops.CompareExchange(result, pointer, offset, expected, new):
                at = self.address(pointer, offset)
                old = self.read(at, 8)
                if old == self.word(expected):
                    self.write(at, 8, self.word(new))
                self.set(result, old)
            case ops.StackSlot(result, size):
                self.set(result, Address(bytearray(size), 0))
            case ops.Copy(target, to, source, start, size, _):
                source_at, target_at = self.address(source, start), self.address(target, to)
                data = source_at.memory[source_at.offset : source_at.offset + size]
                target_at.memory[target_at.offset : target_at.offset + size] = data
            case ops.Zero(target, offset, size, _):
                at = self.address(target, offset)
                at.memory[at.offset : at.offset + size] = bytes(size)
            case ops.Call(called, _, _):
                self.set(called, 0)
            case ops.GlobalAddress(result, name, offset):
                self.set(result, Address(self.maps[name], offset))
            case ops.GetVariable(result, variable):
                self.set(result, self.variables[variable])
            case ops.SetVariable(variable, value):
                self.variables[variable] = self.any(value)
            case _:
                raise AssertionError(f"not interpreted: {op}")

    def atomic(self, result: Value | None, op: AtomicOp, at: Address, size: int, value: int) -> None:
        old = self.read(at, size)
        new = {AtomicOp.ADD: old + value, AtomicOp.OR: old | value, AtomicOp.AND: old & value, AtomicOp.XCHG: value}
        self.write(at, size, new[op])
        self.set(result, old)
