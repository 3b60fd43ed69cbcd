"""Calls of the library: finding the record, counting arguments, asking it for the type."""

from __future__ import annotations

from typing import Final

from invivo.diagnostics import Code
from invivo.ir import types as t
from invivo.ir.types import AddressSpace, Type
from invivo.lang import ast
from invivo.lang.check.comptime import stand_for
from invivo.lang.check.scope import Checker
from invivo.lang.check.spaces import known_pointer, space_of
from invivo.lang.check.typeexprs import resolve_type
from invivo.lang.suggest import nearest
from invivo.library import FEATURE_PROBES, find_builtin, function_names
from invivo.library.record import Builtin, Config
from invivo.library.spelling import spell
from invivo.target import AttachPoint, Context, Target

_TYPES = (ast.NamedType, ast.PointerType, ast.ArrayType, ast.TypeOf)
_LITERALS = (ast.Integer, ast.StringLiteral, ast.Boolean, ast.PositionalParameter, ast.ParameterCount)


class CallSite:
    """A call as the library sees it while it is checked (`library.record.Site`)."""

    def __init__(
        self, c: Checker, node: ast.Call | ast.Name, discarded: bool, assigned: ast.MapAccess | None = None
    ) -> None:
        self._c = c
        self._assigned = assigned
        self._node = node
        self.arguments: tuple[ast.Expr | ast.TypeExpr, ...] = node.arguments if isinstance(node, ast.Call) else ()
        self._types: dict[int, Type | None] = {}
        self.discarded = discarded
        self.unknown = False  # an argument's type is not known: the result is not to be trusted

    @property
    def name(self) -> str:
        return self._node.name

    @property
    def arity(self) -> int:
        return len(self.arguments)

    @property
    def config(self) -> Config:
        return self._c.config

    @property
    def context(self) -> Context:
        return self._c.context

    @property
    def target(self) -> Target:
        return self._c.target

    @property
    def points(self) -> tuple[AttachPoint, ...]:
        return self._c.instance.plan.points

    def _expr(self, index: int) -> ast.Expr | None:
        argument = self.arguments[index]
        if isinstance(argument, _TYPES):
            self.error(Code.BAD_ARGUMENT, "a value is expected here, not a type", argument=index)
            return None
        return argument

    def type(self, index: int) -> Type:
        if index not in self._types:
            expr = self._expr(index)
            self._types[index] = None if expr is None else self._c.check(expr)
        found = self._types[index]
        if found is None:
            self.unknown = True
            return t.INT64  # any: the call is not judged by it
        return found

    def known(self, index: int) -> bool:
        self.type(index)
        return self._types[index] is not None

    def literal(self, index: int) -> int | str | None:
        return self._c.folder(self.arguments[index])

    def clock(self, index: int) -> t.Clock:
        return _clock(self.arguments[index])

    def text(self, index: int) -> str | None:
        return self._c.folder.text(self.arguments[index])

    def identifier(self, index: int) -> str | None:
        argument = self.arguments[index]
        return argument.name if isinstance(argument, ast.Name) else None

    def is_kernel_pointer(self, index: int) -> bool:
        return known_pointer(self._c.instance, self._c.target, self.arguments[index])

    def named_type(self, index: int) -> Type | None:
        argument = self.arguments[index]
        if isinstance(argument, _TYPES):
            return resolve_type(self._c, argument)
        if isinstance(argument, ast.Name):
            return resolve_type(self._c, ast.NamedType(argument.span, "", argument.name))
        self.error(Code.BAD_ARGUMENT, "a type is expected here", "typeof(struct NAME)", index)
        return None

    def path(self, index: int) -> tuple[str, ...]:
        return member_path(self.arguments[index])

    def space(self, index: int) -> AddressSpace:
        return space_of(self._c.instance, self.arguments[index])

    def is_literal(self, index: int) -> bool:
        argument = self.arguments[index]
        if isinstance(argument, ast.Unary) and argument.op == "-":
            argument = argument.operand
        return isinstance(argument, _LITERALS)

    @property
    def in_loop(self) -> bool:
        return self._c.depth > 0

    @property
    def reached(self) -> bool:
        return self._c.ruled_out == 0

    def argument_type(self, index: int) -> Type | None:
        argument = self.arguments[index]
        return resolve_type(self._c, argument) if isinstance(argument, _TYPES) else self._c.check(argument)

    def option(self, name: str, default: bool | int | str, description: str) -> bool | int | str:
        value, wrong = self._c.options.value(name, default, description)
        if wrong:
            self.error(Code.BAD_OPTION, wrong)
        return value

    def fold(self, value: int | str) -> None:
        self._c.instance.constants[self._node] = value

    def stand_for(self, names: tuple[str, ...], values: tuple[int | str, ...]) -> Type:
        return stand_for(self._c, self._node, names, values)

    def map(self, index: int) -> str | None:
        argument = self.arguments[index]
        return argument.name if isinstance(argument, ast.MapAccess) else None

    def map_value(self, index: int) -> Type | None:
        name = self.map(index)
        return None if name is None else self._c.map(name).value

    def map_is_scalar(self, index: int) -> bool | None:
        name = self.map(index)
        return None if name is None else self._c.map(name).scalar

    def has_keys(self, index: int) -> bool:
        argument = self.arguments[index]
        return isinstance(argument, ast.MapAccess) and bool(argument.keys)

    def use_key(self, map_index: int, key_index: int | None) -> None:
        argument = self.arguments[map_index]
        if not isinstance(argument, ast.MapAccess):
            return
        if key_index is not None:
            key = self.type(key_index)
            if self.known(key_index):
                parts = key.elements if isinstance(key, t.Tuple) else (key,)
                written = self.arguments[key_index]
                self._c.use_key(
                    argument.name, parts, argument.span, (written,) if isinstance(written, ast.Expr) else ()
                )
            return
        types = [self._c.check(part) for part in argument.keys]
        known = tuple(type_ for type_ in types if type_ is not None)
        if len(known) != len(types):
            self.unknown = True
            return
        if len(known) == 1 and isinstance(known[0], t.Tuple):
            known = known[0].elements
        self._c.use_key(argument.name, known or None, argument.span, argument.keys)

    @property
    def assigned_with_key(self) -> bool:
        return self._assigned is not None and bool(self._assigned.keys)

    def unstable(self, feature: str) -> None:
        self._c.use_unstable(self._node, feature)

    def check_find(self) -> Type:
        """``if has_key(@m, key) { $v = @m[key]; true } else { false }``; a new variable lives on after it."""
        map_, key, variable = self.arguments
        if not isinstance(variable, ast.ScratchVariable) or not isinstance(map_, ast.MapAccess) or map_.keys:
            wrong, what = (1, "map without a key") if isinstance(variable, ast.ScratchVariable) else (2, "variable")
            self.error(
                Code.BAD_ARGUMENT, f"find() expects a {what}", "find(@map, key, $variable)", wrong & 2, at_argument=True
            )
            return t.BOOL
        if isinstance(key, _TYPES):
            self.error(Code.BAD_ARGUMENT, "a value is expected here, not a type", argument=1)
            return t.BOOL
        c, span = self._c, self._node.span
        if c.lookup(variable.name) is None:
            c.declare(variable, variable.name).assigned = True
        expansion = c.instance.expansions.get(self._node)
        if expansion is None:
            value = ast.MapAccess(map_.span, map_.name, (key,))
            assign = ast.Assign(span, variable, "", value)
            expansion = c.instance.expansions[self._node] = ast.IfExpr(
                span,
                ast.Call(span, "has_key", span, (map_, key)),
                ast.Block(span, (assign,), ast.Boolean(span, True)),
                ast.Block(span, (), ast.Boolean(span, False)),
            )
        c.check(expansion)
        return t.BOOL

    def use_map(self, index: int) -> None:
        name = self.map(index)
        if name is None or name in self._c.left_out:
            return
        if self._c.final and self._c.map(name).value is None:
            self.error(
                Code.UNKNOWN_VARIABLE, f"Undefined map: {name}", "nothing assigns to it", index, at_argument=True
            )

    def mark_deleted(self, index: int) -> None:
        name = self.map(index)
        if name is not None:
            self._c.map(name).deleted = True

    def error(
        self,
        code: Code,
        message: str,
        hint: str | None = None,
        argument: int | None = None,
        *,
        at_argument: bool = False,
    ) -> None:
        """What is wrong with an argument is shown there; bpftrace points at the call, except ``at_argument``."""
        if self.unknown:
            return  # what is wrong with an argument has been said, and it may be the reason
        node = self._place(argument) if argument is None or not at_argument else self.arguments[argument]
        self._c.error(code, node, message, hint)

    def warning(self, code: Code, message: str, hint: str | None = None, argument: int | None = None) -> None:
        self._c.diagnostics.warning(code, self._place(argument).span, message, hint)

    def _place(self, argument: int | None) -> ast.Node:
        return self._node if argument is None or self._c.bpftrace else self.arguments[argument]


