"""The script's own options on the command line."""

from __future__ import annotations

from invivo.diagnostics import Code
from invivo.ir import types as t
from invivo.ir.ops import Operand
from invivo.ir.types import Type
from invivo.library.record import Builtin, Emit, Place, Site


def _check_getopt(site: Site) -> Type:
    name = site.literal(0)
    if not isinstance(name, str):
        site.error(Code.BAD_ARGUMENT, "getopt() expects the option's name as a string literal", argument=0)
        return t.BOOL
    default = site.literal(1) if site.arity > 1 else 0
    description = site.literal(2) if site.arity > 2 else ""
    if default is None or not isinstance(description, str):
        wrong = 1 if default is None else 2
        site.error(Code.BAD_ARGUMENT, "getopt() expects literals", argument=wrong)
        return t.BOOL
    is_flag = site.arity == 1 or isinstance(site.type(1), t.Bool)
    value = site.option(name, bool(default) if is_flag else default, description)
    site.fold(int(value) if isinstance(value, int) else value)
    if is_flag:
        return t.BOOL
    return t.INT64 if isinstance(value, int) else t.String(len(value) + 1)


def _lower_nothing(emit: Emit, place: Place | None) -> Operand:
    """Its value is a constant."""
    return 0


OPTIONS: tuple[Builtin, ...] = (
    Builtin(
        "getopt",
        1,
        3,
        'getopt("name"), getopt("name", default), getopt("name", default, "what it is for"): the value of an option '
        "of the script's own, given as --name=value after --",
        _check_getopt,
        _lower_nothing,
    ),
)
