"""The kernel's description of a tracepoint's record: ``events/CATEGORY/EVENT/format``, read and typed."""

from __future__ import annotations

from invivo.enums import Enum
from invivo.ir.types import AddressSpace, Array, Enumeration, Int, Pointer, String, Type, size_bytes
from invivo.probes.kernel_types import KernelTypes
from invivo.record import Record
from invivo.target import Access, Argument, ContextAddress, ContextData, ContextLoad

# struct trace_entry, include/linux/trace_events.h: programs may not read it, nor the pointer laid over it.
COMMON_SIZE = 8


class Shape(Enum):
    """How a field's data are reached."""

    VALUE = "value"
    ARRAY = "array"
    DATA_LOC = "data_loc"  # u32: the data's offset from the start of the record, and their size
    REL_LOC = "rel_loc"  # u32: their offset from the end of this word, and their size


class EventField(Record):
    """A field as the file describes it.

    ``c_type`` is the type of one element, without brackets; ``declaration`` are type and name
    as the file has them: ``("char", "comm[16]")``, ``("__data_loc char[]", "filename")``.
    """

    name: str
    c_type: str
    shape: Shape
    offset: int
    size: int
    signed: bool
    declaration: tuple[str, str]


def parse_format(text: str) -> tuple[EventField, ...]:
    """Return an event's own fields (not the common ones) from the text of its format file.

    A line is ``field:TYPE NAME[LENGTH];	offset:N;	size:N;	signed:N;``.  Lines of
    another form are left out.
    """
    fields: list[EventField] = []
    for line in text.splitlines():
        if line.startswith("\tfield:"):
            field = _parse_field(line)
            if field is not None and field.offset >= COMMON_SIZE:
                fields.append(field)
    return tuple(fields)


def _parse_field(line: str) -> EventField | None:
    parts: dict[str, str] = {}
    for part in line.strip().split(";"):
        key, _, value = part.strip().partition(":")
        parts[key] = value
    try:
        offset, size, signed = int(parts["offset"]), int(parts["size"]), parts.get("signed", "0") == "1"
    except (KeyError, ValueError):
        return None
    declaration = parts["field"]
    left, _, right = declaration.rpartition(" ")
    shape = Shape.VALUE
    for prefix, dynamic in (("__data_loc ", Shape.DATA_LOC), ("__rel_loc ", Shape.REL_LOC)):
        if declaration.startswith(prefix):
            declaration, shape = declaration[len(prefix) :], dynamic
    c_type, _, name = declaration.rpartition(" ")
    if "[" in name:  # char comm[16]
        name = name[: name.index("[")]
        shape = Shape.ARRAY if shape is Shape.VALUE else shape
    if c_type.endswith("]"):  # __data_loc char[] name
        c_type = c_type[: c_type.rindex("[")]
    while name.startswith("*"):
        name, c_type = name[1:], c_type + " *"
    c_type = c_type.strip()
    if not name or not c_type:
        return None
    return EventField(name, c_type, shape, offset, size, signed, (left, right))


def field_type(field: EventField, types: KernelTypes, space: AddressSpace) -> Type:
    """Return the type that a field's value has in a program."""
    element = types.from_text(field.c_type, space)
    match field.shape:
        case Shape.VALUE:
            return _sized(element, field)
        case Shape.DATA_LOC | Shape.REL_LOC:
            # The data are in the record itself, whatever the event's other pointers point to.
            return Pointer(element if element is not None else Int(8, field.signed), AddressSpace.KERNEL)
        case Shape.ARRAY:
            if field.c_type in ("char", "const char") and field.size:
                return String(field.size)
            if element is None or not size_bytes(element):
                return Array(Int(8, False), field.size)
            return Array(element, field.size // size_bytes(element))


def _sized(found: Type | None, field: EventField) -> Type:
    """Return the type found by name, if it has the size that the record has room for.

    Some events store a type in a smaller or larger word than its name says.
    """
    if found is not None and size_bytes(found) == field.size:
        return found
    if field.size in (1, 2, 4, 8):
        return Int(field.size * 8, field.signed)
    return Array(Int(8, False), field.size)


def record_access(field: EventField, found: Type) -> Access:
    """Return how a program whose context is the event's record reaches a field."""
    match field.shape:
        case Shape.DATA_LOC:
            return ContextData(field.offset)
        case Shape.REL_LOC:
            return ContextData(field.offset, relative=True)
        case Shape.VALUE | Shape.ARRAY:
            # tp_prog_is_valid_access (kernel/trace/bpf_trace.c) allows aligned loads only.
            if field.shape is Shape.ARRAY or field.size not in (1, 2, 4, 8) or field.offset % field.size:
                return ContextAddress(field.offset)
            return ContextLoad(field.offset, field.size, is_signed(found))


def is_signed(found: Type) -> bool:
    """Whether a load of the type extends its sign."""
    return isinstance(found, (Int, Enumeration)) and found.signed


def record_arguments(fields: tuple[EventField, ...], types: KernelTypes, space: AddressSpace) -> tuple[Argument, ...]:
    """Return the members of ``args`` for a program whose context is the event's record."""
    arguments: list[Argument] = []
    for field in fields:
        found = field_type(field, types, space)
        arguments.append(Argument(field.name, found, record_access(field, found)))
    return tuple(arguments)
