"""``fentry`` and ``fexit``: entry and return of kernel functions, typed by BTF and without a trap."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from invivo.errors import NotSupportedError
from invivo.ir.types import VOID, Struct
from invivo.kernel import links
from invivo.kernel.links import Link
from invivo.kernel.programs import BpfFunction, Program
from invivo.probes import names
from invivo.probes.kernel_types import KernelTypes
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
from invivo.probes.rawtracepoint import AttachByType
from invivo.record import Record
from invivo.target import Argument, AttachPoint, Context, ContextLoad, Plan, ProbeSpec, ProgramType

_MANY = 30
_BPF = "bpf"  # where a module's name stands: the functions of BPF programs
# Frames above the function on a kernel stack: the program, and the trampoline that the function calls.
_MACHINERY_FRAMES = 2


class TypedFunction(Record):
    """An attach point's data: a function of the kernel, of a module, or (``program_id``) of a BPF program."""

    symbol: str
    module: str
    program_id: int = 0


def _parts(spec: ProbeSpec) -> tuple[str, str]:
    """Return module (empty: not given) and function."""
    match spec.fields:
        case () | ("",) | (_, "") | ("bpf", _, ""):
            raise malformed("fentry/fexit should specify a function", f"{spec.provider}:FUNCTION")
        case ("bpf", *_) if len(spec.fields) > 3:
            raise wrong_number(spec.provider, "1, 2 or 3", len(spec.fields))
        case ("bpf", *_, function):
            return _BPF, function
        case (function,):
            return "", function
        case (module, function):
            return module, function
        case _:
            raise wrong_number(spec.provider, "1 or 2", len(spec.fields))


def _check(spec: ProbeSpec) -> None:
    _parts(spec)


def _expand(spec: ProbeSpec, facts: Facts) -> Sequence[AttachPoint]:
    module, function = _parts(spec)
    probe = canonical(spec.provider, spec.fields)
    if facts.btf() is None:
        raise unavailable(probe, "fentry and fexit require kernel BTF", "try a kprobe instead")
    if module == _BPF:
        found = _of_programs(spec, facts)
    elif names.is_wildcard(function) or names.is_wildcard(module):
        found = _matching(probe, module or "*", function, facts)
    else:
        found = _named(probe, module, function, facts)
    if found and not facts.has("fentry"):
        raise unavailable(
            probe,
            f"the kernel refuses programs at functions ({spec.provider} needs CONFIG_DYNAMIC_FTRACE_WITH_DIRECT_CALLS)",
            "try a tracepoint or rawtracepoint",
        )
    return [AttachPoint(spec.provider, canonical(spec.provider, _fields(each)), each.symbol, each) for each in found]


def _fields(place: TypedFunction) -> tuple[str, ...]:
    return (_BPF, str(place.program_id), place.symbol) if place.program_id else (place.module, place.symbol)


def _of_programs(spec: ProbeSpec, facts: Facts) -> list[TypedFunction]:
    """Return the functions of loaded BPF programs that ``bpf[:NUMBER]:NAME`` means."""
    number, name = spec.fields[1] if len(spec.fields) == 3 else "*", spec.fields[-1]
    numbered, named = names.matcher(number), names.matcher(name)
    known = facts.bpf_functions()
    found = [each for each in known if numbered(str(each.program_id)) and named(each.name)]
    if not found:
        hint = names.did_you_mean(name, {each.name for each in known})
        raise no_match(canonical(spec.provider, spec.fields), "no such function of a BPF program with types", hint)
    return [TypedFunction(each.name, "", each.program_id) for each in found]


def _matching(probe: str, module: str, function: str, facts: Facts) -> list[TypedFunction]:
    # The list leaves out what the kernel refuses to trace; BTF alone does not know.
    try:
        listed = facts.functions(module, function)
    except NotSupportedError as error:
        raise unavailable(probe, str(error), error.hint) from error
    found = [place for place, _ in _typed(listed, facts)]
    if not found:
        raise no_match(probe, "no such function in the kernel's BTF")
    return found


def _typed(listed: Sequence[tuple[str, str]], facts: Facts) -> Iterator[tuple[TypedFunction, KernelTypes]]:
    """Yield those of some functions and their modules that have types, with these."""
    homes = {home: facts.module_types(home) for home in {home for _, home in listed}}
    # From so many on one walk over all types is quicker than a search for each.
    known = {home: set(types.function_names()) for home, types in homes.items() if types} if len(listed) > _MANY else {}
    for name, home in listed:
        types = homes[home]
        if types is None or (known and name not in known[home]):
            continue
        if known or types.has_function(name) if home == VMLINUX else types.own_function_id(name) is not None:
            yield TypedFunction(name, home), types


def _named(probe: str, module: str, function: str, facts: Facts) -> list[TypedFunction]:
    homes = facts.modules_with(function)
    if module:
        if module not in homes:
            raise no_match(probe, *_why_not(module, function, homes, probe, facts))
        return [TypedFunction(function, module)]
    if len(homes) > 1:
        # The classic words; the hint is ours.
        message = f"ambiguous attach point, please specify module containing the function '{function}'"
        provider = probe.partition(":")[0]
        raise malformed(message, " or ".join(canonical(provider, (home, function)) for home in homes))
    if not homes:
        hint = names.did_you_mean(function, facts.types().function_names())
        raise no_match(probe, "no such function in the kernel's BTF", hint)
    return [TypedFunction(function, homes[0])]


