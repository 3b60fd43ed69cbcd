"""The running kernel as a compile sees it: everything it lists can be typed and planned."""

from __future__ import annotations

import os
import time
from pathlib import Path

from fixture_target import probe_spec
from invivo.ir.types import INT32, Array, Field, Pointer, String, Struct, size_bytes
from invivo.probes import x86_64
from invivo.probes.event_format import parse_format
from invivo.probes.facts import LiveFacts
from invivo.probes.listing import list_probes
from invivo.probes.machine import Machine
from invivo.target import ContextData, ContextLoad, NoSuchProbeError, ProgramType, Scope

ARGS = frozenset({"args", "args.*"})


def test_registers_are_where_this_kernel_has_them() -> None:
    machine = Machine()
    regs = machine.struct("struct", "pt_regs")
    assert regs is not None
    assert regs.size == x86_64.PT_REGS_SIZE
    fields = {field.name: field.offset for field in machine.fields(regs)}
    assert {name: fields.get(name) for name in x86_64.OFFSETS} == x86_64.OFFSETS


def test_members_of_a_task() -> None:
    machine = Machine()
    task = machine.struct("struct", "task_struct")
    assert task is not None
    fields = machine.fields(task)
    assert len(fields) > 100
    by_name = {field.name: field for field in fields}
    assert by_name["comm"].type == String(16)
    assert by_name["tgid"].type == INT32
    parent = by_name["real_parent"].type
    assert isinstance(parent, Pointer)
    assert parent.pointee == task
    assert all(field == machine.field(task, field.name) for field in fields if field.name)
    assert all(0 <= field.offset < task.size for field in fields)


def test_every_struct_that_tracepoints_reach_can_be_read() -> None:
    machine = Machine()
    for name in ("file", "sk_buff", "sock", "page", "mm_struct", "bio", "request", "dentry", "inode", "cred"):
        struct = machine.struct("struct", name)
        assert struct is not None, name
        for field in machine.fields(struct):
            assert inside(field, struct), (name, field)


def inside(field: Field, struct: Struct) -> bool:
    if field.bit_size:
        return field.offset * 8 + field.bit_offset + field.bit_size <= struct.size * 8
    return field.offset + size_bytes(field.type) <= struct.size


def test_fields_of_every_tracepoint_have_types_of_their_size() -> None:
    with Machine() as machine:
        facts = machine.facts
        for category, event in facts.events("*", "*"):
            if category in ("syscalls", "ftrace"):
                continue
            described = parse_format(facts.event_format(category, event))
            for plan in machine.plan(machine.expand(probe_spec(f"tracepoint:{category}:{event}")), ARGS):
                for argument, field in zip(plan.context.arguments, described, strict=True):
                    if not isinstance(argument.access, ContextData):
                        assert size_bytes(argument.type) == field.size, (category, event, field)
                    if isinstance(argument.access, ContextLoad):
                        assert argument.access.offset % argument.access.size == 0


def test_every_system_call_has_as_many_registers_as_it_needs() -> None:
    with Machine() as machine:
        plans = machine.plan(machine.expand(probe_spec("tracepoint:syscalls:sys_*")), ARGS)
        assert {plan.context.program for plan in plans} == {ProgramType.TRACING_RAW_TP}
        assert sum(len(plan.points) for plan in plans) == len(machine.facts.events("syscalls", "sys_*"))
        for plan in plans:
            for argument in plan.context.arguments:
                assert size_bytes(argument.type) in (1, 2, 4, 8), (plan.points[0].name, argument)
            assert len(plan.context.arguments) <= 7


def test_every_raw_tracepoint_has_named_arguments() -> None:
    machine = Machine()
    plans = machine.plan(machine.expand(probe_spec("rawtracepoint:*")), ARGS)
    assert len(plans) > 500
    for plan in plans:
        names = [argument.name for argument in plan.context.arguments]
        assert len(names) == len(set(names)), plan.points
        # A struct by value or an array is not one word.
        assert not any(isinstance(argument.type, Array) for argument in plan.context.arguments), plan.points


