"""Jumps that became needless because the moves between them went away with register allocation."""

from __future__ import annotations

from invivo.bpf import insn as bpf
from invivo.bpf.insn import Insn
from invivo.bpf.select import SelectedBlock
from invivo.record import replace


def straighten(blocks: list[SelectedBlock]) -> list[SelectedBlock]:
    """Lead jumps to their last destination, and drop jumps to what follows anyway.

    Before: instructions on machine registers, in layout order.  After: no jump leads to a block
    that only jumps on, no two jumps to ends that do the same, no block that nothing leads to,
    no jump to the next instruction.
    Leaves alone: the order of blocks.
    """
    forward = _destinations(blocks)
    kept = [_retarget(block, forward) for block in blocks]
    kept = _reachable(kept)
    return [_without_last_jump(kept, index) for index in range(len(kept))]


def _destinations(blocks: list[SelectedBlock]) -> dict[str, str]:
    """Return for each block that does nothing where it leads, and for each end the last one that does the same."""
    leads: dict[str, str] = {}
    ends: dict[tuple[object, ...], str] = {}
    for block in reversed(blocks):
        if len(block.insns) == 2 and block.insns[-1].code == bpf.EXIT:
            last = ends.setdefault(_same(block.insns[0]), block.label)
            if last != block.label:
                leads[block.label] = last
    for index, block in enumerate(blocks):
        if not block.insns and index + 1 < len(blocks):
            leads[block.label] = blocks[index + 1].label
        elif block.insns and block.insns[0].code == bpf.JA:
            leads[block.label] = block.insns[0].symbol
    final: dict[str, str] = {}
    for label, target in leads.items():
        seen = {label}
        while target in leads and target not in seen:
            seen.add(target)
            target = leads[target]
        final[label] = target
    return final


def _jumps(block: SelectedBlock) -> list[Insn]:
    """Return the jumps of a block, which are its last one or two instructions."""
    return [insn for insn in block.insns[-2:] if bpf.is_jump(insn)]


def _retarget(block: SelectedBlock, forward: dict[str, str]) -> SelectedBlock:
    jumps = _jumps(block)
    if not any(insn.symbol in forward for insn in jumps):
        return block
    others = block.insns[: -len(jumps)]
    led = [replace(insn, symbol=forward.get(insn.symbol, insn.symbol)) for insn in jumps]
    return SelectedBlock(block.label, others + led, block.targets)


def _falls_through(block: SelectedBlock) -> bool:
    return not block.insns or block.insns[-1].code not in (bpf.JA, bpf.EXIT)


def _reachable(blocks: list[SelectedBlock]) -> list[SelectedBlock]:
    place = {block.label: index for index, block in enumerate(blocks)}
    found: set[int] = set()
    pending = [0]
    while pending:
        index = pending.pop()
        if index in found:
            continue
        found.add(index)
        pending += [place[insn.symbol] for insn in _jumps(blocks[index])]
        if _falls_through(blocks[index]):
            pending.append(index + 1)
    return [block for index, block in enumerate(blocks) if index in found]


def _without_last_jump(blocks: list[SelectedBlock], index: int) -> SelectedBlock:
    """A block without what the following one does anyway: being jumped to, or ending in the same way."""
    block = blocks[index]
    if _falls_through(block):
        return block
    at = next((at for at in range(index + 1, len(blocks)) if blocks[at].insns), index)
    if at == index:
        return block
    if block.insns[-1].code == bpf.JA:
        if block.insns[-1].symbol in {following.label for following in blocks[index + 1 : at + 1]}:
            return SelectedBlock(block.label, block.insns[:-1], block.targets)
    elif list(map(_same, block.insns[-2:])) == list(map(_same, blocks[at].insns)):
        return SelectedBlock(block.label, block.insns[:-2], block.targets)
    return block


def _same(insn: Insn) -> tuple[object, ...]:
    """What two instructions have in common that do the same."""
    return insn.code, insn.target, insn.source, insn.offset, insn.immediate, insn.symbol
