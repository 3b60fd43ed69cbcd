"""A runtime's surroundings without a kernel: names from a table, maps in memory, a ring of bytes."""

from __future__ import annotations

import os
import struct
from collections.abc import Callable, Iterable, Sequence

from invivo.events import Frame
from invivo.image import Image, ProgramImage
from invivo.ir.layout import ErrorSite, Layout, LossCounter, MapLayout, MapSpec, RecordLayout, Settings
from invivo.ir.types import Clock
from invivo.kernel.maps import Entries
from invivo.probes.provider import Role
from invivo.probes.special import RunBySession
from invivo.runtime.seams import Closeable, MappingRecords, ProgramHandle
from invivo.target import AttachPoint, Context, Plan, ProgramType

STRIDE = 64


class FakeNames:
    """Names made of the numbers themselves."""

    longest_string = 64

    def kernel_frames(self, addresses: Sequence[int]) -> tuple[Frame, ...]:
        return tuple(Frame(address, f"k{address:x}" if address else "", 0, "[kernel]") for address in addresses)

    def user_frames(self, tgid: int, addresses: Sequence[int]) -> tuple[Frame, ...]:
        return tuple(Frame(address, f"u{tgid}_{address:x}", 1, "/bin/x") for address in addresses)

    def build_id_frames(self, tgid: int, addresses: Sequence[int]) -> tuple[Frame, ...]:
        return tuple(Frame(address, "", 0, "abcd") for address in addresses)

    def interpreted_frames(self, interpreter: str, tgid: int, words: Sequence[int]) -> tuple[Frame, ...]:
        return tuple(Frame(word >> 16, f"p{word >> 16:x}", 1, "x.py", 0, bool(word & 1)) for word in words)

    def probe(self, index: int) -> str:
        return f"probe{index}"

    def username(self, uid: int) -> str:
        return f"user{uid}"

    def cgroup_path(self, cgroup: int, pattern: str) -> str:
        return f"{pattern}:/{cgroup}"

    def wall_time(self, time_ns: int, form: str, clock: Clock) -> str:
        return f"{form}@{time_ns}@{clock.value}"


