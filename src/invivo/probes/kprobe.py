"""``kprobe`` and ``kretprobe``: entry and return of almost any kernel function."""

from __future__ import annotations

import errno
from collections.abc import Iterator, Sequence
from typing import Final

from invivo.errors import NotSupportedError, SyscallError
from invivo.ir.types import UINT64, Int, Struct, size_bytes
from invivo.kernel import links, perf
from invivo.kernel.links import Link
from invivo.kernel.programs import Program
from invivo.probes import names, x86_64
from invivo.probes.perf_events import context_pointer
from invivo.probes.provider import (
    VMLINUX,
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
    session_half,
    unavailable,
    wrong_number,
)
from invivo.record import Record, replace
from invivo.target import Argument, AttachPoint, Context, ContextLoad, Plan, ProbeSpec, ProgramType

# Up to Linux 6.13 a link has a node for each return that is awaited, 2 for each function and processor, and where
# none is free a session loses the entry with the return (docs/adr/0011-sessions-for-many-functions.md).
_SESSION_FUNCTIONS: Final = 16


class KernelFunction(Record):
    """An attach point's data. ``module``: where the function is, if that is known; ``shared``: others have its name.

    ``address``: instead of all that, for a place that is given by its address.
    """

    symbol: str
    offset: int
    module: str = ""
    shared: bool = False
    address: int = 0


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
        _check_address(provider, place)
        return module, function, 0
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


def _check_address(provider: str, place: str) -> None:
    if names.is_wildcard(place):
        raise malformed("Cannot use wildcards with absolute address")
    if not parse_number(place):
        raise malformed(f"Invalid address: {place}", "an address is a number such as 0xffffffff81000000")
    if provider == "kretprobe":
        raise malformed("kretprobes are attached to functions, not to addresses")


def _check(spec: ProbeSpec) -> None:
    _parts(spec)


def _expand(spec: ProbeSpec, facts: Facts) -> Sequence[AttachPoint]:
    probe = canonical(spec.provider, spec.fields)
    module, function, offset = _parts(spec)
    if function[:1].isdigit() and not facts.unsafe:
        raise malformed("Probing by address requires --unsafe")
    if not facts.has("kprobe"):
        raise unavailable(
            probe, "the kernel was built without kprobes (CONFIG_KPROBE_EVENTS)", "try a tracepoint or rawtracepoint"
        )
    if function[:1].isdigit():
        return [_at_address(spec, parse_number(function) or 0)]
    if names.is_wildcard(function) or (names.is_wildcard(module) and module != "*"):
        found = _matching(probe, module, function, facts)
    elif module not in ("*", VMLINUX):
        found = _in_module(probe, module, function, facts)
    else:
        found = [_by_name(probe, function, offset, facts)]
    suffix = f"+{offset}" if offset else ""
    prefix = spec.fields[:-1]
    return [
        AttachPoint(spec.provider, canonical(spec.provider, (*prefix, place.symbol + suffix)), place.symbol, place)
        for place in found
    ]


def _at_address(spec: ProbeSpec, address: int) -> AttachPoint:
    return AttachPoint(spec.provider, canonical(spec.provider, spec.fields), "", KernelFunction("", 0, address=address))


def _matching(probe: str, module: str, function: str, facts: Facts) -> list[KernelFunction]:
    """Return the functions that two patterns match, by the list of those that can be traced."""
    try:
        listed = facts.functions("*", function)
    except NotSupportedError as error:
        raise unavailable(probe, str(error), error.hint) from error
    inside = names.matcher(module)
    homes: dict[str, list[str]] = {}
    for name, home in listed:
        homes.setdefault(name, []).append(home)
    if module == "*":
        return [KernelFunction(name, 0, found[0]) for name, found in homes.items()] or _nothing(probe)
    found = [
        KernelFunction(name, 0, home, shared=len(homes[name]) > 1) for name, home in listed if inside(home)
    ]  # fmt: skip
    if not found and not names.is_wildcard(module):
        raise no_match(probe, *_why_not(probe, module, function, facts))
    return found or _nothing(probe)


def _nothing(probe: str) -> list[KernelFunction]:
    raise no_match(probe, "no such function")


def _why_not(probe: str, module: str, function: str, facts: Facts) -> tuple[str, str | None]:
    """Return what is wrong with a name in a module, and the nearest that there is."""
    known = {name for name, _ in facts.functions(module, "*")}
    modules = [VMLINUX, *facts.modules()]
    if not known and module not in modules:
        return f"no module '{module}' is loaded", names.did_you_mean(module, modules)
    homes = [] if names.is_wildcard(function) else facts.modules_with(function)
    if homes:
        provider = probe.partition(":")[0]
        return f"no such function in '{module}'", f"did you mean {canonical(provider, (homes[0], function))}?"
    return f"no such function in '{module}'", names.did_you_mean(function, known)


def _in_module(probe: str, module: str, function: str, facts: Facts) -> list[KernelFunction]:
    """Return a function of a module; the kernel is asked for that one, even if others have its name."""
    types = facts.module_types(module)
    if types is None or types.own_function_id(function) is None:
        return [replace(found, shared=True) for found in _matching(probe, module, function, facts)]
    return [KernelFunction(function, 0, module, shared=True)]


