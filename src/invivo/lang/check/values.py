"""The types of values: literals, names, maps, members, elements, casts."""

from __future__ import annotations

import re

from invivo.diagnostics import Code
from invivo.ir import types as t
from invivo.ir.types import AddressSpace, Type
from invivo.lang import ast
from invivo.lang.check.calls import check_builtin_value, where
from invivo.lang.check.scope import Checker
from invivo.lang.check.spaces import default_space, space_of
from invivo.lang.check.typeexprs import resolve_type
from invivo.lang.suggest import nearest
from invivo.library import find_builtin, value_names
from invivo.library.spelling import literal_type, spell
from invivo.target import OutOfReach

_ARGUMENT = re.compile(r"arg(\d+)\Z")
_STACK_ARGUMENT = re.compile(r"sarg\d+\Z")
_FIELDS_SHOWN = 8
_DEEPEST_DEFINE = 20
_WORD = 8  # bytes


def check_string(c: Checker, node: ast.Node, value: str) -> Type | None:
    is_written = not isinstance(node, ast.StringLiteral) or node.written
    if is_written and len(value) >= c.config.max_strlen:
        limit = c.config.max_strlen
        c.error(Code.LIMIT, node, f"String is too long (over {limit} bytes): {value}", "raise config max_strlen")
    return t.String(len(value) + 1)


def check_element(c: Checker, node: ast.Expr, key: ast.MapAccess | None = None) -> Type | None:
    """A tuple's element, or a part of a map's key: anything that can stand in memory."""
    if isinstance(node, ast.MapAccess) and readable_type(held := c.map(node.name).value or t.INT64) is None:
        if key is None:
            c.error(Code.AGGREGATION, node, f"Map type {spell(held)} cannot exist inside a tuple.")
        else:
            c.error(Code.AGGREGATION, key, f"Value '{spell(held)}' cannot be used as a map key.")
        return None
    type_ = c.check(node)
    if type_ is None:
        return None
    if t.is_aggregation(type_) or isinstance(type_, t.Void):
        c.error(Code.BAD_OPERAND, node, f"a value of type '{spell(type_)}' cannot be part of a tuple")
        return None
    return type_


def check_elements(
    c: Checker, nodes: tuple[ast.Expr, ...], key: ast.MapAccess | None = None
) -> tuple[Type, ...] | None:
    """The types of a tuple's elements, or of the parts of an element's ``key``; None unless all are known."""
    types = [check_element(c, node, key) for node in nodes]
    known = tuple(type_ for type_ in types if type_ is not None)
    return known if len(known) == len(types) else None


def check_name(c: Checker, node: ast.Name) -> Type | None:
    if (builtin := find_builtin(node.name)) is not None and builtin.value:
        return check_builtin_value(c, node, builtin)
    if (match := _ARGUMENT.match(node.name)) is not None:
        return _check_numbered(c, node, int(match[1]))
    if node.name == "args":
        return check_all_arguments(c, node)
    if node.name in c.defines:
        return _check_define(c, node, c.defines[node.name])
    constant = c.target.enum_constant(node.name)
    if constant is not None:
        enumeration, value = constant
        c.instance.constants[node] = value
        return enumeration
    if (defined := c.header_constant(node.name)) is not None:
        c.instance.constants[node] = defined
        return literal_type(defined)
    if _STACK_ARGUMENT.match(node.name) is not None:
        c.error(
            Code.UNKNOWN_NAME,
            node,
            "sarg* is deleted. This was deprecated in v0.21 and was last available in v0.24.",
            'Use *(reg("sp") + <stack_offset>) instead.',
        )
        return None
    c.error(Code.UNKNOWN_NAME, node, f"Unknown identifier: '{node.name}'", _name_hint(c, node.name))
    return None


_RENAMED = {"stack": "kstack", "name": "probe"}  # in 2018


def _name_hint(c: Checker, name: str) -> str:
    if name in _RENAMED:
        return f"it is called {_RENAMED[name]}"
    if find_builtin(name) is not None:
        return f"{name} is a function: {name}(...)"
    if c.lookup(name) is not None:
        return f"variables start with $: ${name}"
    if f"@{name}" in c.maps:
        return f"maps start with @: @{name}"
    near = nearest(name, (*value_names(), "args"))
    return f"did you mean {near}?" if near else "variables start with $, maps with @"


