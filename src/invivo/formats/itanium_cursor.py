"""A position in a mangled C++ name, and the parts that were taken from it so far."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from invivo.record import Record

_DEEPEST: Final = 200  # nested parts; a hostile name must not exhaust the stack
_LONGEST: Final = 1 << 16  # characters of a result; references to references grow quickly


class Part(Record):
    """A type or name in two halves, with the place of a declarator between: ``void (*`` and ``)(int)``.

    ``template``: ends in template arguments.  ``plain``: the last component without them (for constructors).
    ``special``: a constructor, destructor or conversion, whose result is not part of the name.
    """

    left: str
    right: str = ""
    template: bool = False
    plain: str = ""
    special: bool = False
    wraps: bool = False  # a function or array: what points to it goes in parentheses
    pack: tuple[Part, ...] | None = None

    def text(self) -> str:
        if self.wraps and self.left.endswith(" (") and self.right.startswith(")"):
            return f"{self.left[:-2]} {self.right[1:].lstrip()}"  # nothing points to it
        return self.left + self.right


class MalformedError(Exception):
    """The name does not follow the grammar, or uses a part of it that is not known here."""


class Cursor:
    """A position in a mangled name, and what was seen so far."""

    def __init__(self, text: str, at: int) -> None:
        self.text = text
        self.at = at
        self.seen: list[Part] = []  # substitutions
        self.arguments: list[Part] = []  # of the innermost template whose parameters may be named
        self.depth = 0
        self.size = 0

    # -- characters ----------------------------------------------------------------------------

    def peek(self, count: int = 1) -> str:
        return self.text[self.at : self.at + count]

    def take(self, wanted: str) -> bool:
        if self.text.startswith(wanted, self.at):
            self.at += len(wanted)
            return True
        return False

    def expect(self, wanted: str) -> None:
        if not self.take(wanted):
            raise MalformedError

    def number(self) -> int:
        start = self.at
        self.take("n")
        while self.peek().isdigit():
            self.at += 1
        digits = self.text[start : self.at].replace("n", "-")
        return int(digits)

    def sequence(self) -> int:
        """``_`` is 0, ``0_`` 1, and so on."""
        if self.take("_"):
            return 0
        value = self.number() + 1
        self.expect("_")
        return value

    def nested(self, parse: Callable[[], Part]) -> Part:
        self.depth += 1
        if self.depth > _DEEPEST:
            raise MalformedError
        part = parse()
        self.depth -= 1
        self.size += len(part.left) + len(part.right)
        if self.size > _LONGEST:
            raise MalformedError
        return part

    def keep(self, part: Part) -> Part:
        self.seen.append(part)
        return part
