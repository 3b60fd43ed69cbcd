"""``dw_ustack``: user stacks of code without frame pointers, walked by tables from .eh_frame.

One turn of a loop finds one caller: the mapping that the instruction pointer is in, the row of the
file's table that holds there (two pages of sorted rows, one below the other), the rule of the row
(`formats.unwinding.rule`), and with it the caller's registers.  All searches have a fixed number of
steps and no branches, so the verifier has one path through them.  The state is in scratch memory,
which is map memory (docs/adr/0004), and taken for each program that runs (docs/adr/0005).  What the
maps hold is in `ir.unwinding`; `runtime.unwinding` fills them.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from invivo.formats.unwinding.rule import RBP, RBP_BY_RBP, RBX, RBX_BY_RBP, RSP, RuleKind
from invivo.ir import helpers, unwinding
from invivo.ir import types as t
from invivo.ir.builder import Builder
from invivo.ir.layout import UNWIND_MAP, LossKind
from invivo.ir.ops import BinaryOp, CompareOp, Kind, Operand, Value, Variable
from invivo.ir.types import Type
from invivo.library.record import Builtin, Emit, Place, Site
from invivo.library.symbols import DEFAULT_FRAMES, stack_type

# The state, in bytes from its start.
_IP: Final = 0
_EXACT: Final = 8  # 1: the instruction itself was interrupted; 0: it comes after a call
_COUNT: Final = 16  # of frames
_OUTCOME: Final = 24
_VALID: Final = 32  # which registers are known, a bit for each
_SAVED: Final = 40  # seven words from the stack: rbp rbx rdx rax rcx rsp rip of a signal's frame
_REGISTERS: Final = 96  # 16 words, by DWARF's numbers
_FRAMES: Final = 224

# Offsets in struct pt_regs, arch/x86/include/asm/ptrace.h, in the order of DWARF's numbers:
# rax rdx rcx rbx rsi rdi rbp rsp r8 ... r15.
_PT_REGS: Final = (80, 96, 88, 40, 104, 112, 32, 152, 72, 64, 56, 48, 24, 16, 8, 0)
_PT_REGS_IP: Final = 128
_PT_REGS_CS: Final = 136
_USER_CS: Final = 0x33  # __USER_CS, arch/x86/include/asm/segment.h: 64-bit code

# struct sigcontext after the return address has been popped: rsp is at struct ucontext, whose
# uc_mcontext is at 40, and rbp there at 80 (arch/x86/include/uapi/asm/{ucontext,sigcontext}.h).
_SIGNAL_RBP: Final = 120
_SIGNAL_BYTES: Final = 56
_KNOWN_AFTER_A_CALL: Final = 1 << RBX | 1 << RBP | 1 << RSP
_USER_ADDRESS_BITS: Final = 47

# Why a walk ended (`_OUTCOME`).
_LIMIT: Final = 0
_BOTTOM: Final = 1
_NO_TABLE: Final = 2
_UNKNOWN: Final = 3
_MEMORY: Final = 4

_LOSSES: Final = (
    (_NO_TABLE, LossKind.UNWIND_NO_TABLE),
    (_UNKNOWN, LossKind.UNWIND_UNKNOWN),
    (_MEMORY, LossKind.UNWIND_MEMORY),
)


def _check_dw_ustack(site: Site) -> Type:
    site.unstable("dw_ustack")
    return stack_type(False, site)


def _lower_dw_ustack(emit: Emit, place: Place | None) -> None:
    assert place is not None and isinstance(emit.result, t.Stack)
    walk(emit, place, emit.result.limit, by_frame_pointers=False)


def walk(emit: Emit, place: Place, limit: int, *, by_frame_pointers: bool) -> None:
    """Store the current task's user stack of up to ``limit`` frames at a place, as a `types.Stack`.

    ``by_frame_pointers``: where nothing is known of the process, follow them as far as they lead.
    """
    for spec in unwinding.MAPS:
        emit.need_map(spec)
    capacity = 1 << (limit - 1).bit_length()
    b = emit.b
    state = _State(emit, emit.scratch(_FRAMES + 8 * capacity))
    memory = state.place()
    b.zero(memory.pointer, memory.offset, _FRAMES + 8 * capacity)
    work, done, none = b.label("unwind"), b.label("unwound"), b.label("no_user")
    _take_registers(emit, state, work, none)
    b.start(work)
    # A limit that was asked for is no place where a stack is cut: the last frame's caller is not looked for.
    turns = limit - 1 if limit < DEFAULT_FRAMES else limit
    emit.repeat(turns, lambda turn: _turn(emit, state, limit, capacity))
    _tell_outcome(emit, state)
    b.jump(done)
    b.start(none)
    b.jump(done)
    b.start(done)
    frames = state.place()
    b.copy(place.pointer, place.offset + 16, frames.pointer, frames.offset + _FRAMES, 8 * limit)
    b.store(place.pointer, place.offset, 4, state.count())
    b.store(place.pointer, place.offset + 4, 4, b.shift_right(b.call(helpers.GET_CURRENT_PID_TGID), 32))
    b.store(place.pointer, place.offset + 8, 8, 0 if emit.bpftrace else _ends_early(b, state, limit))
    if by_frame_pointers:
        _follow_frame_pointers(emit, place, state, limit)


def _follow_frame_pointers(emit: Emit, place: Place, state: _State, limit: int) -> None:
    """Where the walk has not left the first frame for want of a table, take what the kernel finds."""
    b = emit.b
    first, instead, some, none, after = (b.label(f"fallback{number}") for number in range(5))
    b.branch(CompareOp.EQ, state.get(_OUTCOME), _NO_TABLE, first, after)
    b.start(first)
    b.branch(CompareOp.EQ, state.count(), 1, instead, after)
    b.start(instead)
    frames = b.offset(place.pointer, place.offset + 16)
    got = b.call(helpers.GET_STACK, emit.context_pointer(), frames, 8 * limit, helpers.BPF_F_USER_STACK)
    b.branch(CompareOp.SGT, got, 0, some, none)
    b.start(some)
    b.store(place.pointer, place.offset, 4, b.shift_right(got, 3))
    b.jump(after)
    b.start(none)  # the helper has zeroed the memory
    b.store(place.pointer, place.offset + 16, 8, state.get(_IP))
    b.jump(after)
    b.start(after)


def _ends_early(b: Builder, state: _State, limit: int) -> Operand:
    """1 if there are callers that are missing; those beyond a limit that was asked for are not."""
    outcome = state.get(_OUTCOME)
    failed = b.compare(CompareOp.UGT, outcome, _BOTTOM)
    if limit < DEFAULT_FRAMES:
        return failed
    is_full = b.compare(CompareOp.UGE, state.count(), limit)
    return b.binary(BinaryOp.OR, failed, b.binary(BinaryOp.AND, b.compare(CompareOp.EQ, outcome, _LIMIT), is_full))


class _State:
    """The walk's state in scratch memory, as the function being written reaches it."""

    def __init__(self, emit: Emit, place: Callable[[], Place]) -> None:
        self._emit = emit
        self.place = place

    def get(self, offset: int) -> Value:
        place = self.place()
        return self._emit.b.load(place.pointer, place.offset + offset, 8)

    def set(self, offset: int, value: Operand) -> None:
        place = self.place()
        self._emit.b.store(place.pointer, place.offset + offset, 8, value)

    def count(self) -> Value:
        return self.get(_COUNT)

    def register(self, number: int) -> Value:
        return self.get(_REGISTERS + 8 * number)

    def set_register(self, number: int, value: Operand) -> None:
        self.set(_REGISTERS + 8 * number, value)


