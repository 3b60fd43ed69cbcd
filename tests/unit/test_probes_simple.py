"""Timers, counters, begin and end, functions of programs and of the kernel, and the table of providers."""

from __future__ import annotations

import errno

import pytest

from fixture_elf import CODE_OFFSET
from fixture_target import FixtureTarget, probe_spec
from invivo import probes
from invivo.errors import SyscallError
from invivo.ir.types import BOOL, INT8, INT32, INT64, UINT64, VOID, AddressSpace, Pointer, Struct
from invivo.kernel import cpus as cpus_of_kernel
from invivo.kernel import links, perf
from invivo.kernel.links import Link
from invivo.kernel.programs import Program
from invivo.probes import perf_events
from invivo.probes.perf_events import Sampling
from invivo.probes.user_code import OneByOne, Together, UserPlace
from invivo.probes.watchpoint import Watched
from invivo.target import Argument, ContextLoad, NoSuchProbeError, Plan, ProgramType

NOTHING: frozenset[str] = frozenset()


def plan_of(probe: str, uses: frozenset[str] = NOTHING, target: FixtureTarget | None = None) -> Plan:
    target = target or FixtureTarget()
    (plan,) = target.plan(target.expand(probe_spec(probe)), uses)
    return plan


def refusal(probe: str, target: FixtureTarget | None = None) -> NoSuchProbeError:
    with pytest.raises(NoSuchProbeError) as caught:
        (target or FixtureTarget()).expand(probe_spec(probe))
    return caught.value


@pytest.mark.parametrize(
    ("probe", "data"),
    [
        ("profile:hz:99", Sampling(0, 0, 99)),
        ("p:s:2", Sampling(0, 2_000_000_000, 0)),
        ("profile:ms:10", Sampling(0, 10_000_000, 0)),
        ("profile:us:0x10", Sampling(0, 16_000, 0)),
        ("interval:s:1", Sampling(0, 1_000_000_000, 0, every_cpu=False)),
        ("i:1s", Sampling(0, 1_000_000_000, 0, every_cpu=False)),
        ("interval:5000", Sampling(0, 5_000, 0, every_cpu=False)),
        ("interval:20ms", Sampling(0, 20_000_000, 0, every_cpu=False)),
        ("software:page-faults:1", Sampling(2, 1, 0)),
        ("software:faults:", Sampling(2, 100, 0)),
        ("s:cs", Sampling(3, 1000, 0)),
        ("software:cpu", Sampling(0, 1_000_000, 0)),
        ("hardware:cycles:", Sampling(0, 1_000_000, 0, kind=0)),
        ("h:branches", Sampling(4, 100_000, 0, kind=0)),
        ("hardware:ref-cycles:77", Sampling(9, 77, 0, kind=0)),
        ("hardware:L1-dcache-loads:5", Sampling(0x00000, 5, 0, kind=3)),
        ("hardware:L1-dcache-load-misses:5", Sampling(0x10000, 5, 0, kind=3)),
        ("hardware:LLC-stores", Sampling(0x00102, 1_000_000, 0, kind=3)),
        ("hardware:node-prefetch-misses", Sampling(0x10206, 1_000_000, 0, kind=3)),
        ("hardware:r1a8:9", Sampling(0x1A8, 9, 0, kind=4)),
    ],
)
def test_clocks_and_counters(probe: str, data: Sampling) -> None:
    plan = plan_of(probe)
    assert [point.data for point in plan.points] == [data]
    assert plan.context.program is ProgramType.PERF_EVENT
    assert dict(plan.context.registers)["ip"] == ContextLoad(128, 8)
    assert dict(plan.context.registers)["cs"] == ContextLoad(136, 8)
    assert plan.context.nmi


def test_the_full_name_has_the_provider_spelled_out() -> None:
    assert plan_of("p:hz:99").points[0].name == "profile:hz:99"
    assert plan_of("INTERVAL:1s").points[0].name == "interval:1s"
    assert plan_of("BEGIN").points[0].name == "begin"


def test_hardware_counters_that_are_not_there_are_told_so() -> None:
    error = refusal("hardware:cycles:1000", FixtureTarget(features=frozenset()))
    assert "this machine has no hardware counters" in error.message
    assert not error.malformed


def test_what_a_watchpoint_watches() -> None:
    assert plan_of("w:0x10:2:wr").points[0].data == Watched(0x10, 2, 3)
    # Executing an address has no length; the kernel wants this one.
    assert plan_of("watchpoint:0x10:1:x").points[0].data == Watched(0x10, 8, 4)


