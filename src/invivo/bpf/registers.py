"""Register allocation: virtual registers → r0 to r9 and 8-byte stack slots.

Where a register is live is one integer, two bits an instruction (it reads at the first, writes
at the second), so "may these two share a register" is one ``&``.  Moves are coalesced first;
then registers are given out, the most used per length of life first.  What gets none is spilled:
constants are made again at each use, the rest is stored and loaded around each use, and the
allocation starts again with these short lives.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Final

from invivo.bpf import insn as bpf
from invivo.bpf.insn import FIRST_VIRTUAL, FRAME, Insn
from invivo.bpf.select import Selected, SelectedBlock
from invivo.record import Record

_SCRATCH: Final = (5, 4, 3, 2, 0, 1)  # lost in calls; results and first arguments want theirs
_PRESERVED: Final = (6, 7, 8, 9)
_CALL_CLOBBERS: Final = (0, 1, 2, 3, 4, 5)
_UNSPILLABLE: Final = 1e30


Accesses = list[tuple[tuple[int, ...], tuple[int, ...]]]  # what each instruction reads and writes


class Allocated(Record, eq=False):
    """A function on machine registers; ``frame_bytes`` includes spills."""

    name: str
    blocks: list[SelectedBlock]
    frame_bytes: int


def allocate(function: Selected, parameters: int) -> Allocated:
    """Assign registers. ``parameters`` is how many of r1 to r5 hold something at the start."""
    blocks = function.blocks
    frame_bytes = function.frame_bytes
    registers = function.registers
    short_lived = set(function.held)
    while True:
        lives = _Lives(blocks, parameters, function.held)
        assigned, spilled = _assign(lives, short_lived)
        if not spilled:
            return Allocated(function.name, _rename(lives.blocks, lives, assigned), frame_bytes)
        spills = _Spills(lives, spilled, registers, frame_bytes)
        blocks = spills.rewrite()
        frame_bytes = spills.frame_bytes
        registers = spills.next_register
        short_lived |= spills.short_lived


class _Lives:
    """Liveness of a function's registers, moves coalesced. Dead pure instructions are dropped."""

    def __init__(self, blocks: list[SelectedBlock], parameters: int, held: frozenset[int]) -> None:
        self.parameters = parameters
        self.held = held
        self.fixed = [0] * 11  # when machine registers are taken
        self.live: dict[int, int] = {}
        self.writes: dict[int, int] = {}
        self.weight: dict[int, float] = {}
        self.moves: list[tuple[int, int, int]] = []  # position, target, source
        self.hints: dict[int, dict[int, float]] = {}
        self.constants: dict[int, Insn | None] = {}  # what makes a register anew; None: it cannot be
        self.leader: dict[int, int] = {}
        depth = _loop_depths(blocks)
        accesses = [list(map(_accesses, block.insns)) for block in blocks]
        leaving = _live_out(blocks, accesses)
        self.blocks: list[SelectedBlock] = []
        position = 0
        for index, block in enumerate(blocks):
            kept, accessed = _without_dead(block, accesses[index], leaving[block.label])
            self.blocks.append(kept)
            self.scan(kept, accessed, leaving[block.label], position, 8.0 ** depth[index], first=index == 0)
            position += len(kept.insns)
        self.coalesce()

    def scan(
        self, block: SelectedBlock, accesses: Accesses, leaving: int, start: int, weight: float, *, first: bool
    ) -> None:
        """Walk one block backwards from the registers that are live at its end."""
        insns = block.insns
        ends: dict[int, int] = dict.fromkeys(_bits(leaving), 2 * (start + len(insns)) - 1)
        for index in range(len(insns) - 1, -1, -1):
            insn = insns[index]
            at = 2 * (start + index)
            reads, writes = accesses[index]
            for register in writes:
                self.add_range(register, at + 1, ends.pop(register, at + 1))
                self.note_write(register, insn, at, weight)
            for register in reads:
                ends.setdefault(register, at)
                self.weight[register] = self.weight.get(register, 0.0) + weight
            if insn.code == bpf.MOV64_REGISTER:
                self.note_move(insn, start + index, weight)
        for register, end in ends.items():
            if register < FIRST_VIRTUAL and not (first and 1 <= register <= self.parameters):
                raise AssertionError(f"r{register} is read before it is written in {block.label}")
            self.add_range(register, 2 * start, end)

    def add_range(self, register: int, start: int, end: int) -> None:
        mask = ((1 << (end - start + 1)) - 1) << start
        if register < FIRST_VIRTUAL:
            self.fixed[register] |= mask
        else:
            self.live[register] = self.live.get(register, 0) | mask

    def note_write(self, register: int, insn: Insn, at: int, weight: float) -> None:
        if register < FIRST_VIRTUAL:
            return
        self.writes[register] = self.writes.get(register, 0) | 2 << at
        self.weight[register] = self.weight.get(register, 0.0) + weight
        constant = insn.code in (bpf.MOV64_IMMEDIATE, bpf.MOV32_IMMEDIATE, bpf.LD_IMM64)
        self.constants[register] = insn if constant and register not in self.constants else None

    def note_move(self, insn: Insn, index: int, weight: float) -> None:
        target, source = insn.target, insn.source
        if target >= FIRST_VIRTUAL and source >= FIRST_VIRTUAL:
            self.moves.append((index, target, source))
        elif source != FRAME:
            virtual, machine = max(target, source), min(target, source)
            hints = self.hints.setdefault(virtual, {})
            hints[machine] = hints.get(machine, 0.0) + weight

    # -- coalescing ----------------------------------------------------------------------------

    def find(self, register: int) -> int:
        while register in self.leader:
            register = self.leader[register]
        return register

    def coalesce(self) -> None:
        """Let moved registers share one where neither is written while the other lives on
        (Chaitin's interference; the move itself writes what the other already holds)."""
        for index, target, source in self.moves:
            a, b = self.find(target), self.find(source)
            if a == b or a in self.held or b in self.held:
                continue
            both = self.writes.get(a, 0) & ~(2 << 2 * index) & self.live[b] | self.writes.get(b, 0) & self.live[a]
            if both:
                continue
            self.leader[a] = b
            self.live[b] |= self.live[a]
            self.writes[b] = self.writes.get(b, 0) | self.writes.get(a, 0)
            self.weight[b] += self.weight[a]
            self.constants[b] = None
            hints = self.hints.setdefault(b, {})
            for machine, weight in self.hints.get(a, {}).items():
                hints[machine] = hints.get(machine, 0.0) + weight
            del self.live[a]


