"""Processes: whose end ends them, and what those of a container are called by the kernel and by BPF programs."""

from __future__ import annotations

import os
import struct
from collections.abc import Sequence
from typing import Final

from invivo.errors import NotSupportedError
from invivo.formats.btf import Btf, BtfKind
from invivo.image import Relocation, RelocationKind
from invivo.ir.layout import MapSpec, MapType
from invivo.kernel import abi, links, syscalls
from invivo.kernel.maps import Map
from invivo.kernel.programs import Load, Program, relocated
from invivo.kernel.vmlinux import open_btf
from invivo.target import ProgramType

_SYS_PRCTL: Final = 157  # arch/x86/entry/syscalls/syscall_64.tbl
_PR_SET_PDEATHSIG: Final = 1  # include/uapi/linux/prctl.h
INITIAL_PID_NAMESPACE: Final = 0xEFFFFFFC  # PROC_PID_INIT_INO, include/linux/proc_ns.h


def set_parent_death_signal(number: int) -> bool:
    """Ask for a signal when the thread that forked this process ends; return whether that succeeded (prctl(2))."""
    return syscalls.call(_SYS_PRCTL, _PR_SET_PDEATHSIG, number) == 0


def pid_namespace() -> tuple[int, int] | None:
    """Return device and inode of this process's PID namespace; None if it is the initial one."""
    try:
        found = os.stat("/proc/self/ns/pid")
    except OSError:
        return None
    return None if found.st_ino == INITIAL_PID_NAMESPACE else (found.st_dev, found.st_ino)


def initial_pids(pids: Sequence[int]) -> list[int]:
    """Return the numbers in the initial namespace of processes of our own; those that have ended are left out.

    The kernel tells nobody inside a namespace.  A BPF iterator over one task (Linux 6.1), which is looked for
    by its number here, finds it and writes down its other number.  Raises `NotSupportedError`, `SyscallError`.
    """
    if pid_namespace() is None:
        return list(pids)
    btf = open_btf()
    if btf is None:
        raise NotSupportedError("process numbers inside a PID namespace are", hint="the kernel has no BTF")
    held = Map.create(MapSpec("invivo_pid", MapType.ARRAY, 4, 8, 1, abi.F_MMAPABLE))
    try:
        program = _load(btf, held)
        try:
            memory = held.memory()
            try:
                return [found for pid in pids if (found := _walk(program, memory, pid))]
            finally:
                memory.release()
        finally:
            program.close()
    finally:
        held.close()


def _walk(program: Program, memory: memoryview, pid: int) -> int:
    struct.pack_into("<Q", memory, 0, 0)
    link = links.iterator(program, process=pid)
    try:
        link.read()
    finally:
        link.close()
    found: int = struct.unpack_from("<Q", memory)[0]
    return found


def _load(btf: Btf, held: Map) -> Program:
    task, function = btf.find(BtfKind.STRUCT, "task_struct"), btf.find(BtfKind.FUNC, "bpf_iter_task")
    member = btf.member(task, "tgid") if task is not None else None
    if function is None or member is None:
        raise NotSupportedError("iterating over tasks", "5.8")
    code = relocated(
        _program(member.bit_offset // 8), (Relocation(2, RelocationKind.MAP_VALUE, "held"),), {"held": held}
    )
    return Load("invivo_pid", ProgramType.TRACING_ITER, code, "GPL", attach_btf_id=function).run(0)


def _program(tgid_offset: int) -> bytes:
    """Return a program that writes ``ctx->task->tgid``, if there is a task, at the start of a map."""

    def instruction(opcode: int, target: int = 0, source: int = 0, offset: int = 0, value: int = 0) -> bytes:
        return struct.pack("<BBhi", opcode, target | source << 4, offset, value)

    return b"".join(
        [
            instruction(0x79, 1, 1, offset=8),  # r1 = ctx->task
            instruction(0x15, 1, offset=4),  # if r1 == 0 goto end
            instruction(abi.LD_IMM64, 2) + instruction(0),  # r2 = &held
            instruction(0x61, 3, 1, offset=tgid_offset),  # r3 = task->tgid
            instruction(0x7B, 2, 3),  # *r2 = r3
            instruction(0xB7, 0),  # end: r0 = 0
            instruction(0x95),
        ]
    )
