"""Which memory an expression's value points into, where its type alone does not say."""

from __future__ import annotations

from invivo.ir import types as t
from invivo.ir.types import AddressSpace
from invivo.lang import ast
from invivo.lang.check.model import Instance

_KERNEL_CALLS = frozenset({"kaddr", "percpu_kaddr", "kptr"})
_USER_CALLS = frozenset({"uaddr", "uptr"})


def default_space(instance: Instance) -> AddressSpace:
    return AddressSpace.USER if instance.plan.context.user_arguments else AddressSpace.KERNEL


def space_of(instance: Instance, node: ast.Node) -> AddressSpace:
    """Return the space that a pointer or integer points into; the probe's own by default."""
    type_ = instance.types.get(node)
    if isinstance(type_, t.Pointer) and type_.space is not AddressSpace.NONE:
        return type_.space
    match node:
        case ast.Call(_, name):
            if name in _KERNEL_CALLS:
                return AddressSpace.KERNEL
            if name in _USER_CALLS:
                return AddressSpace.USER
        case ast.ScratchVariable():
            variable = instance.variables.get(node)
            if variable is not None and variable.space is not None:
                return variable.space
        case ast.Binary(_, _, left, right):
            pointing = right if isinstance(instance.types.get(right), t.Pointer) else left
            return space_of(instance, pointing)
        case ast.Cast(_, _, operand) | ast.Increment(_, operand) | ast.Unary(_, _, operand):
            return space_of(instance, operand)
        case ast.BlockExpr(_, ast.Block(_, _, result)) if result is not None:
            return space_of(instance, result)
        case ast.Member(_, object_) | ast.Index(_, object_) | ast.TupleIndex(_, object_):
            if not isinstance(object_, ast.Name):
                return space_of(instance, object_)
        case _:
            pass
    return default_space(instance)
