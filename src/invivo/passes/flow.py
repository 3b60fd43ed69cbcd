"""Control flow: no unreachable blocks, no jumps to jumps, no needless block borders."""

from __future__ import annotations

from invivo.ir import ops
from invivo.ir.ops import Block, Function, Op, Terminator
from invivo.ir.uses import reverse_postorder, successors, with_blocks, with_ops


def simplify_flow(function: Function) -> Function:
    """Make the control flow as short as it can be without looking at values.

    Before: any blocks.  After: only reachable blocks, in reverse postorder; no jump leads to a
    block that only jumps on or returns a constant; a block is merged into its only predecessor
    if that does nothing but jump to it.
    Leaves alone: operations, comparisons, loops.
    """
    blocks = {block.label: block for block in function.blocks}
    threaded = tuple([with_ops(block, block.ops, _thread(block.end, blocks)) for block in function.blocks])
    return with_blocks(function, _merge(reverse_postorder(with_blocks(function, threaded))))


def _thread(end: Terminator, blocks: dict[str, Block]) -> Terminator:
    if type(end) is ops.Jump:
        target = _destination(end.target, blocks)
        final = blocks[target]
        if not final.ops and type(final.end) is ops.Return and isinstance(final.end.value, int):
            return final.end
        return end if target == end.target else ops.Jump(target)
    if type(end) is ops.Branch:
        then, otherwise = _destination(end.then, blocks), _destination(end.otherwise, blocks)
        if then == otherwise:
            return ops.Jump(then)
        if then == end.then and otherwise == end.otherwise:
            return end
        return ops.Branch(end.op, end.left, end.right, then, otherwise, end.span)
    return end


def _destination(label: str, blocks: dict[str, Block]) -> str:
    """Follow blocks that only jump on; an endless loop of them stays where it is."""
    seen: list[str] = []
    while not blocks[label].ops:
        end = blocks[label].end
        seen.append(label)
        if type(end) is not ops.Jump or end.target in seen:
            break
        label = end.target
    return label


def _merge(order: list[Block]) -> tuple[Block, ...]:
    """Merge blocks in reverse postorder. A block with only one way in, a jump, stands after that jump's block."""
    ways_in: dict[str, int] = {}
    for block in order:
        for label in successors(block.end):
            ways_in[label] = ways_in.get(label, 0) + 1
    merged: list[Block] = []
    following = iter(order)
    for block in following:
        end = block.end
        if type(end) is ops.Jump and ways_in[end.target] == 1:
            body: list[Op] = [*block.ops]
            while type(end) is ops.Jump and ways_in[end.target] == 1 and end.target != block.label:
                only = next(following)
                body += only.ops
                end = only.end
            block = Block(block.label, tuple(body), end)
        merged.append(block)
    return tuple(merged)
