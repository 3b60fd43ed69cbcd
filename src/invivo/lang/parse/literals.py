"""The values of integer and string literals."""

from __future__ import annotations

from typing import Final

from invivo.diagnostics import Code, Diagnostics, Span
from invivo.lang import ast

_DURATIONS_NS: Final = {
    "ns": 1,
    "us": 1_000,
    "ms": 1_000_000,
    "s": 1_000_000_000,
    "m": 60_000_000_000,
    "h": 3_600_000_000_000,
    "d": 86_400_000_000_000,
}
_LENGTH_SUFFIXES: Final = ("u", "l", "ll", "ul", "ull")
_LARGEST: Final = (1 << 64) - 1
_LARGEST_EXPONENT: Final = 19  # 10**19 is the last power of ten in 64 bits
_ESCAPES: Final = {"n": "\n", "t": "\t", "r": "\r", '"': '"', "\\": "\\"}
_HEX: Final = "0123456789abcdefABCDEF"


class BadLiteralError(Exception):
    """A literal has no value. ``start`` and ``end`` count from its first character."""

    def __init__(self, message: str, start: int, end: int, hint: str | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.start = start
        self.end = end
        self.hint = hint


def integer(text: str, span: Span, diagnostics: Diagnostics) -> ast.Integer:
    """Return the node of an integer literal. One that is wrong is reported and counts as 0."""
    if text.isdigit() and text[0] != "0" and len(text) < 20:
        return ast.Integer(span, int(text))
    try:
        value, duration = parse_integer(text)
    except BadLiteralError as error:
        _report(error, span, diagnostics)
        value, duration = 0, False
    return ast.Integer(span, value, duration)


def string(text: str, span: Span, diagnostics: Diagnostics) -> ast.StringLiteral:
    """Return the node of a string literal with its quotes. One that is wrong is reported and empty."""
    body = text[1:-1]
    if "\\" in body or not body.isascii():
        try:
            body = parse_string(body)
        except BadLiteralError as error:
            _report(BadLiteralError(error.message, error.start + 1, error.end + 1, error.hint), span, diagnostics)
            body = ""
    return ast.StringLiteral(span, body)


def text_string(text: str, span: Span, diagnostics: Diagnostics) -> str:
    """Return the value of a string literal that is text and not bytes: a path, a config value."""
    return string(text, span, diagnostics).value.encode("latin-1").decode("utf-8", "surrogateescape")


def _report(error: BadLiteralError, span: Span, diagnostics: Diagnostics) -> None:
    place = Span(span.source, span.start + error.start, span.start + error.end)
    diagnostics.error(Code.BAD_LITERAL, place, error.message, error.hint)


def parse_integer(text: str) -> tuple[int, bool]:
    """Return the value of a literal, and whether it is a duration (then in nanoseconds).

    ``0x`` is hexadecimal, a leading 0 octal, ``1e6`` a million; underscores may stand
    between digits; the suffixes of C mean nothing. Raises `BadLiteralError`.
    """
    if text[:2] in ("0x", "0X"):
        value, end, duration = *_hexadecimal(text), False
    else:
        value, end, duration = _decimal(text)
    if end < len(text):
        raise BadLiteralError(
            f"invalid integer suffix '{text[end:]}'",
            end,
            len(text),
            "hexadecimal literals take no suffix" if text[:2] in ("0x", "0X") else "durations are ns us ms s m h d",
        )
    if value > _LARGEST:
        raise BadLiteralError("integer literal does not fit in 64 bits", 0, len(text))
    return value, duration


def _hexadecimal(text: str) -> tuple[int, int]:
    end = _run(text, 2, _HEX + "_")
    digits = text[2:end].replace("_", "")
    if not digits:
        raise BadLiteralError("expected hexadecimal digits after '0x'", 0, len(text))
    _refuse_trailing_underscore(text, end)
    return int(digits, 16), end


def _decimal(text: str) -> tuple[int, int, bool]:
    """Return value, end of what was read, and whether it is a duration."""
    end = _run(text, 0, "0123456789_")
    _refuse_trailing_underscore(text, end)
    digits = text[:end].replace("_", "")
    octal = len(digits) > 1 and digits[0] == "0"
    if (octal and not digits.isdecimal()) or (octal and set(digits) & set("89")):
        raise BadLiteralError(f"invalid octal literal '{text[:end]}'", 0, end, "a leading 0 makes a number octal")
    # The length limit keeps int() away from its own limit of 4,300 digits.
    value = int(digits, 8 if octal else 10) if len(digits) < 100 else _LARGEST + 1
    if text[end : end + 1] in ("e", "E"):
        exponent_end = _run(text, end + 1, "0123456789_")
        exponent = text[end + 1 : exponent_end].replace("_", "")
        if exponent:
            _refuse_trailing_underscore(text, exponent_end)
            if len(exponent) > 2 or int(exponent) > _LARGEST_EXPONENT:
                raise BadLiteralError("integer literal does not fit in 64 bits", 0, len(text))
            value *= 10 ** int(exponent)
            end = exponent_end
    suffix = text[end:]
    if suffix in _DURATIONS_NS:
        return value * _DURATIONS_NS[suffix], len(text), True
    if suffix.lower() in _LENGTH_SUFFIXES:
        end = len(text)
    return value, end, False


def _run(text: str, start: int, characters: str) -> int:
    end = start
    while end < len(text) and text[end] in characters:
        end += 1
    return end


def _refuse_trailing_underscore(text: str, end: int) -> None:
    if text[end - 1] == "_":
        raise BadLiteralError("trailing underscore in integer literal", end - 1, end)


def parse_string(body: str) -> str:
    """Return the bytes of a literal without its quotes, one character for each (latin-1).

    Raises `BadLiteralError` for an escape that does not exist.
    """
    pieces: list[str] = []
    position = 0
    while (backslash := body.find("\\", position)) >= 0:
        pieces.append(_bytes_of(body[position:backslash]))
        character, position = _escape(body, backslash)
        pieces.append(character)
    pieces.append(_bytes_of(body[position:]))
    return "".join(pieces)


def _bytes_of(text: str) -> str:
    # A byte that was not UTF-8 came into the text as a lone surrogate, and goes out as that byte.
    if text.isascii():
        return text
    try:
        return text.encode("utf-8", "surrogateescape").decode("latin-1")
    except UnicodeEncodeError as error:
        raise BadLiteralError("a string with half a character", 0, len(text)) from error


def _escape(body: str, start: int) -> tuple[str, int]:
    """Return the character that an escape means and the position after it."""
    letter = body[start + 1]
    if letter in _ESCAPES:
        return _ESCAPES[letter], start + 2
    if letter in "01234567":
        end = _run(body[: start + 4], start + 1, "01234567")
        value = int(body[start + 1 : end], 8)
        if value > 255:
            raise BadLiteralError("octal escape sequence out of range", start, end, r"the largest is \377")
        return chr(value), end
    if letter in "xX":
        end = _run(body[: start + 4], start + 2, _HEX)
        if end == start + 2:
            raise BadLiteralError("invalid hex escape sequence", start, end)
        return chr(int(body[start + 2 : end], 16)), end
    raise BadLiteralError(
        f"invalid escape character '\\{letter}'", start, start + 2, r"escapes are \n \t \r \" \\ \101 \x41"
    )
