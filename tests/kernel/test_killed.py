"""After ``kill -9`` of a tracer nothing is left: no command, no program, no map."""

from __future__ import annotations

import ctypes
import errno
import os
import re
import signal
import struct
import subprocess
import sys
import time
from pathlib import Path

import pytest

_INVIVO = str(Path(sys.executable).parent / "invivo")
_PROGRAM = """
uprobe:libc:malloc { @mallocs = count(); }
profile:hz:99 { @samples[kstack] = count(); }
t:syscalls:sys_enter_* { @[probe] = count(); printf("%s\\n", probe); }
"""
_SYS_BPF = 321  # arch/x86/entry/syscalls/syscall_64.tbl
_GET_FD_BY_ID = {"prog": 13, "map": 14}  # enum bpf_cmd
_PATIENCE_S = 15.0


def _objects(pid: int) -> set[tuple[str, int]]:
    """The BPF programs and maps that a process holds, by id."""
    found = set()
    for entry in Path(f"/proc/{pid}/fdinfo").iterdir():
        try:
            text = entry.read_text()
        except OSError:
            continue
        found |= {(kind, int(number)) for kind, number in re.findall(r"^(prog|map)_id:\t(\d+)$", text, re.MULTILINE)}
    return found


def _exists(kind: str, number: int) -> bool:
    libc = ctypes.CDLL(None, use_errno=True)
    attributes = ctypes.create_string_buffer(struct.pack("<III", number, 0, 0), 128)
    fd = libc.syscall(_SYS_BPF, _GET_FD_BY_ID[kind], attributes, 12)
    if fd >= 0:
        os.close(fd)
        return True
    assert ctypes.get_errno() == errno.ENOENT
    return False


def _children(pid: int) -> list[int]:
    return [int(number) for number in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


def _wait_until_gone(pids: list[int], objects: set[tuple[str, int]]) -> tuple[list[int], set[tuple[str, int]]]:
    end = time.monotonic() + _PATIENCE_S
    while time.monotonic() < end:
        pids = [pid for pid in pids if Path(f"/proc/{pid}").exists()]
        objects = {(kind, number) for kind, number in objects if _exists(kind, number)}
        if not pids and not objects:
            break
        time.sleep(0.05)  # the kernel frees programs after a grace period
    return pids, objects


@pytest.mark.parametrize("delay_s", [None, 0.05, 0.1, 0.15, 0.2, 0.3])
def test_nothing_is_left(delay_s: float | None) -> None:
    """Killed when everything is attached (None), or at some moment before."""
    command = [_INVIVO, "run", "-e", _PROGRAM, "-c", "sleep 100"]
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE) as tracer:
        assert tracer.stderr is not None
        if delay_s is None:
            assert tracer.stderr.readline().startswith(b"Attached ")
        else:
            time.sleep(delay_s)
        children, objects = _children(tracer.pid), _objects(tracer.pid)
        tracer.send_signal(signal.SIGKILL)
    if delay_s is None:
        assert len(children) == 1
        assert {kind for kind, _ in objects} == {"prog", "map"}
    assert _wait_until_gone(children, objects) == ([], set())
