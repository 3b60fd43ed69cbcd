"""``watchpoint``: fires when memory at an address is read, written or executed, by the processor's debug registers."""

from __future__ import annotations

import errno
import os
from collections.abc import Sequence
from typing import Final

from invivo.errors import SyscallError
from invivo.kernel import cpus, links, perf
from invivo.kernel.links import Link
from invivo.kernel.programs import Program
from invivo.probes import perf_events
from invivo.probes.provider import Facts, Provider, Role, canonical, malformed, parse_number, wrong_number
from invivo.record import Record, replace
from invivo.target import AttachPoint, Plan, ProbeSpec

# HW_BREAKPOINT_*, include/uapi/linux/hw_breakpoint.h. x86 has no registers that watch reads alone.
_MODES: Final = {"rw": 1 | 2, "w": 2, "x": 4}
_LENGTHS: Final = (1, 2, 4, 8)
_CODE_LENGTH: Final = 8  # what the kernel wants for the execution of an address: sizeof(long)


class Watched(Record):
    """An attach point's data."""

    address: int
    length: int
    access: int


class Watch(Record):
    """Attach description: a breakpoint for each thread or CPU."""


def _watched(spec: ProbeSpec) -> Watched:
    if len(spec.fields) != 3:
        raise wrong_number("watchpoint", "3", len(spec.fields))
    address, length = parse_number(spec.fields[0]), parse_number(spec.fields[1])
    if address is None:
        raise malformed(f"Invalid address: {spec.fields[0]}", "watchpoint:ADDRESS:LENGTH:MODE")
    if not address:
        raise malformed("watchpoint must be attached to a non-zero address")
    if length not in _LENGTHS:
        raise malformed("watchpoint length must be one of (1,2,4,8)")
    mode = spec.fields[2]
    if len(set(mode)) != len(mode):
        raise malformed("watchpoint modes may not be duplicated")
    sorted_mode = "".join(sorted(mode))
    if sorted_mode not in _MODES:
        raise malformed(f"invalid watchpoint mode: {mode}", "supported modes: rw,w,x")
    access = _MODES[sorted_mode]
    return Watched(address, _CODE_LENGTH if sorted_mode == "x" else length, access)


def _check(spec: ProbeSpec) -> None:
    _watched(spec)


def _expand(spec: ProbeSpec, facts: Facts) -> Sequence[AttachPoint]:
    return (AttachPoint("watchpoint", canonical("watchpoint", spec.fields), "", _watched(spec)),)


def _plan(points: Sequence[AttachPoint], uses: frozenset[str], facts: Facts) -> Sequence[Plan]:
    return [replace(plan, attach=Watch()) for plan in perf_events.plans("watchpoint", points, uses, facts, scoped=True)]


def _attach(plan: Plan, program: Program, pid: int | None) -> list[Link]:
    """Watch all threads of the process, and those that they create; without one, every CPU.

    Raises `SyscallError`; then nothing stays attached.
    """
    places = [(-1, cpu) for cpu in cpus.online()] if pid is None else [(thread, -1) for thread in _threads(pid)]
    attached: list[Link] = []
    try:
        for cookie, point in enumerate(plan.points):
            watched = point.data
            assert isinstance(watched, Watched)
            for thread, cpu in places:
                event = _open(watched, thread, cpu)
                attached.append(links.WatchLink(links.perf_event(program, event, cookie), watched.address))
    except BaseException:
        for link in attached:
            link.close()
        raise
    return attached


def _open(watched: Watched, thread: int, cpu: int) -> int:
    try:
        return perf.open_breakpoint(watched.address, watched.length, watched.access, pid=thread, cpu=cpu)
    except SyscallError as error:
        hint = _REFUSALS.get(error.errno)
        if hint is None:
            raise
        what = f"watch {watched.length} bytes at {watched.address:#x}"
        raise SyscallError(what, error.errno, hint) from error


# What arch/x86/kernel/hw_breakpoint.c and kernel/events/hw_breakpoint.c answer.
_REFUSALS: Final = {
    errno.EINVAL: "the address has to be a multiple of the length",
    errno.ENOSPC: "the processor can watch 4 places at once, and they are taken",
}


def _threads(pid: int) -> list[int]:
    try:
        return sorted(int(name) for name in os.listdir(f"/proc/{pid}/task"))
    except OSError:
        return [pid]


WATCHPOINT = Provider(
    name="watchpoint",
    aliases=("w",),
    role=Role.WATCH,
    doc="Fires when memory at an address is written (`w`), read or written (`rw`), or executed (`x`).",
    syntax=("watchpoint:ADDRESS:LENGTH:MODE",),
    needs=("CAP_PERFMON",),
    check=_check,
    expand=_expand,
    plan=_plan,
    attach=_attach,
)
