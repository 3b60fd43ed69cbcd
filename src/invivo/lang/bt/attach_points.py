"""The text of an attach point, ``uprobe:"/bin/my app":main``: where it ends and what its parts are."""

from __future__ import annotations

import re
from typing import Final

from invivo.record import Record

# Patterns are text, and compiled when they are first used: few scripts need any of them.
_QUOTED: Final = r'"((?:[^"\\\n]|\\[^\n])*)"'
_ESCAPED: Final = r'\\(["\\])'

# The start of a probe on a line of its own: what an unclosed block runs into.
PROBE_HEADER: Final = (
    r"(?:(?:BEGIN|END|begin|end)\b|[A-Za-z][A-Za-z0-9_]*(?::[^\s{},;:\"()]+)+)\s*(?:\{|,\s*[A-Za-z]|/[^\n]*/\s*\{)"
)


class AttachPointText(Record):
    """An attach point as it stands in ``text[start:end]``.

    ``expanded`` is its text with positional parameters replaced, without the label;
    ``parts`` are split at colons, without quotes.
    """

    start: int
    end: int
    label: str
    expanded: str
    parts: tuple[str, ...]


class AttachPointError(Exception):
    """Something in an attach point cannot be read: at ``text[start:end]``."""

    def __init__(self, message: str, start: int, end: int, hint: str | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.start = start
        self.end = end
        self.hint = hint


def split_attach_point(text: str, start: int, parameters: tuple[str, ...]) -> AttachPointText:
    """Return the attach point that begins at ``start``; it may be empty.

    It ends before white space, ``{``, ``,`` and, as long as there was no colon, ``/``.
    ``$1`` outside quotes becomes the first parameter, which is never split itself; a
    parameter that was not given is empty. Raises `AttachPointError`.
    """
    label = _label(text, start)
    position = begin = start + len(label) + 1 if label else start
    parts = [""]
    expanded: list[str] = []
    while position < len(text):
        character = text[position]
        if character.isspace() or character in "{,":
            break
        if character == "/" and len(parts) == 1:
            break
        if character == ":":
            parts.append("")
            expanded.append(":")
            position += 1
            continue
        value, shown, position = _piece(text, position, parameters)
        parts[-1] += value
        expanded.append(shown)
    if label and position == begin:
        raise AttachPointError("expected a probe after its name", start, position)
    return AttachPointText(start, position, label, "".join(expanded), tuple(parts))


def _label(text: str, start: int) -> str:
    """Return the user's name for the probe that begins at ``start``: the text before ``=``."""
    end = start
    while end < len(text) and (text[end].isalnum() or text[end] == "_"):
        end += 1
    name = text[start:end]
    return name if text.startswith("=", end) and name.isidentifier() else ""


def _piece(text: str, position: int, parameters: tuple[str, ...]) -> tuple[str, str, int]:
    """Return value, spelling and end of a quoted string, a parameter or a run of plain characters."""
    if text[position] == '"':
        quoted = re.compile(_QUOTED).match(text, position)
        if quoted is None:
            line_end = text.find("\n", position)
            raise AttachPointError("unterminated string", position, line_end if line_end >= 0 else len(text))
        return re.sub(_ESCAPED, r"\1", quoted[1]), quoted[0], quoted.end()
    if text[position] == "$":
        return _parameter(text, position, parameters)
    end = position + 1
    while end < len(text) and not text[end].isspace() and text[end] not in '{,:"$/':
        end += 1
    plain = text[position:end]
    if not plain.isprintable():
        _refuse_invisible(plain, position)
    return plain, plain, end


def _refuse_invisible(plain: str, position: int) -> None:
    for offset, character in enumerate(plain, position):
        # Bytes of a path that are not UTF-8 are lone surrogates here.
        if not character.isprintable() and not "\udc80" <= character <= "\udcff":
            raise AttachPointError(f"unexpected character 'U+{ord(character):04X}'", offset, offset + 1)


def _parameter(text: str, position: int, parameters: tuple[str, ...]) -> tuple[str, str, int]:
    end = position + 1
    while end < len(text) and text[end] in "0123456789":
        end += 1
    digits = text[position + 1 : end]
    if not digits:
        raise AttachPointError(
            "invalid trailing character for positional param",
            position,
            min(position + 2, len(text)),
            "$1, $2 ... stand for the script's arguments; quote the text if the $ belongs to it",
        )
    number = parameter_number(digits)
    if number is None:
        raise AttachPointError(out_of_range(digits), position, end)
    value = parameters[number - 1] if number <= len(parameters) else ""
    return value, value, end


def parameter_number(digits: str) -> int | None:
    """Return the number of a positional parameter; None if there can be no such parameter."""
    number = int(digits) if len(digits) < 20 else 0
    return number if 1 <= number < 1 << 63 else None


def out_of_range(digits: str) -> str:
    return f"param ${digits} is out of integer range [1, 9223372036854775807]"
