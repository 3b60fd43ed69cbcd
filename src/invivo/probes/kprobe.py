"""``kprobe`` and ``kretprobe``: entry and return of almost any kernel function."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from invivo.errors import NotSupportedError
from invivo.ir.types import UINT64, Int, Struct, size_bytes
from invivo.kernel import links, perf
from invivo.kernel.links import Link
from invivo.kernel.programs import Program
from invivo.probes import names, x86_64
from invivo.probes.perf_events import context_pointer
from invivo.probes.provider import (
    Facts,
    Listed,
    Provider,
    Role,
    canonical,
    grouped,
    malformed,
    module_and_name,
    no_match,
    parse_number,
    unavailable,
    wrong_number,
)
from invivo.record import Record
from invivo.target import Argument, AttachPoint, Context, ContextLoad, Plan, ProbeSpec, ProgramType


class KernelFunction(Record):
    """An attach point's data."""

    symbol: str
    offset: int


class OneByOne(Record):
    """Attach description: a perf event for each point."""

    at_return: bool


class Together(Record):
    """Attach description: one kprobe_multi link for all points (since Linux 5.18)."""

    at_return: bool


def _parts(spec: ProbeSpec) -> tuple[str, str, int]:
    """Return module (``*``: any), function and offset in it."""
    provider, fields = spec.provider, spec.fields
    module, place = module_and_name(fields)
    if not place:
        raise malformed(f"{provider}s should be attached to a function or an address", f"{provider}:FUNCTION")
    if len(fields) > 2:
        raise wrong_number(provider, "1 or 2", len(fields))
    function, *offsets = place.split("+")
    if function[:1].isdigit():
        raise malformed("probing a kernel address is not supported yet")
    if len(offsets) > 1:
        raise malformed("Cannot take more than one offset")
    if not offsets:
        return module, function, 0
    offset = parse_number(offsets[0])
    if offset is None:
        raise malformed(f"Invalid offset: {offsets[0]}")
    if provider == "kretprobe":
        raise malformed("Offset not allowed")
    if names.is_wildcard(function):
        raise malformed("Cannot use wildcards with an offset")
    return module, function, offset


def _check(spec: ProbeSpec) -> None:
    _parts(spec)


def _expand(spec: ProbeSpec, facts: Facts) -> Sequence[AttachPoint]:
    probe = canonical(spec.provider, spec.fields)
    module, function, offset = _parts(spec)
    if not facts.has("kprobe"):
        raise unavailable(
            probe, "the kernel was built without kprobes (CONFIG_KPROBE_EVENTS)", "try a tracepoint or rawtracepoint"
        )
    if names.is_wildcard(function) or module != "*":
        try:
            found = facts.functions(module, function)
        except NotSupportedError as error:
            raise unavailable(probe, str(error), error.hint) from error
        if not found:
            raise no_match(probe, "no such function" if module == "*" else f"no such function in '{module}'")
    elif not facts.types().has_function(function) and facts.kernel_address(function) is None:
        raise no_match(probe, "no such function", _hint(function, facts))
    else:
        found = [function]
    suffix = f"+{offset}" if offset else ""
    prefix = spec.fields[:-1]
    return [
        AttachPoint(
            spec.provider, canonical(spec.provider, (*prefix, name + suffix)), name, KernelFunction(name, offset)
        )
        for name in found
    ]


def _hint(function: str, facts: Facts) -> str | None:
    try:
        return names.did_you_mean(function, facts.functions("*", "*"))
    except NotSupportedError:
        return None


def _plan(points: Sequence[AttachPoint], uses: frozenset[str], facts: Facts) -> Sequence[Plan]:
    """One program for all points; where ``args`` are read, one for all functions that have the same."""
    if "args" not in uses or points[0].provider == "kretprobe":
        return [_plan_of(points, (), uses, facts)]
    arguments = {point.name: _arguments(_place(point), facts) for point in points}
    groups = grouped(points, lambda point: arguments[point.name])
    return [_plan_of(group, arguments[group[0].name], uses, facts) for group in groups]


def _arguments(place: KernelFunction, facts: Facts) -> tuple[Argument, ...]:
    """Return the arguments that are in registers at the entry of a function that the kernel's BTF knows.

    Structs by value may be in registers or not; what comes after one is not told.
    """
    prototype = facts.types().function(place.symbol) if place.offset == 0 else None
    found: list[Argument] = []
    parameters = prototype.parameters if prototype is not None else ()
    for (name, type_id), register in zip(parameters, x86_64.FUNCTION_ARGUMENTS, strict=False):
        type_ = facts.types().of(type_id)
        if isinstance(type_, Struct):
            break
        signed = isinstance(type_, Int) and type_.signed
        found.append(Argument(name, type_, ContextLoad(x86_64.OFFSETS[register], size_bytes(type_), signed)))
    return tuple(found)


