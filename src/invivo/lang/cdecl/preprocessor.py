"""The preprocessor's lines in a script: constants and conditions."""

from __future__ import annotations

import re

from invivo.diagnostics import Code, Diagnostics, SourceFile, Span
from invivo.lang import ast
from invivo.lang.cdecl.constant import evaluate
from invivo.lang.cdecl.declarations import Define, Include
from invivo.lang.cdecl.reader import Found, Reader
from invivo.lang.parse import parse_constant


class Preprocessor:
    """The preprocessor's lines: what is defined, and whether the text at hand counts."""

    def __init__(self, predefined: tuple[str, ...], found: Found) -> None:
        self.predefined = set(predefined)
        self.found = found
        self.open: list[tuple[Span, bool, bool]] = []  # where, does it count now, has a branch counted

    @property
    def active(self) -> bool:
        return all(counts for _, counts, _ in self.open)

    def directive(self, source: SourceFile, start: int, stop: int, diagnostics: Diagnostics) -> Include | None:
        """Act on one line that begins with ``#``; return what it includes."""
        r = Reader(source, start, stop, self.found)
        r.expect("#")
        word = r.text
        span = Span(source, start, r.end)
        r.advance()
        match word:
            case "ifdef" | "ifndef":
                counts = self._is_defined(_name(r)) == (word == "ifdef")
                self.open.append((span, counts, counts))
            case "if":
                counts = self._holds(r)
                self.open.append((span, counts, counts))
            case "elif" | "else" | "endif":
                self._continue(r, word, span)
            case _ if not self.active:
                pass
            case "define":
                self._define(r, diagnostics)
            case "undef":
                name = _name(r)
                self.predefined.discard(name)
                self.found.defines.pop(name, None)
            case "include":
                return _include(r, start, stop)
            case "pragma" | "":
                pass
            case "error":
                r.fail(f"#error {source.text[r.start : stop].strip()}", Span(source, start, stop))
            case _:
                r.fail(f"unknown preprocessor line '#{word}'", span)
        return None

    def _continue(self, r: Reader, word: str, span: Span) -> None:
        if not self.open:
            r.fail(f"#{word} without #if", span)
        opened, _, taken = self.open.pop()
        if word != "endif":
            counts = not taken and (word == "else" or self._holds(r))
            self.open.append((opened, counts, taken or counts))

    def _is_defined(self, name: str) -> bool:
        return name in self.predefined or name in self.found.defines

    def _holds(self, r: Reader) -> bool:
        """Return whether the condition of ``#if`` holds: names that are not defined are 0, as in C."""
        if not self.active:
            return False
        # `defined x` becomes `defined(x)`, which is an expression.
        text = re.sub(r"\bdefined\s+(\w+)", r"defined(\1)", r.source.text[r.start : r.stop])
        expr = parse_constant(SourceFile(r.source.name, text), 0, len(text))
        value = None if expr is None else evaluate(self._resolved(expr), self.found, ())
        if value is None:
            r.fail("this condition is not a constant", Span(r.source, r.start, r.stop))
        return value != 0

    def _resolved(self, expr: ast.Expr) -> ast.Expr:
        """Return a condition with ``defined(x)`` and unknown names replaced by 1 or 0."""
        match expr:
            case ast.Call(span, "defined", _, (ast.Name(_, name),)):
                return ast.Integer(span, int(self._is_defined(name)))
            case ast.Name(span, name) if name not in self.found.constants and name not in self.found.defines:
                return ast.Integer(span, int(name in self.predefined))
            case ast.Unary(span, op, operand):
                return ast.Unary(span, op, self._resolved(operand))
            case ast.Binary(span, op, left, right):
                return ast.Binary(span, op, self._resolved(left), self._resolved(right))
            case _:
                return expr

    def _define(self, r: Reader, diagnostics: Diagnostics) -> None:
        start, name = r.start, _name(r)
        if r.text == "(" and r.start == r.previous_end:
            diagnostics.warning(
                Code.BAD_DECLARATION,
                r.span(start),
                f"the macro {name}() is ignored: it has parameters",
                "write it as a macro of the language: macro name(x) { ... }",
            )
            return
        begin = r.start
        while r.kind != "end":
            r.advance()
        text = r.source.text[begin : r.previous_end] if r.previous_end > begin else ""
        value = parse_constant(r.source, begin, r.previous_end) if text else None
        self.found.defines[name] = Define(name, text, value, r.span(start))


def _name(r: Reader) -> str:
    if r.kind != "name":
        r.fail_expected("a name")
    name = r.text
    r.advance()
    return name


def _include(r: Reader, start: int, stop: int) -> Include:
    text = r.source.text[r.start : stop]
    path = re.match(r"<([^>]+)>|\"([^\"]+)\"", text)
    if path is None:
        r.fail('expected <file> or "file" after #include', Span(r.source, start, stop))
    return Include(path[1] or path[2], Span(r.source, start, r.start + path.end()), path[1] is None)
