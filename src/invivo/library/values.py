"""Builtin values: the process, the machine, the clock, the probe."""

from __future__ import annotations

from collections.abc import Callable

from invivo.diagnostics import Code
from invivo.ir import helpers
from invivo.ir import types as t
from invivo.ir.layout import CONSTANTS_MAP, SCOPE_MAP, LoadConstant
from invivo.ir.ops import BinaryOp, CompareOp, Kind, Operand, Value
from invivo.ir.types import Type
from invivo.library.access import common_alignment, read_word
from invivo.library.record import Builtin, Emit, Place, Site
from invivo.library.spelling import spell
from invivo.target import Scope

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
    """Direct loads: a third of the helper's time (bpf_get_current_comm). The kernel pads the name with zeros."""
    assert place is not None
    b = emit.b
    task = emit.target.struct("struct", "task_struct")
    comm = None if task is None else emit.target.field(task, "comm")
    if comm is None or place.offset % 4 or t.size_bytes(comm.type) != COMM_LENGTH:
        if place.zeroed:
            b.zero(place.pointer, place.offset, COMM_LENGTH, common_alignment(place.offset))
        b.call_void(helpers.GET_CURRENT_COMM, b.offset(place.pointer, place.offset), COMM_LENGTH)
        return
    current = b.call(helpers.GET_CURRENT_TASK_BTF, kind=Kind.BTF)
    size = common_alignment(place.offset)
    for position in range(0, COMM_LENGTH, size):
        b.store(place.pointer, place.offset + position, size, b.load(current, comm.offset + position, size))


_COMM_OF_CAPACITY = 64


def _check_comm(site: Site) -> Type:
    if not site.arity:
        return t.String(COMM_LENGTH)
    if not isinstance(site.type(0), t.Int):
        site.error(Code.BAD_ARGUMENT, f"comm() expects a process id ('{spell(site.type(0))}' provided)", argument=0)
    if not site.context.btf_pointers:
        site.error(
            Code.NOT_HERE,
            f'comm(pid) can not be used with "{site.context.provider}" probes',
            "rawtracepoint, fentry, fexit and iter probes have it",
        )
    elif site.target.kernel_function("bpf_task_from_pid") is None:
        site.error(Code.NOT_HERE, "comm(pid) needs the kernel function bpf_task_from_pid, which is not there")
    return t.String(_COMM_OF_CAPACITY)


def _lower_comm_or_of(emit: Emit, place: Place | None) -> None:
    if not emit.arity:
        _lower_comm(emit, place)
        return
    assert place is not None
    b = emit.b
    find, release = emit.target.kernel_function("bpf_task_from_pid"), emit.target.kernel_function("bpf_task_release")
    struct = emit.target.struct("struct", "task_struct")
    assert find is not None and release is not None and struct is not None
    field = emit.target.field(struct, "comm")
    assert field is not None
    found, missing, done = b.label("task_found"), b.label("task_missing"), b.label("task_done")
    pid = b.extend(emit.word(0), 32, True)
    task = b.call_kernel(find, pid, kind=Kind.BTF)
    b.branch(CompareOp.EQ, task, 0, missing, found)
    b.start(missing)
    b.store(place.pointer, place.offset, 4, int.from_bytes(b"N/A\0", "little"))
    emit.warn("No process with this id.")
    b.jump(done)
    b.start(found)
    target = b.offset(place.pointer, place.offset)
    b.call_void(helpers.PROBE_READ_KERNEL_STR, target, COMM_LENGTH, b.offset(task, field.offset))
    b.call_kernel_void(release, task)
    b.start(done)


def _lower_elapsed(emit: Emit, place: Place | None) -> Operand:
    now = emit.b.call(helpers.KTIME_GET_BOOT_NS)
    return emit.b.binary(BinaryOp.SUB, now, load_constant(emit, LoadConstant.START_BOOT_NS))


def _lower_cpid(emit: Emit, place: Place | None) -> Operand:
    b = emit.b
    found = load_constant(emit, LoadConstant.CHILD_PID)
    if not emit.bpftrace:
        return found
    absent, there = b.label("no_command"), b.label("command")
    b.branch(CompareOp.EQ, found, 0, absent, there)
    b.start(absent)
    emit.warn("No child command (`-c`); cpid is zero")
    b.start(there)
    return found


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