def test_an_iterator_is_known_by_its_function_and_its_context() -> None:
    plan = plan_of("it:task:pinned")
    assert plan.context.program is ProgramType.TRACING_ITER
    assert plan.context.attach_btf_id == FixtureTarget().facts.types().function_id("bpf_iter_task")
    assert not plan.context.scoped
    assert refusal("iter:tasks").hint == "did you mean task?"


def test_intervals_are_not_filtered_and_profiles_are() -> None:
    assert not plan_of("interval:s:1").context.scoped
    assert plan_of("profile:hz:99").context.scoped
    assert plan_of("software:page-faults").context.scoped


def test_the_context_of_a_clock_begins_with_registers() -> None:
    found = plan_of("profile:hz:99", frozenset({"ctx"})).context.context_type
    assert isinstance(found, Pointer)
    assert isinstance(found.pointee, Struct)
    assert (found.pointee.name, found.pointee.size) == ("bpf_perf_event_data", 184)


@pytest.mark.parametrize(
    ("probe", "message"),
    [
        ("profile", "profile probe must have unit of time"),
        ("profile:hz:0", "profile frequency should be a positive integer"),
        ("profile:hz:-5", "profile frequency should be a positive integer"),
        ("profile:min:1", "min is not an accepted unit of time"),
        ("interval:1y", "1y is not an accepted unit of time"),
        ("interval:hz:1:2", "interval probe type requires 1 or 2 arguments, found 3"),
        ("interval:500ns", "Invalid rate of interval probe. Minimum is 1000 or 1us. Found: 500 nanoseconds"),
        ("software:nope", "nope is not a software probe"),
        ("software:cs:x", "software count should be a positive integer"),
        ("software:a:b:c", "software probe type requires 1 or 2 arguments, found 3"),
        ("hardware:nope", "nope is not a hardware probe"),
        ("hardware:r1zz", "r1zz is not a hardware probe"),
        ("hardware:cycles:0", "hardware count should be a positive integer"),
        ("iter", "iter should specify an iterator"),
        ("iter:*", "iter probes do not take wildcards"),
        ("iter:a:b:c", "iter probe type requires 1 or 2 arguments, found 3"),
        ("usdt:/bin/demo:", "usdt probe must have a target function or wildcard"),
        ("usdt:mark", "usdt probe type requires 2 or 3 arguments, found 1"),
        ("watchpoint:0x10:8", "watchpoint probe type requires 3 arguments, found 2"),
        ("watchpoint:0:8:w", "watchpoint must be attached to a non-zero address"),
        ("watchpoint:0x10:3:w", "watchpoint length must be one of (1,2,4,8)"),
        ("watchpoint:0x10:8:r", "invalid watchpoint mode: r"),
        ("watchpoint:0x10:8:wx", "invalid watchpoint mode: wx"),
        ("watchpoint:0x10:8:ww", "watchpoint modes may not be duplicated"),
        ("begin:x", "begin/end probes should not have a target"),
        ("uprobe", "uprobe should have a target"),
        ("uprobe:/bin/demo:", "uprobe should be attached to a function and/or address"),
        ("uprobe:/bin/demo:main+1+2", "Cannot take more than one offset"),
        ("uprobe:/bin/demo:main+x", "Invalid offset: x"),
        ("uprobe:/bin/*:0x401000", "Cannot use wildcards with absolute address"),
        ("uprobe:a:b:c:d", "uprobe probe type requires 2 or 3 arguments, found 4"),
        ("uprobe:/bin/demo:main+64", "Offset outside the function bounds ('main' size is 64)"),
        ("uretprobe:/bin/demo:main+4", "uretprobes cannot be attached at function offset"),
        ("uprobe:main", "uprobe probe type requires 2 or 3 arguments, found 1"),
        ("kprobe", "kprobes should be attached to a function or an address"),
        ("kprobe:a:b:c", "kprobe probe type requires 1 or 2 arguments, found 3"),
        ("kretprobe:vfs_read+4", "Offset not allowed"),
        ("fentry", "fentry/fexit should specify a function"),
        ("kprob:vfs_read", "Invalid provider: 'kprob'"),
    ],
)
def test_a_malformed_probe_is_told_so(probe: str, message: str) -> None:
    error = refusal(probe)
    assert (error.message, error.malformed) == (message, True)


def test_names_of_providers_have_any_case_and_aliases_their_own() -> None:
    assert probes.find("TracePoint") is probes.find("t")
    assert probes.find("T") is None
    assert probes.find("BEGIN") is probes.find("begin")
    assert probes.find("kfunc") is probes.find("fentry")
    aliases = [alias for provider in probes.providers() for alias in (provider.name, *provider.aliases)]
    assert len(aliases) == len(set(aliases))
    assert all(probes.find(alias) is provider for provider in probes.providers() for alias in provider.aliases)
    assert all(provider.doc and provider.syntax for provider in probes.providers())


