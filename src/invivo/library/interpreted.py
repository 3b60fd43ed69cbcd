"""Frames of interpreted code: one builtin value for each interpreter (`invivo.interpreters`)."""

from __future__ import annotations

from invivo.diagnostics import Code
from invivo.interpreters import MODULES
from invivo.interpreters.record import find_interpreter
from invivo.ir import types as t
from invivo.ir.types import StackMode, Type
from invivo.library.record import Builtin, Emit, Place, Site
from invivo.library.symbols import DEFAULT_FRAMES

_MOST_FRAMES = 127  # PERF_MAX_STACK_DEPTH, include/uapi/linux/perf_event.h


def _check(site: Site) -> Type:
    limit = site.literal(0) if site.arity else DEFAULT_FRAMES
    if not isinstance(limit, int) or not 1 <= limit <= _MOST_FRAMES:
        site.error(Code.LIMIT, f"{site.name}() takes a number of frames from 1 to {_MOST_FRAMES}", argument=0)
        limit = DEFAULT_FRAMES
    return t.Stack(False, StackMode.BPFTRACE, limit, site.name)


def _lower(emit: Emit, place: Place | None) -> None:
    assert place is not None and isinstance(emit.result, t.Stack)
    find_interpreter(emit.result.interpreter).walk(emit, place, emit.result.limit)


INTERPRETED: tuple[Builtin, ...] = tuple(
    Builtin(
        name,
        0,
        1,
        find_interpreter(name).doc,
        _check,
        _lower,
        value=True,
        feature="stacks",
        uses=frozenset({"stacks"}),
        in_loops=False,
    )
    for name in MODULES
)
