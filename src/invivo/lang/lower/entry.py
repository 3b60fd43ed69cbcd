"""What runs before a probe's body: which event is it, and does its process count?"""

from __future__ import annotations

import struct

from invivo.ir import helpers
from invivo.ir import types as t
from invivo.ir.layout import CONSTANTS_MAP, LoadConstant
from invivo.ir.ops import CompareOp, Kind, Operand
from invivo.lang.lower.body import Body
from invivo.library.access import load_access
from invivo.library.values import current_id, find_in_scope, in_scope, load_constant
from invivo.target import Access, Gate, Scope, Target

_TS_COMPAT = 0x0002  # arch/x86/include/asm/thread_info.h: a 32-bit system call is in progress


def pass_gate(body: Body, gate: Gate) -> None:
    """Let only the plan's events through, and remember which of its points it is."""
    b = body.b
    number = load_access(body.bare_emit(), gate.access, t.UINT64, None)
    assert number is not None
    if len(gate.table) == 1:
        _unless(body, CompareOp.EQ, number, gate.table[0][0], "gate")
    else:
        _look_up(body, gate, number)
    if gate.native_only:
        status = thread_status(body)
        if status is not None:
            _unless(body, CompareOp.EQ, b.mask(status, _TS_COMPAT), 0, "native")


def _look_up(body: Body, gate: Gate, number: Operand) -> None:
    """A table of 16-bit positions by number; 0 for the numbers that do not pass."""
    b = body.b
    limit = max(key for key, _ in gate.table) + 1
    positions = [0] * limit
    for key, position in gate.table:
        positions[key] = position + 1
    offset = body.state.constant(struct.pack(f"<{limit}H", *positions))
    _unless(body, CompareOp.ULT, number, limit, "gate")
    table = b.global_address(CONSTANTS_MAP, offset)
    entry = b.offset(table, b.shift_left(b.bounded(number, limit), 1))
    found = b.load(entry, 0, 2)
    _unless(body, CompareOp.NE, found, 0, "gate")
    body.gate_position = b.variable("position")
    b.set(body.gate_position, b.sub(found, 1))


def _unless(body: Body, op: CompareOp, left: Operand, right: Operand, hint: str) -> None:
    """Leave the program unless the comparison holds. (Nothing to give back yet.)"""
    b = body.b
    out, on = b.label(f"{hint}_out"), b.label(f"{hint}_pass")
    b.branch(op, left, right, on, out)
    b.start(out)
    b.ret(0)
    b.start(on)


def thread_status(body: Body) -> Operand | None:
    """``current->thread_info.status``, by direct loads."""
    offset = _nested_offset(body.target, ("thread_info", "status"))
    if offset is None:
        return None
    task = body.b.call(helpers.GET_CURRENT_TASK_BTF, kind=Kind.BTF)
    return body.b.load(task, offset, 4)


def _nested_offset(target: Target, path: tuple[str, ...]) -> int | None:
    struct_ = target.struct("struct", "task_struct")
    offset = 0
    for name in path:
        field = None if struct_ is None else target.field(struct_, name)
        if field is None:
            return None
        offset += field.offset
        struct_ = field.type if isinstance(field.type, t.Struct) else None
    return offset


def pass_object(body: Body, access: Access) -> None:
    """Leave the program if it is called without an object."""
    word = load_access(body.bare_emit(), access, t.UINT64, None)
    assert word is not None
    _unless(body, CompareOp.NE, word, 0, "object")


def pass_scope(body: Body) -> None:
    """Leave the program unless the current process is one that is traced."""
    if body.target.scope is Scope.ALL or not body.context.scoped:
        return
    if body.target.scope is Scope.TREE:
        _pass_tree(body)
    else:
        _unless(body, CompareOp.NE, in_scope(body.bare_emit()), 0, "scope")


def _pass_tree(body: Body) -> None:
    """Most hits are the command's own: its number is compared before the set of all is asked (half the time)."""
    b, emit = body.b, body.bare_emit()
    tgid = current_id(emit, "tgid")
    ask, out, on = b.label("scope_ask"), b.label("scope_out"), b.label("scope_pass")
    b.branch(CompareOp.EQ, tgid, load_constant(emit, LoadConstant.SCOPE_COMMAND), on, ask)
    b.start(ask)
    b.branch(CompareOp.NE, find_in_scope(emit, tgid), 0, on, out)
    b.start(out)
    b.ret(0)
    b.start(on)
