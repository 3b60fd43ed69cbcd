"""BPF maps: memory that programs and this process share."""

from __future__ import annotations

import errno
import mmap
import os
import struct
from collections.abc import Iterator
from operator import itemgetter
from typing import Final

from invivo.errors import SyscallError
from invivo.ir.layout import MapSpec, MapType
from invivo.kernel import abi, cpus, syscalls

_CREATE: Final = struct.Struct("<IIIIIII16sIIIIIQ")  # map_type .. map_extra
_ELEMENT: Final = struct.Struct("<IxxxxQQQ")  # map_fd, key, value, flags
_BATCH: Final = struct.Struct("<QQQQIIQQ")  # in_batch, out_batch, keys, values, count, map_fd, flags
_BATCH_COUNT: Final = 32  # offset of count

_PER_CPU: Final = frozenset({MapType.PERCPU_HASH, MapType.PERCPU_ARRAY, MapType.LRU_PERCPU_HASH})
_ARRAYS: Final = frozenset({MapType.ARRAY, MapType.PERCPU_ARRAY})

# A batch's buffers: enough that the calls cost nothing against the copying, small against the memory budget.
_BATCH_BYTES: Final = 1 << 20


class Entries:
    """Keys and values of a map as the kernel copied them: one after another, each of one size."""

    def __init__(self, key_size: int, value_size: int) -> None:
        self.key_size = key_size
        self.value_size = value_size
        self.all_keys = bytearray()
        self.all_values = bytearray()
        self._each_key: list[bytes] = []

    def each_key(self, used_bytes: int = 0) -> list[bytes]:
        """Return the keys, an object for each, which is made once: many large ones take long.

        ``used_bytes``: so much of their beginnings, if the rest of all keys is zero; the same in each call (0: all).
        """
        if not self._each_key:
            used = used_bytes or self.key_size
            keys = struct.iter_unpack(f"{used}s{self.key_size - used}x", self.all_keys)
            self._each_key = list(map(itemgetter(0), keys))
        return self._each_key

    def __len__(self) -> int:
        return len(self.all_keys) // self.key_size

    def __iter__(self) -> Iterator[tuple[bytes, bytes]]:
        keys = struct.iter_unpack(f"{self.key_size}s", self.all_keys)
        values = struct.iter_unpack(f"{self.value_size}s", self.all_values)
        return zip(map(itemgetter(0), keys), map(itemgetter(0), values), strict=True)


class Map:
    """A map that is open in this process; it lives as long as a descriptor or a program refers to it."""

    def __init__(self, spec: MapSpec, fd: int) -> None:
        self.spec = spec
        self.fd = fd
        self.value_bytes = _value_bytes(spec)
        self._memory: mmap.mmap | None = None
        self._key = bytearray(max(spec.key_size, 1))
        self._value = bytearray(max(self.value_bytes, 1))
        self._attributes = bytearray(_ELEMENT.pack(fd, syscalls.address(self._key), syscalls.address(self._value), 0))

        # BPF_MAP_DELETE_ELEM refuses a value.
        self._deletion = bytearray(_ELEMENT.pack(fd, syscalls.address(self._key), 0, 0))

    @classmethod
    def create(cls, spec: MapSpec) -> Map:
        """Create a map and write its initial content.

        A ``frozen`` map is created read-only for programs; the caller calls `freeze` when it has
        written the load-time constants.  Raises `SyscallError`.
        """
        flags = spec.flags | (abi.F_RDONLY_PROG if spec.frozen else 0)
        attributes = bytearray(
            _CREATE.pack(
                spec.type.value,
                spec.key_size,
                spec.value_size,
                spec.max_entries,
                flags,
                0,
                0,
                object_name(spec.name),
                *(0,) * 6,
            )
        )
        created = cls(spec, syscalls.bpf(abi.MAP_CREATE, attributes, f"create map {spec.name}"))
        if spec.initial:
            try:
                created.update(bytes(4), spec.initial.ljust(spec.value_size, b"\0"))
            except BaseException:
                created.close()
                raise
        return created

    def update(self, key: bytes, value: bytes, flags: int = 0) -> None:
        """Set a key's value (BPF_MAP_UPDATE_ELEM); ``flags``: BPF_ANY, BPF_NOEXIST, BPF_EXIST.

        A per-CPU value is that of all possible CPUs, one after another, each rounded up to 8 bytes.
        Raises `SyscallError`: E2BIG if the map is full.
        """
        self._set_key(key)
        if len(value) != self.value_bytes:
            raise ValueError(f"map {self.spec.name}: value of {len(value)} bytes, expected {self.value_bytes}")
        self._value[:] = value
        struct.pack_into("<Q", self._attributes, 24, flags)
        try:
            syscalls.bpf(abi.MAP_UPDATE_ELEM, self._attributes, f"update map {self.spec.name}")
        finally:
            struct.pack_into("<Q", self._attributes, 24, 0)

    def lookup(self, key: bytes) -> bytes | None:
        """Return a key's value, None if there is no such key."""
        self._set_key(key)
        result = syscalls.try_bpf(abi.MAP_LOOKUP_ELEM, self._attributes)
        if result == -errno.ENOENT:
            return None
        self._check(result, "read")
        return bytes(self._value)

    def delete(self, key: bytes) -> bool:
        """Remove a key; return whether it was there."""
        self._set_key(key)
        result = syscalls.try_bpf(abi.MAP_DELETE_ELEM, self._deletion)
        if result == -errno.ENOENT:
            return False
        self._check(result, "delete from")
        return True

    def read_all(self) -> Entries:
        """Return all keys with their values, in the kernel's order (BPF_MAP_LOOKUP_BATCH).

        A per-CPU value is all possible CPUs' slots one after another, each rounded up to 8 bytes.
        Keys that programs insert or delete meanwhile may be missed.
        """
        return self._gathered(abi.MAP_LOOKUP_BATCH)

    def take_all(self) -> Entries:
        """Return and remove all entries of a hash; each is removed as it is read, so none gets lost.

        (BPF_MAP_LOOKUP_AND_DELETE_BATCH: under the lock of each bucket.)
        """
        return self._gathered(abi.MAP_LOOKUP_AND_DELETE_BATCH)

    def clear(self) -> None:
        """Remove all entries of a hash; set all values of an array to zero."""
        if self.spec.type not in _ARRAYS:
            for _ in Batches(self, abi.MAP_LOOKUP_AND_DELETE_BATCH):
                pass
            return
        if self.spec.flags & abi.F_MMAPABLE:
            memory = self.memory()
            memory[:] = bytes(len(memory))
            return
        for index in range(self.spec.max_entries):
            self.update(index.to_bytes(4, "little"), bytes(self.value_bytes))

    def memory(self) -> memoryview:
        """Return the values of an array that was created with BPF_F_MMAPABLE, as writable memory.

        Entry ``i`` begins at ``i`` times the value's size rounded up to 8.  The memory stays valid
        after `close`, as long as the view is referred to.
        """
        if self._memory is None:
            size = _rounded(self.spec.value_size, 8) * self.spec.max_entries
            try:
                self._memory = mmap.mmap(self.fd, _rounded(size, abi.PAGE_SIZE), mmap.MAP_SHARED)
            except OSError as error:
                code = error.errno or errno.EINVAL
                raise SyscallError(f"map the memory of map {self.spec.name}", code) from error
        size = _rounded(self.spec.value_size, 8) * self.spec.max_entries
        return memoryview(self._memory)[:size]

    def freeze(self) -> None:
        """Forbid further writes by this process (BPF_MAP_FREEZE): the verifier may rely on the content."""
        attributes = bytearray(struct.pack("<I", self.fd))
        syscalls.bpf(abi.MAP_FREEZE, attributes, f"freeze map {self.spec.name}")

    def close(self) -> None:
        """Close the descriptor; twice does no harm."""
        fd, self.fd = self.fd, -1
        if fd >= 0:
            self._memory = None
            # The number may soon be another file's.
            for attributes in (self._attributes, self._deletion):
                struct.pack_into("<i", attributes, 0, -1)
            os.close(fd)

    def _set_key(self, key: bytes) -> None:
        if len(key) != self.spec.key_size:
            raise ValueError(f"map {self.spec.name}: key of {len(key)} bytes, expected {self.spec.key_size}")
        self._key[:] = key

    def _check(self, result: int, verb: str) -> None:
        if result < 0:
            raise syscalls.bpf_error(f"{verb} map {self.spec.name}", -result)

    def _gathered(self, command: int) -> Entries:
        entries = Entries(self.spec.key_size, self.value_bytes)
        for keys, values in Batches(self, command):
            entries.all_keys += keys
            entries.all_values += values
        return entries