def _check_define(c: Checker, node: ast.Name, expr: ast.Expr | None) -> Type | None:
    if node.name in c.expanding or len(c.expanding) >= _DEEPEST_DEFINE:
        around = "by itself" if node.name in c.expanding else f"through more than {_DEEPEST_DEFINE} others"
        c.error(Code.BAD_DECLARATION, node, f"{node.name} is defined {around}")
        return None
    if expr is None:
        c.error(Code.NOT_SUPPORTED, node, f"{node.name} is defined as something that is no expression")
        return None
    meant = c.instance.stands_for.get(node)
    if meant is None:
        from invivo.lang.copying import copy

        meant = c.instance.stands_for[node] = copy(expr)
    c.expanding.append(node.name)
    type_ = c.check(meant)
    c.expanding.pop()
    value = c.folder(meant)
    if value is None:
        return type_
    c.instance.constants[node] = value
    return literal_type(value) if isinstance(value, int) else t.String(len(value) + 1)


def _check_numbered(c: Checker, node: ast.Name, number: int) -> Type | None:
    context = c.context
    if "argN" not in context.features:
        c.error(
            Code.NOT_HERE,
            node,
            f"The {node.name} builtin can only be used with 'kprobes', 'uprobes' and 'usdt' probes",
            "arguments have names here: args.NAME" if "args" in context.features else where(c, "argN"),
        )
        return None
    c.refuse_in_for(node, node.name)
    if number >= len(context.numbered):
        if context.provider in ("kprobe", "uprobe"):
            c.error(Code.BAD_ARGUMENT, node, f"x86_64 doesn't support {node.name}", "arguments are arg0 to arg5")
            return None
        there = f"arguments are arg0 to arg{len(context.numbered) - 1}" if context.numbered else "the probe has none"
        c.error(Code.BAD_ARGUMENT, node, f"there is no {node.name} here: {there}")
        return None
    access = context.numbered[number]
    if isinstance(access, OutOfReach):
        c.error(Code.NOT_HERE, node, f"{node.name} is {access.text} here, which no program in the kernel can read")
        return None
    return t.UINT64


def check_variable(c: Checker, node: ast.ScratchVariable) -> Type | None:
    variable = c.use(node)
    if variable is None:
        visible = [name for scope in c.scopes for name in scope]
        near = nearest(node.name, visible)
        elsewhere = any(declared.name == node.name for declared in c.instance.declared.values())
        hint = f"let ${node.name}; declares it for this block and those in it" if elsewhere else None
        c.error(
            Code.UNKNOWN_VARIABLE,
            node,
            f"Undefined or undeclared variable: ${node.name}",
            f"did you mean ${near}?" if near and not elsewhere else hint,
        )
        return None
    if not variable.assigned:
        c.diagnostics.warning(
            Code.UNKNOWN_VARIABLE, node.span, f"Variable used before it was assigned: ${node.name}", "it is 0 here"
        )
    if variable.type is None and c.final:
        variable.type = t.INT64  # `let $x;` that nothing is ever assigned to is 0
    return variable.type


def check_map_key(c: Checker, node: ast.MapAccess) -> None:
    """Check the key of a map access and note its types."""
    if not node.keys:
        c.use_key(node.name, None, node.span)
        return
    known = check_elements(c, node.keys, node)
    if known is None:
        return
    if len(known) == 1 and isinstance(known[0], t.Tuple):
        known = known[0].elements
    if not known:
        c.error(Code.BAD_OPERAND, node, "an empty tuple cannot be a key", f"write {node.name} for a scalar map")
        return
    c.use_key(node.name, known, node.span, node.keys)


def check_map_read(c: Checker, node: ast.MapAccess) -> Type | None:
    check_map_key(c, node)
    info = c.map(node.name)
    if info.value is None:
        if c.final:
            undefined_map(c, node)
        return None
    readable = readable_type(info.value)
    if readable is None:
        c.error(
            Code.AGGREGATION,
            node,
            f"a map of type '{spell(info.value)}' cannot be read in an expression",
            f"print({node.name}) shows it",
        )
    return readable


