"""A syntax tree as text: the program again, in one spelling, with all its parentheses.

`parse(format_script(script))` is an equal tree: an operand that has an operator itself is
parenthesised, statements end in semicolons, and a block's value does not.
"""

from __future__ import annotations

from typing import Final, assert_never

from invivo.lang import ast
from invivo.lang.parse.statements import has_value

_INDENT: Final = "    "
_ESCAPES: Final = {"\n": "\\n", "\t": "\\t", "\r": "\\r", '"': '\\"', "\\": "\\\\"}


def format_script(script: ast.Script) -> str:
    """Return the text of a whole program, one item after the other."""
    items = [statement.text for statement in script.c_statements]
    if script.config is not None:
        items.append(_config(script.config))
    items += [f"import {_literal(import_.path)};" for import_ in script.imports]
    items += [f"let {m.name} = {m.kind}({m.max_entries});" for m in script.map_declarations]
    items += [f"macro {m.name}({', '.join(m.parameters)}) {format_block(m.body)}" for m in script.macros]
    items += [_subprogram(subprogram) for subprogram in script.subprograms]
    items += [_probe(probe) for probe in script.probes]
    return "".join(item + "\n" for item in items)


def _config(config: ast.Config) -> str:
    lines = ["config = {"]
    for entry in config.entries:
        value = entry.value
        match value:
            case bool():
                shown = "true" if value else "false"
            case int():
                shown = str(value)
            case str():
                shown = _literal(value)
        lines.append(f"{_INDENT}{entry.key} = {shown};")
    return "\n".join([*lines, "}"])


def _subprogram(subprogram: ast.Subprogram) -> str:
    parameters = ", ".join(f"${p.name} : {format_type(p.type)}" for p in subprogram.parameters)
    return f"fn {subprogram.name}({parameters}) : {format_type(subprogram.result)} {format_block(subprogram.body)}"


def _probe(probe: ast.Probe) -> str:
    points = ",\n".join(_attach_point(point) for point in probe.attach_points)
    predicate = "" if probe.predicate is None else f" / {_bare(probe.predicate)} /"
    return f"{points}{predicate} {format_block(probe.body)}"


def _attach_point(point: ast.AttachPoint) -> str:
    return " or ".join(map(_one_of, (point, *point.alternatives)))


def _one_of(point: ast.AttachPoint) -> str:
    label = f"{point.label}=" if point.label else ""
    provider = point.provider if _is_plain(point.provider, "/=#") else _quoted(point.provider)
    return label + ":".join([provider, *(part if _is_plain(part, "") else _quoted(part) for part in point.fields)])


def _is_plain(part: str, special: str) -> bool:
    """Whether a part of an attach point needs no quotes."""
    return not any(character.isspace() or character in '{,:"$' or character in special for character in part)


def _quoted(part: str) -> str:
    escaped = part.replace("\\", "\\\\").replace('"', '\\"')
    return f'"{escaped}"'


def format_string(value: str) -> str:
    """Return the literal of a string of bytes (latin-1)."""
    return '"' + "".join(_ESCAPES.get(c) or (c if " " <= c <= "~" else f"\\x{ord(c):02x}") for c in value) + '"'


def _literal(text: str) -> str:
    return format_string(text.encode("utf-8", "surrogateescape").decode("latin-1"))


# -- statements --------------------------------------------------------------------------------


def format_block(block: ast.Block, depth: int = 0) -> str:
    """Return a block, one statement on a line; ``depth`` is how deep the line it begins on is indented."""
    inner = _INDENT * (depth + 1)
    lines = [inner + format_statement(statement, depth + 1) for statement in block.statements]
    if block.result is not None:
        lines.append(inner + _bare(block.result, depth + 1))
    return "\n".join(["{", *lines, _INDENT * depth + "}"]) if lines else "{ }"


def format_statement(statement: ast.Statement, depth: int = 0) -> str:
    """Return a statement with its semicolon."""
    match statement:
        case ast.ExprStatement(_, ast.IfExpr() | ast.BlockExpr() as expr):
            return _bare(expr, depth) + (";" if has_value(expr) else "")
        case ast.ExprStatement(_, expr):
            return _bare(expr, depth) + ";"
        case ast.Discard(_, expr):
            return f"_ = {_bare(expr, depth)};"
        case ast.Let(_, variable, type_, value):
            declared = "" if type_ is None else f" : {format_type(type_)}"
            assigned = "" if value is None else f" = {_bare(value, depth)}"
            return f"let ${variable.name}{declared}{assigned};"
        case ast.Assign(_, target, op, value):
            return f"{_bare(target, depth)} {op}= {_bare(value, depth)};"
        case ast.While(_, condition, body):
            return f"while ({_bare(condition, depth)}) {format_block(body, depth)}"
        case ast.Unroll(_, count, body):
            return f"unroll ({_bare(count, depth)}) {format_block(body, depth)}"
        case ast.ForRange(_, variable, start, stop, body):
            ends = f"{format_expression(start, depth)}..{format_expression(stop, depth)}"
            return f"for (${variable.name} : {ends}) {format_block(body, depth)}"
        case ast.ForMap(_, variable, map_, body):
            return f"for (${variable.name} : {map_.name}) {format_block(body, depth)}"
        case ast.Break():
            return "break;"
        case ast.Continue():
            return "continue;"
        case ast.Return(_, value):
            return "return;" if value is None else f"return {_bare(value, depth)};"
        case ast.ImportStatement(_, path):
            return f"import {_literal(path)};"
        case _:
            assert_never(statement)


# -- expressions -------------------------------------------------------------------------------


def format_expression(expr: ast.Expr, depth: int = 0) -> str:
    """Return an expression, in parentheses if it has an operator."""
    text = _bare(expr, depth)
    return f"({text})" if isinstance(expr, _Operation) else text