def _take_registers(emit: Emit, state: _State, work: str, none: str) -> None:
    """Begin with the registers that the task entered the kernel with: the first frame."""
    b = emit.b
    task = b.call(helpers.GET_CURRENT_TASK_BTF, kind=Kind.BTF)
    registers = b.call(helpers.TASK_PT_REGS, task, kind=Kind.BTF)
    code = b.mask(b.load(registers, _PT_REGS_CS, 8), 0xFFFF)
    native, other, compat = b.label("native"), b.label("not_native"), b.label("compat")
    b.branch(CompareOp.EQ, code, _USER_CS, native, other)
    b.start(other)  # a kernel thread has no user code; 32-bit programs have other tables
    b.branch(CompareOp.EQ, b.mask(code, 3), 3, compat, none)
    b.start(compat)
    emit.lose(LossKind.UNWIND_UNKNOWN)
    state.set(_OUTCOME, _UNKNOWN)
    b.jump(none)
    b.start(native)
    for number, offset in enumerate(_PT_REGS):
        state.set_register(number, b.load(registers, offset, 8))
    ip = b.load(registers, _PT_REGS_IP, 8)
    state.set(_IP, ip)
    state.set(_FRAMES, ip)
    state.set(_COUNT, 1)
    state.set(_EXACT, 1)
    state.set(_VALID, 0xFFFF)
    b.jump(work)


