"""An image → maps and programs in the kernel; and the order in which programs are attached."""

from __future__ import annotations

import os
import resource
import struct
import time
from collections.abc import Mapping, Sequence

from invivo.errors import VerifierError
from invivo.image import Image, ProgramImage
from invivo.ir.layout import CONSTANTS_MAP, RING_MAP, SCOPE_MAP, LoadConstant, MapSpec, MapType
from invivo.ir.types import Clock
from invivo.kernel import cpus
from invivo.record import Record, replace
from invivo.runtime.clocks import tai_offset_ns, wall_offset_ns
from invivo.runtime.explain import explain
from invivo.runtime.seams import Closeable, Kernel, MapHandle, ProgramHandle
from invivo.target import ProgramType

PAGE_BYTES = 4096
# At a million records of 64 bytes a second this holds what comes in 130 ms.  Pages count for our
# memory budget (twice, since the ring is mapped twice) only once they were used.
DEFAULT_RING_PAGES = 2048


_NO_PROCESS = (1 << 64) - 1


class Loaded(Record):
    """``opened``: everything that must be closed, in the order it was opened."""

    maps: Mapping[str, MapHandle]
    programs: tuple[tuple[ProgramImage, ProgramHandle], ...]  # in the order of the script
    opened: list[Closeable]


class Descriptor:
    """A file descriptor as something that can be closed."""

    def __init__(self, fd: int) -> None:
        self.fd = fd

    def close(self) -> None:
        fd, self.fd = self.fd, -1
        if fd >= 0:
            os.close(fd)


def load(
    image: Image,
    kernel: Kernel,
    *,
    child_pid: int = 0,
    pid: int = 0,
    scope: tuple[int, ...] = (),
    cgroup: tuple[int, int] = (0, 0),
    self_pid: int = 0,
) -> Loaded:
    """Create the maps, write the constants, load the programs; on failure nothing stays.

    ``child_pid``: of -c; ``pid``: of -p; ``scope``: the thread groups that the scope map begins
    with; ``cgroup``: number and depth of the group whose processes count.  Raises `SyscallError`,
    `VerifierError` (with the source line).
    """
    opened: list[Closeable] = []
    values = {
        LoadConstant.CHILD_PID: child_pid,
        LoadConstant.SCOPE_PID: pid,
        LoadConstant.SCOPE_COMMAND: child_pid or _NO_PROCESS,
        LoadConstant.SCOPE_CGROUP: cgroup[0],
        LoadConstant.SCOPE_DEPTH: cgroup[1],
        LoadConstant.START_BOOT_NS: time.clock_gettime_ns(time.CLOCK_BOOTTIME),
        LoadConstant.SELF_PID: self_pid or os.getpid(),
        LoadConstant.TAI_OFFSET_NS: tai_offset_ns(),
        LoadConstant.WALL_OFFSET_NS: wall_offset_ns(Clock.BOOT),
    }
    try:
        maps: dict[str, MapHandle] = {}
        for spec in image.maps:
            created = maps[spec.name] = kernel.create_map(_completed(spec, image, values))
            opened.append(created)
            if spec.frozen:
                created.freeze()
        if SCOPE_MAP in maps:
            for tgid in scope:
                maps[SCOPE_MAP].update(struct.pack("<I", tgid), b"\1")
        btf = Descriptor(kernel.load_btf(image.btf) if image.btf else -1)
        opened.append(btf)
        programs: list[tuple[ProgramImage, ProgramHandle]] = []
        for program in sorted(image.programs, key=lambda program: program.order):
            programs.append((program, _load_program(kernel, program, btf.fd, image.license)))
            opened.append(programs[-1][1])
    except BaseException:
        close_all(opened)
        raise
    return Loaded(maps, tuple(programs), opened)


def close_all(opened: list[Closeable]) -> None:
    """Close in reverse order; what was closed is taken from the list."""
    while opened:
        opened.pop().close()


def _load_program(kernel: Kernel, program: ProgramImage, btf_fd: int, license_name: str) -> ProgramHandle:
    try:
        return kernel.load_program(program, btf_fd, license_name)
    except VerifierError as problem:
        raise explain(problem, program) from problem


def _completed(spec: MapSpec, image: Image, values: Mapping[LoadConstant, int]) -> MapSpec:
    """Return a map's specification with what is only known now: constants, and the ring's size."""
    if spec.name == CONSTANTS_MAP:
        cells = b"".join(struct.pack("<Q", values[constant] & (1 << 64) - 1) for constant in LoadConstant)
        return replace(spec, initial=(cells + spec.initial[len(cells) :])[: spec.value_size])
    if spec.name == RING_MAP and spec.type is MapType.RINGBUF:
        return replace(spec, max_entries=_ring_bytes(spec, image))
    return spec


def _ring_bytes(spec: MapSpec, image: Image) -> int:
    pages = image.layout.settings.ring_pages or max(DEFAULT_RING_PAGES, spec.max_entries // PAGE_BYTES)
    return _power_of_two(pages) * PAGE_BYTES


def most_memory(image: Image, possible_cpus: int) -> tuple[int, int]:
    """Return the bytes of the ring, and those that keys and values of all other maps take when these are full."""
    ring = others = 0
    for spec in image.maps:
        if spec.type is MapType.RINGBUF:
            ring += _ring_bytes(spec, image)
        else:
            cpus = possible_cpus if spec.type in _PER_CPU else 1
            others += spec.max_entries * (spec.key_size + spec.value_size * cpus)
    return ring, others


_PER_CPU = (MapType.PERCPU_HASH, MapType.PERCPU_ARRAY, MapType.LRU_PERCPU_HASH)


def _power_of_two(number: int) -> int:
    return 1 << (number - 1).bit_length()


# -- attaching ---------------------------------------------------------------------------------

# The kernel calls the programs of a function in the reverse order of their attaching: those are
# attached last one first, so that they run in the order of the script.  Tracepoints and timers
# are called in the order of their attaching.
_REVERSED = frozenset(
    {
        ProgramType.KPROBE,
        ProgramType.KPROBE_MULTI,
        ProgramType.KPROBE_SESSION,
        ProgramType.UPROBE_MULTI,
        ProgramType.UPROBE_SESSION,
        ProgramType.TRACING_FENTRY,
        ProgramType.TRACING_FEXIT,
        ProgramType.TRACING_ITER,
    }
)

_SPARE_FILES = 256


def in_attach_order(
    programs: Sequence[tuple[ProgramImage, ProgramHandle]],
) -> list[tuple[ProgramImage, ProgramHandle]]:
    """Return programs in the order they are attached: invivo's own, those in order, those in reverse."""
    own = [each for each in programs if each[0].order < 0]
    forward = [each for each in programs if each[0].order >= 0 and not _is_reversed(each[0])]
    backward = [each for each in programs if each[0].order >= 0 and _is_reversed(each[0])]
    return [*own, *forward, *reversed(backward)]


def _is_reversed(program: ProgramImage) -> bool:
    return program.plan.context.program in _REVERSED


def raise_file_limit(points: int) -> None:
    """Let this process have as many descriptors as the attach points may need, if it may."""
    if points < _SPARE_FILES:
        return
    needed = points * cpus.possible() + _SPARE_FILES
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft != resource.RLIM_INFINITY and soft < needed:
        limit = needed if hard == resource.RLIM_INFINITY else min(needed, hard)
        resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, limit), hard))
