"""Debug information (DWARF 2 to 5) of one function at a time: its parameters, where they are at its entry, their types.

pyelftools takes the entries apart.  Here is what keeps that quick and safe: the function's unit is found by
.debug_aranges, entries are walked in the order in which they stand, and whatever a damaged file makes of that
is a `BadFileError`.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from typing import Any, Final

from elftools.dwarf.compileunit import CompileUnit
from elftools.dwarf.die import DIE
from elftools.dwarf.dwarf_expr import DWARFExprParser
from elftools.dwarf.dwarfinfo import DWARFInfo
from elftools.dwarf.locationlists import BaseAddressEntry, LocationEntry, LocationExpr, LocationParser
from elftools.dwarf.ranges import BaseAddressEntry as RangeBase
from elftools.elf.elffile import ELFFile

from invivo.enums import Enum
from invivo.errors import BadFileError
from invivo.formats.elf import Elf
from invivo.record import Record

_ARANGES_HEADER: Final = struct.Struct("<IHIBB")  # length, version, offset of the unit, sizes of address and segment
_PAIR: Final = struct.Struct("<QQ")
_DEEPEST: Final = 64  # qualifiers and names around one type
_MOST_ENTRIES: Final = 4_000_000  # that are looked at for one question

_BY_REFERENCE: Final = 4  # DW_CC_pass_by_reference
_NO_CONVENTION: Final = 5  # DW_CC_nocall: not called as its source says


class DwarfKind(Enum):
    VOID = "void"
    INTEGER = "integer"
    BOOL = "bool"
    FLOAT = "float"
    POINTER = "pointer"
    STRUCT = "struct"
    UNION = "union"
    ENUM = "enum"
    ARRAY = "array"
    OTHER = "other"  # pointers to members, complex numbers


class DwarfMember(Record):
    """A member: its place counts from the outermost struct; ``bit_size`` is 0 for an ordinary one."""

    name: str
    type: int
    bit_offset: int
    bit_size: int
    overlaid: bool


class DwarfType(Record):
    """A type without names and qualifiers around it. ``target`` is what a pointer points to, an array's element."""

    kind: DwarfKind
    name: str
    size: int
    signed: bool = False
    target: int = 0
    counts: tuple[int, ...] = ()  # of an array, outermost first
    by_reference: bool = False  # a C++ object that is handed over as a pointer


class InRegister(Record):
    """DWARF's number of a register."""

    number: int


class OnStack(Record):
    """Bytes above the stack pointer at the entry."""

    offset: int


class Constant(Record):
    value: int


class ByConvention(Record):
    """What is said of it does not hold at the entry: it is where the calling convention puts it."""


class Gone(Record):
    """It has no place at the entry."""


DwarfPlace = InRegister | OnStack | Constant | ByConvention | Gone


class DwarfParameter(Record):
    name: str
    type: int  # a handle for `Dwarf.type`
    place: DwarfPlace


class DwarfFunction(Record):
    """``result`` is a handle, 0 for none. ``conventional``: called as the ABI says."""

    parameters: tuple[DwarfParameter, ...]
    result: int
    conventional: bool


class DwarfLine(Record):
    """An instruction that a statement begins with; ``column`` is 0 if it is not known."""

    line: int
    column: int
    address: int


