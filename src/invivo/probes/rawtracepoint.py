"""``rawtracepoint``: the tracepoints' own arguments, typed by the kernel's BTF, without a record in between."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from invivo.kernel import links
from invivo.kernel.links import Link
from invivo.kernel.programs import Program
from invivo.probes import names
from invivo.probes.kernel_types import KernelTypes, Prototype
from invivo.probes.provider import (
    VMLINUX,
    Facts,
    Listed,
    Provider,
    Role,
    canonical,
    malformed,
    module_and_name,
    no_match,
    unavailable,
    wrong_number,
)
from invivo.record import Record
from invivo.target import Argument, AttachPoint, Classic, Context, ContextLoad, Plan, ProbeSpec, ProgramType

_PREFIX = "btf_trace_"
# Frames above a raw tracepoint's own on a kernel stack: the program, and bpf_trace_runN.
MACHINERY_FRAMES = 2

_MANY = 30  # from so many on one walk over all types is quicker than a search for each


class RawEvent(Record):
    """An attach point's data."""

    event: str
    module: str = VMLINUX


class AttachByType(Record):
    """Attach description: the program knows by its BTF id where it belongs."""


class AttachByName(Record):
    """Attach description: the kernel looks the event up."""


def _parts(spec: ProbeSpec) -> tuple[str, str]:
    """Return module and event."""
    match spec.fields:
        case () | ("",):
            raise malformed("rawtracepoint should be attached to a tracepoint", "rawtracepoint:EVENT")
        case (event,):
            return "*", event
        case (module, event) if event:
            return module, event
        case _:
            raise wrong_number("rawtracepoint", "1 or 2", len(spec.fields))


def _check(spec: ProbeSpec) -> None:
    _parts(spec)


def _expand(spec: ProbeSpec, facts: Facts) -> Sequence[AttachPoint]:
    module, event = _parts(spec)
    probe = canonical("rawtracepoint", spec.fields)
    if facts.btf() is None:
        said = "rawtracepoints require kernel BTF"
        classic = Classic(f"{said}. Try using a 'tracepoint' instead.")
        raise unavailable(probe, said, "try using a 'tracepoint' instead", classic)
    if names.is_wildcard(module) and names.is_wildcard(event):
        found = [RawEvent(name, home) for home, name in _matching(module, event, facts)]
        if not found:
            raise no_match(probe, "no raw tracepoint matches")
    else:
        found = _named(probe, module, event, facts)
    return [AttachPoint("rawtracepoint", _full_name(each.event, each.module), "", each) for each in found]


def _named(probe: str, module: str, event: str, facts: Facts) -> list[RawEvent]:
    homes = names.select(module, (VMLINUX, *facts.modules())) if names.is_wildcard(module) else [module]
    for home in homes:
        types = facts.module_types(home)
        if types is None:
            continue
        if names.is_wildcard(event):
            found = [RawEvent(name, home) for name in names.select(event, _events(home, facts))]
        else:
            found = [RawEvent(event, home)] if types.own_typedef(_PREFIX + event) else []
        if found:
            return found
    if not any(facts.module_types(home) for home in homes):
        raise no_match(probe, f"no tracepoints of a module '{module}' are known")
    if names.is_wildcard(event):
        raise no_match(probe, "no raw tracepoint matches")
    raise no_match(probe, "no such raw tracepoint", names.did_you_mean(event, _events(homes[0], facts)))


def _matching(module: str, event: str, facts: Facts) -> Iterator[tuple[str, str]]:
    """Yield module and name of the events that match two patterns."""
    for home in names.select(module, (VMLINUX, *facts.modules())):
        for name in names.select(event, _events(home, facts)):
            yield home, name


def _full_name(event: str, module: str = VMLINUX) -> str:
    return canonical("rawtracepoint", (module, event))


def _events(module: str, facts: Facts) -> list[str]:
    types = facts.module_types(module)
    if types is None:
        return []
    found = types.typedef_names(_PREFIX) if module == VMLINUX else types.own_typedef_names(_PREFIX)
    return [name.removeprefix(_PREFIX) for name in found]


def _prototype(event: str, types: KernelTypes) -> Prototype:
    """Return what a probe on the tracepoint is called with.

    The type's parameters have no names; those of the function that calls the probes have.
    That is ``__traceiter_NAME`` since Linux commit d25e37d89dd2 ("tracepoint: Optimize using
    static_call()") (in v5.10), and newer kernels have ``__probestub_NAME`` besides; the first
    parameter is the probe's own data in all of them.
    """
    for function in (f"__probestub_{event}", f"__traceiter_{event}"):
        named = types.function(function)
        if named is not None:
            return Prototype(named.parameters[1:], named.result)
    unnamed = types.typedef_prototype(_PREFIX + event)
    return Prototype(unnamed.parameters[1:], unnamed.result)


