"""Types as scripts write them: names, pointers, arrays, typeof."""

from __future__ import annotations

from invivo.diagnostics import Code
from invivo.ir import types as t
from invivo.ir.types import AddressSpace, Type
from invivo.lang import ast
from invivo.lang.check.scope import Checker
from invivo.library.spelling import spell

_LARGEST = 1 << 20  # bytes of an array

_BUILTIN: dict[str, Type] = {
    "bool": t.BOOL,
    "int8": t.INT8,
    "int16": t.INT16,
    "int32": t.INT32,
    "int64": t.INT64,
    "uint8": t.UINT8,
    "uint16": t.UINT16,
    "uint32": t.UINT32,
    "uint64": t.UINT64,
    "void": t.VOID,
    "inet": t.Inet(),
    "macaddr_t": t.MacAddress(),
    "username_t": t.Username(),
    "cgroup_path_t": t.CgroupPath(),
    "ksym_t": t.KernelSymbol(),
    "usym_t": t.UserSymbol(),
}

# C spells base types in several words; the parser hands over one name.
_C_NAMES: dict[str, Type] = {
    "char": t.INT8,
    "short": t.INT16,
    "int": t.INT32,
    "long": t.INT64,
    "unsigned": t.UINT32,
    "int8_t": t.INT8,
    "int16_t": t.INT16,
    "int32_t": t.INT32,
    "int64_t": t.INT64,
    "uint8_t": t.UINT8,
    "uint16_t": t.UINT16,
    "uint32_t": t.UINT32,
    "uint64_t": t.UINT64,
}


def resolve_type(c: Checker, node: ast.TypeExpr, space: AddressSpace = AddressSpace.KERNEL) -> Type | None:
    """Return the type that a type expression names; ``space`` is where its pointers point."""
    match node:
        case ast.NamedType(_, keyword, name):
            return _named(c, node, keyword, name)
        case ast.PointerType(_, target):
            pointee = resolve_type(c, target, space)
            return None if pointee is None else t.Pointer(pointee, space)
        case ast.ArrayType(_, element, length):
            return _array(c, node, element, length, space)
        case ast.TypeOf(_, operand):
            if isinstance(operand, ast.NamedType | ast.PointerType | ast.ArrayType | ast.TypeOf):
                return resolve_type(c, operand, space)
            if isinstance(operand, ast.MapAccess) and not operand.keys and c.map(operand.name).scalar is False:
                return _key_type(c, operand.name)
            return c.check(operand)


def _key_type(c: Checker, name: str) -> Type | None:
    """``typeof(@m)`` of a map with keys is the type of these."""
    key = c.map(name).key
    if key is None:
        return None
    return key[0] if len(key) == 1 else t.Tuple(key)


def _array(
    c: Checker, node: ast.ArrayType, element: ast.TypeExpr, length: int | None, space: AddressSpace
) -> Type | None:
    if isinstance(element, ast.NamedType) and not element.keyword and element.name in ("string", "buffer"):
        size = c.config.max_strlen if length is None else length
        if not 0 < size <= _LARGEST:
            c.error(Code.LIMIT, node, f"{element.name}[{size}] is not between 1 and {_LARGEST} bytes")
            return None
        return t.String(size) if element.name == "string" else t.Buffer(size)
    inner = resolve_type(c, element, space)
    if inner is None:
        return None
    if length is None:
        return t.Array(inner, 0)
    if not 0 < length * t.size_bytes(inner) <= _LARGEST:
        c.error(Code.LIMIT, node, f"{spell(t.Array(inner, length))} is not between 1 and {_LARGEST} bytes")
        return None
    return t.Array(inner, length)


def _named(c: Checker, node: ast.NamedType, keyword: str, name: str) -> Type | None:
    if keyword in ("struct", "union"):
        found: Type | None = c.target.struct(keyword, name)
    elif keyword == "enum":
        found = c.target.enumeration(name)
    elif name in _BUILTIN:
        return _BUILTIN[name]
    elif name == "string":
        return t.String(c.config.max_strlen)
    elif name == "buffer":
        return t.Buffer(c.config.max_strlen)
    else:
        found = c.target.typedef(name) or _C_NAMES.get(name) or c.target.struct("struct", name)
    if found is None:
        spelled = f"{keyword} {name}".strip()
        c.diagnostics.error(
            Code.UNKNOWN_TYPE,
            node.span,
            f"Unknown enum: {name}" if keyword == "enum" else f'Cannot resolve unknown type "{spelled}"',
            "types come from the kernel's BTF and from struct definitions in the script",
        )
    return found