_Operation = ast.Unary | ast.Increment | ast.Binary | ast.Ternary | ast.Cast | ast.Comptime | ast.BlockExpr | ast.IfExpr


def _bare(expr: ast.Expr, depth: int = 0) -> str:
    """Return an expression where a delimiter or the end of a statement follows."""

    def text(inner: ast.Expr) -> str:
        return format_expression(inner, depth)

    match expr:
        case ast.Integer(_, value, duration):
            return f"{value}ns" if duration else str(value)
        case ast.StringLiteral(_, value):
            return format_string(value)
        case ast.Boolean(_, value):
            return "true" if value else "false"
        case ast.Name(_, name):
            return name
        case ast.ScratchVariable(_, name):
            return f"${name}"
        case ast.PositionalParameter(_, index):
            return f"${index}"
        case ast.ParameterCount():
            return "$#"
        case ast.Unary(_, op, operand):
            return f"{op}{text(operand)}"
        case ast.Increment(_, operand, delta, prefix):
            sign = "++" if delta > 0 else "--"
            return f"{sign}{text(operand)}" if prefix else f"{text(operand)}{sign}"
        case ast.Binary(_, op, left, right):
            return f"{text(left)} {op} {text(right)}"
        case ast.Ternary(_, condition, then, otherwise):
            chosen = "" if then is None else f" {text(then)} "
            return f"{text(condition)} ?{chosen}: {text(otherwise)}"
        case ast.Cast(_, type_, operand):
            return f"({format_type(type_)}){text(operand)}"
        case ast.Member() | ast.TupleIndex() | ast.Index():
            return _selection(expr, depth)
        case ast.MapAccess() | ast.TupleExpr() | ast.RecordExpr():
            return _sequence(expr, depth)
        case _:
            return _with_words(expr, depth)


def _sequence(expr: ast.MapAccess | ast.TupleExpr | ast.RecordExpr, depth: int) -> str:
    match expr:
        case ast.MapAccess(_, name, keys):
            return f"{name}[{', '.join(_bare(key, depth) for key in keys)}]" if keys else name
        case ast.TupleExpr(_, elements):
            comma = "," if len(elements) == 1 else ""
            return f"({', '.join(_bare(element, depth) for element in elements)}{comma})"
        case ast.RecordExpr(_, names, elements):
            fields = zip(names, elements, strict=True)
            return f"({', '.join(f'{name} = {_bare(element, depth)}' for name, element in fields)})"
        case _:
            assert_never(expr)


def _selection(expr: ast.Member | ast.TupleIndex | ast.Index, depth: int) -> str:
    object_ = format_expression(expr.object, depth)
    match expr:
        case ast.Member(_, _, name, _, arrow):
            return f"{object_}{'->' if arrow else '.'}{name}"
        case ast.TupleIndex(_, _, index):
            return f"{object_}.{index}"
        case ast.Index(_, map_, index):
            key = _bare(index, depth)
            return f"({object_})[{key}]" if isinstance(map_, ast.MapAccess) else f"{object_}[{key}]"
        case _:
            assert_never(expr)


_Worded = ast.Call | ast.SizeOf | ast.OffsetOf | ast.TypeInfo | ast.Comptime | ast.BlockExpr | ast.IfExpr


def _with_words(expr: _Worded, depth: int) -> str:
    match expr:
        case ast.Call(_, name, _, arguments):
            return f"{name}({', '.join(_argument(argument, depth) for argument in arguments)})"
        case ast.SizeOf(_, operand):
            return f"sizeof({_type_or_expression(operand, depth)})"
        case ast.OffsetOf(_, operand, path):
            return f"offsetof({_type_or_expression(operand, depth)}, {'.'.join(path)})"
        case ast.TypeInfo(_, operand):
            return f"typeinfo({_type_or_expression(operand, depth)})"
        case ast.Comptime(_, operand):
            return f"comptime {format_expression(operand, depth)}"
        case ast.BlockExpr(_, block):
            return format_block(block, depth)
        case ast.IfExpr():
            return _if(expr, depth)
        case _:
            assert_never(expr)


def _if(expr: ast.IfExpr, depth: int) -> str:
    branches: list[str] = []
    otherwise: ast.Block | ast.IfExpr | None = expr
    while isinstance(otherwise, ast.IfExpr):
        condition = _bare(otherwise.condition, depth)
        branches.append(f"if ({condition}) {format_block(otherwise.then, depth)}")
        otherwise = otherwise.otherwise
    if otherwise is not None:
        branches.append(format_block(otherwise, depth))
    return " else ".join(branches)


def _argument(argument: ast.Expr | ast.TypeExpr, depth: int) -> str:
    if isinstance(argument, ast.TypeExpr):
        return format_type(argument)
    return _bare(argument, depth)


def _type_or_expression(operand: ast.Expr | ast.TypeExpr, depth: int) -> str:
    if isinstance(operand, ast.TypeExpr):
        return format_type(operand)
    text = _bare(operand, depth)
    # A bare name or an array of them would be a type here.
    return f"({text})" if isinstance(operand, ast.Name | ast.Index) else text


def format_type(type_: ast.TypeExpr) -> str:
    """Return a type as it is written in a cast."""
    match type_:
        case ast.NamedType(_, keyword, name):
            return f"{keyword} {name}" if keyword else name
        case ast.PointerType(_, target):
            return f"{format_type(target)} *"
        case ast.ArrayType(_, element, length):
            return f"{format_type(element)}[{'' if length is None else length}]"
        case ast.TypeOf(_, operand):
            return f"typeof({_type_or_expression(operand, 0)})"
        case _:
            assert_never(type_)
