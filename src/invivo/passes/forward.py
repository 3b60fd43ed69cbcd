"""Variables that need not be variables."""

from __future__ import annotations

from typing import Final

from invivo.ir import ops
from invivo.ir.ops import Block, Function, Kind, Op, Operand, Variable
from invivo.ir.uses import Replacements, dominators, with_blocks

_NULLABLE: Final = {Kind.MAP_VALUE_OR_NULL: Kind.MAP_VALUE, Kind.RING_OR_NULL: Kind.RING}


def promote_variables(function: Function) -> Function:
    """Replace variables that are set once, before every read, by the value they are set to.

    Before: lowering's variables.  After: a variable with one `SetVariable` that dominates all its
    reads is gone.  Leaves alone: variables that are set twice, or that hold a pointer as a number.
    """
    setters: dict[Variable, list[tuple[str, int, Operand]]] = {}
    for block in function.blocks:
        for index, op in enumerate(block.ops):
            if isinstance(op, ops.SetVariable):
                setters.setdefault(op.variable, []).append((block.label, index, op.value))
    single = {
        variable: found[0]
        for variable, found in setters.items()
        if len(found) == 1 and _same_kind(variable, found[0][2])
    }
    if not single:
        return function
    idom = dominators(function)
    for block in function.blocks:
        for index, op in enumerate(block.ops):
            if isinstance(op, ops.GetVariable) and op.variable in single:
                label, place, _ = single[op.variable]
                before = place < index if label == block.label else _dominates(label, block.label, idom)
                if not before:
                    del single[op.variable]
    values = {variable: value for variable, (_, _, value) in single.items()}
    return _Replacer(values).function(function)


def _dominates(label: str, other: str, idom: dict[str, str]) -> bool:
    if other not in idom:
        return True  # unreachable: whatever it reads does not matter
    while other != label:
        if idom[other] == other:
            return False
        other = idom[other]
    return True


def _same_kind(variable: Variable, value: Operand) -> bool:
    """Whether a read of the variable may be replaced by the value."""
    if isinstance(value, int):
        return variable.kind is Kind.WORD
    return variable.kind is value.kind or variable.kind is _NULLABLE.get(value.kind)


class _Replacer:
    """Replaces reads of variables by values, and drops what sets these variables."""

    def __init__(self, values: dict[Variable, Operand]) -> None:
        self.values = values
        self.replaced = Replacements()

    def function(self, function: Function) -> Function:
        for block in function.blocks:
            for op in block.ops:
                if isinstance(op, ops.GetVariable) and op.variable in self.values:
                    self.replaced.add(op.result, self.values[op.variable])
        blocks = [
            Block(block.label, tuple([op for op in block.ops if not self.goes(op)]), block.end)
            for block in function.blocks
        ]
        return with_blocks(function, self.replaced.blocks(blocks))

    def goes(self, op: Op) -> bool:
        return isinstance(op, ops.GetVariable | ops.SetVariable) and op.variable in self.values


def forward_variables(function: Function) -> Function:
    """Within a block, replace a variable's read by what was last set or read there.

    Before: `SetVariable`, `GetVariable` in any order.  After: the first read of a variable in a
    block is left, if nothing set it before; a set that is overwritten in its block is gone.
    Leaves alone: everything across blocks.
    """
    replaced = Replacements()
    bodies: list[list[Op]] = []
    for block in function.blocks:
        held: dict[Variable, Operand] = {}
        last_set: dict[Variable, int] = {}
        body: list[Op | None] = []
        for op in block.ops:
            op = replaced.op(op)
            if isinstance(op, ops.GetVariable):
                if op.variable in held:
                    replaced.add(op.result, held[op.variable])
                    continue
                held[op.variable] = op.result
            elif isinstance(op, ops.SetVariable):
                if _same_kind(op.variable, op.value):
                    held[op.variable] = op.value
                else:
                    held.pop(op.variable, None)
                if op.variable in last_set:
                    body[last_set[op.variable]] = None
                last_set[op.variable] = len(body)
            if isinstance(op, ops.GetVariable):
                last_set.pop(op.variable, None)
            body.append(op)
        bodies.append([op for op in body if op is not None])
    blocks = [Block(block.label, tuple(body), block.end) for block, body in zip(function.blocks, bodies, strict=True)]
    return with_blocks(function, replaced.blocks(blocks))
