"""``printf``: a format and values → text. A format is compiled once, to a template and converters."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from invivo.events import Value
from invivo.ir.format import Directive, Format
from invivo.values import ValueText, escaped_bytes

Formatter = Callable[[Sequence[Value]], str]
_Convert = Callable[..., object]

# Bits that a length modifier names; the neighbour (and C) take no modifier as 32 bits.
_LENGTH_BITS = {"": 32, "h": 16, "hh": 8, "l": 64, "ll": 64, "L": 64, "j": 64, "z": 64, "t": 64}


def compile_format(form: Format, text: ValueText, *, bpftrace: bool = False) -> Formatter:
    """Return a function values → text.

    ``bpftrace``: the neighbour's meaning of ``%d``, ``%u``, ``%x`` without length modifier, which
    is C's: only the low 32 bits are shown.  Otherwise the whole value is.
    A value that does not fit its directive gives ``!{message}`` instead of the text.
    """
    template = ""
    converts: list[_Convert] = []
    for piece in form.pieces:
        if isinstance(piece, str):
            template += piece.replace("%", "%%")
            continue
        conversion, convert = _directive(piece, text, bpftrace)
        template += f"%{conversion}"
        converts.append(convert)

    def write(values: Sequence[Value]) -> str:
        try:
            return template % tuple([convert(value) for convert, value in zip(converts, values, strict=True)])
        except (TypeError, ValueError, KeyError) as problem:
            return f"!{{{problem}}}"

    if not converts:
        literal = "".join(piece for piece in form.pieces if isinstance(piece, str))
        return lambda _: literal
    return write


def _directive(piece: Directive, text: ValueText, bpftrace: bool) -> tuple[str, _Convert]:
    """Return Python's spelling of a directive (without ``%``) and what happens to the value before."""
    width = str(piece.width or "")
    match piece.conversion:
        case "d" | "i" | "gr":
            return f"{_flags(piece, '-+ 0')}{width}d", _signed(piece, bpftrace)
        case "u":
            return f"{_flags(piece, '-0')}{width}d", _unsigned(piece, bpftrace)
        case "x" | "X":
            return f"{_flags(piece, '-#0')}{width}{piece.conversion}", _unsigned(piece, bpftrace)
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
    bits = _LENGTH_BITS[piece.length]
    half, mask = 1 << bits - 1, (1 << bits) - 1
    return lambda value: ((_number(value) + half) & mask) - half


def _unsigned(piece: Directive, bpftrace: bool) -> _Convert:
    mask = (1 << (64 if not piece.length and not bpftrace else _LENGTH_BITS[piece.length])) - 1
    return lambda value: _number(value) & mask


def _octal(piece: Directive, bpftrace: bool) -> _Convert:
    unsigned = _unsigned(piece, bpftrace)
    prefix = "0" if "#" in piece.flags else ""
    pad = piece.width if "0" in piece.flags and "-" not in piece.flags else 0
    return lambda value: f"{prefix}{unsigned(value):o}".rjust(pad, "0")


def _pointer(value: Value) -> str:
    return f"{_number(value) & (1 << 64) - 1:#x}"


def _character(value: Value, text: ValueText) -> str:
    return text.escape(bytes((_number(value) & 0xFF,)).decode("utf-8", "surrogateescape"))
