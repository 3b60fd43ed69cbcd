"""What is known when a program is compiled: kinds of types, the kind of probe, the configuration, refusals."""

from __future__ import annotations

from collections.abc import Callable

from invivo.diagnostics import Code
from invivo.ir import types as t
from invivo.ir.format import parse_format
from invivo.ir.ops import Operand
from invivo.ir.types import Type
from invivo.library.record import Builtin, Check, Config, Emit, Place, Site
from invivo.target import Context

# Providers of invivo's own events; for scripts they are one kind.
_SPECIAL = ("begin", "end", "self")


def _lower_nothing(emit: Emit, place: Place | None) -> Operand:
    """These values are constants, and `fail` is an error wherever it can be reached."""
    return 0


# -- kinds of types ----------------------------------------------------------------------------


def _is_string(type_: Type) -> bool:
    return isinstance(type_, t.String | t.ProbeName)


def _is_pointer(type_: Type) -> bool:
    return isinstance(type_, t.Pointer)


def _is_array(type_: Type) -> bool:
    return isinstance(type_, t.Array)


def _is_integer(type_: Type) -> bool:
    return isinstance(type_, t.Int | t.Enumeration)


def _is_unsigned(type_: Type) -> bool:
    return isinstance(type_, t.Int | t.Enumeration) and not type_.signed


def _asks(question: Callable[[Type], bool]) -> Check:
    def check(site: Site) -> Type:
        type_ = site.argument_type(0)
        if type_ is not None:
            site.fold(int(question(type_)))
        return t.BOOL

    return check


def _check_is_literal(site: Site) -> Type:
    site.argument_type(0)
    site.fold(int(site.is_literal(0)))
    return t.BOOL


def _check_is_scalar(site: Site) -> Type:
    if site.map(0) is None:
        site.error(Code.BAD_ARGUMENT, "is_scalar() expects a map", argument=0)
    scalar = site.map_is_scalar(0)
    if scalar is not None:
        site.fold(int(scalar))
    return t.BOOL


# -- the probe, the kernel, the configuration --------------------------------------------------


def probe_type(context: Context) -> str:
    """What the language calls the kind of probe that a program is for."""
    return "special" if context.provider in _SPECIAL else context.provider


def _check_probe_type(site: Site) -> Type:
    name = probe_type(site.context)
    site.fold(name)
    return t.String(len(name) + 1)


def _check_kernel_function(site: Site) -> Type:
    name = site.literal(0)
    if not isinstance(name, str):
        site.error(Code.BAD_ARGUMENT, f"{site.name}() expects the name of a kernel function as a string", argument=0)
        return t.BOOL
    found = site.target.has(f"kfunc:{name}")
    if site.name == "kfunc_allowed":
        # Programs of other types may call hardly any kernel function.
        found = found and site.context.program.name.startswith(("TRACING", "RAW_TRACEPOINT"))
    site.fold(int(found))
    return t.BOOL


def _check_config(site: Site) -> Type:
    names = tuple(name for name in Config.__record_fields__ if name != "user_stack")  # which scripts do not expect
    values: list[int | str] = [getattr(site.config, name) for name in names]
    return site.stand_for(names, tuple(values))


# -- refusals ----------------------------------------------------------------------------------


def _check_fail(site: Site) -> Type:
    text = site.literal(0)
    values = [site.literal(index) for index in range(1, site.arity)]
    if not isinstance(text, str) or None in values:
        site.error(Code.BAD_FORMAT, "fail() expects literals: it is decided when the program is compiled")
    elif site.reached:
        site.error(Code.FAILED, _formatted(text, values))
    return t.VOID


def _formatted(text: str, values: list[int | str | None]) -> str:
    rest = iter(values)
    pieces = [piece if isinstance(piece, str) else str(next(rest, "")) for piece in parse_format(text).pieces]
    return "".join(pieces).encode("latin-1", "replace").decode("utf-8", "replace")


_ASSERT = """
macro assert(condition, message) {
    if (!(condition)) {
        errorf("assert failed: %s", message);
        exit(1);
    }
}
"""
_STATIC_ASSERT = """
macro static_assert(condition, message) {
    if comptime (!(condition)) {
        fail("%s", message);
    }
}
"""


def _check_expanded(site: Site) -> Type:
    """What is written in the language is expanded before anything is checked, unless its arguments are wrong."""
    site.error(Code.BAD_MACRO, f"Call to {site.name}() has arguments that do not match any definition.")
    return t.VOID


META: tuple[Builtin, ...] = (
    Builtin("is_str", 1, 1, "is_str(x): whether x is a string", _asks(_is_string), _lower_nothing, macro=True),
    Builtin("is_ptr", 1, 1, "is_ptr(x): whether x is a pointer", _asks(_is_pointer), _lower_nothing, macro=True),
    Builtin("is_array", 1, 1, "is_array(x): whether x is an array", _asks(_is_array), _lower_nothing, macro=True),
    Builtin(
        "is_integer", 1, 1, "is_integer(x): whether x is an integer", _asks(_is_integer), _lower_nothing, macro=True
    ),
    Builtin(
        "is_unsigned_integer",
        1,
        1,
        "is_unsigned_integer(x): whether x is an integer without a sign",
        _asks(_is_unsigned),
        _lower_nothing,
        macro=True,
    ),
    Builtin(
        "is_literal",
        1,
        1,
        "is_literal(x): whether x is written as a literal",
        _check_is_literal,
        _lower_nothing,
        macro=True,
    ),
    Builtin("is_scalar", 1, 1, "is_scalar(@m): whether a map is used without keys", _check_is_scalar, _lower_nothing),
    Builtin(
        "probetype",
        0,
        0,
        "the kind of the probe, known when the program is compiled: `special` for begin and end",
        _check_probe_type,
        _lower_nothing,
        value=True,
        macro=True,
    ),
    Builtin(
        "kfunc_exist",
        1,
        1,
        "kfunc_exist(name): whether the kernel has a function of that name for programs",
        _check_kernel_function,
        _lower_nothing,
        macro=True,
    ),
    Builtin(
        "kfunc_allowed",
        1,
        1,
        "kfunc_allowed(name): whether programs of this kind of probe may call that kernel function",
        _check_kernel_function,
        _lower_nothing,
        macro=True,
    ),
    Builtin(
        "config",
        0,
        0,
        "the configuration as a record: config.max_strlen",
        _check_config,
        _lower_nothing,
        value=True,
        macro=True,
    ),
    Builtin(
        "fail",
        1,
        128,
        "fail(format, ...): an error of the compiler, unless it stands where the program cannot come",
        _check_fail,
        _lower_nothing,
    ),
    Builtin(
        "assert",
        2,
        2,
        "assert(condition, message): if a condition does not hold, an error with the message and the end with status 1",
        _check_expanded,
        _lower_nothing,
        macro=True,
        text=_ASSERT,
    ),
    Builtin(
        "static_assert",
        2,
        2,
        "static_assert(condition, message): an error of the compiler if a condition does not hold",
        _check_expanded,
        _lower_nothing,
        macro=True,
        text=_STATIC_ASSERT,
    ),
)
