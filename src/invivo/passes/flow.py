"""Control flow: no unreachable blocks, no jumps to jumps, no needless block borders."""

from __future__ import annotations

from invivo.ir import ops
from invivo.ir.ops import Block, Function, Terminator
from invivo.ir.uses import predecessors, reverse_postorder, successors, with_blocks


def simplify_flow(function: Function) -> Function:
    """Make the control flow as short as it can be without looking at values.

    Before: any blocks.  After: only reachable blocks, in reverse postorder; no jump leads to a
    block that only jumps on or returns a constant; a block is merged into its only predecessor
    if that does nothing but jump to it.
    Leaves alone: operations, comparisons, loops.
    """
    blocks = {block.label: block for block in function.blocks}
    threaded = [(block, _thread(block.end, blocks)) for block in function.blocks]
    function = with_blocks(function, tuple([b if end is b.end else Block(b.label, b.ops, end) for b, end in threaded]))
    function = with_blocks(function, tuple(reverse_postorder(function)))
    function = _merge(function)
    return with_blocks(function, tuple(reverse_postorder(function)))


def _thread(end: Terminator, blocks: dict[str, Block]) -> Terminator:
    match end:
        case ops.Jump(target):
            target = _destination(target, blocks)
            final = blocks[target]
            if not final.ops and isinstance(final.end, ops.Return) and isinstance(final.end.value, int):
                return final.end
            return end if target == end.target else ops.Jump(target)
        case ops.Branch(op, left, right, then, otherwise, span):
            then, otherwise = _destination(then, blocks), _destination(otherwise, blocks)
            if then == otherwise:
                return ops.Jump(then)
            if then == end.then and otherwise == end.otherwise:
                return end
            return ops.Branch(op, left, right, then, otherwise, span)
        case _:
            return end


def _destination(label: str, blocks: dict[str, Block]) -> str:
    """Follow blocks that only jump on; an endless loop of them stays where it is."""
    seen = {label}
    while not blocks[label].ops:
        end = blocks[label].end
        if not isinstance(end, ops.Jump) or end.target in seen:
            break
        label = end.target
        seen.add(label)
    return label


def _merge(function: Function) -> Function:
    before = predecessors(function)
    blocks = {block.label: block for block in function.blocks}
    merged: dict[str, Block] = {}
    gone: set[str] = set()
    for block in function.blocks:
        if block.label in gone:
            continue
        body = list(block.ops)
        end = block.end
        seen = {block.label}
        while isinstance(end, ops.Jump) and before[end.target] == [block.label] and end.target not in seen:
            following = blocks[end.target]
            seen.add(following.label)
            gone.add(following.label)
            merged.pop(following.label, None)
            body += following.ops
            end = following.end
            for label in successors(end):
                before[label] = [block.label if each == following.label else each for each in before[label]]
        merged[block.label] = Block(block.label, tuple(body), end)
    return with_blocks(function, tuple(merged.values()))
