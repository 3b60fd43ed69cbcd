"""Constant expressions of C: lengths of arrays, widths of bitfields, values of enums, conditions."""

from __future__ import annotations

from invivo.lang import ast
from invivo.lang.cdecl.reader import Found, Reader
from invivo.lang.parse import parse_constant

# How many #defines a constant may go through, one naming the next.
_LONGEST_CHAIN = 32


def read_constant(r: Reader, stops: tuple[str, ...]) -> int:
    """Read a constant expression up to one of some tokens outside of parentheses."""
    start = r.start
    depth = 0
    while r.kind != "end" and (depth > 0 or r.text not in stops):
        depth += {"(": 1, ")": -1}.get(r.text, 0)
        r.advance()
    span = r.span(start)
    expr = parse_constant(r.source, start, span.end) if span.end > start else None
    value = None if expr is None else evaluate(expr, r.found, ())
    if value is None:
        if span.end <= start:
            r.fail_expected("a constant")
        r.fail(f"'{span.text}' is not a constant", span)
    return value


def evaluate(expr: ast.Expr, found: Found, names: tuple[str, ...]) -> int | None:
    """Return the value of a constant expression, None if it has none. ``names`` are being expanded."""
    match expr:
        case ast.Integer(_, value, _):
            return value
        case ast.Boolean(_, value):
            return int(value)
        case ast.Name(_, name):
            if name in found.constants:
                return found.constants[name]
            define = found.defines.get(name)
            if define is None or define.value is None or name in names or len(names) > _LONGEST_CHAIN:
                return None
            return evaluate(define.value, found, (*names, name))
        case ast.Unary(_, op, operand):
            value_or_none = evaluate(operand, found, names)
            return None if value_or_none is None else _unary(op, value_or_none)
        case ast.Binary(_, op, left, right):
            a, b = evaluate(left, found, names), evaluate(right, found, names)
            return None if a is None or b is None else _binary(op, a, b)
        case ast.Ternary(_, condition, then, otherwise):
            chosen = evaluate(condition, found, names)
            if chosen is None:
                return None
            branch = (then or condition) if chosen else otherwise
            return evaluate(branch, found, names)
        case _:
            return None


def _unary(op: str, value: int) -> int | None:
    match op:
        case "-":
            return -value
        case "~":
            return ~value
        case "!":
            return int(not value)
        case _:
            return None


def _binary(op: str, a: int, b: int) -> int | None:
    match op:
        case "+":
            return a + b
        case "-":
            return a - b
        case "*":
            return a * b
        case "<<":
            return a << b if 0 <= b < 64 else None
        case ">>":
            return a >> b if 0 <= b < 64 else None
        case "&":
            return a & b
        case "|":
            return a | b
        case "^":
            return a ^ b
        case "/" | "%":
            # C's division goes towards zero.
            quotient = abs(a) // abs(b) * (1 if (a < 0) == (b < 0) else -1) if b else None
            return None if quotient is None else quotient if op == "/" else a - quotient * b
        case "==":
            return int(a == b)
        case "!=":
            return int(a != b)
        case "<":
            return int(a < b)
        case "<=":
            return int(a <= b)
        case ">":
            return int(a > b)
        case ">=":
            return int(a >= b)
        case "&&":
            return int(bool(a and b))
        case "||":
            return int(bool(a or b))
        case _:
            return None
