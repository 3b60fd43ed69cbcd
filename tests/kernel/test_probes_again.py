"""Every kind of probe is attached and detached many times over, and leaves nothing each time.

``INVIVO_REPEAT`` says how often (`make soak`: 1,000 times).
"""

from __future__ import annotations

import ctypes
import os
from pathlib import Path
from typing import Final

import pytest

from invivo.diagnostics import SourceFile
from invivo.pipeline import compile_source
from invivo.probes import providers
from invivo.probes.machine import Machine
from invivo.runtime.session import Session, SessionOptions
from invivo.target import Scope
from leftovers import state

REPEAT: Final = int(os.environ.get("INVIVO_REPEAT", "50"))
_HELD = ctypes.c_long(0)
_PYTHON = "/usr/bin/python3.11"

PROBES: Final = {
    "begin": "begin",
    "end": "end",
    "tracepoint": "tracepoint:syscalls:sys_enter_getppid, tracepoint:sched:sched_process_exec",
    "rawtracepoint": "rawtracepoint:sched_process_exec",
    "uprobe": "uprobe:libc:getppid, uprobe:libc:labs",
    "uretprobe": "uretprobe:libc:getppid",
    "usdt": f"usdt:{_PYTHON}:python:gc__start",
    "iter": "iter:task",
    "kprobe": "kprobe:vfs_mkdir, kprobe:vfs_rmdir",
    "kretprobe": "kretprobe:vfs_mkdir",
    "fentry": "fentry:vfs_mkdir",
    "fexit": "fexit:vfs_mkdir",
    "profile": "profile:hz:99",
    "interval": "interval:ms:100",
    "software": "software:page-faults:1000",
    "watchpoint": f"watchpoint:0x{ctypes.addressof(_HELD):x}:8:w",
}
# Which run nowhere but by a signal, a command-line option or with counters of the processor.
NOT_ATTACHED: Final = {"self", "test", "bench", "hardware"}
REQUIRES: Final = {"kprobe": "kprobe", "kretprobe": "kprobe", "fentry": "fentry", "fexit": "fentry"}


def test_every_kind_is_here() -> None:
    assert {provider.name for provider in providers()} - NOT_ATTACHED == set(PROBES)


@pytest.mark.parametrize(
    "kind",
    [pytest.param(kind, marks=pytest.mark.requires(REQUIRES[kind])) if kind in REQUIRES else kind for kind in PROBES],
)
def test_nothing_stays(kind: str) -> None:
    if kind == "usdt" and not Path(_PYTHON).exists():
        pytest.skip(f"{_PYTHON} of Debian is not installed")
    program = f'{PROBES[kind]} {{ @[probe] = count(); printf("%d\\n", pid); }}'
    with Machine(Scope.PROCESS, os.getpid()) as machine:
        image = compile_source(SourceFile("again", program), machine).image
    before = None
    for _ in range(REPEAT):
        with Session(image, pid=os.getpid(), options=SessionOptions(signals=False)):
            pass
        if before is None:
            before = state()  # after the first: what stays open in this process by intention is open now
    assert state() == before
