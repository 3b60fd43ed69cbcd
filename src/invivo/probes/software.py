"""``software``: the kernel's own event counters, such as page faults and context switches."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Final

from invivo.probes import names, perf_events
from invivo.probes.perf_events import Sampling
from invivo.probes.provider import Facts, Listed, Provider, Role, canonical, malformed, parse_number, wrong_number
from invivo.record import Record
from invivo.target import AttachPoint, Plan, ProbeSpec


class _Counter(Record):
    name: str
    alias: str
    config: int  # enum perf_sw_ids, include/uapi/linux/perf_event.h
    period: int  # counts from one interrupt to the next, if the script does not say


_COUNTERS: Final = (
    _Counter("alignment-faults", "", 7, 1),
    _Counter("bpf-output", "", 10, 1),
    _Counter("context-switches", "cs", 3, 1000),
    _Counter("cpu-clock", "cpu", 0, 1_000_000),
    _Counter("cpu-migrations", "", 4, 1),
    _Counter("dummy", "", 9, 1),
    _Counter("emulation-faults", "", 8, 1),
    _Counter("major-faults", "", 6, 1),
    _Counter("minor-faults", "", 5, 100),
    _Counter("page-faults", "faults", 2, 100),
    _Counter("task-clock", "", 1, 1),
)


def _sampling(spec: ProbeSpec) -> Sampling:
    if not 1 <= len(spec.fields) <= 2:
        raise wrong_number("software", "1 or 2", len(spec.fields))
    event = spec.fields[0]
    counter = next((known for known in _COUNTERS if event and event in (known.name, known.alias)), None)
    if counter is None:
        hint = names.did_you_mean(event, [known.name for known in _COUNTERS])
        raise malformed(f"{event} is not a software probe", hint)
    period = counter.period
    if len(spec.fields) == 2 and spec.fields[1]:
        count = parse_number(spec.fields[1])
        if not count or count >= 1 << 63:
            raise malformed("software count should be a positive integer")
        period = count
    return Sampling(counter.config, period, 0)


def _check(spec: ProbeSpec) -> None:
    _sampling(spec)


def _expand(spec: ProbeSpec, facts: Facts) -> Sequence[AttachPoint]:
    return (AttachPoint("software", canonical("software", spec.fields), "", _sampling(spec)),)


def _plan(points: Sequence[AttachPoint], uses: frozenset[str], facts: Facts) -> Sequence[Plan]:
    return perf_events.plans("software", points, uses, facts, scoped=True)


def _listing(pattern: tuple[str, ...], facts: Facts, verbose: bool) -> Iterator[Listed]:
    matches = names.matcher(pattern[0])
    for counter in _COUNTERS:
        if matches(counter.name) or (counter.alias and matches(counter.alias)):
            yield Listed(f"software:{counter.name}:")


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
