"""What the runtime needs of a kernel: protocols that `runtime.machine` fulfils, and a test's fakes."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Protocol

from invivo.image import ProgramImage
from invivo.ir.layout import MapSpec
from invivo.probes.provider import Role
from invivo.record import Record
from invivo.target import Plan


class Closeable(Protocol):
    def close(self) -> None: ...


class EntriesRead(Protocol):
    """What is in a map; see `kernel.maps.Entries`."""

    key_size: int
    value_size: int
    all_keys: bytearray
    all_values: bytearray

    def each_key(self, used_bytes: int = 0) -> list[bytes]: ...

    def __len__(self) -> int: ...

    def __iter__(self) -> Iterator[tuple[bytes, bytes]]: ...


class MapHandle(Closeable, Protocol):
    """A map of the kernel; see `kernel.maps.Map`."""

    @property
    def fd(self) -> int: ...

    def update(self, key: bytes, value: bytes, flags: int = 0) -> None: ...

    def lookup(self, key: bytes) -> bytes | None: ...

    def delete(self, key: bytes) -> bool: ...

    def read_all(self) -> EntriesRead: ...

    def take_all(self) -> EntriesRead: ...

    def clear(self) -> None: ...

    def memory(self) -> memoryview: ...

    def freeze(self) -> None: ...


class ProgramHandle(Closeable, Protocol):
    @property
    def log(self) -> str: ...

    def run(self, context: bytes = b"") -> int: ...

    def run_count(self) -> int: ...

    def run_time_ns(self) -> int: ...


class WindowReader(Protocol):
    """What windows of records are read from: the ring, or copies of what was in it first."""

    def window(self, limit_bytes: int = 1 << 22) -> memoryview: ...

    def release(self, size_bytes: int) -> None: ...

    def pending_bytes(self) -> int: ...


class RingHandle(WindowReader, Closeable, Protocol):
    """The consumer's side of the ring; see `kernel.ringbuf.Ring`."""

    @property
    def fd(self) -> int: ...

    @property
    def size_bytes(self) -> int: ...

    def arm(self) -> bool: ...

    def disarm(self) -> None: ...


class MappingRecords(Closeable, Protocol):
    """What processes map, fork and execute, as it happens; see `kernel.task_events.TaskEvents`."""

    @property
    def lost(self) -> int: ...

    def read(self) -> Sequence[Record]: ...


class StackTables(Closeable, Protocol):
    """Tables for programs that walk user stacks; see `runtime.unwinding.following.Unwinder`."""

    def expect(self, tgid: int, path: str) -> None: ...

    def follow(self, tgid: int) -> None: ...

    def start(self) -> None: ...


class Kernel(Protocol):
    """Loads and attaches; keeps the maps that it made, by name, until they are closed by the caller."""

    @property
    def possible_cpus(self) -> int: ...

    def initial_pids(self, pids: Sequence[int]) -> list[int]:
        """What processes of this PID namespace are called by programs; the living ones."""
        ...

    def create_map(self, spec: MapSpec) -> MapHandle: ...

    def open_ring(self, ring: str, wake: str | None, stride: int) -> RingHandle: ...

    def load_btf(self, data: bytes) -> int: ...

    def load_program(self, image: ProgramImage, btf_fd: int, license_name: str) -> ProgramHandle: ...

    def role(self, plan: Plan) -> Role: ...

    def pinned(self, plan: Plan) -> str:
        """The path to which a plan's program is pinned; empty for most."""
        ...

    def unwatch(self, address: int) -> None:
        """Detach the watchpoints at an address."""
        ...

    def count_runs(self) -> Closeable:
        """Let the kernel count and time the runs of programs until what is returned is closed."""
        ...

    def watch_mappings(self, pids: Sequence[int], *, everything: bool) -> MappingRecords | None:
        """Watch what processes and their descendants map from now on, or all processes.

        None if the machine refuses: mappings are then read from time to time.
        """
        ...

    def walk(self, link: Closeable) -> None:
        """Run an attached iterator's program over all its objects."""

    def attach(self, plan: Plan, program: ProgramHandle, pid: int | None) -> Sequence[Closeable]: ...
