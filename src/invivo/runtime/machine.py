"""The running kernel, as the session uses it: `runtime.seams.Kernel` over the kernel and probes rooms."""

from __future__ import annotations

from collections.abc import Sequence

from invivo import probes
from invivo.image import ProgramImage
from invivo.ir.layout import MapSpec
from invivo.kernel import cpus, processes, programs
from invivo.kernel.links import IteratorLink, WatchLink
from invivo.kernel.maps import Map
from invivo.kernel.programs import Program
from invivo.kernel.ringbuf import Ring
from invivo.probes.provider import Role
from invivo.runtime.load import Descriptor
from invivo.runtime.seams import Closeable, MappingRecords, ProgramHandle
from invivo.target import Plan


class RunningKernel:
    """Loads into and attaches to the kernel that runs this process."""

    def __init__(self, log_level: int = 0) -> None:
        """``log_level``: of the verifier, see `kernel.programs.load_program`."""
        self._maps: dict[str, Map] = {}
        self._log_level = log_level
        self._watches: list[WatchLink] = []

    @property
    def possible_cpus(self) -> int:
        return cpus.possible()

    def initial_pids(self, pids: Sequence[int]) -> list[int]:
        return processes.initial_pids(pids)

    def create_map(self, spec: MapSpec) -> Map:
        created = self._maps[spec.name] = Map.create(spec)
        return created

    def open_ring(self, ring: str, wake: str | None, stride: int) -> Ring:
        return Ring(self._maps[ring], None if wake is None else self._maps[wake], stride)

    def load_btf(self, data: bytes) -> int:
        return programs.load_btf(data)

    def load_program(self, image: ProgramImage, btf_fd: int, license_name: str) -> Program:
        return programs.load_program(image, self._maps, btf_fd, license_name, self._log_level)

    def role(self, plan: Plan) -> Role:
        return probes.provider_of(plan.points[0]).role

    def pinned(self, plan: Plan) -> str:
        return probes.pinned(plan)

    def count_runs(self) -> Closeable:
        return Descriptor(programs.enable_statistics())

    def watch_mappings(self, pids: Sequence[int], *, everything: bool) -> MappingRecords | None:
        from invivo.runtime.mappings import watch

        return watch(pids, everything=everything)

    def walk(self, link: Closeable) -> None:
        assert isinstance(link, IteratorLink)
        link.read()

    def attach(self, plan: Plan, program: ProgramHandle, pid: int | None) -> Sequence[Closeable]:
        assert isinstance(program, Program)
        attached = probes.attach(plan, program, pid)
        self._watches += [link for link in attached if isinstance(link, WatchLink)]
        return attached

    def unwatch(self, address: int) -> None:
        for link in self._watches:
            if link.address == address:
                link.close()
