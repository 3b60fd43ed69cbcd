"""``profile`` and ``interval``: probes that fire as time passes, on every CPU or on one."""

from __future__ import annotations

from collections.abc import Sequence

from invivo.probes import perf_events
from invivo.probes.perf_events import CPU_CLOCK, Sampling
from invivo.probes.provider import Facts, Provider, Role, canonical, malformed, parse_number, wrong_number
from invivo.target import AttachPoint, Plan, ProbeSpec

_UNITS_NS = {"s": 1_000_000_000, "ms": 1_000_000, "us": 1_000}
_SUFFIXES_NS = _UNITS_NS | {"ns": 1, "m": 60_000_000_000, "h": 3_600_000_000_000, "d": 86_400_000_000_000}
_SHORTEST_NS = 1_000


def _rate(spec: ProbeSpec) -> tuple[int, int]:
    """Return period in nanoseconds and frequency in hertz, one of them 0."""
    provider, fields = spec.provider, spec.fields
    match fields:
        case () | ("",):
            raise malformed(f"{provider} probe must have unit of time", f"for example {provider}:s:1")
        case (duration,):
            period_ns = _duration_ns(duration)
            if period_ns is None:
                raise malformed(
                    f"{duration} is not an accepted unit of time", f"{provider}:UNIT:N or {provider}:N with s, ms, us"
                )
        case ("hz", count):
            return 0, _count(provider, "frequency", count)
        case (unit, count):
            if unit not in _UNITS_NS:
                raise malformed(f"{unit} is not an accepted unit of time", "the units are s, ms, us and hz")
            period_ns = _count(provider, "frequency", count) * _UNITS_NS[unit]
        case _:
            raise wrong_number(provider, "1 or 2", len(fields))
    if period_ns < _SHORTEST_NS:
        raise malformed(
            f"Invalid rate of {provider} probe. Minimum is {_SHORTEST_NS} or 1us. Found: {period_ns} nanoseconds"
        )
    if period_ns >= 1 << 63:
        raise malformed(f"{provider} period of {period_ns} nanoseconds is too long")
    return period_ns, 0


def _count(provider: str, what: str, text: str) -> int:
    value = parse_number(text)
    if not value or value >= 1 << 63:
        raise malformed(f"{provider} {what} should be a positive integer")
    return value


def _duration_ns(text: str) -> int | None:
    """Return the nanoseconds of ``100``, ``1s``, ``20ms``; None if it is no duration."""
    digits = text.rstrip("abcdefghijklmnopqrstuvwxyz")
    suffix = text[len(digits) :]
    value = parse_number(digits)
    if value is None or (suffix and suffix not in _SUFFIXES_NS):
        return None
    return value * (_SUFFIXES_NS[suffix] if suffix else 1)


def _check(spec: ProbeSpec) -> None:
    _rate(spec)


def _point(spec: ProbeSpec, *, every_cpu: bool) -> tuple[AttachPoint]:
    period_ns, frequency = _rate(spec)
    name = canonical(spec.provider, spec.fields)
    return (AttachPoint(spec.provider, name, "", Sampling(CPU_CLOCK, period_ns, frequency, every_cpu)),)


def _expand_profile(spec: ProbeSpec, facts: Facts) -> Sequence[AttachPoint]:
    return _point(spec, every_cpu=True)


def _expand_interval(spec: ProbeSpec, facts: Facts) -> Sequence[AttachPoint]:
    return _point(spec, every_cpu=False)


def _plan_profile(points: Sequence[AttachPoint], uses: frozenset[str], facts: Facts) -> Sequence[Plan]:
    return perf_events.plans("profile", points, uses, facts, scoped=True)


def _plan_interval(points: Sequence[AttachPoint], uses: frozenset[str], facts: Facts) -> Sequence[Plan]:
    return perf_events.plans("interval", points, uses, facts, scoped=False)


PROFILE = Provider(
    name="profile",
    aliases=("p",),
    role=Role.EVENT,
    doc="Fires on every CPU at a rate, to sample what runs there.",
    syntax=("profile:hz:N", "profile:s:N", "profile:ms:N", "profile:us:N", "profile:DURATION"),
    needs=("CAP_PERFMON",),
    check=_check,
    expand=_expand_profile,
    plan=_plan_profile,
    attach=perf_events.attach,
)

INTERVAL = Provider(
    name="interval",
    aliases=("i",),
    role=Role.TIMER,
    doc="Fires on one CPU at a rate, to print what was gathered so far.",
    syntax=("interval:hz:N", "interval:s:N", "interval:ms:N", "interval:us:N", "interval:DURATION"),
    needs=("CAP_PERFMON",),
    check=_check,
    expand=_expand_interval,
    plan=_plan_interval,
    attach=perf_events.attach,
)
