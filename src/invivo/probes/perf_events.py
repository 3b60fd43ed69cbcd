"""What the probes on perf's software events have in common: their context and how they are attached."""

from __future__ import annotations

import errno
from collections.abc import Iterator, Sequence

from invivo.errors import SyscallError
from invivo.ir.types import VOID, Pointer, Type
from invivo.kernel import abi, cpus, links, perf
from invivo.kernel.links import Link
from invivo.kernel.programs import Program
from invivo.probes import names, x86_64
from invivo.probes.provider import Facts, Listed, malformed, parse_number, wrong_number
from invivo.record import Record
from invivo.target import AttachPoint, Context, NoSuchProbeError, Plan, ProbeSpec, ProgramType

# enum perf_sw_ids, include/uapi/linux/perf_event.h.
CPU_CLOCK = 0


class Sampling(Record):
    """An attach point's data: a counter that interrupts every ``period`` counts, or ``frequency``
    times a second (the other is 0)."""

    config: int  # PERF_COUNT_*
    period: int
    frequency: int
    every_cpu: bool = True
    kind: int = abi.TYPE_SOFTWARE


class Counter(Record):
    """Something that the kernel or the processor counts."""

    name: str
    alias: str
    config: int
    period: int  # counts from one interrupt to the next, if the script does not say


class OpenSampling(Record):
    """Attach description: open every point's counter."""


def count_of(spec: ProbeSpec, default: int) -> int:
    """Return the period of ``EVENT:COUNT``."""
    if len(spec.fields) < 2 or not spec.fields[1]:
        return default
    count = parse_number(spec.fields[1])
    if not count or count >= 1 << 63:
        raise malformed(f"{spec.provider} count should be a positive integer")
    return count


def counter_of(spec: ProbeSpec, counters: Sequence[Counter]) -> Counter | None:
    """Return the counter that a probe names, by its name or alias."""
    if not 1 <= len(spec.fields) <= 2:
        raise wrong_number(spec.provider, "1 or 2", len(spec.fields))
    event = spec.fields[0]
    return next((known for known in counters if event and event in (known.name, known.alias)), None)


def no_counter(spec: ProbeSpec, counters: Sequence[Counter]) -> NoSuchProbeError:
    """Return the error for a name that no counter has."""
    if names.is_wildcard(spec.fields[0]):
        return malformed(f"wildcards are not allowed for {spec.provider} probe type")
    hint = names.did_you_mean(spec.fields[0], [known.name for known in counters])
    return malformed(f"{spec.fields[0]} is not a {spec.provider} probe", hint)


def list_counters(provider: str, counters: Sequence[Counter], pattern: tuple[str, ...]) -> Iterator[Listed]:
    """Yield the counters that match a pattern, by all their names."""
    wanted, *counts = pattern
    if any(counts):
        return  # a count is given, which none of them has
    matches = names.matcher(wanted)
    known = [name for counter in counters for name in (counter.name, counter.alias) if name]
    yield from (Listed(f"{provider}:{name}:") for name in sorted(known) if matches(name))


def plans(
    provider: str, points: Sequence[AttachPoint], uses: frozenset[str], facts: Facts, *, scoped: bool
) -> Sequence[Plan]:
    """Return one program for all points: ``struct bpf_perf_event_data`` begins with the registers.

    Loads from it must be of 8 bytes (``pe_prog_is_valid_access``, kernel/trace/bpf_trace.c).
    """
    context = Context(
        provider,
        ProgramType.PERF_EVENT,
        0,
        scoped=scoped,
        features=frozenset({"ctx", "reg", "usermode", "stacks"} | ({"signal"} if scoped else set())),
        registers=x86_64.registers(),
        context_type=context_pointer("bpf_perf_event_data", facts) if "ctx" in uses else None,
        # The clocks interrupt whatever runs, other programs too.
        nmi=True,
    )
    return (Plan(tuple(points), context, OpenSampling(), cookies=True),)


def context_pointer(struct: str, facts: Facts) -> Type:
    """Return the type of ``ctx``: a pointer to a kernel struct, ``void *`` on a kernel without BTF."""
    found = facts.types().struct("struct", struct)
    return Pointer(found if found is not None else VOID)


def _open(sampling: Sampling, online: Sequence[int]) -> Iterator[int]:
    """Open a counter on each CPU; one that has gone offline meanwhile is left out, unless all have."""
    gone: SyscallError | None = None
    found = False
    for cpu in online:
        try:
            event = perf.open_counter(
                sampling.config, kind=sampling.kind, period=sampling.period, frequency=sampling.frequency, cpu=cpu
            )
        except SyscallError as error:
            if error.errno != errno.ENODEV:
                raise
            gone = error
            continue
        found = True
        yield event
    if gone is not None and not found:
        raise gone


def attach(plan: Plan, program: Program, pid: int | None) -> list[Link]:
    """Open the points' counters on the online CPUs and attach the program to each.

    ``pid`` is not handed to perf: a counter of a process counts for one of its threads only, so
    the program's own filter decides.  Raises `SyscallError`; then nothing stays attached.
    """
    online = cpus.online()
    attached: list[Link] = []
    try:
        for cookie, point in enumerate(plan.points):
            sampling = point.data
            assert isinstance(sampling, Sampling)
            for event in _open(sampling, online):
                attached.append(links.perf_event(program, event, cookie))
                if not sampling.every_cpu:
                    break
    except BaseException:
        for link in attached:
            link.close()
        raise
    return attached
