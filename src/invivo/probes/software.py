"""``software``: the kernel's own event counters, such as page faults and context switches."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Final

from invivo.probes import perf_events
from invivo.probes.perf_events import Counter, Sampling
from invivo.probes.provider import Facts, Listed, Provider, Role, canonical
from invivo.target import AttachPoint, Plan, ProbeSpec

# enum perf_sw_ids, include/uapi/linux/perf_event.h.
_COUNTERS: Final = (
    Counter("alignment-faults", "", 7, 1),
    Counter("bpf-output", "", 10, 1),
    Counter("context-switches", "cs", 3, 1000),
    Counter("cpu-clock", "cpu", 0, 1_000_000),
    Counter("cpu-migrations", "", 4, 1),
    Counter("dummy", "", 9, 1),
    Counter("emulation-faults", "", 8, 1),
    Counter("major-faults", "", 6, 1),
    Counter("minor-faults", "", 5, 100),
    Counter("page-faults", "faults", 2, 100),
    Counter("task-clock", "", 1, 1),
)


def _sampling(spec: ProbeSpec) -> Sampling:
    counter = perf_events.counter_of(spec, _COUNTERS)
    if counter is None:
        raise perf_events.no_counter(spec, _COUNTERS)
    return Sampling(counter.config, perf_events.count_of(spec, counter.period), 0)


def _check(spec: ProbeSpec) -> None:
    _sampling(spec)


def _expand(spec: ProbeSpec, facts: Facts) -> Sequence[AttachPoint]:
    return (AttachPoint("software", canonical("software", spec.fields), "", _sampling(spec)),)


def _plan(points: Sequence[AttachPoint], uses: frozenset[str], facts: Facts) -> Sequence[Plan]:
    return perf_events.plans("software", points, uses, facts, scoped=True)


def _listing(pattern: tuple[str, ...], facts: Facts, verbose: bool) -> Iterator[Listed]:
    return perf_events.list_counters("software", _COUNTERS, pattern)


SOFTWARE = Provider(
    name="software",
    aliases=("s",),
    role=Role.EVENT,
    doc="Fires each time one of the kernel's own counters has counted so many events.",
    syntax=("software:EVENT:", "software:EVENT:COUNT"),
    needs=("CAP_PERFMON",),
    check=_check,
    expand=_expand,
    plan=_plan,
    attach=perf_events.attach,
    listing=_listing,
)
