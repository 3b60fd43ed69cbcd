"""Source text to syntax tree."""

from __future__ import annotations

from invivo.diagnostics import Diagnostics, SourceFile
from invivo.lang import ast
from invivo.lang.parse.cursor import Cursor, Failure
from invivo.lang.parse.expressions import parse_expression
from invivo.lang.parse.program import parse_program
from invivo.lang.parse.statements import parse_block


def parse(source: SourceFile, parameters: tuple[str, ...] = ()) -> ast.Script:
    """Return the tree of a program in the bpftrace language.

    ``parameters`` replace ``$1``, ``$2`` ... in attach points (elsewhere they stay in the tree).
    Raises `CompileError` with all mistakes that could be found, the first one first.
    """
    diagnostics = Diagnostics()
    script = parse_program(source, parameters, diagnostics)
    diagnostics.stop_on_errors()
    return script


def parse_constant(source: SourceFile, start: int, end: int) -> ast.Expr | None:
    """Return the expression that is the whole of ``source.text[start:end]``; None if that is none."""
    diagnostics = Diagnostics()
    c = Cursor(source, diagnostics, parse_block)
    c.stop = end
    try:
        c.jump(start)
        expr = parse_expression(c)
    except Failure:
        return None
    return expr if c.kind == "end" and not diagnostics.has_errors else None
