"""Probes: one module for each kind, one record for each name; here is the table of them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from importlib import import_module
from typing import Final

from invivo.kernel.links import Link
from invivo.kernel.programs import Program
from invivo.probes import names
from invivo.probes.provider import Facts, Listed, Provider, Role, malformed
from invivo.record import replace
from invivo.target import AttachPoint, NoSuchProbeError, Plan, ProbeSpec

__all__ = [
    "OF_RETURNS",
    "Facts",
    "Listed",
    "Provider",
    "Role",
    "attach",
    "check",
    "expand",
    "find",
    "pinned",
    "plan",
    "provider_of",
    "providers",
]

# Name, aliases, and the module that has the record, under the name in upper case: loaded when a probe is of its kind.
_ROWS: Final = (
    ("begin", "", "special"),
    ("end", "", "special"),
    ("self", "", "special"),
    ("test", "", "special"),
    ("bench", "", "special"),
    ("tracepoint", "t", "tracepoint"),
    ("rawtracepoint", "rt", "rawtracepoint"),
    ("uprobe", "u", "uprobe"),
    ("uretprobe", "ur", "uprobe"),
    ("usdt", "U", "usdt"),
    ("iter", "it", "iterator"),
    ("kprobe", "k", "kprobe"),
    ("kretprobe", "kr", "kprobe"),
    ("fentry", "f kfunc", "fentry"),
    ("fexit", "fr kretfunc", "fentry"),
    ("profile", "p", "timers"),
    ("interval", "i", "timers"),
    ("software", "s", "software"),
    ("hardware", "h", "hardware"),
    ("watchpoint", "w", "watchpoint"),
)

_MODULES: Final = {name: module for name, _, module in _ROWS}
# They are where the entries are, which is where a wildcard for a provider stays.
OF_RETURNS: Final = ("kretprobe", "uretprobe", "fexit")
_ALIASES: Final = {alias: name for name, aliases, _ in _ROWS for alias in aliases.split()}


def find(name: str) -> Provider | None:
    """Return the provider of a name, in any case, or of an alias, exactly as it is."""
    known = _ALIASES.get(name) or name.lower()
    return _load(known) if known in _MODULES else None


def providers() -> Iterator[Provider]:
    """Yield all providers, in the order in which they are listed."""
    return map(_load, _MODULES)


def _load(name: str) -> Provider:
    provider = getattr(import_module(f"invivo.probes.{_MODULES[name]}"), name.upper())
    assert isinstance(provider, Provider)
    return provider


def provider_of(point: AttachPoint) -> Provider:
    """Return the provider that an attach point came from."""
    return _load(point.provider)


def expand(spec: ProbeSpec, facts: Facts) -> Sequence[AttachPoint]:
    """Return the attach points that a probe and its wildcards mean, at least one.

    Raises `NoSuchProbeError`.
    """
    if names.is_wildcard(spec.provider):
        return _expand_providers(spec, facts)
    provider, own = _checked(spec)
    return provider.expand(own, facts)


def check(spec: ProbeSpec) -> None:
    """Raise `NoSuchProbeError` for a probe that is wrong whatever the machine has."""
    if not names.is_wildcard(spec.provider):
        _checked(spec)


def _checked(spec: ProbeSpec) -> tuple[Provider, ProbeSpec]:
    provider = find(spec.provider)
    if provider is None:
        raise _no_provider(spec)
    own = replace(spec, provider=provider.name)
    provider.check(own)
    return provider, own


def _expand_providers(spec: ProbeSpec, facts: Facts) -> Sequence[AttachPoint]:
    """Expand ``*:sched_*``: every provider that matches and can make sense of the rest."""
    matches = names.matcher(spec.provider)
    points: list[AttachPoint] = []
    for provider in providers():
        if provider.role is not Role.EVENT or provider.listing is None or not matches(provider.name):
            continue
        if provider.name in OF_RETURNS or (provider.user_space and facts.pid is None):
            continue
        own = replace(spec, provider=provider.name)
        try:
            provider.check(own)
            points += provider.expand(own, facts)
        except NoSuchProbeError:
            continue  # not every provider has such a thing
    if not points:
        raise NoSuchProbeError(f"No probe type matched for {spec.text}")
    return points


def _no_provider(spec: ProbeSpec) -> NoSuchProbeError:
    known = [*_MODULES, *_ALIASES]
    return malformed(f"Invalid provider: '{spec.provider}'", names.did_you_mean(spec.provider.lower(), known))


def plan(points: Sequence[AttachPoint], uses: frozenset[str], facts: Facts) -> Sequence[Plan]:
    """Return the programs that serve the points of one probe clause, in the points' order of providers."""
    by_provider: dict[str, list[AttachPoint]] = {}
    for point in points:
        by_provider.setdefault(point.provider, []).append(point)
    return [made for name, own in by_provider.items() for made in _load(name).plan(own, uses, facts)]


def pinned(plan: Plan) -> str:
    """Return the path to which the program of a plan is pinned, empty if it is not."""
    if plan.context.provider != "iter":
        return ""
    module = import_module("invivo.probes.iterator")
    path = module.pinned(plan)
    assert isinstance(path, str)
    return path


def attach(plan: Plan, program: Program, pid: int | None) -> list[Link]:
    """Attach a loaded program to all points of its plan; the program is then live.

    ``pid``: only this process is of interest, where the kernel can say so more cheaply than the
    program.  Raises `SyscallError` or `NotSupportedError`; then nothing stays attached.
    """
    return provider_of(plan.points[0]).attach(plan, program, pid)