class Dwarf:
    """A file's debug information. Every method raises `BadFileError` on garbage.

    Types are named by handles, which count up from 1; 0 is void.
    """

    def __init__(self, elf: Elf, supplement: Elf | None = None) -> None:
        """``supplement``: the file to which ``dwz`` moved what several files have."""
        self.path = elf.path
        try:
            self.info = _open(elf)
            if supplement is not None:
                self.info.supplementary_dwarfinfo = _open(supplement)
            self._aranges = _parse_aranges(elf)
        except MISTAKES as error:
            raise self._bad(error) from error
        self._dies: list[DIE] = []
        self._handles: dict[int, int] = {}
        self._functions: dict[int, DwarfFunction | None] = {}
        self._walks: dict[int, tuple[Iterator[tuple[int, DIE]], dict[int, DIE]]] = {}

    def function(self, address: int) -> DwarfFunction | None:
        """Return the function that begins at an address; None if there is no such entry."""
        if address not in self._functions:
            try:
                self._functions[address] = self._read_function(address)
            except MISTAKES as error:
                raise self._bad(error) from error
        return self._functions[address]

    def type(self, handle: int) -> DwarfType:
        """Return the type of a handle, names and qualifiers taken off."""
        try:
            return self._read_type(handle)
        except MISTAKES as error:
            raise self._bad(error) from error

    def members(self, handle: int) -> tuple[DwarfMember, ...]:
        """Return the members of a struct or union; those of base classes and unnamed members with them."""
        try:
            return tuple(self._members(self._stripped(handle), 0, overlaid=False, depth=0))
        except MISTAKES as error:
            raise self._bad(error) from error

    def variants(self, handle: int) -> tuple[tuple[str, int], ...]:
        """Return names and values of an enum."""
        try:
            die = self._stripped(handle)
            return () if die is None else tuple(_variants(die))
        except MISTAKES as error:
            raise self._bad(error) from error

    def spelling(self, handle: int) -> str:
        """Return a type as C writes it: ``const char *``, ``struct point``."""
        try:
            return _spelling(self._die(handle), 0)
        except MISTAKES as error:
            raise self._bad(error) from error

    def units(self) -> Iterator[tuple[CompileUnit, DIE]]:
        """Yield each unit with its first entry."""
        at = 0
        size = self.info.debug_info_sec.size if self.info.debug_info_sec is not None else 0
        while at < size:
            unit = self.info.get_CU_at(at)
            if unit.size <= 0:
                raise BadFileError(self.path, "a unit without size", at)
            yield unit, unit.get_top_DIE()
            at += unit.size

    def lines(self, file: str) -> list[DwarfLine]:
        """Return the rows of the line tables for a source file, named by its path or the end of it."""
        try:
            return list(self._lines(file))
        except MISTAKES as error:
            raise self._bad(error) from error

    def _lines(self, file: str) -> Iterator[DwarfLine]:
        units = list(self.units())
        own = [pair for pair in units if _is_path(text(pair[1].attributes.get("DW_AT_name")), file)]
        # Only files that others include have to be looked for everywhere.
        for unit, _ in own or units:
            program: Any = self.info.line_program_for_CU(unit)
            if program is None:
                continue
            wanted = {index for index, path in source_files(program) if _is_path(path, file)}
            for entry in program.get_entries() if wanted else ():
                state = entry.state
                if state is not None and state.file in wanted and state.is_stmt and not state.end_sequence:
                    yield DwarfLine(state.line, state.column, state.address)

    # -- functions -----------------------------------------------------------------------------

    def _read_function(self, address: int) -> DwarfFunction | None:
        unit = self.unit(address)
        die = None if unit is None else self._find(unit, address)
        if die is None:
            return None
        origin = _origin(die)
        own = [child for child in children(die) if child.tag == "DW_TAG_formal_parameter"]
        convention = number(
            attribute(origin, "DW_AT_calling_convention") or die.attributes.get("DW_AT_calling_convention")
        )
        external = attribute(die, "DW_AT_external") is not None
        return DwarfFunction(
            tuple(self._parameter(child, die, address, external=external) for child in own),
            self._handle(_referred(origin, "DW_AT_type")),
            convention != _NO_CONVENTION,
        )

    def _find(self, unit: CompileUnit, address: int) -> DIE | None:
        """Look on where the last search in the unit has ended."""
        if unit.cu_offset not in self._walks:
            self._walks[unit.cu_offset] = beginnings(self.info, unit), {}
        walk, known = self._walks[unit.cu_offset]
        while address not in known:
            found = next(walk, None)
            if found is None:
                return None
            known.setdefault(*found)
        return known[address]

    def _parameter(self, die: DIE, function: DIE, address: int, *, external: bool) -> DwarfParameter:
        origin = _origin(die)
        name = text(attribute(origin, "DW_AT_name") or die.attributes.get("DW_AT_name"))
        target = _referred(die, "DW_AT_type") or _referred(origin, "DW_AT_type")
        return DwarfParameter(name, self._handle(target), self._place(die, function, address, external=external))

    def _place(self, die: DIE, function: DIE, address: int, *, external: bool) -> DwarfPlace:
        constant = die.attributes.get("DW_AT_const_value")
        if constant is not None:
            return Constant(constant.value) if isinstance(constant.value, int) else Gone()
        location = die.attributes.get("DW_AT_location")
        if location is None:
            # Who calls a function of the whole program keeps to the convention; one of a unit may be changed with
            # its callers.
            return ByConvention() if external else Gone()
        parser = LocationParser(self.info.location_lists())
        found: Any = parser.parse_from_attribute(location, die.cu["version"], die)
        if isinstance(found, LocationExpr):
            return _place_of(die, function, found.loc_expr, everywhere=True)
        base = number(die.cu.get_top_DIE().attributes.get("DW_AT_low_pc"))
        for entry in found:
            if isinstance(entry, BaseAddressEntry):
                base = entry.base_address
            elif isinstance(entry, LocationEntry):
                start = 0 if entry.is_absolute else base
                if start + entry.begin_offset <= address < start + entry.end_offset:
                    return _place_of(die, function, entry.loc_expr, everywhere=False)
        return ByConvention() if external else Gone()

    def unit(self, address: int) -> CompileUnit | None:
        """Return the unit that an address is in."""
        for start, length, offset in self._aranges:
            if start <= address < start + length:
                return self.info.get_CU_at(offset)
        for unit, top in self.units():
            if covers(self.info, top, address):
                return unit
        return None

    # -- types ---------------------------------------------------------------------------------

    def _handle(self, die: DIE | None) -> int:
        if die is None:
            return 0
        if die.offset not in self._handles:
            self._dies.append(die)
            self._handles[die.offset] = len(self._dies)
        return self._handles[die.offset]

    def _die(self, handle: int) -> DIE | None:
        return self._dies[handle - 1] if handle else None

    def _stripped(self, handle: int) -> DIE | None:
        die = self._die(handle)
        for _ in range(_DEEPEST):
            if die is None or die.tag not in _AROUND:
                return die
            die = _referred(die, "DW_AT_type")
        raise BadFileError(self.path, "a type is a name for itself")

    def _read_type(self, handle: int) -> DwarfType:
        die = self._stripped(handle)
        if die is None or die.tag in ("DW_TAG_unspecified_type", "DW_TAG_subroutine_type"):
            return DwarfType(DwarfKind.VOID, "", 0)
        name, size = text(die.attributes.get("DW_AT_name")), number(die.attributes.get("DW_AT_byte_size"))
        target = _referred(die, "DW_AT_type")
        match die.tag:
            case "DW_TAG_base_type":
                kind, signed = _ENCODINGS.get(number(die.attributes.get("DW_AT_encoding")), (DwarfKind.OTHER, False))
                return DwarfType(kind, name, size, signed)
            case "DW_TAG_pointer_type" | "DW_TAG_reference_type" | "DW_TAG_rvalue_reference_type":
                return DwarfType(DwarfKind.POINTER, "", 8, target=self._handle(target))
            case "DW_TAG_structure_type" | "DW_TAG_class_type" | "DW_TAG_union_type":
                kind = DwarfKind.UNION if die.tag == "DW_TAG_union_type" else DwarfKind.STRUCT
                by_reference = number(die.attributes.get("DW_AT_calling_convention")) == _BY_REFERENCE
                return DwarfType(kind, name, size, by_reference=by_reference)
            case "DW_TAG_enumeration_type":
                signed = any(value < 0 for _, value in _variants(die))
                return DwarfType(DwarfKind.ENUM, name, size, signed)
            case "DW_TAG_array_type" if "DW_AT_GNU_vector" not in die.attributes:
                return DwarfType(DwarfKind.ARRAY, "", size, target=self._handle(target), counts=tuple(_counts(die)))
            case _:
                return DwarfType(DwarfKind.OTHER, name, size)

    def _members(self, die: DIE | None, base: int, *, overlaid: bool, depth: int) -> Iterator[DwarfMember]:
        """Yield each named member with its offset in bits from the outermost struct."""
        if die is None or die.tag not in _COMPOUNDS or depth > _DEEPEST:
            return
        overlaid = overlaid or die.tag == "DW_TAG_union_type"
        for child in children(die):
            if child.tag not in ("DW_TAG_member", "DW_TAG_inheritance") or "DW_AT_declaration" in child.attributes:
                continue
            if "DW_AT_external" in child.attributes and "DW_AT_data_member_location" not in child.attributes:
                continue  # a static member
            start = _bit_offset(child, base)
            if start is None:
                continue  # of a virtual base: only the object itself knows
            target = _referred(child, "DW_AT_type")
            name = text(child.attributes.get("DW_AT_name"))
            if not name:
                inner = self._stripped(self._handle(target))
                yield from self._members(inner, start, overlaid=overlaid, depth=depth + 1)
                continue
            size = number(child.attributes.get("DW_AT_bit_size"))
            yield DwarfMember(name, self._handle(target), start, size, overlaid)

    def _bad(self, error: Exception) -> BadFileError:
        if isinstance(error, BadFileError):
            return error
        return BadFileError(self.path, f"its debug information cannot be read ({type(error).__name__}: {error})")


