"""C in a script: where a preprocessor line or a struct, union or enum definition ends."""

from __future__ import annotations

import re
from typing import Final

# Patterns are text, and compiled when they are first used: few scripts contain C.
_SKIPPED: Final = r"(?s:(?:\s|//[^\n]*|/\*.*?\*/)*+)"
_PIECE: Final = r"//[^\n]*|/\*(?s:.*?)\*/|\"(?:[^\"\\\n]|\\.)*\"|[{}();]"
_ATTRIBUTE: Final = r"__attribute__\s*(?=\(\()"


def directive_end(text: str, start: int) -> int:
    """Return the end of a preprocessor line, which is the end of its line: there is no continuation."""
    end = text.find("\n", start)
    return end if end >= 0 else len(text)


def definition_end(text: str, start: int) -> int | None:
    """Return the end of a definition that begins with ``struct``, ``union`` or ``enum`` at ``start``.

    Attributes and a semicolon after the closing brace belong to it. None if a brace
    or parenthesis is not closed.
    """
    first = next((piece for piece in re.compile(_PIECE).finditer(text, start) if piece[0] in ("{", ";")), None)
    if first is not None and first[0] == ";":
        return first.end()  # a forward declaration: struct x;
    end = None if first is None else _balanced(text, first.start(), "{", "}")
    if end is None:
        return None
    while attribute := re.compile(_ATTRIBUTE).match(text, _skip(text, end)):
        end = _balanced(text, attribute.end(), "(", ")")
        if end is None:
            return None
    after = _skip(text, end)
    return after + 1 if text.startswith(";", after) else end


def _skip(text: str, position: int) -> int:
    skipped = re.compile(_SKIPPED).match(text, position)
    return skipped.end() if skipped else position


def _balanced(text: str, position: int, opening: str, closing: str) -> int | None:
    """Return the position after the bracket that closes the one at ``position``."""
    depth = 0
    for piece in re.compile(_PIECE).finditer(text, position):
        if piece[0] == opening:
            depth += 1
        elif piece[0] == closing:
            depth -= 1
            if depth == 0:
                return piece.end()
    return None
