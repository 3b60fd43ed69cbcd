"""Probes: one module for each kind, one record for each name; here is the table of them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from invivo.kernel.links import Link
from invivo.kernel.programs import Program
from invivo.probes import names
from invivo.probes.fentry import FENTRY, FEXIT
from invivo.probes.kprobe import KPROBE, KRETPROBE
from invivo.probes.provider import Facts, Listed, Provider, Role, malformed
from invivo.probes.rawtracepoint import RAWTRACEPOINT
from invivo.probes.software import SOFTWARE
from invivo.probes.special import BEGIN, END
from invivo.probes.timers import INTERVAL, PROFILE
from invivo.probes.tracepoint import TRACEPOINT
from invivo.probes.uprobe import UPROBE, URETPROBE
from invivo.record import replace
from invivo.target import AttachPoint, NoSuchProbeError, Plan, ProbeSpec

__all__ = [
    "PROVIDERS",
    "Facts",
    "Listed",
    "Provider",
    "Role",
    "attach",
    "expand",
    "find",
    "plan",
    "provider_of",
]

PROVIDERS: Final = (
    BEGIN,
    END,
    TRACEPOINT,
    RAWTRACEPOINT,
    UPROBE,
    URETPROBE,
    KPROBE,
    KRETPROBE,
    FENTRY,
    FEXIT,
    PROFILE,
    INTERVAL,
    SOFTWARE,
)

# The language's other providers, with their aliases.
_NOT_YET: Final = (
    ("usdt", "U"),
    ("watchpoint", "w"),
    ("hardware", "h"),
    ("iter", "it"),
    ("self", ""),
    ("test", ""),
    ("bench", ""),
)

_BY_NAME: Final = {provider.name: provider for provider in PROVIDERS}
_BY_ALIAS: Final = {alias: provider for provider in PROVIDERS for alias in provider.aliases}


def find(name: str) -> Provider | None:
    """Return the provider of a name, in any case, or of an alias, exactly as it is."""
    return _BY_ALIAS.get(name) or _BY_NAME.get(name.lower())


def provider_of(point: AttachPoint) -> Provider:
    """Return the provider that an attach point came from."""
    return _BY_NAME[point.provider]


def expand(spec: ProbeSpec, facts: Facts) -> Sequence[AttachPoint]:
    """Return the attach points that a probe and its wildcards mean, at least one.

    Raises `NoSuchProbeError`.
    """
    if names.is_wildcard(spec.provider):
        return _expand_providers(spec, facts)
    provider = find(spec.provider)
    if provider is None:
        raise _no_provider(spec)
    own = replace(spec, provider=provider.name)
    provider.check(own)
    return provider.expand(own, facts)


def _expand_providers(spec: ProbeSpec, facts: Facts) -> Sequence[AttachPoint]:
    """Expand ``*:sched_*``: every provider that matches and can make sense of the rest."""
    matches = names.matcher(spec.provider)
    points: list[AttachPoint] = []
    for provider in PROVIDERS:
        if provider.role is not Role.EVENT or provider.listing is None or not matches(provider.name):
            continue
        if provider.user_space and facts.pid is None:
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
    for name, alias in _NOT_YET:
        if spec.provider.lower() == name or (alias and spec.provider == alias):
            return NoSuchProbeError(f"{name} probes are not supported yet")
    known = [provider.name for provider in PROVIDERS] + [alias for provider in PROVIDERS for alias in provider.aliases]
    return malformed(f"Invalid provider: '{spec.provider}'", names.did_you_mean(spec.provider.lower(), known))


def plan(points: Sequence[AttachPoint], uses: frozenset[str], facts: Facts) -> Sequence[Plan]:
    """Return the programs that serve the points of one probe clause, in the points' order of providers."""
    by_provider: dict[str, list[AttachPoint]] = {}
    for point in points:
        by_provider.setdefault(point.provider, []).append(point)
    return [made for name, own in by_provider.items() for made in _BY_NAME[name].plan(own, uses, facts)]


def attach(plan: Plan, program: Program, pid: int | None) -> list[Link]:
    """Attach a loaded program to all points of its plan; the program is then live.

    ``pid``: only this process is of interest, where the kernel can say so more cheaply than the
    program.  Raises `SyscallError` or `NotSupportedError`; then nothing stays attached.
    """
    return provider_of(plan.points[0]).attach(plan, program, pid)
