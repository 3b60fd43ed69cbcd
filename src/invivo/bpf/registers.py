"""Register allocation: virtual registers → r0 to r9 and 8-byte stack slots.

Where a register is live is one integer, two bits an instruction, counted from the function's end
(it writes at the first, reads at the second), so "may these two share a register" is one ``&``.
Moves are coalesced first; then registers are given out, the most used per length of life first.
What gets none is spilled: constants are made again at each use, the rest is stored and loaded
around each use, and the allocation starts again with these short lives.
"""

from __future__ import annotations

from collections import defaultdict
from typing import Final

from invivo.bpf import insn as bpf
from invivo.bpf.insn import FIRST_VIRTUAL, FRAME, Insn
from invivo.bpf.select import Selected, SelectedBlock
from invivo.record import Record

_CONSTANTS: Final = frozenset({bpf.MOV64_IMMEDIATE, bpf.MOV32_IMMEDIATE, bpf.LD_IMM64})
_SCRATCH: Final = (5, 4, 3, 2, 0, 1)  # lost in calls; results and first arguments want theirs
_PRESERVED: Final = (6, 7, 8, 9)
_UNSPILLABLE: Final = 1e30
_VIRTUAL: Final = -1 << FIRST_VIRTUAL


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
        self.live: dict[int, int] = defaultdict(int)
        self.writes: dict[int, int] = defaultdict(int)
        self.weight: dict[int, float] = defaultdict(float)
        self.moves: list[tuple[int, int, int]] = []  # position, target, source
        self.hints: dict[int, dict[int, float]] = {}
        self.constants: dict[int, Insn | None] = {}  # what makes a register anew; None: it cannot be
        self.leader: dict[int, int] = {}
        self.position = 0  # how many instructions were looked at
        self.calls = 0  # when calls make registers worthless
        self.blocks: list[SelectedBlock] = []
        depth = _loop_depths(blocks)
        # Without loops, what a block leads to is looked at before it.
        needed = _live_in(blocks) if any(depth) else {}
        for index in range(len(blocks) - 1, -1, -1):
            block = blocks[index]
            leaving = 0
            for target in block.targets:
                leaving |= needed[target]
            kept, entering = self.scan(block, leaving, 8.0 ** depth[index], first=index == 0)
            needed.setdefault(block.label, entering)
            self.blocks.append(SelectedBlock(block.label, kept, block.targets))
        self.blocks.reverse()
        for register in _SCRATCH:
            self.fixed[register] |= self.calls
        self.coalesce()

    def scan(self, block: SelectedBlock, leaving: int, weight: float, *, first: bool) -> tuple[list[Insn], int]:
        """Walk one block backwards from the registers that are live at its end.

        Return what of it is not dead, and the registers that are live at its start.
        """
        ends = dict.fromkeys(_bits(leaving), 2 * self.position)  # of lives whose start is not reached yet
        kept: list[Insn] = []
        moves: list[tuple[int, int, int]] = []
        weights = self.weight
        for insn in reversed(block.insns):
            code = insn.code
            reads, written = bpf.accesses(code)(insn)
            at = 2 * self.position
            if written >= FIRST_VIRTUAL:
                if written not in ends and bpf.is_pure(insn):
                    continue
                last = ends.pop(written, at)
                self.live[written] |= ((2 << at - last) - 1) << last
                self.writes[written] |= 1 << at
                weights[written] += weight
                self.constants[written] = insn if code in _CONSTANTS and written not in self.constants else None
            elif written >= 0:
                self.fixed[written] |= _range(ends.pop(written, at), at)
                if code == bpf.CALL:
                    self.calls |= 1 << at
            for register in reads:
                if register not in ends:
                    ends[register] = at + 1
                weights[register] += weight
            if code == bpf.MOV64_REGISTER:
                self.note_move(insn, moves, weight)
            kept.append(insn)
            self.position += 1
        entering = 0
        for register, end in ends.items():
            if register >= FIRST_VIRTUAL:
                self.live[register] |= _range(end, 2 * self.position - 1)
                entering |= 1 << register
            elif first and 1 <= register <= self.parameters:
                self.fixed[register] |= _range(end, 2 * self.position - 1)
            elif register != FRAME:
                raise AssertionError(f"r{register} is read before it is written in {block.label}")
        kept.reverse()
        self.moves[:0] = moves
        return kept, entering

    def note_move(self, insn: Insn, moves: list[tuple[int, int, int]], weight: float) -> None:
        target, source = insn.target, insn.source
        if target >= FIRST_VIRTUAL and source >= FIRST_VIRTUAL:
            moves.append((self.position, target, source))
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
            both = self.writes[a] & ~(1 << 2 * index) & self.live[b] | self.writes[b] & self.live[a]
            if both:
                continue
            self.leader[a] = b
            self.live[b] |= self.live[a]
            self.writes[b] |= self.writes[a]
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
        wanted = sorted(hints, key=lambda machine: (-hints[machine], machine)) if len(hints) > 1 else [*hints]
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
    machine = {register: register for register in range(FRAME + 1)} | assigned
    machine |= {register: assigned[lives.find(register)] for register in lives.leader}
    renamed: list[SelectedBlock] = []
    for block in blocks:
        insns: list[Insn] = []
        for insn in block.insns:
            target, source = machine[insn.target], machine[insn.source]
            if target == insn.target and source == insn.source:
                insns.append(insn)
            elif target != source or insn.code != bpf.MOV64_REGISTER:
                insns.append(_with(insn, target, source))
        renamed.append(SelectedBlock(block.label, insns, block.targets))
    return renamed


def _with(insn: Insn, target: int, source: int) -> Insn:
    return Insn(insn.code, target, source, insn.offset, insn.immediate, insn.symbol, insn.span)


class _Spills:
    """Rewrites instructions whose registers got no machine register."""

    def __init__(self, lives: _Lives, spilled: list[int], registers: int, frame_bytes: int) -> None:
        self.lives = lives
        self.spilled = frozenset(spilled)
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
        if code == bpf.MOV64_REGISTER and target == source:
            return
        if target not in self.spilled and source not in self.spilled:
            out.append(_with(insn, target, source))
            return
        if code == bpf.MOV64_REGISTER:
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


def _live_in(blocks: list[SelectedBlock]) -> dict[str, int]:
    """Return the virtual registers (as bits) that are live at the start of each block."""
    needs: dict[str, int] = {}
    kills: dict[str, int] = {}
    for block in blocks:
        need = kill = 0
        for insn in reversed(block.insns):
            reads, written = bpf.accesses(insn.code)(insn)
            if written >= FIRST_VIRTUAL:
                need &= ~(1 << written)
                kill |= 1 << written
            for register in reads:
                need |= 1 << register
        needs[block.label], kills[block.label] = need & _VIRTUAL, kill
    live_in = dict.fromkeys(needs, 0)
    changed = True
    while changed:
        changed = False
        for block in reversed(blocks):
            out = 0
            for target in block.targets:
                out |= live_in[target]
            entering = needs[block.label] | out & ~kills[block.label]
            if entering != live_in[block.label]:
                live_in[block.label] = entering
                changed = True
    return live_in


def _range(last: int, first: int) -> int:
    """Return the bits from the last to the first moment of a life; none if there is nothing between them."""
    return ((2 << first - last) - 1) << last if first >= last else 0


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
