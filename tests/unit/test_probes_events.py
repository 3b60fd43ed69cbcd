"""Tracepoints: expansion, arguments, and which programs serve them."""

from __future__ import annotations

import pytest

from fixture_target import FixtureTarget, probe_spec
from invivo.ir.types import (
    BOOL,
    INT8,
    INT32,
    INT64,
    UINT8,
    UINT16,
    UINT32,
    UINT64,
    AddressSpace,
    Array,
    Enumeration,
    Pointer,
    String,
    Struct,
)
from invivo.probes.rawtracepoint import AttachByType
from invivo.probes.tracepoint import PerfEvents, RawEvents
from invivo.target import (
    Argument,
    ContextAddress,
    ContextData,
    ContextLoad,
    ContextPointer,
    Gate,
    NoSuchProbeError,
    Plan,
    ProgramType,
)

ARGS = frozenset({"args"})
ALL_ARGS = frozenset({"args", "args.*"})
NOTHING: frozenset[str] = frozenset()
NATIVE_NUMBER = ContextLoad(8, 8, signed=True)


def plans(*probes: str, uses: frozenset[str] = NOTHING, target: FixtureTarget | None = None) -> list[Plan]:
    target = target or FixtureTarget()
    points = [point for probe in probes for point in target.expand(probe_spec(probe))]
    return list(target.plan(points, uses))


def arguments(probe: str, uses: frozenset[str] = ARGS) -> dict[str, Argument]:
    (plan,) = plans(probe, uses=uses)
    return {argument.name: argument for argument in plan.context.arguments}


def refusal(probe: str) -> NoSuchProbeError:
    with pytest.raises(NoSuchProbeError) as caught:
        FixtureTarget().expand(probe_spec(probe))
    return caught.value


def test_a_wildcard_expands_to_sorted_full_names() -> None:
    points = FixtureTarget().expand(probe_spec("t:sched:sched_w*"))
    assert [point.name for point in points] == ["tracepoint:sched:sched_wakeup"]
    points = FixtureTarget().expand(probe_spec("tracepoint:sys*:sys_enter_open*"))
    assert [point.name for point in points] == [
        "tracepoint:syscalls:sys_enter_open",
        "tracepoint:syscalls:sys_enter_openat",
    ]


def test_fields_have_the_types_and_places_of_the_format_file() -> None:
    found = arguments("tracepoint:sched:sched_switch")
    assert found["prev_comm"] == Argument("prev_comm", String(16), ContextAddress(8))
    assert found["prev_pid"] == Argument("prev_pid", INT32, ContextLoad(24, 4, signed=True))
    assert found["prev_state"] == Argument("prev_state", INT64, ContextLoad(32, 8, signed=True))
    assert not [name for name in found if name.startswith("common_")]


def test_data_elsewhere_in_the_record_are_a_kernel_pointer_to_it() -> None:
    found = arguments("tracepoint:sched:sched_process_exec")
    assert found["filename"] == Argument("filename", Pointer(INT8, AddressSpace.KERNEL), ContextData(8))
    legacy = arguments("tracepoint:demo:legacy")
    assert legacy["note"].access == ContextData(36, relative=True)


def test_other_fields_find_their_types_in_btf() -> None:
    found = arguments("tracepoint:demo:legacy")
    pointee = found["file"].type
    assert isinstance(pointee, Pointer)
    assert isinstance(pointee.pointee, Struct)
    assert (pointee.pointee.name, pointee.pointee.size, pointee.space) == ("file", 184, AddressSpace.KERNEL)
    assert isinstance(found["kind"].type, Enumeration)
    assert found["kind"].type.variants[1] == ("PIDTYPE_TGID", 1)
    assert found["address"] == Argument("address", Array(UINT8, 16), ContextAddress(20))
    assert arguments("tracepoint:sched:sched_process_exit")["group_dead"].type == BOOL
    assert arguments("tracepoint:raw_syscalls:sys_enter", ALL_ARGS)["args"].type == Array(UINT64, 6)


def test_fields_keep_c_types_without_btf() -> None:
    target = FixtureTarget(btf=False)
    (plan,) = plans("tracepoint:syscalls:sys_enter_openat", uses=ARGS, target=target)
    assert plan.context.program is ProgramType.TRACEPOINT
    found = {argument.name: argument for argument in plan.context.arguments}
    assert found["filename"].type == Pointer(INT8, AddressSpace.USER)
    assert found["filename"].access == ContextLoad(24, 8)
    # The name's type would have 4 bytes, but the record has 8 for it.
    assert found["dfd"].access == ContextLoad(16, 8)


def test_with_args_a_tracepoint_is_a_perf_event() -> None:
    (plan,) = plans("tracepoint:sched:sched_switch", uses=ARGS)
    assert plan.context.program is ProgramType.TRACEPOINT
    assert plan.attach == PerfEvents()
    assert plan.cookies


