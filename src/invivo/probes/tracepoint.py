"""``tracepoint``: the kernel's stable events, with system calls as the case that matters most."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from invivo.ir.types import INT32, INT64, AddressSpace, size_bytes
from invivo.kernel import links, perf
from invivo.kernel.links import Link
from invivo.kernel.programs import Program
from invivo.kernel.tracefs import Tracefs
from invivo.linux.syscalls import syscall_numbers
from invivo.probes import names, x86_64
from invivo.probes.event_format import (
    EventField,
    Shape,
    field_type,
    is_signed,
    parse_format,
    record_arguments,
)
from invivo.probes.provider import (
    Facts,
    Listed,
    Provider,
    Role,
    canonical,
    grouped,
    malformed,
    no_match,
    rounds,
    single,
    unavailable,
    wrong_number,
)
from invivo.probes.rawtracepoint import MACHINERY_FRAMES, AttachByType, machinery_frames
from invivo.record import Record, replace
from invivo.target import (
    Argument,
    AttachPoint,
    Classic,
    Context,
    ContextLoad,
    Gate,
    Plan,
    ProbeSpec,
    ProgramType,
)

_SYSCALLS = "syscalls"
_FEATURES = frozenset({"args", "stacks", "signal"})
# What events of ``raw_syscalls`` have in their records and a raw tracepoint's program has at hand. The number at the
# exit is syscall_get_nr(), an int (arch/x86/include/asm/syscall.h).
_ALL_CALLS = {
    "sys_enter": (Argument("id", INT64, ContextLoad(8, 8, signed=True)),),
    "sys_exit": (
        Argument("id", INT64, x86_64.pointed_register(0, x86_64.SYSCALL_NUMBER, 4, signed=True)),
        Argument("ret", INT64, ContextLoad(8, 8, signed=True)),
    ),
}


class Event(Record):
    """An attach point's data."""

    category: str
    event: str


class PerfEvents(Record):
    """Attach description: open each event by perf and attach the program to it."""


class RawEvents(Record):
    """Attach description: each event's raw tracepoint, by name. Cheaper, for programs that need no ``args``."""


def _check(spec: ProbeSpec) -> None:
    if not spec.fields or spec.fields == ("",):
        raise malformed("tracepoint probe must have a target", "tracepoint:CATEGORY:EVENT")
    if len(spec.fields) != 2:
        raise wrong_number("tracepoint", "2", len(spec.fields))
    if not all(spec.fields):
        raise malformed("tracepoint probe must have a target", "tracepoint:CATEGORY:EVENT")


def _expand(spec: ProbeSpec, facts: Facts) -> Sequence[AttachPoint]:
    category, event = spec.fields
    found = facts.events(category, event)
    if not found:
        raise _missing(category, event, facts)
    return [AttachPoint("tracepoint", canonical("tracepoint", pair), "", Event(*pair)) for pair in found]


def _missing(category: str, event: str, facts: Facts) -> Exception:
    """Return the error that says which part of the name is wrong."""
    probe = canonical("tracepoint", (category, event))
    if names.is_wildcard(category) or names.is_wildcard(event):
        known = {own for own, _ in facts.events("*", "*")}
        if names.is_wildcard(category) or category in known:
            return no_match(probe, "no tracepoint matches")
        return no_match(probe, f"no such tracepoint category '{category}'", names.did_you_mean(category, known))
    classic = Classic(f"Probe does not exist: {probe}", f"Tracepoint not found: {category}:{event}")
    within = [name for _, name in facts.events(category, "*")]
    if within:
        return unavailable(probe, "no such tracepoint", names.did_you_mean(event, within), classic)
    hint = names.did_you_mean(category, {known for known, _ in facts.events("*", "*")})
    elsewhere = [canonical("tracepoint", pair) for pair in facts.events("*", event)]
    if elsewhere:
        hint = f"did you mean {' or '.join(elsewhere)}?"
    if category == "syscall":
        classic = replace(classic, hint=f"Did you mean syscalls:{event}?")
    return unavailable(probe, f"no such tracepoint category '{category}'", hint, classic)


def _plan(points: Sequence[AttachPoint], uses: frozenset[str], facts: Facts) -> Sequence[Plan]:
    return [plan for turn in rounds(points) for plan in _plan_distinct(turn, uses, facts)]


