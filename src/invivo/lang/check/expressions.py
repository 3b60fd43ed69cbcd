"""The type of any expression: one place that knows every form."""

from __future__ import annotations

from typing import assert_never

from invivo.diagnostics import Code
from invivo.ir import types as t
from invivo.ir.types import Type
from invivo.lang import ast
from invivo.lang.check.calls import check_call
from invivo.lang.check.comptime import check_comptime, check_typeinfo
from invivo.lang.check.operators import check_binary, check_increment, check_ternary, check_unary
from invivo.lang.check.scope import Checker
from invivo.lang.check.statements import check_block, check_if
from invivo.lang.check.values import (
    check_all_arguments,
    check_cast,
    check_elements,
    check_index,
    check_map_read,
    check_member,
    check_name,
    check_offsetof,
    check_sizeof,
    check_string,
    check_tuple_index,
    check_variable,
    is_args,
)
from invivo.library.spelling import literal_type


def check_expression(c: Checker, node: ast.Expr) -> Type | None:
    match node:  # what is written most first: a case that does not hold takes a fifth of a microsecond
        case ast.Name():
            return check_name(c, node)
        case ast.Call():
            return check_call(c, node)
        case ast.MapAccess():
            return check_map_read(c, node)
        case ast.Integer(_, value):
            return literal_type(value)
        case ast.StringLiteral(_, value):
            return check_string(c, node, value)
        case ast.ScratchVariable():
            return check_variable(c, node)
        case ast.Member():
            return check_member(c, node)
        case ast.Binary():
            return check_binary(c, node)
        case ast.Boolean():
            return t.BOOL
        case ast.PositionalParameter(_, index):
            return _check_parameter(c, node, index)
        case ast.ParameterCount():
            return t.INT64
        case ast.Unary() if is_args(node):
            return check_all_arguments(c, node)
        case ast.Unary():
            return check_unary(c, node)
        case ast.Increment():
            return check_increment(c, node)
        case ast.Ternary():
            return check_ternary(c, node)
        case ast.TupleIndex():
            return check_tuple_index(c, node)
        case ast.Index():
            return check_index(c, node)
        case ast.Cast():
            return check_cast(c, node)
        case ast.TupleExpr(_, elements):
            types = check_elements(c, elements)
            return None if types is None else t.Tuple(types)
        case ast.RecordExpr(_, names, elements):
            types = check_elements(c, elements)
            return None if types is None else t.NamedTuple(names, types)
        case ast.SizeOf():
            return check_sizeof(c, node)
        case ast.OffsetOf():
            return check_offsetof(c, node)
        case ast.Comptime(_, ast.IfExpr() as branches):
            return check_if(c, branches, comptime=True)
        case ast.Comptime():
            return check_comptime(c, node)
        case ast.TypeInfo():
            return check_typeinfo(c, node)
        case ast.BlockExpr(_, block):
            return check_block(c, block)
        case ast.IfExpr():
            return check_if(c, node)
        case _:
            assert_never(node)


def _check_parameter(c: Checker, node: ast.Expr, index: int) -> Type:
    parameter = c.folder.parameter(index)
    if index > len(c.parameters) or not c.parameters[index - 1]:
        message = f"Positional parameter ${index} is empty or not provided. "
        c.diagnostics.warning(Code.MISSING_PARAMETER, node.span, message)
    return literal_type(parameter) if isinstance(parameter, int) else t.String(len(parameter) + 1)
