"""``rawtracepoint``: the tracepoints' own arguments, typed by the kernel's BTF, without a record in between."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from invivo.kernel import links
from invivo.kernel.links import Link
from invivo.kernel.programs import Program
from invivo.probes import names
from invivo.probes.kernel_types import Prototype
from invivo.probes.provider import (
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

_MODULE = "vmlinux"
_PREFIX = "btf_trace_"
# Frames above a raw tracepoint's own on a kernel stack: the program, and bpf_trace_runN.
MACHINERY_FRAMES = 2

_MANY = 30  # from so many on one walk over all types is quicker than a search for each


class RawEvent(Record):
    """An attach point's data."""

    event: str


class AttachByType(Record):
    """Attach description: the program knows by its BTF id where it belongs."""


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
    if not names.matcher(module)(_MODULE):
        raise no_match(probe, f"no tracepoints of a module '{module}' are known")
    if names.is_wildcard(event):
        found = names.select(event, _events(facts))
        if not found:
            raise no_match(probe, "no raw tracepoint matches")
    elif facts.types().has_typedef(_PREFIX + event):
        found = [event]
    else:
        raise no_match(probe, "no such raw tracepoint", names.did_you_mean(event, _events(facts)))
    return [AttachPoint("rawtracepoint", _full_name(event), "", RawEvent(event)) for event in found]


def _full_name(event: str) -> str:
    return canonical("rawtracepoint", (_MODULE, event))


def _events(facts: Facts) -> list[str]:
    return [name.removeprefix(_PREFIX) for name in facts.types().typedef_names(_PREFIX)]


def _prototype(event: str, facts: Facts) -> Prototype:
    """Return what a probe on the tracepoint is called with.

    The type's parameters have no names; those of the function that calls the probes have.
    That is ``__traceiter_NAME`` since Linux commit d25e37d89dd2 ("tracepoint: Optimize using
    static_call()") (in v5.10), and newer kernels have ``__probestub_NAME`` besides; the first
    parameter is the probe's own data in all of them.
    """
    types = facts.types()
    for function in (f"__probestub_{event}", f"__traceiter_{event}"):
        named = types.function(function)
        if named is not None:
            return Prototype(named.parameters[1:], named.result)
    unnamed = types.typedef_prototype(_PREFIX + event)
    return Prototype(unnamed.parameters[1:], unnamed.result)


def _plan(points: Sequence[AttachPoint], uses: frozenset[str], facts: Facts) -> Sequence[Plan]:
    """Return a program for each event: a program of this type belongs to one BTF id."""
    if len(points) > _MANY:
        facts.types().function_names("__probestub_")  # found together, each is known afterwards
    plans: list[Plan] = []
    for point in points:
        assert isinstance(point.data, RawEvent)
        attach_id = facts.types().typedef_id(_PREFIX + point.data.event)
        assert attach_id is not None
        prototype = _prototype(point.data.event, facts)
        context = Context(
            "rawtracepoint",
            ProgramType.TRACING_RAW_TP,
            attach_id,
            scoped=True,
            features=frozenset({"args", "argN", "stacks", "signal", "socket_cookie"}),
            arguments=tuple(
                Argument(name or f"arg{index}", facts.types().of(type_id), ContextLoad(8 * index, 8))
                for index, (name, type_id) in enumerate(prototype.parameters)
            ),
            numbered=tuple(ContextLoad(8 * index, 8) for index in range(len(prototype.parameters))),
            btf_pointers=True,
            stack_skip=MACHINERY_FRAMES,
        )
        plans.append(Plan((point,), context, AttachByType(), cookies=False))
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
    return [links.raw_tracepoint(program, None)]


def _listing(pattern: tuple[str, ...], facts: Facts, verbose: bool) -> Iterator[Listed]:
    module, wanted = module_and_name(pattern)
    if facts.btf() is None or not names.matcher(module)(_MODULE):
        return
    for event in names.select(wanted, _events(facts)):
        parameters: tuple[tuple[str, str], ...] = ()
        if verbose:
            parameters = tuple(
                (facts.types().spelling(type_id), name) for name, type_id in _prototype(event, facts).parameters
            )
        yield Listed(_full_name(event), parameters)


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
