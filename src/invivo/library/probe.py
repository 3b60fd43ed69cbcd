"""Builtin values of the probe itself: its name, function, return value, registers, context."""

from __future__ import annotations

from invivo.diagnostics import Code
from invivo.ir import helpers
from invivo.ir import types as t
from invivo.ir.ops import CompareOp, Operand
from invivo.ir.types import Type
from invivo.library.access import load_access
from invivo.library.record import Builtin, Emit, Place, Site
from invivo.library.spelling import spell_kind


def _check_retval(site: Site) -> Type:
    retval = site.context.retval
    return t.UINT64 if retval is None else retval.type


def _lower_retval(emit: Emit, place: Place | None) -> Operand | None:
    retval = emit.context.retval
    assert retval is not None
    return load_access(emit, retval.access, retval.type, place)


def _lower_probe(emit: Emit, place: Place | None) -> Operand:
    return emit.probe_index()


def _lower_func(emit: Emit, place: Place | None) -> Operand:
    return emit.function_index()


def store_user_symbol(emit: Emit, address: Operand, place: Place) -> None:
    """Write a `types.UserSymbol`: the address and the thread group it means something in."""
    emit.b.store(place.pointer, place.offset, 8, address)
    tgid = emit.b.call(helpers.GET_CURRENT_PID_TGID)
    emit.b.store(place.pointer, place.offset + 8, 8, emit.b.shift_right(tgid, 32))


def _check_reg(site: Site) -> Type:
    name = site.literal(0)
    names = dict(site.context.registers)
    if not isinstance(name, str):
        site.error(
            Code.BAD_ARGUMENT, f"reg() expects a string literal ({spell_kind(site.type(0))} provided)", argument=0
        )
    elif name not in names:
        known = ", ".join(sorted(names))
        site.error(
            Code.BAD_ARGUMENT, f"'{name}' is not a valid register on this architecture (x86_64)", f"one of {known}", 0
        )
    return t.UINT64


def _lower_reg(emit: Emit, place: Place | None) -> Operand | None:
    name = emit.literal(0)
    access = dict(emit.context.registers)[str(name)]
    return load_access(emit, access, t.UINT64, None)


def _lower_usermode(emit: Emit, place: Place | None) -> Operand:
    selector = load_access(emit, dict(emit.context.registers)["cs"], t.UINT64, None)
    assert selector is not None
    # The lowest two bits of the code segment are the privilege level: 3 is user mode.
    return emit.b.compare(CompareOp.EQ, emit.b.mask(selector, 3), 3)


def _lower_context(emit: Emit, place: Place | None) -> Operand:
    return emit.context_word()


def _check_context(site: Site) -> Type:
    return site.context.context_type or t.Pointer(t.VOID)


PROBE: tuple[Builtin, ...] = (
    Builtin(
        "probe",
        0,
        0,
        "the full name of the probe that fired",
        lambda site: t.ProbeName(),
        _lower_probe,
        value=True,
        uses=frozenset({"probe"}),
    ),
    Builtin(
        "func",
        0,
        0,
        "the traced function's name",
        lambda site: t.ProbeName(),
        _lower_func,
        value=True,
        feature="func",
        uses=frozenset({"func"}),
    ),
    Builtin(
        "retval",
        0,
        0,
        "the traced function's return value",
        _check_retval,
        _lower_retval,
        value=True,
        feature="retval",
        uses=frozenset({"retval"}),
    ),
    Builtin(
        "reg",
        1,
        1,
        'a register\'s value by name: reg("ip")',
        _check_reg,
        _lower_reg,
        feature="reg",
        uses=frozenset({"reg"}),
    ),
    Builtin(
        "usermode",
        0,
        0,
        "1 if the processor was in user mode",
        lambda site: t.UINT8,
        _lower_usermode,
        value=True,
        feature="usermode",
        uses=frozenset({"reg"}),
    ),
    Builtin(
        "ctx",
        0,
        0,
        "the probe's context as a pointer",
        _check_context,
        _lower_context,
        value=True,
        feature="ctx",
        uses=frozenset({"ctx"}),
        in_loops=False,
    ),
)
