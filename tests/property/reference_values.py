"""What values are to the reference interpreter: conversion, comparison, buckets, text.

Nothing here is taken from lowering, the passes, code generation or the runtime.  A string is a
``str`` whose characters are its bytes; a tuple a ``tuple``, a record a ``dict``, an array a ``list``.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

from invivo.ir import types as t
from invivo.ir.types import Type

Value = int | str | bytes | tuple["Value", ...] | dict[str, "Value"] | list["Value"]


class UnspecifiedError(Exception):
    """The language does not say what the program does: no result can be wrong."""


def wrap(value: int, bits: int, *, signed: bool) -> int:
    value &= (1 << bits) - 1
    return value - (1 << bits) if signed and value >> (bits - 1) else value


def zero(type_: Type) -> Value:
    match type_:
        case t.Bool():
            return False
        case t.String() | t.ProbeName():
            return ""
        case t.Buffer():
            return b""
        case t.Tuple(elements):
            return tuple(zero(element) for element in elements)
        case t.NamedTuple(names, elements):
            return {name: zero(element) for name, element in zip(names, elements, strict=True)}
        case t.Array(element, length):
            return [zero(element) for _ in range(length)]
        case _:
            return 0


def convert(value: Value, type_: Type) -> Value:
    """A value as one of another type that holds it: stored, passed on, promoted."""
    match type_, value:
        case t.Bool(), int():
            return bool(value)
        case t.Int(bits, signed) | t.Enumeration(_, bits, signed), int():
            return wrap(int(value), bits, signed=signed)
        case t.String(capacity), str():
            if len(value) >= capacity:
                raise UnspecifiedError("a string is cut")
            return value
        case t.Tuple(elements), tuple():
            return tuple(convert(part, element) for part, element in zip(value, elements, strict=True))
        case t.NamedTuple(names, elements), dict():
            return {name: convert(value[name], element) for name, element in zip(names, elements, strict=True)}
        case _:
            return wrap(int(value), 64, signed=False) if isinstance(value, int) else value


def equal(left: Value, right: Value) -> bool:
    """Whether two values in memory are the same value; numbers by their 64 bits."""
    if isinstance(left, int) and isinstance(right, int):
        return (left - right) & ((1 << 64) - 1) == 0
    if isinstance(left, tuple | list) and isinstance(right, tuple | list):
        return len(left) == len(right) and all(equal(a, b) for a, b in zip(left, right, strict=True))
    if isinstance(left, dict) and isinstance(right, dict):
        return left.keys() == right.keys() and all(equal(value, right[name]) for name, value in left.items())
    return left == right


def frozen(value: Value) -> object:
    """A value as something that can be a dictionary's key."""
    match value:
        case tuple() | list():
            return tuple(frozen(part) for part in value)
        case dict():
            return tuple((name, frozen(part)) for name, part in value.items())
        case _:
            return value


def quotient(left: int, right: int) -> int:
    """Towards zero."""
    result = abs(left) // abs(right)
    return result if (left < 0) == (right < 0) else -result


def arithmetic(op: str, left: int, right: int, *, signed: bool) -> int:
    """``left op right`` on 64 bits; a division by zero gives 0."""
    left, right = wrap(left, 64, signed=signed), wrap(right, 64, signed=signed)
    count = right & 63
    match op:
        case "+":
            result = left + right
        case "-":
            result = left - right
        case "*":
            result = left * right
        case "/":
            result = quotient(left, right) if right else 0
        case "%":
            result = left - right * quotient(left, right) if right else 0
        case "&":
            result = left & right
        case "|":
            result = left | right
        case "^":
            result = left ^ right
        case "<<":
            result = left << count
        case ">>":
            result = left >> count
        case _:
            raise AssertionError(op)
    return wrap(result, 64, signed=signed)


def compare(op: str, left: int, right: int, *, signed: bool) -> bool:
    left, right = wrap(left, 64, signed=signed), wrap(right, 64, signed=signed)
    match op:
        case "==":
            return left == right
        case "!=":
            return left != right
        case "<":
            return left < right
        case "<=":
            return left <= right
        case ">":
            return left > right
        case ">=":
            return left >= right
        case _:
            raise AssertionError(op)


# -- histograms --------------------------------------------------------------------------------

Bounds = tuple[int | None, int | None]


def power_buckets(bits: int) -> Iterator[Bounds]:
    """Negative numbers; exact ones up to 2**(bits+1); then every power of two in 2**bits parts."""
    yield None, -1
    for number in range(2 << bits):
        yield number, number
    for power in range(bits + 1, 64):
        width = 1 << (power - bits)
        for part in range(1 << bits):
            low = (1 << power) + part * width
            yield low, low + width - 1


