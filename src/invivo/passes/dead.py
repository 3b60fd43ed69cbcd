"""Operations whose result nobody needs."""

from __future__ import annotations

from typing import Final

from invivo.ir import helpers, ops
from invivo.ir.ops import Block, Function, Op, Operand
from invivo.ir.uses import operands, result, successors, with_blocks, with_ops

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
        sweep = _Sweep(function)
        # Backwards every use of a value is met before its definition: a chain of dead operations goes at once.
        blocks = [sweep.block(block) for block in reversed(function.blocks)]
        function = with_blocks(function, tuple(reversed(blocks)))
        if not sweep.reads_gone:
            return function


class _Sweep:
    """One way through a function, backwards."""

    def __init__(self, function: Function) -> None:
        self.used: dict[Operand, int] = {}  # how many low bytes of a value matter, if it is used at all
        self.read_later = _variables_read_later(function)
        self.reads_gone = False  # what was set for these reads is not needed either

    def block(self, block: Block) -> Block:
        used = self.used
        for operand in operands(block.end):
            used[operand] = 8
        needed = self.read_later[block.label]
        kept: list[Op] = []
        for op in reversed(block.ops):
            if type(op) is ops.SetVariable:
                if not needed >> op.variable.id & 1:
                    continue
                needed &= ~(1 << op.variable.id)
            elif _is_pure(op) and result(op) not in used:
                self.reads_gone |= type(op) is ops.GetVariable
                continue
            elif type(op) is ops.GetVariable:
                needed |= 1 << op.variable.id
            elif type(op) is ops.Load and op.signed and used[op.result] <= op.size:
                op = ops.Load(op.result, op.pointer, op.offset, op.size, False, op.span)
            elif type(op) is ops.Store:
                used[op.value] = max(op.size, used.get(op.value, 0))
                used[op.pointer] = 8
                kept.append(op)
                continue
            for operand in operands(op):
                used[operand] = 8
            kept.append(op)
        kept.reverse()
        return with_ops(block, kept, block.end)


def _is_pure(op: Op) -> bool:
    return type(op) in _PURE or (type(op) is ops.Call and op.helper in PURE_HELPERS)


def _variables_read_later(function: Function) -> dict[str, int]:
    """Return the variables (bits, by number) that may be read after each block's end."""
    reads: dict[str, int] = {}
    writes: dict[str, int] = {}
    for block in function.blocks:
        read = written = 0
        for op in block.ops:
            if type(op) is ops.GetVariable:
                read |= 1 << op.variable.id & ~written
            elif type(op) is ops.SetVariable:
                written |= 1 << op.variable.id
        reads[block.label], writes[block.label] = read, written
    before = dict(reads)
    after = dict.fromkeys(reads, 0)
    changed = True
    while changed:
        changed = False
        for block in reversed(function.blocks):
            later = 0
            for label in successors(block.end):
                later |= before[label]
            if later != after[block.label]:
                after[block.label] = later
                before[block.label] |= later & ~writes[block.label]
                changed = True
    return after