# -- tasks -------------------------------------------------------------------------------------

_NAMESPACES = ("curr_ns", "init")


def _check_id(site: Site) -> Type:
    if site.arity and site.identifier(0) not in _NAMESPACES:
        written = site.identifier(0) or site.literal(0) or ""
        site.error(
            Code.BAD_ARGUMENT,
            f"Invalid PID namespace mode: {written} (expects: curr_ns or init)",
            argument=0,
            at_argument=True,
        )
    return t.UINT32


def current_id(emit: Emit, name: str) -> Operand:
    """The current task's ``pid`` (a thread's id) or ``tgid`` (its process's): a direct load, where types are known."""
    task = emit.target.struct("struct", "task_struct")
    field = None if task is None else emit.target.field(task, name)
    if field is None:
        both = emit.b.call(helpers.GET_CURRENT_PID_TGID)
        return emit.b.shift_right(both, 32) if name == "tgid" else emit.b.extend(both, 32, False)
    return emit.b.load(emit.b.call(helpers.GET_CURRENT_TASK_BTF, kind=Kind.BTF), field.offset, 4)


def _lower_id(name: str, offset: int) -> Callable[[Emit, Place | None], Operand]:
    """A process's or thread's id as the tracer's PID namespace has it, or as the whole machine has it."""

    def lower(emit: Emit, place: Place | None) -> Operand:
        namespace = None if emit.arity and emit.identifier(0) == "init" else emit.target.pid_namespace
        if namespace is None:
            return current_id(emit, name)
        b = emit.b
        held = emit.temporary(8)  # struct bpf_pidns_info: u32 pid, u32 tgid; zero for tasks of other namespaces
        b.store(held.pointer, held.offset, 8, 0)
        b.call_void(helpers.GET_NS_CURRENT_PID_TGID, *namespace, b.offset(held.pointer, held.offset), 8)
        return b.load(held.pointer, held.offset + offset, 4)

    return lower


def _check_task(type_: Type) -> Callable[[Site], Type]:
    def check(site: Site) -> Type:
        if site.arity:
            task = site.type(0)
            if not (isinstance(task, t.Pointer) and isinstance(task.pointee, t.Struct | t.Void)):
                site.error(
                    Code.BAD_ARGUMENT,
                    f"{site.name}() expects a struct task_struct * ('{spell(task)}' provided)",
                    argument=0,
                )
        return type_

    return check


def _follow(emit: Emit, pointer: str, member: str) -> tuple[Value | None, Operand, int]:
    """The task that a member of a task points to: as a pointer that the verifier knows or as an address, and the
    offset there of a member."""
    struct = emit.target.struct("struct", "task_struct")
    assert struct is not None
    link, field = emit.target.field(struct, pointer), emit.target.field(struct, member)
    assert link is not None and field is not None
    if not emit.arity:
        current = emit.b.call(helpers.GET_CURRENT_TASK_BTF, kind=Kind.BTF)
        known = emit.b.load(current, link.offset, 8, kind=Kind.BTF)
        return known, known, field.offset
    address = emit.b.add(emit.word(0), link.offset)
    return None, read_word(emit, t.AddressSpace.KERNEL, address, 8, signed=False), field.offset


def task_field(emit: Emit, pointer: str, member: str) -> Operand:
    """Read a number of the task that the current or a given task points to: ``real_parent.tgid``."""
    known, address, offset = _follow(emit, pointer, member)
    if known is not None:
        return emit.b.load(known, offset, 4, True)
    return read_word(emit, t.AddressSpace.KERNEL, emit.b.add(address, offset), 4, signed=True)


def _lower_comm_of(pointer: str) -> Callable[[Emit, Place | None], None]:
    def lower(emit: Emit, place: Place | None) -> None:
        assert place is not None
        known, address, offset = _follow(emit, pointer, "comm")
        source = emit.b.add(address, offset) if known is None else emit.b.offset(known, offset)
        target = emit.b.offset(place.pointer, place.offset)
        emit.b.call_void(helpers.PROBE_READ_KERNEL, target, COMM_LENGTH, source)

    return lower


def _lower_parent(emit: Emit, place: Place | None) -> Operand:
    # The parent is a thread; the neighbour gives that thread's id.
    return task_field(emit, "real_parent", "pid" if emit.bpftrace else "tgid")


