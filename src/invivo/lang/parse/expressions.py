"""Expressions: precedence climbing over the binary operators, recursive descent for the rest."""

from __future__ import annotations

from typing import Final

from invivo.diagnostics import Code, Span
from invivo.lang import ast
from invivo.lang.bt.attach_points import out_of_range, parameter_number
from invivo.lang.parse.cursor import Cursor
from invivo.lang.parse.literals import integer, string
from invivo.lang.parse.types import is_reserved, parse_plain_type, type_ahead

_PRECEDENCE: Final = {
    "||": 1,
    "&&": 2,
    "|": 3,
    "^": 4,
    "&": 5,
    "==": 6,
    "!=": 6,
    "<": 7,
    "<=": 7,
    ">": 7,
    ">=": 7,
    "<<": 8,
    ">>": 8,
    "+": 9,
    "-": 9,
    "*": 10,
    "/": 10,
    "%": 10,
}

# Words that begin a statement or belong to one, and so are no values.
_STATEMENT_WORDS: Final = (
    *("break", "continue", "else", "for", "let", "return", "unroll", "while"),
    *("struct", "union", "enum"),
)

# What can follow a cast. `{` cannot: in `for $i : 0..(n) {` it begins the body.
_OPERAND_KINDS: Final = ("name", "variable", "map", "number", "string", "parameter")
_OPERAND_SIGNS: Final = ("(", "-", "!", "~", "*")


def parse_expression(c: Cursor) -> ast.Expr:
    """Read a whole expression, conditional operator included."""
    start = c.start
    condition = _binary(c, 1)
    if c.text != "?":
        return condition
    c.enter()
    c.advance()
    then = None
    if not c.accept(":"):
        then = parse_expression(c)
        c.expect(":")
    otherwise = parse_expression(c)
    c.depth -= 1
    return ast.Ternary(c.span(start), condition, then, otherwise)


def parse_condition(c: Cursor) -> ast.Expr:
    """Read what stands between ``if`` or ``while`` and its block: ``(expression)``, or a unary one."""
    opened = c.start
    if c.accept("("):
        condition = parse_expression(c)
        _expect_closing(c, ")", opened)
    else:
        condition = parse_unary(c)
    if c.text != "{":
        c.fail_expected("'{'", "put parentheses around the whole condition" if c.text in _PRECEDENCE else None)
    return condition


def _binary(c: Cursor, lowest: int) -> ast.Expr:
    c.enter()
    start = c.start
    left = parse_unary(c)
    length = 0
    while (precedence := _PRECEDENCE.get(c.text, 0)) >= lowest:
        op = c.text
        if op == "/" and c.following()[1] in ("{", ""):
            break  # the end of a predicate
        length += 1
        c.check_chain(length)
        c.advance()
        right = _binary(c, precedence + 1)
        left = ast.Binary(c.span(start), op, left, right)
    c.depth -= 1
    return left


def parse_unary(c: Cursor) -> ast.Expr:
    """Read an operand with the operators before and after it."""
    op = c.text
    if op in ("-", "!", "~", "*"):
        start = c.start
        c.enter()
        c.advance()
        operand = parse_unary(c)
        c.depth -= 1
        return ast.Unary(c.span(start), op, operand)
    if op in ("++", "--"):
        start = c.start
        c.enter()
        c.advance()
        operand = parse_unary(c)
        c.depth -= 1
        return ast.Increment(c.span(start), operand, 1 if op == "++" else -1, True)
    if op == "&":
        start = c.start
        c.advance()
        if c.kind not in ("variable", "map"):
            c.fail_expected("a variable or a map after '&'")
        operand = _primary(c)
        return ast.Unary(c.span(start), op, operand)
    return parse_operand(c)


def parse_operand(c: Cursor) -> ast.Expr:
    """Read a primary expression and what follows it directly: members, indices, ``++``."""
    start = c.start
    operand = _primary(c)
    length = 0
    while True:
        sign = c.text
        if sign in (".", "->"):
            c.advance()
            operand = _member(c, start, operand, sign)
        elif sign == "[":
            opened = c.start
            c.advance()
            index = parse_expression(c)
            _expect_closing(c, "]", opened)
            operand = ast.Index(c.span(start), operand, index)
        elif sign in ("++", "--"):
            c.advance()
            operand = ast.Increment(c.span(start), operand, 1 if sign == "++" else -1, False)
        else:
            return operand
        length += 1
        c.check_chain(length)