def _plan_distinct(points: Sequence[AttachPoint], uses: frozenset[str], facts: Facts) -> Sequence[Plan]:
    plans: list[Plan] = []
    rest: list[AttachPoint] = []
    entries: list[AttachPoint] = []
    exits: list[AttachPoint] = []
    has_btf = facts.btf() is not None
    numbers: Mapping[str, int] = (
        syscall_numbers() if any(_event(point).category == _SYSCALLS for point in points) else {}
    )
    for point in points:
        event = _event(point)
        all_calls = _all_calls_plan(point, uses, facts) if has_btf and event.category == "raw_syscalls" else None
        if all_calls is not None:
            plans.append(all_calls)
            continue
        side, _, call = event.event[4:].partition("_")
        gated = has_btf and event.category == _SYSCALLS and event.event.startswith("sys_") and call in numbers
        (entries if gated and side == "enter" else exits if gated and side == "exit" else rest).append(point)
    for side, calls in (("enter", entries), ("exit", exits)):
        if calls:
            plans += _syscall_plans(side, calls, uses, facts, numbers)
    if rest:
        plans += _record_plans(rest, facts) if "args" in uses else _event_plans(rest, uses, facts)
    return plans


def _event(point: AttachPoint) -> Event:
    assert isinstance(point.data, Event)
    return point.data


def _record_plans(points: Sequence[AttachPoint], facts: Facts) -> list[Plan]:
    """Return programs that see the event's record, one for each layout of it."""

    def arguments(point: AttachPoint) -> tuple[Argument, ...]:
        event = _event(point)
        space = AddressSpace.USER if event.category == _SYSCALLS else AddressSpace.KERNEL
        return record_arguments(parse_format(facts.event_format(event.category, event.event)), facts.types(), space)

    found = {point.name: arguments(point) for point in points}
    groups = grouped(points, lambda point: found[point.name])
    return [_perf_plan(group, found[group[0].name]) for group in groups]


def _perf_plan(points: tuple[AttachPoint, ...], arguments: tuple[Argument, ...]) -> Plan:
    context = Context("tracepoint", ProgramType.TRACEPOINT, 0, scoped=True, features=_FEATURES, arguments=arguments)
    return Plan(points, context, PerfEvents(), cookies=True)


def _event_plans(points: Sequence[AttachPoint], uses: frozenset[str], facts: Facts) -> list[Plan]:
    """Return programs that need to know only that the event happened.

    The record is built by a probe function on the event's tracepoint, so another probe on the
    same tracepoint (a raw one) is called at the same times.  The kernel's BTF has a type
    ``btf_trace_NAME`` for each; what has none (events of ftrace itself, of modules, the single
    system calls) goes the long way.
    """
    btf = facts.btf()
    raw = [point for point in points if btf is not None and facts.types().has_name(f"btf_trace_{_event(point).event}")]
    chosen = set(raw)
    recorded = tuple(point for point in points if point not in chosen)
    plans = [_perf_plan(recorded, ())] if recorded else []
    if raw:
        told_apart = facts.has("raw_tracepoint_cookies")
        context = Context(
            "tracepoint", ProgramType.RAW_TRACEPOINT, 0, scoped=True, features=_FEATURES, stack_skip=MACHINERY_FRAMES
        )
        groups = single(raw) if {"probe", "func"} & uses and not told_apart else [tuple(raw)]
        plans += [Plan(group, context, RawEvents(), cookies=told_apart) for group in groups]
    return plans


def _syscall_plans(
    side: str, points: Sequence[AttachPoint], uses: frozenset[str], facts: Facts, numbers: Mapping[str, int]
) -> list[Plan]:
    """Return programs on the one raw tracepoint that all system calls reach, gated by the call's number.

    A perf event for each call costs 75 ms to detach, and there are more than 700 of them.
    """

    def arguments(point: AttachPoint) -> tuple[Argument, ...]:
        fields = parse_format(facts.event_format(_SYSCALLS, _event(point).event))
        return _enter_arguments(fields, facts) if side == "enter" else _exit_arguments(fields)

    attach_id = facts.types().typedef_id(f"btf_trace_sys_{side}")
    if attach_id is None:
        return _record_plans(points, facts)
    plans: list[Plan] = []
    found = {point.name: arguments(point) if "args" in uses else () for point in points}
    for group in grouped(points, lambda point: found[point.name]):
        table = tuple(
            (numbers[_event(point).event.removeprefix(f"sys_{side}_")], index) for index, point in enumerate(group)
        )
        number = (
            ContextLoad(8, 8, signed=True)
            if side == "enter"
            else x86_64.pointed_register(0, x86_64.SYSCALL_NUMBER, 8, signed=True)
        )
        # The perf events leave out calls of 32-bit tasks too (trace_get_syscall_nr).
        gate = Gate(number, table, native_only=True)
        plans.append(_raw_plan(group, attach_id, found[group[0].name], gate, facts))
    return plans


