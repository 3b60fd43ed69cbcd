"""Where the instructions of x86-64 code begin: their lengths, without their meaning.

The encoding is that of the Intel 64 manual, volume 2: prefixes, opcode maps (appendix A), ModRM, SIB, displacement,
immediate.  Instructions of AMD's XOP and of AVX-512 are measured, too.
"""

from __future__ import annotations

from typing import Final

from invivo.record import Record


def _opcodes(text: str) -> frozenset[int]:
    """``00-03 63``: numbers and ranges in hexadecimal."""
    found: set[int] = set()
    for word in text.split():
        first, _, last = word.partition("-")
        found |= set(range(int(first, 16), int(last or first, 16) + 1))
    return frozenset(found)


class _Map(Record):
    """What follows the opcodes of a map: all have a ModRM byte but ``plain``."""

    plain: frozenset[int] = frozenset()
    bytes1: frozenset[int] = frozenset()  # an immediate of 8 bits
    words: frozenset[int] = frozenset()  # of 16 or 32 bits, as the operand is wide
    invalid: frozenset[int] = frozenset()


_PREFIXES: Final = _opcodes("26 2e 36 3e 64-67 f0 f2 f3")
_OPERAND_SIZE: Final = 0x66
_ADDRESS_SIZE: Final = 0x67

_ONE: Final = _Map(
    plain=_opcodes(
        "04-05 0c-0d 14-15 1c-1d 24-25 2c-2d 34-35 3c-3d 50-5f 68 6a 6c-7f 90-99 9b-bf c2-c3 c8-cf d7 e0-f5 f8-fd"
    ),
    bytes1=_opcodes("04 0c 14 1c 24 2c 34 3c 6a 6b 70-7f 80 83 a8 b0-b7 c0 c1 c6 cd e0-e7 eb"),
    words=_opcodes("05 0d 15 1d 25 2d 35 3d 68 69 81 a9 b8-bf c7"),
    invalid=_opcodes("06 07 0e 16 17 1e 1f 27 2f 37 3f 60 61 82 9a ce d4-d6 ea"),
)
_TWO: Final = _Map(
    plain=_opcodes("05-09 0b 0e 30-37 77 80-8f a0-a2 a8-aa c8-cf"),
    bytes1=_opcodes("0f 70-73 a4 ac ba c2 c4-c6"),
    invalid=_opcodes("04 0a 0c 24-27 36 38-3f"),
)
_VECTOR: Final = _Map(plain=_opcodes("77"), bytes1=_opcodes("70-73 c2 c4-c6"))
_THREE_38: Final = _Map()
_THREE_3A: Final = _Map(bytes1=_opcodes("00-ff"))
# The maps of VEX and EVEX by their number, those of XOP by theirs; map 10 has immediates of 32 bits.
_VECTOR_MAPS: Final = {1: _VECTOR, 2: _THREE_38, 3: _THREE_3A, 5: _THREE_38, 6: _THREE_38}
_XOP_MAPS: Final = {8: _THREE_3A, 9: _THREE_38, 10: _Map(words=_opcodes("00-ff"))}

_LONGEST: Final = 15  # bytes of an instruction


def instruction_length(code: bytes | memoryview, start: int = 0) -> int | None:
    """Return the length in bytes of the instruction at an offset; None if there is none or not all of it."""
    try:
        end = _end(code, start)
    except IndexError:
        return None
    if end is None or end > len(code) or end - start > _LONGEST:
        return None
    return end - start


def is_boundary(code: bytes | memoryview, offset: int) -> bool:
    """Whether an instruction begins at an offset of code that begins with one."""
    at = 0
    while at < offset:
        length = instruction_length(code, at)
        if length is None:
            return False
        at += length
    return at == offset


def _end(code: bytes | memoryview, start: int) -> int | None:
    at = start
    narrow = False
    short_addresses = False
    while code[at] in _PREFIXES:
        narrow |= code[at] == _OPERAND_SIZE
        short_addresses |= code[at] == _ADDRESS_SIZE
        at += 1
    wide = False
    if 0x40 <= code[at] <= 0x4F:  # REX
        wide = bool(code[at] & 8)
        at += 1
    opcode = code[at]
    at += 1
    match opcode:
        case 0x0F:
            return _escaped(code, at, narrow=narrow)
        case 0xC5:
            return _after_opcode(code, at + 1, _VECTOR, narrow=False)
        case 0xC4:
            return _of_map(code, at + 2, _VECTOR_MAPS.get(code[at] & 31))
        case 0x62:
            return _of_map(code, at + 3, _VECTOR_MAPS.get(code[at] & 7))
        case 0x8F if code[at] & 31 >= 8:
            return _of_map(code, at + 2, _XOP_MAPS.get(code[at] & 31))
        case 0xC2 | 0xCA:
            return at + 2
        case 0xC8:
            return at + 3
        case 0xE8 | 0xE9:
            return at + 4
        case 0xA0 | 0xA1 | 0xA2 | 0xA3:
            return at + (4 if short_addresses else 8)
        case 0xF6 | 0xF7 if code[at] & 0x38 < 0x10:  # of group 3 only TEST has an immediate
            size = 1 if opcode == 0xF6 else 2 if narrow and not wide else 4
            return _after_modrm(code, at) + size
        case _ if wide and 0xB8 <= opcode <= 0xBF:
            return at + 8
        case _:
            return _after_opcode(code, at - 1, _ONE, narrow=narrow and not wide)


def _escaped(code: bytes | memoryview, at: int, *, narrow: bool) -> int | None:
    opcode = code[at]
    if opcode == 0x38:
        return _after_opcode(code, at + 1, _THREE_38, narrow=narrow)
    if opcode == 0x3A:
        return _after_opcode(code, at + 1, _THREE_3A, narrow=narrow)
    if 0x80 <= opcode <= 0x8F:
        return at + 5
    return _after_opcode(code, at, _TWO, narrow=narrow)


def _of_map(code: bytes | memoryview, at: int, found: _Map | None) -> int | None:
    return None if found is None else _after_opcode(code, at, found, narrow=False)


def _after_opcode(code: bytes | memoryview, at: int, found: _Map, *, narrow: bool) -> int | None:
    opcode = code[at]
    if opcode in found.invalid:
        return None
    at = at + 1 if opcode in found.plain else _after_modrm(code, at + 1)
    if opcode in found.bytes1:
        return at + 1
    if opcode in found.words:
        return at + (2 if narrow else 4)
    return at


def _after_modrm(code: bytes | memoryview, at: int) -> int:
    """Return the end of ModRM, SIB and displacement."""
    mode, register = code[at] >> 6, code[at] & 7
    at += 1
    if mode == 3:
        return at
    displacement = (0, 1, 4)[mode]
    if register == 4:
        if mode == 0 and code[at] & 7 == 5:
            displacement = 4
        at += 1
    elif mode == 0 and register == 5:
        displacement = 4
    return at + displacement
