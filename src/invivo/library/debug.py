"""Writing to the kernel's own trace buffer, for programs that are looked into."""

from __future__ import annotations

from invivo.diagnostics import Code
from invivo.ir import helpers
from invivo.ir import types as t
from invivo.ir.format import parse_format
from invivo.ir.ops import Operand
from invivo.ir.types import Type
from invivo.library.record import Builtin, Emit, Place, Site
from invivo.library.spelling import spell_kind

_MOST = 3  # values, of bpf_trace_printk
_CONVERSIONS = ("d", "i", "u", "x", "p", "s")


def _check_debugf(site: Site) -> Type:
    text = site.literal(0)
    if not isinstance(text, str):
        site.error(
            Code.BAD_FORMAT, f"debugf() expects a string literal ({spell_kind(site.type(0))} provided)", argument=0
        )
        return t.VOID
    directives = parse_format(text).directives
    supplied = site.arity - 1
    if supplied > _MOST:
        site.error(Code.LIMIT, f"cannot use more than {_MOST} conversion specifiers")
    elif len(directives) != supplied:
        size = "not enough" if supplied < len(directives) else "too many"
        site.error(
            Code.BAD_FORMAT,
            f"{size} arguments for format string ({supplied} supplied, {len(directives)} expected)",
        )
    else:
        for index, directive in enumerate(directives):
            _check_value(site, directive.conversion, index + 1)
    site.warning(
        Code.DEPRECATED,
        "The debugf() builtin is not recommended for production use. "
        "For more information see bpf_trace_printk in bpf-helpers(7).",
        "it writes to /sys/kernel/tracing/trace_pipe, which everybody shares",
    )
    return t.VOID


def _check_value(site: Site, conversion: str, index: int) -> None:
    type_ = site.type(index)
    if conversion not in _CONVERSIONS:
        site.error(
            Code.BAD_FORMAT, f"Invalid format specifier for `debugf`: {conversion}", "the kernel knows d u x p s", 0
        )
    elif (conversion == "s") != isinstance(type_, t.String):
        site.error(
            Code.BAD_FORMAT, f"Type does not match format specifier: {conversion}", argument=index, at_argument=True
        )


def _lower_debugf(emit: Emit, place: Place | None) -> None:
    text = str(emit.literal(0)).encode("latin-1") + b"\0"
    values: list[Operand] = []
    for index in range(1, emit.arity):
        if t.is_scalar(emit.type(index)):
            values.append(emit.word(index))
        else:
            held = emit.address(index)
            values.append(emit.b.offset(held.pointer, held.offset))
    emit.b.call_void(helpers.TRACE_PRINTK, emit.data(text), len(text), *values)


DEBUG: tuple[Builtin, ...] = (
    Builtin(
        "debugf",
        1,
        128,
        "debugf(format, ...): write text to the kernel's trace buffer, three values at most",
        _check_debugf,
        _lower_debugf,
    ),
)
