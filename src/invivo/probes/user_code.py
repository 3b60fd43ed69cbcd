"""What the probes in user-space code have in common: a place in a file, its context, and how they are attached."""

from __future__ import annotations

import errno
from collections.abc import Sequence

from invivo.errors import InvivoError
from invivo.kernel import links, perf
from invivo.kernel.links import Link
from invivo.kernel.programs import Program
from invivo.probes.provider import Facts
from invivo.record import Record
from invivo.target import AttachPoint, Plan, ProgramType


class UserPlace(Record):
    """An attach point's data: an instruction of a file.

    ``semaphore`` is the offset in the file of a counter that the kernel keeps above zero while something
    is attached, 0 if there is none.
    """

    path: str
    symbol: str
    offset: int  # in the file, of the instruction
    semaphore: int = 0


class OneByOne(Record):
    """Attach description: a perf event for each point."""

    at_return: bool


class Together(Record):
    """Attach description: one uprobe_multi link for all points of a file (since Linux 6.6)."""

    at_return: bool


def can_be_together(points: Sequence[AttachPoint], facts: Facts) -> bool:
    """Whether one uprobe_multi link is right for them: it is let go of in a third of the time that a perf event takes.

    A single place in a process is a perf event: a link filters by process only since Linux 6.10.
    """
    return (len(points) > 1 or facts.pid is None) and facts.has("uprobe_multi")


def attach(plan: Plan, program: Program, pid: int | None) -> list[Link]:
    """Attach to each place; with ``pid`` only where that process has mapped the file.

    Raises `SyscallError`; then nothing stays attached.
    """
    attached: list[Link] = []
    try:
        if isinstance(plan.attach, Together):
            by_path: dict[str, list[tuple[int, int, int]]] = {}
            # A session has each place twice.
            once = [point for point in plan.points if point.provider == plan.context.provider]
            is_return = plan.attach.at_return and plan.context.program is ProgramType.UPROBE_MULTI
            for cookie, point in enumerate(once):
                place = place_of(point)
                by_path.setdefault(place.path, []).append((place.offset, cookie, place.semaphore))
            only = pid if pid is not None and _filters_processes(program) else 0
            for path, places in by_path.items():
                offsets, cookies, semaphores = zip(*places, strict=True)
                link = links.uprobe_multi(
                    program,
                    path,
                    offsets,
                    cookies=cookies,
                    ref_ctr_offsets=semaphores if any(semaphores) else (),
                    pid=only,
                    retprobe=is_return,
                )
                attached.append(link)
        else:
            assert isinstance(plan.attach, OneByOne)
            for cookie, point in enumerate(plan.points):
                place = place_of(point)
                event = perf.open_uprobe(
                    place.path,
                    place.offset,
                    pid=-1 if pid is None else pid,
                    retprobe=plan.attach.at_return,
                    ref_ctr_offset=place.semaphore,
                )
                attached.append(links.perf_event(program, event, cookie))
    except BaseException:
        for link in attached:
            link.close()
        raise
    return attached


def _filters_processes(program: Program) -> bool:
    """Whether the pid of a uprobe_multi link means a process; at first it meant a single thread.

    Since Linux commit 46ba0e49b642 ("bpf: fix multi-uprobe PID filtering logic") (in v6.10) a
    pid of -1 is refused as invalid; before, the path is looked at first.
    """
    try:
        links.uprobe_multi(program, "/", (0,), pid=0xFFFFFFFF).close()
    except InvivoError as error:
        return getattr(error, "errno", 0) == errno.EINVAL
    return False


def place_of(point: AttachPoint) -> UserPlace:
    assert isinstance(point.data, UserPlace)
    return point.data


def symbol_of(point: AttachPoint, symbol: str, facts: Facts) -> tuple[int, int] | None:
    """Return the distance from the probed instruction, and the size, of a symbol of the same file; None for others."""
    if not isinstance(point.data, UserPlace):
        return None
    elf = facts.elf(point.data.path)
    found, here = elf.symbols().find(symbol), elf.address(point.data.offset)
    return (found.address - here, found.size) if found is not None and here is not None else None
