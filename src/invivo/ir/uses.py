"""What an operation reads and writes, by class: the one table behind every pass."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Final

from invivo.ir import ops
from invivo.ir.ops import Block, Function, Op, Operand, Terminator, Value
from invivo.record import replace

_OPERANDS: Final[dict[type, tuple[str, ...]]] = {
    ops.Binary: ("left", "right"),
    ops.Compare: ("left", "right"),
    ops.Extend: ("value",),
    ops.ByteSwap: ("value",),
    ops.Offset: ("pointer", "amount"),
    ops.BoundedIndex: ("value",),
    ops.Load: ("pointer",),
    ops.Store: ("pointer", "value"),
    ops.Atomic: ("pointer", "value"),
    ops.CompareExchange: ("pointer", "expected", "new"),
    ops.StackSlot: (),
    ops.Copy: ("target", "source"),
    ops.Zero: ("target",),
    ops.MapAddress: (),
    ops.GlobalAddress: (),
    ops.FunctionAddress: (),
    ops.KernelVariable: (),
    ops.GetVariable: (),
    ops.SetVariable: ("value",),
    ops.Branch: ("left", "right"),
    ops.Return: ("value",),
    ops.Jump: (),
}
_NO_RESULT: Final = (ops.Store, ops.Copy, ops.Zero, ops.SetVariable)


def operands(op: Op | Terminator) -> tuple[Operand, ...]:
    """Return the values and constants that an operation or terminator reads, in order."""
    if isinstance(op, ops.Call | ops.CallFunction | ops.CallKernel):
        return op.arguments
    found: tuple[Operand, ...] = tuple([getattr(op, name) for name in _OPERANDS[type(op)]])
    return found


def result(op: Op) -> Value | None:
    """Return the value that an operation defines."""
    if isinstance(op, _NO_RESULT):
        return None
    return op.result


def rewrite_op(op: Op, change: Callable[[Operand], Operand]) -> Op:
    """Return the operation with every operand changed; the same object if none changes."""
    if isinstance(op, ops.Call):
        arguments = tuple([change(a) for a in op.arguments])
        return op if arguments == op.arguments else ops.Call(op.result, op.helper, arguments, op.span)
    if isinstance(op, ops.CallFunction):
        arguments = tuple([change(a) for a in op.arguments])
        return op if arguments == op.arguments else ops.CallFunction(op.result, op.function, arguments, op.span)
    if isinstance(op, ops.CallKernel):
        arguments = tuple([change(a) for a in op.arguments])
        return op if arguments == op.arguments else ops.CallKernel(op.result, op.type_id, arguments, op.span)
    names = _OPERANDS[type(op)]
    changes: dict[str, Operand] = {}
    for name in names:
        old: Operand = getattr(op, name)
        new = change(old)
        if new is not old:
            changes[name] = new
    return replace(op, **changes) if changes else op


def rewrite_end(end: Terminator, change: Callable[[Operand], Operand]) -> Terminator:
    if isinstance(end, ops.Branch):
        left, right = change(end.left), change(end.right)
        if left is end.left and right is end.right:
            return end
        return ops.Branch(end.op, left, right, end.then, end.otherwise, end.span)
    if isinstance(end, ops.Return):
        value = change(end.value)
        return end if value is end.value else ops.Return(value)
    return end


class Replacements:
    """Values in whose place others stand, by number."""

    def __init__(self) -> None:
        self._of: dict[int, Operand] = {}

    def add(self, value: Value, instead: Operand) -> None:
        self._of[value.id] = instead

    def __call__(self, operand: Operand) -> Operand:
        """Return what stands in the place of an operand."""
        while isinstance(operand, Value) and operand.id in self._of:
            operand = self._of[operand.id]
        return operand

    def op(self, op: Op) -> Op:
        """Return the operation with its operands replaced. (Most functions replace little.)"""
        return rewrite_op(op, self) if self._of else op

    def end(self, end: Terminator) -> Terminator:
        return rewrite_end(end, self) if self._of else end

    def blocks(self, blocks: Iterable[Block]) -> tuple[Block, ...]:
        """Return the blocks with the operands of all operations replaced."""
        if not self._of:
            return tuple(blocks)
        return tuple(
            Block(block.label, tuple([rewrite_op(op, self) for op in block.ops]), rewrite_end(block.end, self))
            for block in blocks
        )


def with_blocks(function: Function, blocks: tuple[Block, ...]) -> Function:
    return Function(function.name, function.kind, function.parameters, blocks)


def successors(end: Terminator) -> tuple[str, ...]:
    """Return the labels that a terminator may go to, the nearest continuation first."""
    if isinstance(end, ops.Jump):
        return (end.target,)
    if isinstance(end, ops.Branch):
        return (end.then, end.otherwise) if end.then != end.otherwise else (end.then,)
    return ()


def reverse_postorder(function: Function) -> list[Block]:
    """Return the reachable blocks, each before the blocks it leads to (but for loops); the entry first."""
    blocks = {block.label: block for block in function.blocks}
    order: list[Block] = []
    entered = {function.blocks[0].label}
    stack = [(function.blocks[0], list(successors(function.blocks[0].end)))]
    while stack:
        block, pending = stack[-1]
        if not pending:
            order.append(block)
            stack.pop()
            continue
        # The last successor is entered first, so that the first one stands next to the block.
        label = pending.pop()
        if label not in entered:
            entered.add(label)
            stack.append((blocks[label], list(successors(blocks[label].end))))
    order.reverse()
    return order


def predecessors(function: Function) -> dict[str, list[str]]:
    """Return for each block the labels of the blocks that lead to it, in block order."""
    found: dict[str, list[str]] = {block.label: [] for block in function.blocks}
    for block in function.blocks:
        for label in successors(block.end):
            found[label].append(block.label)
    return found


def dominators(function: Function) -> dict[str, str]:
    """Return the immediate dominator of each reachable block (the entry's is itself).

    Cooper, Harvey, Kennedy: A Simple, Fast Dominance Algorithm.
    """
    order = [block.label for block in reverse_postorder(function)]
    place = {label: index for index, label in enumerate(order)}
    before = predecessors(function)
    idom = {order[0]: order[0]}
    changed = True
    while changed:
        changed = False
        for label in order[1:]:
            candidate = ""
            for source in before[label]:
                if source not in idom:
                    continue
                if not candidate:
                    candidate = source
                    continue
                other = source
                while other != candidate:
                    if place[other] > place[candidate]:
                        other = idom[other]
                    else:
                        candidate = idom[candidate]
            if idom.get(label) != candidate:
                idom[label] = candidate
                changed = True
    return idom
