"""Probes on the running kernel: what is attached fires as often as it should, with the right values."""

from __future__ import annotations

import ctypes
import gc
import mmap
import os
import time
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path

import pytest

from fixture_counter import Seen, counting
from fixture_target import probe_spec
from invivo.kernel.features import Features
from invivo.kernel.kallsyms import Kallsyms
from invivo.probes.machine import Machine
from invivo.target import Access, Context, ContextLoad, ContextPointer, NoSuchProbeError, Plan, ProgramType

ARGS = frozenset({"args"})
NOTHING: frozenset[str] = frozenset()


def plans(*texts: str, uses: frozenset[str] = NOTHING) -> list[Plan]:
    with Machine() as machine:
        points = [point for text in texts for point in machine.expand(probe_spec(text))]
        return list(machine.plan(points, uses))


def plan_of(*texts: str, uses: frozenset[str] = NOTHING) -> Plan:
    (plan,) = plans(*texts, uses=uses)
    return plan


def places(context: Context, *names: str) -> list[Access]:
    found = {argument.name: argument.access for argument in context.arguments}
    return [found[name] for name in names]


def test_a_system_call_is_counted_once_for_each_call() -> None:
    with counting(plan_of("t:syscalls:sys_enter_getppid")) as seen:
        for _ in range(100):
            os.getppid()
        assert seen.count() == 100


def test_one_program_tells_the_system_calls_apart() -> None:
    with counting(plan_of("t:syscalls:sys_enter_getppid", "t:syscalls:sys_enter_getsid")) as seen:
        for _ in range(7):
            os.getppid()
        os.getsid(0)
        assert seen.counts()[:2] == [7, 1]


def test_arguments_of_a_call_are_what_the_caller_gave() -> None:
    plan = plan_of("t:syscalls:sys_enter_openat", uses=ARGS)
    path = ctypes.create_string_buffer(b"/dev/null")
    libc = ctypes.CDLL(None, use_errno=True)
    with counting(plan, places(plan.context, "dfd", "filename", "flags", "mode", "__syscall_nr")) as seen:
        opened = libc.syscall(257, -100, path, os.O_RDWR | os.O_CREAT, 0o640)
        dfd, filename, flags, mode, number = (seen.kept(place) for place in range(5))
    os.close(opened)
    assert (dfd, flags, mode, number) == (0xFFFFFF9C, os.O_RDWR | os.O_CREAT, 0o640, 257)
    assert filename == ctypes.addressof(path)


def test_the_result_of_a_call_is_what_the_caller_got() -> None:
    plan = plan_of("t:syscalls:sys_exit_getppid", uses=ARGS)
    with counting(plan, places(plan.context, "ret", "__syscall_nr")) as seen:
        parent = os.getppid()
        assert (seen.count(), seen.kept(0), seen.kept(1)) == (1, parent, 110)


def test_all_calls_are_attached_and_detached_in_a_moment() -> None:
    plan = plan_of("t:syscalls:sys_enter_*")
    assert len(plan.points) > 300
    started = time.perf_counter()
    with counting(Plan(plan.points[:16], plan.context, plan.attach, plan.cookies)):
        pass
    # One event at a time this takes half a minute.
    assert time.perf_counter() - started < 5.0


def test_every_system_call_of_this_kernel_has_a_number() -> None:
    for plan in plans("t:syscalls:sys_*"):
        assert plan.context.program is ProgramType.TRACING_RAW_TP, plan.points


def test_a_raw_tracepoint_fires_as_often_as_the_event() -> None:
    by_name = plan_of("t:sched:sched_switch")
    by_record = plan_of("t:sched:sched_switch", uses=ARGS)
    assert by_name.context.program is ProgramType.RAW_TRACEPOINT
    assert by_record.context.program is ProgramType.TRACEPOINT
    with counting(by_record) as recorded, counting(by_name) as raw:
        records, raws = both(recorded, raw)
        for _ in range(20):
            time.sleep(0.01)  # a shorter one may be over before the process has left a slow processor
        more_records, more_raws = both(recorded, raw)
        assert more_raws - raws == more_records - records
        assert more_raws - raws >= 20


