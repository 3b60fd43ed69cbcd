"""The smallest program that still fails: statements are taken away, expressions replaced by their parts."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from invivo.diagnostics import CompileError, SourceFile
from invivo.lang import ast
from invivo.lang.parse import parse
from invivo.lang.text import format_script
from invivo.record import replace

_EXPRESSIONS = ast.Expr.__args__
_BRANCHES = (ast.Block, ast.IfExpr)


def minimise(program: str, fails: Callable[[str], bool], parameters: tuple[str, ...], *, attempts: int = 600) -> str:
    """Return a program that fails as ``program`` does, from which nothing can be taken away."""
    left = attempts
    found = True
    while found and left > 0:
        found = False
        for candidate in _smaller_programs(program, parameters):
            left -= 1
            if left <= 0:
                break
            if fails(candidate):
                program, found = candidate, True
                break
    return program


def _smaller_programs(program: str, parameters: tuple[str, ...]) -> Iterator[str]:
    """Programs that are one step smaller, the largest steps first."""
    try:
        script = parse(SourceFile("generated", program), parameters)
    except CompileError:
        return
    seen = {program}
    for smaller in sorted({format_script(script) for script in _smaller_scripts(script)}, key=len):
        if smaller not in seen and len(smaller) < len(format_script(script)):
            seen.add(smaller)
            yield smaller


def _smaller_scripts(script: ast.Script) -> Iterator[ast.Script]:
    for name in ("c_statements", "map_declarations", "probes"):
        items = getattr(script, name)
        for index in range(len(items)):
            if name != "probes" or len(items) > 1:
                yield replace(script, **{name: items[:index] + items[index + 1 :]})
    for index, probe in enumerate(script.probes):
        for smaller in _smaller(probe):
            assert isinstance(smaller, ast.Probe)
            yield replace(script, probes=(*script.probes[:index], smaller, *script.probes[index + 1 :]))


def _smaller(node: ast.Node) -> Iterator[ast.Node]:
    """Yield a node with one thing in it smaller."""
    if isinstance(node, _EXPRESSIONS):
        yield from _parts(node)
    if isinstance(node, ast.Probe) and node.predicate is not None:
        yield replace(node, predicate=None)
    if isinstance(node, ast.Block):
        yield from _smaller_blocks(node)
    for name in type(node).__record_fields__:
        value = getattr(node, name)
        if name in ("variable", "map", "target"):
            continue  # only a name can stand there
        if isinstance(value, ast.Node):
            is_else = isinstance(node, ast.IfExpr) and value is node.otherwise
            if is_else:
                yield replace(node, **{name: None})
            for smaller in _smaller(value):
                if not is_else or isinstance(smaller, _BRANCHES):
                    yield replace(node, **{name: smaller})
        elif isinstance(value, tuple):
            for index, item in enumerate(value):
                if isinstance(item, ast.Node):
                    for smaller in _smaller(item):
                        yield replace(node, **{name: (*value[:index], smaller, *value[index + 1 :])})


def _parts(node: ast.Expr) -> Iterator[ast.Node]:
    """Expressions that may stand in a node's place: its operands, and 1."""
    for child in _children(node):
        if isinstance(child, _EXPRESSIONS):
            yield child
        elif isinstance(child, ast.Block) and child.result is not None:
            yield child.result
    if not isinstance(node, ast.Integer | ast.StringLiteral | ast.Name):
        yield ast.Integer(node.span, 1)


def _smaller_blocks(block: ast.Block) -> Iterator[ast.Block]:
    statements = block.statements
    half = len(statements) // 2
    if half > 1:
        yield replace(block, statements=statements[half:])
        yield replace(block, statements=statements[:half])
    for index, statement in enumerate(statements):
        rest = (statements[:index], statements[index + 1 :])
        yield replace(block, statements=rest[0] + rest[1])
        for inner in _inner_blocks(statement):
            yield replace(block, statements=rest[0] + inner.statements + rest[1])


def _inner_blocks(statement: ast.Node) -> Iterator[ast.Block]:
    for child in _children(statement):
        if isinstance(child, ast.Block):
            yield child
        elif isinstance(statement, ast.ExprStatement):
            yield from _inner_blocks(child)


def _children(node: ast.Node) -> Iterator[ast.Node]:
    for name in type(node).__record_fields__:
        value = getattr(node, name)
        for item in value if isinstance(value, tuple) else (value,):
            if isinstance(item, ast.Node):
                yield item
