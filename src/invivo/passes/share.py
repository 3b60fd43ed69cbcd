"""The same question is asked once."""

from __future__ import annotations

from collections.abc import Callable
from operator import attrgetter
from typing import Final

from invivo.ir import helpers, ops
from invivo.ir.ops import Block, Function, Kind, Op, Value
from invivo.ir.uses import Replacements, dominators, result, with_blocks, with_ops

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


# What makes an operation equal to another of its class.
_REPEATABLE: Final[dict[type, Callable[[Op], tuple[object, ...]]]] = {
    ops.Binary: attrgetter("op", "left", "right"),
    ops.Compare: attrgetter("op", "left", "right"),
    ops.Extend: attrgetter("value", "bits", "signed"),
    ops.ByteSwap: attrgetter("value", "bits"),
    ops.Load: attrgetter("pointer", "offset", "size", "signed", "result.kind"),
}


def share_values(function: Function) -> Function:
    """Compute equal things once.

    Before: any operations.  After: a helper whose answer does not change during a run is not
    called where an earlier call on every way here gave the answer; equal arithmetic, and equal
    loads from the context, occur once in a block.
    Leaves alone: other loads, bounded indices (their bound is the verifier's, for that register),
    arithmetic across blocks (a long life costs a register).
    """
    asked = [op.helper for block in function.blocks for op in block.ops if type(op) is ops.Call]
    asks_again = any(asked.count(helper) > 1 for helper in STABLE_HELPERS)
    idom = dominators(function) if asks_again else {}
    replaced = Replacements()
    answers: dict[str, dict[object, Value]] = {}
    blocks: list[Block] = []
    for block in function.blocks:
        known = answers[block.label] = dict(answers.get(idom.get(block.label, ""), {}))
        local: dict[object, Value] = {}
        kept: list[Op] = []
        for op in block.ops:
            op = replaced.op(op)
            key = _key(op)
            if key is not None:
                value = result(op)
                assert value is not None
                earlier = (known if type(op) is ops.Call else local).setdefault(key, value)
                if earlier is not value:
                    replaced.add(value, earlier)
                    continue
            kept.append(op)
        blocks.append(with_ops(block, kept, replaced.end(block.end)))
    return with_blocks(function, tuple(blocks))


def _key(op: Op) -> object:
    """Return what makes an operation equal to another, None if it never is."""
    if type(op) is ops.Call:
        return (op.helper, op.result.kind) if op.helper in STABLE_HELPERS and op.result is not None else None
    if type(op) is ops.Load and op.pointer.kind is not Kind.CONTEXT:
        return None
    read = _REPEATABLE.get(type(op))
    return None if read is None else (type(op), read(op))
