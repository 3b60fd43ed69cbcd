"""``hardware``: the processor's own counters: cycles, instructions, caches, and whatever its manual numbers."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Final

from invivo.kernel import abi
from invivo.probes import perf_events
from invivo.probes.perf_events import Counter, Sampling
from invivo.probes.provider import Facts, Listed, Provider, Role, canonical, unavailable
from invivo.target import AttachPoint, Plan, ProbeSpec

# enum perf_hw_id, include/uapi/linux/perf_event.h.
_COUNTERS: Final = (
    Counter("backend-stalls", "", 8, 1_000_000),
    Counter("branch-instructions", "branches", 4, 100_000),
    Counter("branch-misses", "", 5, 100_000),
    Counter("bus-cycles", "", 6, 100_000),
    Counter("cache-misses", "", 3, 1_000_000),
    Counter("cache-references", "", 2, 1_000_000),
    Counter("cpu-cycles", "cycles", 0, 1_000_000),
    Counter("frontend-stalls", "", 7, 1_000_000),
    Counter("instructions", "", 1, 1_000_000),
    Counter("ref-cycles", "", 9, 1_000_000),
)

# enum perf_hw_cache_id, _op_id and _op_result_id, with the names of perf(1): L1-dcache-load-misses, LLC-stores.
_CACHES: Final = ("L1-dcache", "L1-icache", "LLC", "dTLB", "iTLB", "branch", "node")
_OPERATIONS: Final = (("load", "loads"), ("store", "stores"), ("prefetch", "prefetches"))
_CACHE_PERIOD: Final = 1_000_000


def _cache_counters() -> Iterator[Counter]:
    for cache, name in enumerate(_CACHES):
        for operation, (one, many) in enumerate(_OPERATIONS):
            config = cache | operation << 8
            yield Counter(f"{name}-{many}", "", config, _CACHE_PERIOD)
            yield Counter(f"{name}-{one}-misses", "", config | 1 << 16, _CACHE_PERIOD)


def _sampling(spec: ProbeSpec) -> Sampling:
    counter = perf_events.counter_of(spec, _COUNTERS)
    if counter is not None:
        return Sampling(counter.config, perf_events.count_of(spec, counter.period), 0, kind=abi.TYPE_HARDWARE)
    of_caches = tuple(_cache_counters())
    counter = perf_events.counter_of(spec, of_caches)
    if counter is not None:
        return Sampling(counter.config, perf_events.count_of(spec, counter.period), 0, kind=abi.TYPE_HW_CACHE)
    raw = _raw(spec.fields[0])
    if raw is None:
        raise perf_events.no_counter(spec, (*_COUNTERS, *of_caches))
    return Sampling(raw, perf_events.count_of(spec, _CACHE_PERIOD), 0, kind=abi.TYPE_RAW)


def _raw(event: str) -> int | None:
    """Return the number of ``r1a8``: event and mask as the processor's manual numbers them, as perf(1) takes it."""
    try:
        return int(event[1:], 16) if event[:1] == "r" and event[1:].isalnum() else None
    except ValueError:
        return None


def _check(spec: ProbeSpec) -> None:
    _sampling(spec)


def _expand(spec: ProbeSpec, facts: Facts) -> Sequence[AttachPoint]:
    probe = canonical("hardware", spec.fields)
    if not facts.has("hardware"):
        reason = "this machine has no hardware counters (virtual machines often have none)"
        raise unavailable(probe, reason, "profile:hz:99 samples by time")
    return (AttachPoint("hardware", probe, "", _sampling(spec)),)


def _plan(points: Sequence[AttachPoint], uses: frozenset[str], facts: Facts) -> Sequence[Plan]:
    return perf_events.plans("hardware", points, uses, facts, scoped=True)


def _listing(pattern: tuple[str, ...], facts: Facts, verbose: bool) -> Iterator[Listed]:
    return perf_events.list_counters("hardware", (*_COUNTERS, *_cache_counters()), pattern)


HARDWARE = Provider(
    name="hardware",
    aliases=("h",),
    role=Role.EVENT,
    doc="Fires each time a counter of the processor has counted so many events.",
    syntax=("hardware:EVENT:", "hardware:EVENT:COUNT", "hardware:rNNNN:COUNT"),
    needs=("CAP_PERFMON", "hardware counters"),
    check=_check,
    expand=_expand,
    plan=_plan,
    attach=perf_events.attach,
    listing=_listing,
)