def member_path(node: ast.Node) -> tuple[str, ...]:
    """The names of ``a.b.c``; () if a node is something else."""
    match node:
        case ast.Name(_, name):
            return (name,)
        case ast.Member(_, object_, name) if before := member_path(object_):
            return (*before, name)
        case _:
            return ()


def _clock(node: ast.Node) -> t.Clock:
    """The clock of the first ``nsecs`` in an expression; the boot clock if there is none."""
    match node:
        case ast.Call(_, "nsecs", _, (ast.Name(_, mode),)) if mode in {clock.value for clock in t.Clock}:
            return t.Clock(mode)
        case ast.Binary(_, _, left, right):
            found = _clock(left)
            return found if found is not t.Clock.BOOT else _clock(right)
        case _:
            return t.Clock.BOOT


# What the session does for a program, which a pinned iterator runs without.
_SHOWN_BY_INVIVO: Final = frozenset(
    {"print", "errorf", "warnf", "cat", "system", "time", "exit", "join", "strftime", "clear", "zero"}
)


def check_call(c: Checker, node: ast.Call) -> Type | None:
    builtin = find_builtin(node.name)
    if builtin is None:
        near = nearest(node.name, function_names())
        hint = f"did you mean {near}?" if near else None
        c.diagnostics.error(Code.UNKNOWN_FUNCTION, node.name_span, f"Unknown function: '{node.name}'", hint)
        for argument in node.arguments:
            if not isinstance(argument, _TYPES):
                c.check(argument)
        return None
    if builtin.update is not None:
        not_assigned(c, node)
        return None
    return _check(c, node, builtin, node.name)