def _by_name(probe: str, function: str, offset: int, facts: Facts) -> KernelFunction:
    if facts.types().has_function(function):
        home = VMLINUX
    else:
        homes = facts.modules_with(function)
        if len(homes) > 1:
            provider = probe.partition(":")[0]
            raise malformed(
                f"ambiguous attach point, please specify module containing the function '{function}'",
                " or ".join(canonical(provider, (home, function)) for home in homes),
            )
        home = homes[0] if homes else ""
        if not homes:
            if facts.kernel_address(function) is None:
                raise no_match(probe, "no such function", _hint(function, facts))
            _warn_if_not_traceable(function, facts)
    if offset:
        size = facts.function_size(function)
        if size is not None and offset >= size:
            raise malformed(f"Offset outside the function bounds ('{function}' size is {size})")
    return KernelFunction(function, offset, home)


def _warn_if_not_traceable(function: str, facts: Facts) -> None:
    """Warn of what the kernel's types leave out and its tracer does not list."""
    try:
        if facts.functions("*", function):
            return
    except NotSupportedError:
        return  # nobody knows
    facts.remarks.append(
        f'{function} is not traceable (either non-existing, inlined, or marked as "notrace"); '
        "attaching to it will likely fail"
    )


def _hint(function: str, facts: Facts) -> str | None:
    try:
        return names.did_you_mean(function, {name for name, _ in facts.functions("*", "*")})
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
    types = facts.module_types(place.module or VMLINUX)
    if types is None or place.offset or place.address:
        return ()
    prototype = types.function(place.symbol)
    found: list[Argument] = []
    parameters = prototype.parameters if prototype is not None else ()
    for (name, type_id), register in zip(parameters, x86_64.FUNCTION_ARGUMENTS, strict=False):
        type_ = types.of(type_id)
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
    plain = not any(_place(point).offset or _place(point).shared or _place(point).address for point in points)
    together = len(points) > 1 and plain and "override" not in uses and facts.has("kprobe_multi")
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
    many = together and len(points) >= _SESSION_FUNCTIONS
    half = session_half(at_return, ProgramType.KPROBE_SESSION, facts) if many else None
    return Plan(tuple(points), context, attach, cookies=True, session=half)


def _place(point: AttachPoint) -> KernelFunction:
    assert isinstance(point.data, KernelFunction)
    return point.data


def _attach(plan: Plan, program: Program, pid: int | None) -> list[Link]:
    """Attach to each function. Raises `SyscallError`; then nothing stays attached."""
    if isinstance(plan.attach, Together):
        # A session has each function twice.
        provider = plan.context.provider
        symbols = [_place(point).symbol for point in plan.points if point.provider == provider]
        is_return = plan.attach.at_return and plan.context.program is ProgramType.KPROBE_MULTI
        return [links.kprobe_multi(program, symbols, cookies=range(len(symbols)), retprobe=is_return)]
    assert isinstance(plan.attach, OneByOne)
    attached: list[Link] = []
    try:
        for cookie, point in enumerate(plan.points):
            event = _open(_place(point), at_return=plan.attach.at_return)
            attached.append(links.perf_event(program, event, cookie))
    except BaseException:
        for link in attached:
            link.close()
        raise
    return attached


def _open(place: KernelFunction, *, at_return: bool) -> int:
    symbol = f"{place.module}:{place.symbol}" if place.shared and place.module != VMLINUX else place.symbol
    try:
        return perf.open_kprobe(symbol, place.offset, retprobe=at_return, address=place.address)
    except SyscallError as error:
        what = f"{symbol}+{place.offset}" if place.offset else symbol or f"{place.address:#x}"
        hint = _REFUSALS.get(error.errno)
        if hint is None:
            raise
        raise SyscallError(f"attach to {what}", error.errno, hint) from error


# What register_kprobe() and its callers answer, kernel/kprobes.c and kernel/trace/trace_kprobe.c.
_REFUSALS: Final = {
    errno.EILSEQ: "that is in the middle of an instruction",
    errno.EADDRNOTAVAIL: "the kernel has several functions of this name: name the module, or use their address",
    errno.ENOENT: "there is no such function any more",
    errno.EINVAL: 'it is not traceable (either non-existing, inlined, or marked as "notrace")',
}


def _listing_of(provider: str, pattern: tuple[str, ...], facts: Facts, verbose: bool) -> Iterator[Listed]:
    if not facts.has("kprobe"):
        return
    last = ""
    tells_modules = len(pattern) > 1 and not names.is_wildcard(pattern[0])
    for name, home in facts.functions(*module_and_name(pattern)):
        if name == last and not tells_modules:
            continue  # functions of several modules: without modules they are one line
        last = name
        prefix = (home,) if tells_modules else ()
        parameters: tuple[tuple[str, str], ...] = ()
        types = facts.module_types(home) if verbose else None
        prototype = types.function(name) if types is not None else None
        if types is not None and prototype is not None:
            parameters = tuple((types.spelling(type_id), own) for own, type_id in prototype.parameters)
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
    syntax=("kprobe:FUNCTION", "kprobe:MODULE:FUNCTION", "kprobe:FUNCTION+OFFSET", "kprobe:ADDRESS"),
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
