"""``uprobe`` and ``uretprobe``: entry and return of functions in executables and libraries."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from invivo.errors import BadFileError
from invivo.formats.elf import Elf
from invivo.formats.elf_symbols import readable
from invivo.ir.types import UINT64
from invivo.probes import binaries, names, x86_64
from invivo.probes.perf_events import context_pointer
from invivo.probes.provider import (
    Facts,
    Listed,
    Provider,
    Role,
    canonical,
    grouped,
    malformed,
    session_half,
    wrong_number,
)
from invivo.probes.user_code import OneByOne, Together, UserPlace, attach, can_be_together, place_of
from invivo.probes.user_places import (
    Finder,
    Found,
    Location,
    cpp_functions,
    line_places,
    name_fields,
    near_signatures,
    parse_line,
    parse_location,
)
from invivo.target import Argument, AttachPoint, Context, NoSuchProbeError, Plan, ProbeSpec, ProgramType


def _location(spec: ProbeSpec) -> tuple[str, Location]:
    """Return the target, "" for the process's own program, and the place in it. Raises `NoSuchProbeError`."""
    provider, fields = spec.provider, spec.fields
    target, *rest = fields or ("",)
    if not target:
        raise malformed(f"{provider} should have a target", f"{provider}:FILE:FUNCTION")
    program, at, source = target.rpartition("@")
    if at and rest and all(number.isdigit() for number in rest):
        return program, parse_line(provider, source, rest)
    if len(fields) > 3:
        hint = f'{provider}:{target}:cpp:"{":".join(rest[1:])}"' if rest[0] == "cpp" else None
        raise wrong_number(provider, "2 or 3", len(fields), hint)
    cpp = len(rest) == 2
    if cpp and rest[0] != "cpp":
        raise malformed(f"{provider} language must be cpp, found '{rest[0]}'")
    location = parse_location(provider, rest[-1] if rest else target, cpp=cpp)
    if rest and location.address is not None and names.is_wildcard(target):
        raise malformed("Cannot use wildcards with absolute address")
    return target if rest else "", location


def _check(spec: ProbeSpec) -> None:
    _location(spec)


def _expand(spec: ProbeSpec, facts: Facts) -> Sequence[AttachPoint]:
    provider = spec.provider
    target, location = _location(spec)
    paths = _paths(spec, target, facts)
    points: list[AttachPoint] = []
    for path in paths:
        try:
            found = _places(provider, facts.elf(path), location, facts)
        except BadFileError as error:
            if len(paths) > 1:
                continue  # a pattern matched something that is no program
            raise NoSuchProbeError(str(error)) from error
        except OSError as error:
            raise NoSuchProbeError(f"{path}: {error.strerror}") from error
        for place in found:
            shown = f"{path}@{location.file}" if location.file else path
            name = canonical(provider, (shown, *place.fields))
            points.append(AttachPoint(provider, name, place.symbol, UserPlace(path, place.symbol, place.offset)))
    if not points:
        raise _missing(provider, target, paths, location, facts)
    return points


def _paths(spec: ProbeSpec, target: str, facts: Facts) -> Sequence[str]:
    if not target:
        if facts.pid is None:
            raise wrong_number(spec.provider, "2 or 3", 1)
        return [binaries.of_process(facts.pid)]
    paths = facts.binaries(target)
    if not paths:
        raise NoSuchProbeError(f"{spec.provider} target file '{target}' does not exist or is not executable")
    if len(paths) > 1 and not names.is_wildcard(target):
        # As a shell, take the first.
        facts.remarks.append(f"attaching to {spec.provider} target file '{paths[0]}' but matched {len(paths)} binaries")
        return paths[:1]
    return paths


def _places(provider: str, elf: Elf, location: Location, facts: Facts) -> list[Found]:
    if location.file:
        return line_places(elf, location, facts.debug().lines(elf.path, location.file))
    found = Finder(provider, elf, unsafe=facts.unsafe, remark=facts.remarks.append).find(location)
    if found and provider == "uretprobe" and elf.is_go:
        raise malformed(
            f"{elf.path} is a Go program: it moves its stacks while functions run, and a uretprobe's return address"
            " there makes it crash",
            "probe the function's entry with a uprobe, or its RET instructions: uprobe:FILE:FUNCTION+OFFSET",
        )
    return found


def _missing(provider: str, target: str, paths: Sequence[str], location: Location, facts: Facts) -> NoSuchProbeError:
    where = target if names.is_wildcard(target) else paths[0]
    if location.address is not None:
        return NoSuchProbeError(f"{provider}:{where}: address 0x{location.address:x} is not in a segment of the file")
    if names.is_wildcard(location.function) or names.is_wildcard(target) or location.cpp:
        hint = None
        if location.cpp and not names.is_wildcard(location.function):
            hint = near_signatures(location.function, _known(paths[:1], facts))
        return NoSuchProbeError(f"No matches for {provider} {where}:{location.function}.", hint)
    known = _known(paths[:1], facts)
    hint = names.did_you_mean(location.function, known) if known else f"{where} has no symbols"
    if location.function in known or any(each.startswith(f"{location.function}(") for each in known):
        hint = f'functions of C++ are written {provider}:{where}:cpp:"{location.function}"'
    return NoSuchProbeError(f"Could not resolve symbol: {where}:{location.function}", hint)


