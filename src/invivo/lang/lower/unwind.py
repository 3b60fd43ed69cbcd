"""invivo's own programs that keep the mappings of thread groups whose stacks are walked (`ir.unwinding`)."""

from __future__ import annotations

from invivo.ir import helpers
from invivo.ir.builder import Builder
from invivo.ir.layout import UNWIND_MAP
from invivo.ir.ops import CompareOp, Function, FunctionKind, Kind, Operand, Value
from invivo.ir.unwinding import ask
from invivo.lang.lower.scope import forked_groups, key_of, task_fields
from invivo.lang.lower.state import ProgramState


def _find(b: Builder, key: Value) -> Value:
    """Return a group's mappings; the program ends here if none are known."""
    found = b.call(helpers.MAP_LOOKUP_ELEM, b.map(UNWIND_MAP), key, kind=Kind.MAP_VALUE_OR_NULL)
    known, unknown = b.label("known"), b.label("unknown")
    b.branch(CompareOp.NE, found, 0, known, unknown)
    b.start(unknown)
    b.ret(0)
    b.start(known)
    return found


def inherit_mappings(state: ProgramState, name: str) -> Function:
    """``sched_process_fork(parent, child)``: a new group has the mappings of its parent."""
    b = Builder(name, FunctionKind.ENTRY, (Kind.CONTEXT,))
    parent, child = forked_groups(b, state)
    found = _find(b, key_of(b, parent))
    b.call_void(helpers.MAP_UPDATE_ELEM, b.map(UNWIND_MAP), key_of(b, child), found, 0)
    b.ret(0)
    return b.finish()


def renew_mappings(state: ProgramState, name: str) -> Function:
    """``sched_process_exec(task, old_pid, bprm)``: the group has a new program, and nothing of the old one."""
    b = Builder(name, FunctionKind.ENTRY, (Kind.CONTEXT,))
    tgid = b.shift_right(b.call(helpers.GET_CURRENT_PID_TGID), 32)
    key = key_of(b, tgid)
    _find(b, key)
    b.call_void(helpers.MAP_DELETE_ELEM, b.map(UNWIND_MAP), key)
    ask(b, tgid)
    b.ret(0)
    return b.finish()


def forget_mappings(state: ProgramState, name: str) -> Function:
    """``sched_process_free(task)``: a group's leader is gone."""
    pid_offset, tgid_offset = task_fields(state)
    b = Builder(name, FunctionKind.ENTRY, (Kind.CONTEXT,))
    task = b.load(b.parameters[0], 0, 8, kind=Kind.BTF)
    pid: Operand = b.load(task, pid_offset, 4)
    tgid: Operand = b.load(task, tgid_offset, 4)
    leader, thread = b.label("leader"), b.label("thread")
    b.branch(CompareOp.EQ, pid, tgid, leader, thread)
    b.start(thread)
    b.ret(0)
    b.start(leader)
    b.call_void(helpers.MAP_DELETE_ELEM, b.map(UNWIND_MAP), key_of(b, tgid))
    b.ret(0)
    return b.finish()