def test_a_wildcard_over_all_system_calls_is_planned_in_a_moment() -> None:
    with Machine(Scope.TREE) as machine:
        started = time.perf_counter()
        (plan,) = machine.plan(machine.expand(probe_spec("t:syscalls:sys_enter_*")), frozenset({"probe"}))
        elapsed = time.perf_counter() - started
    assert len(plan.points) > 300
    assert elapsed < 3.0  # emulated; one after the other the names take longer than that without emulation


def test_programs_of_invivo_itself_find_their_tracepoints() -> None:
    machine = Machine()
    assert machine.helper_plan("scope-fork").context.attach_btf_id > 0
    assert machine.helper_plan("scope-free").context.attach_btf_id > 0


def test_the_kernel_is_listed_with_its_types() -> None:
    facts = LiveFacts()
    (found,) = list_probes("tracepoint:syscalls:sys_enter_openat", facts, verbose=True)
    assert found.name == "tracepoint:syscalls:sys_enter_openat"
    assert ("const char *", "filename") in found.parameters
    (raw,) = list_probes("rawtracepoint:sched_switch", facts, verbose=True)
    assert ("struct task_struct *", "prev") in raw.parameters
    # A kernel that does not tell its functions still tells the rest.
    assert len(list(list_probes("*:*", facts))) > 1000
    facts.close()


def test_functions_of_a_process_need_no_file() -> None:
    facts = Machine(pid=os.getpid())
    try:
        points = facts.expand(probe_spec("uprobe:Py_BytesMain"))
    except NoSuchProbeError as error:
        # An interpreter whose functions are in a library.
        assert error.message.startswith("Could not resolve symbol: ")
        assert error.message.endswith(":Py_BytesMain")
    else:
        assert points[0].function == "Py_BytesMain"
    libraries = facts.expand(probe_spec("uprobe:libc*:getppid"))
    assert [point.function for point in libraries] == ["getppid"]


def test_what_can_be_probed_in_a_process_is_listed() -> None:
    """By a word, by a pattern, in its own file and in its libraries, beside what the kernel has."""
    facts = LiveFacts(os.getpid())
    libc = os.path.realpath(next(path for path in facts.binaries("*") if "/libc.so" in path))
    found = {each.name for each in list_probes("getppid", facts)}
    assert any(name.startswith("uprobe:") and os.path.realpath(name.split(":")[1]) == libc for name in found)
    assert "tracepoint:syscalls:sys_enter_getppid" in found
    assert list(list_probes("uprobe:*BytesMain*", facts)) or "libpython" in "".join(facts.binaries("*"))
    facts.close()


def test_two_thousand_tracepoints_are_listed_in_a_moment() -> None:
    facts = LiveFacts()
    started = time.process_time()
    count = len(list(list_probes("tracepoint:*", facts)))
    elapsed = time.process_time() - started
    facts.close()
    assert count > 1000
    assert elapsed < 2.0, elapsed  # emulated; 0.05 s without


class KernelWithKprobes(LiveFacts):
    """This kernel, with functions that a file names."""

    def has(self, feature: str) -> bool:
        return feature == "kprobe" or super().has(feature)


def test_fifty_thousand_functions_are_listed_in_a_moment(tmp_path: Path) -> None:
    functions = tmp_path / "functions"
    functions.write_text("".join(f"a_function_{number:05d}\n" for number in range(50_000)) + "read_it [module]\n")
    facts = KernelWithKprobes(functions_file=str(functions))
    started = time.process_time()
    found = [each.name for each in list_probes("kprobe:*", facts)]
    elapsed = time.process_time() - started
    assert (len(found), found[0], found[-1]) == (50_001, "kprobe:a_function_00000", "kprobe:read_it")
    assert [each.name for each in list_probes("kprobe:module:*", facts)] == ["kprobe:module:read_it"]
    facts.close()
    assert elapsed < 4.0, elapsed  # emulated; 0.1 s without
