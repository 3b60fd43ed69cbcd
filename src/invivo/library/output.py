"""Functions that send a record: the session acts on it when it is drained, in the program's order."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from invivo.diagnostics import Code
from invivo.ir import helpers
from invivo.ir import types as t
from invivo.ir.format import Directive, Format, parse_format
from invivo.ir.layout import (
    Action,
    Cat,
    Complain,
    Exit,
    Join,
    Printf,
    PrintMap,
    PrintMapValue,
    PrintTime,
    PrintValue,
    System,
)
from invivo.ir.ops import CompareOp, Kind, Operand
from invivo.ir.types import Type
from invivo.library.access import read_helper, read_string_helper
from invivo.library.record import Builtin, Emit, FieldSource, Lower, Place, Site
from invivo.library.spelling import spell, spell_kind

_MAX_ARGUMENTS = 128
_NUMBERS = (t.Int, t.Bool, t.Enumeration, t.Pointer)


def _written(literal: int | str | None) -> str:
    """The text of a literal, whose characters stand for bytes, as the runtime writes it."""
    return str(literal).encode("latin-1").decode("utf-8", "surrogateescape")


# -- printf and its like -----------------------------------------------------------------------


def _check_format(site: Site) -> Type:
    text = site.literal(0)
    if not isinstance(text, str):
        site.error(
            Code.BAD_FORMAT, f"{site.name}() expects a string literal ({spell_kind(site.type(0))} provided)", argument=0
        )
        return t.VOID
    directives = parse_format(text).directives
    supplied = site.arity - 1
    types = [site.type(index + 1) for index in range(supplied)]
    if len(directives) != supplied:
        stray = _stray_percent(text)
        size = "not enough" if supplied < len(directives) else "too many"
        site.error(
            Code.BAD_FORMAT,
            f"{size} arguments for format string ({supplied} supplied, {len(directives)} expected)",
            f"'{stray}' is no conversion; %% writes a percent sign" if stray else None,
        )
        return t.VOID
    for index, (directive, type_) in enumerate(zip(directives, types, strict=True)):
        if site.known(index + 1):
            _check_directive(site, directive, type_, index + 1)
    if "pinned" in site.context.features and all(site.known(index + 1) for index in range(supplied)):
        _check_pinned(site, text)
    return t.VOID


def _stray_percent(text: str) -> str:
    """The first percent sign that begins no conversion, with the character after it."""
    for piece in parse_format(text.replace("%%", "")).pieces:
        if isinstance(piece, str) and "%" in piece:
            at = piece.index("%")
            return piece[at : at + 2]
    return ""


def _check_directive(site: Site, directive: Directive, type_: Type, argument: int) -> None:
    conversion = directive.conversion
    if isinstance(type_, t.Void):
        site.error(Code.BAD_FORMAT, f"unable to print none type for specifier: {conversion}", argument=argument)
        return
    if conversion == "s":
        return
    if conversion in ("r", "rx", "rh"):
        fits = isinstance(type_, t.Buffer)
    elif conversion in ("d", "i", "o", "u", "x", "X", "c", "p", "gr"):
        fits = isinstance(type_, _NUMBERS)
    else:
        hint = "there are no floating point numbers" if conversion in "eEfFgGaA" else None
        site.error(Code.BAD_FORMAT, f"unsupported format specifier: {conversion}", hint, 0)
        return
    if not fits:
        site.error(
            Code.BAD_FORMAT,
            f"unsupported format specifier for type '{spell(type_)}': {conversion}",
            "buf() makes one for %r; %s prints any value" if conversion.startswith("r") else "%s prints any value",
            argument,
        )


# What the kernel's own printf knows, and the length that makes it take 64 bits.
_PINNED: Final = {"d": "lld", "i": "lld", "u": "llu", "x": "llx", "X": "llX", "p": "llx", "c": "c", "s": "s"}
_MOST_PINNED: Final = 12  # MAX_BPRINTF_VARARGS, include/linux/bpf.h


def _check_pinned(site: Site, text: str) -> None:
    """The kernel writes what a pinned program prints, for whoever reads the file, when invivo is gone."""
    directives = parse_format(text).directives
    if len(directives) > _MOST_PINNED:
        site.error(Code.LIMIT, f"a pinned program prints at most {_MOST_PINNED} values")
    for index, directive in enumerate(directives):
        is_text = isinstance(site.type(index + 1), t.String)
        fits = directive.conversion == "s" if is_text else directive.conversion in _PINNED.keys() - {"s"}
        if not fits or (not is_text and not isinstance(site.type(index + 1), _NUMBERS)):
            site.error(
                Code.BAD_FORMAT,
                f"unsupported format specifier for type '{spell(site.type(index + 1))}': {directive.conversion}",
                "the kernel prints for a pinned program: numbers by d u x p c, strings by s",
                index + 1,
            )


def _print_pinned(emit: Emit) -> None:
    written = ""
    for piece in parse_format(_written(emit.literal(0))).pieces:
        if isinstance(piece, str):
            written += piece.replace("%", "%%")
        else:
            prefix = "0x" if piece.conversion == "p" else ""
            flags = piece.flags.replace("#", "")
            written += f"{prefix}%{flags}{piece.width or ''}{_PINNED[piece.conversion]}"
    text = written.encode("utf-8", "surrogateescape") + b"\0"
    count = emit.arity - 1
    values = emit.temporary(8 * max(count, 1))
    for index in range(count):
        if t.is_scalar(emit.type(index + 1)):
            value = emit.word(index + 1)
        else:
            held = emit.address(index + 1)
            value = emit.b.offset(held.pointer, held.offset)
        emit.b.store(values.pointer, values.offset + 8 * index, 8, value)
    meta = emit.b.load(emit.context_pointer(), 0, 8, kind=Kind.BTF)
    file = emit.b.load(meta, 0, 8, kind=Kind.BTF)  # struct bpf_iter_meta: struct seq_file *seq
    data = emit.b.offset(values.pointer, values.offset) if count else 0
    emit.b.call_void(helpers.SEQ_PRINTF, file, emit.data(text), len(text), data, 8 * count)


def _lower_format(action: Callable[[Emit, Format], Action]) -> Lower:
    def lower(emit: Emit, place: Place | None) -> None:
        if "pinned" in emit.context.features:
            _print_pinned(emit)
            return
        format_ = parse_format(_written(emit.literal(0)))
        fields: list[tuple[str, Type, FieldSource]] = [
            (str(index), emit.type(index + 1), emit.source(index + 1)) for index in range(emit.arity - 1)
        ]
        emit.send(action(emit, format_), fields)

    return lower


def _formatted(name: str, doc: str, action: Callable[[Emit, Format], Action], *, unsafe: bool = False) -> Builtin:
    return Builtin(name, 1, _MAX_ARGUMENTS, doc, _check_format, _lower_format(action), unsafe=unsafe)


# -- print -------------------------------------------------------------------------------------


def _check_print(site: Site) -> Type:
    if site.map(0) is not None and not site.has_keys(0):
        site.use_map(0)
        for index in range(1, site.arity):
            number = site.literal(index)
            if not isinstance(number, int):
                what = f"print() expects a int literal ({spell_kind(site.type(index))} provided)"
                site.error(Code.BAD_ARGUMENT, what, "print(@map, top, div)", index)
            elif number < 0:
                site.error(Code.BAD_ARGUMENT, f"print() cannot use a negative number ({number})", argument=index)
        if site.in_loop:
            what = (
                "Due to it's asynchronous nature using 'print()' in a loop can lead to unexpected behavior. "
                "The map will likely be updated before the runtime can 'print' it."
            )
            site.warning(Code.BAD_ARGUMENT, what)
        if site.arity > 1 and isinstance(site.map_value(0), t.Stats):
            what = "print()'s top and div arguments are ignored when used on stats() maps."
            site.warning(Code.BAD_ARGUMENT, what, argument=1)
        return t.VOID
    if site.arity > 1:
        site.error(Code.BAD_ARGUMENT, f"Non-map print() only takes 1 argument, {site.arity} found", argument=1)
    if site.map(0) is not None:
        value = site.map_value(0)
        site.use_key(0, None)
        if isinstance(value, t.Histogram | t.LinearHistogram | t.Stats | t.TimeSeries):
            site.error(
                Code.AGGREGATION,
                f"Map type {spell(value)} cannot print the value of individual keys. You must print the whole map.",
                f"print({site.map(0)})",
                0,
            )
            return t.VOID
    site_type = site.type(0)
    if isinstance(site_type, t.Void) and site.known(0):
        site.error(Code.BAD_ARGUMENT, f"{spell(site_type)} type passed to print() is not printable", argument=0)
    return t.VOID


def _lower_print(emit: Emit, place: Place | None) -> None:
    if emit.is_map(0):
        top = int(emit.literal(1) or 0) if emit.arity > 1 else 0
        divisor = int(emit.literal(2) or 0) if emit.arity > 2 else 0
        emit.send(PrintMap(emit.map(0), top, divisor), ())
    elif emit.has_keys(0):
        key, value = emit.element(0)
        emit.send(PrintMapValue(emit.map(0)), (("key", *key), ("value", *value)))
    else:
        emit.send(PrintValue(), (("value", emit.type(0), emit.source(0)),))


# -- the rest ----------------------------------------------------------------------------------


def _check_time(site: Site) -> Type:
    if site.arity and not isinstance(site.literal(0), str):
        site.error(
            Code.BAD_ARGUMENT, f"time() expects a string literal ({spell_kind(site.type(0))} provided)", argument=0
        )
    return t.VOID


def _lower_time(emit: Emit, place: Place | None) -> None:
    emit.send(PrintTime(_written(emit.literal(0)) if emit.arity else "%H:%M:%S\n"), ())


def _check_exit(site: Site) -> Type:
    if site.arity and not isinstance(site.type(0), t.Int):
        site.error(
            Code.BAD_ARGUMENT,
            f"exit() only supports int arguments ({spell_kind(site.type(0))} provided)",
            argument=0,
        )
    return t.VOID


def _lower_exit(emit: Emit, place: Place | None) -> None:
    emit.send(Exit(), (("code", t.INT64, emit.word(0) if emit.arity else 0),))
    emit.exit_program()


_JOIN_ARGUMENTS = 16  # join_argnum of the neighbour
_JOIN_SIZE = 1024


def _check_join(site: Site) -> Type:
    source = site.type(0)
    if not isinstance(source, t.Int | t.Pointer):
        site.error(
            Code.BAD_ARGUMENT,
            f"join() only supports int or pointer arguments ({spell_kind(source)} provided)",
            argument=0,
        )
    if site.arity == 2 and not isinstance(site.literal(1), str):
        site.error(
            Code.BAD_ARGUMENT, f"join() expects a string literal ({spell_kind(site.type(1))} provided)", argument=1
        )
    return t.VOID


def _lower_join(emit: Emit, place: Place | None) -> None:
    """Read pointers up to the first that is null, 16 at most, and the strings they point to."""
    separator = _written(emit.literal(1)) if emit.arity == 2 else " "
    capacity = min(_JOIN_SIZE, emit.config.max_strlen)
    space = emit.space(0)
    held = emit.temporary(8 * _JOIN_ARGUMENTS)
    count = _read_pointers(emit, emit.word(0), space, held)

    def element(index: int) -> Callable[[Place], None]:
        def write(place: Place) -> None:
            b = emit.b
            target = b.offset(place.pointer, place.offset)
            read, absent, done = b.label("join_read"), b.label("join_absent"), b.label("join_done")
            b.branch(CompareOp.UGT, count, index, read, absent)
            b.start(absent)
            b.store(place.pointer, place.offset, 1, 0)
            b.jump(done)
            b.start(read)
            address = b.load(held.pointer, held.offset + 8 * index, 8)
            b.call_void(read_string_helper(space), target, capacity, address)
            b.start(done)

        return write

    fields: list[tuple[str, Type, FieldSource]] = [
        (str(index), t.String(capacity), element(index)) for index in range(_JOIN_ARGUMENTS)
    ]
    emit.send(Join(separator), [("count", t.UINT64, count), *fields])


def _read_pointers(emit: Emit, base: Operand, space: t.AddressSpace, held: Place) -> Operand:
    """Read an array of pointers that ends with a null; return how many there are."""
    b = emit.b
    count, done = b.variable("join_count"), b.label("join_counted")
    b.set(count, 0)
    for index in range(_JOIN_ARGUMENTS):
        target = b.offset(held.pointer, held.offset + 8 * index)
        emit.fault_guard(b.call(read_helper(space), target, 8, b.add(base, 8 * index)))
        more = b.label("join_more")
        b.branch(CompareOp.NE, b.load(held.pointer, held.offset + 8 * index, 8), 0, more, done)
        b.start(more)
        b.set(count, index + 1)
    b.start(done)
    return b.get(count)


def _check_strftime(site: Site) -> Type:
    format_ = site.literal(0)
    if not isinstance(format_, str):
        site.error(
            Code.BAD_ARGUMENT, f"strftime() expects a string literal ({spell_kind(site.type(0))} provided)", argument=0
        )
        return t.Timestamp("", t.Clock.BOOT)
    if not isinstance(site.type(1), t.Int):
        site.error(
            Code.BAD_ARGUMENT,
            f"strftime() only supports int arguments ({spell_kind(site.type(1))} provided)",
            argument=1,
        )
    stamp = site.literal(1)
    if isinstance(stamp, int) and stamp < 0:
        site.error(Code.BAD_ARGUMENT, "strftime() does not accept negative timestamps", argument=1)
    clock = site.clock(1)
    if clock is t.Clock.MONOTONIC:
        site.error(
            Code.BAD_ARGUMENT, "strftime() can not take a monotonic timestamp", "use nsecs or nsecs(boot)", argument=1
        )
    return t.Timestamp(_written(format_), clock)


OUTPUT: tuple[Builtin, ...] = (
    _formatted("printf", "printf(format, ...): write formatted text", lambda emit, f: Printf(f)),
    _formatted(
        "errorf",
        "errorf(format, ...): an error on stderr, with the place in the script",
        lambda emit, f: Complain(f, emit.span, "ERROR"),
    ),
    _formatted(
        "warnf",
        "warnf(format, ...): a warning on stderr, with the place in the script",
        lambda emit, f: Complain(f, emit.span, "WARNING"),
    ),
    _formatted("cat", "cat(format, ...): write the content of a file", lambda emit, f: Cat(f)),
    _formatted(
        "system", "system(format, ...): run a shell command (needs --unsafe)", lambda emit, f: System(f), unsafe=True
    ),
    Builtin(
        "print", 1, 3, "print(value), print(@m [, top [, div]]): write a value or a map", _check_print, _lower_print
    ),
    Builtin("time", 0, 1, "time([format]): write the wall time, by default %H:%M:%S", _check_time, _lower_time),
    Builtin("exit", 0, 1, "exit([code]): end the trace", _check_exit, _lower_exit, in_loops=False),
    Builtin("join", 1, 2, "join(argv [, separator]): write an array of strings", _check_join, _lower_join),
    Builtin(
        "strftime",
        2,
        2,
        "strftime(format, nsecs): a timestamp as wall time",
        _check_strftime,
        lambda emit, place: emit.word(1),
    ),
)