def machinery_frames(event: str, facts: Facts) -> int:
    """Return how many frames of the tracing machinery are on a stack at an event.

    Since Linux commit 4aadde89d81f ("tracing/bpf: disable preemption in syscall probe") (in v6.13) there is a
    function ``__bpf_trace_sys_enter`` between; the same series brought struct tracepoint_ext.
    """
    is_call = event in ("sys_enter", "sys_exit")
    return MACHINERY_FRAMES + (is_call and facts.types().struct("struct", "tracepoint_ext") is not None)


def _plan(points: Sequence[AttachPoint], uses: frozenset[str], facts: Facts) -> Sequence[Plan]:
    """Return a program for each event: a program of this type belongs to one BTF id."""
    if len(points) > _MANY:
        facts.types().function_names("__probestub_")  # found together, each is known afterwards
    plans: list[Plan] = []
    for point in points:
        assert isinstance(point.data, RawEvent)
        types = facts.module_types(point.data.module)
        attach_id = types.typedef_id(_PREFIX + point.data.event) if types is not None else None
        assert types is not None
        assert attach_id is not None
        prototype = _prototype(point.data.event, types)
        # Since Linux commit cb4158ce8ec8 ("bpf: Mark raw_tp arguments with PTR_MAYBE_NULL") (in v6.13, v6.12.2) the
        # verifier doubts the pointers of modules' events, and refuses to reckon with them: there they are numbers.
        own = point.data.module == VMLINUX
        context = Context(
            "rawtracepoint",
            ProgramType.TRACING_RAW_TP if own else ProgramType.RAW_TRACEPOINT,
            attach_id if own else 0,
            scoped=True,
            features=frozenset({"args", "argN", "stacks", "signal"} | ({"tracing"} if own else set())),
            arguments=tuple(
                Argument(name or f"arg{index}", types.of(type_id), ContextLoad(8 * index, 8))
                for index, (name, type_id) in enumerate(prototype.parameters)
            ),
            numbered=tuple(ContextLoad(8 * index, 8) for index in range(len(prototype.parameters))),
            btf_pointers=own,
            stack_skip=machinery_frames(point.data.event, facts),
        )
        plans.append(Plan((point,), context, AttachByType() if own else AttachByName(), cookies=False))
    return plans


def raw_plan(event: str, arguments: int, facts: Facts) -> Plan:
    """Return how one of invivo's own programs attaches to a raw tracepoint with so many arguments.

    It sees the events of all processes.  Raises `NoSuchProbeError` if the kernel has no BTF for it.
    """
    attach_id = facts.types().typedef_id(_PREFIX + event)
    if attach_id is None:
        raise unavailable(_full_name(event), "no such raw tracepoint")
    context = Context(
        "rawtracepoint",
        ProgramType.TRACING_RAW_TP,
        attach_id,
        scoped=False,
        features=frozenset({"argN"}),
        numbered=tuple(ContextLoad(8 * index, 8) for index in range(arguments)),
        btf_pointers=True,
    )
    point = AttachPoint("rawtracepoint", _full_name(event), "", RawEvent(event))
    return Plan((point,), context, AttachByType(), cookies=False)


def _attach(plan: Plan, program: Program, pid: int | None) -> list[Link]:
    place = plan.points[0].data
    assert isinstance(place, RawEvent)
    return [links.raw_tracepoint(program, place.event if isinstance(plan.attach, AttachByName) else None)]


def _listing(pattern: tuple[str, ...], facts: Facts, verbose: bool) -> Iterator[Listed]:
    if facts.btf() is None:
        return
    walked: set[str] = set()
    for home, event in _matching(*module_and_name(pattern), facts):
        parameters: tuple[tuple[str, str], ...] = ()
        types = facts.module_types(home) if verbose else None
        if types is not None:
            if home not in walked and names.is_wildcard(pattern[-1]):
                types.function_names("__")  # found together, each prototype is known afterwards
                walked.add(home)
            parameters = tuple((types.spelling(type_id), name) for name, type_id in _prototype(event, types).parameters)
        yield Listed(_full_name(event, home), parameters)


RAWTRACEPOINT = Provider(
    name="rawtracepoint",
    aliases=("rt",),
    role=Role.EVENT,
    doc="Fires at a tracepoint, with the kernel objects that its caller handed over.",
    syntax=("rawtracepoint:EVENT", "rawtracepoint:MODULE:EVENT"),
    needs=("CAP_PERFMON", "BTF"),
    check=_check,
    expand=_expand,
    plan=_plan,
    attach=_attach,
    listing=_listing,
)
