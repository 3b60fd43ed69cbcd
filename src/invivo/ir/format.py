"""printf formats, parsed once: literal text and directives."""

from __future__ import annotations

import re

from invivo.record import Record


class Directive(Record):
    """One conversion: ``%-10ld`` is ``Directive("-", 10, "l", "d")``.

    ``conversion`` is one of d i u o x X c p s r rx rh gr g e E f F G a A n.
    """

    flags: str
    width: int
    length: str
    conversion: str
    start: int = 0  # place in the format string
    end: int = 0


class Format(Record):
    """Literal pieces (``%%`` already replaced) and directives, in order."""

    pieces: tuple[str | Directive, ...]

    @property
    def directives(self) -> tuple[Directive, ...]:
        return tuple(piece for piece in self.pieces if not isinstance(piece, str))


# A text: compiled where the first format is parsed, which is 1 ms that a script without one does not pay.
_DIRECTIVE = (
    r"%(?P<flags>-?\+? ?#?0?)(?P<width>\*|\d+)?(?:\.(?:\*|\d+))?(?P<length>[hlLjzt]*)"
    r"(?P<conversion>gr|rh|rx|[diouxXeEfFGgaAcspnr%])"
)


def parse_format(text: str) -> Format:
    """Parse a printf format. A ``%`` that starts no directive stays as text."""
    pieces: list[str | Directive] = []
    literal = ""
    position = 0
    for match in re.finditer(_DIRECTIVE, text):
        literal += text[position : match.start()]
        position = match.end()
        if match["conversion"] == "%":
            literal += "%"
            continue
        if literal:
            pieces.append(literal)
            literal = ""
        width = match["width"] or ""
        pieces.append(
            Directive(
                match["flags"],
                int(width) if width.isdigit() else 0,
                match["length"],
                match["conversion"],
                match.start(),
                match.end(),
            )
        )
    literal += text[position:]
    if literal:
        pieces.append(literal)
    return Format(tuple(pieces))
