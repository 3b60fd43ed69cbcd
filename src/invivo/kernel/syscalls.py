"""The one place where system calls that Python does not know are made.

Every failure is a `SyscallError` with what was attempted; refusals for lack of privilege are
`PermissionDeniedError` with a hint that names what is missing.
"""

from __future__ import annotations

import ctypes
import errno
from collections.abc import Callable
from contextvars import ContextVar
from typing import Final

from invivo.errors import NotSupportedError, PermissionDeniedError, SyscallError
from invivo.kernel import abi, capabilities, files

_SYS_CLOSE: Final = 3

_syscall = ctypes.CDLL(None, use_errno=True).syscall
_syscall.restype = ctypes.c_long
_syscall.argtypes = [ctypes.c_long] * 7

# Asked before each bpf(2) and perf_event_open(2): its name, its command (0 for perf) -> errno, 0 to go on.
Gate = Callable[[str, int], int]

_gate: ContextVar[Gate | None] = ContextVar("gate", default=None)


def set_gate(gate: Gate | None) -> None:
    """Let a test decide which calls fail; ``None`` lets all through.

    Holds for the calling thread's context only.  The gate gets ``"bpf"`` or
    ``"perf_event_open"`` and the ``enum bpf_cmd`` (0 for perf events) and answers with the errno
    to fail with, or 0.
    """
    _gate.set(gate)


def address(buffer: bytes | bytearray) -> int:
    """Return where a buffer's bytes are; the caller keeps it alive and unresized meanwhile. Empty: 0."""
    if not buffer:
        return 0
    if isinstance(buffer, bytearray):
        return ctypes.addressof(ctypes.c_char.from_buffer(buffer))
    return ctypes.cast(ctypes.c_char_p(buffer), ctypes.c_void_p).value or 0


def call(number: int, *arguments: int) -> int:
    """Make a call, again if a signal interrupted it; return its result, or the negative errno."""
    padding = (0,) * (6 - len(arguments))
    while True:
        result: int = _syscall(number, *arguments, *padding)
        if result >= 0:
            return result
        code = ctypes.get_errno()
        if code != errno.EINTR:
            return -code


def try_bpf(command: int, attributes: bytearray) -> int:
    """Make a bpf(2) call; return its result, or the negative errno.

    ``attributes`` is a packed ``union bpf_attr``; the kernel writes its answers into it.
    """
    gate = _gate.get()
    if gate is not None and (refused := gate("bpf", command)):
        return -refused
    return call(abi.SYS_BPF, command, address(attributes), len(attributes))


def bpf(command: int, attributes: bytearray, what: str) -> int:
    """Make a bpf(2) call; ``what`` is attempted, for the error: ``create map @``.

    Raises `SyscallError`, `PermissionDeniedError`, or `NotSupportedError` for a kernel without BPF.
    """
    result = try_bpf(command, attributes)
    if result < 0:
        raise bpf_error(what, -result)
    return result


def perf_event_open(
    attributes: bytearray, pid: int, cpu: int, what: str, needs: tuple[str, ...] = ("CAP_PERFMON",)
) -> int:
    """Open an event; return a close-on-exec descriptor. ``attributes``: ``struct perf_event_attr``.

    ``needs``: the privileges that a refusal is for.
    """
    gate = _gate.get()
    result = -gate("perf_event_open", 0) if gate is not None else 0
    if not result:
        no_group = -1
        result = call(abi.SYS_PERF_EVENT_OPEN, address(attributes), pid, cpu, no_group, abi.PERF_FLAG_FD_CLOEXEC)
    if result < 0:
        raise perf_error(what, -result, needs)
    return result


def ioctl(descriptor: int, request: int, argument: int, what: str) -> int:
    """Make an ioctl(2) with a number as its argument."""
    result = call(abi.SYS_IOCTL, descriptor, request, argument)
    if result < 0:
        raise SyscallError(what, -result)
    return result


def mount_detached(filesystem: str) -> int:
    """Return a descriptor of a new mount that no path leads to: read-only, close-on-exec.

    The mount table is not touched; the mount goes with the descriptor.  Since Linux 5.2.
    """
    what = f"mount {filesystem} privately"
    name = filesystem.encode() + b"\0"
    context = _checked(call(abi.SYS_FSOPEN, address(name), abi.FSOPEN_CLOEXEC), what)
    try:
        _checked(call(abi.SYS_FSCONFIG, context, abi.FSCONFIG_CMD_CREATE), what)
        attributes = abi.MOUNT_ATTR_RDONLY | abi.MOUNT_ATTR_NOSUID | abi.MOUNT_ATTR_NODEV | abi.MOUNT_ATTR_NOEXEC
        return _checked(call(abi.SYS_FSMOUNT, context, abi.FSMOUNT_CLOEXEC, attributes), what)
    finally:
        call(_SYS_CLOSE, context)


def _checked(result: int, what: str) -> int:
    if result >= 0:
        return result
    if -result in (errno.EPERM, errno.EACCES):
        raise PermissionDeniedError(what, -result, privilege_hint(("CAP_SYS_ADMIN",)))
    raise SyscallError(what, -result)


def bpf_error(what: str, code: int) -> SyscallError | NotSupportedError:
    """Return the error for a bpf(2) call that failed with an errno."""
    if code in (errno.EPERM, errno.EACCES):
        return PermissionDeniedError(what, code, privilege_hint(("CAP_BPF", "CAP_PERFMON")))
    if code == errno.ENOSYS:
        return NotSupportedError("the system call bpf(2)", "", "the kernel needs CONFIG_BPF_SYSCALL=y")
    return SyscallError(what, code, _HINTS.get(code))


def perf_error(what: str, code: int, needs: tuple[str, ...] = ("CAP_PERFMON",)) -> SyscallError | NotSupportedError:
    """Return the error for a perf_event_open(2) that failed with an errno."""
    if code in (errno.EPERM, errno.EACCES):
        hint = privilege_hint(needs, "or see /proc/sys/kernel/perf_event_paranoid")
        return PermissionDeniedError(what, code, hint)
    if code == errno.ENOSYS:
        return NotSupportedError("the system call perf_event_open(2)", "", "the kernel needs CONFIG_PERF_EVENTS=y")
    return SyscallError(what, code, _HINTS.get(code))


_HINTS: Final = {
    errno.EMFILE: "this process has too many open files: raise the limit with ulimit -n",
    errno.ENFILE: "the whole system has too many open files: see /proc/sys/fs/file-max",
    errno.ENOMEM: "the kernel has no memory for it: make maps or the ring smaller",
}


def privilege_hint(needed: tuple[str, ...], also: str = "") -> str:
    """Say what to do about a call that was refused: missing capabilities, lockdown, or a sandbox."""
    absent = capabilities.missing(needed)
    if absent:
        hint = f"run as root (missing: {', '.join(absent)})"
        return f"{hint}, {also}" if also else hint
    try:
        lockdown = files.read_text("/sys/kernel/security/lockdown")
    except OSError:
        lockdown = ""
    if "[confidentiality]" in lockdown or "[integrity]" in lockdown:
        return "the kernel is locked down (secure boot): see /sys/kernel/security/lockdown"
    return "the capabilities are there: a security module or a container's seccomp filter refuses it"
