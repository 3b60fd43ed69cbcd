"""New nodes for old ones: the checker keeps what it finds out by node, so each use needs nodes of its own."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeGuard, TypeVar

from invivo.diagnostics import Span
from invivo.lang import ast
from invivo.record import replace

NodeT = TypeVar("NodeT", bound=ast.Node)


def rebuild(node: NodeT, place: Callable[[Span], Span], visit: Callable[[ast.Node], ast.Node]) -> NodeT:
    """Return a node of the same kind, its spans given by ``place`` and its nodes by ``visit``."""
    changes: dict[str, object] = {}
    for name in type(node).__record_fields__:
        value: object = getattr(node, name)
        if isinstance(value, Span):
            changes[name] = place(value)
        elif isinstance(value, ast.Node):
            changes[name] = visit(value)
        elif _is_tuple(value):
            changes[name] = tuple(visit(item) if isinstance(item, ast.Node) else item for item in value)
    return replace(node, **changes)


def copy(node: ast.Expr) -> ast.Expr:
    """Return a copy of an expression: equal, of new nodes."""
    copied = _copied(node)
    assert isinstance(copied, ast.Expr), "a copy is of the same kind"
    return copied


def same(span: Span) -> Span:
    """Leave a place as it is."""
    return span


def _copied(node: ast.Node) -> ast.Node:
    return rebuild(node, same, _copied)


def _is_tuple(value: object) -> TypeGuard[tuple[object, ...]]:
    return isinstance(value, tuple)