def _plan_of(
    points: Sequence[AttachPoint], arguments: tuple[Argument, ...], uses: frozenset[str], facts: Facts
) -> Plan:
    provider = points[0].provider
    at_return = provider == "kretprobe"
    at_entry = all(_place(point).offset == 0 for point in points)
    together = len(points) > 1 and at_entry and "override" not in uses and facts.has("kprobe_multi")
    features = {"func", "reg", "ctx", "stacks", "signal"} | ({"retval"} if at_return else {"argN", "override"})
    if arguments or ("args" not in uses and not at_return):
        features.add("args")
    result = Argument("retval", UINT64, x86_64.register(x86_64.RETURN_REGISTER))
    context = Context(
        provider,
        ProgramType.KPROBE_MULTI if together else ProgramType.KPROBE,
        0,
        scoped=True,
        features=frozenset(features),
        arguments=arguments,
        numbered=() if at_return else x86_64.function_arguments(),
        retval=result if at_return else None,
        registers=x86_64.registers(),
        # The register points behind the breakpoint, or to the return trampoline: the point's name is exact.
        instruction_pointer=None,
        context_type=context_pointer("pt_regs", facts) if "ctx" in uses else None,
        # A kprobe may sit in what other programs call.
        nmi=True,
    )
    attach = Together(at_return) if together else OneByOne(at_return)
    return Plan(tuple(points), context, attach, cookies=True)


def _place(point: AttachPoint) -> KernelFunction:
    assert isinstance(point.data, KernelFunction)
    return point.data


def _attach(plan: Plan, program: Program, pid: int | None) -> list[Link]:
    """Attach to each function. Raises `SyscallError`; then nothing stays attached."""
    if isinstance(plan.attach, Together):
        symbols = [_place(point).symbol for point in plan.points]
        return [links.kprobe_multi(program, symbols, cookies=range(len(symbols)), retprobe=plan.attach.at_return)]
    assert isinstance(plan.attach, OneByOne)
    attached: list[Link] = []
    try:
        for cookie, point in enumerate(plan.points):
            place = _place(point)
            event = perf.open_kprobe(place.symbol, place.offset, retprobe=plan.attach.at_return)
            attached.append(links.perf_event(program, event, cookie))
    except BaseException:
        for link in attached:
            link.close()
        raise
    return attached


def _listing_of(provider: str, pattern: tuple[str, ...], facts: Facts, verbose: bool) -> Iterator[Listed]:
    if not facts.has("kprobe"):
        return
    for name in facts.functions(*module_and_name(pattern)):
        prefix = () if names.is_wildcard(pattern[0]) else pattern[:-1]
        parameters: tuple[tuple[str, str], ...] = ()
        prototype = facts.types().function(name) if verbose else None
        if prototype is not None:
            parameters = tuple((facts.types().spelling(type_id), own) for own, type_id in prototype.parameters)
        yield Listed(canonical(provider, (*prefix, name)), parameters)


def _listing(pattern: tuple[str, ...], facts: Facts, verbose: bool) -> Iterator[Listed]:
    return _listing_of("kprobe", pattern, facts, verbose)


def _return_listing(pattern: tuple[str, ...], facts: Facts, verbose: bool) -> Iterator[Listed]:
    return _listing_of("kretprobe", pattern, facts, False)


KPROBE = Provider(
    name="kprobe",
    aliases=("k",),
    role=Role.EVENT,
    doc="Fires when a kernel function is entered, or an instruction of it is reached.",
    syntax=("kprobe:FUNCTION", "kprobe:MODULE:FUNCTION", "kprobe:FUNCTION+OFFSET"),
    needs=("CAP_PERFMON", "kprobes"),
    check=_check,
    expand=_expand,
    plan=_plan,
    attach=_attach,
    listing=_listing,
)

KRETPROBE = Provider(
    name="kretprobe",
    aliases=("kr",),
    role=Role.EVENT,
    doc="Fires when a kernel function returns.",
    syntax=("kretprobe:FUNCTION", "kretprobe:MODULE:FUNCTION"),
    needs=("CAP_PERFMON", "kprobes"),
    check=_check,
    expand=_expand,
    plan=_plan,
    attach=_attach,
    listing=_return_listing,
)
