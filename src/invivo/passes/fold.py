"""Arithmetic that can be done, or made simpler, before the program runs."""

from __future__ import annotations

from typing import Final

from invivo.ir import ops
from invivo.ir.ops import BinaryOp, Block, CompareOp, Function, Op, Operand, Terminator, Value
from invivo.ir.uses import Replacements, result, with_blocks, with_ops

MASK64: Final = (1 << 64) - 1
_COMMUTATIVE: Final = {BinaryOp.ADD, BinaryOp.MUL, BinaryOp.AND, BinaryOp.OR, BinaryOp.XOR}
_SHIFTS: Final = {BinaryOp.SHL, BinaryOp.LSHR, BinaryOp.ASHR}
_NEUTRAL_ZERO: Final = {BinaryOp.ADD, BinaryOp.SUB, BinaryOp.OR, BinaryOp.XOR, *_SHIFTS}
_INVERSE: Final = {
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


_FOLDABLE: Final = frozenset(
    {ops.Binary, ops.Compare, ops.Extend, ops.ByteSwap, ops.Offset, ops.BoundedIndex, ops.Store}
)
_LOOKED_AT: Final = frozenset({ops.Binary, ops.Compare, ops.Extend, ops.BoundedIndex, ops.Load})  # by `definition`


def fold_constants(function: Function) -> Function:
    """Compute what is constant and simplify what is nearly so.

    Before: any operations.  After: no arithmetic, comparison or branch on constants alone;
    multiplications and divisions by powers of two are shifts and masks; extensions and masks
    that change nothing, or nothing that is stored, are gone; a branch on a comparison's result
    makes that comparison itself.
    Leaves alone: memory, calls, variables; blocks that became unreachable (`simplify_flow`).
    """
    return _Folder(function).run()


def signed(value: int) -> int:
    """Return 64 bits read as a signed number."""
    value &= MASK64
    return value - (1 << 64) if value >> 63 else value


def evaluate_binary(op: BinaryOp, left: int, right: int) -> int:
    """Return the result of an operation on constants, as BPF defines it, in 0 .. 2**64 - 1."""
    left &= MASK64
    right &= MASK64
    match op:
        case BinaryOp.ADD:
            value = left + right
        case BinaryOp.SUB:
            value = left - right
        case BinaryOp.MUL:
            value = left * right
        case BinaryOp.DIV:
            value = left // right if right else 0
        case BinaryOp.MOD:
            value = left % right if right else left
        case BinaryOp.AND:
            value = left & right
        case BinaryOp.OR:
            value = left | right
        case BinaryOp.XOR:
            value = left ^ right
        case BinaryOp.SHL:
            value = left << (right & 63)
        case BinaryOp.LSHR:
            value = left >> (right & 63)
        case BinaryOp.ASHR:
            value = signed(left) >> (right & 63)
    return value & MASK64


def evaluate_compare(op: CompareOp, left: int, right: int) -> bool:
    left &= MASK64
    right &= MASK64
    match op:
        case CompareOp.EQ:
            return left == right
        case CompareOp.NE:
            return left != right
        case CompareOp.ULT:
            return left < right
        case CompareOp.ULE:
            return left <= right
        case CompareOp.UGT:
            return left > right
        case CompareOp.UGE:
            return left >= right
        case CompareOp.SLT:
            return signed(left) < signed(right)
        case CompareOp.SLE:
            return signed(left) <= signed(right)
        case CompareOp.SGT:
            return signed(left) > signed(right)
        case CompareOp.SGE:
            return signed(left) >= signed(right)


def evaluate_extend(value: int, bits: int, is_signed: bool) -> int:
    value &= (1 << bits) - 1
    return (value - (1 << bits)) & MASK64 if is_signed and value >> (bits - 1) else value


def evaluate_swap(value: int, bits: int) -> int:
    return int.from_bytes((value & ((1 << bits) - 1)).to_bytes(bits // 8, "little"), "big")


class _Folder:
    def __init__(self, function: Function) -> None:
        self.function = function
        self.replaced = Replacements()
        self.definitions: dict[Operand, Op] = {}

    def run(self) -> Function:
        return with_blocks(self.function, tuple([self.block(block) for block in self.function.blocks]))

    def block(self, block: Block) -> Block:
        kept: list[Op] = []
        for op in block.ops:
            op = self.replaced.op(op)
            simpler = self.simplify(op) if type(op) in _FOLDABLE else op
            if simpler is None:
                continue
            kept.append(simpler)
            if type(simpler) in _LOOKED_AT and (value := result(simpler)) is not None:
                self.definitions[value] = simpler
        return with_ops(block, kept, self.simplify_end(self.replaced.end(block.end)))

    def definition(self, operand: Operand) -> Op | None:
        return self.definitions.get(operand)

    def width(self, operand: Operand) -> int:
        """Return a number of bits that the operand surely fits, unsigned; the verifier knows it too."""
        if isinstance(operand, int):
            return (operand & MASK64).bit_length()
        match self.definition(operand):
            case ops.Load(_, _, _, size, False):
                return size * 8
            case ops.Extend(_, _, bits, False):
                return bits
            case ops.Compare():
                return 1
            case ops.BoundedIndex(_, _, limit):
                return (limit - 1).bit_length()
            case ops.Binary(_, BinaryOp.AND, _, int() as mask):
                return (mask & MASK64).bit_length()
            case ops.Binary(_, BinaryOp.LSHR, _, int() as amount):
                return 64 - (amount & 63)
            case _:
                return 64

    def replace(self, result: Value, operand: Operand) -> None:
        self.replaced.add(result, operand & MASK64 if isinstance(operand, int) else operand)

    def simplify(self, op: Op) -> Op | None:
        """Return a simpler operation, or None if its result was replaced."""
        if type(op) is ops.Binary:
            return self.binary(op)
        if type(op) is ops.Store:
            value = self.lowest(op.value, op.size * 8)
            return op if value is op.value else ops.Store(op.pointer, op.offset, op.size, value, op.span)
        if type(op) is ops.Extend:
            return self.extend(op)
        if type(op) is ops.Compare:
            return self.compare(op)
        match op:
            case ops.ByteSwap(result, int() as value, bits):
                self.replace(result, evaluate_swap(value, bits))
                return None
            case ops.Offset(result, pointer, 0) if result.kind is pointer.kind:
                self.replace(result, pointer)
                return None
            case ops.BoundedIndex(result, int() as value, limit):
                value &= MASK64
                power = limit & (limit - 1) == 0
                self.replace(result, value & (limit - 1) if power else value if value < limit else 0)
                return None
            case _:
                return op

    def binary(self, op: ops.Binary) -> Op | None:
        kind, left, right = op.op, op.left, op.right
        if isinstance(left, int) and isinstance(right, int):
            self.replace(op.result, evaluate_binary(kind, left, right))
            return None
        if isinstance(left, int) and kind in _COMMUTATIVE:
            left, right = right, left
        if isinstance(right, int):
            right &= 63 if kind in _SHIFTS else MASK64
            simple = self.with_constant(kind, left, right)
            if simple is not None:
                self.replace(op.result, simple)
                return None
            kind, left, right = self.strength(kind, left, right)
        elif left is right and kind in (BinaryOp.SUB, BinaryOp.XOR):
            self.replace(op.result, 0)
            return None
        if kind is op.op and left is op.left and right is op.right:
            return op
        return ops.Binary(op.result, kind, left, right, op.span)

    def with_constant(self, kind: BinaryOp, left: Operand, right: int) -> Operand | None:
        """Return what an operation with a constant on the right is equal to, if that is simple."""
        if right == 0:
            if kind in _NEUTRAL_ZERO or kind is BinaryOp.MOD:
                return left
            return 0  # MUL, DIV, AND
        if right == 1 and kind in (BinaryOp.MUL, BinaryOp.DIV):
            return left
        if right == 1 and kind is BinaryOp.MOD:
            return 0
        if kind is BinaryOp.AND and right & (right + 1) == 0 and right.bit_length() >= self.width(left):
            return left
        return None

    def strength(self, kind: BinaryOp, left: Operand, right: int) -> tuple[BinaryOp, Operand, int]:
        """Return a cheaper operation with the same result; sums of sums with constants become one."""
        if right & (right - 1) == 0:
            power = right.bit_length() - 1
            match kind:
                case BinaryOp.MUL:
                    return BinaryOp.SHL, left, power
                case BinaryOp.DIV:
                    return BinaryOp.LSHR, left, power
                case BinaryOp.MOD:
                    return BinaryOp.AND, left, right - 1
                case _:
                    pass
        if kind is BinaryOp.SUB:
            kind, right = BinaryOp.ADD, -right & MASK64
        inner = self.definition(left)
        if (
            isinstance(inner, ops.Binary)
            and inner.op is kind
            and isinstance(inner.right, int)
            and kind in (BinaryOp.ADD, BinaryOp.AND, BinaryOp.OR, BinaryOp.XOR)
        ):
            return kind, inner.left, evaluate_binary(kind, inner.right, right)
        return kind, left, signed(right) if kind is BinaryOp.ADD else right

    def compare(self, op: ops.Compare) -> Op | None:
        kind, left, right = self.comparison(op.op, op.left, op.right)
        if isinstance(left, int) and isinstance(right, int):
            self.replace(op.result, int(evaluate_compare(kind, left, right)))
            return None
        if kind is op.op and left is op.left and right is op.right:
            return op
        return ops.Compare(op.result, kind, left, right, op.span)

    def comparison(self, kind: CompareOp, left: Operand, right: Operand) -> tuple[CompareOp, Operand, Operand]:
        """See through comparisons of a comparison's result with 0."""
        while kind in (CompareOp.EQ, CompareOp.NE) and right == 0 and isinstance(right, int):
            inner = self.definition(left)
            if not isinstance(inner, ops.Compare):
                break
            kind = inner.op if kind is CompareOp.NE else _INVERSE[inner.op]
            left, right = inner.left, inner.right
        return kind, left, right

    def extend(self, op: ops.Extend) -> Op | None:
        value = op.value
        if isinstance(value, int):
            self.replace(op.result, evaluate_extend(value, op.bits, op.signed))
            return None
        if self.width(value) <= op.bits - op.signed:
            self.replace(op.result, value)
            return None
        inner = self.definition(value)
        match inner:
            case ops.Load(_, _, _, size, True) if op.signed and size * 8 <= op.bits:
                self.replace(op.result, value)
                return None
            case ops.Extend(_, _, bits, True) if op.signed and bits <= op.bits:
                self.replace(op.result, value)
                return None
            case ops.Extend(_, wider, bits, _) if bits >= op.bits:
                return ops.Extend(op.result, wider, op.bits, op.signed, op.span)
            case ops.Binary(_, BinaryOp.AND, wider, int() as mask) if _keeps(mask, op.bits):
                return ops.Extend(op.result, wider, op.bits, op.signed, op.span)
            case _:
                return op

    def lowest(self, value: Operand, bits: int) -> Operand:
        """Return an older value with the same lowest bits, if there is one."""
        while True:
            match self.definition(value):
                case ops.Extend(_, wider, kept, _) if kept >= bits:
                    value = wider
                case ops.Binary(_, BinaryOp.AND, wider, int() as mask) if _keeps(mask, bits):
                    value = wider
                case _:
                    return value

    def simplify_end(self, end: Terminator) -> Terminator:
        if type(end) is not ops.Branch:
            return end
        kind, left, right = self.comparison(end.op, end.left, end.right)
        if isinstance(left, int) and isinstance(right, int):
            return ops.Jump(end.then if evaluate_compare(kind, left, right) else end.otherwise)
        if kind is end.op and left is end.left and right is end.right:
            return end
        return ops.Branch(kind, left, right, end.then, end.otherwise, end.span)


def _keeps(mask: int, bits: int) -> bool:
    """Whether a mask leaves the low bits alone."""
    low = (1 << bits) - 1
    return mask & low == low