def test_without_args_a_raw_tracepoint_does() -> None:
    (plan,) = plans("tracepoint:sched:sched_switch", "tracepoint:sched:sched_wakeup")
    assert plan.context.program is ProgramType.RAW_TRACEPOINT
    assert plan.attach == RawEvents()
    assert plan.context.attach_btf_id == 0
    assert len(plan.points) == 2


def test_an_event_without_raw_tracepoint_stays_a_perf_event() -> None:
    perf, raw = plans("tracepoint:*:*e*ac*", "tracepoint:sched:sched_switch")
    assert [point.name for point in perf.points] == ["tracepoint:demo:legacy"]
    assert perf.attach == PerfEvents()
    assert [point.name for point in raw.points] == ["tracepoint:sched:sched_switch"]


@pytest.mark.parametrize(("uses", "count"), [(NOTHING, 1), (frozenset({"probe"}), 2)])
def test_before_raw_tracepoints_had_cookies_names_need_a_program_each(uses: frozenset[str], count: int) -> None:
    old = FixtureTarget(features=frozenset())
    made = plans("t:sched:sched_switch", "t:sched:sched_wakeup", uses=uses, target=old)
    assert len(made) == count
    assert not any(plan.cookies for plan in made)


@pytest.mark.parametrize(
    ("side", "read", "program"),
    [
        ("enter", (), ProgramType.TRACING_RAW_TP),
        ("enter", ("args", "args.id"), ProgramType.TRACING_RAW_TP),
        ("enter", ("args", "args.id", "args.args"), ProgramType.TRACEPOINT),
        ("enter", ("args", "args.ret"), ProgramType.TRACEPOINT),  # to be told what the event has
        ("exit", ("args", "args.id", "args.ret"), ProgramType.TRACING_RAW_TP),
        ("exit", ("args", "args.*"), ProgramType.TRACEPOINT),
    ],
)
def test_all_calls_have_records_only_for_those_who_read_them(
    side: str, read: tuple[str, ...], program: ProgramType
) -> None:
    (plan,) = plans(f"tracepoint:raw_syscalls:sys_{side}", uses=frozenset(read))
    assert plan.context.program is program
    assert plan.context.gate is None


def test_an_event_named_twice_fires_twice() -> None:
    first, second = plans("t:sched:sched_switch", "t:sched:sched_switch")
    assert first.points == second.points
    first, second = plans("t:syscalls:sys_enter_read", "t:syscalls:sys_enter_*")
    assert len(first.points) == 7
    assert [point.name for point in second.points] == ["tracepoint:syscalls:sys_enter_read"]


def test_system_calls_share_one_program_behind_a_gate() -> None:
    (plan,) = plans("t:syscalls:sys_enter_*", uses=frozenset({"probe"}))
    assert plan.context.program is ProgramType.TRACING_RAW_TP
    assert plan.attach == AttachByType()
    assert plan.context.attach_btf_id > 0
    gate = plan.context.gate
    assert gate is not None
    assert (gate.access, gate.native_only) == (NATIVE_NUMBER, True)
    numbers = {plan.points[index].name.rpartition("_")[2]: number for number, index in gate.table}
    assert numbers == {"close": 3, "group": 231, "newstat": 4, "open": 2, "openat": 257, "read": 0, "write": 1}


def test_entries_and_exits_are_different_programs() -> None:
    enter, leave = plans("t:syscalls:sys_*_read")
    assert [point.name for point in enter.points] == ["tracepoint:syscalls:sys_enter_read"]
    assert [point.name for point in leave.points] == ["tracepoint:syscalls:sys_exit_read"]
    assert enter.context.attach_btf_id != leave.context.attach_btf_id
    # A call's number at its exit: pt_regs.orig_ax of the first argument.
    assert leave.context.gate == Gate(ContextPointer(0, 120, 8, signed=True), ((0, 0),), native_only=True)


def test_arguments_of_a_call_are_registers_cut_to_their_types() -> None:
    found = arguments("tracepoint:syscalls:sys_enter_openat")
    assert found["__syscall_nr"] == Argument("__syscall_nr", INT32, NATIVE_NUMBER)
    assert found["dfd"] == Argument("dfd", INT32, ContextPointer(0, 112, 4, signed=True))
    assert found["filename"] == Argument("filename", Pointer(INT8, AddressSpace.USER), ContextPointer(0, 104, 8))
    assert found["flags"] == Argument("flags", INT32, ContextPointer(0, 96, 4, signed=True))
    # The fourth argument is in r10, where a function's would be in cx.
    assert found["mode"] == Argument("mode", UINT16, ContextPointer(0, 56, 2))
    assert arguments("tracepoint:syscalls:sys_enter_read")["fd"].type == UINT32