def _why_not(module: str, function: str, homes: list[str], probe: str, facts: Facts) -> tuple[str, str | None]:
    types = facts.module_types(module)
    if types is None:
        return f"no module '{module}' with types is loaded", None
    if homes:
        provider = probe.partition(":")[0]
        return f"no such function in '{module}'", f"did you mean {canonical(provider, (homes[0], function))}?"
    return f"no such function in '{module}'", names.did_you_mean(function, types.function_names())


def _plan(points: Sequence[AttachPoint], uses: frozenset[str], facts: Facts) -> Sequence[Plan]:
    """Return a program for each function: a program of this type belongs to one BTF id."""
    return [Plan((point,), _context(point, facts), AttachByType(), cookies=False) for point in points]


def _context(point: AttachPoint, facts: Facts) -> Context:
    """Return the context: a word for each argument, then (fexit) one for the result.

    A struct passed by value takes a word for each 8 bytes; it cannot be read, what follows it can.
    """
    place = point.data
    assert isinstance(place, TypedFunction)
    types = facts.program_types(place.program_id) if place.program_id else facts.module_types(place.module)
    attach_id = types.function_id(place.symbol) if types is not None else None
    prototype = types.function(place.symbol) if types is not None else None
    assert types is not None
    assert attach_id is not None
    assert prototype is not None
    at_return = point.provider == "fexit"
    arguments: list[Argument] = []
    slot = 0
    for index, (name, type_id) in enumerate(prototype.parameters):
        found = types.of(type_id)
        if isinstance(found, Struct):
            slot += -(-found.size // 8)
            continue
        arguments.append(Argument(name or f"arg{index}", found, ContextLoad(8 * slot, 8)))
        slot += 1
    if place.program_id:
        slot = facts.argument_words(place.program_id, attach_id, slot)
    result = types.of(prototype.result)
    has_result = at_return and result != VOID and not isinstance(result, Struct)
    features = {"args", "func", "stacks", "signal", "path", "tracing"}
    if has_result:
        features.add("retval")
    return Context(
        point.provider,
        ProgramType.TRACING_FEXIT if at_return else ProgramType.TRACING_FENTRY,
        attach_id,
        scoped=True,
        features=frozenset(features),
        arguments=tuple(arguments),
        retval=Argument("retval", result, ContextLoad(8 * slot, 8)) if has_result else None,
        # The types of a BPF program's arguments are its own, not those that the verifier knows.
        btf_pointers=not place.program_id,
        nmi=True,
        stack_skip=_MACHINERY_FRAMES,
        attach_module="" if place.module == VMLINUX else place.module,
        attach_program=place.program_id,
    )


def _attach(plan: Plan, program: Program, pid: int | None) -> list[Link]:
    return [links.tracing(program)]


def _of_bpf(functions: Iterator[BpfFunction], facts: Facts) -> Iterator[tuple[TypedFunction, KernelTypes]]:
    for each in functions:
        types = facts.program_types(each.program_id)
        if types is not None:
            yield TypedFunction(each.name, "", each.program_id), types


def _listing_of(provider: str, pattern: tuple[str, ...], facts: Facts, verbose: bool) -> Iterator[Listed]:
    if facts.btf() is None:
        return
    if pattern[0] == _BPF and len(pattern) > 1:
        number, named = names.matcher(pattern[1] if len(pattern) > 2 else "*"), names.matcher(pattern[-1])
        matching = (each for each in facts.bpf_functions() if number(str(each.program_id)) and named(each.name))
        found = _of_bpf(matching, facts)
    else:
        found = _typed(facts.functions(*module_and_name(pattern)), facts)
    for place, types in found:
        parameters: list[tuple[str, str]] = []
        prototype = types.function(place.symbol) if verbose else None
        if prototype is not None:
            parameters = [(types.spelling(type_id), own) for own, type_id in prototype.parameters]
            if provider == "fexit":
                parameters.append((types.spelling(prototype.result), "retval"))
        yield Listed(canonical(provider, _fields(place)), tuple(parameters))


def _listing(pattern: tuple[str, ...], facts: Facts, verbose: bool) -> Iterator[Listed]:
    return _listing_of("fentry", pattern, facts, verbose)


def _return_listing(pattern: tuple[str, ...], facts: Facts, verbose: bool) -> Iterator[Listed]:
    return _listing_of("fexit", pattern, facts, verbose)


FENTRY = Provider(
    name="fentry",
    aliases=("f", "kfunc"),
    role=Role.EVENT,
    doc="Fires when a kernel function is entered, with its typed arguments.",
    syntax=("fentry:FUNCTION", "fentry:MODULE:FUNCTION", "fentry:bpf:FUNCTION", "fentry:bpf:PROGRAM_ID:FUNCTION"),
    needs=("CAP_PERFMON", "BTF", "function tracer"),
    check=_check,
    expand=_expand,
    plan=_plan,
    attach=_attach,
    listing=_listing,
)

FEXIT = Provider(
    name="fexit",
    aliases=("fr", "kretfunc"),
    role=Role.EVENT,
    doc="Fires when a kernel function returns, with its typed arguments and result.",
    syntax=("fexit:FUNCTION", "fexit:MODULE:FUNCTION", "fexit:bpf:FUNCTION", "fexit:bpf:PROGRAM_ID:FUNCTION"),
    needs=("CAP_PERFMON", "BTF", "function tracer"),
    check=_check,
    expand=_expand,
    plan=_plan,
    attach=_attach,
    listing=_return_listing,
)
