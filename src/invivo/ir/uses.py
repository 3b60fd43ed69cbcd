"""What an operation reads and writes, by class: the one table behind every pass."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from operator import attrgetter
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


def _reader(names: tuple[str, ...]) -> Callable[[Op | Terminator], tuple[Operand, ...]]:
    if len(names) > 1:
        return attrgetter(*names)
    if not names:
        return lambda op: ()
    read = attrgetter(names[0])
    return lambda op: (read(op),)


_READERS: Final[dict[type, Callable[[Op | Terminator], tuple[Operand, ...]]]] = {
    kind: _reader(names) for kind, names in _OPERANDS.items()
} | dict.fromkeys((ops.Call, ops.CallFunction, ops.CallKernel), attrgetter("arguments"))


def operands(op: Op | Terminator) -> tuple[Operand, ...]:
    """Return the values and constants that an operation or terminator reads, in order."""
    return _READERS[type(op)](op)


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
        return rewrite_op(op, self) if self._of and self._changes(op) else op

    def end(self, end: Terminator) -> Terminator:
        return rewrite_end(end, self) if self._of else end

    def _changes(self, op: Op) -> bool:
        return any(type(operand) is Value and operand.id in self._of for operand in operands(op))

    def blocks(self, blocks: Iterable[Block]) -> tuple[Block, ...]:
        """Return the blocks with the operands of all operations replaced."""
        if not self._of:
            return tuple(blocks)
        return tuple(
            Block(block.label, tuple([self.op(op) for op in block.ops]), rewrite_end(block.end, self))
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
    found = predecessors(function)
    before = [[place[source] for source in found[label] if source in place] for label in order]
    idom = [0] + [-1] * (len(order) - 1)  # places of blocks; -1: not known yet
    changed = True
    while changed:
        changed = False
        for at in range(1, len(order)):
            candidate = -1
            for source in before[at]:
                if idom[source] < 0:
                    continue
                if candidate < 0:
                    candidate = source
                    continue
                other = source
                while other != candidate:
                    if other > candidate:
                        other = idom[other]
                    else:
                        candidate = idom[candidate]
            if idom[at] != candidate:
                idom[at] = candidate
                changed = True
    return {label: order[idom[at]] for label, at in place.items()}