def _open(elf: Elf) -> DWARFInfo:
    return ELFFile(elf.stream()).get_dwarf_info(relocate_dwarf_sections=False, follow_links=False)


# What a reader of damaged entries runs into.
MISTAKES: Final = (Exception,)

_AROUND: Final = frozenset({
    "DW_TAG_typedef", "DW_TAG_const_type", "DW_TAG_volatile_type", "DW_TAG_restrict_type", "DW_TAG_atomic_type",
    "DW_TAG_immutable_type",
})  # fmt: skip
_COMPOUNDS: Final = ("DW_TAG_structure_type", "DW_TAG_class_type", "DW_TAG_union_type")

# DW_ATE_*
_ENCODINGS: Final = {
    0x02: (DwarfKind.BOOL, False),
    0x04: (DwarfKind.FLOAT, True),
    0x05: (DwarfKind.INTEGER, True),
    0x06: (DwarfKind.INTEGER, True),  # signed char
    0x07: (DwarfKind.INTEGER, False),
    0x08: (DwarfKind.INTEGER, False),  # unsigned char
    0x10: (DwarfKind.INTEGER, False),  # UTF
    0x01: (DwarfKind.INTEGER, False),  # address
}


def children(die: DIE) -> Iterator[DIE]:
    """Yield the entries below one. Only ever goes forward, whatever the entries say."""
    if not die.has_children:
        return
    unit = die.cu
    at = die.offset + die.size
    for _ in range(_MOST_ENTRIES):
        child = unit.get_DIE_from_refaddr(at)
        if child.is_null():
            return
        yield child
        at = _after(child)


