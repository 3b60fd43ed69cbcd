"""What the probes on perf's software events have in common: their context and how they are attached."""

from __future__ import annotations

from collections.abc import Sequence

from invivo.ir.types import VOID, Pointer, Type
from invivo.kernel import cpus, links, perf
from invivo.kernel.links import Link
from invivo.kernel.programs import Program
from invivo.probes import x86_64
from invivo.probes.provider import Facts
from invivo.record import Record
from invivo.target import AttachPoint, Context, Plan, ProgramType

# enum perf_sw_ids, include/uapi/linux/perf_event.h.
CPU_CLOCK = 0


class Sampling(Record):
    """An attach point's data: a counter that interrupts every ``period`` counts, or ``frequency``
    times a second (the other is 0)."""

    config: int  # PERF_COUNT_SW_*
    period: int
    frequency: int
    every_cpu: bool = True


class OpenSampling(Record):
    """Attach description: open every point's counter."""


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
            for cpu in online if sampling.every_cpu else online[:1]:
                event = perf.open_software(
                    sampling.config, period=sampling.period, frequency=sampling.frequency, cpu=cpu
                )
                attached.append(links.perf_event(program, event, cookie))
    except BaseException:
        for link in attached:
            link.close()
        raise
    return attached
