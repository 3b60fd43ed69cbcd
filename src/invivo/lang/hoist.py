"""Variables of old scripts: until version 0.22 of the language they were there in the whole probe.

    if ($family == 2) { $address = ... } else { $address = ... }
    print($address);

`hoist` puts ``let $address;`` before such an ``if``.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import TypeVar

from invivo.diagnostics import Code, Diagnostics
from invivo.lang import ast
from invivo.lang.check.probes import walk
from invivo.lang.copying import rebuild, same
from invivo.record import replace

NodeT = TypeVar("NodeT", bound=ast.Node)


def hoist(script: ast.Script, diagnostics: Diagnostics) -> ast.Script:
    """Declare what is read behind the block that assigns it, in the block around both; warn of each.

    Leaves alone what a ``let`` or a loop declares, and what is assigned anew before it is read.
    """
    probes = tuple(replace(probe, body=_block(probe.body, frozenset(), diagnostics)) for probe in script.probes)
    return replace(script, probes=probes)


def _block(block: ast.Block, visible: frozenset[str], diagnostics: Diagnostics) -> ast.Block:
    statements: list[ast.Statement] = []
    for index, statement in enumerate(block.statements):
        rest = [*block.statements[index + 1 :], *([] if block.result is None else [block.result])]
        for name in _assigned_below(statement):
            read = None if name in visible else _first_read(name, rest)
            if read is not None:
                statements.append(ast.Let(read.span, ast.ScratchVariable(read.span, name), None, None))
                visible |= {name}
                diagnostics.warning(
                    Code.DEPRECATED,
                    read.span,
                    f"${name} is assigned in an inner block and used outside of it",
                    f"let ${name}; before that block declares it",
                )
        statements.append(_inner(statement, visible, diagnostics))
        visible |= {target.name for target in _declared(statement)}
    result = None if block.result is None else _inner(block.result, visible, diagnostics)
    return replace(block, statements=tuple(statements), result=result)


def _inner(node: NodeT, visible: frozenset[str], diagnostics: Diagnostics) -> NodeT:
    """Rewrite the blocks in a statement or an expression."""

    def visit(child: ast.Node) -> ast.Node:
        return _block(child, visible, diagnostics) if isinstance(child, ast.Block) else rebuild(child, same, visit)

    return rebuild(node, same, visit)


def _declared(node: ast.Node) -> Iterator[ast.ScratchVariable]:
    """The variables that a statement itself declares, if they are not there yet."""
    match node:
        case ast.Assign(_, ast.ScratchVariable() as target, "", _):
            yield target
        case ast.Let() | ast.ForRange() | ast.ForMap():
            yield node.variable
        case _:
            pass


def _assigned_below(statement: ast.Statement) -> dict[str, None]:
    """The names that are assigned in blocks of a statement, in order, without those that anything else declares."""
    found: dict[str, None] = {}
    others: set[str] = set()
    for node in walk(statement):
        if node is not statement:
            names = {target.name for target in _declared(node)}
            found |= dict.fromkeys(names)
            others |= set() if isinstance(node, ast.Assign) else names
    return {name: None for name in found if name not in others}


def _first_read(name: str, rest: Iterable[ast.Node]) -> ast.ScratchVariable | None:
    """The first use of a variable in what follows, unless it is assigned anew before."""
    for node in rest:
        targets = {id(target) for below in walk(node) for target in _declared(below)}
        for below in walk(node):
            if isinstance(below, ast.ScratchVariable) and below.name == name and id(below) not in targets:
                return below
        if any(target.name == name for target in _declared(node)):
            return None
    return None