def _after(die: DIE) -> int:
    at: int = die.offset + die.size
    sibling = die.attributes.get("DW_AT_sibling")
    if sibling is not None and sibling.form.startswith("DW_FORM_ref"):
        told = sibling.value + (0 if sibling.form == "DW_FORM_ref_addr" else die.cu.cu_offset)
        if told > die.offset:
            return int(told)
    depth = int(bool(die.has_children))
    while depth:
        inner = die.cu.get_DIE_from_refaddr(at)
        depth += -1 if inner.is_null() else int(bool(inner.has_children))
        at += inner.size
    return at


def beginnings(info: DWARFInfo, unit: CompileUnit) -> Iterator[tuple[int, DIE]]:
    """Yield where each function begins and its entry: at the top of its unit, or in a namespace."""
    spaces = [unit.get_top_DIE()]
    while spaces:
        for child in children(spaces.pop()):
            if child.tag == "DW_TAG_namespace":
                spaces.append(child)
            elif child.tag == "DW_TAG_subprogram":
                low = child.attributes.get("DW_AT_low_pc")
                if low is not None:
                    yield number(low), child
                elif "DW_AT_ranges" in child.attributes:  # the compiler has moved a part of it elsewhere
                    yield from ((start, child) for start, _ in _ranges(info, child))


def covers(info: DWARFInfo, top: DIE, address: int) -> bool:
    low = number(top.attributes.get("DW_AT_low_pc"))
    high = top.attributes.get("DW_AT_high_pc")
    if high is not None:
        end = high.value if high.form == "DW_FORM_addr" else low + high.value
        return bool(low <= address < end)
    return any(start <= address < end for start, end in _ranges(info, top))


