"""Call frame instructions of x86-64, one function after another: DWARF 5, 6.4.2, and the LSB's .eh_frame.

What matters of a function is how its caller's rsp, rbp, rbx and return address are found; see
`formats.unwinding.rule`.  Instructions about other registers are passed over.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from invivo.formats.unwinding.rule import (
    END,
    RBP,
    RBP_BY_RBP,
    RBX,
    RBX_BY_RBP,
    RETURN_ADDRESS,
    RSP,
    UNSUPPORTED,
    RuleKind,
    packed,
)
from invivo.record import Record

_MOST_REMEMBERED: Final = 32
_PADDING: Final = bytes(8)  # DW_CFA_nop; enough for the zeros at the end of an operand
_NOT_UNDERSTOOD: Final = ((0, UNSUPPORTED),)
_IN_REGISTER: Final = 1 << 8  # with its number, where a `State` says how the return address is found

_DEREFERENCE: Final = 0x06  # DW_OP_deref
_BREG0: Final = 0x70  # DW_OP_breg0: register plus a signed number
# DW_OP_breg7 8, breg16 0, lit15, and, lit<n>, ge, lit3, shl, plus: what GNU ld writes for a PLT
_PLT_START: Final = b"\x77\x08\x80\x00\x3f\x1a"
_PLT_END: Final = b"\x2a\x33\x24\x22"
_SIGNAL_CFA: Final = 160  # from rsp in the frame of a signal to the saved rsp: struct rt_sigframe, asm/sigframe.h


class MalformedError(Exception):
    """Instructions that make no sense."""


class Cie(Record):
    """What functions have in common: a common information entry. Code is counted in bytes.

    ``encoding``: of addresses (DW_EH_PE_*).  ``augmented``: its functions' entries have a length of
    further data.  ``initial``: the instructions that hold before each function's own.
    """

    data_alignment: int
    encoding: int
    augmented: bool
    is_signal: bool
    initial: bytes


Rows = tuple[tuple[int, int], ...]
State = tuple[int, int, int, int, int, int, int]  # kind, register, offset, rbp, rbx, flags, return address


def read_unsigned(data: bytes, at: int) -> tuple[int, int]:
    """Return an unsigned LEB128 number and the place after it."""
    value = shift = 0
    while True:
        byte = data[at]
        at += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, at
        shift += 7
        if shift > 63:
            raise MalformedError


def read_signed(data: bytes, at: int) -> tuple[int, int]:
    """Return a signed LEB128 number and the place after it."""
    value = shift = 0
    while True:
        byte = data[at]
        at += 1
        value |= (byte & 0x7F) << shift
        shift += 7
        if byte < 0x80:
            return (value - (1 << shift) if byte & 0x40 else value), at
        if shift > 63:
            raise MalformedError


class Interpreter:
    """Runs the instructions of the functions of one `Cie`. Equal instructions are run once."""

    def __init__(self, cie: Cie) -> None:
        self._cie = cie
        self._known: dict[bytes, tuple[Rows, int]] = {}
        self._words: dict[State, int] = {}
        self._initial: State = (UNSUPPORTED, 0, 0, 0, 0, 0, 0)
        try:
            self._initial = _Run(cie, self._initial, self._words).run(cie.initial)
            self.is_usable = True
        except (IndexError, MalformedError):
            self.is_usable = False

    @property
    def initial(self) -> State:
        """How things are at a function's first instruction."""
        return self._initial

    def rows(self, instructions: bytes, size: int) -> Rows:
        """Return (offset from the function's start, rule's word) of a function of ``size`` bytes.

        Rising offsets, the first 0.  What cannot be understood is one row that says so.
        """
        instructions = instructions.rstrip(b"\0") + _PADDING  # so that what differs in nothing else is equal
        known = self._known.get(instructions)
        if known is None:
            known = self._known[instructions] = self._run(instructions)
        rows, end = known
        if end > size:
            return _NOT_UNDERSTOOD
        return rows if rows[-1][0] < size else tuple(row for row in rows if row[0] < size)

    def _run(self, instructions: bytes) -> tuple[Rows, int]:
        """Return the rows, and how far the instructions go."""
        try:
            run = _Run(self._cie, self._initial, self._words)
            run.run(instructions)
        except (IndexError, MalformedError):
            return _NOT_UNDERSTOOD, 0
        return tuple(run.rows), run.place


