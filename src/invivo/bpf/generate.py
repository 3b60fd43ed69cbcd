"""IR program → image: select, allocate and encode each function, and link each entry with its callbacks."""

from __future__ import annotations

import re

from invivo.bpf import insn as bpf
from invivo.bpf.btf import BtfBuilder
from invivo.bpf.encode import encode
from invivo.bpf.jumps import straighten
from invivo.bpf.limits import FRAME_ROUNDING, FRAMES, STACK_BYTES, LimitError, StackLimitError
from invivo.bpf.registers import Allocated, allocate
from invivo.bpf.select import select
from invivo.image import FunctionInfo, Image, ProgramImage
from invivo.ir.program import Entry, Program
from invivo.record import replace


def generate(program: Program) -> Image:
    """Compile a program to eBPF. Equal IR gives equal bytes.

    Raises `LimitError` where a program needs more stack or longer jumps than there are.
    """
    generator = _Generator(program)
    entries = program.entries
    if any(entry.plan.session is not None for entry in entries):
        entries = generator.join(entries)
    programs = tuple(generator.program(entry) for entry in entries)
    return Image(programs, program.maps, generator.btf.build(), program.layout, program.license)


class _Generator:
    def __init__(self, program: Program) -> None:
        self.functions = {function.name: function for function in program.functions}
        self.compiled: dict[str, Allocated] = {}
        self.callees: dict[str, tuple[str, ...]] = {}
        self.btf = BtfBuilder()

    def join(self, entries: tuple[Entry, ...]) -> tuple[Entry, ...]:
        """Return the entries; where one program can do what two would, the two have become one."""
        from invivo.bpf import sessions

        left = list(entries)
        for first, second in sessions.pairs(entries, self.functions):
            alone = self.compile(first.function)
            self.compiled[alone.name] = sessions.joined(alone, self.compile(second.function), first.plan)
            if sessions.is_small(self.compiled[alone.name]) and self.depth(alone.name, ()) <= STACK_BYTES:
                left[left.index(first)] = replace(first, plan=sessions.joined_plan(first.plan, second.plan))
                left.remove(second)
                continue
            self.compiled[alone.name] = alone
            self.callees.pop(alone.name, None)
        return tuple(left)

    def program(self, entry: Entry) -> ProgramImage:
        names = self.reach(entry.function)
        self.check_stack(entry.function)
        linked = encode([self.compile(name) for name in names])
        infos: tuple[FunctionInfo, ...] = ()
        if len(names) > 1:
            infos = tuple(
                FunctionInfo(start, self.btf.function(self.functions[name]), name)
                for start, name in zip(linked.starts, names, strict=True)
            )
        return ProgramImage(
            program_name(entry.function), linked.code, linked.relocations, infos, linked.lines, entry.plan, entry.order
        )

    def compile(self, name: str) -> Allocated:
        if name not in self.compiled:
            function = self.functions[name]
            allocated = allocate(select(function), len(function.parameters))
            blocks = straighten(allocated.blocks)
            self.compiled[name] = Allocated(name, blocks, allocated.frame_bytes)
        return self.compiled[name]

    def calls(self, name: str) -> tuple[str, ...]:
        """Return the functions that a function refers to, in order of the first reference."""
        if name not in self.callees:
            self.callees[name] = _references(self.compile(name))
        return self.callees[name]

    def reach(self, entry: str) -> list[str]:
        """Return the entry and every function that it reaches."""
        found = [entry]
        for name in found:
            found += [callee for callee in self.calls(name) if callee not in found]
        return found

    def check_stack(self, entry: str) -> None:
        """The kernel adds up the frames of the deepest chain of calls and callbacks."""
        deepest = self.depth(entry, ())
        if deepest > STACK_BYTES:
            raise StackLimitError(entry, deepest)

    def depth(self, name: str, callers: tuple[str, ...]) -> int:
        if name in callers:
            raise AssertionError(f"{name} calls itself")
        if len(callers) >= FRAMES:
            raise LimitError(callers[0], f"calls are nested deeper than {FRAMES}")
        frame = max(self.compile(name).frame_bytes, 1)
        below = max((self.depth(callee, (*callers, name)) for callee in self.calls(name)), default=0)
        return -(-frame // FRAME_ROUNDING) * FRAME_ROUNDING + below


def _references(function: Allocated) -> tuple[str, ...]:
    found: dict[str, None] = {}
    for block in function.blocks:
        for insn in block.insns:
            if insn.symbol and (insn.code, insn.source) in _FUNCTION_REFERENCES:
                found[insn.symbol] = None
    return tuple(found)


_FUNCTION_REFERENCES = {(bpf.CALL, bpf.PSEUDO_CALL), (bpf.LD_IMM64, bpf.PSEUDO_FUNCTION)}


def program_name(function: str) -> str:
    """Return a name as the kernel takes it for a program: 15 characters of [A-Za-z0-9_.]."""
    return re.sub(r"[^A-Za-z0-9_.]", "_", function)[:15]
