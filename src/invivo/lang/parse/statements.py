"""Statements and blocks."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Final, NoReturn

from invivo.diagnostics import Note, Span
from invivo.lang import ast
from invivo.lang.bt.attach_points import PROBE_HEADER
from invivo.lang.parse.cursor import Cursor
from invivo.lang.parse.expressions import parse_condition, parse_expression, parse_if, parse_operand, parse_type
from invivo.lang.parse.literals import text_string

_ASSIGNMENTS: Final = frozenset(["=", "+=", "-=", "*=", "/=", "%=", "&=", "|=", "^=", "<<=", ">>="])
_BINARY: Final = frozenset(["||", "&&", "|", "^", "&", "+", "-", "*", "/", "%", "<<", ">>"])

# What can follow an operand, and cannot begin a statement.
_CONTINUATIONS: Final = frozenset(
    [".", "->", "[", "?", "||", "&&", "|", "^", "==", "!=", "<", "<=", ">", ">=", "<<", ">>", "+", "/", "%"]
)


def parse_block(c: Cursor) -> ast.Block:
    """Read ``{ statements }``; an expression without a semicolon at the end is the block's value."""
    start = c.start
    c.enter()
    c.expect("{")
    c.braces.append(start)
    statements: list[ast.Statement] = []
    result: ast.Expr | None = None
    while c.text != "}":
        if c.accept(";"):
            continue
        if c.kind == "end":
            _fail_unclosed(c, c.gap())
        statement = _statement(c)
        if c.text == "}" and isinstance(statement, ast.ExprStatement) and _is_value(c, statement.expr):
            result = statement.expr
        else:
            statements.append(statement)
    c.braces.pop()
    c.depth -= 1
    c.advance()
    return ast.Block(c.span(start), tuple(statements), result)


def _is_value(c: Cursor, expr: ast.Expr) -> bool:
    """Whether the last statement of a block is its value: nothing ended it, and it has one."""
    return c.source.text[c.previous_end - 1] != ";" and has_value(expr)


def has_value(expr: ast.Expr) -> bool:
    """Whether an expression has a value by its form: an ``if`` does if all its branches do."""
    if isinstance(expr, ast.Comptime):
        return has_value(expr.operand)
    while isinstance(expr, ast.IfExpr):
        if expr.then.result is None or expr.otherwise is None:
            return False
        if isinstance(expr.otherwise, ast.Block):
            return expr.otherwise.result is not None
        expr = expr.otherwise
    return not isinstance(expr, ast.BlockExpr) or expr.block.result is not None


def _fail_unclosed(c: Cursor, span: Span, resume: int | None = None) -> NoReturn:
    opened = c.braces[-1]
    note = Note(Span(c.source, opened, opened + 1), "this '{' is not closed")
    c.fail("expected '}'", span=span, notes=(note,), resume=resume)


def _statement(c: Cursor) -> ast.Statement:
    read = _STATEMENTS.get(c.text, _simple)
    return read(c)


def _if(c: Cursor) -> ast.Statement:
    return _whole(c, parse_if)


def _block(c: Cursor) -> ast.Statement:
    return _whole(c, _block_expression)


def _block_expression(c: Cursor) -> ast.Expr:
    block = parse_block(c)
    return ast.BlockExpr(block.span, block)


def _whole(c: Cursor, read: Callable[[Cursor], ast.Expr]) -> ast.Statement:
    """Read what is a statement without a semicolon: `{ ... } *$p = 1` is two statements.

    Where no statement could follow, it is the beginning of an expression: `{ 1 } + 2`.
    """
    start, before = c.start, len(c.diagnostics.found)
    expr = read(c)
    if c.text not in _CONTINUATIONS:
        return ast.ExprStatement(expr.span, expr)
    del c.diagnostics.found[before:]  # they will be found again
    c.jump(start)
    return _simple(c)


def _comptime(c: Cursor) -> ast.Statement:
    return _whole(c, _comptime_if) if c.following()[1] == "if" else _simple(c)


def _comptime_if(c: Cursor) -> ast.Expr:
    start = c.start
    c.advance()
    pruned = parse_if(c)
    return ast.Comptime(c.span(start), pruned)


def _while(c: Cursor) -> ast.Statement:
    start = c.start
    c.advance()
    condition = parse_condition(c)
    body = parse_block(c)
    return ast.While(c.span(start), condition, body)


def _unroll(c: Cursor) -> ast.Statement:
    start = c.start
    c.advance()
    count = parse_condition(c)
    body = parse_block(c)
    return ast.Unroll(c.span(start), count, body)


def _else(c: Cursor) -> NoReturn:
    c.fail("'else' without 'if'")