def _assign(lives: _Lives, short_lived: set[int]) -> tuple[dict[int, int], list[int]]:
    """Give machine registers to the leaders of coalesced registers; return also what got none."""
    taken = list(lives.fixed)
    order: list[tuple[float, int]] = []
    for register, live in lives.live.items():
        density = lives.weight[register] / live.bit_count()
        order.append((-_UNSPILLABLE if register in short_lived else -density, register))
    order.sort()
    assigned: dict[int, int] = {}
    spilled: list[int] = []
    wishes: dict[int, list[int]] = {}
    for _, target, source in lives.moves:
        a, b = lives.find(target), lives.find(source)
        if a != b:
            wishes.setdefault(a, []).append(b)
            wishes.setdefault(b, []).append(a)
    for _, register in order:
        live = lives.live[register]
        hints = lives.hints.get(register, {})
        wanted = sorted(hints, key=lambda machine: (-hints[machine], machine))
        wanted += [assigned[other] for other in wishes.get(register, ()) if other in assigned]
        for machine in (*wanted, *_SCRATCH, *_PRESERVED):
            if not taken[machine] & live:
                assigned[register] = machine
                taken[machine] |= live
                break
        else:
            assert register not in short_lived, "too many registers in one instruction"
            spilled.append(register)
    return assigned, spilled


