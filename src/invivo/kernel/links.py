"""Attaching programs. Each attachment is a descriptor: closing it detaches."""

from __future__ import annotations

import errno
import os
import struct
from collections.abc import Sequence
from typing import Final

from invivo.errors import NotSupportedError, SyscallError
from invivo.kernel import abi, syscalls
from invivo.kernel.programs import Program

_CREATE: Final = struct.Struct("<IIII")  # prog_fd, target_fd, attach_type, flags


class Link:
    """An attached program, with the events it is attached to."""

    def __init__(self, fd: int, *, events: Sequence[int] = ()) -> None:
        self.fd = fd
        self._events = list(events)

    def hand_over(self) -> list[int]:
        """Give up the events' descriptors, and the link's own with them, which the caller has read before."""
        self.fd, events, self._events = -1, self._events, []
        return events

    def close(self) -> None:
        """Detach; twice does no harm."""
        fd, self.fd = self.fd, -1
        if fd >= 0:
            os.close(fd)
        while self._events:
            os.close(self._events.pop())


class WatchLink(Link):
    """A program that is attached to a breakpoint at an address."""

    def __init__(self, link: Link, address: int) -> None:
        super().__init__(link.fd, events=link.hand_over())
        self.address = address


class IteratorLink(Link):
    """An iterator program that can be read, as often as wanted."""

    def read(self) -> bytes:
        """Run the program over all objects; return what it wrote."""
        attributes = bytearray(struct.pack("<II", self.fd, 0))
        fd = syscalls.bpf(abi.ITER_CREATE, attributes, "run an iterator")
        try:
            parts: list[bytes] = []
            while part := os.read(fd, 1 << 16):
                parts.append(part)
            return b"".join(parts)
        finally:
            os.close(fd)


def raw_tracepoint(program: Program, name: str | None, cookie: int = 0) -> Link:
    """Attach to a raw tracepoint; ``None`` for a TRACING program, which was loaded for one.

    A cookie needs Linux 6.10; without it `NotSupportedError`.
    """
    text = name.encode() + b"\0" if name is not None else b""
    attributes = struct.pack("<QIIQ", syscalls.address(text), program.fd, 0, cookie)
    if not cookie:
        # Kernels before 6.10 do not know the field.
        attributes = attributes[:16]
    try:
        fd = syscalls.bpf(
            abi.RAW_TRACEPOINT_OPEN, bytearray(attributes), f"attach {program.name} to raw tracepoint {name}"
        )
    except SyscallError as error:
        if cookie and error.errno == errno.EINVAL:
            raise NotSupportedError("attach cookie of a raw tracepoint", "6.10") from error
        raise
    return Link(fd)


def tracing(program: Program, cookie: int = 0) -> Link:
    """Attach a TRACING program (fentry, fexit) to what it was loaded for."""
    attributes = _CREATE.pack(program.fd, 0, program.attach_type, 0) + struct.pack("<IIQ", 0, 0, cookie)
    return Link(_create(attributes, f"attach {program.name}"))


def perf_event(program: Program, perf_fd: int, cookie: int = 0) -> Link:
    """Attach to an open event (of `kernel.perf`) and start it. Takes over ``perf_fd``, also on failure."""
    attributes = _CREATE.pack(program.fd, perf_fd, abi.PERF_EVENT, 0) + struct.pack("<Q", cookie)
    fd = -1
    try:
        fd = _create(attributes, f"attach {program.name} to an event")
        syscalls.ioctl(perf_fd, abi.PERF_EVENT_IOC_ENABLE, 0, f"start the event of {program.name}")
    except BaseException:
        if fd >= 0:
            os.close(fd)
        os.close(perf_fd)
        raise
    return Link(fd, events=(perf_fd,))


def uprobe_multi(
    program: Program,
    path: str,
    offsets: Sequence[int],
    *,
    cookies: Sequence[int] = (),
    ref_ctr_offsets: Sequence[int] = (),
    pid: int = 0,
    retprobe: bool = False,
) -> Link:
    """Attach to many file offsets of a binary with one link (Linux 6.6).

    A program that was loaded as UPROBE_SESSION (Linux 6.13) runs at entries and returns of functions.
    ``pid`` 0 is every process.  Before 6.10 a pid means that one thread, so the program has to
    filter as well.  Raises `NotSupportedError` on an older kernel.
    """
    name = os.fsencode(path) + b"\0"
    offset_array, counter_array, cookie_array = map(_u64_array, (offsets, ref_ctr_offsets, cookies))
    attributes = _CREATE.pack(program.fd, 0, program.attach_type, 0) + struct.pack(
        "<QQQQIIII",
        syscalls.address(name),
        syscalls.address(offset_array),
        syscalls.address(counter_array),
        syscalls.address(cookie_array),
        len(offsets),
        abi.F_UPROBE_MULTI_RETURN if retprobe else 0,
        pid,
        0,
    )
    return Link(_create(attributes, f"attach {program.name} to {len(offsets)} places of {path}"))


def kprobe_multi(
    program: Program, symbols: Sequence[str], *, cookies: Sequence[int] = (), retprobe: bool = False
) -> Link:
    """Attach to many kernel functions with one link (Linux 5.18, with CONFIG_FPROBE).

    A program that was loaded as KPROBE_SESSION (Linux 6.10) runs at their entries and their returns.
    The kernel wants cookies in the order of the symbols it is given.
    """
    names = [symbol.encode() + b"\0" for symbol in symbols]
    pointers = _u64_array([syscalls.address(name) for name in names])
    cookie_array = _u64_array(cookies)
    attributes = _CREATE.pack(program.fd, 0, program.attach_type, 0) + struct.pack(
        "<IIQQQ",
        abi.F_KPROBE_MULTI_RETURN if retprobe else 0,
        len(symbols),
        syscalls.address(pointers),
        0,
        syscalls.address(cookie_array),
    )
    return Link(_create(attributes, f"attach {program.name} to {len(symbols)} kernel functions"))


def iterator(program: Program, *, process: int = 0) -> IteratorLink:
    """Attach an iterator program; nothing runs before `IteratorLink.read`.

    ``process``: walk over the tasks of that process only (Linux 6.1).
    """
    which = struct.pack("<4I", 0, process, 0, 0) if process else b""  # union bpf_iter_link_info
    attributes = _CREATE.pack(program.fd, 0, abi.TRACE_ITER, 0)
    attributes += struct.pack("<QII", syscalls.address(which) if which else 0, len(which), 0)
    return IteratorLink(_create(attributes, f"attach iterator {program.name}"))


def pin(link: Link, path: str) -> None:
    """Give a link a name in a BPF file system: it stays when all its descriptors are closed. Raises `SyscallError`."""
    name = os.fsencode(path) + b"\0"
    attributes = bytearray(struct.pack("<QII", syscalls.address(name), link.fd, 0))
    syscalls.bpf(abi.OBJ_PIN, attributes, f"pin an iterator to {path}")


def _create(attributes: bytes, what: str) -> int:
    return syscalls.bpf(abi.LINK_CREATE, bytearray(attributes), what)


def _u64_array(values: Sequence[int]) -> bytes:
    return struct.pack(f"<{len(values)}Q", *values)