def _ranges(info: DWARFInfo, die: DIE) -> Iterator[tuple[int, int]]:
    """Yield start and end of each range that an entry has."""
    unit: Any = die.cu
    base = number(unit.get_top_DIE().attributes.get("DW_AT_low_pc"))
    place = die.attributes.get("DW_AT_ranges")
    lists: Any = info.range_lists()
    if place is None or lists is None:
        return
    for entry in lists.get_range_list_at_offset(place.value, unit):
        if isinstance(entry, RangeBase):
            base = entry.base_address
        else:
            start = 0 if entry.is_absolute else base
            yield start + entry.begin_offset, start + entry.end_offset


def _place_of(die: DIE, function: DIE, expression: list[int], *, everywhere: bool) -> DwarfPlace:
    """Where an expression says that a parameter is, if it is so at the function's entry."""
    ops = DWARFExprParser(die.cu.structs).parse_expr(expression)
    if len(ops) != 1:
        return ByConvention() if everywhere else Gone()
    name, arguments = ops[0].op_name, ops[0].args
    if name.startswith("DW_OP_reg"):
        number = arguments[0] if name == "DW_OP_regx" else int(name[9:])
        # What is in one register all the time may have been moved there first.
        return InRegister(number) if not everywhere or number in _ARGUMENT_REGISTERS else ByConvention()
    if name == "DW_OP_fbreg" and _has_cfa_frame(function) and arguments[0] >= 0:
        return OnStack(8 + arguments[0])  # the return address lies between
    return ByConvention()


_ARGUMENT_REGISTERS: Final = frozenset({5, 4, 1, 2, 8, 9})  # rdi rsi rdx rcx r8 r9


def _has_cfa_frame(function: DIE) -> bool:
    base = function.attributes.get("DW_AT_frame_base")
    return base is not None and base.value == [0x9C]  # DW_OP_call_frame_cfa


