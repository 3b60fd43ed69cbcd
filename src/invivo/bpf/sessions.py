"""Two programs at the same functions, one at entry and one at return → one program of a session link."""

from __future__ import annotations

from itertools import pairwise
from typing import Final

from invivo.bpf import insn as bpf
from invivo.bpf.insn import Insn
from invivo.bpf.registers import Allocated
from invivo.bpf.select import SelectedBlock
from invivo.ir.ops import CompareOp, Function, Return
from invivo.ir.program import Entry
from invivo.record import replace
from invivo.target import Plan

# More than this may be too much for the verifier together where it is not for each of them.
_INSTRUCTIONS: Final = 4096
_PROVIDERS: Final = ({"kprobe", "kretprobe"}, {"uprobe", "uretprobe"})
_SAVED: Final = 6  # the first register that calls leave alone
_IS_RETURN: Final = "is_return"
_SECOND: Final = "second."


def pairs(entries: tuple[Entry, ...], functions: dict[str, Function]) -> list[tuple[Entry, Entry]]:
    """Return the entries that can be halves of one program, each pair in the order of the script.

    Between the two there is no other program of their kind: what runs before what stays as it was.
    """
    found: list[tuple[Entry, Entry]] = []
    for providers in _PROVIDERS:
        alike = [entry for entry in entries if entry.plan.context.provider in providers]
        for pair in pairwise(alike):
            if not (found and pair[0] is found[-1][1]) and _belong_together(*pair, functions):
                found.append(pair)
    return found


def _belong_together(first: Entry, second: Entry, functions: dict[str, Function]) -> bool:
    here, there = first.plan.session, second.plan.session
    if here is None or there is None or here.at_return == there.at_return:
        return False
    if [point.data for point in first.plan.points] != [point.data for point in second.plan.points]:
        return False
    # An entry that returns something other than 0 has no return.
    ends = [block.end for entry in (first, second) for block in functions[entry.function].blocks]
    return all(end.value == 0 for end in ends if isinstance(end, Return))


def joined_plan(first: Plan, second: Plan) -> Plan:
    """Return what is attached in the place of both; each half's cookies count its own points."""
    assert first.session is not None
    context = replace(first.context, program=first.session.program)
    return replace(first, points=first.points + second.points, context=context)


def is_small(function: Allocated) -> bool:
    return sum(bpf.slots(insn) for block in function.blocks for insn in block.insns) <= _INSTRUCTIONS


def joined(first: Allocated, second: Allocated, plan: Plan) -> Allocated:
    """Return a function that asks the kernel which of the two it is; ``plan`` and its name are the first one's."""
    session = plan.session
    assert session is not None
    other = f"{_SECOND}{second.blocks[0].label}"
    # The context stays in r1 for kernels whose function takes it.
    start = [
        Insn(bpf.MOV64_REGISTER, _SAVED, 1),
        Insn(bpf.CALL, 0, bpf.PSEUDO_KERNEL_CALL, immediate=session.is_return),
        Insn(bpf.MOV64_REGISTER, 1, _SAVED),
        Insn(bpf.JMP | bpf.JUMPS[CompareOp.EQ if session.at_return else CompareOp.NE], 0, immediate=0, symbol=other),
    ]
    begin = SelectedBlock(_IS_RETURN, start, (first.blocks[0].label, other))
    blocks = [begin, *first.blocks, *map(_renamed, second.blocks)]
    return Allocated(first.name, blocks, max(first.frame_bytes, second.frame_bytes))


def _renamed(block: SelectedBlock) -> SelectedBlock:
    insns = [
        replace(insn, symbol=f"{_SECOND}{insn.symbol}") if bpf.is_jump(insn) else insn for insn in block.insns
    ]  # fmt: skip
    return SelectedBlock(f"{_SECOND}{block.label}", insns, tuple(f"{_SECOND}{target}" for target in block.targets))
