"""Builtin values: the process, the machine, the clock, the probe."""

from __future__ import annotations

from collections.abc import Callable

from invivo.diagnostics import Code
from invivo.ir import helpers
from invivo.ir import types as t
from invivo.ir.layout import CONSTANTS_MAP, LoadConstant
from invivo.ir.ops import BinaryOp, CompareOp, Kind, Operand
from invivo.ir.types import Type
from invivo.library.record import Builtin, Emit, Place, Site

COMM_LENGTH = 16  # TASK_COMM_LEN, include/linux/sched.h


def load_constant(emit: Emit, constant: LoadConstant) -> Operand:
    """A value that is written into read-only data when the program is loaded."""
    offset = 8 * list(LoadConstant).index(constant)
    return emit.b.load(emit.b.global_address(CONSTANTS_MAP, offset), 0, 8)


def _gives(type_: Type) -> Callable[[Site], Type]:
    return lambda site: type_


def _helper(number: int) -> Callable[[Emit, Place | None], Operand]:
    return lambda emit, place: emit.b.call(number)


def _high(number: int) -> Callable[[Emit, Place | None], Operand]:
    return lambda emit, place: emit.b.binary(BinaryOp.LSHR, emit.b.call(number), 32)


def _low(number: int) -> Callable[[Emit, Place | None], Operand]:
    return lambda emit, place: emit.b.extend(emit.b.call(number), 32, False)


def _lower_comm(emit: Emit, place: Place | None) -> None:
    """Two direct loads: a third of the helper's time (bpf_get_current_comm)."""
    assert place is not None
    b = emit.b
    task = emit.target.struct("struct", "task_struct")
    comm = None if task is None else emit.target.field(task, "comm")
    if comm is None or place.offset % 8 or t.size_bytes(comm.type) != COMM_LENGTH:
        b.call_void(helpers.GET_CURRENT_COMM, b.offset(place.pointer, place.offset), COMM_LENGTH)
        return
    current = b.call(helpers.GET_CURRENT_TASK_BTF, kind=Kind.BTF)
    for position in (0, 8):
        b.store(place.pointer, place.offset + position, 8, b.load(current, comm.offset + position, 8))


def _lower_elapsed(emit: Emit, place: Place | None) -> Operand:
    now = emit.b.call(helpers.KTIME_GET_BOOT_NS)
    return emit.b.binary(BinaryOp.SUB, now, load_constant(emit, LoadConstant.START_BOOT_NS))


def _lower_has_cpid(emit: Emit, place: Place | None) -> Operand:
    from_load = load_constant(emit, LoadConstant.CHILD_PID)
    op = CompareOp.EQ if emit.bpftrace else CompareOp.NE  # the neighbour has it the wrong way round
    return emit.b.compare(op, from_load, 0)


def _check_curtask(site: Site) -> Type:
    task = site.target.struct("struct", "task_struct")
    return t.UINT64 if task is None else t.Pointer(task)


_CLOCKS = {
    t.Clock.MONOTONIC: helpers.KTIME_GET_NS,
    t.Clock.BOOT: helpers.KTIME_GET_BOOT_NS,
    t.Clock.TAI: helpers.KTIME_GET_TAI_NS,
}


def _lower_nsecs(emit: Emit, place: Place | None) -> Operand:
    clock = (emit.identifier(0) if emit.arity else None) or "boot"
    if clock == "sw_tai":
        boot = emit.b.call(helpers.KTIME_GET_BOOT_NS)
        return emit.b.add(boot, load_constant(emit, LoadConstant.TAI_OFFSET_NS))
    return emit.b.call(_CLOCKS[t.Clock(clock)])


def _lower_cpu(emit: Emit, place: Place | None) -> Operand:
    return emit.b.call(helpers.GET_SMP_PROCESSOR_ID)


def _lower_ncpus(emit: Emit, place: Place | None) -> Operand:
    return emit.target.cpus


def task_field(emit: Emit, path: tuple[str, ...], size: int, *, signed: bool) -> Operand:
    """Read a number of the current task by direct loads: ``real_parent.tgid``."""
    pointer = emit.b.call(helpers.GET_CURRENT_TASK_BTF, kind=Kind.BTF)
    struct = emit.target.struct("struct", "task_struct")
    for name in path[:-1]:
        assert struct is not None
        field = emit.target.field(struct, name)
        assert field is not None and isinstance(field.type, t.Pointer)
        assert isinstance(field.type.pointee, t.Struct)
        pointer = emit.b.load(pointer, field.offset, 8, kind=Kind.BTF)
        struct = field.type.pointee
    assert struct is not None
    field = emit.target.field(struct, path[-1])
    assert field is not None
    return emit.b.load(pointer, field.offset, size, signed)


