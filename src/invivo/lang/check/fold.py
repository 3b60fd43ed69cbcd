"""What the text alone determines: literals and arithmetic on them."""

from __future__ import annotations

from collections.abc import Callable

from invivo.lang import ast
from invivo.lang.parse.literals import BadLiteralError, parse_integer


class Folder:
    """Evaluates expressions of literals and positional parameters. Answers None for all others."""

    def __init__(
        self, parameters: tuple[str, ...], constants: dict[ast.Node, int | str], decided: dict[ast.Node, bool]
    ) -> None:
        self.parameters = tuple(map(as_bytes, parameters))
        self.constants = constants
        self.decided = decided  # which branch of `if comptime` there is

    def __call__(self, node: ast.Node) -> int | str | None:
        if type(node) not in _FOLDED:
            return self.constants.get(node)
        match node:
            case ast.Integer(_, value) | ast.Boolean(_, value):
                return int(value)
            case ast.StringLiteral(_, value):
                return value
            case ast.PositionalParameter(_, index):
                return self.parameter(index)
            case ast.ParameterCount():
                return len(self.parameters)
            case ast.Unary(_, op, operand):
                inner = self(operand)
                return _in_range(_UNARY[op](inner)) if isinstance(inner, int) and op in _UNARY else None
            case ast.Binary(_, op, left, right):
                return self._binary(op, self(left), self(right))
            case ast.Call(_, "str", _, (argument,)):
                return self.text(argument)
            case ast.Comptime(_, operand):
                return self(operand)
            case ast.BlockExpr(_, ast.Block(_, (), operand)) if operand is not None:
                return self(operand)
            case ast.IfExpr(_, _, then, otherwise) if node in self.decided:
                branch = then if self.decided[node] else otherwise
                if isinstance(branch, ast.Block):
                    return self(branch.result) if branch.result is not None and not branch.statements else None
                return None if branch is None else self(branch)
            case ast.Ternary(_, condition, then_value, otherwise_value):
                truth = self(condition)
                chosen = (condition if then_value is None else then_value) if truth else otherwise_value
                return None if truth is None else _signed(self(chosen))
            case _:
                return self.constants.get(node)

    def parameter(self, index: int) -> int | str:
        """A positional parameter: a number if it reads as one, 0 if it is absent."""
        text = self.parameters[index - 1] if index <= len(self.parameters) else ""
        return 0 if not text else text if (number := parse_number(text)) is None else number

    def text(self, node: ast.Node) -> str | None:
        """``str($1)``, ``str("a")``, ``str($1 + 2)``, ``str(5)``: the text that is known, or None."""
        match node:
            case ast.PositionalParameter(_, index):
                return self.parameters[index - 1] if index <= len(self.parameters) else ""
            case ast.StringLiteral(_, value):
                return value
            case ast.Binary(_, "+", ast.PositionalParameter() | ast.StringLiteral() as whole, right):
                text, skip = self.text(whole), self(right)
                return text[skip:] if text is not None and isinstance(skip, int) else None
            case ast.Integer() | ast.ParameterCount() | ast.Unary() | ast.Binary():
                number = self(node)
                return str(number) if isinstance(number, int) else None
            case _:
                return None

    def _binary(self, op: str, left: int | str | None, right: int | str | None) -> int | str | None:
        if isinstance(left, int) and isinstance(right, int):
            if op in "/%" and right == 0:
                return None
            if op in ("<<", ">>") and not 0 <= right < 64:
                return None
            return _in_range(_BINARY[op](left, right))
        if isinstance(left, str) and isinstance(right, str) and op in ("==", "!="):
            return int((left == right) == (op == "=="))
        if isinstance(left, str) and isinstance(right, int) and op == "+" and right >= 0:
            return left[right:]
        return None


def _signed(value: int | str | None) -> int | str | None:
    """A value of a branch. Above 2**63-1 its type decides what it is, and that is the type of both branches."""
    return None if isinstance(value, int) and value >= 1 << 63 else value


def _in_range(value: int) -> int | None:
    return value if -(1 << 63) <= value < 1 << 64 else None


def _inverted(value: int) -> int:
    """Literals above 2**63-1 are unsigned, and so is their complement."""
    return ~value if value < 1 << 63 else value ^ (1 << 64) - 1


_UNARY: dict[str, Callable[[int], int]] = {"-": lambda v: -v, "!": lambda v: int(not v), "~": _inverted}


def _divide(a: int, b: int) -> int:
    quotient = abs(a) // abs(b)
    return quotient if (a < 0) == (b < 0) else -quotient


_BINARY: dict[str, Callable[[int, int], int]] = {
    "+": lambda a, b: a + b,
    "-": lambda a, b: a - b,
    "*": lambda a, b: a * b,
    "/": _divide,
    "%": lambda a, b: a - b * _divide(a, b),
    "&": lambda a, b: a & b,
    "|": lambda a, b: a | b,
    "^": lambda a, b: a ^ b,
    "<<": lambda a, b: a << b,
    ">>": lambda a, b: a >> b,
    "==": lambda a, b: int(a == b),
    "!=": lambda a, b: int(a != b),
    "<": lambda a, b: int(a < b),
    "<=": lambda a, b: int(a <= b),
    ">": lambda a, b: int(a > b),
    ">=": lambda a, b: int(a >= b),
    "&&": lambda a, b: int(bool(a and b)),
    "||": lambda a, b: int(bool(a or b)),
}

_FOLDED = frozenset(
    {
        ast.Integer,
        ast.Boolean,
        ast.StringLiteral,
        ast.PositionalParameter,
        ast.ParameterCount,
        ast.Unary,
        ast.Binary,
        ast.Call,
        ast.Comptime,
        ast.BlockExpr,
        ast.IfExpr,
        ast.Ternary,
    }
)


def as_bytes(text: str) -> str:
    """Return a word of the command line as string literals are kept: one character for each byte."""
    return text.encode("utf-8", "surrogateescape").decode("latin-1")


def parse_number(text: str) -> int | None:
    """Read a script argument as an integer, in any form that a literal has, with a sign; or None."""
    digits = text.removeprefix("-")
    if not digits[:1].isdigit():
        return None
    try:
        value, _ = parse_integer(digits)
    except BadLiteralError:
        return None
    return _in_range(-value if text.startswith("-") else value)
