"""The same question is asked once."""

from __future__ import annotations

from typing import Final

from invivo.ir import helpers, ops
from invivo.ir.ops import Block, Function, Kind, Op, Value
from invivo.ir.uses import Replacements, dominators, reverse_postorder, with_blocks

# Helpers without arguments (but the context) whose answer is the same during a whole run of a program.
STABLE_HELPERS: Final = frozenset(
    {
        helpers.GET_SMP_PROCESSOR_ID,
        helpers.GET_CURRENT_PID_TGID,
        helpers.GET_CURRENT_UID_GID,
        helpers.GET_CURRENT_TASK,
        helpers.GET_NUMA_NODE_ID,
        helpers.GET_CURRENT_CGROUP_ID,
        helpers.GET_CURRENT_TASK_BTF,
        helpers.GET_FUNC_IP,
        helpers.GET_ATTACH_COOKIE,
    }
)


_REPEATABLE: Final = frozenset({ops.Binary, ops.Compare, ops.Extend, ops.ByteSwap, ops.Load})


def share_values(function: Function) -> Function:
    """Compute equal things once.

    Before: any operations.  After: a helper whose answer does not change during a run is not
    called where an earlier call on every way here gave the answer; equal arithmetic, and equal
    loads from the context, occur once in a block.
    Leaves alone: other loads, bounded indices (their bound is the verifier's, for that register),
    arithmetic across blocks (a long life costs a register).
    """
    idom = dominators(function)
    replaced = Replacements()
    answers: dict[str, dict[object, Value]] = {}
    blocks: list[Block] = []
    for block in reverse_postorder(function):
        parent = idom[block.label]
        known = dict(answers[parent]) if parent != block.label else {}
        local: dict[object, Value] = {}
        kept: list[Op] = []
        for op in block.ops:
            op = replaced.op(op)
            if isinstance(op, ops.Call) and op.helper in STABLE_HELPERS and op.result is not None:
                earlier = known.setdefault((op.helper, op.result.kind), op.result)
                result: Value = op.result
            else:
                key = _key(op)
                if key is None or isinstance(op, ops.Store | ops.Copy | ops.Zero | ops.SetVariable):
                    kept.append(op)
                    continue
                assert op.result is not None
                result = op.result
                earlier = local.setdefault(key, result)
            if earlier is result:
                kept.append(op)
            else:
                replaced.add(result, earlier)
        answers[block.label] = known
        blocks.append(Block(block.label, tuple(kept), replaced.end(block.end)))
    return with_blocks(function, replaced.blocks(blocks))


def _key(op: Op) -> object:
    """Return what makes an operation equal to another, None if it never is."""
    if type(op) not in _REPEATABLE:
        return None
    match op:
        case ops.Binary(_, kind, left, right):
            return ("binary", kind, left, right)
        case ops.Compare(_, comparison, left, right):
            return ("compare", comparison, left, right)
        case ops.Extend(_, value, bits, signed):
            return ("extend", value, bits, signed)
        case ops.ByteSwap(_, value, bits):
            return ("swap", value, bits)
        case ops.Load(result, pointer, offset, size, signed) if pointer.kind is Kind.CONTEXT:
            return ("context", pointer, offset, size, signed, result.kind)
        case _:
            return None
