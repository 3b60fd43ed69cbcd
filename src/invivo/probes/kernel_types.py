"""The kernel's types (BTF) as the compiler's types, built only as far as somebody asks."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from invivo.formats.btf import Btf, BtfKind, BtfMember, BtfType
from invivo.ir.types import (
    BOOL,
    INT8,
    INT16,
    INT32,
    INT64,
    UINT8,
    UINT16,
    UINT32,
    UINT64,
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
from invivo.record import Record

# C's own names; the widths are x86-64's. Known without BTF too.
_BASE: Final[dict[str, Type]] = {
    "void": VOID,
    "bool": BOOL,
    "_Bool": BOOL,
    "char": INT8,
    "signed char": INT8,
    "unsigned char": UINT8,
    "short": INT16,
    "short int": INT16,
    "unsigned short": UINT16,
    "unsigned short int": UINT16,
    "short unsigned int": UINT16,
    "int": INT32,
    "signed": INT32,
    "signed int": INT32,
    "unsigned": UINT32,
    "unsigned int": UINT32,
    "long": INT64,
    "long int": INT64,
    "unsigned long": UINT64,
    "unsigned long int": UINT64,
    "long unsigned int": UINT64,
    "long long": INT64,
    "long long int": INT64,
    "unsigned long long": UINT64,
    "long long unsigned int": UINT64,
    "s8": INT8, "s16": INT16, "s32": INT32, "s64": INT64,
    "u8": UINT8, "u16": UINT16, "u32": UINT32, "u64": UINT64,
    "__s8": INT8, "__s16": INT16, "__s32": INT32, "__s64": INT64,
    "__u8": UINT8, "__u16": UINT16, "__u32": UINT32, "__u64": UINT64,
    "int8_t": INT8, "int16_t": INT16, "int32_t": INT32, "int64_t": INT64,
    "uint8_t": UINT8, "uint16_t": UINT16, "uint32_t": UINT32, "uint64_t": UINT64,
    "size_t": UINT64, "ssize_t": INT64, "pid_t": INT32,
}  # fmt: skip

_QUALIFIERS: Final = frozenset({
    "const", "volatile", "restrict", "__restrict", "__user", "__kernel", "__rcu", "__percpu", "__iomem",
    "__seg_gs", "__force",
})  # fmt: skip

_LOCAL: Final = (1 << 32) - 1  # a type's number among those of its reader

_COMPOUND: Final = {BtfKind.STRUCT: "struct", BtfKind.UNION: "union"}
_KIND_OF_KEYWORD: Final = {"struct": BtfKind.STRUCT, "union": BtfKind.UNION}


class Prototype(Record):
    """What a function takes and gives: names and BTF ids of its parameters, and its result's id."""

    parameters: tuple[tuple[str, int], ...]
    result: int


