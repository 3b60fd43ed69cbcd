"""What a trace may leave behind: descriptors, mapped memory, mounts, children, and the kernel's BPF objects."""

from __future__ import annotations

import errno
import gc
import os
import struct
import time
from pathlib import Path
from typing import Final, NamedTuple

from invivo.kernel import abi, syscalls

# enum bpf_cmd, linux/bpf.h: by the line of /proc/PID/fdinfo that has such an object's id.
_BY_ID: Final = {"prog_id": 13, "map_id": 14, "btf_id": 19, "link_id": 30}
# Programs and maps are freed after an RCU grace period of all tasks.
_GRACE_SECONDS: Final = 10.0


class State(NamedTuple):
    """What a process holds."""

    descriptors: list[str]
    mapped: int  # regions of memory that are maps
    mounts: str
    children: list[str]


def state() -> State:
    """Return what this process holds now."""
    gc.collect()  # an error's traceback and its frames refer to each other
    regions = Path("/proc/self/maps").read_text().splitlines()
    return State(
        [f"{fd} {_target(fd)}" for fd in sorted(os.listdir("/proc/self/fd"), key=int) if _target(fd)],
        sum("bpf" in region for region in regions),
        Path("/proc/self/mountinfo").read_text(),
        Path(f"/proc/self/task/{os.getpid()}/children").read_text().split(),
    )


def _target(fd: str) -> str:
    try:
        return os.readlink(f"/proc/self/fd/{fd}")
    except OSError:
        return ""  # of the directory that was listed


def objects(pid: int) -> set[tuple[str, int]]:
    """Return kind and id of the BPF objects that a process has open; none if it is gone."""
    found: set[tuple[str, int]] = set()
    try:
        opened = os.listdir(f"/proc/{pid}/fd")
    except OSError:
        return found
    for fd in opened:
        try:
            if "bpf" not in (name := os.readlink(f"/proc/{pid}/fd/{fd}")) and name != "anon_inode:btf":
                continue
            text = Path(f"/proc/{pid}/fdinfo/{fd}").read_text()
        except OSError:
            continue
        for line in text.splitlines():
            kind, _, number = line.partition(":")
            if kind in _BY_ID:
                found.add((kind, int(number)))
    return found


def remaining(wanted: set[tuple[str, int]]) -> set[tuple[str, int]]:
    """Return which of these objects the kernel still has once it had time to free them."""
    deadline = time.monotonic() + _GRACE_SECONDS
    left = {each for each in wanted if exists(*each)}
    while left and time.monotonic() < deadline:
        time.sleep(0.01)
        left = {each for each in left if exists(*each)}
    return left


def exists(kind: str, number: int) -> bool:
    """Whether the kernel has an object of this id (BPF_PROG_GET_FD_BY_ID and its like)."""
    fd = syscalls.try_bpf(_BY_ID[kind], bytearray(struct.pack("<III", number, 0, 0)))
    if fd >= 0:
        os.close(fd)
        return True
    assert fd in (-errno.ENOENT, -errno.EAGAIN), f"{kind} {number}: {os.strerror(-fd)}"
    return fd == -errno.EAGAIN


def is_running(pid: int) -> bool:
    """Whether a process is there and not a zombie."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] not in "ZX"
    except OSError:
        return False


def command_name(name: str, command: int) -> str:
    """Return a call as a test's failure should show it."""
    return abi.COMMAND_NAMES.get(command, str(command)) if name == "bpf" else name