def _rename(blocks: list[SelectedBlock], lives: _Lives, assigned: dict[int, int]) -> list[SelectedBlock]:
    """Put machine registers in place of virtual ones; moves to the same register go."""

    def machine(register: int) -> int:
        return assigned[lives.find(register)] if register >= FIRST_VIRTUAL else register

    renamed: list[SelectedBlock] = []
    for block in blocks:
        insns: list[Insn] = []
        for insn in block.insns:
            if insn.target < FIRST_VIRTUAL and insn.source < FIRST_VIRTUAL:
                insns.append(insn)
                continue
            target, source = machine(insn.target), machine(insn.source)
            if insn.code != bpf.MOV64_REGISTER or target != source:
                insns.append(_with(insn, target, source))
        renamed.append(SelectedBlock(block.label, insns, block.targets))
    return renamed


def _with(insn: Insn, target: int, source: int) -> Insn:
    return Insn(insn.code, target, source, insn.offset, insn.immediate, insn.symbol, insn.span)


class _Spills:
    """Rewrites instructions whose registers got no machine register."""

    def __init__(self, lives: _Lives, spilled: list[int], registers: int, frame_bytes: int) -> None:
        self.lives = lives
        self.next_register = registers
        self.short_lived: set[int] = set()
        self.constants: dict[int, Insn] = {}
        self.slots: dict[int, int] = {}
        shared: list[int] = []  # for each new slot, when it is taken
        for register in spilled:
            constant = lives.constants.get(register)
            if constant is not None:
                self.constants[register] = constant
                continue
            live = lives.live[register]
            place = next((i for i, busy in enumerate(shared) if not busy & live), len(shared))
            if place == len(shared):
                shared.append(0)
            shared[place] |= live
            self.slots[register] = -(frame_bytes + 8 * place + 8)
        self.frame_bytes = frame_bytes + 8 * len(shared)

    def rewrite(self) -> list[SelectedBlock]:
        blocks: list[SelectedBlock] = []
        for block in self.lives.blocks:
            insns: list[Insn] = []
            for insn in block.insns:
                self.rewrite_insn(insn, insns)
            blocks.append(SelectedBlock(block.label, insns, block.targets))
        return blocks

    def fresh(self) -> int:
        self.next_register += 1
        self.short_lived.add(self.next_register - 1)
        return self.next_register - 1

    def name(self, register: int) -> int:
        """Coalesced registers become one for good, so that later rounds see fewer."""
        return self.lives.find(register) if register >= FIRST_VIRTUAL else register

    def rewrite_insn(self, insn: Insn, out: list[Insn]) -> None:
        target, source = self.name(insn.target), self.name(insn.source)
        code, span = insn.code, insn.span
        if code == bpf.MOV64_REGISTER:
            if target == source:
                return
            if target in self.slots and source not in self.slots and source not in self.constants:
                self.store(target, source, insn, out)
                return
            if source in self.slots and target not in self.slots:
                out.append(Insn(bpf.LDX | bpf.MEM | bpf.SIZES[8], target, FRAME, self.slots[source], span=span))
                return
            if source in self.constants and target not in self.slots:
                out.append(_with(self.constants[source], target, self.constants[source].source))
                return
        if target in self.constants and bpf.writes_target(insn) and not bpf.reads_target(insn):
            return  # the definition of a constant: made again where it is used
        new_source = self.read(source, insn, out) if self.is_register(insn, source=True) else source
        new_target = target
        if self.is_register(insn, source=False) and (target in self.slots or target in self.constants):
            if source == target and new_source != source:
                new_target = new_source
            elif bpf.reads_target(insn):
                new_target = self.read(target, insn, out)
            else:
                new_target = self.fresh()
        out.append(_with(insn, new_target, new_source))
        if bpf.writes_target(insn) and target in self.slots:
            self.store(target, new_target, insn, out)
        if bpf.is_fetch(insn) and source in self.slots:
            self.store(source, new_source, insn, out)

    def is_register(self, insn: Insn, *, source: bool) -> bool:
        if source:
            return bpf.reads_source(insn)
        return bpf.reads_target(insn) or bpf.writes_target(insn)

    def read(self, register: int, insn: Insn, out: list[Insn]) -> int:
        if register in self.slots:
            new = self.fresh()
            out.append(Insn(bpf.LDX | bpf.MEM | bpf.SIZES[8], new, FRAME, self.slots[register], span=insn.span))
            return new
        if register in self.constants:
            new = self.fresh()
            out.append(_with(self.constants[register], new, self.constants[register].source))
            return new
        return register

    def store(self, register: int, value: int, insn: Insn, out: list[Insn]) -> None:
        code = bpf.STX | bpf.MEM | bpf.SIZES[8]
        out.append(Insn(code, FRAME, value, self.slots[register], span=insn.span))


