"""How a frame's caller is found: one rule of an unwind table as a word of 64 bits.

    63      52 51      40 39          16 15  10 9 8 7   4 3    0
    | rbx / 8 | rbp / 8 | CFA offset    | zero |b|a| reg | kind |

The *canonical frame address* (CFA) is the stack pointer before the call.  The return address is at
CFA - 8, but for `RuleKind.IN_REGISTER`.  ``rbp``, ``rbx``: where the caller's register was saved, counted
from the CFA (from rbp itself, if the bit ``a`` or ``b`` is set); 0: it was not touched.  Offsets are signed, in bytes.
``reg``: the number of a register as DWARF has it (System V ABI for x86-64, figure 3.36).
"""

from __future__ import annotations

from enum import IntEnum
from typing import Final

from invivo.record import Record


class RuleKind(IntEnum):
    """What a row says of the code from its start on."""

    NONE = 0  # nothing is known: code without call frame information
    REGISTER = 1  # CFA = register + offset
    DEREFERENCED = 2  # CFA = *(register + offset)
    PLT = 3  # CFA = rsp + 8, and 8 more from byte ``offset`` of each 16 on
    END = 4  # there is no caller: the bottom of the stack
    SIGNAL = 5  # the kernel's signal frame: all registers are saved in it
    UNSUPPORTED = 6  # something that compilers do not produce
    IN_REGISTER = 7  # CFA = rsp + offset, and ``reg`` is the return address: vfork() of the C library


RBX: Final = 3
RBP: Final = 6
RSP: Final = 7
RETURN_ADDRESS: Final = 16

RBP_BY_RBP: Final = 1 << 8
RBX_BY_RBP: Final = 1 << 9
END: Final = RuleKind.END.value
UNSUPPORTED: Final = RuleKind.UNSUPPORTED.value


class Rule(Record):
    """A rule in pieces; see the module's diagram."""

    kind: RuleKind
    register: int = 0
    offset: int = 0
    rbp: int = 0
    rbx: int = 0
    rbp_by_rbp: bool = False
    rbx_by_rbp: bool = False


def pack(rule: Rule) -> int:
    """Return a rule's word; `UNSUPPORTED` if a number does not fit."""
    flags = (RBP_BY_RBP if rule.rbp_by_rbp else 0) | (RBX_BY_RBP if rule.rbx_by_rbp else 0)
    return packed(rule.kind, rule.register, rule.offset, rule.rbp, rule.rbx, flags)


def packed(kind: int, register: int, offset: int, rbp: int, rbx: int, flags: int) -> int:
    """As `pack`, for the pieces."""
    if not -(1 << 23) <= offset < 1 << 23 or not 0 <= register < 16:
        return UNSUPPORTED
    if rbp & 7 or rbx & 7 or not -(1 << 14) <= rbp < 1 << 14 or not -(1 << 14) <= rbx < 1 << 14:
        return UNSUPPORTED
    return (
        kind | register << 4 | flags | (offset & 0xFFFFFF) << 16 | (rbp >> 3 & 0xFFF) << 40 | (rbx >> 3 & 0xFFF) << 52
    )


def unpack(word: int) -> Rule:
    """Return the pieces of a rule's word."""
    return Rule(
        RuleKind(word & 15),
        word >> 4 & 15,
        _signed(word >> 16 & 0xFFFFFF, 24),
        _signed(word >> 40 & 0xFFF, 12) * 8,
        _signed(word >> 52 & 0xFFF, 12) * 8,
        bool(word & RBP_BY_RBP),
        bool(word & RBX_BY_RBP),
    )


def _signed(value: int, bits: int) -> int:
    return value - (1 << bits) if value >> (bits - 1) else value
