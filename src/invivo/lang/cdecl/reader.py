"""Where the reading of a C declaration stands."""

from __future__ import annotations

import re
from typing import Final, NoReturn

from invivo.diagnostics import Code, Diagnostic, SourceFile, Span
from invivo.lang.cdecl.declarations import Define, EnumDeclaration, Include, Member, StructDeclaration

_TOKEN: Final = (
    r"(?:\s++|//[^\n]*+|/\*(?s:.*?)\*/)*+"
    r"(?:(?P<name>[A-Za-z_]\w*+)|(?P<number>[0-9]\w*+)|(?P<string>\"(?:[^\"\\\n]|\\.)*+\")"
    r"|(?P<end>\Z)|(?P<op><<|>>|(?s:.)))"
)


class BadDeclarationError(Exception):
    def __init__(self, diagnostic: Diagnostic) -> None:
        super().__init__(diagnostic.message)
        self.diagnostic = diagnostic


class Reader:
    """The current token of one definition, and all that was declared so far."""

    def __init__(self, source: SourceFile, start: int, stop: int, found: Found) -> None:
        self.source = source
        self.stop = stop
        self.found = found
        self.pattern = re.compile(_TOKEN, re.ASCII)
        self.depth = 0
        self.end = start
        self.advance()

    def advance(self) -> None:
        self.previous_end = self.end
        token = self.pattern.match(self.source.text, self.end, self.stop)
        assert token is not None and token.lastgroup is not None, "some alternative always matches"
        self.kind, self.text = token.lastgroup, token[token.lastgroup]
        self.start, self.end = token.span(self.kind)

    def accept(self, text: str) -> bool:
        if self.text == text:
            self.advance()
            return True
        return False

    def expect(self, text: str) -> None:
        if not self.accept(text):
            self.fail_expected(f"'{text}'")

    def expect_name(self, what: str) -> str:
        if self.kind != "name":
            self.fail_expected(what)
        name = self.text
        self.advance()
        return name

    def span(self, start: int) -> Span:
        return Span(self.source, start, self.previous_end)

    def fail(self, message: str, span: Span | None = None, hint: str | None = None) -> NoReturn:
        place = span or Span(self.source, self.start, self.end)
        raise BadDeclarationError(Diagnostic(Code.BAD_DECLARATION, place, message, hint))

    def fail_expected(self, what: str) -> NoReturn:
        found = f"'{self.text}'" if self.kind != "end" else "the end of the definition"
        self.fail(f"expected {what}, found {found}")


class Found:
    """What was declared so far."""

    def __init__(self) -> None:
        self.structs: list[StructDeclaration] = []
        self.enums: list[EnumDeclaration] = []
        self.defines: dict[str, Define] = {}
        self.includes: list[Include] = []
        self.constants: dict[str, int] = {}
        self.typedefs: dict[str, Member] = {}