def _raw_plan(
    points: tuple[AttachPoint, ...], attach_id: int, arguments: tuple[Argument, ...], gate: Gate | None, facts: Facts
) -> Plan:
    """Return a program on the raw tracepoint of all calls' entries, or exits.

    TP_PROTO(struct pt_regs *regs, long id) and (struct pt_regs *regs, long ret), include/trace/events/syscalls.h.
    """
    context = Context(
        "tracepoint",
        ProgramType.TRACING_RAW_TP,
        attach_id,
        scoped=True,
        features=_FEATURES,
        arguments=arguments,
        user_arguments=True,
        btf_pointers=True,
        gate=gate,
        stack_skip=machinery_frames("sys_enter", facts),
    )
    return Plan(points, context, AttachByType(), cookies=False)


def _all_calls_plan(point: AttachPoint, uses: frozenset[str], facts: Facts) -> Plan | None:
    """Return a program for all calls that sees no record of them; None if it reads more than number and result.

    (The record's ``args`` are other registers in a 32-bit task.)
    """
    event = _event(point).event
    attach_id = facts.types().typedef_id(f"btf_trace_{event}")
    known = _ALL_CALLS.get(event)
    read = {use.removeprefix("args.") for use in uses if use.startswith("args.")}
    if attach_id is None or known is None or not read <= {argument.name for argument in known}:
        return None
    return _raw_plan((point,), attach_id, known, None, facts)


def _enter_arguments(fields: tuple[EventField, ...], facts: Facts) -> tuple[Argument, ...]:
    """Return ``args`` at a call's entry: the fields after the number are the registers in order.

    The record has 8 bytes for each, whatever the parameter's type; the type says how many of them count.
    """
    arguments: list[Argument] = []
    registers = iter(x86_64.SYSCALL_ARGUMENTS)
    for field in fields:
        if field.name == "__syscall_nr":
            arguments.append(Argument(field.name, INT32, ContextLoad(8, 8, signed=True)))
            continue
        # Since 7.0 records may end with copies of user memory, which no register holds.
        if field.shape is not Shape.VALUE:
            break
        found = facts.types().from_text(field.c_type, AddressSpace.USER)
        if found is None or size_bytes(found) not in (1, 2, 4, 8):
            found = field_type(field, facts.types(), AddressSpace.USER)
        access = x86_64.pointed_register(0, next(registers), size_bytes(found), is_signed(found))
        arguments.append(Argument(field.name, found, access))
    return tuple(arguments)


def _exit_arguments(fields: tuple[EventField, ...]) -> tuple[Argument, ...]:
    number = x86_64.pointed_register(0, x86_64.SYSCALL_NUMBER, 8, signed=True)
    known = {
        "__syscall_nr": Argument("__syscall_nr", INT32, number),
        "ret": Argument("ret", INT64, ContextLoad(8, 8, signed=True)),
    }
    return tuple(known[field.name] for field in fields if field.name in known)


def _attach(plan: Plan, program: Program, pid: int | None) -> list[Link]:
    """Attach to each event, or once for all system calls. Raises `SyscallError`; then nothing stays attached.

    ``pid`` is not handed to perf: its filter is by thread, and programs run before it.
    """
    if isinstance(plan.attach, AttachByType):
        return [links.raw_tracepoint(program, None)]
    attached: list[Link] = []
    tracefs = Tracefs()
    try:
        for cookie, point in enumerate(plan.points):
            event = _event(point)
            if isinstance(plan.attach, RawEvents):
                attached.append(links.raw_tracepoint(program, event.event, cookie if plan.cookies else 0))
            else:
                descriptor = perf.open_tracepoint(tracefs.event_id(event.category, event.event))
                attached.append(links.perf_event(program, descriptor, cookie))
    except BaseException:
        for link in attached:
            link.close()
        raise
    finally:
        tracefs.close()
    return attached


def _listing(pattern: tuple[str, ...], facts: Facts, verbose: bool) -> Iterator[Listed]:
    category, event = pattern if len(pattern) == 2 else ("*", pattern[0])
    for pair in facts.events(category, event):
        fields = parse_format(facts.event_format(*pair)) if verbose else ()
        yield Listed(canonical("tracepoint", pair), tuple(field.declaration for field in fields))


TRACEPOINT = Provider(
    name="tracepoint",
    aliases=("t",),
    role=Role.EVENT,
    doc="Fires at an event that the kernel's developers have marked; its fields are in args.",
    syntax=("tracepoint:CATEGORY:EVENT",),
    needs=("CAP_PERFMON", "tracefs"),
    check=_check,
    expand=_expand,
    plan=_plan,
    attach=_attach,
    listing=_listing,
)