class KernelTypes:
    """Types by name, id or C text. Without BTF only C's own are known.

    Structs refer to their members' types by BTF id, so a question about one member costs
    no more than that member.

    Modules and BPF programs have types of their own, each with a reader of its own: `upon`.
    """

    def __init__(self, btf: Btf | None, base: KernelTypes | None = None, first: int = 0) -> None:
        """``first``: types of lower numbers are those of ``base``."""
        self._btf = btf
        self._base = base
        self._first = first
        self._others: list[KernelTypes] = []  # by number - 1
        # What tells equal numbers of types of several modules apart: the upper half of a struct's.
        self._number = 0
        self._by_id: dict[tuple[int, AddressSpace], Type] = {}
        self._ids: dict[tuple[BtfKind, str], int | None] = {}
        self._described: dict[int, BtfType] = {}
        self._members_of: dict[int, dict[str, tuple[BtfMember, int, bool]]] = {}

    def upon(self, btf: Btf, *, standalone: bool = False) -> KernelTypes:
        """Return a reader for other types, whose structs this one knows from then on.

        ``standalone``: those of a BPF program, which are complete; a module's continue the kernel's.
        """
        first = 0 if standalone or self._btf is None else self._btf.count()
        other = KernelTypes(btf, self, first)
        self._others.append(other)
        other._number = len(self._others)
        return other

    def _numbered(self, type_id: int) -> int:
        """Return what a struct says of its type: its number, and behind it that of the reader."""
        return type_id | self._number << 32 if type_id >= self._first else type_id

    def _owner(self, struct: Struct) -> KernelTypes:
        number = struct.type_id >> 32
        if number == self._number or not number:
            return self
        return (self._base or self)._others[number - 1]

    # Types by id.

    def of(self, type_id: int, space: AddressSpace = AddressSpace.KERNEL) -> Type:
        """Return the type of a BTF id; ``space`` is where its pointers point to, unless a tag says so."""
        key = (type_id, space)
        found = self._by_id.get(key)
        if found is None:
            found = self._by_id[key] = self._build(type_id, space)
        return found

    def _build(self, type_id: int, space: AddressSpace) -> Type:
        stripped = self._btf.strip(type_id) if self._btf is not None else 0
        if not stripped or self._btf is None:
            return VOID  # also beneath a qualifier: const void
        described = self._describe(stripped)
        match described.kind:
            case BtfKind.INT:
                return _integer(described)
            case BtfKind.FLOAT:
                return Array(UINT8, described.size)
            case BtfKind.PTR:
                target = space
                if self._tag(described.target) == "user":
                    target = AddressSpace.USER
                return Pointer(self.of(described.target, target), target)
            case BtfKind.ARRAY:
                return self._array(described, space)
            case BtfKind.STRUCT | BtfKind.UNION:
                number = self._numbered(stripped)
                return Struct(_COMPOUND[described.kind], described.name, described.size, number)
            case BtfKind.FWD:
                keyword = "union" if described.flag else "struct"
                return self.struct(keyword, described.name) or Struct(keyword, described.name, 0)
            case BtfKind.ENUM | BtfKind.ENUM64:
                return Enumeration(described.name, described.size * 8, described.signed, described.values)
            case _:
                return VOID  # function prototypes: pointers to code point to nothing that is read

    def _array(self, described: BtfType, space: AddressSpace) -> Type:
        assert self._btf is not None
        stripped = self._btf.strip(described.target)
        is_integer = stripped and self._btf.kind(stripped) is BtfKind.INT
        if described.count and is_integer and self._describe(stripped).name == "char":
            return String(described.count)
        return Array(self.of(described.target, space), described.count)

    def _tag(self, type_id: int) -> str | None:
        """Return the tag of a pointer's target: "user", "rcu", "percpu" ... Clang's kernels have them."""
        assert self._btf is not None
        while type_id:
            described = self._describe(type_id)
            if described.kind is BtfKind.TYPE_TAG:
                return described.name
            if described.kind not in (BtfKind.CONST, BtfKind.VOLATILE, BtfKind.RESTRICT):
                return None
            type_id = described.target
        return None

    # Types by name.

    def struct(self, keyword: str, name: str) -> Struct | None:
        """Return a struct or union by name."""
        found = self._find(_KIND_OF_KEYWORD[keyword], name)
        if found is not None and self._btf is not None:
            return Struct(keyword, name, self._btf.size(found), self._numbered(found))
        for other in self._others:
            of_other = other.struct(keyword, name)
            if of_other is not None:
                return of_other
        return None

    def typedef(self, name: str) -> Type | None:
        """Return what a typedef or one of C's own names stands for."""
        base = _BASE.get(name)
        if base is not None:
            return base
        found = self.typedef_id(name)
        return self.of(found) if found is not None else None

    def typedef_id(self, name: str) -> int | None:
        return self._find(BtfKind.TYPEDEF, name)

    def has_typedef(self, name: str) -> bool:
        """Whether there is a typedef of this name; much cheaper than its id."""
        return self._btf is not None and self._btf.contains(BtfKind.TYPEDEF, name)

    def has_name(self, name: str) -> bool:
        """Whether anything in the kernel has a name: for names that could be nothing else's. Cheaper still."""
        return self._btf is not None and self._btf.has_name(name)

    def own_typedef(self, name: str) -> bool:
        """Whether there is a typedef of this name that is not only in what these types build upon."""
        if not self._first:
            return self.has_typedef(name)
        found = self.typedef_id(name)
        return found is not None and found >= self._first

    def own_typedef_names(self, prefix: str) -> list[str]:
        return [name for name in self.typedef_names(prefix) if self.own_typedef(name)]

    def typedef_names(self, prefix: str) -> list[str]:
        """Return all typedefs that begin so. Reads all types: milliseconds, not microseconds."""
        return self._names(BtfKind.TYPEDEF, prefix)

    def _names(self, kind: BtfKind, prefix: str) -> list[str]:
        found = self._btf.names(kind, prefix) if self._btf is not None else []
        # Of equal names the first counts, but a module's own before the kernel's.
        for name, type_id in sorted(found, key=self._preference) if self._first else reversed(found):
            self._ids[kind, name] = type_id
        return [name for name, _ in found]

    def _preference(self, found: tuple[str, int]) -> tuple[bool, int]:
        return found[1] >= self._first, -found[1]

    def enumeration(self, name: str) -> Enumeration | None:
        for kind in (BtfKind.ENUM, BtfKind.ENUM64):
            found = self._find(kind, name)
            if found is not None:
                built = self.of(found)
                return built if isinstance(built, Enumeration) else None
        return None

    def from_text(self, text: str, space: AddressSpace = AddressSpace.KERNEL) -> Type | None:
        """Return the type that a C declaration without a name stands for: ``const char *``,
        ``struct sockaddr *``, ``umode_t``. None if the kernel has no such type."""
        words = [word for word in text.replace("*", " * ").split() if word not in _QUALIFIERS]
        depth = words.count("*")
        words = [word for word in words if word != "*"]
        match words:
            case ["struct" | "union" as keyword, name]:
                found: Type | None = self.struct(keyword, name)
                if found is None and depth:
                    found = VOID
            case ["enum", name]:
                found = self.enumeration(name)
            case _:
                found = self._named(" ".join(words), space)
                if found is None and depth:
                    found = VOID
        if found is None:
            return None
        for _ in range(depth):
            found = Pointer(found, space)
        return found

    def _named(self, name: str, space: AddressSpace) -> Type | None:
        base = _BASE.get(name)
        if base is not None:
            return base
        found = self.typedef_id(name)
        return self.of(found, space) if found is not None else None

    def _describe(self, type_id: int) -> BtfType:
        """Read a type once: a large struct has hundreds of members, and is asked for at each use."""
        assert self._btf is not None
        found = self._described.get(type_id)
        if found is None:
            found = self._described[type_id] = self._btf.type(type_id)
        return found

    def _find(self, kind: BtfKind, name: str) -> int | None:
        key = (kind, name)
        if key not in self._ids:
            self._ids[key] = self._btf.find(kind, name) if self._btf is not None else None
        return self._ids[key]

    # Members.

    def fields(self, struct: Struct) -> tuple[Field, ...]:
        """Return all members, those of anonymous structs and unions with them."""
        owner = self._owner(struct)
        return tuple(owner._field(*found) for found in owner._members(struct.type_id & _LOCAL, 0, overlaid=False))

    def field(self, struct: Struct, name: str) -> Field | None:
        """Return one member; the others' types are not looked at."""
        owner, type_id = self._owner(struct), struct.type_id & _LOCAL
        members = owner._members_of.get(type_id)
        if members is None:
            members = owner._members_of[type_id] = {}
            for found in owner._members(type_id, 0, overlaid=False):
                members.setdefault(found[0].name, found)
        return owner._field(*members[name]) if name in members else None

    def _members(self, type_id: int, base_bits: int, *, overlaid: bool) -> Iterator[tuple[BtfMember, int, bool]]:
        """Yield each named member, its offset in bits from the outermost struct, and whether others share its place."""
        if self._btf is None or not type_id:
            return
        described = self._describe(type_id)
        overlaid = overlaid or described.kind is BtfKind.UNION
        for member in described.members:
            offset = base_bits + member.bit_offset
            if member.name:
                yield member, offset, overlaid
                continue
            inner = self._btf.strip(member.type)
            if self._btf.kind(inner) in _COMPOUND:
                yield from self._members(inner, offset, overlaid=overlaid)

    def _field(self, member: BtfMember, offset_bits: int, overlaid: bool) -> Field:
        assert self._btf is not None
        found = self.of(member.type)
        stripped = self._btf.strip(member.type)
        is_pointer = stripped and self._btf.kind(stripped) is BtfKind.PTR
        tag = self._tag(self._btf.target(stripped)) if is_pointer else None
        if not member.bit_size:
            return Field(member.name, found, offset_bits // 8, tag=tag, overlaid=overlaid)
        # The unit that C's compiler would load: aligned to its size, unless the field crosses its end.
        unit = size_bytes(found) * 8
        start = offset_bits // unit * unit
        if offset_bits + member.bit_size > start + unit:
            start = offset_bits // 8 * 8
        return Field(member.name, found, start // 8, offset_bits - start, member.bit_size, tag, overlaid)

    # Enum constants.

    def enum_constant(self, name: str) -> tuple[Enumeration, int] | None:
        """Return the enum that has a constant, and the constant's value."""
        if self._btf is None:
            return None
        found = self._btf.enumerator(name)
        if found is None:
            return None
        type_id, value = found
        built = self.of(type_id)
        return (built, value) if isinstance(built, Enumeration) else None

    # Functions.

    def function_id(self, name: str) -> int | None:
        return self._find(BtfKind.FUNC, name)

    def own_function_id(self, name: str) -> int | None:
        """Return the BTF id of a function that is not only in what these types build upon."""
        found = self.function_id(name)
        return found if found is not None and found >= self._first else None

    def has_function(self, name: str) -> bool:
        """Whether BTF has a function of this name; much cheaper than its id."""
        return self._btf is not None and self._btf.contains(BtfKind.FUNC, name)

    def function_names(self, prefix: str = "") -> list[str]:
        """Return all functions that begin so. Reads all types: milliseconds, not microseconds."""
        return self._names(BtfKind.FUNC, prefix)

    def variable_id(self, name: str) -> int | None:
        return self._find(BtfKind.VAR, name)

    def function(self, name: str) -> Prototype | None:
        """Return the prototype of a kernel function; None if BTF does not know it."""
        found = self.function_id(name)
        if found is None or self._btf is None:
            return None
        return self._prototype(self._describe(found).target)

    def typedef_prototype(self, name: str) -> Prototype:
        """Return the prototype behind a typedef of a pointer to a function; empty if there is none."""
        found = self.typedef_id(name)
        if found is None or self._btf is None:
            return Prototype((), 0)
        pointer = self._describe(self._btf.strip(found))
        return self._prototype(pointer.target)

    def _prototype(self, type_id: int) -> Prototype:
        assert self._btf is not None
        described = self._describe(type_id)
        if described.kind is not BtfKind.FUNC_PROTO:
            return Prototype((), 0)
        parameters = tuple((parameter.name, parameter.type) for parameter in described.parameters)
        return Prototype(parameters, described.target)

    # C text.

    def spelling(self, type_id: int) -> str:
        """Return a type as C writes it: ``const char *``, ``struct task_struct *``, ``unsigned int``."""
        return " ".join(self._declared(type_id, "").split())

    def declaration(self, type_id: int, name: str) -> str:
        """Return the declaration of something of the type: ``char comm[16]``, ``int (*fn)(void *)``."""
        return self._declared(type_id, name)

    def _declared(self, type_id: int, inner: str) -> str:
        if not type_id or self._btf is None:
            return _joined("void", inner)
        described = self._describe(type_id)
        match described.kind:
            case BtfKind.PTR:
                return self._declared_pointer(described, inner)
            case BtfKind.ARRAY:
                return self._declared(described.target, f"{inner}[{described.count}]")
            case BtfKind.CONST | BtfKind.VOLATILE | BtfKind.RESTRICT:
                word = described.kind.name.lower()
                if self._describe(described.target).kind is BtfKind.PTR if described.target else False:
                    return self._declared(described.target, _joined(word, inner))
                return f"{word} {self._declared(described.target, inner)}"
            case BtfKind.TYPE_TAG:
                return self._declared(described.target, inner)
            case BtfKind.FUNC_PROTO:
                parameters = ", ".join(self.spelling(parameter.type) for parameter in described.parameters)
                return self._declared(described.target, f"{inner}({parameters or 'void'})")
            case BtfKind.STRUCT | BtfKind.UNION | BtfKind.FWD | BtfKind.ENUM | BtfKind.ENUM64:
                return _joined(f"{_keyword(described)} {described.name or '{...}'}", inner)
            case _:
                return _joined(described.name, inner)

    def _declared_pointer(self, described: BtfType, inner: str) -> str:
        assert self._btf is not None
        target = self._describe(described.target).kind if described.target else None
        star = "*" + inner
        return self._declared(described.target, f"({star})" if target in (BtfKind.FUNC_PROTO, BtfKind.ARRAY) else star)


def _joined(left: str, right: str) -> str:
    return f"{left} {right}" if right else left


def _keyword(described: BtfType) -> str:
    match described.kind:
        case BtfKind.UNION:
            return "union"
        case BtfKind.ENUM | BtfKind.ENUM64:
            return "enum"
        case BtfKind.FWD:
            return "union" if described.flag else "struct"
        case _:
            return "struct"


def _integer(described: BtfType) -> Type:
    if described.boolean:
        return BOOL
    if described.size in (1, 2, 4, 8):
        return Int(described.size * 8, described.signed)
    return Array(UINT8, described.size)