def both(recorded: Seen, raw: Seen) -> tuple[int, int]:
    """Return two counts with no event between the readings."""
    while True:
        counts = recorded.count(), raw.count()
        if counts[0] == recorded.count():
            return counts


def _names(stack: Sequence[int]) -> list[str]:
    with closing(Kallsyms()) as kallsyms:
        return [name for name, _, _ in kallsyms.names(stack)]


def _stack_of_a_sleep(plan: Plan) -> tuple[int, ...]:
    """The stack at which the process leaves its processor to sleep; it is taken from it at other places, too."""
    for _ in range(20):
        with counting(plan) as seen:
            # A time so short that it is over before the process is off its processor would be no sleep.
            time.sleep(0.05)
            stack = tuple(seen.stack())
        if any("nanosleep" in name for name in _names(stack)):
            return stack
    raise AssertionError("no sleep was seen")


def test_stacks_of_raw_tracepoints_begin_where_those_of_events_do() -> None:
    stacks = [
        _stack_of_a_sleep(plan)
        for plan in (
            plan_of("t:sched:sched_switch"),
            plan_of("t:sched:sched_switch", uses=ARGS),
            plan_of("rt:sched_switch"),
        )
    ]
    assert stacks[0] == stacks[1] == stacks[2]
    assert len(stacks[0]) > 3


@pytest.mark.parametrize("form", ["t:syscalls:sys_{}_getppid", "t:raw_syscalls:sys_{}", "rt:sys_{}"])
@pytest.mark.parametrize(("side", "function"), [("enter", "syscall_trace_enter"), ("exit", "syscall_exit_")])
def test_stacks_at_a_system_call_begin_in_its_own_path(side: str, function: str, form: str) -> None:
    with counting(plan_of(form.format(side))) as seen:
        os.getppid()
        names = _names(seen.stack())
    # Which of the kernel's functions are inlined differs, but none is the tracer's.
    assert not [name for name in names if "bpf" in name]
    assert names[-1].startswith("entry_SYSCALL_64")
    assert "do_syscall_64" in names
    assert names[0].startswith(function) or len(names) == 2


@pytest.mark.parametrize("uses", [NOTHING, ARGS])
def test_cookies_tell_events_apart(uses: frozenset[str]) -> None:
    made = plans("t:sched:sched_process_fork", "t:sched:sched_process_exit", uses=uses)
    counts = []
    told_apart = uses is ARGS or Features().has("raw_tracepoint_cookies")
    for plan in made:
        assert plan.cookies is told_apart
        with counting(plan) as seen:
            child = os.posix_spawn("/bin/true", ["true"], {})
            os.waitpid(child, 0)
            counts.append(seen.counts()[:2])
    # This process forks; it is the child that exits.
    assert counts == ([[1, 0]] if uses is NOTHING else [[1, 0], [0, 0]])


def test_fields_of_a_record_are_where_the_format_says() -> None:
    plan = plan_of("t:sched:sched_process_fork", uses=ARGS)
    with counting(plan, places(plan.context, "parent_pid", "child_pid")) as seen:
        child = os.posix_spawn("/bin/true", ["true"], {})
        os.waitpid(child, 0)
        assert (seen.count(), seen.kept(0), seen.kept(1)) == (1, os.getpid(), child)


def test_raw_tracepoint_arguments_can_be_followed() -> None:
    machine = Machine()
    plan = plan_of("rt:sched_process_fork", uses=ARGS)
    task = machine.struct("struct", "task_struct")
    assert task is not None
    pid = machine.field(task, "pid")
    assert pid is not None
    child_access = machine.helper_plan("scope-fork").context.numbered[1]
    assert child_access == plan.context.arguments[1].access
    with counting(plan, [through(child_access, pid.offset)]) as seen:
        child = os.posix_spawn("/bin/true", ["true"], {})
        os.waitpid(child, 0)
        assert (seen.count(), seen.kept(0)) == (1, child)


def through(access: Access, offset: int) -> Access:
    assert isinstance(access, ContextLoad)
    return ContextPointer(access.offset, offset, 4)