def _tell_outcome(emit: Emit, state: _State) -> None:
    """Count a walk that ended early; ask for tables that are not there."""
    b = emit.b
    outcome = state.get(_OUTCOME)
    for number, kind in _LOSSES:
        this, other = b.label("ended"), b.label("ended_otherwise")
        b.branch(CompareOp.EQ, outcome, number, this, other)
        b.start(this)
        emit.lose(kind)
        if number == _NO_TABLE:
            unwinding.ask(b, b.shift_right(b.call(helpers.GET_CURRENT_PID_TGID), 32))
        b.jump(other)
        b.start(other)


# -- one caller --------------------------------------------------------------------------------


def _turn(emit: Emit, state: _State, limit: int, capacity: int) -> None:
    b = emit.b
    ends = {outcome: b.label(f"end{outcome}") for outcome in (_LIMIT, _BOTTOM, _NO_TABLE, _UNKNOWN, _MEMORY)}
    word = _rule(b, state, ends)
    cfa = b.variable("cfa")
    stepped = b.label("stepped")
    _apply(emit, state, word, cfa, ends, stepped)
    b.start(stepped)
    _push(b, state, limit, capacity, ends)
    b.ret(0)
    for outcome, label in ends.items():
        b.start(label)
        state.set(_OUTCOME, outcome)
        b.ret(1)


def _rule(b: Builder, state: _State, ends: dict[int, str]) -> Operand:
    """Find the rule's word for the instruction: 0 where only frame pointers can help."""
    look = b.sub(b.add(state.get(_IP), state.get(_EXACT)), 1)
    user = b.label("user_address")
    b.branch(CompareOp.EQ, b.shift_right(look, _USER_ADDRESS_BITS), 0, user, ends[_UNKNOWN])
    b.start(user)
    tgid = b.shift_right(b.call(helpers.GET_CURRENT_PID_TGID), 32)
    process = _lookup(b, UNWIND_MAP, tgid, ends[_NO_TABLE])
    index = _search(b, process, unwinding.RANGES, unwinding.RANGE_BYTES, 0, look)
    entry = b.offset(process, b.binary(BinaryOp.MUL, b.bounded(index, unwinding.RANGES), unwinding.RANGE_BYTES))
    inside = b.label("in_range")
    b.branch(CompareOp.ULT, look, b.load(entry, 8, 8), inside, ends[_NO_TABLE])
    b.start(inside)
    word = b.variable("rule")
    b.set(word, 0)
    page, table, found = b.load(entry, 16, 4), b.label("table"), b.label("rule")
    b.branch(CompareOp.EQ, page, 0, found, table)
    b.start(table)
    target = b.add(b.sub(look, b.load(entry, 0, 8)), b.load(entry, 20, 4))
    for _ in range(unwinding.LEVELS):
        rows = _lookup(b, unwinding.PAGES_MAP, page, ends[_NO_TABLE])
        at = _search(b, rows, unwinding.PAGE_ROWS, 8, 32, target)
        page = b.load(b.offset(rows, b.shift_left(b.bounded(at, unwinding.PAGE_ROWS), 3)), 0, 4)
    rule = _lookup(b, unwinding.RULES_MAP, page, ends[_UNKNOWN])
    b.set(word, b.load(rule, 0, 8))
    b.start(found)
    return b.get(word)


def _lookup(b: Builder, name: str, key: Operand, absent: str) -> Value:
    slot = b.stack_slot(8)
    b.store(slot, 0, 4, key)
    found = b.call(helpers.MAP_LOOKUP_ELEM, b.map(name), slot, kind=Kind.MAP_VALUE_OR_NULL)
    there = b.label("there")
    b.branch(CompareOp.NE, found, 0, there, absent)
    b.start(there)
    return found