class Batches:
    """Iterator over a map's content: keys and values of as many entries as fit a buffer at a time.

    The views are valid until the next step.
    """

    def __init__(self, source: Map, command: int) -> None:
        self._map = source
        self._command = command
        entry = source.spec.key_size + source.value_bytes
        self._capacity = max(1, min(source.spec.max_entries, _BATCH_BYTES // entry))
        # The position is a u32 (a bucket's number, an array's index) in hashes and arrays alike.
        self._position = bytearray(max(4, source.spec.key_size))
        self._next = bytearray(len(self._position))
        self._started = False
        self._ended = False
        self._allocate()

    def __iter__(self) -> Batches:
        return self

    def __next__(self) -> tuple[memoryview, memoryview]:
        while not self._ended:
            count = self._step()
            if count:
                key_size, value_size = self._map.spec.key_size, self._map.value_bytes
                return memoryview(self._keys)[: count * key_size], memoryview(self._values)[: count * value_size]
        raise StopIteration

    def _allocate(self) -> None:
        self._keys = bytearray(self._capacity * self._map.spec.key_size)
        self._values = bytearray(self._capacity * self._map.value_bytes)

    def _step(self) -> int:
        attributes = bytearray(
            _BATCH.pack(
                syscalls.address(self._position) if self._started else 0,
                syscalls.address(self._next),
                syscalls.address(self._keys),
                syscalls.address(self._values),
                self._capacity,
                self._map.fd & 0xFFFFFFFF,
                0,
                0,
            )
        )
        result = syscalls.try_bpf(self._command, attributes)
        if result == -errno.ENOSPC:
            # A bucket has more entries than the buffer has places; nothing was copied or deleted.
            self._capacity *= 2
            self._allocate()
            return 0
        if result == -errno.ENOENT:
            self._ended = True
        elif result < 0:
            raise syscalls.bpf_error(f"read map {self._map.spec.name}", -result)
        self._position, self._next = self._next, self._position
        self._started = True
        count: int = struct.unpack_from("<I", attributes, _BATCH_COUNT)[0]
        return count


def object_name(name: str) -> bytes:
    """Return a name as the kernel accepts it: at most 15 characters of letters, digits, ``_`` and ``.``."""
    allowed = "".join(c if c.isascii() and (c.isalnum() or c in "_.") else "_" for c in name)
    return allowed[: abi.OBJ_NAME_LEN - 1].encode()


def _rounded(size: int, unit: int) -> int:
    return (size + unit - 1) // unit * unit


def _value_bytes(spec: MapSpec) -> int:
    if spec.type in _PER_CPU:
        return _rounded(spec.value_size, 8) * cpus.possible()
    return spec.value_size
