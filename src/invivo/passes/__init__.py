"""IR → IR. Each pass is a plain function and says what it finds, what it leaves, and what it does not touch.

`simplify_flow` comes first: what it leaves, reachable blocks each after those that dominate it, is what every other
pass finds, and keeps. So on a way through the blocks each value is defined before it is used.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from invivo.ir.ops import Function
from invivo.ir.program import Program
from invivo.passes.dead import remove_dead
from invivo.passes.flow import simplify_flow
from invivo.passes.fold import fold_constants
from invivo.passes.forward import forward_variables, promote_variables
from invivo.passes.share import share_values

PIPELINE: Final[tuple[Callable[[Function], Function], ...]] = (
    simplify_flow,
    promote_variables,
    forward_variables,
    fold_constants,
    simplify_flow,
    forward_variables,
    share_values,
    fold_constants,
    simplify_flow,
    remove_dead,
)


def run(program: Program, check: Callable[[Function], None] | None = None) -> Program:
    """Run all passes over all functions. ``check`` (`ir.verify.verify_function`) is called after each."""
    functions: list[Function] = []
    for function in program.functions:
        for apply in PIPELINE:
            function = apply(function)
            if check is not None:
                check(function)
        functions.append(function)
    return Program(tuple(functions), program.entries, program.maps, program.layout, program.license)


__all__ = [
    "PIPELINE",
    "fold_constants",
    "forward_variables",
    "promote_variables",
    "remove_dead",
    "run",
    "share_values",
    "simplify_flow",
]
