"""eBPF as text: a disassembly in the manner of the kernel's own, with maps, functions and source places."""

from __future__ import annotations

import struct
from typing import Final

from invivo.bpf import helpers
from invivo.bpf import insn as bpf
from invivo.image import Image, ProgramImage, Relocation, RelocationKind

_INSN: Final = struct.Struct("<BBhi")
_OPERATORS: Final = {
    0x00: "+=", 0x10: "-=", 0x20: "*=", 0x30: "/=", 0x40: "|=", 0x50: "&=", 0x60: "<<=", 0x70: ">>=",
    0x90: "%=", 0xA0: "^=", 0xB0: "=", 0xC0: "s>>=",
}  # fmt: skip
_COMPARISONS: Final = {
    0x10: "==", 0x20: ">", 0x30: ">=", 0x40: "&", 0x50: "!=", 0x60: "s>", 0x70: "s>=",
    0xA0: "<", 0xB0: "<=", 0xC0: "s<", 0xD0: "s<=",
}  # fmt: skip
_ATOMICS: Final = {0x00: "+=", 0x40: "|=", 0x50: "&=", 0xE0: "xchg", 0xF0: "cmpxchg"}


def format_image(image: Image) -> str:
    """Print the programs of an image."""
    return "\n".join(format_program(program) for program in image.programs)


def format_program(program: ProgramImage) -> str:
    """Print one program: index, instruction; a line for each function and each change of source place."""
    relocations = {r.instruction: r for r in program.relocations}
    starts = {info.instruction: info.name for info in program.functions} or {0: program.name}
    places = {line.instruction: line.span for line in program.lines}
    lines = [f"program {program.name} ({len(program.code) // 8} instructions)"]
    words = list(_INSN.iter_unpack(program.code))
    index = 0
    while index < len(words):
        if index in starts:
            lines.append(f"{starts[index]}:")
        span = places.get(index)
        if span is not None:
            location = span.location()
            text = " ".join(span.text.split())
            lines.append(f"  ; {span.source.name}:{location.line}:{location.column}: {text}")
        code, registers, offset, immediate = words[index]
        target, source = registers & 15, registers >> 4
        if code == bpf.LD_IMM64:
            high = words[index + 1][3]
            value = (immediate & 0xFFFF_FFFF) | (high & 0xFFFF_FFFF) << 32
            text = _wide(target, source, value, relocations.get(index), starts, index)
        else:
            text = _format(code, target, source, offset, (immediate, index), starts)
        lines.append(f"{index:5}: {text}")
        index += 2 if code == bpf.LD_IMM64 else 1
    return "\n".join(lines) + "\n"


def _wide(
    target: int, source: int, value: int, relocation: Relocation | None, starts: dict[int, str], index: int
) -> str:
    if relocation is not None and relocation.kind is RelocationKind.MAP:
        return f"r{target} = map {relocation.map}"
    if relocation is not None:
        return f"r{target} = map {relocation.map} value {relocation.offset:+d}"
    if source == bpf.PSEUDO_FUNCTION:
        return f"r{target} = function {starts.get(index + value + 1, '?')}"
    return f"r{target} = {value:#x} ll"


def _format(code: int, target: int, source: int, offset: int, rest: tuple[int, int], starts: dict[int, str]) -> str:
    immediate, index = rest
    operand = f"r{source}" if code & bpf.SOURCE_REGISTER else str(immediate)
    match code & bpf.CLASS:
        case bpf.ALU32 | bpf.ALU64 as kind:
            if code == bpf.ENDIAN_SWAP:
                return f"r{target} = be{immediate} r{target}"
            register = "r" if kind == bpf.ALU64 else "w"
            operand = operand.replace("r", register)
            return f"{register}{target} {_OPERATORS[code & 0xF0]} {operand}"
        case bpf.LDX:
            return f"r{target} = {_memory(code, source, offset)}"
        case bpf.ST:
            return f"{_memory(code, target, offset)} = {immediate}"
        case bpf.STX if code & bpf.MODE == bpf.ATOMIC:
            kind_text = _ATOMICS[immediate & 0xF0]
            fetched = "" if not immediate & bpf.FETCH else f"r{source} = "
            if immediate == bpf.COMPARE_EXCHANGE:
                fetched = "r0 = "
            return f"{fetched}lock {_memory(code, target, offset)} {kind_text} r{source}"
        case bpf.STX:
            return f"{_memory(code, target, offset)} = r{source}"
        case _:
            pass
    if code == bpf.EXIT:
        return "exit"
    if code == bpf.CALL:
        if source == bpf.PSEUDO_CALL:
            return f"call {starts.get(index + immediate + 1, '?')}"
        if source == bpf.PSEUDO_KERNEL_CALL:
            return f"call kernel#{immediate}"
        return f"call {helpers.name(immediate)}#{immediate}"
    if code == bpf.JA:
        return f"goto {index + offset + 1}"
    return f"if r{target} {_COMPARISONS[code & 0xF0]} {operand} goto {index + offset + 1}"


def _memory(code: int, register: int, offset: int) -> str:
    return f"*(u{8 * bpf.SIZE_BYTES[code & 0x18]} *)(r{register} {offset:+d})"
