"""Operations whose result nobody needs."""

from __future__ import annotations

from operator import is_not
from typing import Final

from invivo.ir import helpers, ops
from invivo.ir.ops import Block, Function, Op, Value, Variable
from invivo.ir.uses import operands, result, successors, with_blocks

_PURE: Final = frozenset(
    {
        ops.Binary,
        ops.Compare,
        ops.Extend,
        ops.ByteSwap,
        ops.Offset,
        ops.BoundedIndex,
        ops.Load,
        ops.StackSlot,
        ops.MapAddress,
        ops.GlobalAddress,
        ops.FunctionAddress,
        ops.KernelVariable,
        ops.GetVariable,
    }
)
PURE_HELPERS: Final = frozenset(
    {
        helpers.MAP_LOOKUP_ELEM,
        helpers.KTIME_GET_NS,
        helpers.GET_PRANDOM_U32,
        helpers.GET_SMP_PROCESSOR_ID,
        helpers.GET_CURRENT_PID_TGID,
        helpers.GET_CURRENT_UID_GID,
        helpers.GET_CURRENT_TASK,
        helpers.GET_NUMA_NODE_ID,
        helpers.GET_CURRENT_CGROUP_ID,
        helpers.JIFFIES64,
        helpers.KTIME_GET_BOOT_NS,
        helpers.PER_CPU_PTR,
        helpers.GET_CURRENT_TASK_BTF,
        helpers.GET_FUNC_IP,
        helpers.GET_ATTACH_COOKIE,
        helpers.MAP_LOOKUP_PERCPU_ELEM,
        helpers.KTIME_GET_TAI_NS,
    }
)


def remove_dead(function: Function) -> Function:
    """Remove what has no effect.

    Before: any operations.  After: no pure operation (a helper that only answers a question
    included) whose result is unused; no `SetVariable` that no read can see; no sign-extended load
    of which only the loaded bytes are stored.
    Leaves alone: stores, other calls, control flow.
    """
    while True:
        used = _used_bytes(function)
        seen_later = _variables_read_later(function)
        changed = False
        blocks: list[Block] = []
        for block in function.blocks:
            kept = _sweep(block, used, seen_later[block.label])
            is_changed = len(kept) != len(block.ops) or any(map(is_not, kept, block.ops))
            changed |= is_changed
            blocks.append(Block(block.label, tuple(kept), block.end) if is_changed else block)
        if not changed:
            return function
        function = with_blocks(function, tuple(blocks))


def _used_bytes(function: Function) -> dict[int, int]:
    """Return how many of a value's low bytes matter, of those that are used at all."""
    used: dict[int, int] = {}
    for block in function.blocks:
        for op in (*block.ops, block.end):
            for operand in operands(op):
                if type(operand) is not Value:
                    continue
                size = op.size if type(op) is ops.Store and operand is op.value else 8
                if size > used.get(operand.id, 0):
                    used[operand.id] = size
    return used


def _sweep(block: Block, used: dict[int, int], needed: set[Variable]) -> list[Op]:
    """Go through a block backwards; a chain of dead operations goes at once."""
    needed = set(needed)
    kept: list[Op] = []
    for op in reversed(block.ops):
        if isinstance(op, ops.SetVariable):
            if op.variable not in needed:
                continue
            needed.discard(op.variable)
        elif _is_dead(op, used):
            continue
        elif isinstance(op, ops.GetVariable):
            needed.add(op.variable)
        elif isinstance(op, ops.Load) and op.signed and used[op.result.id] <= op.size:
            op = ops.Load(op.result, op.pointer, op.offset, op.size, False, op.span)
        kept.append(op)
    kept.reverse()
    return kept


def _is_dead(op: Op, used: dict[int, int]) -> bool:
    value = result(op)
    if value is not None and value.id in used:
        return False
    return type(op) in _PURE or (isinstance(op, ops.Call) and op.helper in PURE_HELPERS)


def _variables_read_later(function: Function) -> dict[str, set[Variable]]:
    """Return the variables that may be read after each block's end."""
    reads: dict[str, set[Variable]] = {}
    writes: dict[str, set[Variable]] = {}
    for block in function.blocks:
        read: set[Variable] = set()
        written: set[Variable] = set()
        for op in block.ops:
            if isinstance(op, ops.GetVariable) and op.variable not in written:
                read.add(op.variable)
            elif isinstance(op, ops.SetVariable):
                written.add(op.variable)
        reads[block.label], writes[block.label] = read, written
    after: dict[str, set[Variable]] = {block.label: set() for block in function.blocks}
    changed = True
    while changed:
        changed = False
        for block in reversed(function.blocks):
            needed: set[Variable] = set()
            for label in successors(block.end):
                needed |= reads[label] | after[label] - writes[label]
            if needed != after[block.label]:
                after[block.label] = needed
                changed = True
    return after