def _end_statement(c: Cursor, start: int) -> None:
    """Step over the semicolon; it may be left out before the end of the block."""
    if c.text == ";":
        c.advance()
        return
    if c.text == "}":
        return
    if c.kind == "end":
        _fail_unclosed(c, c.gap())
    text = c.source.text
    line_start = text.rfind("\n", 0, start) + 1
    header = re.compile(PROBE_HEADER).match(text, start)
    if header and not text[line_start:start].strip():
        _fail_unclosed(c, Span(c.source, start, c.previous_end), resume=start)
    if c.kind == "bad":
        c.fail_expected("';'")
    hint = None
    if c.text in _ASSIGNMENTS:
        hint = "an assignment is a statement: it cannot stand in an expression"
    c.fail("expected ';'", hint, span=c.gap())


def _simple(c: Cursor) -> ast.Statement:
    """Read an assignment or an expression."""
    start = c.start
    expr = parse_expression(c)
    op = c.text
    if op not in _ASSIGNMENTS:
        _end_statement(c, start)
        return ast.ExprStatement(expr.span, expr)
    c.advance()
    value = parse_expression(c)
    span = c.span(start)
    _end_statement(c, start)
    return ast.Assign(span, expr, op[:-1], value)


def _discard(c: Cursor) -> ast.Statement:
    if c.following()[1] != "=":
        return _simple(c)
    start = c.start
    c.advance()
    c.expect("=")
    value = parse_expression(c)
    span = c.span(start)
    _end_statement(c, start)
    return ast.Discard(span, value)


def _jump(c: Cursor) -> ast.Statement:
    start, word = c.start, c.text
    c.advance()
    value = None
    if word == "return" and c.text not in (";", "}"):
        value = parse_expression(c)
    span = c.span(start)
    _end_statement(c, start)
    if word == "return":
        return ast.Return(span, value)
    return ast.Break(span) if word == "break" else ast.Continue(span)


def _import(c: Cursor) -> ast.Statement:
    start = c.start
    if c.following()[0] != "string":
        return _simple(c)
    c.advance()
    path = text_string(c.text, c.token_span(), c.diagnostics)
    c.advance()
    span = c.span(start)
    _end_statement(c, start)
    return ast.ImportStatement(span, path)


def _let(c: Cursor) -> ast.Statement:
    start = c.start
    c.advance()
    if c.kind == "map":
        c.fail("expected a variable, found a map", "a map declaration stands outside of the probes")
    variable = _variable(c)
    type_ = parse_type(c) if c.accept(":") else None
    value = parse_expression(c) if c.accept("=") else None
    span = c.span(start)
    _end_statement(c, start)
    return ast.Let(span, variable, type_, value)


def _variable(c: Cursor) -> ast.ScratchVariable:
    if c.kind != "variable":
        c.fail_expected("a variable, such as $x")
    variable = ast.ScratchVariable(c.token_span(), c.text[1:])
    c.advance()
    return variable


def _for(c: Cursor) -> ast.Statement:
    start = c.start
    c.advance()
    opened = c.start
    parenthesised = c.accept("(")
    variable = _variable(c)
    c.expect(":")
    first = parse_operand(c)
    if c.accept(".."):
        last = parse_operand(c)
        _finish_header(c, opened if parenthesised else None)
        body = parse_block(c)
        return ast.ForRange(c.span(start), variable, first, last, body)
    if not isinstance(first, ast.MapAccess):
        if c.text in _BINARY:
            _finish_header(c, None)
        c.fail("expected a map or a range", "for $i : 0..10 { } or for $kv : @map { }", span=first.span)
    if first.keys:
        c.fail("expected a map without a key", f"the loop goes over all of {first.name}", span=first.span)
    _finish_header(c, opened if parenthesised else None)
    body = parse_block(c)
    return ast.ForMap(c.span(start), variable, first, body)


def _finish_header(c: Cursor, opened: int | None) -> None:
    closing = "{" if opened is None else ")"
    if c.text in _BINARY:
        c.fail_expected(f"'{closing}'", "put parentheses around the end of a range: 0..($n + 1)")
    if opened is not None:
        c.expect(")", opened)
    if c.text != "{":
        c.fail_expected("'{'")


_STATEMENTS: Final[dict[str, Callable[[Cursor], ast.Statement]]] = {
    "{": _block,
    "if": _if,
    "comptime": _comptime,
    "for": _for,
    "while": _while,
    "unroll": _unroll,
    "break": _jump,
    "continue": _jump,
    "return": _jump,
    "let": _let,
    "import": _import,
    "else": _else,
    "_": _discard,
}
