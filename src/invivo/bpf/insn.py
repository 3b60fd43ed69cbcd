"""eBPF instructions: the opcodes, and one record for them before and after registers are assigned.

Opcodes and their meaning: include/uapi/linux/bpf.h, include/uapi/linux/bpf_common.h and
Documentation/bpf/standardization/instruction-set.rst.

    opcode byte, arithmetic and jumps:  | op (4 bits) | X | class (3 bits) |
    opcode byte, loads and stores:      | mode (3 bits) | size (2 bits) | class (3 bits) |
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from typing import Final

from invivo.diagnostics import Span
from invivo.ir.ops import AtomicOp, BinaryOp, CompareOp
from invivo.record import Record

# Classes.
LD: Final = 0
LDX: Final = 1
ST: Final = 2
STX: Final = 3
ALU32: Final = 4
JMP: Final = 5
ALU64: Final = 7
CLASS: Final = 7

SOURCE_REGISTER: Final = 8  # BPF_X
MEM: Final = 0x60
ATOMIC: Final = 0xC0
MODE: Final = 0xE0

MOV: Final = 0xB0
ENDIAN_SWAP: Final = 0xDC  # BPF_ALU | BPF_END | BPF_TO_BE: on a little-endian machine it swaps
LD_IMM64: Final = 0x18  # BPF_LD | BPF_IMM | BPF_DW: two slots
MOV64_REGISTER: Final = ALU64 | MOV | SOURCE_REGISTER
MOV64_IMMEDIATE: Final = ALU64 | MOV
MOV32_REGISTER: Final = ALU32 | MOV | SOURCE_REGISTER
MOV32_IMMEDIATE: Final = ALU32 | MOV
JA: Final = JMP
CALL: Final = JMP | 0x80
EXIT: Final = JMP | 0x90

# What the source field of LD_IMM64 and CALL says (BPF_PSEUDO_*).
PSEUDO_MAP: Final = 1
PSEUDO_MAP_VALUE: Final = 2
PSEUDO_BTF_ID: Final = 3
PSEUDO_FUNCTION: Final = 4
PSEUDO_CALL: Final = 1
PSEUDO_KERNEL_CALL: Final = 2

FETCH: Final = 1
COMPARE_EXCHANGE: Final = 0xF0 | FETCH

_ARGUMENTS: Final = (1, 2, 3, 4, 5)
FRAME: Final = 10  # r10, the frame pointer
FIRST_VIRTUAL: Final = 16  # registers from here on are virtual

ARITHMETIC: Final[dict[BinaryOp, int]] = {
    BinaryOp.ADD: 0x00,
    BinaryOp.SUB: 0x10,
    BinaryOp.MUL: 0x20,
    BinaryOp.DIV: 0x30,
    BinaryOp.OR: 0x40,
    BinaryOp.AND: 0x50,
    BinaryOp.SHL: 0x60,
    BinaryOp.LSHR: 0x70,
    BinaryOp.MOD: 0x90,
    BinaryOp.XOR: 0xA0,
    BinaryOp.ASHR: 0xC0,
}
JUMPS: Final[dict[CompareOp, int]] = {
    CompareOp.EQ: 0x10,
    CompareOp.UGT: 0x20,
    CompareOp.UGE: 0x30,
    CompareOp.NE: 0x50,
    CompareOp.SGT: 0x60,
    CompareOp.SGE: 0x70,
    CompareOp.ULT: 0xA0,
    CompareOp.ULE: 0xB0,
    CompareOp.SLT: 0xC0,
    CompareOp.SLE: 0xD0,
}
ATOMICS: Final[dict[AtomicOp, int]] = {
    AtomicOp.ADD: 0x00,
    AtomicOp.OR: 0x40,
    AtomicOp.AND: 0x50,
    AtomicOp.XCHG: 0xE0 | FETCH,
}
_LEADING: Final = frozenset({JA, *(JMP | code | source for code in JUMPS.values() for source in (0, SOURCE_REGISTER))})
SIZES: Final[dict[int, int]] = {4: 0x00, 2: 0x08, 1: 0x10, 8: 0x18}
SIZE_BYTES: Final[dict[int, int]] = {code: size for size, code in SIZES.items()}


class Insn(Record, eq=False):
    """One instruction. ``target`` and ``source`` are machine registers (0 to 10) or virtual ones.

    ``symbol`` is the label of a jump, the map of an address, or the function of a call;
    ``immediate`` is the full 64 bits of a LD_IMM64 (an offset, for PSEUDO_MAP_VALUE).
    Of a CALL, ``offset`` is the number of arguments until it is encoded as zero.
    """

    code: int
    target: int = 0
    source: int = 0
    offset: int = 0
    immediate: int = 0
    symbol: str = ""
    span: Span | None = None


def reads_target(insn: Insn) -> bool:
    """Whether the register in the target field is read."""
    code = insn.code
    match code & CLASS:
        case 4 | 7:
            return code & 0xF0 != MOV
        case 2 | 3:
            return True
        case 5:
            return code not in (JA, CALL, EXIT)
        case _:
            return False


def writes_target(insn: Insn) -> bool:
    return insn.code & CLASS in (LD, LDX, ALU32, ALU64)


def reads_source(insn: Insn) -> bool:
    code = insn.code
    match code & CLASS:
        case 1 | 3:
            return True
        case 4 | 7:
            return bool(code & SOURCE_REGISTER) and code != ENDIAN_SWAP
        case 5:
            return bool(code & SOURCE_REGISTER)
        case _:
            return False


Accesses = tuple[tuple[int, ...], int]
NOTHING: Final = -1


@cache
def accesses(code: int) -> Callable[[Insn], Accesses]:
    """Return the function that says which registers an instruction of a code reads, and which one it writes.

    By code, since all instructions are asked: which fields name registers is found out once.  Calls make r1 to r5
    worthless, too.
    """
    if code == CALL:
        return lambda insn: (_ARGUMENTS[: insn.offset], 0)
    if code == EXIT:
        return lambda insn: ((0,), NOTHING)
    if code & (MODE | CLASS) == ATOMIC | STX:
        return _atomic_accesses
    insn = Insn(code)
    return _ACCESSES[reads_target(insn), reads_source(insn), writes_target(insn)]


def _atomic_accesses(insn: Insn) -> Accesses:
    if is_compare_exchange(insn):
        return (insn.target, insn.source, 0), 0
    return (insn.target, insn.source), insn.source if is_fetch(insn) else NOTHING


# Whether the target is read, the source is read, the target is written.
_ACCESSES: Final[dict[tuple[bool, bool, bool], Callable[[Insn], Accesses]]] = {
    (False, False, False): lambda insn: ((), NOTHING),
    (False, False, True): lambda insn: ((), insn.target),
    (False, True, True): lambda insn: ((insn.source,), insn.target),
    (True, False, False): lambda insn: ((insn.target,), NOTHING),
    (True, False, True): lambda insn: ((insn.target,), insn.target),
    (True, True, False): lambda insn: ((insn.target, insn.source), NOTHING),
    (True, True, True): lambda insn: ((insn.target, insn.source), insn.target),
}


def is_fetch(insn: Insn) -> bool:
    """Whether this is an atomic that writes the old value into its source register."""
    return (
        insn.code & (MODE | CLASS) == ATOMIC | STX
        and bool(insn.immediate & FETCH)
        and insn.immediate != COMPARE_EXCHANGE
    )


def is_compare_exchange(insn: Insn) -> bool:
    return insn.code & (MODE | CLASS) == ATOMIC | STX and insn.immediate == COMPARE_EXCHANGE


def is_pure(insn: Insn) -> bool:
    """Whether the instruction only writes its target register, and may go if nobody reads that."""
    return insn.code & CLASS in (ALU32, ALU64) or insn.code == LD_IMM64


def is_jump(insn: Insn) -> bool:
    """Whether the instruction may go to a label."""
    return insn.code in _LEADING


def slots(insn: Insn) -> int:
    return 2 if insn.code == LD_IMM64 else 1
