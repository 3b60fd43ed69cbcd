"""The script's own C types, laid out as C does, before the kernel's."""

from __future__ import annotations

from collections.abc import Sequence

from invivo.diagnostics import Code, Diagnostics
from invivo.ir import types as t
from invivo.ir.types import Enumeration, Field, Struct, Type
from invivo.lang.cdecl import (
    ArrayOf,
    BaseType,
    CType,
    Declarations,
    EnumDeclaration,
    Member,
    NamedType,
    PointerTo,
    StructDeclaration,
    VoidType,
)
from invivo.record import Record, replace
from invivo.target import AttachPoint, Plan, ProbeSpec, Scope, Target

_LARGEST = 1 << 20  # bytes; what a program can hold in its memory is far less


class Laid(Record, eq=False):
    """A declared struct or union with its size, alignment and members."""

    type: Struct
    alignment: int
    fields: tuple[Field, ...]


class DeclaredTarget:
    """A `Target` whose types are the script's declarations first, the machine's second."""

    def __init__(self, target: Target, declarations: Declarations, diagnostics: Diagnostics) -> None:
        self._target = target
        self._diagnostics = diagnostics
        self._laid: dict[tuple[str, str], Laid] = {}
        self._enums = {declared.name: _enumeration(declared) for declared in declarations.enums}
        self._constants = {
            name: (enumeration, value) for enumeration in self._enums.values() for name, value in enumeration.variants
        }
        for name, value in declarations.constants:
            self._constants.setdefault(name, (Enumeration("", 32, value < 0, ((name, value),)), value))
        self._anonymous = 0
        self._open: set[tuple[str, str]] = set()  # being laid out
        self._typedefs: dict[str, Type] = {}
        for struct in declarations.structs:
            self._lay_out(struct)
        self._typedefs = {name: self._type(member.type, member)[0] for name, member in declarations.typedefs}

    # -- laying out ----------------------------------------------------------------------------

    def _lay_out(self, declared: StructDeclaration) -> Laid:
        name = declared.name
        if not name:
            self._anonymous += 1
            name = f"(anonymous {self._anonymous})"
        key = (declared.keyword, name)
        if key in self._laid:
            return self._laid[key]
        self._laid[key] = Laid(Struct(declared.keyword, name, 0), 1, ())  # for pointers to itself
        self._open.add(key)
        placing = _Placing(declared.keyword == "union", declared.packed)
        for member in declared.members:
            self._place(placing, member)
        alignment = max(placing.alignment, declared.aligned or 1)
        size = -(-placing.end_bits // (8 * alignment)) * alignment
        if size > _LARGEST:
            what = f"{declared.keyword} {declared.name}".strip()
            self._diagnostics.error(Code.LIMIT, declared.span, f"{what} is larger than {_LARGEST} bytes")
            placing.fields, size = [], 0
        laid = Laid(Struct(declared.keyword, name, size), alignment, tuple(placing.fields))
        self._laid[key] = laid
        self._open.discard(key)
        return laid

    def _place(self, placing: _Placing, member: Member) -> None:
        element = member.type
        while isinstance(element, ArrayOf):
            element = element.element
        if isinstance(element, NamedType) and (element.keyword, element.name) in self._open:
            self._diagnostics.error(
                Code.BAD_DECLARATION,
                member.span,
                f"{element.keyword} {element.name} cannot contain itself",
                "a pointer to it can be a member",
            )
        type_, alignment = self._type(member.type, member)
        alignment = 1 if placing.packed else alignment
        alignment = max(alignment, member.aligned or 1)
        if member.bits is not None:
            placing.bitfield(member.name, type_, member.bits)
            if member.name and not member.bits:
                self._diagnostics.error(Code.BAD_DECLARATION, member.span, "a bitfield of no bits cannot have a name")
            elif member.name and placing.fields[-1].bit_offset + member.bits > 64:
                self._diagnostics.error(
                    Code.NOT_SUPPORTED, member.span, "a bitfield that is spread over nine bytes is not supported"
                )
            return
        offset = placing.member(t.size_bytes(type_), alignment)
        if not member.name and isinstance(type_, Struct):
            placing.fields += [replace(field, offset=offset + field.offset) for field in self.fields(type_)]
        else:
            placing.fields.append(Field(member.name, type_, offset))

    def _type(self, c_type: CType, member: Member) -> tuple[Type, int]:
        """A member's type and alignment."""
        match c_type:
            case BaseType("_Bool" | "bool"):
                return t.BOOL, 1
            case BaseType(_, size, signed):
                return t.Int(8 * size, signed), size
            case VoidType():
                return t.VOID, 1
            case PointerTo(target):
                return t.Pointer(self._pointee(target, member), t.AddressSpace.NONE), 8
            case ArrayOf(element, length):
                inner, alignment = self._type(element, member)
                if inner == t.INT8:
                    return t.String(length or 0), alignment
                return t.Array(inner, length or 0), alignment
            case StructDeclaration():
                laid = self._lay_out(c_type)
                return laid.type, laid.alignment
            case EnumDeclaration():
                return _enumeration(c_type), 4
            case NamedType(keyword, name):
                found = self._named(keyword, name)
                if found is None:
                    spelled = f"{keyword} {name}".strip()
                    self._diagnostics.error(
                        Code.UNKNOWN_TYPE, member.span, f"unknown type {spelled}", "it must be declared before"
                    )
                    return t.INT32, 4
                laid_out = self._laid.get((keyword, name))
                return found, laid_out.alignment if laid_out else t.alignment(found)

    def _pointee(self, c_type: CType, member: Member) -> Type:
        if isinstance(c_type, NamedType) and self._named(c_type.keyword, c_type.name) is None:
            return t.VOID  # an opaque type: its address is all there is
        return self._type(c_type, member)[0]

    def _named(self, keyword: str, name: str) -> Type | None:
        if keyword == "enum":
            return self.enumeration(name)
        return self.struct(keyword, name) if keyword else self.typedef(name)

    # -- types, as a target --------------------------------------------------------------------

    def struct(self, keyword: str, name: str) -> Struct | None:
        laid = self._laid.get((keyword, name))
        return laid.type if laid is not None else self._target.struct(keyword, name)

    def fields(self, struct: Struct) -> tuple[Field, ...]:
        laid = self._laid.get((struct.keyword, struct.name)) if not struct.type_id else None
        return laid.fields if laid is not None else self._target.fields(struct)

    def field(self, struct: Struct, name: str) -> Field | None:
        laid = self._laid.get((struct.keyword, struct.name)) if not struct.type_id else None
        if laid is None:
            return self._target.field(struct, name)
        return next((field for field in laid.fields if field.name == name), None)

    def typedef(self, name: str) -> Type | None:
        return self._typedefs.get(name) or self._target.typedef(name)

    def enumeration(self, name: str) -> Enumeration | None:
        return self._enums.get(name) or self._target.enumeration(name)

    def enum_constant(self, name: str) -> tuple[Enumeration, int] | None:
        return self._constants.get(name) or self._target.enum_constant(name)

    # -- all else is the machine's -------------------------------------------------------------

    @property
    def cpus(self) -> int:
        return self._target.cpus

    @property
    def scope(self) -> Scope:
        return self._target.scope

    def check(self, spec: ProbeSpec) -> None:
        self._target.check(spec)

    def expand(self, spec: ProbeSpec) -> Sequence[AttachPoint]:
        return self._target.expand(spec)

    def take_remarks(self) -> Sequence[str]:
        return self._target.take_remarks()

    def plan(self, points: Sequence[AttachPoint], uses: frozenset[str]) -> Sequence[Plan]:
        return self._target.plan(points, uses)

    def helper_plan(self, name: str) -> Plan:
        return self._target.helper_plan(name)

    def kernel_address(self, symbol: str) -> int | None:
        return self._target.kernel_address(symbol)

    def user_symbol(self, point: AttachPoint, symbol: str) -> tuple[int, int] | None:
        return self._target.user_symbol(point, symbol)

    def per_cpu_variable(self, symbol: str) -> int | None:
        return self._target.per_cpu_variable(symbol)

    def kernel_function(self, name: str) -> int | None:
        return self._target.kernel_function(name)

    @property
    def pid_namespace(self) -> tuple[int, int] | None:
        return self._target.pid_namespace

    def cgroup_id(self, path: str) -> int | None:
        return self._target.cgroup_id(path)

    def has(self, feature: str) -> bool:
        return self._target.has(feature)


def _enumeration(declared: EnumDeclaration) -> Enumeration:
    values = [value for _, value in declared.variants]
    wide = any(not -(1 << 31) <= value < 1 << 32 for value in values)
    return Enumeration(declared.name, 64 if wide else 32, any(value < 0 for value in values), declared.variants)


class _Placing:
    """Places members one after another, as the x86-64 System V ABI says (3.1.2)."""

    def __init__(self, union: bool, packed: bool) -> None:
        self.union = union
        self.packed = packed
        self.bit = 0  # the next free bit
        self.end_bits = 0
        self.alignment = 1
        self.fields: list[Field] = []

    def member(self, size: int, alignment: int) -> int:
        start = 0 if self.union else -(-self.bit // (8 * alignment)) * alignment
        self._advance(8 * (start + size), alignment)
        return start

    def bitfield(self, name: str, type_: Type, width: int) -> None:
        unit = 8 * t.size_bytes(type_)
        start = 0 if self.union else self.bit
        if width == 0:  # the next bitfield begins in a new unit
            self.bit = -(-self.bit // unit) * unit
            return
        if not self.packed and start // unit != (start + width - 1) // unit:
            start = -(-start // unit) * unit
        if name:
            base = start // unit * unit
            if start + width > base + unit:  # packed: it is read from where it begins
                base = start // 8 * 8
            self.fields.append(Field(name, type_, base // 8, start - base, width))
        self._advance(start + width, 1 if self.packed else t.size_bytes(type_))

    def _advance(self, end: int, alignment: int) -> None:
        self.alignment = max(self.alignment, alignment)
        self.end_bits = max(self.end_bits, end)
        self.bit = self.end_bits if not self.union else 0
