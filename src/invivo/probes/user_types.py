"""The types of traced programs (DWARF) as the compiler's types, built only as far as somebody asks."""

from __future__ import annotations

from invivo.errors import BadFileError
from invivo.formats.dwarf import Dwarf, DwarfKind, DwarfMember
from invivo.ir.types import (
    BOOL,
    INT8,
    UINT8,
    VOID,
    AddressSpace,
    Array,
    Enumeration,
    Field,
    Int,
    Pointer,
    String,
    Struct,
    Type,
    size_bytes,
)

_DEEPEST = 64  # pointers to pointers


class UserTypes:
    """Types of the files that uprobes are in; their structs have negative numbers, by which they are found again."""

    def __init__(self) -> None:
        self._structs: list[tuple[Dwarf, int]] = []
        self._numbers: dict[tuple[int, int], int] = {}

    def of(self, dwarf: Dwarf, handle: int, depth: int = 0) -> Type:
        """Return a type; its pointers point to the program's memory. Raises `BadFileError`."""
        if depth > _DEEPEST:
            raise BadFileError(dwarf.path, "a type is a pointer to itself")
        described = dwarf.type(handle)
        match described.kind:
            case DwarfKind.BOOL:
                return BOOL
            case DwarfKind.INTEGER if described.size in (1, 2, 4, 8):
                return Int(8 * described.size, described.signed)
            case DwarfKind.ENUM if described.size in (1, 2, 4, 8):
                return Enumeration(described.name, 8 * described.size, described.signed, dwarf.variants(handle))
            case DwarfKind.POINTER:
                return Pointer(self.of(dwarf, described.target, depth + 1), AddressSpace.USER)
            case DwarfKind.STRUCT | DwarfKind.UNION:
                number = self._number(dwarf, handle)
                return Struct(described.kind.value, described.name, described.size, number)
            case DwarfKind.ARRAY:
                element = self.of(dwarf, described.target, depth + 1)
                for count in reversed(described.counts or (0,)):
                    is_text = element == INT8 and count and dwarf.type(described.target).name == "char"
                    element = String(count) if is_text else Array(element, max(count, 0))
                return element
            case DwarfKind.VOID:
                return VOID
            case _:
                return Array(UINT8, described.size)

    def _number(self, dwarf: Dwarf, handle: int) -> int:
        key = (id(dwarf), handle)  # each file's reader is kept as long as this
        if key not in self._numbers:
            self._structs.append((dwarf, handle))
            self._numbers[key] = -len(self._structs)
        return self._numbers[key]

    def fields(self, struct: Struct) -> tuple[Field, ...]:
        """Return all members. Raises `BadFileError`."""
        dwarf, handle = self._structs[-struct.type_id - 1]
        return tuple(self._field(dwarf, member) for member in dwarf.members(handle))

    def field(self, struct: Struct, name: str) -> Field | None:
        """Return one member; the others' types are not looked at."""
        dwarf, handle = self._structs[-struct.type_id - 1]
        found = next((member for member in dwarf.members(handle) if member.name == name), None)
        return None if found is None else self._field(dwarf, found)

    def _field(self, dwarf: Dwarf, member: DwarfMember) -> Field:
        found = self.of(dwarf, member.type)
        if not member.bit_size:
            return Field(member.name, found, member.bit_offset // 8, overlaid=member.overlaid)
        # The unit that C's compiler would load: aligned to its size, unless the field crosses its end.
        unit = max(size_bytes(found), 1) * 8
        start = member.bit_offset // unit * unit
        if member.bit_offset + member.bit_size > start + unit:
            start = member.bit_offset // 8 * 8
        return Field(
            member.name, found, start // 8, member.bit_offset - start, member.bit_size, overlaid=member.overlaid
        )
