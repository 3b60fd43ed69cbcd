"""Symbols of the traced program."""

from __future__ import annotations

import struct

from invivo.diagnostics import Code
from invivo.ir import helpers
from invivo.ir import types as t
from invivo.ir.layout import Unwatch
from invivo.ir.ops import Kind, Operand
from invivo.ir.types import AddressSpace, Type
from invivo.library.access import load_access, read_word
from invivo.library.record import Builtin, Emit, Place, Site
from invivo.library.spelling import spell_kind


def _check_uaddr(site: Site) -> Type:
    name = site.literal(0)
    bits = 64
    if not isinstance(name, str):
        site.error(Code.BAD_ARGUMENT, "uaddr() expects a string literal", argument=0)
        return t.Pointer(t.UINT64, AddressSpace.USER)
    for point in site.points:
        found = site.target.user_symbol(point, name)
        if found is None:
            where = point.name.partition(":")[2].rpartition(":")[0]
            site.error(Code.UNKNOWN_SYMBOL, f"Could not resolve symbol: {where}:{name}", argument=0)
        elif found[1] in (1, 2, 4, 8):
            bits = 8 * found[1]
    return t.Pointer(t.Int(bits, False), AddressSpace.USER)


def _probed_address(emit: Emit) -> Operand:
    """Where the probed instruction is in this process, wherever its file is mapped."""
    if emit.context.instruction_pointer is not None:
        pointer = load_access(emit, emit.context.instruction_pointer, t.UINT64, None)
        assert pointer is not None
        return pointer
    # At a return.  Since Linux commit a3c485a5d8d4 ("bpf: Add support for bpf_get_func_ip helper for uprobe program")
    # (in v6.6) the helper knows; before, the innermost of the calls that will be returned from is the one.
    running = emit.target.struct("struct", "bpf_trace_run_ctx")
    if running is not None and emit.target.field(running, "is_uprobe") is not None:
        return emit.b.call(helpers.GET_FUNC_IP, emit.context_pointer())
    address: Operand = emit.b.call(helpers.GET_CURRENT_TASK)
    owner = emit.target.struct("struct", "task_struct")
    for name in ("utask", "return_instances", "func"):
        assert owner is not None
        field = emit.target.field(owner, name)
        assert field is not None
        address = read_word(emit, AddressSpace.KERNEL, emit.b.add(address, field.offset), 8, signed=False)
        pointee = field.type.pointee if isinstance(field.type, t.Pointer) else None
        owner = pointee if isinstance(pointee, t.Struct) else None
    return address


def _lower_uaddr(emit: Emit, place: Place | None) -> Operand:
    """The symbol is as far from the probed instruction in the process as it is in the file."""
    b = emit.b
    name = str(emit.literal(0))
    found = [emit.target.user_symbol(point, name) for point in emit.points]
    distances = [each[0] for each in found if each is not None]
    here = _probed_address(emit)
    if len(set(distances)) == 1:
        return b.add(here, distances[0])
    table = emit.data(struct.pack(f"<{len(distances)}q", *distances))
    row = b.shift_left(b.bounded(emit.position(), len(distances)), 3)
    return b.add(here, b.load(b.offset(table, row), 0, 8, kind=Kind.WORD))


def _check_unwatch(site: Site) -> Type:
    if not isinstance(site.type(0), t.Int | t.Pointer):
        found = spell_kind(site.type(0))
        site.error(Code.BAD_ARGUMENT, f"unwatch() only supports int arguments ({found} provided)", argument=0)
    return t.VOID


def _lower_unwatch(emit: Emit, place: Place | None) -> None:
    emit.send(Unwatch(), (("address", t.UINT64, emit.word(0)),))


USER: tuple[Builtin, ...] = (
    Builtin(
        "uaddr",
        1,
        1,
        'uaddr("symbol"): the address of a variable or function of the traced program\'s file',
        _check_uaddr,
        _lower_uaddr,
        feature="uaddr",
    ),
    Builtin("unwatch", 1, 1, "unwatch(address): remove the watchpoints at an address", _check_unwatch, _lower_unwatch),
)