def _member(c: Cursor, start: int, object_: ast.Expr, sign: str) -> ast.Expr:
    if c.kind == "number" and sign == "." and c.text.isdigit():
        if isinstance(object_, ast.Integer):
            place = Span(c.source, start, c.end)
            c.fail("there are no floating-point numbers", span=place, code=Code.BAD_LITERAL)
        index = int(c.text) if len(c.text) < 20 else c.fail("no tuple has that many elements", code=Code.BAD_LITERAL)
        c.advance()
        return ast.TupleIndex(c.span(start), object_, index)
    name, span = c.expect_name(f"a field name after '{sign}'")
    return ast.Member(c.span(start), object_, name, span, sign == "->")


# -- primary expressions -----------------------------------------------------------------------


def _primary(c: Cursor) -> ast.Expr:
    kind, text, span = c.kind, c.text, c.token_span()
    if kind == "name":
        return _name(c)
    if kind == "map":
        return _map(c)
    if kind == "op":
        if text == "(":
            return _parenthesised(c)
        if text == "{":
            block = c.block(c)
            return ast.BlockExpr(block.span, block)
        c.fail_expected("an expression")
    if kind in ("end", "bad"):
        c.fail_expected("an expression")
    c.advance()
    if kind == "variable":
        return ast.ScratchVariable(span, text[1:])
    if kind == "number":
        return integer(text, span, c.diagnostics)
    if kind == "string":
        return string(text, span, c.diagnostics)
    assert kind == "parameter", kind
    if text == "$#":
        return ast.ParameterCount(span)
    number = parameter_number(text[1:])
    if number is None:
        c.fail(out_of_range(text[1:]), span=span)
    return ast.PositionalParameter(span, number)


def _name(c: Cursor) -> ast.Expr:
    start, name, span = c.start, c.text, c.token_span()
    if name == "if":
        return parse_if(c)
    if name in ("true", "false"):
        c.advance()
        return ast.Boolean(span, name == "true")
    if name in _STATEMENT_WORDS:
        c.fail(f"expected an expression, found '{name}'")
    c.advance()
    if c.text == "(":
        match name:
            case "sizeof":
                size_of = _in_parentheses(c)
                return ast.SizeOf(c.span(start), size_of)
            case "typeinfo":
                type_info = _in_parentheses(c)
                return ast.TypeInfo(c.span(start), type_info)
            case "offsetof":
                return _offsetof(c, start)
            case "typeof":
                c.fail("expected an expression, found a type", "typeof(...) is an argument, or names a cast", span=span)
            case "comptime":
                pass
            case _:
                arguments = _arguments(c)
                return ast.Call(c.span(start), name, span, arguments)
    if name == "comptime":
        c.enter()
        operand = parse_unary(c)
        c.depth -= 1
        return ast.Comptime(c.span(start), operand)
    return ast.Name(span, name)


def _map(c: Cursor) -> ast.MapAccess:
    start, name = c.start, c.text
    c.advance()
    opened = c.start
    if not c.accept("["):
        return ast.MapAccess(c.span(start), name, ())
    keys = [parse_expression(c)]
    while c.accept(","):
        keys.append(parse_expression(c))
    _expect_closing(c, "]", opened)
    return ast.MapAccess(c.span(start), name, tuple(keys))


def _arguments(c: Cursor) -> tuple[ast.Expr | ast.TypeExpr, ...]:
    opened = c.start
    c.advance()
    if c.accept(")"):
        return ()
    c.enter()
    arguments = [_argument(c)]
    while c.accept(","):
        arguments.append(_argument(c))
    c.depth -= 1
    _expect_closing(c, ")", opened)
    return tuple(arguments)


def _argument(c: Cursor) -> ast.Expr | ast.TypeExpr:
    if _at_typeof(c):
        return parse_type(c)
    if c.text in ("struct", "union", "enum"):
        c.fail(f"expected an expression, found '{c.text}'", "an argument that is a type is written typeof(...)")
    return parse_expression(c)


def _expect_closing(c: Cursor, bracket: str, opened: int) -> None:
    """Step over a closing bracket; what stands there instead may be a common slip."""
    if c.text == "=":
        c.fail_expected(f"'{bracket}'", "did you mean '=='? an assignment is a statement")
    c.expect(bracket, opened)