class _Run:
    """One run over the instructions of one function."""

    def __init__(self, cie: Cie, state: State, words: dict[State, int]) -> None:
        self.cie = cie
        self.words = words
        self.rows: list[tuple[int, int]] = []
        self.first = state
        self.kind, self.register, self.offset, self.rbp, self.rbx, self.flags, self.address = state
        self.remembered: list[State] = []
        self.place = 0

    def state(self) -> State:
        return self.kind, self.register, self.offset, self.rbp, self.rbx, self.flags, self.address

    def run(self, data: bytes) -> State:
        """Run instructions; what is frequent is done here, with as little as possible for each."""
        at, end = 0, len(data)
        factor = self.cie.data_alignment
        while at < end:
            code = data[at]
            at += 1
            high = code & 0xC0
            if high == 0x40:  # DW_CFA_advance_loc
                self.flush()
                self.place += code & 0x3F
            elif code == 0x0E and at < end and data[at] < 0x80:  # DW_CFA_def_cfa_offset
                self.offset = data[at]
                at += 1
            elif high == 0x80:  # DW_CFA_offset
                if data[at] < 0x80:
                    value = data[at]
                    at += 1
                else:
                    value, at = read_unsigned(data, at)
                register = code & 0x3F
                if register < 12 or register == RETURN_ADDRESS:
                    self.save(register, value * factor)
            elif high == 0xC0:  # DW_CFA_restore
                self.restore(code & 0x3F)
            elif 2 <= code <= 4:  # DW_CFA_advance_loc1, 2, 4
                width = 1 << (code - 2)
                if at + width > end:
                    raise MalformedError
                self.flush()
                self.place += int.from_bytes(data[at : at + width], "little")
                at += width
            elif code:
                at = self.other(code, data, at)
        self.flush()
        return self.state()

    def flush(self) -> None:
        """Note what holds from here on."""
        state = (self.kind, self.register, self.offset, self.rbp, self.rbx, self.flags, self.address)
        word = self.words.get(state)
        if word is None:
            word = self.words[state] = self.word()
        rows = self.rows
        if rows and rows[-1][0] == self.place:
            rows.pop()
        if not rows or rows[-1][1] != word:
            rows.append((self.place, word))

    def word(self) -> int:
        if self.address == END:
            return END
        if self.address & _IN_REGISTER and (self.kind, self.register) == (RuleKind.REGISTER, RSP):
            return packed(RuleKind.IN_REGISTER, self.address - _IN_REGISTER, self.offset, 0, 0, 0)
        if self.address or self.kind == UNSUPPORTED:
            return UNSUPPORTED
        if self.cie.is_signal:
            is_frame = (self.kind, self.register, self.offset) == (RuleKind.DEREFERENCED, RSP, _SIGNAL_CFA)
            return RuleKind.SIGNAL.value if is_frame else UNSUPPORTED
        return packed(self.kind, self.register, self.offset, self.rbp, self.rbx, self.flags)

    # -- registers -----------------------------------------------------------------------------

    def save(self, register: int, offset: int) -> None:
        """The caller's register is at CFA + offset."""
        if register == RBP:
            self.rbp, self.flags = offset, self.flags & ~RBP_BY_RBP
        elif register == RBX:
            self.rbx, self.flags = offset, self.flags & ~RBX_BY_RBP
        elif register == RETURN_ADDRESS:
            self.address = 0 if offset == -8 else UNSUPPORTED

    def keep(self, register: int) -> None:
        """The caller's register is in the register."""
        if register == RETURN_ADDRESS:
            self.address = UNSUPPORTED
        else:
            self.save(register, 0)

    def lose(self, register: int) -> None:
        """The caller's register is gone; of the return address, there is no caller."""
        if register == RETURN_ADDRESS:
            self.address = END
        else:
            self.save(register, 0)

    def restore(self, register: int) -> None:
        _, _, _, rbp, rbx, flags, address = self.first
        if register == RBP:
            self.rbp, self.flags = rbp, self.flags & ~RBP_BY_RBP | flags & RBP_BY_RBP
        elif register == RBX:
            self.rbx, self.flags = rbx, self.flags & ~RBX_BY_RBP | flags & RBX_BY_RBP
        elif register == RETURN_ADDRESS:
            self.address = address

    def elsewhere(self, register: int) -> None:
        """The caller's register is somewhere that a rule has no word for."""
        if register == RETURN_ADDRESS:
            self.address = UNSUPPORTED
        elif register == RBP:
            self.kind = UNSUPPORTED

    # -- the other instructions ----------------------------------------------------------------

    def other(self, code: int, data: bytes, at: int) -> int:
        """Run an instruction whose number is a whole byte, and return the place after its operands."""
        run = _OTHERS.get(code)
        if run is None:
            raise MalformedError
        return run(self, data, at)

    def remember_state(self, data: bytes, at: int) -> int:
        if len(self.remembered) >= _MOST_REMEMBERED:
            raise MalformedError
        self.remembered.append(self.state())
        return at

    def restore_state(self, data: bytes, at: int) -> int:
        if not self.remembered:
            raise MalformedError
        self.kind, self.register, self.offset, self.rbp, self.rbx, self.flags, self.address = self.remembered.pop()
        return at

    def define(self, data: bytes, at: int) -> int:
        self.register, at = read_unsigned(data, at)
        self.offset, at = read_unsigned(data, at)
        self.kind = RuleKind.REGISTER
        return at

    def define_signed(self, data: bytes, at: int) -> int:
        self.register, at = read_unsigned(data, at)
        value, at = read_signed(data, at)
        self.offset = value * self.cie.data_alignment
        self.kind = RuleKind.REGISTER
        return at

    def define_register(self, data: bytes, at: int) -> int:
        self.register, at = read_unsigned(data, at)
        self.kind = RuleKind.REGISTER
        return at

    def define_offset(self, data: bytes, at: int) -> int:
        self.offset, at = read_unsigned(data, at)
        return at

    def define_offset_signed(self, data: bytes, at: int) -> int:
        value, at = read_signed(data, at)
        self.offset = value * self.cie.data_alignment
        return at

    def define_expression(self, data: bytes, at: int) -> int:
        expression, at = _block(data, at)
        self.kind, self.register, self.offset = _cfa_of(expression)
        return at

    def save_extended(self, data: bytes, at: int) -> int:
        register, at = read_unsigned(data, at)
        value, at = read_unsigned(data, at)
        self.save(register, value * self.cie.data_alignment)
        return at

    def save_extended_signed(self, data: bytes, at: int) -> int:
        register, at = read_unsigned(data, at)
        value, at = read_signed(data, at)
        self.save(register, value * self.cie.data_alignment)
        return at

    def save_extended_negative(self, data: bytes, at: int) -> int:
        register, at = read_unsigned(data, at)
        value, at = read_unsigned(data, at)
        self.save(register, -value * self.cie.data_alignment)
        return at

    def save_by_expression(self, data: bytes, at: int) -> int:
        register, at = read_unsigned(data, at)
        expression, at = _block(data, at)
        if self.cie.is_signal or register not in (RBP, RBX, RETURN_ADDRESS):
            return at  # of a signal's frame the kernel's layout is known
        base, offset = _register_plus(expression)
        if base != RBP or register == RETURN_ADDRESS:
            self.elsewhere(register)
        elif register == RBP:
            self.rbp, self.flags = offset, self.flags | RBP_BY_RBP
        else:
            self.rbx, self.flags = offset, self.flags | RBX_BY_RBP
        return at

    def value_of_expression(self, data: bytes, at: int) -> int:
        register, at = read_unsigned(data, at)
        _, at = _block(data, at)
        self.elsewhere(register)
        return at

    def value_of_offset(self, data: bytes, at: int) -> int:
        register, at = read_unsigned(data, at)
        _, at = read_unsigned(data, at)
        self.elsewhere(register)
        return at

    def in_register(self, data: bytes, at: int) -> int:
        register, at = read_unsigned(data, at)
        other, at = read_unsigned(data, at)
        if register == RETURN_ADDRESS and other < 16:
            self.address = _IN_REGISTER + other
        else:
            self.elsewhere(register)
        return at

    def restore_extended(self, data: bytes, at: int) -> int:
        register, at = read_unsigned(data, at)
        self.restore(register)
        return at

    def undefined(self, data: bytes, at: int) -> int:
        register, at = read_unsigned(data, at)
        self.lose(register)
        return at

    def same_value(self, data: bytes, at: int) -> int:
        register, at = read_unsigned(data, at)
        self.keep(register)
        return at

    def argument_size(self, data: bytes, at: int) -> int:
        _, at = read_unsigned(data, at)
        return at


