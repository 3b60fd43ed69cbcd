"""``uprobe`` and ``uretprobe``: entry and return of functions in executables and libraries."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from invivo.errors import BadFileError
from invivo.formats.elf import Elf
from invivo.ir.types import UINT64
from invivo.probes import binaries, names, x86_64
from invivo.probes.perf_events import context_pointer
from invivo.probes.provider import (
    Facts,
    Listed,
    Provider,
    Role,
    canonical,
    malformed,
    parse_number,
    unavailable,
    wrong_number,
)
from invivo.probes.user_code import OneByOne, Together, UserPlace, attach
from invivo.record import Record
from invivo.target import Argument, AttachPoint, Context, Plan, ProbeSpec, ProgramType


class _Location(Record):
    """The last part of an attach point: a function and an offset in it, or an address."""

    function: str
    offset: int
    address: int | None = None


def _location(provider: str, text: str) -> _Location:
    if not text:
        raise malformed(f"{provider} should be attached to a function and/or address")
    if text[0].isdigit():
        address = parse_number(text)
        if address is None:
            raise malformed(f"Invalid address: {text}")
        if provider == "uretprobe":
            raise malformed("uretprobes cannot be attached at an address")
        return _Location("", 0, address)
    function, *offsets = text.split("+")
    if len(offsets) > 1:
        raise malformed("Cannot take more than one offset")
    if not offsets:
        return _Location(function, 0)
    offset = parse_number(offsets[0])
    if offset is None:
        raise malformed(f"Invalid offset: {offsets[0]}")
    if provider == "uretprobe":
        raise malformed("uretprobes cannot be attached at function offset")
    if names.is_wildcard(function):
        raise malformed("Cannot use wildcards with an offset")
    return _Location(function, offset)


def _check(spec: ProbeSpec) -> None:
    provider, fields = spec.provider, spec.fields
    target, *rest = fields or ("",)
    if not target:
        raise malformed(f"{provider} should have a target", f"{provider}:FILE:FUNCTION")
    if len(fields) > 3 and "@" not in target:
        raise wrong_number(provider, "2 or 3", len(fields))
    if "@" in target and rest and rest[-1].isdigit():
        raise malformed("attaching to a source line is not supported yet")
    if len(fields) == 3:
        if fields[1] != "cpp":
            raise malformed(f"{provider} language must be cpp, found '{fields[1]}'")
        raise malformed("attaching to a C++ signature is not supported yet", "use the mangled name")
    location = _location(provider, rest[-1] if rest else target)
    if rest and location.address is not None and names.is_wildcard(target):
        raise malformed("Cannot use wildcards with absolute address")


def _expand(spec: ProbeSpec, facts: Facts) -> Sequence[AttachPoint]:
    provider = spec.provider
    probe = canonical(provider, spec.fields)
    location = _location(provider, spec.fields[-1])
    if len(spec.fields) == 1:
        if facts.pid is None:
            raise wrong_number(provider, "2 or 3", 1)
        paths = [binaries.of_process(facts.pid)]
    else:
        target = spec.fields[0]
        paths = facts.binaries(target)
        if not paths:
            raise unavailable(probe, f"{provider} target file '{target}' does not exist or is not executable")
    points: list[AttachPoint] = []
    for path in paths:
        try:
            found = _places(facts.elf(path), location)
        except BadFileError as error:
            if len(paths) > 1:
                continue  # a pattern matched something that is no program
            raise unavailable(probe, str(error)) from error
        except OSError as error:
            raise unavailable(probe, f"{path}: {error.strerror}") from error
        for symbol, suffix, offset in found:
            name = canonical(provider, (path, suffix))
            points.append(AttachPoint(provider, name, symbol, UserPlace(path, symbol, offset)))
    if not points:
        raise _missing(probe, paths, location, facts)
    return points


def _places(elf: Elf, location: _Location) -> list[tuple[str, str, int]]:
    """Return symbol, what stands after the file in the full name, and offset in the file, of each match."""
    symbols = elf.symbols()
    if location.address is not None:
        offset = elf.file_offset(location.address)
        if offset is None:
            return []
        inside = symbols.at(location.address)
        return [(inside.name if inside is not None else "", f"0x{location.address:x}", offset)]
    matches = names.matcher(location.function)
    wildcard = names.is_wildcard(location.function)
    if wildcard:
        found = sorted({(s.name, s.address, s.size) for s in symbols.functions() if matches(s.name)})
    else:
        symbol = symbols.find(location.function)
        known = symbol is not None and symbol.is_function
        found = [(symbol.name, symbol.address, symbol.size)] if symbol is not None and known else []
    places: list[tuple[str, str, int]] = []
    for name, address, size in found:
        if location.offset and location.offset >= size:
            raise malformed(f"Offset outside the function bounds ('{name}' size is {size})")
        offset = elf.file_offset(address + location.offset)
        if offset is not None:
            suffix = f"{name}+{location.offset}" if location.offset else name
            places.append((name, suffix, offset))
    return places


def _missing(probe: str, paths: Sequence[str], location: _Location, facts: Facts) -> Exception:
    where = paths[0] if len(paths) == 1 else f"{len(paths)} files"
    if location.address is not None:
        return unavailable(probe, f"address 0x{location.address:x} is not in a segment of {where}")
    if names.is_wildcard(location.function):
        return unavailable(probe, f"no function of {where} matches")
    known: set[str] = set()
    for path in paths[:1]:
        known |= {symbol.name for symbol in facts.elf(path).symbols().functions()}
    reason = f"{where} has no function '{location.function}'"
    if not known:
        reason += " (it has no symbols at all)"
    return unavailable(probe, reason, names.did_you_mean(location.function, known))


def _plan(points: Sequence[AttachPoint], uses: frozenset[str], facts: Facts) -> Sequence[Plan]:
    provider = points[0].provider
    at_return = provider == "uretprobe"
    together = len(points) > 1 and facts.has("uprobe_multi")
    features = {"func", "reg", "ctx", "stacks", "signal", "uaddr"} | ({"retval"} if at_return else {"argN"})
    result = Argument("retval", UINT64, x86_64.register(x86_64.RETURN_REGISTER))
    context = Context(
        provider,
        ProgramType.UPROBE_MULTI if together else ProgramType.KPROBE,
        0,
        scoped=True,
        features=frozenset(features),
        numbered=() if at_return else x86_64.function_arguments(),
        retval=result if at_return else None,
        registers=x86_64.registers(),
        # At a return the register holds the address that is returned to.
        instruction_pointer=None if at_return else x86_64.register("ip"),
        context_type=context_pointer("pt_regs", facts) if "ctx" in uses else None,
        user_arguments=True,
    )
    attach = Together(at_return) if together else OneByOne(at_return)
    return (Plan(tuple(points), context, attach, cookies=True),)


def symbol_of(point: AttachPoint, symbol: str, facts: Facts) -> tuple[int, int] | None:
    """Return the distance from the probed instruction, and the size, of a symbol of the same file; None for others."""
    if not isinstance(point.data, UserPlace):
        return None
    elf = facts.elf(point.data.path)
    found, here = elf.symbols().find(symbol), elf.address(point.data.offset)
    return (found.address - here, found.size) if found is not None and here is not None else None


def _listing_of(provider: str, pattern: tuple[str, ...], facts: Facts) -> Iterator[Listed]:
    target, *rest = pattern
    matches = names.matcher(rest[0] if rest else "*")
    for path in facts.binaries(target):
        try:
            found = {symbol.name for symbol in facts.elf(path).symbols().functions()}
        except (BadFileError, OSError):
            continue
        for name in sorted(filter(matches, found)):
            yield Listed(canonical(provider, (path, name)))


def _listing(pattern: tuple[str, ...], facts: Facts, verbose: bool) -> Iterator[Listed]:
    return _listing_of("uprobe", pattern, facts)


def _return_listing(pattern: tuple[str, ...], facts: Facts, verbose: bool) -> Iterator[Listed]:
    return _listing_of("uretprobe", pattern, facts)


UPROBE = Provider(
    name="uprobe",
    aliases=("u",),
    role=Role.EVENT,
    doc="Fires when a function of an executable or library is entered, or an instruction is reached.",
    syntax=("uprobe:FILE:FUNCTION", "uprobe:FILE:FUNCTION+OFFSET", "uprobe:FILE:ADDRESS", "uprobe:FUNCTION (with -p)"),
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
    syntax=("uretprobe:FILE:FUNCTION", "uretprobe:FUNCTION (with -p)"),
    needs=("CAP_PERFMON", "uprobes"),
    check=_check,
    expand=_expand,
    plan=_plan,
    attach=attach,
    listing=_return_listing,
    user_space=True,
)
