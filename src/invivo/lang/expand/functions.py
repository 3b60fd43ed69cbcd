"""``fn`` subprograms are macros with types: each call becomes the function's body, with its own variables.

The kernel allows no recursion of programs anyway, and so nothing is lost.  In the body ``return`` becomes
an assignment and a way out: the body is a loop that runs once, and a flag ends the loops in it.
"""

from __future__ import annotations

from invivo.diagnostics import Code, Diagnostics, Span
from invivo.lang import ast
from invivo.lang.check.probes import walk
from invivo.lang.copying import rebuild, same
from invivo.library import find_builtin

_LOOPS = ast.While | ast.ForRange | ast.ForMap | ast.Unroll
# Names of the result and of the flag: no variable of a script has a blank in its name.
_RESULT = "the result"
_LEFT = "whether it returned"


def parameter_name(name: str) -> str:
    """The macro's parameter for a function's: no identifier of the body is called so."""
    return f" {name}"


def function_as_macro(function: ast.Subprogram, diagnostics: Diagnostics) -> ast.Macro:
    """Return a macro whose calls do what calls of the function do."""
    _check_names(function, diagnostics)
    span = function.span
    statements: list[ast.Statement] = [
        ast.Let(
            each.span,
            ast.ScratchVariable(each.span, each.name),
            each.type,
            ast.Name(each.span, parameter_name(each.name)),
        )
        for each in function.parameters
    ]
    void = isinstance(function.result, ast.NamedType) and function.result.name == "void"
    if not void:
        statements.append(ast.Let(span, _variable(span, _RESULT), function.result, None))
    returning = _Returning(void)
    body = returning.block(function.body)
    if returning.from_loops:
        statements.append(ast.Let(span, _variable(span, _LEFT), None, ast.Integer(span, 0)))
    statements.append(ast.Unroll(span, ast.Integer(span, 1), body))
    result = None if void else _variable(span, _RESULT)
    parameters = tuple(parameter_name(each.name) for each in function.parameters)
    return ast.Macro(span, function.name, parameters, ast.Block(function.body.span, tuple(statements), result))


def _variable(span: Span, name: str) -> ast.ScratchVariable:
    return ast.ScratchVariable(span, name)


def _check_names(function: ast.Subprogram, diagnostics: Diagnostics) -> None:
    """A function knows no probe: what only a probe has is refused."""
    for node in walk(function.body):
        if not isinstance(node, ast.Name | ast.Call):
            continue
        builtin = find_builtin(node.name)
        numbered = node.name[:3] == "arg" and node.name[3:].isdigit()
        if node.name == "args" or numbered or (builtin is not None and (builtin.feature or node.name == "probe")):
            diagnostics.error(Code.NOT_HERE, node.span, f"Builtin {node.name} not supported outside probe")


class _Returning:
    """Replaces the ``return`` statements of a body."""

    def __init__(self, void: bool) -> None:
        self._void = void
        self._loops = 0
        self.from_loops = False

    def block(self, block: ast.Block) -> ast.Block:
        statements: list[ast.Statement] = []
        for statement in block.statements:
            statements += self._statement(statement)
        found = None if block.result is None else self._node(block.result)
        assert found is None or isinstance(found, ast.Expr)
        return ast.Block(block.span, tuple(statements), found)

    def _node(self, node: ast.Node) -> ast.Node:
        return self.block(node) if isinstance(node, ast.Block) else rebuild(node, same, self._node)

    def _statement(self, node: ast.Statement) -> list[ast.Statement]:
        span = node.span
        if isinstance(node, ast.Return):
            return self._return(node)
        if not isinstance(node, _LOOPS):
            return [rebuild(node, same, self._node)]
        before, self.from_loops = self.from_loops, False
        self._loops += 1
        loop = rebuild(node, same, self._node)
        self._loops -= 1
        left, self.from_loops = self.from_loops, before or self.from_loops
        if not left:
            return [loop]
        leave = ast.Block(span, (ast.Break(span),), None)
        return [loop, ast.ExprStatement(span, ast.IfExpr(span, _variable(span, _LEFT), leave, None))]

    def _return(self, node: ast.Return) -> list[ast.Statement]:
        span = node.span
        statements: list[ast.Statement] = []
        if node.value is not None:
            value = self._node(node.value)
            assert isinstance(value, ast.Expr)
            assign = ast.Discard(span, value) if self._void else ast.Assign(span, _variable(span, _RESULT), "", value)
            statements.append(assign)
        if self._loops:
            self.from_loops = True
            statements.append(ast.Assign(span, _variable(span, _LEFT), "", ast.Integer(span, 1)))
        return [*statements, ast.Break(span)]