# -- liveness ----------------------------------------------------------------------------------


def _accesses(insn: Insn) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """Return the registers that an instruction reads and those that it writes (r10 aside)."""
    code = insn.code
    if code == bpf.CALL:
        return tuple(range(1, insn.offset + 1)), _CALL_CLOBBERS
    is_atomic = code & (bpf.MODE | bpf.CLASS) == bpf.ATOMIC | bpf.STX
    return _accesses_of(code, insn.target, insn.source, insn.immediate if is_atomic else 0)


@lru_cache(4096)
def _accesses_of(code: int, target: int, source: int, immediate: int) -> tuple[tuple[int, ...], tuple[int, ...]]:
    if code == bpf.EXIT:
        return (0,), ()
    insn = Insn(code, target, source, 0, immediate)
    reads: list[int] = []
    writes: tuple[int, ...] = ()
    if bpf.reads_target(insn) and insn.target != FRAME:
        reads.append(insn.target)
    if bpf.reads_source(insn) and insn.source != FRAME:
        reads.append(insn.source)
    if bpf.writes_target(insn):
        writes = (insn.target,)
    elif bpf.is_fetch(insn):
        writes = (insn.source,)
    elif bpf.is_compare_exchange(insn):
        reads.append(0)
        writes = (0,)
    return tuple(reads), writes


def _live_out(blocks: list[SelectedBlock], accesses: list[Accesses]) -> dict[str, int]:
    """Return the virtual registers (as bits) that are live at the end of each block."""
    needs: dict[str, int] = {}
    kills: dict[str, int] = {}
    for block, accessed in zip(blocks, accesses, strict=True):
        need = kill = 0
        for reads, writes in reversed(accessed):
            for register in writes:
                if register >= FIRST_VIRTUAL:
                    need &= ~(1 << register)
                    kill |= 1 << register
            for register in reads:
                if register >= FIRST_VIRTUAL:
                    need |= 1 << register
        needs[block.label], kills[block.label] = need, kill
    live_in = dict.fromkeys(needs, 0)
    live_out = dict.fromkeys(needs, 0)
    changed = True
    while changed:
        changed = False
        for block in reversed(blocks):
            out = 0
            for target in block.targets:
                out |= live_in[target]
            entering = needs[block.label] | out & ~kills[block.label]
            live_out[block.label] = out
            if entering != live_in[block.label]:
                live_in[block.label] = entering
                changed = True
    return live_out


def _without_dead(block: SelectedBlock, accesses: Accesses, leaving: int) -> tuple[SelectedBlock, Accesses]:
    """Drop instructions that only write registers which nobody reads."""
    live = leaving
    kept: list[Insn] = []
    kept_accesses: Accesses = []
    for insn, (reads, writes) in zip(reversed(block.insns), reversed(accesses), strict=True):
        if writes and writes[0] >= FIRST_VIRTUAL and bpf.is_pure(insn) and not live >> writes[0] & 1:
            continue
        for register in writes:
            if register >= FIRST_VIRTUAL:
                live &= ~(1 << register)
        for register in reads:
            if register >= FIRST_VIRTUAL:
                live |= 1 << register
        kept.append(insn)
        kept_accesses.append((reads, writes))
    kept.reverse()
    kept_accesses.reverse()
    return SelectedBlock(block.label, kept, block.targets), kept_accesses


def _bits(mask: int) -> list[int]:
    found: list[int] = []
    while mask:
        low = mask & -mask
        found.append(low.bit_length() - 1)
        mask ^= low
    return found


def _loop_depths(blocks: list[SelectedBlock]) -> list[int]:
    """Return how many loops (jumps backwards in the list) each block is within."""
    place = {block.label: index for index, block in enumerate(blocks)}
    depth = [0] * len(blocks)
    for index, block in enumerate(blocks):
        for target in block.targets:
            for inside in range(place[target], index + 1):
                depth[inside] += 1
    return depth