def _known(paths: Sequence[str], facts: Facts) -> set[str]:
    return {readable(symbol.name) for path in paths for symbol in facts.elf(path).symbols().functions()}


def _plan(points: Sequence[AttachPoint], uses: frozenset[str], facts: Facts) -> Sequence[Plan]:
    """One program for all points; where ``args`` is used, one for all that have the same arguments."""
    if points[0].provider == "uretprobe" or "args" not in uses:
        return (_plan_of(points, None, uses, facts),)
    found = {point.name: _arguments(point, facts) for point in points}
    groups = grouped(points, lambda point: found[point.name])
    return [_plan_of(group, found[group[0].name], uses, facts) for group in groups]


def _arguments(point: AttachPoint, facts: Facts) -> tuple[Argument, ...] | None:
    """Return the typed arguments at a function's entry, None if no debug information tells them."""
    place = place_of(point)
    address = facts.elf(place.path).address(place.offset)
    if address is None:
        return None
    return facts.debug().arguments(place.path, address, clone="." in point.function)


def _plan_of(
    points: Sequence[AttachPoint], arguments: tuple[Argument, ...] | None, uses: frozenset[str], facts: Facts
) -> Plan:
    provider = points[0].provider
    at_return = provider == "uretprobe"
    together = can_be_together(points, facts)
    features = {"func", "reg", "ctx", "stacks", "signal", "uaddr"} | ({"retval"} if at_return else {"argN"})
    if arguments is not None:
        features.add("args")
    result = Argument("retval", UINT64, x86_64.register(x86_64.RETURN_REGISTER))
    context = Context(
        provider,
        ProgramType.UPROBE_MULTI if together else ProgramType.KPROBE,
        0,
        scoped=True,
        features=frozenset(features),
        arguments=arguments or (),
        numbered=() if at_return else x86_64.function_arguments(),
        retval=result if at_return else None,
        registers=x86_64.registers(),
        # At a return the register holds the address that is returned to.
        instruction_pointer=None if at_return else x86_64.register("ip"),
        context_type=context_pointer("pt_regs", facts) if "ctx" in uses else None,
        user_arguments=True,
    )
    attach = Together(at_return) if together else OneByOne(at_return)
    half = session_half(at_return, ProgramType.UPROBE_SESSION, facts) if together else None
    return Plan(tuple(points), context, attach, cookies=True, session=half)


def _listing_of(provider: str, pattern: tuple[str, ...], facts: Facts, verbose: bool) -> Iterator[Listed]:
    target, *rest = pattern
    paths = facts.binaries(target)
    if not rest and facts.pid is not None and not paths:
        paths, rest = [binaries.of_process(facts.pid)], [target]  # a function of the process
    for path in paths:
        try:
            found = _listed(facts.elf(path), rest)
        except (BadFileError, OSError):
            continue
        for name in sorted(found):
            parameters = facts.debug().parameters(path, found[name]) if verbose else ()
            yield Listed(canonical(provider, (path, *name)), parameters)


def _listed(elf: Elf, rest: Sequence[str]) -> dict[tuple[str, ...], int]:
    """Return what names each function that matches, after the file, and its address."""
    # C++ names have colons of their own.
    if len(rest) > 1 and rest[0] == "cpp":
        wanted = ":".join(rest[1:]).strip('"')
        return {fields: symbol.address for symbol, fields in cpp_functions(elf, wanted)}
    matches = names.matcher(":".join(rest) or "*")
    found: dict[tuple[str, ...], int] = {}
    for symbol in elf.symbols().functions():
        shown = readable(symbol.name)
        if matches(symbol.name) or matches(shown):
            found[name_fields(symbol.name, shown)] = symbol.address
    return found


def _listing(pattern: tuple[str, ...], facts: Facts, verbose: bool) -> Iterator[Listed]:
    return _listing_of("uprobe", pattern, facts, verbose)


def _return_listing(pattern: tuple[str, ...], facts: Facts, verbose: bool) -> Iterator[Listed]:
    return _listing_of("uretprobe", pattern, facts, False)


UPROBE = Provider(
    name="uprobe",
    aliases=("u",),
    role=Role.EVENT,
    doc="Fires when a function of an executable or library is entered, or an instruction is reached.",
    syntax=(
        "uprobe:FILE:FUNCTION",
        "uprobe:FILE:FUNCTION+OFFSET",
        'uprobe:FILE:cpp:"SIGNATURE"',
        "uprobe:FILE:ADDRESS",
        "uprobe:FILE@SOURCE:LINE",
        "uprobe:FUNCTION (with -p)",
    ),
    needs=("CAP_PERFMON", "uprobes"),
    check=_check,
    expand=_expand,
    plan=_plan,
    attach=attach,
    listing=_listing,
    user_space=True,
)

URETPROBE = Provider(
    name="uretprobe",
    aliases=("ur",),
    role=Role.EVENT,
    doc="Fires when a function of an executable or library returns.",
    syntax=("uretprobe:FILE:FUNCTION", 'uretprobe:FILE:cpp:"SIGNATURE"', "uretprobe:FUNCTION (with -p)"),
    needs=("CAP_PERFMON", "uprobes"),
    check=_check,
    expand=_expand,
    plan=_plan,
    attach=attach,
    listing=_return_listing,
    user_space=True,
)