_OTHERS: Final[dict[int, Callable[[_Run, bytes, int], int]]] = {
    0x05: _Run.save_extended,  # DW_CFA_offset_extended
    0x06: _Run.restore_extended,
    0x07: _Run.undefined,
    0x08: _Run.same_value,
    0x09: _Run.in_register,  # DW_CFA_register
    0x0A: _Run.remember_state,
    0x0B: _Run.restore_state,
    0x0C: _Run.define,  # DW_CFA_def_cfa
    0x0D: _Run.define_register,
    0x0E: _Run.define_offset,
    0x0F: _Run.define_expression,
    0x10: _Run.save_by_expression,  # DW_CFA_expression
    0x11: _Run.save_extended_signed,
    0x12: _Run.define_signed,
    0x13: _Run.define_offset_signed,
    0x14: _Run.value_of_offset,
    0x15: _Run.value_of_offset,  # signed; the number is passed over
    0x16: _Run.value_of_expression,
    0x2E: _Run.argument_size,  # DW_CFA_GNU_args_size
    0x2F: _Run.save_extended_negative,  # DW_CFA_GNU_negative_offset_extended
}


def _block(data: bytes, at: int) -> tuple[bytes, int]:
    size, at = read_unsigned(data, at)
    if at + size > len(data):
        raise MalformedError
    return data[at : at + size], at + size


def _cfa_of(expression: bytes) -> tuple[int, int, int]:
    """Return kind, register and offset of a CFA that an expression gives."""
    if expression.startswith(_PLT_START) and expression.endswith(_PLT_END) and len(expression) == 11:
        number = expression[6] - 0x30  # DW_OP_lit0
        return (RuleKind.PLT, RSP, number) if 0 <= number < 16 else (UNSUPPORTED, 0, 0)
    if expression[-1:] == bytes((_DEREFERENCE,)):
        register, offset = _register_plus(expression[:-1])
        return (RuleKind.DEREFERENCED, register, offset) if register >= 0 else (UNSUPPORTED, 0, 0)
    register, offset = _register_plus(expression)
    return (RuleKind.REGISTER, register, offset) if register >= 0 else (UNSUPPORTED, 0, 0)


def _register_plus(expression: bytes) -> tuple[int, int]:
    """Return register and offset of ``DW_OP_breg<n> offset``; register -1 for anything else."""
    if expression and _BREG0 <= expression[0] < _BREG0 + 16:
        offset, end = read_signed(expression, 1)
        if end == len(expression):
            return expression[0] - _BREG0, offset
    return -1, 0