def not_assigned(c: Checker, node: ast.Call) -> None:
    """Report an aggregation that does not stand right of ``@map =``."""
    written = node.span.text if len(node.span.text) < 40 and "\n" not in node.span.text else f"{node.name}(...)"
    c.error(Code.AGGREGATION, node, f"{node.name}() must be assigned directly to a map", f"write @name = {written};")


def check_builtin_value(c: Checker, node: ast.Name, builtin: Builtin) -> Type | None:
    return _check(c, node, builtin, node.name)


def check_aggregation(c: Checker, node: ast.Call, builtin: Builtin, assigned: ast.MapAccess) -> Type | None:
    return _check(c, node, builtin, node.name, assigned)


def _check(
    c: Checker, node: ast.Call | ast.Name, builtin: Builtin, name: str, assigned: ast.MapAccess | None = None
) -> Type | None:
    site = CallSite(c, node, discarded=False, assigned=assigned)
    c.instance.builtins[node] = builtin
    if not _right_count(c, node, builtin, site.arity):
        return None
    if name == "ctx" and c.context.provider == "tracepoint":
        c.error(Code.NOT_HERE, node, "Use args instead of ctx in tracepoint")
        return None
    if name in _SHOWN_BY_INVIVO and "pinned" in c.context.features:
        message = f"{name}() can not be used in a pinned iterator: it stays when the trace has ended"
        c.error(Code.NOT_HERE, node, message, "printf() writes to whoever reads the pinned file")
        return None
    if builtin.feature and builtin.feature not in c.context.features:
        c.error(
            Code.NOT_HERE, node, f'{name} can not be used with "{c.context.provider}" probes', where(c, builtin.feature)
        )
        return None
    if builtin.unsafe and not c.unsafe:
        _unsafe(c, node, builtin)
    if name in ("ctx", "retval") and c.bpftrace and c.for_loops:
        c.refuse_in_for(node, name)
    elif c.depth and not builtin.in_loops:
        hint = (
            "assign it to a variable before the loop"
            if builtin.value
            else "set a variable in the loop and test it after"
        )
        c.error(Code.NOT_HERE, node, f"{name}{'()' if not builtin.value else ''} is not allowed in a loop", hint)
    type_ = builtin.check(site)
    return None if site.unknown and not _settled(type_) else type_


def _settled(type_: Type) -> bool:
    """Types that do not depend on what the arguments are."""
    return isinstance(type_, t.Void | t.Count | t.Bool)


def _unsafe(c: Checker, node: ast.Node, builtin: Builtin) -> None:
    if builtin.macro:
        c.error(Code.UNSAFE, node, f"{builtin.name}() is unsafe. To use you need the --unsafe flag")
        return
    message = f"{builtin.name}() is an unsafe function being used in safe mode"
    c.error(Code.UNSAFE, node, message, "allow it with --unsafe")


def _right_count(c: Checker, node: ast.Node, builtin: Builtin, arity: int) -> bool:
    low, high = builtin.minimum, builtin.maximum
    if low <= arity <= high:
        return True
    if builtin.macro:
        message = f"Call to {builtin.name}() has arguments that do not match any definition."
    elif low == high:
        message = f"{builtin.name}() requires {_count_of(low)} ({arity} provided)"
    elif arity < low:
        message = f"{builtin.name}() requires at least {_count_of(low)} ({arity} provided)"
    else:
        message = f"{builtin.name}() takes up to {_count_of(high)} ({arity} provided)"
    hint = builtin.doc.partition(":")[0] if builtin.doc.startswith(builtin.name) else None
    c.error(Code.BAD_ARGUMENT, node, message, hint)
    return False


def _count_of(number: int) -> str:
    words = {0: "no arguments", 1: "one argument"}
    return words.get(number, f"{number} arguments")


def where(c: Checker, feature: str) -> str:
    """A hint: which probes have what this one has not."""
    *others, last = FEATURE_PROBES[feature]
    probes = f"{', '.join(others)} and {last} probes have it" if others else f"{last} probes have it"
    named = feature == "retval" and "args" in c.context.features and "func" not in c.context.features
    return f"{probes} (try to use args.ret instead)" if named else probes


def spell_argument(site: CallSite, index: int) -> str:
    return spell(site.type(index))
