"""Which memory an expression's value points into, where its type alone does not say."""

from __future__ import annotations

from invivo.ir import types as t
from invivo.ir.types import AddressSpace
from invivo.lang import ast
from invivo.lang.check.model import Instance
from invivo.target import ContextLoad, Target

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


def known_pointer(instance: Instance, target: Target, node: ast.Node) -> bool:
    """Whether the verifier knows the type of a kernel pointer, or of the pointer whose structure a member is in."""
    type_ = instance.types.get(node)
    if isinstance(type_, t.Pointer) and not _is_kernel_struct(type_.pointee):
        return False
    match node:
        case ast.Name(_, "curtask"):
            return True
        case ast.Member(_, ast.Name(_, "args") | ast.Unary(_, "*", ast.Name(_, "args")), name):
            found = next(each for each in instance.plan.context.arguments if each.name == name)
            return instance.plan.context.btf_pointers and isinstance(found.access, ContextLoad)
        case ast.Member(_, ast.Name(_, "ctx")) | ast.Member(_, ast.Member(_, ast.Name(_, "ctx"))):
            return "iter" in instance.plan.context.features
        case ast.Member(_, object_, name):
            owner = instance.types.get(object_)
            struct = owner.pointee if isinstance(owner, t.Pointer) else owner
            field = target.field(struct, name) if isinstance(struct, t.Struct) else None
            is_plain = field is not None and not field.bit_size and not field.overlaid and field.tag in (None, "rcu")
            return is_plain and known_pointer(instance, target, object_)
        case ast.Unary(_, "*", operand):
            return known_pointer(instance, target, operand)
        case _:
            return False


def _is_kernel_struct(type_: t.Type) -> bool:
    return isinstance(type_, t.Struct) and type_.type_id != 0 and type_.keyword == "struct"
