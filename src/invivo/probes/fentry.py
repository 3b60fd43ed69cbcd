"""``fentry`` and ``fexit``: entry and return of kernel functions, typed by BTF and without a trap."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from invivo.errors import NotSupportedError
from invivo.ir.types import VOID, Struct
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
from invivo.probes.rawtracepoint import AttachByType
from invivo.record import Record
from invivo.target import Argument, AttachPoint, Context, ContextLoad, Plan, ProbeSpec, ProgramType

_MODULE = "vmlinux"
# Frames above the function on a kernel stack: the program, and the trampoline that the function calls.
_MACHINERY_FRAMES = 2


class TypedFunction(Record):
    """An attach point's data."""

    symbol: str


def _parts(spec: ProbeSpec) -> tuple[str, str]:
    """Return module and function."""
    match spec.fields:
        case () | ("",) | (_, ""):
            raise malformed("fentry/fexit should specify a function", f"{spec.provider}:FUNCTION")
        case (function,):
            return "*", function
        case ("bpf", *_):
            raise malformed("attaching to a BPF program is not supported yet")
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
    if not names.matcher(module)(_MODULE):
        raise unavailable(probe, "functions of modules are not supported yet", "try a kprobe instead")
    if names.is_wildcard(function):
        # The list leaves out what the kernel refuses to trace; BTF alone does not know.
        try:
            listed = facts.functions(_MODULE, function)
        except NotSupportedError as error:
            raise unavailable(probe, str(error), error.hint) from error
        found = [name for name in listed if facts.types().has_function(name)]
    else:
        found = [function] if facts.types().has_function(function) else []
    if found and not facts.has("fentry"):
        raise unavailable(
            probe,
            f"the kernel refuses programs at functions ({spec.provider} needs CONFIG_DYNAMIC_FTRACE_WITH_DIRECT_CALLS)",
            "try a tracepoint or rawtracepoint",
        )
    if not found:
        hint = None
        if not names.is_wildcard(function):
            hint = names.did_you_mean(function, facts.types().function_names())
        raise no_match(probe, "no such function in the kernel's BTF", hint)
    return [
        AttachPoint(spec.provider, canonical(spec.provider, (_MODULE, name)), name, TypedFunction(name))
        for name in found
    ]


def _plan(points: Sequence[AttachPoint], uses: frozenset[str], facts: Facts) -> Sequence[Plan]:
    """Return a program for each function: a program of this type belongs to one BTF id."""
    plans: list[Plan] = []
    for point in points:
        assert isinstance(point.data, TypedFunction)
        attach_id = facts.types().function_id(point.data.symbol)
        prototype = facts.types().function(point.data.symbol)
        assert attach_id is not None
        assert prototype is not None
        plans.append(Plan((point,), _context(point, attach_id, prototype, facts), AttachByType(), cookies=False))
    return plans


def _context(point: AttachPoint, attach_id: int, prototype: Prototype, facts: Facts) -> Context:
    """Return the context: a word for each argument, then (fexit) one for the result.

    A struct passed by value takes a word for each 8 bytes; it cannot be read, what follows it can.
    """
    at_return = point.provider == "fexit"
    arguments: list[Argument] = []
    slot = 0
    for index, (name, type_id) in enumerate(prototype.parameters):
        found = facts.types().of(type_id)
        if isinstance(found, Struct):
            slot += -(-found.size // 8)
            continue
        arguments.append(Argument(name or f"arg{index}", found, ContextLoad(8 * slot, 8)))
        slot += 1
    result = facts.types().of(prototype.result)
    has_result = at_return and result != VOID and not isinstance(result, Struct)
    features = {"args", "func", "stacks", "signal", "path", "socket_cookie"}
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
        btf_pointers=True,
        nmi=True,
        stack_skip=_MACHINERY_FRAMES,
    )


def _attach(plan: Plan, program: Program, pid: int | None) -> list[Link]:
    return [links.tracing(program)]


def _listing_of(provider: str, pattern: tuple[str, ...], facts: Facts, verbose: bool) -> Iterator[Listed]:
    module, function = module_and_name(pattern)
    if facts.btf() is None or not names.matcher(module)(_MODULE):
        return
    types = facts.types()
    for name in facts.functions(_MODULE, function):
        prototype = types.function(name)
        if prototype is None:
            continue
        parameters: list[tuple[str, str]] = []
        if verbose:
            parameters = [(types.spelling(type_id), own) for own, type_id in prototype.parameters]
            if provider == "fexit":
                parameters.append((types.spelling(prototype.result), "retval"))
        yield Listed(canonical(provider, (_MODULE, name)), tuple(parameters))


def _listing(pattern: tuple[str, ...], facts: Facts, verbose: bool) -> Iterator[Listed]:
    return _listing_of("fentry", pattern, facts, verbose)


def _return_listing(pattern: tuple[str, ...], facts: Facts, verbose: bool) -> Iterator[Listed]:
    return _listing_of("fexit", pattern, facts, verbose)


FENTRY = Provider(
    name="fentry",
    aliases=("f", "kfunc"),
    role=Role.EVENT,
    doc="Fires when a kernel function is entered, with its typed arguments.",
    syntax=("fentry:FUNCTION", "fentry:MODULE:FUNCTION"),
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
    syntax=("fexit:FUNCTION", "fexit:MODULE:FUNCTION"),
    needs=("CAP_PERFMON", "BTF", "function tracer"),
    check=_check,
    expand=_expand,
    plan=_plan,
    attach=_attach,
    listing=_return_listing,
)