def test_a_mistyped_provider_has_a_hint() -> None:
    assert refusal("kprob:vfs_read").hint == "did you mean kprobe?"


def test_a_function_of_a_program_is_a_place_in_its_file() -> None:
    plan = plan_of("u:/bin/demo:readline")
    assert plan.points[0].name == "uprobe:/bin/demo:readline"
    assert plan.points[0].function == "readline"
    assert plan.points[0].data == UserPlace("/bin/demo", "readline", CODE_OFFSET + 64)
    assert plan.attach == Together(at_return=False)
    assert plan.context.program is ProgramType.UPROBE_MULTI
    # di, si, dx, cx, r8, r9
    assert plan.context.numbered == tuple(ContextLoad(offset, 8) for offset in (112, 104, 96, 88, 72, 64))
    assert plan.context.user_arguments


def test_offsets_and_addresses_are_places_too() -> None:
    assert plan_of("uprobe:/bin/demo:readline+4").points[0].data == UserPlace("/bin/demo", "readline", CODE_OFFSET + 68)
    at_address = plan_of("uprobe:/bin/demo:0x401044").points[0]
    assert at_address.data == UserPlace("/bin/demo", "readline", CODE_OFFSET + 68)
    assert at_address.name == "uprobe:/bin/demo:0x401044"


def test_several_functions_share_one_link_where_the_kernel_can() -> None:
    plan = plan_of("uprobe:demo:work_*")
    assert [point.function for point in plan.points] == ["work_one", "work_two"]
    assert plan.attach == Together(at_return=False)
    assert plan.context.program is ProgramType.UPROBE_MULTI
    old = plan_of("uprobe:demo:work_*", target=FixtureTarget(features=frozenset()))
    assert old.attach == OneByOne(at_return=False)
    assert old.context.program is ProgramType.KPROBE
    assert old.cookies


@pytest.mark.parametrize("probe", ["uprobe:demo:readline", "uretprobe:demo:readline"])
def test_a_place_in_one_process_is_a_perf_event_which_filters(probe: str) -> None:
    plan = plan_of(probe, target=FixtureTarget(pid=7))
    assert plan.attach == OneByOne(at_return=probe.startswith("uret"))
    assert plan.context.program is ProgramType.KPROBE


def test_a_return_has_a_value_and_no_arguments() -> None:
    context = plan_of("uretprobe:/bin/demo:readline").context
    assert context.retval == Argument("retval", UINT64, ContextLoad(80, 8))
    assert context.numbered == ()
    assert "retval" in context.features
    assert "argN" not in context.features


@pytest.mark.parametrize(
    ("probe", "message", "hint"),
    [
        (
            "uprobe:/bin/demo:readlin",
            "Could not resolve symbol: /bin/demo:readlin",
            "did you mean readline?",
        ),
        (
            "uprobe:/bin/none:f",
            "uprobe target file '/bin/none' does not exist or is not executable",
            None,
        ),
        (
            "uprobe:/bin/demo:x*",
            "No matches for uprobe /bin/demo:x*.",
            None,
        ),
        (
            "uprobe:/bin/demo:0x1",
            "uprobe:/bin/demo: address 0x1 is not in a segment of the file",
            None,
        ),
        (
            "kprobe:vfs_raed",
            "kprobe:vfs_raed cannot be probed on this kernel: no such function",
            "did you mean vfs_read?",
        ),
        (
            "kprobe:vmlinux:vfs_raed*",
            "kprobe:vmlinux:vfs_raed* cannot be probed on this kernel: no such function in 'vmlinux'",
            "did you mean vfs_read?",
        ),
        (
            "kprobe:vmlinus:vfs_read",
            "kprobe:vmlinus:vfs_read cannot be probed on this kernel: no module 'vmlinus' is loaded",
            "did you mean vmlinux?",
        ),
        (
            "fentry:vfs_raed",
            "fentry:vfs_raed cannot be probed on this kernel: no such function in the kernel's BTF",
            "did you mean vfs_read?",
        ),
    ],
)
def test_a_missing_function_is_told_with_the_nearest_names(probe: str, message: str, hint: str | None) -> None:
    error = refusal(probe)
    assert (error.message, error.hint, error.malformed) == (message, hint, False)


def test_a_kernel_without_kprobes_is_told_so() -> None:
    error = refusal("kprobe:vfs_read", FixtureTarget(features=frozenset()))
    assert error.message == (
        "kprobe:vfs_read cannot be probed on this kernel: the kernel was built without kprobes (CONFIG_KPROBE_EVENTS)"
    )
    assert error.hint == "try a tracepoint or rawtracepoint"