def libc_path() -> str:
    return next(line.split()[-1] for line in Path("/proc/self/maps").read_text().splitlines() if "/libc.so.6" in line)


def test_a_function_of_a_library_is_counted_with_its_arguments() -> None:
    libc = ctypes.CDLL(None)
    plan = plan_of(f"uprobe:{libc_path()}:labs")
    with counting(plan, [plan.context.numbered[0]]) as seen:
        for number in range(10):
            libc.labs(-number)
        assert (seen.count(), seen.kept(0) & 0xFFFFFFFF) == (10, -9 & 0xFFFFFFFF)


def test_the_result_of_a_function_is_seen_at_its_return() -> None:
    libc = ctypes.CDLL(None)
    plan = plan_of("uretprobe:libc.so.6:labs")
    assert plan.context.retval is not None
    with counting(plan, [plan.context.retval.access]) as seen:
        libc.labs(-1234)
        assert (seen.count(), seen.kept(0)) == (1, 1234)


def test_functions_by_one_link_are_told_apart() -> None:
    libc = ctypes.CDLL(None)
    plan = plan_of("uprobe:libc:labs", "uprobe:libc:getppid")
    with counting(plan) as seen:
        libc.labs(1)
        for _ in range(3):
            libc.getppid()
        assert seen.counts()[:2] == [1, 3]


def test_a_stripped_program_has_its_dynamic_symbols() -> None:
    points = Machine().expand(probe_spec("uretprobe:/bin/bash:readline"))
    assert [point.name for point in points] == ["uretprobe:/bin/bash:readline"]


def test_a_profile_samples_a_busy_process() -> None:
    plan = plan_of("profile:hz:999")
    registers = dict(plan.context.registers)
    with counting(plan, [registers["ip"], registers["cs"]]) as seen:
        end = time.process_time() + 0.1
        while time.process_time() < end:
            pass
        assert 20 < seen.count() < 400
        assert seen.kept(0) != 0
        assert seen.kept(1) & 3 in (0, 3)


def test_an_interval_fires_on_one_cpu() -> None:
    plan = plan_of("interval:ms:1")
    assert not plan.context.scoped
    assert plan.context.program is ProgramType.PERF_EVENT
    with counting(plan) as seen:
        end = time.process_time() + 0.1
        while time.process_time() < end:
            pass
        # The process may have been on the other CPUs all the time.
        assert seen.count() < 250


def test_page_faults_are_counted() -> None:
    pages = 64
    with counting(plan_of("software:page-faults:1")) as seen, mmap.mmap(-1, pages * mmap.PAGESIZE) as memory:
        if hasattr(mmap, "MADV_NOHUGEPAGE"):
            memory.madvise(mmap.MADV_NOHUGEPAGE)
        before = seen.count()
        for page in range(pages):
            memory[page * mmap.PAGESIZE] = 1
        assert pages <= seen.count() - before < pages + 50


def test_nothing_stays_attached() -> None:
    gc.collect()  # what earlier tests have let go of
    before = len(os.listdir("/proc/self/fd"))
    for text in ("t:syscalls:sys_enter_getppid", "t:sched:sched_switch", "uprobe:libc:labs", "profile:hz:99"):
        with counting(plan_of(text)):
            pass
    gc.collect()
    assert len(os.listdir("/proc/self/fd")) == before


def test_what_this_kernel_has_not_is_told() -> None:
    machine = Machine()
    with pytest.raises(NoSuchProbeError) as caught:
        machine.expand(probe_spec("tracepoint:sched:sched_swich"))
    assert caught.value.hint is not None
    assert "sched_switch" in caught.value.hint
    if not machine.has("kprobe"):
        with pytest.raises(NoSuchProbeError, match="kprobe:vfs_read cannot be probed on this kernel: "):
            machine.expand(probe_spec("kprobe:vfs_read"))
    if not machine.has("fentry"):
        with pytest.raises(NoSuchProbeError, match="fentry:vfs_read cannot be probed on this kernel: "):
            machine.expand(probe_spec("fentry:vfs_read"))
