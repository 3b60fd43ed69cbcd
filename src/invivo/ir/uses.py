"""What an operation reads and writes, by class: the one table behind every pass.

The passes look at every operation: here and there they ask for a class by ``type(op) is``, which takes a seventh of the
time of an `isinstance` that says no, since records have a metaclass.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
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
    found: Value | None = getattr(op, "result", None)
    return found


def rewrite_op(op: Op, change: Callable[[Operand], Operand]) -> Op:
    """Return the operation with every operand changed; the same object if none changes."""
    if type(op) is ops.Call:
        arguments = tuple([change(a) for a in op.arguments])
        return op if arguments == op.arguments else ops.Call(op.result, op.helper, arguments, op.span)
    if type(op) is ops.CallFunction:
        arguments = tuple([change(a) for a in op.arguments])
        return op if arguments == op.arguments else ops.CallFunction(op.result, op.function, arguments, op.span)
    if type(op) is ops.CallKernel:
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
    if type(end) is ops.Branch:
        left, right = change(end.left), change(end.right)
        if left is end.left and right is end.right:
            return end
        return ops.Branch(end.op, left, right, end.then, end.otherwise, end.span)
    if type(end) is ops.Return:
        value = change(end.value)
        return end if value is end.value else ops.Return(value)
    return end


class Replacements:
    """Values in whose place others stand."""

    def __init__(self) -> None:
        self._of: dict[Operand, Operand] = {}

    def add(self, value: Value, instead: Operand) -> None:
        self._of[value] = instead

    def __call__(self, operand: Operand) -> Operand:
        """Return what stands in the place of an operand."""
        while operand in self._of:
            operand = self._of[operand]
        return operand

    def op(self, op: Op) -> Op:
        """Return the operation with its operands replaced. (Most functions replace little.)"""
        replaced = self._of
        if replaced:
            for operand in operands(op):
                if operand in replaced:
                    return rewrite_op(op, self)
        return op

    def end(self, end: Terminator) -> Terminator:
        return rewrite_end(end, self) if self._of else end

    def block(self, block: Block) -> Block:
        return with_ops(block, [self.op(op) for op in block.ops], self.end(block.end)) if self._of else block


def with_ops(block: Block, kept: Sequence[Op], end: Terminator) -> Block:
    """Return a block with other operations and another end; the same object if nothing changed."""
    now = tuple(kept)
    return block if end is block.end and now == block.ops else Block(block.label, now, end)


def with_blocks(function: Function, blocks: tuple[Block, ...]) -> Function:
    return Function(function.name, function.kind, function.parameters, blocks)


def successors(end: Terminator) -> tuple[str, ...]:
    """Return the labels that a terminator may go to, the nearest continuation first."""
    if type(end) is ops.Jump:
        return (end.target,)
    if type(end) is ops.Branch:
        return (end.then, end.otherwise) if end.then != end.otherwise else (end.then,)
    return ()


def reverse_postorder(function: Function) -> list[Block]:
    """Return the reachable blocks, each before the blocks it leads to (but for loops); the entry first."""
    unseen = {block.label: block for block in function.blocks}
    order: list[Block] = []
    pending: list[str | Block] = [function.blocks[0].label]  # a block: all that it leads to has been seen
    while pending:
        item = pending.pop()
        if not isinstance(item, str):
            order.append(item)
        elif item in unseen:
            block = unseen.pop(item)
            # The last successor is entered first, so that the first one stands next to the block.
            pending += (block, *successors(block.end))
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
    order = reverse_postorder(function)
    place = {block.label: index for index, block in enumerate(order)}
    before: list[list[int]] = [[] for _ in order]
    loops = False
    for at, block in enumerate(order):
        for label in successors(block.end):
            before[place[label]].append(at)
            loops = loops or place[label] <= at
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
                changed = loops  # without loops, all that leads to a block was known before
    return {block.label: order[idom[at]].label for at, block in enumerate(order)}
