"""Hygienic macros: every call becomes a block with the macro's text, its own variables renamed.

An expression argument is put in wherever the macro names its parameter, so it is evaluated there
each time; ``$v`` and ``@m`` parameters are the caller's own.  What comes out has no macros and no
trace of them but the origin in its spans.
"""

from __future__ import annotations

from typing import Final

from invivo.diagnostics import Code, CompileError, Diagnostics, Span
from invivo.lang import ast
from invivo.lang.check.probes import walk
from invivo.lang.copying import rebuild, same
from invivo.lang.expand.selection import TYPES, Argument, Macros, kind_of
from invivo.library import find_builtin
from invivo.record import Record

_MOST_NODES: Final = 200_000  # of all that macros expand to
_DEEPEST: Final = 240  # nodes in nodes; later stages walk the tree by recursion


class _Frame(Record, eq=False):
    """One expansion: the macro, what its parameters stand for, and where it is called.

    ``names`` are scratch variables and maps with their sigil: the caller's for parameters, new ones
    for the macro's own.  Without a macro it is the script itself.
    """

    macro: ast.Macro | None
    arguments: dict[str, Argument]
    names: dict[str, str]
    origin: Span | None
    outer: _Frame | None

    def place(self, span: Span) -> Span:
        return span if self.origin is None else Span(span.source, span.start, span.end, self.origin)

    def chain(self) -> list[ast.Macro]:
        """The macros that are being expanded, the outermost first."""
        outer = [] if self.outer is None else self.outer.chain()
        return outer if self.macro is None else [*outer, self.macro]


_SCRIPT: Final = _Frame(None, {}, {}, None, None)