def _parse_aranges(elf: Elf) -> list[tuple[int, int, int]]:
    """Return (start, length, offset of the unit) of all ranges; none if there is no such section."""
    section = elf.section(".debug_aranges")
    if section is None or section.flags & 0x800:  # SHF_COMPRESSED
        return []
    data = elf.content(section)
    found: list[tuple[int, int, int]] = []
    at = 0
    while at + _ARANGES_HEADER.size <= len(data):
        length, version, offset, address_size, segment_size = _ARANGES_HEADER.unpack_from(data, at)
        end = at + 4 + length
        if version != 2 or address_size != 8 or segment_size or end > len(data):
            return found
        first = at + 16  # pairs are aligned to their size
        usable = max(0, (end - first) // _PAIR.size * _PAIR.size)
        found += [(start, size, offset) for start, size in _PAIR.iter_unpack(data[first : first + usable]) if size]
        at = end
    return found


def _is_path(path: str, named: str) -> bool:
    """Whether a file is named by its path or the end of it."""
    return path == named or path.endswith("/" + named) or (named.endswith("/" + path) and not path.startswith("/"))


def source_files(program: Any) -> Iterator[tuple[int, str]]:
    """Yield number and path of each file that a line table speaks of."""
    header = program.header
    modern = header["version"] >= 5  # files and directories count from 0, with the unit's own directory
    listed: list[Any] = list(header["include_directory"])
    directories = [_decoded(each) for each in listed]
    for index, entry in enumerate(header["file_entry"], 0 if modern else 1):
        number: int = entry.dir_index if modern else entry.dir_index - 1
        directory = directories[number] if 0 <= number < len(directories) else ""
        name = _decoded(entry.name)
        yield index, name if name.startswith("/") or not directory else f"{directory}/{name}"


def _decoded(value: Any) -> str:
    return str(value.decode("utf-8", "replace")) if isinstance(value, bytes) else str(value)


def _origin(die: DIE) -> DIE:
    """Return the entry that tells what this one leaves out: its declaration, or the function that was copied."""
    found = die
    for _ in range(4):
        after = _referred(found, "DW_AT_abstract_origin") or _referred(found, "DW_AT_specification")
        if after is None:
            break
        found = after
    return found


def attribute(die: DIE, name: str) -> Any:
    found = die.attributes.get(name)
    return found if found is not None else _origin(die).attributes.get(name)


def _referred(die: DIE, name: str) -> DIE | None:
    return die.get_DIE_from_attribute(name) if name in die.attributes else None


def text(attribute: Any) -> str:
    if attribute is None or not isinstance(attribute.value, bytes):
        return ""
    return str(attribute.value.decode("utf-8", "replace"))


def number(attribute: Any, otherwise: int = 0) -> int:
    return attribute.value if attribute is not None and isinstance(attribute.value, int) else otherwise


def _variants(die: DIE) -> Iterator[tuple[str, int]]:
    for child in children(die):
        if child.tag == "DW_TAG_enumerator":
            yield text(child.attributes.get("DW_AT_name")), number(child.attributes.get("DW_AT_const_value"))


def _counts(die: DIE) -> Iterator[int]:
    for child in children(die):
        if child.tag == "DW_TAG_subrange_type":
            count = child.attributes.get("DW_AT_count")
            bound = child.attributes.get("DW_AT_upper_bound")
            yield number(count) if count is not None else number(bound, -1) + 1


def _bit_offset(die: DIE, base: int) -> int | None:
    place = die.attributes.get("DW_AT_data_member_location")
    start = base + 8 * number(place)
    if place is not None and not isinstance(place.value, int):
        ops = DWARFExprParser(die.cu.structs).parse_expr(place.value)
        if len(ops) != 1 or ops[0].op_name != "DW_OP_plus_uconst":
            return None
        start = base + 8 * ops[0].args[0]
    if "DW_AT_data_bit_offset" in die.attributes:
        return start + number(die.attributes["DW_AT_data_bit_offset"])
    before = die.attributes.get("DW_AT_bit_offset")
    if before is None:
        return start
    # Up to DWARF 3 counted from the most significant bit of the unit.
    unit = 8 * number(die.attributes.get("DW_AT_byte_size"), 4)
    return start + unit - number(before) - number(die.attributes.get("DW_AT_bit_size"))


_KEYWORDS: Final = {
    "DW_TAG_structure_type": "struct ",
    "DW_TAG_class_type": "class ",
    "DW_TAG_union_type": "union ",
    "DW_TAG_enumeration_type": "enum ",
}
_QUALIFIERS: Final = {
    "DW_TAG_const_type": "const",
    "DW_TAG_volatile_type": "volatile",
    "DW_TAG_restrict_type": "restrict",
    "DW_TAG_atomic_type": "_Atomic",
}
_SIGNS: Final = {"DW_TAG_pointer_type": "*", "DW_TAG_reference_type": "&", "DW_TAG_rvalue_reference_type": "&&"}


def _spelling(die: DIE | None, depth: int) -> str:
    if die is None or depth > _DEEPEST:
        return "void"
    target = _referred(die, "DW_AT_type")
    if die.tag in _SIGNS:
        if target is not None and target.tag == "DW_TAG_subroutine_type":
            parameters = [
                _spelling(_referred(child, "DW_AT_type"), depth + 1)
                for child in children(target)
                if child.tag == "DW_TAG_formal_parameter"
            ]
            result = _spelling(_referred(target, "DW_AT_type"), depth + 1)
            return f"{result} ({_SIGNS[die.tag]})({', '.join(parameters) or 'void'})"
        pointed = _spelling(target, depth + 1)
        return f"{pointed}{'' if pointed.endswith('*') else ' '}{_SIGNS[die.tag]}"
    if die.tag in _QUALIFIERS:
        inner, word = _spelling(target, depth + 1), _QUALIFIERS[die.tag]
        return f"{inner} {word}" if inner.endswith(("*", "&")) else f"{word} {inner}"
    if die.tag == "DW_TAG_array_type":
        return _spelling(target, depth + 1) + "".join(f"[{count}]" for count in _counts(die))
    name = text(die.attributes.get("DW_AT_name")) or "{...}"
    return f"{_KEYWORDS.get(str(die.tag), '')}{name}"
