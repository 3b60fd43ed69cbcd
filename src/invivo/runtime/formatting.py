"""``printf``: a format and values → text. A format is compiled once, to a template and converters."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from invivo.events import Value
from invivo.ir.format import Directive, Format
from invivo.ir.types import Int, Type
from invivo.record import Record
from invivo.values import ValueText, escaped_bytes

_Convert = Callable[[Value], object]

# Bits that a length modifier names; the neighbour (and C) take no modifier as 32 bits.
_LENGTH_BITS = {"": 32, "h": 16, "hh": 8, "l": 64, "ll": 64, "L": 64, "j": 64, "z": 64, "t": 64}


def _length_bits(piece: Directive) -> int:
    """``hhh`` and the like are modifiers for the pattern of formats, and mean nothing to anybody."""
    return _LENGTH_BITS.get(piece.length, 64)


class Formatter(Record, eq=False):
    """A compiled format: Python's ``template``, and what becomes of each value before.

    A conversion is None where the value, as it is decoded, is what the template needs.
    """

    template: str
    converts: tuple[_Convert | None, ...]

    def write(self, values: Sequence[Value]) -> str:
        """Return the text. A value that does not fit its directive gives ``!{message}`` instead."""
        try:
            return self.fill(values)
        except (TypeError, ValueError, KeyError) as problem:
            return f"!{{{problem}}}"

    def fill(self, values: Sequence[Value]) -> str:
        """Return the text. Raises `TypeError`, `ValueError`, `KeyError` for a value that does not fit its directive."""
        shown = [
            value if convert is None else convert(value) for convert, value in zip(self.converts, values, strict=True)
        ]
        return self.template % tuple(shown)


def compile_format(
    form: Format, text: ValueText, kinds: Sequence[Type | None] = (), *, bpftrace: bool = False
) -> Formatter:
    """Return the formatter of a format whose values have these types (None: not known).

    ``bpftrace``: the neighbour's meaning of ``%d``, ``%u``, ``%x`` without length modifier, which
    is C's: only the low 32 bits are shown.  Otherwise the whole value is.
    """
    template = ""
    converts: list[_Convert | None] = []
    for piece in form.pieces:
        if isinstance(piece, str):
            template += piece.replace("%", "%%")
            continue
        conversion, convert = _directive(piece, text, bpftrace)
        template += f"%{conversion}"
        kind = kinds[len(converts)] if len(converts) < len(kinds) else None
        converts.append(None if _is_shown_as_it_is(piece, kind, bpftrace) else convert)
    return Formatter(template, tuple(converts))


def integer_bits(piece: Directive, *, bpftrace: bool) -> int | None:
    """The bits of an integer that a directive shows; None: all that the value has."""
    if not piece.length and not bpftrace:
        return None
    return _length_bits(piece)


def _is_shown_as_it_is(piece: Directive, kind: Type | None, bpftrace: bool) -> bool:
    """Whether an integer of a type needs no cutting to be shown by a directive."""
    if not isinstance(kind, Int) or "#" in piece.flags:
        return False
    whole = not piece.length and not bpftrace
    bits = 64 if whole else _length_bits(piece)
    match piece.conversion:
        case "s":
            return True
        case "d" | "i":
            return whole or kind.bits < bits or (kind.bits == bits and kind.signed)
        case "u" | "x" | "X":
            return not kind.signed and kind.bits <= bits and "#" not in piece.flags
        case _:
            return False


def _directive(piece: Directive, text: ValueText, bpftrace: bool) -> tuple[str, _Convert]:
    """Return Python's spelling of a directive (without ``%``) and what happens to the value before."""
    width = str(piece.width or "")
    match piece.conversion:
        case "d" | "i" | "gr":
            return f"{_flags(piece, '-+ 0')}{width}d", _signed(piece, bpftrace)
        case "u":
            return f"{_flags(piece, '-0')}{width}d", _unsigned(piece, bpftrace)
        case "x" | "X":
            if "#" not in piece.flags:
                return f"{_flags(piece, '-0')}{width}{piece.conversion}", _unsigned(piece, bpftrace)
            return f"{_flags(piece, '-')}{width}s", _prefixed(piece, bpftrace)
        case "o":
            return f"{_flags(piece, '-')}{width}s", _octal(piece, bpftrace)
        case "p":
            return f"{_flags(piece, '-')}{width}s", _pointer
        case "c":
            return f"{_flags(piece, '-')}{width}s", lambda value: _character(value, text)
        case "r":
            return f"{_flags(piece, '-')}{width}s", _printable
        case "rx":
            return f"{_flags(piece, '-')}{width}s", lambda value: "".join(f"\\x{byte:02x}" for byte in _bytes(value))
        case "rh":
            return f"{_flags(piece, '-')}{width}s", lambda value: _bytes(value).hex(" ")
        case "s":
            return f"{_flags(piece, '-')}{width}s", text.text
        case other:
            return "s", lambda _: _refuse(other)


def _flags(piece: Directive, allowed: str) -> str:
    return "".join(flag for flag in piece.flags if flag in allowed)


def _refuse(conversion: str) -> str:
    raise ValueError(f"unsupported format specifier: {conversion}")


def _number(value: Value) -> int:
    if isinstance(value, int):
        return value
    raise TypeError("not a number")


def _bytes(value: Value) -> bytes:
    match value:
        case bytes():
            return value
        case str():
            return value.encode("utf-8", "surrogateescape")
        case list() | tuple():
            return bytes(_number(element) & 0xFF for element in value)
        case _:
            raise TypeError("not a buffer")


def _printable(value: Value) -> str:
    return escaped_bytes(_bytes(value))


def _signed(piece: Directive, bpftrace: bool) -> _Convert:
    if not piece.length and not bpftrace:
        return _number
    bits = _length_bits(piece)
    half, mask = 1 << bits - 1, (1 << bits) - 1
    return lambda value: ((_number(value) + half) & mask) - half


def _unsigned(piece: Directive, bpftrace: bool) -> Callable[[Value], int]:
    mask = (1 << (64 if not piece.length and not bpftrace else _length_bits(piece))) - 1
    return lambda value: _number(value) & mask


def _octal(piece: Directive, bpftrace: bool) -> _Convert:
    unsigned = _unsigned(piece, bpftrace)
    prefix = "0" if "#" in piece.flags else ""
    pad = piece.width if "0" in piece.flags and "-" not in piece.flags else 0
    return lambda value: (f"{prefix}{number:o}" if (number := unsigned(value)) else "0").rjust(pad, "0")


def _prefixed(piece: Directive, bpftrace: bool) -> _Convert:
    """``%#x``: with 0x before it, unless it is zero, as in C; Python writes 0x0."""
    unsigned = _unsigned(piece, bpftrace)
    pad = f"0{piece.width}" if piece.width and "0" in piece.flags and "-" not in piece.flags else ""

    def write(value: Value) -> str:
        number = unsigned(value)
        return f"{number:{'#' if number else ''}{pad}{piece.conversion}}"

    return write


def _pointer(value: Value) -> str:
    return f"{_number(value) & (1 << 64) - 1:#x}"


def _character(value: Value, text: ValueText) -> str:
    return text.escape(bytes((_number(value) & 0xFF,)).decode("utf-8", "surrogateescape"))