def _search(b: Builder, base: Value, count: int, size: int, shift: int, target: Operand) -> Operand:
    """The last of ``count`` entries whose start is not above the target; the first one's is not.

    The start is the entry's first word without its low ``shift`` bits.  Both are below 2**63, so
    the sign of a difference is the comparison.
    """
    above = b.add(target, 1)
    position: Operand = 0
    step = count // 2
    while step:
        index = b.bounded(b.add(position, step), count)
        amount = b.shift_left(index, 3) if size == 8 else b.binary(BinaryOp.MUL, index, size)
        start = b.shift_right(b.load(b.offset(base, amount), 0, 8), shift)
        is_below = b.binary(BinaryOp.ASHR, b.sub(start, above), 63)
        position = b.add(position, b.mask(is_below, step))
        step //= 2
    return position


def _apply(emit: Emit, state: _State, word: Operand, cfa: Variable, ends: dict[int, str], stepped: str) -> None:
    """Find the caller's registers by a rule."""
    b = emit.b
    kind = b.mask(word, 15)
    offset = b.binary(BinaryOp.ASHR, b.shift_left(word, 24), 40)
    number = b.mask(b.shift_right(word, 4), 15)
    by_register, by_frame, signal = b.label("by_register"), b.label("by_frame"), b.label("signal")
    plt, have, in_register = b.label("plt"), b.label("have_cfa"), b.label("in_register")
    cases = (
        (RuleKind.NONE, by_frame),
        (RuleKind.END, ends[_BOTTOM]),
        (RuleKind.SIGNAL, signal),
        (RuleKind.PLT, plt),
        (RuleKind.UNSUPPORTED, ends[_UNKNOWN]),
        (RuleKind.IN_REGISTER, in_register),
    )
    for rule, label in cases:
        other = b.label("rule_kind")
        b.branch(CompareOp.EQ, kind, rule, label, other)
        b.start(other)
    b.jump(by_register)

    b.start(by_register)
    b.set(cfa, b.add(_known_register(b, state, number, ends), offset))
    memory = b.label("dereferenced")
    b.branch(CompareOp.EQ, kind, RuleKind.DEREFERENCED, memory, have)
    b.start(memory)
    b.set(cfa, _read(b, state, b.get(cfa), ends[_MEMORY]))
    b.jump(have)

    b.start(plt)
    later = b.compare(CompareOp.UGE, b.mask(state.get(_IP), 15), offset)
    b.set(cfa, b.add(b.add(state.register(RSP), 8), b.shift_left(later, 3)))
    b.jump(have)

    b.start(in_register)
    state.set(_IP, _known_register(b, state, number, ends))
    state.set_register(RSP, b.add(state.register(RSP), offset))
    state.set(_EXACT, 0)
    state.set(_VALID, _KNOWN_AFTER_A_CALL)
    b.jump(stepped)

    _apply_signal(b, state, signal, ends, stepped)
    _apply_frame_pointer(b, state, by_frame, ends, stepped)

    b.start(have)
    up = b.label("upwards")
    b.branch(CompareOp.UGT, b.get(cfa), state.register(RSP), up, ends[_UNKNOWN])
    b.start(up)
    _return_to(b, state, b.get(cfa), ends)
    base = state.register(RBP)
    for register, by_rbp, place_bit in ((RBX, RBX_BY_RBP, 52), (RBP, RBP_BY_RBP, 40)):
        _restore(b, state, register, word, by_rbp, place_bit, (b.get(cfa), base), ends[_MEMORY])
    state.set_register(RSP, b.get(cfa))
    state.set(_EXACT, 0)
    state.set(_VALID, _KNOWN_AFTER_A_CALL)
    b.jump(stepped)


def _known_register(b: Builder, state: _State, number: Operand, ends: dict[int, str]) -> Value:
    """The value of a register whose number a rule has; the walk ends if it is not known any more."""
    known = b.label("known_register")
    valid = b.mask(b.binary(BinaryOp.LSHR, state.get(_VALID), number), 1)
    b.branch(CompareOp.NE, valid, 0, known, ends[_UNKNOWN])
    b.start(known)
    place = state.place()
    registers = b.offset(place.pointer, place.offset + _REGISTERS)
    return b.load(b.offset(registers, b.shift_left(b.bounded(number, 16), 3)), 0, 8)


