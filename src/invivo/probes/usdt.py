"""``usdt``: the places that a program's authors have marked, with the values that they found worth telling."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from invivo.errors import BadFileError
from invivo.formats.elf import Elf
from invivo.formats.usdt import (
    ConstantOperand,
    MemoryOperand,
    RegisterOperand,
    UnknownOperand,
    UsdtArgument,
    UsdtProbe,
    read_probes,
)
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
    no_match,
    unavailable,
    wrong_number,
)
from invivo.probes.user_code import OneByOne, Together, UserPlace, attach, can_be_together, place_of
from invivo.target import (
    Access,
    AttachPoint,
    Classic,
    Context,
    ContextLoad,
    Known,
    OutOfReach,
    Plan,
    ProbeSpec,
    ProgramType,
    UserMemory,
)


class MarkedPlace(UserPlace):
    """An attach point's data: the place, and where its arguments are then."""

    arguments: tuple[Access, ...] = ()


def _check(spec: ProbeSpec) -> None:
    if not 1 <= len(spec.fields) <= 3:
        raise wrong_number("usdt", "2 or 3", len(spec.fields))
    if not spec.fields[-1]:
        raise malformed("usdt probe must have a target function or wildcard")


def _parts(fields: tuple[str, ...], facts: Facts) -> tuple[str, str, str]:
    """Return patterns for file, provider and name."""
    if len(fields) == 1:
        if facts.pid is None:
            raise wrong_number("usdt", "2 or 3", 1)
        return "*", "*", fields[0]
    provider = fields[1] if len(fields) == 3 else "*"
    return fields[0] or "*", provider, fields[-1]


def _expand(spec: ProbeSpec, facts: Facts) -> Sequence[AttachPoint]:
    probe = canonical("usdt", spec.fields)
    file, provider, name = _parts(spec.fields, facts)
    paths = facts.binaries(file)
    if not paths:
        said = f"usdt target file '{file}' does not exist or is not executable"
        raise unavailable(probe, said, classic=Classic(said), where="")
    if not names.is_wildcard(file):
        paths = paths[:1]
    points: list[AttachPoint] = []
    known: set[tuple[str, str]] = set()
    for path in paths:
        try:
            elf = facts.elf(path)
            found = read_probes(elf)
        except (BadFileError, OSError) as error:
            if len(paths) > 1:
                continue  # a pattern matched something that is no program
            raise unavailable(probe, _reason(path, error), where="") from error
        known |= {(each.provider, each.name) for each in found}
        points += _points(path, elf, found, provider, name)
    if not points:
        raise _missing(probe, paths, known, provider, name)
    return points


def _reason(path: str, error: BadFileError | OSError) -> str:
    return str(error) if isinstance(error, BadFileError) else f"{path}: {error.strerror}"


def _points(path: str, elf: Elf, found: Sequence[UsdtProbe], provider: str, name: str) -> Iterator[AttachPoint]:
    of_provider, named = names.matcher(provider), names.matcher(name)
    for probe in found:
        if not (of_provider(probe.provider) and named(probe.name)):
            continue
        offset = elf.file_offset(probe.address)
        if offset is None:
            continue
        semaphore = elf.file_offset(probe.semaphore) if probe.semaphore else 0
        arguments = tuple(_access(argument, probe, elf) for argument in probe.parse())
        place = MarkedPlace(path, probe.name, offset, semaphore or 0, arguments)
        yield AttachPoint("usdt", canonical("usdt", (path, probe.provider, probe.name)), "", place)


def _access(argument: UsdtArgument, probe: UsdtProbe, elf: Elf) -> Access:
    match argument.operand:
        case ConstantOperand(value):
            return Known(value)
        case RegisterOperand(name):
            register = x86_64.assembler_register(name)
            if register is not None:
                offset, width = register
                return ContextLoad(offset, min(width, argument.size), argument.signed)
        case MemoryOperand() as operand:
            found = _memory(operand, argument, probe, elf)
            if found is not None:
                return found
        case UnknownOperand():
            pass
    return OutOfReach(argument.text)