def undefined_map(c: Checker, node: ast.MapAccess) -> None:
    if node.name in c.left_out:
        return  # what assigns to it has been refused
    near = nearest(node.name, [name for name, info in c.maps.items() if info.value is not None])
    hint = f"did you mean {near}?" if near else "nothing assigns to it"
    c.error(Code.UNKNOWN_VARIABLE, node, f"Undefined map: {node.name}", hint)


def readable_type(value: Type) -> Type | None:
    """The type of a map's element in an expression: castable aggregations are read as integers."""
    match value:
        case t.Count():
            return t.UINT64
        case t.Sum(signed) | t.Average(signed) | t.Minimum(signed) | t.Maximum(signed):
            return t.Int(64, signed)
        case t.Stats() | t.Histogram() | t.LinearHistogram() | t.TimeSeries():
            return None
        case _:
            return value


# -- members and elements ----------------------------------------------------------------------


def is_args(node: ast.Expr) -> bool:
    """``args`` and its old spelling ``*args``."""
    match node:
        case ast.Name(_, "args"):
            return True
        case ast.Unary(_, "*", ast.Name(_, "args")):
            return True
        case _:
            return False


def check_member(c: Checker, node: ast.Member) -> Type | None:
    if is_args(node.object):
        return _check_argument(c, node)
    object_ = c.check(node.object)
    if object_ is None:
        return None
    if isinstance(object_, t.NamedTuple):
        if node.name in object_.names:
            known = c.instance.stands_for.get(node.object)
            value = (
                None
                if known is None
                else c.folder(known.elements[object_.names.index(node.name)])
                if isinstance(known, ast.RecordExpr)
                else None
            )
            if value is not None:
                c.instance.constants[node] = value
            return object_.elements[object_.names.index(node.name)]
        _unknown_field(c, node, "Record", list(object_.names))
        return None
    while isinstance(object_, t.Pointer):
        object_ = object_.pointee
    if not isinstance(object_, t.Struct):
        c.error(Code.BAD_OPERAND, node, f"Can not access field '{node.name}' on expression of type '{spell(object_)}'")
        return None
    field = c.target.field(object_, node.name)
    if field is None:
        owner = f"Struct/union of type '{spell(object_)}'"
        _unknown_field(c, node, owner, [f.name for f in c.target.fields(object_)])
        return None
    if field.tag not in (None, "rcu", "user"):
        c.error(
            Code.BAD_OPERAND,
            node,
            f"Attempting to access pointer field '{node.name}' with unsupported tag attribute: {field.tag}",
        )
    return in_space(field.type, space_of(c.instance, node.object))


def in_space(type_: Type, space: AddressSpace) -> Type:
    """A field's type as read from memory of a space: what user memory points to is user memory."""
    if isinstance(type_, t.Pointer) and space is AddressSpace.USER:
        return t.Pointer(type_.pointee, space)
    return type_


def _unknown_field(c: Checker, node: ast.Member, owner: str, names: list[str]) -> None:
    c.diagnostics.error(
        Code.UNKNOWN_FIELD,
        node.name_span,
        f"{owner} does not contain a field named '{node.name}'",
        field_hint(node.name, names),
    )


def field_hint(name: str, names: list[str]) -> str | None:
    """The nearest name, or the first names that there are."""
    near = nearest(name, names)
    if near:
        return f"did you mean {near}?"
    named = [each for each in names if each]
    more = " ..." if len(named) > _FIELDS_SHOWN else ""
    return f"it has {', '.join(named[:_FIELDS_SHOWN])}{more}" if named else None


def check_all_arguments(c: Checker, node: ast.Expr) -> Type | None:
    """``args`` (``*args``) alone: a record of all arguments that can be read."""
    if not _has_arguments(c, node):
        return None
    record = c.instance.stands_for.get(node)
    if record is None:
        names = tuple(each.name for each in c.context.arguments if not isinstance(each.access, OutOfReach))
        span = node.span
        members = tuple(ast.Member(span, ast.Name(span, "args"), name, span, False) for name in names)
        record = c.instance.stands_for[node] = ast.RecordExpr(span, names, members)
    return c.check(record)


def _check_argument(c: Checker, node: ast.Member) -> Type | None:
    if not _has_arguments(c, node.object):
        return None
    context = c.context
    c.refuse_in_for(node.object, "args")
    for argument in context.arguments:
        if argument.name == node.name:
            if isinstance(argument.access, OutOfReach):
                c.error(
                    Code.BAD_ARGUMENT,
                    node,
                    f"args.{node.name} is {argument.access.text} here, which no program in the kernel can read",
                )
                return None
            return argument.type
    _unknown_field(c, node, c.instance.plan.points[0].name, [a.name for a in context.arguments])
    return None


