"""What is decided while a program is compiled: branches that are left out, values that are known."""

from __future__ import annotations

from invivo.diagnostics import Code
from invivo.ir import types as t
from invivo.ir.types import Type
from invivo.lang import ast
from invivo.lang.check.scope import Checker
from invivo.lang.check.typeexprs import resolve_type
from invivo.library.spelling import spell, spell_kind

_HINT = "it may be made of literals, sizes, types and script parameters"


def decide(c: Checker, node: ast.IfExpr) -> bool | None:
    """Return which branch of ``if comptime (...)`` there is; None: not known yet, neither is looked at.

    What the condition asks of types is asked when all types are known as far as they can be without the
    branches, and the answer stays.
    """
    decided = c.instance.decided.get(node)
    if decided is not None:
        return decided
    condition = node.condition
    while isinstance(condition, ast.Comptime):
        condition = condition.operand
    c.check(condition)
    value = c.folder(condition)
    if value is not None and c.deciding:
        c.instance.decided[node] = bool(value)
        c.changed = True
        return bool(value)
    c.undecided = True
    if c.final and value is None:
        c.error(Code.NOT_CONSTANT, node.condition, "Unable to resolve comptime expression", _HINT)
    return None


def check_comptime(c: Checker, node: ast.Comptime) -> Type | None:
    """Check an expression that must have a value now."""
    type_ = c.check(node.operand)
    if c.final and c.folder(node.operand) is None and node.operand not in c.instance.stands_for:
        c.error(Code.NOT_CONSTANT, node, "Unable to resolve comptime expression", _HINT)
    return type_


def stand_for(c: Checker, node: ast.Node, names: tuple[str, ...], values: tuple[int | str, ...]) -> Type:
    """Put a record of known values in the place of a node; return its type."""
    elements = tuple(_literal(node, value) for value in values)
    record = c.instance.stands_for.get(node)
    if not isinstance(record, ast.RecordExpr) or [_text(e) for e in record.elements] != [_text(e) for e in elements]:
        record = c.instance.stands_for[node] = ast.RecordExpr(node.span, names, elements)
    type_ = c.check(record)
    assert type_ is not None, "literals have types"
    return type_


def _literal(node: ast.Node, value: int | str) -> ast.Expr:
    if isinstance(value, str):
        return ast.StringLiteral(node.span, value, written=False)
    return ast.Boolean(node.span, value) if isinstance(value, bool) else ast.Integer(node.span, value)


def _text(node: ast.Expr) -> object:
    return node.value if isinstance(node, ast.Integer | ast.StringLiteral | ast.Boolean) else None


def check_typeinfo(c: Checker, node: ast.TypeInfo) -> Type | None:
    """``typeinfo(x)``: the record of what is known of a type."""
    c.use_unstable(node, "typeinfo")
    operand = node.operand
    if isinstance(operand, ast.NamedType | ast.PointerType | ast.ArrayType | ast.TypeOf):
        type_ = resolve_type(c, operand)
    elif isinstance(operand, ast.MapAccess) and not operand.keys and c.map(operand.name).scalar is False:
        type_ = c.map(operand.name).value
    else:
        type_ = c.check(operand)
    if type_ is None:
        return None
    type_id = type_.type_id if isinstance(type_, t.Struct) else 0
    return stand_for(c, node, ("btf_id", "base_type", "full_type"), (type_id, spell_kind(type_), spell(type_)))
