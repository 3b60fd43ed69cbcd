"""Where the parameters of a traced program's function are when it is entered.

By the System V AMD64 ABI (3.2.3, parameter passing) and what the debug information says that the compiler made of it.
What is in no general register and not on the stack is said to be out of reach, never guessed.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from invivo.formats.dwarf import ByConvention, Constant, Dwarf, DwarfFunction, DwarfKind, Gone, InRegister, OnStack
from invivo.formats.dwarf import DwarfParameter as Parameter
from invivo.ir.types import Array, Type, size_bytes
from invivo.probes import x86_64
from invivo.probes.user_types import UserTypes
from invivo.target import Access, Argument, ContextLoad, Known, OutOfReach, UserMemory

# DWARF's numbers of the general registers (System V AMD64 ABI, figure 3.36).
_REGISTERS: Final = (
    "ax", "dx", "cx", "bx", "si", "di", "bp", "sp", "r8", "r9", "r10", "r11", "r12", "r13", "r14", "r15",
)  # fmt: skip
_VECTOR_REGISTERS: Final = 8  # that arguments are handed over in

_INTEGER, _SSE, _MEMORY = "INTEGER", "SSE", "MEMORY"


def arguments(dwarf: Dwarf, function: DwarfFunction, types: UserTypes, *, clone: bool) -> tuple[Argument, ...]:
    """Return a function's parameters as members of ``args``.

    ``clone``: the compiler made it of another, whose convention it need not keep.  Raises `BadFileError`.
    """
    found: list[Argument] = []
    certain = function.conventional and not clone
    for number, (parameter, usual) in enumerate(zip(function.parameters, _by_convention(dwarf, function), strict=True)):
        type_ = types.of(dwarf, parameter.type)
        access = _access(dwarf, parameter, type_, usual if certain else None)
        found.append(Argument(parameter.name or f"arg{number}", type_, access))
    return tuple(found)


class _Convention:
    """Hands out registers and the stack, in the order of the parameters."""

    def __init__(self) -> None:
        self.general = list(x86_64.FUNCTION_ARGUMENTS)
        self.vector = [f"%xmm{number}" for number in range(_VECTOR_REGISTERS)]
        self.stack = 8  # above the return address

    def take(self, classes: list[str], size: int, alignment: int) -> str | int | None:
        """Return the name of a register, a place on the stack, or None if it is spread over registers."""
        general, vector = classes.count(_INTEGER), classes.count(_SSE)
        if _MEMORY in classes or general > len(self.general) or vector > len(self.vector):
            self.stack += -(self.stack - 8) % alignment
            place = self.stack
            self.stack += -(-size // 8) * 8
            return place
        names = [self.general.pop(0) for _ in range(general)] + [self.vector.pop(0) for _ in range(vector)]
        return names[0] if len(names) == 1 else None


def _by_convention(dwarf: Dwarf, function: DwarfFunction) -> Iterator[str | int | None]:
    """Yield where each parameter is: a register's name, bytes above the stack pointer, None if neither."""
    convention = _Convention()
    known = True
    if function.result:
        classes = _classes(dwarf, function.result)
        known = classes is not None
        if classes is not None and _MEMORY in classes and dwarf.type(function.result).kind is not DwarfKind.FLOAT:
            convention.take([_INTEGER], 8, 8)  # where the result is to be put
    for parameter in function.parameters:
        classes = _classes(dwarf, parameter.type)
        if classes is None:
            known = False  # nor can be known what follows
        if not known or classes is None:
            yield None
            continue
        described = dwarf.type(parameter.type)
        wide = described.size == 16 and described.kind in (DwarfKind.INTEGER, DwarfKind.FLOAT)
        yield convention.take(classes, 8 if described.by_reference else described.size, 16 if wide else 8)


def _classes(dwarf: Dwarf, handle: int) -> list[str] | None:
    """Return the class of each eightbyte of a value; None if it cannot be told."""
    described = dwarf.type(handle)
    match described.kind:
        case DwarfKind.INTEGER if described.size == 16:
            return [_INTEGER, _INTEGER]
        case DwarfKind.INTEGER | DwarfKind.BOOL | DwarfKind.ENUM | DwarfKind.POINTER:
            return [_INTEGER]
        case DwarfKind.FLOAT:
            # long double is 80 bits in 16 bytes; _Float128 has a vector register.
            return [_SSE] if described.size <= 8 or "128" in described.name else [_MEMORY]
        case DwarfKind.STRUCT | DwarfKind.UNION:
            if described.by_reference:
                return [_INTEGER]
            if described.size > 16:
                return [_MEMORY]
            return _classes_of_parts(dwarf, handle, described.size)
        case _:
            return None


def _classes_of_parts(dwarf: Dwarf, handle: int, size: int) -> list[str] | None:
    found: list[str] = [""] * -(-size // 8)
    for offset, part in _parts(dwarf, handle, 0):
        inner = _classes(dwarf, part)
        width = dwarf.type(part).size
        if inner is None:
            return None
        if _MEMORY in inner or (width and offset % min(width, 16)):  # packed
            return [_MEMORY]
        for index, name in enumerate(inner):
            place = offset // 8 + index
            if place < len(found) and found[place] != _INTEGER:
                found[place] = name
    return [name for name in found if name]


def _parts(dwarf: Dwarf, handle: int, base: int) -> Iterator[tuple[int, int]]:
    """Yield offset and type of each number in a struct; a bitfield at its unit."""
    described = dwarf.type(handle)
    if described.kind in (DwarfKind.STRUCT, DwarfKind.UNION) and not described.by_reference:
        for member in dwarf.members(handle):
            size = max(dwarf.type(member.type).size, 1)
            offset = member.bit_offset // 8
            yield from _parts(dwarf, member.type, base + (offset // size * size if member.bit_size else offset))
    elif described.kind is DwarfKind.ARRAY:
        count = 1
        for each in described.counts:
            count *= each
        size = max(dwarf.type(described.target).size, 1)
        for index in range(min(max(count, 0), 16)):
            yield from _parts(dwarf, described.target, base + index * size)
    else:
        yield base, handle


def _access(dwarf: Dwarf, parameter: Parameter, type_: Type, usual: str | int | None) -> Access:
    described = dwarf.type(parameter.type)
    what = dwarf.spelling(parameter.type)
    match parameter.place:
        case Constant(value):
            return Known(value)
        case InRegister(number):
            place: str | int | None = _REGISTERS[number] if number < len(_REGISTERS) else f"%xmm{number - 17}"
        case OnStack(offset):
            place = offset
        case Gone():
            return OutOfReach("optimized out")
        case ByConvention():
            place = usual
    if described.kind in (DwarfKind.STRUCT, DwarfKind.UNION, DwarfKind.OTHER):
        return OutOfReach(f"a {what} by value")
    if isinstance(type_, Array):
        return OutOfReach(f"a {what}" + (f" in {place}" if isinstance(place, str) else ""))
    if place is None:
        return OutOfReach("at an unknown place")
    size = size_bytes(type_)
    signed = bool(getattr(type_, "signed", False))
    if isinstance(place, int):
        return UserMemory(x86_64.OFFSETS["sp"], place, None, 1, size, signed)
    if place.startswith("%"):
        return OutOfReach(f"a {what} in {place}")
    return ContextLoad(x86_64.OFFSETS[place], size, signed)