def linear_buckets(low: int, high: int, step: int) -> Iterator[Bounds]:
    yield None, low - 1
    last = low + (high - low) // step * step
    for start in range(low, last, step):
        yield start, start + step - 1
    yield last, None


def buckets(type_: t.Histogram | t.LinearHistogram) -> Iterator[Bounds]:
    match type_:
        case t.Histogram(bits):
            return power_buckets(bits)
        case t.LinearHistogram(low, high, step):
            return linear_buckets(low, high, step)


def bucket_of(type_: t.Histogram | t.LinearHistogram, value: int) -> int:
    for index, (low, high) in enumerate(buckets(type_)):
        if (low is None or low <= value) and (high is None or value <= high):
            return index
    raise AssertionError(value)


# -- text --------------------------------------------------------------------------------------


def readable(text: str) -> str:
    """Bytes as the text they stand for."""
    return text.encode("latin-1").decode("utf-8", "surrogateescape")


def text_of(value: Value, type_: Type) -> str:
    """How a value is written, ``%s``."""
    match type_, value:
        case t.Bool(), int():
            return "true" if value else "false"
        case t.Pointer() | t.KernelSymbol() | t.UserSymbol(), int():
            return hex(value)
        case t.Enumeration(_, _, _, variants), int():
            return next((name for name, number in variants if number == value), str(int(value)))
        case t.Tuple(elements), tuple():
            return f"({', '.join(text_of(part, element) for part, element in zip(value, elements, strict=True))})"
        case t.NamedTuple(_, elements), dict():
            pairs = zip(value.items(), elements, strict=True)
            return "{ " + ", ".join(f".{name} = {text_of(part, element)}" for (name, part), element in pairs) + " }"
        case t.Array(element), list():
            return f"[{','.join(text_of(part, element) for part in value)}]"
        case _, bytes():
            return "".join(chr(byte) if 32 <= byte < 127 else f"\\x{byte:02x}" for byte in value)
        case _, str():
            return readable(value)
        case _, int():
            return str(int(value))
        case _:
            raise AssertionError((value, type_))


_DIRECTIVE = re.compile(r"%([-+ #0]*)(\d*)(hh|h|ll|l|j|z|t)?(rx|rh|r|[diouxXcps%])")
_BITS = {"hh": 8, "h": 16, "l": 64, "ll": 64, "j": 64, "z": 64, "t": 64, None: 64}


def formatted(form: str, values: list[Value], types: list[Type]) -> str:
    """``printf``'s text; a number without a length modifier is shown whole."""
    rest = iter(list(zip(values, types, strict=True)))

    def one(match: re.Match[str]) -> str:
        flags, width, length, conversion = match.groups()
        if conversion == "%":
            return "%"
        value, type_ = next(rest)
        return _padded(_converted(value, type_, length, conversion, flags), flags, width, conversion)

    return readable(_DIRECTIVE.sub(one, form)) if not values else _DIRECTIVE.sub(one, readable(form))


def _padded(text: str, flags: str, width: str, conversion: str) -> str:
    wide = int(width or 0)
    if "-" in flags:
        return text.ljust(wide)
    if "0" in flags and conversion in "dioxXu":
        sign = text[0] if text[:1] in ("-", "+", " ") else text[:2] if text[:2] in ("0x", "0X") else ""
        return sign + text[len(sign) :].rjust(wide - len(sign), "0")
    return text.rjust(wide)


def _converted(value: Value, type_: Type, length: str | None, conversion: str, flags: str) -> str:
    if conversion == "s":
        return text_of(value, type_)
    if isinstance(value, bytes):
        match conversion:
            case "rx":
                return "".join(f"\\x{byte:02x}" for byte in value)
            case "rh":
                return value.hex(" ")
            case _:
                return text_of(value, type_)
    assert isinstance(value, int), (value, conversion)
    number = int(value)
    unsigned = wrap(number, _BITS[length], signed=False)
    match conversion:
        case "d" | "i":
            shown = number if length is None else wrap(number, _BITS[length], signed=True)
            return ("+" if "+" in flags and shown >= 0 else "") + str(shown)
        case "u":
            return str(unsigned)
        case "x" | "X" | "o":
            prefix = {"x": "0x", "X": "0X", "o": "0"}[conversion] if "#" in flags and unsigned else ""
            return prefix + format(unsigned, conversion)
        case "c":
            return bytes((unsigned & 255,)).decode("utf-8", "surrogateescape")
        case "p":
            return hex(wrap(number, 64, signed=False))
        case _:
            raise AssertionError(conversion)