class FakeMap:
    """A hash or a mapped array in memory. The descriptor is only a number."""

    def __init__(self, spec: MapSpec, journal: list[str]) -> None:
        self.spec = spec
        self.fd = -1
        self.entries: dict[bytes, bytes] = {}
        self.array = bytearray(max(8, -(-spec.value_size // 8) * 8))
        self.array[: len(spec.initial)] = spec.initial
        self._journal = journal

    def update(self, key: bytes, value: bytes, flags: int = 0) -> None:
        self.entries[key] = value

    def lookup(self, key: bytes) -> bytes | None:
        return self.entries.get(key)

    def delete(self, key: bytes) -> bool:
        return self.entries.pop(key, None) is not None

    def read_all(self) -> Entries:
        self._journal.append(f"read {self.spec.name}")
        return self._entries()

    def take_all(self) -> Entries:
        self._journal.append(f"take {self.spec.name}")
        found = self._entries()
        self.entries.clear()
        return found

    def _entries(self) -> Entries:
        key, value = next(iter(self.entries.items()), (bytes(8), bytes(8)))
        found = Entries(len(key), len(value))
        found.all_keys += b"".join(self.entries)
        found.all_values += b"".join(self.entries.values())
        return found

    def clear(self) -> None:
        self._journal.append(f"clear {self.spec.name}")
        self.entries.clear()

    def memory(self) -> memoryview:
        return memoryview(self.array)

    def freeze(self) -> None:
        self._journal.append(f"freeze {self.spec.name}")

    def close(self) -> None:
        self._journal.append(f"close {self.spec.name}")


class FakeRing:
    """Committed records, one after another."""

    size_bytes = 1 << 23

    def __init__(self) -> None:
        self.data = b""
        self.read_end, self.write_end = os.pipe()
        self.fd = self.read_end

    def put(self, record: bytes) -> None:
        self.data += record

    def window(self, limit_bytes: int = 1 << 22) -> memoryview:
        return memoryview(self.data[:limit_bytes])

    def release(self, size_bytes: int) -> None:
        self.data = self.data[size_bytes:]

    def pending_bytes(self) -> int:
        return len(self.data)

    def arm(self) -> bool:
        return not self.data

    def disarm(self) -> None:
        """Nothing to take back."""

    def close(self) -> None:
        os.close(self.read_end)
        os.close(self.write_end)


class FakeProgram:
    log = ""

    def __init__(self, name: str, journal: list[str], run: Callable[[], None]) -> None:
        self.name = name
        self._journal = journal
        self._run = run

    def run(self, context: bytes = b"") -> int:
        self._journal.append(f"run {self.name}")
        self._run()
        return 0

    def run_count(self) -> int:
        return sum(line == f"run {self.name}" for line in self._journal)

    def run_time_ns(self) -> int:
        return 1000 * self.run_count()

    def close(self) -> None:
        self._journal.append(f"unload {self.name}")


class FakeLink:
    def __init__(self, name: str, journal: list[str]) -> None:
        self.name = name
        self._journal = journal

    def close(self) -> None:
        self._journal.append(f"detach {self.name}")


class FakeKernel:
    """Keeps a journal of what is asked of it. ``scripts``: what a program does when it is run."""

    possible_cpus = 2

    def __init__(self, scripts: dict[str, Callable[[], None]] | None = None) -> None:
        self.journal: list[str] = []
        self.maps: dict[str, FakeMap] = {}
        self.ring = FakeRing()
        self.scripts = scripts or {}
        self.refused: dict[str, Exception] = {}

    def create_map(self, spec: MapSpec) -> FakeMap:
        self.journal.append(f"create {spec.name}")
        created = self.maps[spec.name] = FakeMap(spec, self.journal)
        return created

    def open_ring(self, ring: str, wake: str | None, stride: int) -> FakeRing:
        return self.ring

    def load_btf(self, data: bytes) -> int:
        return -1

    def load_program(self, image: ProgramImage, btf_fd: int, license_name: str) -> FakeProgram:
        if f"load {image.name}" in self.refused:
            raise self.refused[f"load {image.name}"]
        self.journal.append(f"load {image.name}")
        return FakeProgram(image.name, self.journal, self.scripts.get(image.name, lambda: None))

    def role(self, plan: Plan) -> Role:
        return Role(plan.context.provider)

    def attach(self, plan: Plan, program: ProgramHandle, pid: int | None) -> list[Closeable]:
        name = plan.points[0].name
        if f"attach {name}" in self.refused:
            raise self.refused[f"attach {name}"]
        self.journal.append(f"attach {name}")
        return [FakeLink(name, self.journal)]

    def pinned(self, plan: Plan) -> str:
        return ""

    def unwatch(self, address: int) -> None:
        self.journal.append(f"unwatch {address:#x}")

    def initial_pids(self, pids: Sequence[int]) -> list[int]:
        return list(pids)

    def count_runs(self) -> Closeable:
        self.journal.append("count runs")
        return FakeLink("counting", self.journal)

    def watch_mappings(self, pids: Sequence[int], *, everything: bool) -> MappingRecords | None:
        return None

    def walk(self, link: Closeable) -> None:
        assert isinstance(link, FakeLink)
        if f"walk {link.name}" in self.refused:
            raise self.refused[f"walk {link.name}"]
        self.journal.append(f"walk {link.name}")


def program(
    name: str, role: Role, order: int, kind: ProgramType = ProgramType.TRACEPOINT, points: int = 1
) -> ProgramImage:
    """A program without instructions, at ``points`` attach points called as it is."""
    context = Context(role.value, kind, 0, scoped=False, features=frozenset())
    attached = tuple(AttachPoint(role.value, name, "", RunBySession()) for _ in range(points))
    plan = Plan(attached, context, RunBySession(), cookies=False)
    return ProgramImage(name, b"", (), (), (), plan, order)


def layout(
    records: Iterable[RecordLayout] = (),
    maps: Iterable[MapLayout] = (),
    sites: Iterable[ErrorSite] = (),
    losses: Iterable[LossCounter] = (),
    settings: Settings | None = None,
    stride: int = STRIDE,
) -> Layout:
    return Layout(tuple(maps), tuple(records), stride, ("probe",), tuple(sites), tuple(losses), settings or Settings())


def image(programs: Iterable[ProgramImage], maps: Iterable[MapSpec], described: Layout) -> Image:
    return Image(tuple(programs), tuple(maps), b"", described)


def ring_record(
    identity: int, body: bytes = b"", *, flags: int = 0, strides: int = 1, discarded: bool = False
) -> bytes:
    """A committed record; the payload's first 8 bytes are its id and flags. Inner strides begin with a zero word."""
    length = strides * STRIDE - 8
    payload = struct.pack("<II", identity, flags) + body
    pieces = [struct.pack("<II", length | (discarded << 30), 0)]
    step = STRIDE - 8
    for index in range(strides):
        pieces.append(payload[index * step : (index + 1) * step].ljust(step, b"\0"))
        pieces.append(bytes(8))
    return b"".join(pieces[:-1])
