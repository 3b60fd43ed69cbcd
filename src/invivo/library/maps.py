"""Functions on maps."""

from __future__ import annotations

from errno import ENOENT

from invivo.diagnostics import Code
from invivo.ir import helpers
from invivo.ir import types as t
from invivo.ir.layout import ClearMap, ZeroMap
from invivo.ir.ops import CompareOp, Operand
from invivo.ir.types import Type
from invivo.library.record import Builtin, Emit, Place, Site


def _needs_map(site: Site) -> bool:
    if site.map(0) is None:
        site.error(Code.BAD_ARGUMENT, f"{site.name}() expects a map to be provided", argument=0, at_argument=True)
        return False
    return True


def _check_whole(site: Site) -> Type:
    if _needs_map(site):
        if site.has_keys(0):
            hint = f"write {site.name}({site.map(0)}); delete({site.map(0)}, key) removes one element"
            site.error(
                Code.BAD_ARGUMENT, f"{site.name}() works on a whole map, not on one element", hint, 0, at_argument=True
            )
        site.use_map(0)
    return t.VOID


def _lower_clear(emit: Emit, place: Place | None) -> None:
    emit.send(ClearMap(emit.map(0)), ())


def _lower_zero(emit: Emit, place: Place | None) -> None:
    emit.send(ZeroMap(emit.map(0)), ())


# -- delete ------------------------------------------------------------------------------------


def _check_delete(site: Site) -> Type:
    if _needs_map(site):
        _use_element(site)
        site.mark_deleted(0)
    return t.BOOL


def _use_element(site: Site) -> None:
    """``f(@m[k])``, ``f(@m, k)`` or, for a scalar map, ``f(@m)``"""
    site.use_map(0)
    if site.has_keys(0) and site.arity == 1:
        site.use_key(0, None)
    elif site.arity > 1:
        if site.has_keys(0):
            site.error(Code.BAD_ARGUMENT, f"{site.name}() takes the key either in brackets or as an argument")
        site.use_key(0, 1)
    elif site.map_is_scalar(0) is False:
        site.error(
            Code.KEY_MISMATCH,
            f"call to {site.name}() expects a key for the map {site.map(0)}",
            f"write {site.name}({site.map(0)}, key)"
            + (f"; clear({site.map(0)}) empties it" if site.name == "delete" else ""),
        )
    else:
        site.use_key(0, None)


def _lower_delete(emit: Emit, place: Place | None) -> Operand:
    name, b = emit.map(0), emit.b
    if emit.is_cell(0):
        was_there = emit.delete_cell(0)
        if emit.discarded:
            absent, gone = b.label("delete_failed"), b.label("deleted")
            b.branch(CompareOp.EQ, was_there, 0, absent, gone)
            b.start(absent)
            emit.failed("map_delete_elem", -ENOENT, "Can't delete map element because it does not exist.")
            b.start(gone)
        return was_there
    key = emit.key(0, 1 if emit.arity > 1 else None)
    code = b.call(helpers.MAP_DELETE_ELEM, emit.map_handle(name), b.offset(key.pointer, key.offset))
    if emit.discarded:
        failed, done = b.label("delete_failed"), b.label("deleted")
        b.branch(CompareOp.NE, code, 0, failed, done)
        b.start(failed)
        # Before Linux 6.4 an int, whose upper half is not in the register.
        told = b.extend(code, 32, signed=True)
        emit.failed("map_delete_elem", told, "Can't delete map element because it does not exist.")
        b.start(done)
        return 0
    return b.compare(CompareOp.EQ, code, 0)


# -- has_key, len ------------------------------------------------------------------------------


def _check_has_key(site: Site) -> Type:
    if _needs_map(site):
        if site.map_is_scalar(0):
            site.error(
                Code.KEY_MISMATCH,
                "call to has_key() expects a map with explicit keys (non-scalar map)",
                argument=0,
                at_argument=True,
            )
        else:
            _use_element(site)
    return t.BOOL


def _lower_has_key(emit: Emit, place: Place | None) -> Operand:
    key = emit.key(0, 1 if emit.arity > 1 else None)
    b = emit.b
    found = emit.lookup(emit.map(0), key)
    present, done = b.variable("present"), b.label("has_key")
    yes = b.label("has_key_yes")
    b.set(present, 0)
    b.branch(CompareOp.NE, found, 0, yes, done)
    b.start(yes)
    b.set(present, 1)
    b.start(done)
    return b.get(present)


def _check_find(site: Site) -> Type:
    return site.check_find() if _needs_map(site) else t.BOOL


def _lower_find(emit: Emit, place: Place | None) -> Operand:
    return emit.expansion()


def _check_len(site: Site) -> Type:
    if site.map(0) is None:
        if not isinstance(site.type(0), t.Stack):
            site.error(Code.BAD_ARGUMENT, "len() expects a map or stack to be provided", argument=0, at_argument=True)
    elif site.map_is_scalar(0):
        site.error(
            Code.KEY_MISMATCH,
            "call to len() expects a map with explicit keys (non-scalar map)",
            argument=0,
            at_argument=True,
        )
    elif site.has_keys(0):
        site.error(
            Code.BAD_ARGUMENT,
            "len() works on a whole map, not on one element",
            f"write len({site.map(0)})",
            0,
            at_argument=True,
        )
    else:
        site.use_map(0)
    return t.INT64


def _lower_len(emit: Emit, place: Place | None) -> Operand:
    if isinstance(emit.argument_type(0), t.Stack):
        held = emit.address(0)
        return emit.b.load(held.pointer, held.offset, 4)
    return emit.count_elements(emit.map(0))


MAPS: tuple[Builtin, ...] = (
    Builtin(
        "clear", 1, 1, "clear(@m): remove all keys, in the order of the program's output", _check_whole, _lower_clear
    ),
    Builtin("zero", 1, 1, "zero(@m): set all values to zero and keep the keys", _check_whole, _lower_zero),
    Builtin("delete", 1, 2, "delete(@m, key): remove one element; true if it was there", _check_delete, _lower_delete),
    Builtin("has_key", 1, 2, "has_key(@m, key): whether an element exists", _check_has_key, _lower_has_key),
    Builtin(
        "find",
        3,
        3,
        "find(@m, key, $v): whether an element exists; if so, the variable gets its value",
        _check_find,
        _lower_find,
    ),
    Builtin("len", 1, 1, "len(@m): number of elements; len(kstack): number of frames", _check_len, _lower_len),
)