def _has_arguments(c: Checker, node: ast.Expr) -> bool:
    context = c.context
    if "args" not in context.features and context.provider == "uprobe":
        c.error(
            Code.NOT_HERE,
            node,
            f"no debug information tells the arguments of {c.instance.plan.points[0].name}",
            "arg0, arg1 ... are there; programs built with -g have it, others a debug package",
        )
        return False
    if "args" not in context.features:
        c.error(
            Code.NOT_HERE,
            node,
            "The args builtin can only be used with tracepoint, rawtracepoint, fentry/fexit, and uprobe probes "
            f"({context.provider} used here)",
            "numbered arguments are there: arg0, arg1 ..." if "argN" in context.features else where(c, "args"),
        )
        return False
    return True


def check_tuple_index(c: Checker, node: ast.TupleIndex) -> Type | None:
    object_ = c.check(node.object)
    if object_ is None:
        return None
    if not isinstance(object_, t.Tuple):
        c.error(Code.BAD_OPERAND, node, f"Can not access index '{node.index}' on expression of type '{spell(object_)}'")
        return None
    if node.index >= len(object_.elements):
        c.error(
            Code.BAD_INDEX, node, f"Invalid tuple index: {node.index}. Found {len(object_.elements)} elements in tuple."
        )
        return None
    return object_.elements[node.index]


def check_index(c: Checker, node: ast.Index) -> Type | None:
    object_, index = c.check(node.object), c.check(node.index)
    if object_ is None or index is None:
        return None
    constant = c.folder(node.index)
    if not isinstance(index, t.Int | t.Enumeration | t.Bool) or (c.bpftrace and _may_be_negative(c, node.index, index)):
        what = f"The array index operator [] only accepts non-negative integer indices. Got: {spell(index)}"
        c.error(Code.BAD_INDEX, node, what)
        return None
    match object_:
        case t.Array(element, length) | t.Pointer(t.Array(element, length)):
            if isinstance(constant, int) and length and not 0 <= constant < length:
                c.error(Code.BAD_INDEX, node, f"the index {constant} is out of bounds for array of size {length}")
            return in_space(element, space_of(c.instance, node.object))
        case t.Pointer(t.Void()):
            c.error(Code.BAD_OPERAND, node, "Can not dereference a void pointer", "cast it: ((uint64 *)p)[i]")
            return None
        case t.Pointer(pointee):
            return in_space(pointee, space_of(c.instance, node.object))
        case t.String(length):
            if isinstance(constant, int) and not 0 <= constant < length:
                c.error(Code.BAD_INDEX, node, f"the index {constant} is out of bounds for array of size {length}")
            return t.INT8
        case t.ProbeName():
            return t.INT8
        case t.Tuple(elements):
            if not isinstance(constant, int) or not 0 <= constant < len(elements):
                c.error(
                    Code.BAD_INDEX, node, f"a tuple's index must be a literal below its size, which is {len(elements)}"
                )
                return None
            return elements[constant]
        case _:
            what = (
                f"The array index operator [] can only be used on arrays, pointers, and tuples, found {spell(object_)}."
            )
            c.error(Code.BAD_OPERAND, node, what)
            return None


def _may_be_negative(c: Checker, node: ast.Expr, type_: Type) -> bool:
    """Whether an index has a sign of its own: literals have none, nor variables of nothing else."""
    if not isinstance(type_, t.Int) or not type_.signed or isinstance(c.folder(node), int):
        return False
    match node:
        case ast.ScratchVariable():
            return not c.instance.variables[node].flexible
        case ast.MapAccess(_, name):
            return not c.map(name).flexible
        case _:
            return c.final


# -- casts and compile-time values -------------------------------------------------------------