def test_kernel_functions_by_kprobe() -> None:
    assert plan_of("k:vfs_read").context.program is ProgramType.KPROBE
    both = plan_of("kprobe:vfs_*")
    assert [point.name for point in both.points] == ["kprobe:vfs_read", "kprobe:vfs_write"]
    assert both.context.program is ProgramType.KPROBE_MULTI
    assert plan_of("kretprobe:vfs_read").context.retval == Argument("retval", UINT64, ContextLoad(80, 8))


def test_kernel_functions_by_fentry_have_typed_arguments() -> None:
    context = plan_of("fentry:vfs_read").context
    assert [argument.name for argument in context.arguments] == ["file", "buf", "count", "pos"]
    assert context.arguments[1] == Argument("buf", Pointer(INT8, AddressSpace.KERNEL), ContextLoad(8, 8))
    assert context.retval is None
    leaving = plan_of("kretfunc:vfs_read").context
    assert leaving.program is ProgramType.TRACING_FEXIT
    assert leaving.retval == Argument("retval", INT64, ContextLoad(32, 8))


def test_a_struct_by_value_takes_the_words_it_needs() -> None:
    context = plan_of("fexit:do_nothing").context
    assert context.arguments == (Argument("flag", INT32, ContextLoad(16, 8)),)
    assert context.retval is None
    assert "retval" not in context.features


def test_every_provider_that_has_such_a_thing_is_meant_by_a_wildcard() -> None:
    points = FixtureTarget().expand(probe_spec("*:vfs_read"))
    assert [point.name for point in points] == ["kprobe:vfs_read", "fentry:vmlinux:vfs_read"]
    points = FixtureTarget().expand(probe_spec("*tracepoint:sched:sched_switch"))
    assert [point.name for point in points] == ["tracepoint:sched:sched_switch"]
    assert refusal("*:nothing_has_this").message == "No probe type matched for *:nothing_has_this"


def test_programs_of_invivo_itself() -> None:
    target = FixtureTarget()
    assert target.helper_plan("begin").context.program is ProgramType.RAW_TRACEPOINT
    fork = target.helper_plan("scope-fork").context
    assert fork.program is ProgramType.TRACING_RAW_TP
    assert fork.numbered == (ContextLoad(0, 8), ContextLoad(8, 8))
    assert not fork.scoped
    assert fork.btf_pointers
    assert target.helper_plan("scope-free").context.numbered == (ContextLoad(0, 8),)


def test_symbols_of_the_program_that_a_point_is_in() -> None:
    target = FixtureTarget()
    (point,) = target.expand(probe_spec("uprobe:/bin/demo:main"))
    assert target.user_symbol(point, "readline") == (64, 32)  # behind the start of main()
    assert target.user_symbol(point, "nope") is None
    (begin,) = target.expand(probe_spec("begin"))
    assert target.user_symbol(begin, "readline") is None


def test_what_else_a_compile_asks() -> None:
    target = FixtureTarget()
    assert target.cpus == 4
    assert target.kernel_address("vfs_read") == 0xFFFFFFFF81400000
    assert target.kernel_address("nope") is None
    assert target.cgroup_id("/sys/fs/cgroup/demo") == 4242
    assert target.per_cpu_variable("runqueues") is not None
    assert target.per_cpu_variable("nope") is None
    assert target.has("uprobe_multi")
    assert not target.has("nope")
    assert target.typedef("bool") == BOOL
    assert target.typedef("void") == VOID


@pytest.mark.parametrize(("probe", "cpus"), [("profile:hz:99", [0, 2]), ("interval:s:1", [0])])
def test_a_cpu_that_has_gone_offline_is_left_out(probe: str, cpus: list[int], monkeypatch: pytest.MonkeyPatch) -> None:
    opened: list[int] = []

    def open_counter(config: int, *, kind: int, period: int, frequency: int, cpu: int) -> int:
        if cpu == 1:
            raise SyscallError("open a counter", errno.ENODEV)
        opened.append(cpu)
        return 100 + cpu

    monkeypatch.setattr(cpus_of_kernel, "online", lambda: [0, 1, 2])
    monkeypatch.setattr(perf, "open_counter", open_counter)
    monkeypatch.setattr(links, "perf_event", lambda program, event, cookie: Link(-1))
    plan = plan_of(probe)
    attached = perf_events.attach(plan, Program(-1, "name", 0), None)
    assert (opened, len(attached)) == (cpus, len(cpus))
    monkeypatch.setattr(cpus_of_kernel, "online", lambda: [1])
    with pytest.raises(SyscallError, match="open a counter"):
        perf_events.attach(plan, Program(-1, "name", 0), None)
