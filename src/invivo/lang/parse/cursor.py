"""Where the parser stands in a text: the current token, and how a mistake there is reported."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Final, NoReturn

from invivo.diagnostics import Code, Diagnostic, Diagnostics, Note, SourceFile, Span
from invivo.lang import ast

# White space and comments, then one token; the name of the group is the token's kind. There is
# always a match. "bad" is what begins no token: a string or comment without an end, a stray character.
_TOKEN: Final = re.compile(
    r"(?:[ \t\r\n]++|//[^\n]*+|/\*[^*]*+\*++(?:[^/*][^*]*+\*++)*+/)*+"
    r"(?:(?P<name>[A-Za-z_][A-Za-z0-9_]*+)"
    r"|(?P<op>(?!/\*)(?:<<=|>>=|&&|\|\||[=!<>]=|<<|>>|\+\+|--|->|\.\.|[-+*/%&|^]=|[-+*/%&|^!~<>=?:;,.(){}\[\]#]))"
    r"|(?P<variable>\$[A-Za-z_][A-Za-z0-9_]*+)"
    r"|(?P<map>@(?:[A-Za-z_][A-Za-z0-9_]*+)?)"
    r"|(?P<number>[0-9][A-Za-z0-9_]*+)"
    r'|(?P<string>"(?:[^"\\\n]|\\[^\n])*+")'
    r"|(?P<parameter>\$(?:[0-9]++|\#))"
    r"|(?P<end>\Z)"
    r'|(?P<bad>"[^\n]*|/\*|(?s:.)))'
)

# Downstream stages walk the tree by recursion too; each level costs the parser up to six frames of
# Python's thousand.
_DEEPEST: Final = 80
_LONGEST_CHAIN: Final = 200

# Quotes as word processors write them, and those of other languages.
_QUOTES: Final = "'`\u2018\u2019\u201c\u201d\u201e\u00ab\u00bb"


class Failure(Exception):
    """The text cannot be read on from here. ``resume``: where reading could begin again."""

    def __init__(self, diagnostic: Diagnostic, resume: int | None = None) -> None:
        super().__init__(diagnostic.message)
        self.diagnostic = diagnostic
        self.resume = resume


class Cursor:
    """The current token of a text: ``kind`` and ``text``, from ``start`` to ``end``.

    Tokens are read one by one, when the one before is left, so that whoever knows better (an
    attach point, a C definition) reads the raw text at ``start`` and calls `jump`.
    ``braces`` are the offsets of the blocks that are open.  ``block`` reads a block: expressions
    contain blocks and blocks expressions, and one of the two modules must not import the other.
    """

    def __init__(
        self,
        source: SourceFile,
        diagnostics: Diagnostics,
        block: Callable[[Cursor], ast.Block],
        parameters: tuple[str, ...] = (),
    ) -> None:
        self.source = source
        self.diagnostics = diagnostics
        self.block = block
        self.parameters = parameters
        self.stop = len(source.text)
        self.kind = "end"
        self.text = ""
        self.start = self.end = self.previous_end = 0
        self.depth = 0
        self.braces: list[int] = []

    # -- moving --------------------------------------------------------------------------------

    def advance(self) -> None:
        """Go to the next token; at the end of the text, stay."""
        self.previous_end = self.end
        token = _TOKEN.match(self.source.text, self.end, self.stop)
        assert token is not None and token.lastgroup is not None, "some alternative always matches"
        self.kind = token.lastgroup
        self.text = token[self.kind]
        self.start, self.end = token.span(self.kind)

    def jump(self, position: int) -> None:
        """Go to the first token at or after a position."""
        self.end = position
        self.advance()

    def following(self, position: int | None = None) -> tuple[str, str, int]:
        """Return kind, text and end of the token after this one, or after a position, and stay here."""
        token = _TOKEN.match(self.source.text, self.end if position is None else position, self.stop)
        assert token is not None and token.lastgroup is not None, "some alternative always matches"
        return token.lastgroup, token[token.lastgroup], token.end()

    def accept(self, text: str) -> bool:
        """Step over a token if it is the current one."""
        if self.text == text:
            self.advance()
            return True
        return False

    def expect(self, text: str, opened: int | None = None) -> None:
        """Step over a token, or fail. ``opened`` is the offset of the bracket that it closes."""
        if self.text == text:
            self.advance()
            return
        notes: tuple[Note, ...] = ()
        if opened is not None and self.source.text[opened : self.start].count("\n"):
            notes = (Note(Span(self.source, opened, opened + 1), f"this '{self.source.text[opened]}' is not closed"),)
        self.fail_expected(f"'{text}'", notes=notes)

    def expect_name(self, what: str) -> tuple[str, Span]:
        """Step over an identifier and return it, or fail."""
        if self.kind != "name":
            self.fail_expected(what)
        name, span = self.text, self.token_span()
        self.advance()
        return name, span

    # -- places --------------------------------------------------------------------------------

    def token_span(self) -> Span:
        return Span(self.source, self.start, self.end)

    def span(self, start: int) -> Span:
        """Return the span from an offset to the end of the token before this one."""
        return Span(self.source, start, self.previous_end)

    def gap(self) -> Span:
        """Return the empty span just after the token before this one: where something is missing."""
        return Span(self.source, self.previous_end, self.previous_end)

    # -- limits --------------------------------------------------------------------------------

    def enter(self) -> None:
        """Count a level of nesting; the caller subtracts it when it is left."""
        self.depth += 1
        if self.depth > _DEEPEST:
            self.fail(f"nested deeper than {_DEEPEST} levels", code=Code.LIMIT)

    def check_chain(self, length: int) -> None:
        """Fail if an expression is a longer chain of operators than later stages can walk."""
        if length > _LONGEST_CHAIN:
            self.fail(
                f"more than {_LONGEST_CHAIN} operators in a row", "compute it in several statements", code=Code.LIMIT
            )

    # -- mistakes ------------------------------------------------------------------------------

    def fail(
        self,
        message: str,
        hint: str | None = None,
        *,
        span: Span | None = None,
        code: Code = Code.SYNTAX,
        notes: tuple[Note, ...] = (),
        resume: int | None = None,
        classic: str = "",
    ) -> NoReturn:
        """Give up at the current token, or at a span."""
        found = Diagnostic(code, span or self.token_span(), message, hint, notes=notes, classic=classic)
        raise Failure(found, resume)

    def fail_expected(self, what: str, hint: str | None = None, notes: tuple[Note, ...] = ()) -> NoReturn:
        """Say what should stand here, and what does."""
        if self.kind == "bad":
            self._fail_unreadable()
        span = self.gap() if self.kind == "end" else self.token_span()
        self.fail(f"expected {what}, found {self.found()}", hint, span=span, notes=notes)

    def found(self) -> str:
        """Return the current token as a message names it."""
        if self.kind == "end":
            return "the end of the text"
        if self.kind == "string":
            return "a string"
        return f"'{self.text}'"

    def _fail_unreadable(self) -> NoReturn:
        text = self.text
        if text.startswith('"'):
            self.fail("unterminated string", "a string ends on the line where it begins")
        if text == "/*":
            self.fail("unterminated comment", "it is closed by */, and comments do not nest")
        if text == "$":
            self.fail("expected a name or a number after '$'")
        shown = text if text.isprintable() else f"U+{ord(text):04X}"
        hint = 'strings stand in plain quotes: "..."' if text in _QUOTES else None
        self.fail(f"unexpected character '{shown}'", hint)