def parse_if(c: Cursor) -> ast.IfExpr:
    """Read ``if``, its ``else if`` and its ``else``."""
    taken: list[tuple[int, ast.Expr, ast.Block]] = []
    otherwise: ast.Block | ast.IfExpr | None = None
    while True:
        start = c.start
        c.advance()
        condition = parse_condition(c)
        taken.append((start, condition, c.block(c)))
        c.check_chain(len(taken))
        if not c.accept("else"):
            break
        if c.text == "if":
            continue
        if c.text != "{":
            c.fail_expected("'{' or 'if' after 'else'")
        otherwise = c.block(c)
        break
    for start, condition, then in reversed(taken):
        otherwise = ast.IfExpr(c.span(start), condition, then, otherwise)
    assert isinstance(otherwise, ast.IfExpr), "there is at least one if"
    return otherwise


# -- parentheses: casts, tuples, records -------------------------------------------------------


def _parenthesised(c: Cursor) -> ast.Expr:
    start = c.start
    c.advance()
    if c.accept(")"):
        return ast.TupleExpr(c.span(start), ())
    if c.kind == "name":
        if c.following()[1] == "=":
            return _record(c, start)
        if _at_cast(c):
            return _cast(c, start)
    first = parse_expression(c)
    if not c.accept(","):
        _expect_closing(c, ")", start)
        return first
    elements = [first]
    while c.text != ")":
        elements.append(parse_expression(c))
        if not c.accept(","):
            break
    _expect_closing(c, ")", start)
    return ast.TupleExpr(c.span(start), tuple(elements))


def _record(c: Cursor, start: int) -> ast.RecordExpr:
    names: list[str] = []
    elements: list[ast.Expr] = []
    while True:
        name, span = c.expect_name("a field name")
        if is_reserved(name):
            c.fail(f"the builtin '{name}' cannot be the name of a field", span=span)
        if name in names:
            c.fail(f"field '{name}' is given twice", span=span)
        c.expect("=")
        names.append(name)
        elements.append(parse_expression(c))
        if not c.accept(","):
            break
    _expect_closing(c, ")", start)
    return ast.RecordExpr(c.span(start), tuple(names), tuple(elements))


def _at_cast(c: Cursor) -> bool:
    """Whether ``(`` was the beginning of a cast: a type, ``)``, and something that can be cast."""
    if _at_typeof(c):
        return True
    end = type_ahead(c)
    if end is None:
        return False
    _, text, end = c.following(end)
    if text != ")":
        return False
    kind, text, end = c.following(end)
    if text in ("&", "++", "--"):
        return c.following(end)[0] in ("variable", "map")
    return kind in _OPERAND_KINDS or text in _OPERAND_SIGNS


def _cast(c: Cursor, start: int) -> ast.Cast:
    type_ = parse_type(c)
    c.expect(")", start)
    c.enter()
    operand = parse_unary(c)
    c.depth -= 1
    return ast.Cast(c.span(start), type_, operand)


# -- types among expressions -------------------------------------------------------------------


def _at_typeof(c: Cursor) -> bool:
    return c.text == "typeof" and c.following()[1] == "("


def parse_type(c: Cursor) -> ast.TypeExpr:
    """Read a type, or ``typeof(...)``."""
    if not _at_typeof(c):
        return parse_plain_type(c)
    start = c.start
    c.advance()
    operand = _in_parentheses(c)
    return ast.TypeOf(c.span(start), operand)


def _in_parentheses(c: Cursor) -> ast.Expr | ast.TypeExpr:
    opened = c.start
    c.enter()
    c.advance()
    operand = _type_or_expression(c)
    c.depth -= 1
    _expect_closing(c, ")", opened)
    return operand


def _type_or_expression(c: Cursor) -> ast.Expr | ast.TypeExpr:
    """Read what stands in ``sizeof(...)``: a bare name is a type there, in parentheses an expression."""
    if _at_typeof(c):
        return parse_type(c)
    end = type_ahead(c)
    if end is not None and c.following(end)[1] in (")", ","):
        return parse_plain_type(c)
    return parse_expression(c)


def _offsetof(c: Cursor, start: int) -> ast.OffsetOf:
    opened = c.start
    c.advance()
    operand = _type_or_expression(c)
    c.expect(",")
    path = [c.expect_name("a field name")[0]]
    while c.accept("."):
        path.append(c.expect_name("a field name after '.'")[0])
    _expect_closing(c, ")", opened)
    return ast.OffsetOf(c.span(start), operand, tuple(path))