def _lower_parent_comm(emit: Emit, place: Place | None) -> None:
    assert place is not None
    task = emit.target.struct("struct", "task_struct")
    assert task is not None
    parent = emit.target.field(task, "real_parent")
    comm = emit.target.field(task, "comm")
    assert parent is not None and comm is not None
    current = emit.b.call(helpers.GET_CURRENT_TASK_BTF, kind=Kind.BTF)
    pointer = emit.b.load(current, parent.offset, 8, kind=Kind.BTF)
    address = emit.b.offset(pointer, comm.offset)
    target = emit.b.offset(place.pointer, place.offset)
    emit.b.call_void(helpers.PROBE_READ_KERNEL, target, COMM_LENGTH, address)


def _value(
    name: str,
    type_: Type | Callable[[Site], Type],
    lower: Callable[[Emit, Place | None], Operand | None],
    doc: str,
    *,
    feature: str = "",
    uses: frozenset[str] = frozenset(),
) -> Builtin:
    check = type_ if callable(type_) else _gives(type_)
    return Builtin(name, 0, 0, doc, check, lower, value=True, call=True, feature=feature, uses=uses)


VALUES: tuple[Builtin, ...] = (
    _value("pid", t.UINT32, _high(helpers.GET_CURRENT_PID_TGID), "process id (the kernel's tgid)"),
    _value("tid", t.UINT32, _low(helpers.GET_CURRENT_PID_TGID), "thread id (the kernel's pid)"),
    _value("uid", t.UINT64, _low(helpers.GET_CURRENT_UID_GID), "user id of the current task"),
    _value("gid", t.UINT64, _high(helpers.GET_CURRENT_UID_GID), "group id of the current task"),
    _value("username", t.Username(), _low(helpers.GET_CURRENT_UID_GID), "the user's name, looked up when shown"),
    _value("comm", t.String(COMM_LENGTH), _lower_comm, "name of the current thread"),
    _value("cpu", t.UINT64, _lower_cpu, "the processor the probe runs on"),
    _value("ncpus", t.UINT64, _lower_ncpus, "number of possible processors"),
    _value("numaid", t.UINT64, _helper(helpers.GET_NUMA_NODE_ID), "NUMA node the probe runs on"),
    _value("cgroup", t.UINT64, _helper(helpers.GET_CURRENT_CGROUP_ID), "id of the current cgroup (v2)"),
    _value("jiffies", t.UINT64, _helper(helpers.JIFFIES64), "the kernel's jiffies counter"),
    _value("rand", t.UINT32, _low(helpers.GET_PRANDOM_U32), "a pseudo-random number"),
    _value("curtask", _check_curtask, _helper(helpers.GET_CURRENT_TASK), "the current struct task_struct *"),
    _value("elapsed", t.UINT64, _lower_elapsed, "nanoseconds since the trace began"),
    _value(
        "cpid",
        t.UINT64,
        lambda emit, place: load_constant(emit, LoadConstant.CHILD_PID),
        "process id of the command started with -c, else 0",
    ),
    _value("has_cpid", t.BOOL, _lower_has_cpid, "whether a command was started with -c"),
    _value(
        "ppid",
        t.INT32,
        lambda emit, place: task_field(emit, ("real_parent", "tgid"), 4, signed=True),
        "process id of the parent",
    ),
    _value(
        "leader_tid",
        t.INT32,
        lambda emit, place: task_field(emit, ("group_leader", "pid"), 4, signed=True),
        "thread id of the thread group's leader",
    ),
    _value("pcomm", t.String(COMM_LENGTH), _lower_parent_comm, "name of the parent process"),
)


def _check_nsecs(site: Site) -> Type:
    if site.arity and site.identifier(0) not in {clock.value for clock in t.Clock}:
        site.error(Code.BAD_ARGUMENT, "invalid timestamp mode", "one of boot, monotonic, tai, sw_tai", argument=0)
    return t.UINT64


NSECS = Builtin(
    "nsecs",
    0,
    1,
    "nanoseconds of the boot clock; nsecs(monotonic), nsecs(tai), nsecs(sw_tai) for others",
    _check_nsecs,
    _lower_nsecs,
    value=True,
)