def in_scope(emit: Emit) -> Operand:
    """Return 1 if the current process counts, else 0; a constant if all do."""
    b, scope = emit.b, emit.target.scope
    if scope is Scope.ALL:
        return 1
    if scope is Scope.CGROUP:
        group = b.call(helpers.GET_CURRENT_ANCESTOR_CGROUP_ID, load_constant(emit, LoadConstant.SCOPE_DEPTH))
        return b.compare(CompareOp.EQ, group, load_constant(emit, LoadConstant.SCOPE_CGROUP))
    tgid = current_id(emit, "tgid")
    if scope is Scope.PROCESS:
        return b.compare(CompareOp.EQ, tgid, load_constant(emit, LoadConstant.SCOPE_PID))
    return b.compare(CompareOp.NE, find_in_scope(emit, tgid), 0)


def find_in_scope(emit: Emit, tgid: Operand) -> Value:
    """Look a thread group up in the set of those that are traced; not null if it is there."""
    key = emit.b.stack_slot(8)
    emit.b.store(key, 0, 4, tgid)
    return emit.b.call(helpers.MAP_LOOKUP_ELEM, emit.b.map(SCOPE_MAP), key, kind=Kind.MAP_VALUE_OR_NULL)


def _lower_traced(emit: Emit, place: Place | None) -> Operand:
    return in_scope(emit)


def _task(name: str, type_: Type, lower: Callable[[Emit, Place | None], Operand | None], doc: str) -> Builtin:
    return Builtin(name, 0, 1, doc, _check_task(type_), lower, value=True, macro=True)


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
    Builtin(
        "pid",
        0,
        1,
        "process id (the kernel's tgid); pid(init) as the whole machine has it, from within a container too",
        _check_id,
        _lower_id("tgid", 4),
        value=True,
    ),
    Builtin(
        "tid",
        0,
        1,
        "thread id (the kernel's pid); tid(init) as the whole machine has it",
        _check_id,
        _lower_id("pid", 0),
        value=True,
    ),
    _value("uid", t.UINT64, _low(helpers.GET_CURRENT_UID_GID), "user id of the current task"),
    _value("gid", t.UINT64, _high(helpers.GET_CURRENT_UID_GID), "group id of the current task"),
    _value("username", t.Username(), _low(helpers.GET_CURRENT_UID_GID), "the user's name, looked up when shown"),
    Builtin(
        "comm",
        0,
        1,
        "name of the current thread; comm(pid) of a process by its id, N/A if there is none",
        _check_comm,
        _lower_comm_or_of,
        value=True,
        macro=True,
        pads=True,
    ),
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
        _lower_cpid,
        "process id of the command started with -c, else 0",
    ),
    _value("has_cpid", t.BOOL, _lower_has_cpid, "whether a command was started with -c"),
    Builtin(
        "traced",
        0,
        0,
        "whether the current process is one that is traced (-c, -p, --cgroup). A probe that uses it is not filtered "
        "itself: it gets the events of all processes",
        _gives(t.BOOL),
        _lower_traced,
        value=True,
        lifts_scope=True,
    ),
    _task("ppid", t.INT32, _lower_parent, "process id of the parent; ppid(task) of another task's"),
    _task(
        "leader_tid",
        t.INT32,
        lambda emit, place: task_field(emit, "group_leader", "pid"),
        "thread id of the thread group's leader; leader_tid(task) of another task's",
    ),
    _task(
        "pcomm",
        t.String(COMM_LENGTH),
        _lower_comm_of("real_parent"),
        "name of the parent process; pcomm(task) of another task's",
    ),
    _task(
        "leader_comm",
        t.String(COMM_LENGTH),
        _lower_comm_of("group_leader"),
        "name of the thread group's leader; leader_comm(task) of another task's",
    ),
)


def _check_nsecs(site: Site) -> Type:
    if site.arity and site.identifier(0) not in {clock.value for clock in t.Clock}:
        site.error(
            Code.BAD_ARGUMENT,
            f"Invalid timestamp mode: {site.identifier(0) or site.literal(0) or ''}",
            "one of boot, monotonic, tai, sw_tai",
            argument=0,
            at_argument=True,
        )
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