class Expander:
    """Expands all calls of macros in probes, functions and other macros."""

    def __init__(self, macros: Macros, functions: frozenset[ast.Macro], diagnostics: Diagnostics) -> None:
        """``functions`` are those of the macros that may use any map."""
        self._macros = macros
        self._functions = functions
        self._diagnostics = diagnostics
        self._frame = _SCRIPT
        self._expanded: dict[str, int] = {}  # how often; each time its variables get other names
        self._level = 0
        self._nodes = 0

    def probe(self, probe: ast.Probe) -> ast.Probe:
        """Return a probe with all macros in it expanded."""
        return rebuild(probe, same, self.node)

    def node(self, node: ast.Node) -> ast.Node:
        """Return what stands for a node of the script, or of the macro that is being expanded."""
        self._level += 1
        self._count(node)
        found = self._node(node)
        self._level -= 1
        return found

    def _count(self, node: ast.Node) -> None:
        """Stop what would take too long to expand, or is too deep for the stages that follow."""
        macro = self._frame.macro
        if macro is None:
            return
        self._nodes += 1
        if self._level > _DEEPEST or self._nodes > _MOST_NODES:
            self._error(Code.LIMIT, node, f"the macro {macro.name} expands to too much")
            raise CompileError(self._diagnostics.found)

    def _copy(self, node: ast.Node) -> ast.Node:
        self._level += 1
        self._count(node)
        copied = rebuild(node, same, self._copy)
        self._level -= 1
        return copied

    def _node(self, node: ast.Node) -> ast.Node:
        place, macro = self._frame.place, self._frame.macro
        match node:
            case ast.Call(span, name, name_span, arguments):
                if self._macros.has(name, macro):
                    return self._call(node, name, arguments)
                return ast.Call(place(span), name, place(name_span), tuple(map(self._operand, arguments)))
            case ast.Name(_, name) if name in self._frame.arguments:
                return self._value(node, self._frame.arguments[name])
            case ast.Name(_, name) if self._macros.has(name, macro) and self._macros.find(name, (), macro) is not None:
                return self._call(node, name, ())
            case ast.ScratchVariable(span, name) if macro is not None:
                return ast.ScratchVariable(place(span), self._variable(node))
            case ast.MapAccess(span, name, keys) if macro is not None:
                return ast.MapAccess(place(span), self._map(node), tuple(map(self._expr, keys)))
            case ast.SizeOf(span, operand):
                return ast.SizeOf(place(span), self._operand(operand))
            case ast.TypeInfo(span, operand):
                return ast.TypeInfo(place(span), self._operand(operand))
            case ast.TypeOf(span, operand):
                return ast.TypeOf(place(span), self._operand(operand))
            case ast.OffsetOf(span, operand, path):
                return ast.OffsetOf(place(span), self._operand(operand), self._path(node, path))
            case ast.NamedType(_, "", name) if name in self._frame.arguments:
                return self._type(node, self._frame.arguments[name])
            case ast.Let() if f"${node.variable.name}" in self._parameters():
                what = f"Variable declaration shadows macro arg ${node.variable.name}"
                self._error(Code.BAD_MACRO, node, what)
            case _:
                pass
        return rebuild(node, place, self.node)

    def _error(self, code: Code, node: ast.Node, message: str) -> None:
        self._diagnostics.error(code, self._frame.place(node.span), message)

    def _expr(self, node: ast.Expr) -> ast.Expr:
        found = self.node(node)
        assert isinstance(found, ast.Expr), "a type in its place was refused"
        return found

    def _operand(self, node: Argument) -> Argument:
        """Where an expression or a type can stand: the argument of a call, the operand of sizeof."""
        argument = self._frame.arguments.get(node.name) if isinstance(node, ast.Name | ast.NamedType) else None
        if argument is not None:
            return self._copied_type(argument) if isinstance(argument, TYPES) else self._wrapped(argument)
        found = self.node(node)
        assert isinstance(found, ast.Expr | ast.TypeExpr)
        return found

    # -- what parameters stand for -------------------------------------------------------------

    def _value(self, node: ast.Name, argument: Argument) -> ast.Expr:
        if isinstance(argument, TYPES):
            self._error(Code.BAD_MACRO, node, f"'{node.name}' is a type here, not a value")
            return ast.Integer(self._frame.place(node.span), 0)
        return self._wrapped(argument)

    def _type(self, node: ast.NamedType, argument: Argument) -> ast.TypeExpr:
        if isinstance(argument, TYPES):
            return self._copied_type(argument)
        self._error(Code.BAD_MACRO, node, f"'{node.name}' is a value here, not a type")
        return ast.NamedType(self._frame.place(node.span), "", "int64")

    def _copied_type(self, argument: ast.TypeExpr) -> ast.TypeExpr:
        copied = self._copy(argument)
        assert isinstance(copied, ast.TypeExpr)
        return copied

    def _wrapped(self, argument: ast.Expr) -> ast.Expr:
        """What is put in for a parameter: a copy, and nothing that could be assigned to."""
        copied = self._copy(argument)
        assert isinstance(copied, ast.Expr)
        if isinstance(copied, ast.ScratchVariable | ast.MapAccess):
            return ast.BlockExpr(copied.span, ast.Block(copied.span, (), copied))
        return copied

    # -- what names mean in a macro ------------------------------------------------------------

    def _parameters(self) -> tuple[str, ...]:
        return () if self._frame.macro is None else self._frame.macro.parameters

    def _variable(self, node: ast.ScratchVariable) -> str:
        found = self._frame.names.get(f"${node.name}")
        if found is None:
            if self._frame.macro in self._functions:
                self._error(Code.UNKNOWN_VARIABLE, node, f"Undefined or undeclared variable: ${node.name}")
                return node.name
            what = f"Unhygienic access to variable: ${node.name}. Variables must be passed into the macro as arguments."
            self._error(Code.BAD_MACRO, node, what)
            return node.name
        return found[1:]

    def _map(self, node: ast.MapAccess) -> str:
        found = self._frame.names.get(node.name)
        if found is None and self._frame.macro in self._functions:
            return node.name
        if found is None:
            self._error(
                Code.BAD_MACRO,
                node,
                f"Unhygienic access to map: {node.name}. Maps must be passed into the macro as arguments.",
            )
            return node.name
        return found

    def _path(self, node: ast.OffsetOf, path: tuple[str, ...]) -> tuple[str, ...]:
        """The members of ``offsetof``; one that is a parameter may stand for several: ``a.b.c``."""
        names: list[str] = []
        for name in path:
            argument = self._frame.arguments.get(name)
            members = (name,) if argument is None else _members(argument)
            if members is None:
                self._error(Code.BAD_MACRO, node, f"'{name}' does not stand for the name of a member here")
            names += members or ()
        return tuple(names)

    # -- calls ---------------------------------------------------------------------------------

    def _call(self, node: ast.Call | ast.Name, name: str, written: tuple[Argument, ...]) -> ast.Node:
        """A call becomes the macro's block, or the expression that is all there is in it."""
        arguments = tuple(map(self._operand, written))
        macro = self._macros.find(name, arguments, self._frame.macro)
        if macro is None and isinstance(node, ast.Call) and find_builtin(name) is not None:
            return ast.Call(self._frame.place(node.span), name, self._frame.place(node.name_span), arguments)
        if macro is None:
            self._error(Code.BAD_MACRO, node, f"Call to {name}() has arguments that do not match any definition.")
            return ast.Integer(self._frame.place(node.span), 0)
        chain = self._frame.chain()
        if macro in chain:
            names = " > ".join(each.name for each in [*chain, macro])
            self._error(Code.BAD_MACRO, node, f"Recursive macro call detected. Call chain: {names}")
            return ast.Integer(self._frame.place(node.span), 0)
        outer = self._frame
        self._frame = self._enter(node, macro, arguments)
        block = self.node(macro.body)
        self._frame = outer
        assert isinstance(block, ast.Block)
        result = block.result
        if block.statements or result is None or isinstance(result, ast.ScratchVariable | ast.MapAccess):
            return ast.BlockExpr(outer.place(node.span), block)
        return result

    def _enter(self, node: ast.Call | ast.Name, macro: ast.Macro, arguments: tuple[Argument, ...]) -> _Frame:
        before = self._expanded.get(macro.name, 0)
        self._expanded[macro.name] = before + 1
        prefix = f"$${macro.name}_{before}_" if before else f"$${macro.name}_"
        names = {name: prefix + name[1:] for name in own_variables(macro)}
        bound: dict[str, Argument] = {}
        used: set[str] = set()
        for parameter, argument in zip(macro.parameters, arguments, strict=True):
            match argument:
                case ast.ScratchVariable(_, name) if kind_of(parameter):
                    self._once(argument, "Variable", f"${name}", used)
                    names[parameter] = f"${name}"
                case ast.MapAccess(_, name, _) if kind_of(parameter):
                    self._once(argument, "Map", name, used)
                    names[parameter] = name
                case _:
                    bound[parameter] = argument
        return _Frame(macro, bound, names, self._frame.place(node.span), self._frame)

    def _once(self, argument: ast.Expr, what: str, name: str, used: set[str]) -> None:
        if name in used:
            self._diagnostics.error(Code.BAD_MACRO, argument.span, f"{what} for macro argument has already been used")
        used.add(name)


def own_variables(macro: ast.Macro) -> set[str]:
    """The scratch variables that a macro makes: by `let`, by assigning, in loops, through find()."""
    found: set[str] = set()
    for node in walk(macro.body):
        match node:
            case ast.Let(_, ast.ScratchVariable(_, name)):
                found.add(f"${name}")
            case ast.Assign(_, ast.ScratchVariable(_, name), ""):
                found.add(f"${name}")
            case ast.ForRange(_, ast.ScratchVariable(_, name)) | ast.ForMap(_, ast.ScratchVariable(_, name)):
                found.add(f"${name}")
            case ast.Call(_, "find", _, (_, _, ast.ScratchVariable(_, name))):
                found.add(f"${name}")
            case _:
                pass
    return found - set(macro.parameters)


def _members(argument: Argument) -> tuple[str, ...] | None:
    match argument:
        case ast.Name(_, name) | ast.NamedType(_, "", name):
            return (name,)
        case ast.Member(_, object_, name):
            before = _members(object_)
            return None if before is None else (*before, name)
        case _:
            return None
