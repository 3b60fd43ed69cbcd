"""Names for the values that a program prints, from its text: what a table's columns are called."""

from __future__ import annotations

from collections.abc import Iterator

from invivo.ir.layout import Layout, PrintValue, RecordLayout
from invivo.ir.types import NamedTuple, Tuple
from invivo.lang import ast
from invivo.lang.check.probes import walk


def column_labels(script: ast.Script, layout: Layout) -> list[tuple[str, ...]]:
    """Return for each kind of record what its columns are called: ``pid``, ``offset`` for ``args.offset``.

    What has no name in the program is ``value``, ``value_2`` and so on, by its place.
    """
    calls = {node.span: node for node in walk(script) if isinstance(node, ast.Call)}
    return [_labels(record, calls.get(record.span) if record.span else None) for record in layout.records]


def _labels(record: RecordLayout, call: ast.Call | None) -> tuple[str, ...]:
    words = () if call is None else call.arguments
    if isinstance(record.action, PrintValue):
        found = list(_of_value(record, words[0] if words else None))
    else:
        found = (
            [_name(word) for word in words[1:]] if len(words) == len(record.fields) + 1 else [""] * len(record.fields)
        )
    taken: set[str] = set()
    return tuple(_distinct(label, index, taken) for index, label in enumerate(found))


def _of_value(record: RecordLayout, word: ast.Node | None) -> Iterator[str]:
    """``print``: a tuple has a column for each element."""
    match record.fields[0].type:
        case NamedTuple(names):
            yield from names
        case Tuple(elements):
            parts = word.elements if isinstance(word, ast.TupleExpr) else ()
            yield from (_name(part) for part in parts) if len(parts) == len(elements) else [""] * len(elements)
        case _:
            yield "" if word is None else _name(word)


def _name(node: ast.Node) -> str:
    match node:
        case ast.Name(_, name) | ast.ScratchVariable(_, name) | ast.Member(_, _, name):
            return name
        case ast.MapAccess(_, name):
            return name.removeprefix("@")
        case ast.Cast(_, _, operand) | ast.Index(_, operand):
            return _name(operand)
        case ast.Call(_, name, _, arguments):
            return _name(arguments[0]) if arguments else name
        case _:
            return ""


def _distinct(label: str, index: int, taken: set[str]) -> str:
    found = label or "value"
    if found in taken or (not label and index):
        found = f"{found}_{index + 1}"
    taken.add(found)
    return found
