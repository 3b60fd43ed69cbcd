"""User-space statically defined tracing: the notes in which a program says where its probes and their arguments are.

The format is that of SystemTap's ``<sys/sdt.h>``, version 3: notes named ``stapsdt`` of type 3 in ``.note.stapsdt``,
arguments as ``SIZE@OPERAND`` with operands of AT&T assembly.
"""

from __future__ import annotations

import re
import struct
from typing import Final

from invivo.errors import BadFileError
from invivo.formats.elf import Elf
from invivo.record import Record

_OWNER: Final = "stapsdt"
_TYPE: Final = 3
_PLACES: Final = struct.Struct("<QQQ")  # address of the probe, link-time address of the base, of the semaphore
_SECTION: Final = ".note.stapsdt"
_BASE: Final = ".stapsdt.base"

_ARGUMENT: Final = re.compile(r"(?:(-?)([1248])f?@)?(\S+)")
_CONSTANT: Final = re.compile(r"\$(-?(?:0x[0-9a-fA-F]+|\d+))")
_REGISTER: Final = re.compile(r"%([a-z0-9]+)")
# DISPLACEMENT(%BASE,%INDEX,SCALE), where a displacement may be a symbol, a number, or their sum.
_MEMORY: Final = re.compile(
    r"(?P<symbol>[A-Za-z_.$][\w.$@]*)?(?P<offset>[+-]?(?:0x[0-9a-fA-F]+|\d+))?"
    r"(?:\((?:%(?P<base>[a-z0-9]+))?(?:,%(?P<index>[a-z0-9]+)(?:,(?P<scale>[1248]))?)?\))?"
)


class ConstantOperand(Record):
    """``$5``."""

    value: int


class RegisterOperand(Record):
    """``%eax``: the name as the assembler has it."""

    name: str


class MemoryOperand(Record):
    """``-8(%rbp)``, ``table+4(%rip)``, ``8(%rax,%rbx,4)``: registers as the assembler names them, or empty."""

    symbol: str
    offset: int
    base: str
    index: str
    scale: int


class UnknownOperand(Record):
    """Something that is none of these, such as a floating point register."""


Operand = ConstantOperand | RegisterOperand | MemoryOperand | UnknownOperand


class UsdtArgument(Record):
    """An argument: its size in bytes, its sign, where it is, and its text in the note."""

    size: int
    signed: bool
    operand: Operand
    text: str


class UsdtProbe(Record):
    """A place of a probe. Addresses are the file's own; ``semaphore`` is 0 if there is none."""

    provider: str
    name: str
    address: int
    semaphore: int
    arguments: str

    def parse(self) -> tuple[UsdtArgument, ...]:
        """Return the arguments, parsed when they are asked for."""
        return tuple(_argument(text) for text in self.arguments.split())


def read_probes(elf: Elf) -> tuple[UsdtProbe, ...]:
    """Return the probes of a file, in the order of its notes; one name may have many places.

    Raises `BadFileError` if a note is malformed.
    """
    notes = elf.notes(_SECTION)
    if not notes:
        return ()
    section = elf.section(_BASE)
    base = section.address if section is not None else 0
    return tuple(
        _probe(elf.path, note.description, base) for note in notes if note.name == _OWNER and note.type == _TYPE
    )


def _probe(path: str, description: bytes, base: int) -> UsdtProbe:
    if len(description) < _PLACES.size:
        raise BadFileError(path, "a USDT note is too short")
    address, noted_base, semaphore = _PLACES.unpack_from(description)
    texts = description[_PLACES.size :].split(b"\0")
    if len(texts) < 4:
        raise BadFileError(path, "a USDT note has no end")
    provider, name, arguments = (text.decode(errors="replace") for text in texts[:3])
    # Prelinking moves a file's sections, but does not know of notes: the base tells by how much.
    moved = base - noted_base if base and noted_base else 0
    return UsdtProbe(provider, name, address + moved, semaphore + moved if semaphore else 0, arguments)


def _argument(text: str) -> UsdtArgument:
    match = _ARGUMENT.fullmatch(text)
    if match is None:
        return UsdtArgument(8, False, UnknownOperand(), text)
    sign, size, operand = match.groups()
    if size is None:
        return UsdtArgument(8, False, _operand(operand), text)
    return UsdtArgument(int(size), bool(sign), UnknownOperand() if "f@" in text else _operand(operand), text)


def _operand(text: str) -> Operand:
    constant = _CONSTANT.fullmatch(text)
    if constant is not None:
        return ConstantOperand(_number(constant[1]))
    register = _REGISTER.fullmatch(text)
    if register is not None:
        return RegisterOperand(register[1])
    memory = _MEMORY.fullmatch(text)
    if memory is None or not (memory["symbol"] or memory["offset"] or "(" in text):
        return UnknownOperand()
    return MemoryOperand(
        memory["symbol"] or "",
        _number(memory["offset"] or "0"),
        memory["base"] or "",
        memory["index"] or "",
        int(memory["scale"] or "1"),
    )


def _number(text: str) -> int:
    return int(text, 16 if "x" in text else 10)
