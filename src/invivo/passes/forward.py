"""Variables that need not be variables."""

from __future__ import annotations

from typing import Final

from invivo.ir import ops
from invivo.ir.ops import Block, Function, Kind, Op, Operand, Variable
from invivo.ir.uses import Replacements, dominators, with_blocks, with_ops

_ACCESSES: Final = frozenset({ops.GetVariable, ops.SetVariable})
_NULLABLE: Final = {Kind.MAP_VALUE_OR_NULL: Kind.MAP_VALUE, Kind.RING_OR_NULL: Kind.RING}


def promote_variables(function: Function) -> Function:
    """Replace variables that are set once, before every read, by the value they are set to.

    Before: lowering's variables.  After: a variable with one `SetVariable` that dominates all its
    reads is gone.  Leaves alone: variables that are set twice, or that hold a pointer as a number.
    """
    setters: dict[Variable, list[tuple[str, int, Operand]]] = {}
    for block in function.blocks:
        for index, op in enumerate(block.ops):
            if type(op) is ops.SetVariable:
                setters.setdefault(op.variable, []).append((block.label, index, op.value))
    single = {
        variable: found[0]
        for variable, found in setters.items()
        if len(found) == 1 and _same_kind(variable, found[0][2])
    }
    if not single:
        return function
    idom: dict[str, str] = {}
    for block in function.blocks:
        for index, op in enumerate(block.ops):
            if type(op) is ops.GetVariable and op.variable in single:
                label, place, _ = single[op.variable]
                if label != block.label:
                    idom = idom or dominators(function)
                if not (place < index if label == block.label else _dominates(label, block.label, idom)):
                    del single[op.variable]
    values = {variable: value for variable, (_, _, value) in single.items()}
    return _without(function, values) if values else function


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


def _without(function: Function, values: dict[Variable, Operand]) -> Function:
    """Replace the reads of variables by values, and drop what sets these variables."""
    replaced = Replacements()
    blocks: list[Block] = []
    for block in function.blocks:
        kept: list[Op] = []
        for op in block.ops:
            if type(op) is ops.GetVariable and op.variable in values:
                replaced.add(op.result, values[op.variable])
            elif not (type(op) is ops.SetVariable and op.variable in values):
                kept.append(replaced.op(op))
        blocks.append(with_ops(block, kept, replaced.end(block.end)))
    return with_blocks(function, tuple(blocks))


def forward_variables(function: Function) -> Function:
    """Within a block, replace a variable's read by what was last set or read there.

    Before: `SetVariable`, `GetVariable` in any order.  After: the first read of a variable in a
    block is left, if nothing set it before; a set that is overwritten in its block is gone.
    Leaves alone: everything across blocks.
    """
    replaced = Replacements()
    return with_blocks(function, tuple([_forward(block, replaced) for block in function.blocks]))


def _forward(block: Block, replaced: Replacements) -> Block:
    if sum([type(op) in _ACCESSES for op in block.ops]) < 2:
        return replaced.block(block)
    held: dict[Variable, Operand] = {}
    last_set: dict[Variable, int] = {}  # sets that nothing has read yet, by their place
    body: list[Op | None] = []
    for op in block.ops:
        op = replaced.op(op)
        if type(op) is ops.GetVariable:
            if op.variable in held:
                replaced.add(op.result, held[op.variable])
                continue
            held[op.variable] = op.result
            last_set.pop(op.variable, None)
        elif type(op) is ops.SetVariable:
            if _same_kind(op.variable, op.value):
                held[op.variable] = op.value
            else:
                held.pop(op.variable, None)
            if op.variable in last_set:
                body[last_set[op.variable]] = None
            last_set[op.variable] = len(body)
        body.append(op)
    return with_ops(block, [op for op in body if op is not None], replaced.end(block.end))