def test_pointers_of_a_call_point_to_user_memory() -> None:
    found = arguments("tracepoint:syscalls:sys_enter_newstat")["statbuf"].type
    assert isinstance(found, Pointer)
    assert isinstance(found.pointee, Struct)
    assert (found.pointee.name, found.space) == ("stat", AddressSpace.USER)


def test_the_result_of_a_call_is_the_second_argument_at_its_exit() -> None:
    found = arguments("tracepoint:syscalls:sys_exit_read")
    assert found["ret"] == Argument("ret", INT64, ContextLoad(8, 8, signed=True))
    assert found["__syscall_nr"].access == ContextPointer(0, 120, 8, signed=True)


def test_calls_with_other_arguments_are_compiled_apart_only_if_args_are_used() -> None:
    assert len(plans("t:syscalls:sys_enter_open*")) == 1
    apart = plans("t:syscalls:sys_enter_open*", uses=ARGS)
    assert [len(plan.points) for plan in apart] == [1, 1]
    together = plans("t:syscalls:sys_exit_*", uses=ARGS)
    assert [len(plan.points) for plan in together] == [6]


@pytest.mark.parametrize(
    ("probe", "message", "hint"),
    [
        (
            "tracepoint:sched:sched_swich",
            "tracepoint:sched:sched_swich cannot be probed on this kernel: no such tracepoint",
            "did you mean sched_switch?",
        ),
        (
            "t:shced:sched_swich",
            "tracepoint:shced:sched_swich cannot be probed on this kernel: no such tracepoint category 'shced'",
            "did you mean sched?",
        ),
        (
            "t:syscall:sys_enter_read",
            "tracepoint:syscall:sys_enter_read cannot be probed on this kernel: no such tracepoint category 'syscall'",
            "did you mean tracepoint:syscalls:sys_enter_read?",
        ),
        ("t:sched:x*", "tracepoint:sched:x* cannot be probed on this kernel: no tracepoint matches", None),
    ],
)
def test_a_missing_tracepoint_is_told_with_the_nearest_names(probe: str, message: str, hint: str | None) -> None:
    error = refusal(probe)
    assert (error.message, error.hint, error.malformed) == (message, hint, False)


@pytest.mark.parametrize(
    ("probe", "message"),
    [
        ("tracepoint", "tracepoint probe must have a target"),
        ("tracepoint:sched:", "tracepoint probe must have a target"),
        ("tracepoint:sched", "tracepoint probe type requires 2 arguments, found 1"),
        ("tracepoint:a:b:c", "tracepoint probe type requires 2 arguments, found 3"),
    ],
)
def test_a_malformed_tracepoint_is_told_so(probe: str, message: str) -> None:
    error = refusal(probe)
    assert (error.message, error.malformed) == (message, True)


def test_raw_tracepoints_have_the_arguments_of_their_prototype() -> None:
    (plan,) = plans("rt:sched_switch", uses=ARGS)
    assert plan.points[0].name == "rawtracepoint:vmlinux:sched_switch"
    assert plan.context.program is ProgramType.TRACING_RAW_TP
    assert plan.context.btf_pointers
    found = plan.context.arguments
    assert [argument.name for argument in found] == ["preempt", "prev", "next", "prev_state"]
    assert [argument.access for argument in found] == [ContextLoad(offset, 8) for offset in (0, 8, 16, 24)]
    assert found[0].type == BOOL
    assert isinstance(found[1].type, Pointer)
    assert isinstance(found[1].type.pointee, Struct)
    assert found[1].type.pointee.name == "task_struct"
    assert plan.context.numbered == tuple(argument.access for argument in found)


def test_raw_tracepoints_need_a_program_each() -> None:
    assert len(plans("rawtracepoint:sched_process_*")) == 4


def test_a_missing_raw_tracepoint_is_told_with_the_nearest_names() -> None:
    error = refusal("rawtracepoint:vmlinux:sched_wakep")
    assert error.message == (
        "rawtracepoint:vmlinux:sched_wakep cannot be probed on this kernel: no such raw tracepoint"
    )
    assert error.hint == "did you mean sched_wakeup?"


def test_raw_tracepoints_need_btf() -> None:
    with pytest.raises(NoSuchProbeError, match="rawtracepoints require kernel BTF"):
        FixtureTarget(btf=False).expand(probe_spec("rt:sched_switch"))


def test_the_same_question_has_the_same_answer_on_a_fresh_machine() -> None:
    uses = frozenset({"args", "probe"})
    assert plans("t:syscalls:sys_*", "t:sched:*", uses=uses) == plans("t:syscalls:sys_*", "t:sched:*", uses=uses)