def check_cast(c: Checker, node: ast.Cast) -> Type | None:
    operand = c.check(node.operand)
    space = default_space(c.instance) if operand is None else space_of(c.instance, node.operand)
    type_ = resolve_type(c, node.type, space)
    if operand is None or type_ is None:
        return type_
    if isinstance(type_, t.Array) and type_.length == 0:
        size = t.size_bytes(operand) // max(1, t.size_bytes(type_.element))
        type_ = t.Array(type_.element, size)
    if isinstance(operand, t.Struct):
        c.error(Code.BAD_CAST, node, f'Cannot cast from C type "{spell(operand)}"', _cast_hint(operand, type_))
        return None
    if not _castable(operand, type_) and not _fills(c, node.operand, operand, type_):
        c.error(
            Code.BAD_CAST, node, f'Cannot cast from "{spell(operand)}" to "{spell(type_)}"', _cast_hint(operand, type_)
        )
        return None
    if isinstance(type_, t.Enumeration):
        _check_variant(c, node, type_)
    if operand == type_ and not isinstance(type_, t.Pointer) and not _is_aggregation(c, node.operand):
        c.diagnostics.warning(
            Code.BAD_CAST, node.span, f"Unnecessary cast: expression is already of type {spell(type_)}"
        )
    return type_


def _is_aggregation(c: Checker, node: ast.Expr) -> bool:
    """Whether a cast is what reads an aggregation."""
    return isinstance(node, ast.MapAccess) and t.is_aggregation(c.map(node.name).value or t.VOID)


def _fills(c: Checker, node: ast.Expr, old: Type, new: Type) -> bool:
    """Whether a literal becomes an array that is wider than the literal's type."""
    if not isinstance(old, t.Int) or not isinstance(new, t.Array) or not isinstance(c.folder(node), int):
        return False
    return isinstance(new.element, t.Int | t.Bool) and old.bits // 8 <= t.size_bytes(new) <= _WORD


def _check_variant(c: Checker, node: ast.Cast, type_: t.Enumeration) -> None:
    value = c.folder(node.operand)
    if isinstance(value, int) and all(value != known for _, known in type_.variants):
        c.error(Code.BAD_CAST, node, f"Enum: {type_.name} doesn't contain a variant value of {value}")


def _cast_hint(old: Type, new: Type) -> str | None:
    if isinstance(new, t.String) and isinstance(old, t.Int | t.Pointer):
        return "str() reads a string at an address; %s of printf() writes a number as text"
    if isinstance(new, t.Struct) and isinstance(old, t.Int | t.Pointer):
        return f"cast to a pointer and read that: *({spell(new)} *)address"
    return None


def _castable(old: Type, new: Type) -> bool:
    words = (t.Int, t.Bool, t.Enumeration, t.Pointer, t.KernelSymbol, t.Username, t.Timestamp, t.CgroupPath)
    match old, new:
        case (t.String(a), t.String(b)):
            return b >= a
        case (t.String(a), t.Array(t.Int(8), b)):
            return b >= a
        case (t.Int(bits), t.Array(element, length)):
            return t.size_bytes(element) * length == bits // 8
        case (t.Array(element, length), t.Int(bits)):
            return t.size_bytes(element) * length == bits // 8
        case _:
            return isinstance(old, words) and isinstance(new, words)


def _operand_type(c: Checker, operand: ast.Expr | ast.TypeExpr) -> Type | None:
    if isinstance(operand, ast.NamedType | ast.PointerType | ast.ArrayType | ast.TypeOf):
        return resolve_type(c, operand)
    return c.check(operand)


def check_sizeof(c: Checker, node: ast.SizeOf) -> Type | None:
    type_ = _operand_type(c, node.operand)
    if type_ is not None:
        c.instance.constants[node] = t.size_bytes(type_)
    return t.UINT64


def check_offsetof(c: Checker, node: ast.OffsetOf) -> Type | None:
    type_ = _operand_type(c, node.operand)
    offset = 0
    for name in node.path:
        while isinstance(type_, t.Pointer):
            type_ = type_.pointee
        if not isinstance(type_, t.Struct):
            if type_ is not None:
                c.error(Code.BAD_OPERAND, node, f"offsetof: '{spell(type_)}' is not a struct")
            return t.UINT64
        field = c.target.field(type_, name)
        if field is None:
            names = [each.name for each in c.target.fields(type_)]
            c.error(
                Code.UNKNOWN_FIELD,
                node,
                f"{spell(type_)} does not contain a field named '{name}'",
                field_hint(name, names),
            )
            return t.UINT64
        offset += field.offset
        type_ = field.type
    c.instance.constants[node] = offset
    return t.UINT64
