"""invivo's own programs that keep the set of traced thread groups: fork adds, the end removes."""

from __future__ import annotations

from invivo.errors import NotSupportedError
from invivo.ir import helpers
from invivo.ir.builder import Builder
from invivo.ir.layout import LOSSES_MAP, SCOPE_MAP, LossKind
from invivo.ir.ops import AtomicOp, CompareOp, Function, FunctionKind, Kind, Operand, Value
from invivo.lang.lower.state import ProgramState


def task_fields(state: ProgramState) -> tuple[int, int]:
    task = state.target.struct("struct", "task_struct")
    if task is None:
        raise NotSupportedError(
            "the kernel's types (BTF)",
            hint="the kernel must be built with CONFIG_DEBUG_INFO_BTF=y; invivo doctor says more",
        )
    pid, tgid = state.target.field(task, "pid"), state.target.field(task, "tgid")
    assert pid is not None and tgid is not None
    return pid.offset, tgid.offset


def key_of(b: Builder, tgid: Operand) -> Value:
    key = b.stack_slot(8)
    b.store(key, 0, 4, tgid)
    return key


def forked_groups(b: Builder, state: ProgramState) -> tuple[Value, Value]:
    """The groups of ``sched_process_fork(parent, child)``; the program ends there if only a thread was made."""
    _, tgid_offset = task_fields(state)
    context = b.parameters[0]
    parent = b.load(b.load(context, 0, 8, kind=Kind.BTF), tgid_offset, 4)
    child = b.load(b.load(context, 8, 8, kind=Kind.BTF), tgid_offset, 4)
    group, thread = b.label("group"), b.label("thread")
    b.branch(CompareOp.EQ, parent, child, thread, group)
    b.start(thread)
    b.ret(0)
    b.start(group)
    return parent, child


def follow_fork(state: ProgramState, name: str) -> Function:
    """``sched_process_fork(parent, child)``: a traced group's child group is traced too.

    A child that is not takes its number out of the set: an old entry of it would be stale.
    """
    b = Builder(name, FunctionKind.ENTRY, (Kind.CONTEXT,))
    parent, child = forked_groups(b, state)
    parent_key, child_key = key_of(b, parent), key_of(b, child)
    add, other = b.label("add"), b.label("other")
    member = b.call(helpers.MAP_LOOKUP_ELEM, b.map(SCOPE_MAP), parent_key, kind=Kind.MAP_VALUE_OR_NULL)
    b.branch(CompareOp.EQ, member, 0, other, add)
    b.start(other)
    b.call_void(helpers.MAP_DELETE_ELEM, b.map(SCOPE_MAP), child_key)
    b.ret(0)
    b.start(add)
    one = b.stack_slot(8)
    b.store(one, 0, 8, 1)
    code = b.call(helpers.MAP_UPDATE_ELEM, b.map(SCOPE_MAP), child_key, one, 0)
    lost, done = b.label("lost"), b.label("done")
    b.branch(CompareOp.NE, code, 0, lost, done)
    b.start(lost)
    counter = state.loss(LossKind.MAP_FULL, "the set of traced processes")
    b.atomic(AtomicOp.ADD, b.global_address(LOSSES_MAP, counter.offset), 0, 1)
    b.start(done)
    b.ret(0)
    return b.finish()


def forget_group(state: ProgramState, name: str) -> Function:
    """``sched_process_free(task)``: the last trace of a group's leader is gone, so is its number."""
    pid_offset, tgid_offset = task_fields(state)
    b = Builder(name, FunctionKind.ENTRY, (Kind.CONTEXT,))
    task = b.load(b.parameters[0], 0, 8, kind=Kind.BTF)
    pid, tgid = b.load(task, pid_offset, 4), b.load(task, tgid_offset, 4)
    leader, thread = b.label("leader"), b.label("thread")
    b.branch(CompareOp.EQ, pid, tgid, leader, thread)
    b.start(thread)
    b.ret(0)
    b.start(leader)
    b.call_void(helpers.MAP_DELETE_ELEM, b.map(SCOPE_MAP), key_of(b, tgid))
    b.ret(0)
    return b.finish()
