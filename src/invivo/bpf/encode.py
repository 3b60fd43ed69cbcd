"""Instructions on machine registers → bytes, with every label resolved."""

from __future__ import annotations

import struct
from typing import Final

from invivo.bpf import insn as bpf
from invivo.bpf.insn import Insn
from invivo.bpf.limits import JumpLimitError
from invivo.bpf.registers import Allocated
from invivo.diagnostics import Span
from invivo.image import LineInfo, Relocation, RelocationKind
from invivo.record import Record

# struct bpf_insn: u8 code; u8 dst_reg:4, src_reg:4; s16 off; s32 imm.
_INSN: Final = struct.Struct("<BBhi")


class Linked(Record):
    """The functions of one program one after another, the entry first."""

    code: bytes
    relocations: tuple[Relocation, ...]
    starts: tuple[int, ...]  # first instruction of each function
    lines: tuple[LineInfo, ...]


def encode(functions: list[Allocated]) -> Linked:
    """Lay out the functions, resolve jumps, calls and callbacks. Raises `JumpLimitError`."""
    starts: dict[str, int] = {}
    labels: dict[tuple[str, str], int] = {}
    position = 0
    for function in functions:
        starts[function.name] = position
        for block in function.blocks:
            labels[function.name, block.label] = position
            position += sum([2 if insn.code == bpf.LD_IMM64 else 1 for insn in block.insns])
    encoder = _Encoder(starts, labels)
    for function in functions:
        for block in function.blocks:
            for insn in block.insns:
                encoder.put(insn, function.name)
    code = b"".join(encoder.code)
    return Linked(code, tuple(encoder.relocations), tuple(starts.values()), tuple(encoder.lines))


class _Encoder:
    def __init__(self, starts: dict[str, int], labels: dict[tuple[str, str], int]) -> None:
        self.starts = starts
        self.labels = labels
        self.code: list[bytes] = []  # one for each instruction, two for a LD_IMM64
        self.relocations: list[Relocation] = []
        self.lines: list[LineInfo] = []
        self.span: Span | None = None

    def put(self, insn: Insn, function: str) -> None:
        position = len(self.code)
        if insn.span is not self.span or not self.lines:
            if insn.span != self.span or not self.lines:
                self.lines.append(LineInfo(position, insn.span))
            self.span = insn.span
        code, offset, immediate = insn.code, insn.offset, insn.immediate
        if code == bpf.LD_IMM64:
            immediate, following = self.wide(insn, position)
            self.code.append(_INSN.pack(code, insn.source << 4 | insn.target, offset, immediate))
            self.code.append(_INSN.pack(0, 0, 0, following))
            return
        if code == bpf.CALL:
            offset = 0
            if insn.source == bpf.PSEUDO_CALL:
                immediate = self.starts[insn.symbol] - position - 1
        elif bpf.is_jump(insn):
            offset = self.labels[function, insn.symbol] - position - 1
            if not -0x8000 <= offset <= 0x7FFF:
                raise JumpLimitError(function)
        self.code.append(_INSN.pack(code, insn.source << 4 | insn.target, offset, immediate))

    def wide(self, insn: Insn, position: int) -> tuple[int, int]:
        """Return both immediates of a LD_IMM64; what only the loader knows is a relocation."""
        match insn.source:
            case bpf.PSEUDO_MAP:
                self.relocations.append(Relocation(position, RelocationKind.MAP, insn.symbol))
                return 0, 0
            case bpf.PSEUDO_MAP_VALUE:
                self.relocations.append(Relocation(position, RelocationKind.MAP_VALUE, insn.symbol, insn.immediate))
                return 0, signed32(insn.immediate)
            case bpf.PSEUDO_FUNCTION:
                return self.starts[insn.symbol] - position - 1, 0
            case bpf.PSEUDO_BTF_ID:
                return int(insn.symbol), 0
            case _:
                return signed32(insn.immediate), signed32(insn.immediate >> 32)


def signed32(value: int) -> int:
    """Return the low 32 bits as a signed number."""
    value &= 0xFFFF_FFFF
    return value - 0x1_0000_0000 if value >> 31 else value
