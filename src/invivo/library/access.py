"""Loading what the context offers: arguments, registers, return values (`target.Access`)."""

from __future__ import annotations

from typing import assert_never

from invivo.ir import helpers
from invivo.ir import types as t
from invivo.ir.builder import Builder
from invivo.ir.ops import CompareOp, Kind, Operand
from invivo.ir.types import Type
from invivo.library.record import Emit, Place
from invivo.target import (
    Access,
    ContextAddress,
    ContextData,
    ContextLoad,
    ContextPointer,
    Known,
    OutOfReach,
    UserMemory,
)


def load_access(emit: Emit, access: Access, type_: Type, place: Place | None) -> Operand | None:
    """Load a value of the context; one that lives in memory is copied to ``place``."""
    match access:
        case ContextLoad(offset, size, signed):
            word: Operand = _context_word(emit, offset, size, signed, type_)
        case ContextPointer(slot, offset, size, signed):
            word = _through_pointer(emit, slot, offset, size, signed)
        case ContextData(offset, relative):
            location = emit.b.load(emit.context_pointer(), offset, 4)
            start = emit.b.mask(location, 0xFFFF)
            if relative:
                start = emit.b.add(start, offset + 4)
            return emit.b.add(emit.context_word(), start)
        case ContextAddress(offset):
            size = t.size_bytes(type_)
            held = emit.temporary(8) if place is None else place
            _copy_from_context(emit, offset, size, held)
            if place is not None:
                return None
            word = emit.b.load(held.pointer, held.offset, size)
        case UserMemory():
            word = read_word(emit, t.AddressSpace.USER, _user_address(emit, access), access.size, signed=access.signed)
        case Known(value):
            return value
        case OutOfReach(text):
            raise AssertionError(f"{text} passed the checker")
        case _:
            assert_never(access)
    if isinstance(type_, t.Int | t.Enumeration) and type_.bits < 64:
        return emit.b.extend(word, type_.bits, type_.signed)
    return word


def _context_word(emit: Emit, offset: int, size: int, signed: bool, type_: Type) -> Operand:
    context = emit.context_pointer()
    if not (emit.context.btf_pointers and isinstance(type_, t.Pointer)):
        return emit.b.load(context, offset, size, signed)
    # The verifier knows this word to be a typed pointer and refuses arithmetic on it: a helper
    # reads it as a plain number.
    cell = emit.temporary(8)
    target = emit.b.offset(cell.pointer, cell.offset)
    emit.b.call_void(helpers.PROBE_READ_KERNEL, target, 8, emit.b.offset(context, offset))
    return emit.b.load(cell.pointer, cell.offset, 8)


def _through_pointer(emit: Emit, slot: int, offset: int, size: int, signed: bool) -> Operand:
    if emit.context.btf_pointers:
        pointer = emit.b.load(emit.context_pointer(), slot, 8, kind=Kind.BTF)
        return emit.b.load(pointer, offset, size, signed)
    pointer = emit.b.load(emit.context_pointer(), slot, 8)
    return read_word(emit, t.AddressSpace.KERNEL, emit.b.add(pointer, offset), size, signed=signed)


def _user_address(emit: Emit, access: UserMemory) -> Operand:
    address: Operand = access.offset
    if access.base is not None:
        address = emit.b.add(emit.b.load(emit.context_pointer(), access.base, 8), address)
    if access.index is not None:
        index = emit.b.load(emit.context_pointer(), access.index, 8)
        address = emit.b.add(emit.b.shift_left(index, access.scale.bit_length() - 1), address)
    return address


def _copy_from_context(emit: Emit, offset: int, size: int, place: Place) -> None:
    source = emit.b.offset(emit.context_pointer(), offset)
    target = emit.b.offset(place.pointer, place.offset)
    emit.fault_guard(emit.b.call(helpers.PROBE_READ_KERNEL, target, size, source))


def read_word(emit: Emit, space: t.AddressSpace, address: Operand, size: int, *, signed: bool) -> Operand:
    """Read a number from traced memory; 0 if it cannot be read, which is counted."""
    cell = emit.temporary(8)
    target = emit.b.offset(cell.pointer, cell.offset)
    emit.fault_guard(emit.b.call(read_helper(space), target, size, address))
    return emit.b.load(cell.pointer, cell.offset, size, signed)


def read_helper(space: t.AddressSpace) -> int:
    return helpers.PROBE_READ_USER if space is t.AddressSpace.USER else helpers.PROBE_READ_KERNEL


def read_string_helper(space: t.AddressSpace) -> int:
    return helpers.PROBE_READ_USER_STR if space is t.AddressSpace.USER else helpers.PROBE_READ_KERNEL_STR


UNREAD = "<unread>"  # what a string shows whose memory could not be read


def guard_string(emit: Emit, code: Operand, place: Place, capacity: int) -> None:
    """Count a failed read of a string and put a mark in its place, so that it is not taken for empty.

    The neighbour shows an empty string.
    """
    if emit.bpftrace or capacity <= len(UNREAD):
        emit.fault_guard(code)
        return
    b = emit.b
    failed, on = b.label("fault"), b.label("read")
    b.branch(CompareOp.SLT, code, 0, failed, on)
    b.start(failed)
    emit.read_failed(code)
    store_text(b, UNREAD, capacity, place)
    b.start(on)


def store_text(b: Builder, text: str, capacity: int, place: Place) -> None:
    """Write a text and its terminator in words as wide as the alignment allows."""
    data = text.encode("latin-1")[: capacity - 1] + b"\0"
    position = 0
    while position < len(data):
        size = common_alignment(place.offset + position)
        while position + size > capacity:
            size //= 2
        chunk = data[position : position + size].ljust(size, b"\0")
        b.store(place.pointer, place.offset + position, size, int.from_bytes(chunk, "little"))
        position += size


def common_alignment(*offsets: int) -> int:
    """The greatest power of two up to 8 that divides all offsets."""
    merged = 8
    for offset in offsets:
        merged |= offset
    return merged & -merged