def _restore(
    b: Builder,
    state: _State,
    register: int,
    word: Operand,
    by_rbp: int,
    place_bit: int,
    bases: tuple[Operand, Operand],
    failed: str,
) -> None:
    """Load the caller's register, if this function has saved it."""
    saved, kept = b.label("saved"), b.label("kept")
    b.branch(CompareOp.NE, b.mask(word, 0xFFF << place_bit | by_rbp), 0, saved, kept)
    b.start(saved)
    offset = b.shift_left(b.binary(BinaryOp.ASHR, b.shift_left(word, 52 - place_bit), 52), 3)
    base = b.variable("base")
    b.set(base, bases[0])
    frame, load = b.label("by_rbp"), b.label("load_saved")
    b.branch(CompareOp.NE, b.mask(word, by_rbp), 0, frame, load)
    b.start(frame)
    b.set(base, bases[1])
    b.start(load)
    state.set_register(register, _read(b, state, b.add(b.get(base), offset), failed))
    b.jump(kept)
    b.start(kept)


def _apply_signal(b: Builder, state: _State, signal: str, ends: dict[int, str], stepped: str) -> None:
    """The kernel saved all registers of what a signal interrupted, wherever that has its stack."""
    b.start(signal)
    place = state.place()
    target = b.offset(place.pointer, place.offset + _SAVED)
    code = b.call(helpers.PROBE_READ_USER, target, _SIGNAL_BYTES, b.add(state.register(RSP), _SIGNAL_RBP))
    got = b.label("signal_read")
    b.branch(CompareOp.EQ, code, 0, got, ends[_MEMORY])
    b.start(got)
    for register, index in ((RBP, 0), (RBX, 1), (RSP, 5)):
        state.set_register(register, state.get(_SAVED + 8 * index))
    state.set(_IP, state.get(_SAVED + 48))
    state.set(_EXACT, 1)
    state.set(_VALID, _KNOWN_AFTER_A_CALL)
    b.jump(stepped)


def _apply_frame_pointer(b: Builder, state: _State, label: str, ends: dict[int, str], stepped: str) -> None:
    """Code without a table may have frame pointers (Go, just-in-time compilers)."""
    b.start(label)
    frame = state.register(RBP)
    some, up = b.label("some_frame"), b.label("frame_upwards")
    b.branch(CompareOp.NE, frame, 0, some, ends[_BOTTOM])
    b.start(some)
    b.branch(CompareOp.UGE, frame, state.register(RSP), up, ends[_UNKNOWN])
    b.start(up)
    _return_to(b, state, b.add(frame, 16), ends)
    state.set_register(RBP, _read(b, state, frame, ends[_MEMORY]))
    state.set_register(RSP, b.add(frame, 16))
    state.set(_EXACT, 0)
    state.set(_VALID, _KNOWN_AFTER_A_CALL)
    b.jump(stepped)


def _return_to(b: Builder, state: _State, cfa: Operand, ends: dict[int, str]) -> None:
    """The return address is below the CFA; where there is none is the bottom."""
    address = _read(b, state, b.sub(cfa, 8), ends[_MEMORY])
    some = b.label("caller")
    b.branch(CompareOp.NE, address, 0, some, ends[_BOTTOM])
    b.start(some)
    state.set(_IP, address)


def _read(b: Builder, state: _State, address: Operand, failed: str) -> Value:
    """A word of the traced program's memory."""
    place = state.place()
    code = b.call(helpers.PROBE_READ_USER, b.offset(place.pointer, place.offset + _SAVED), 8, address)
    got = b.label("word_read")
    b.branch(CompareOp.EQ, code, 0, got, failed)
    b.start(got)
    return state.get(_SAVED)


def _push(b: Builder, state: _State, limit: int, capacity: int, ends: dict[int, str]) -> None:
    """Add the caller to the frames, if there is room."""
    count = state.count()
    room = b.label("room")
    b.branch(CompareOp.ULT, count, limit, room, ends[_LIMIT])
    b.start(room)
    place = state.place()
    frames = b.offset(place.pointer, place.offset + _FRAMES)
    b.store(b.offset(frames, b.shift_left(b.bounded(count, capacity), 3)), 0, 8, state.get(_IP))
    state.set(_COUNT, b.add(count, 1))


UNWIND: tuple[Builtin, ...] = (
    Builtin(
        "dw_ustack",
        0,
        2,
        "the user stack of code without frame pointers, by tables from .eh_frame; arguments as of kstack",
        _check_dw_ustack,
        _lower_dw_ustack,
        value=True,
        feature="stacks",
        uses=frozenset({"stacks"}),
        in_loops=False,
    ),
)
