"""What the probes must know of x86-64: registers in ``struct pt_regs`` and who holds which argument."""

from __future__ import annotations

from typing import Final

from invivo.target import Access, ContextLoad, ContextPointer

# Members of struct pt_regs in order, arch/x86/include/asm/ptrace.h; each takes 8 bytes.
_REGISTERS: Final = (
    "r15", "r14", "r13", "r12", "bp", "bx", "r11", "r10", "r9", "r8",
    "ax", "cx", "dx", "si", "di", "orig_ax", "ip", "cs", "flags", "sp", "ss",
)  # fmt: skip

OFFSETS: Final[dict[str, int]] = {name: 8 * index for index, name in enumerate(_REGISTERS)}
PT_REGS_SIZE: Final = 8 * len(_REGISTERS)

# System V AMD64 ABI, 3.2.3: integer arguments of a function, and A.2.1: of a system call.
FUNCTION_ARGUMENTS: Final = ("di", "si", "dx", "cx", "r8", "r9")
SYSCALL_ARGUMENTS: Final = ("di", "si", "dx", "r10", "r8", "r9")
RETURN_REGISTER: Final = "ax"
SYSCALL_NUMBER: Final = "orig_ax"

# The four oldest registers have names for their parts of 8 bits, the newer ones a number in theirs.
_NAMED: Final = frozenset({"ax", "bx", "cx", "dx", "si", "di", "bp", "sp"})
_OLD: Final = ("ax", "bx", "cx", "dx")

# The field's other names for a register, accepted by reg().
_ALIASES: Final = (("pc", "ip"),)


def register(name: str) -> ContextLoad:
    """Return where a register is when the program's context is, or begins with, ``struct pt_regs``."""
    return ContextLoad(OFFSETS[name], 8)


def registers() -> tuple[tuple[str, Access], ...]:
    """Return all registers of a context that begins with ``struct pt_regs``, also by their other names."""
    own = tuple((name, register(name)) for name in _REGISTERS)
    return own + tuple((alias, register(name)) for alias, name in _ALIASES)


def function_arguments() -> tuple[Access, ...]:
    """Return where a function's first six arguments are at its entry (context: ``struct pt_regs``)."""
    return tuple(register(name) for name in FUNCTION_ARGUMENTS)


def pointed_register(slot: int, name: str, size: int, signed: bool) -> ContextPointer:
    """Return the low ``size`` bytes of a register in the ``struct pt_regs`` that a context slot points to."""
    return ContextPointer(slot, OFFSETS[name], size, signed)


def assembler_register(name: str) -> tuple[int, int] | None:
    """Return place in ``struct pt_regs`` and width in bytes of a register as the assembler names it.

    ``rax``, ``eax``, ``ax``, ``al``, ``ah``, ``r8d``, ``dil``; None for what is not a general register.
    """
    if name in ("rip", "eip"):
        return OFFSETS["ip"], 8
    if name[:1] == "r" and name[1:3].rstrip("dwb").isdigit():
        whole = name.rstrip("dwb")
        width = {"": 8, "d": 4, "w": 2, "b": 1}.get(name[len(whole) :])
        return (OFFSETS[whole], width) if whole in OFFSETS and width is not None else None
    if name[:1] in ("r", "e") and name[1:] in _NAMED:
        return OFFSETS[name[1:]], 8 if name[0] == "r" else 4
    if name in _NAMED:
        return OFFSETS[name], 2
    if name[:1] + "x" in _OLD and name[1:] in ("l", "h"):
        return OFFSETS[name[0] + "x"] + (name[1] == "h"), 1
    if name[-1:] == "l" and name[:-1] in _NAMED:
        return OFFSETS[name[:-1]], 1
    return None