def _memory(operand: MemoryOperand, argument: UsdtArgument, probe: UsdtProbe, elf: Elf) -> UserMemory | None:
    offset = operand.offset
    base = x86_64.assembler_register(operand.base) if operand.base else None
    index = x86_64.assembler_register(operand.index) if operand.index else None
    if operand.symbol:
        symbol = elf.symbols().find(operand.symbol)
        if symbol is None or (operand.base and operand.base != "rip"):
            return None
        # Relative to the probe, whose address the instruction pointer has then.
        base = x86_64.assembler_register("rip")
        offset += symbol.address - probe.address
    if (operand.base and base is None) or (operand.index and index is None):
        return None
    return UserMemory(
        base[0] if base is not None else None,
        offset,
        index[0] if index is not None else None,
        operand.scale,
        argument.size,
        argument.signed,
    )


def _missing(probe: str, paths: Sequence[str], known: set[tuple[str, str]], provider: str, name: str) -> Exception:
    """Return the error that says which part of the name is wrong."""
    where = paths[0] if len(paths) == 1 else f"{len(paths)} files"
    if not known:
        return no_match(probe, f"{where} has no usdt probes", where="")
    providers = {own for own, _ in known}
    if not any(map(names.matcher(provider), providers)):
        hint = names.did_you_mean(provider, providers) or f"it has probes of {', '.join(sorted(providers))}"
        return no_match(probe, f"{where} has no usdt probes of '{provider}'", hint, where="")
    if names.is_wildcard(name):
        return no_match(probe, f"no usdt probe of {where} matches", where="")
    nearest = names.did_you_mean(name, {own for _, own in known})
    return no_match(probe, f"{where} has no usdt probe '{name}'", nearest, where="")


def _plan(points: Sequence[AttachPoint], uses: frozenset[str], facts: Facts) -> Sequence[Plan]:
    """One program for all points; where arguments are read, one for all points that have them in the same places."""
    groups = grouped(points, _arguments) if "argN" in uses else [tuple(points)]
    return [_plan_of(group, uses, facts) for group in groups]


def _arguments(point: AttachPoint) -> tuple[Access, ...]:
    place = place_of(point)
    return place.arguments if isinstance(place, MarkedPlace) else ()


def _plan_of(points: Sequence[AttachPoint], uses: frozenset[str], facts: Facts) -> Plan:
    together = can_be_together(points, facts)
    context = Context(
        "usdt",
        ProgramType.UPROBE_MULTI if together else ProgramType.KPROBE,
        0,
        scoped=True,
        features=frozenset({"argN", "reg", "ctx", "stacks", "signal", "uaddr"}),
        numbered=_arguments(points[0]),
        registers=x86_64.registers(),
        instruction_pointer=x86_64.register("ip"),
        context_type=context_pointer("pt_regs", facts) if "ctx" in uses else None,
        user_arguments=True,
    )
    return Plan(
        tuple(points), context, Together(at_return=False) if together else OneByOne(at_return=False), cookies=True
    )


def _listing(pattern: tuple[str, ...], facts: Facts, verbose: bool) -> Iterator[Listed]:
    file, provider, name = _parts(_whole(pattern, facts), facts)
    of_provider, named = names.matcher(provider), names.matcher(name)
    for path in facts.binaries(file):
        try:
            found = read_probes(facts.elf(path))
        except (BadFileError, OSError):
            continue
        shown: dict[str, Listed] = {}
        for probe in found:
            if of_provider(probe.provider) and named(probe.name):
                full = canonical("usdt", (path, probe.provider, probe.name))
                shown.setdefault(full, Listed(full, _parameters(probe) if verbose else ()))
        yield from (shown[each] for each in sorted(shown))


def _whole(pattern: tuple[str, ...], facts: Facts) -> tuple[str, ...]:
    """A single part is a name if there is a process, else a file."""
    if len(pattern) != 1:
        return pattern
    return ("*", *pattern) if facts.pid is not None else (*pattern, "*")


def _parameters(probe: UsdtProbe) -> tuple[tuple[str, str], ...]:
    return tuple(
        (f"{'' if argument.signed else 'u'}int{argument.size * 8}", f"arg{number}")
        for number, argument in enumerate(probe.parse())
    )


USDT = Provider(
    name="usdt",
    aliases=("U",),
    role=Role.EVENT,
    doc="Fires at a place that the authors of a program or library have marked, with its arguments.",
    syntax=("usdt:FILE:NAME", "usdt:FILE:PROVIDER:NAME", "usdt:NAME (with -p)"),
    needs=("CAP_PERFMON", "uprobes"),
    check=_check,
    expand=_expand,
    plan=_plan,
    attach=attach,
    listing=_listing,
    user_space=True,
)
