"""Small BPF programs assembled by hand, and a process to trace: what the tests of `kernel` share."""

from __future__ import annotations

import os
import struct
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager

from invivo.image import FunctionInfo, ProgramImage, Relocation, RelocationKind
from invivo.ir.layout import MapSpec, MapType
from invivo.kernel import abi
from invivo.kernel.maps import Map
from invivo.kernel.programs import Program, load_program
from invivo.record import Record
from invivo.target import Context, Plan, ProgramType

# enum bpf_func_id, linux/bpf.h
GET_CURRENT_PID_TGID = 14
LOOP = 181
RINGBUF_RESERVE = 131
RINGBUF_SUBMIT = 132
RINGBUF_DISCARD = 133
GET_ATTACH_COOKIE = 174
SEQ_WRITE = 127

PSEUDO_FUNC = 4


def insn(opcode: int, target: int = 0, source: int = 0, offset: int = 0, value: int = 0) -> bytes:
    """Return one instruction: struct bpf_insn."""
    return struct.pack("<BBhi", opcode, target | source << 4, offset, value)


def move(target: int, source: int) -> bytes:
    return insn(0xBF, target, source)


def constant(target: int, value: int) -> bytes:
    return insn(0xB7, target, value=value)


def call(helper: int) -> bytes:
    return insn(0x85, value=helper)


def wide(target: int, source: int = 0, value: int = 0) -> bytes:
    """Return a 16-byte load; what it loads is written by a relocation."""
    return insn(abi.LD_IMM64, target, source, value=value) + insn(0)


EXIT = insn(0x95)


def size(*parts: bytes) -> int:
    """Return how many instructions there are: the index of the next."""
    return sum(map(len, parts)) // 8


def image(
    code: bytes,
    relocations: tuple[Relocation, ...] = (),
    kind: ProgramType = ProgramType.RAW_TRACEPOINT,
    *,
    functions: tuple[FunctionInfo, ...] = (),
    attach_btf_id: int = 0,
    name: str = "test",
) -> ProgramImage:
    """Return a program as the compiler would."""
    context = Context("test", kind, attach_btf_id, scoped=True, features=frozenset())
    return ProgramImage(name, code, relocations, functions, (), Plan((), context, Record(), cookies=False), 0)


@contextmanager
def opened(*specs: MapSpec) -> Iterator[dict[str, Map]]:
    """Create maps for the length of a with statement."""
    maps = {spec.name: Map.create(spec) for spec in specs}
    try:
        yield maps
    finally:
        for each in maps.values():
            each.close()


@contextmanager
def loaded(program: ProgramImage, maps: Mapping[str, Map], btf_fd: int = -1) -> Iterator[Program]:
    """Load a program for the length of a with statement."""
    found = load_program(program, maps, btf_fd, "GPL")
    try:
        yield found
    finally:
        found.close()


SLOTS = 8
COUNTS = MapSpec("counts", MapType.ARRAY, 4, 8 * SLOTS, 1, abi.F_MMAPABLE)


def counter(pid: int, kind: ProgramType, *, told_apart: bool = True) -> ProgramImage:
    """Return a program that counts the events of one process, in the slot that its attach cookie says.

    Without ``told_apart`` in slot 0: raw tracepoints have cookies since 6.10.
    """
    save = move(6, 1)
    identify = call(GET_CURRENT_PID_TGID) + insn(0x77, 0, value=32)  # r0 >>= 32: the thread group
    cookie = move(1, 6) + call(GET_ATTACH_COOKIE) if told_apart else constant(0, 0)
    bound = insn(0x57, 0, value=7)  # r0 &= 7
    add = move(2, 0) + insn(0x67, 2, value=3)  # r2 = r0 * 8
    load = wide(1)
    count = insn(0x0F, 1, 2) + constant(3, 1) + insn(0xDB, 1, 3)  # lock *(u64 *)(r1 + r2) += 1
    tail = cookie + bound + add + load + count
    check = insn(0x55, 0, offset=size(tail), value=pid)
    code = save + identify + check + tail + constant(0, 0) + EXIT
    at = size(save, identify, check, cookie, bound, add)
    return image(code, (Relocation(at, RelocationKind.MAP_VALUE, "counts"),), kind, name="counter")


def counts(found: Map) -> list[int]:
    """Return the slots of `counter`."""
    return list(found.memory().cast("Q"))


class Traced:
    """A process that was started to be traced; it does something as often as it is told."""

    def __init__(self, action: str) -> None:
        script = (
            f"import os, sys\nfor line in sys.stdin:\n    for _ in range(int(line)): {action}\n    print(flush=True)\n"
        )
        self._process = subprocess.Popen(
            [sys.executable, "-I", "-S", "-c", script], stdin=subprocess.PIPE, stdout=subprocess.PIPE, bufsize=0
        )
        self.pid = self._process.pid
        self.do(0)

    def do(self, times: int) -> None:
        """Have it act, and wait until it did."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(b"%d\n" % times)
        assert self._process.stdout.readline() == b"\n"

    def close(self) -> None:
        self._process.kill()
        self._process.communicate()


@contextmanager
def traced(action: str = "os.getppid()") -> Iterator[Traced]:
    """Start a process, for the length of a with statement."""
    process = Traced(action)
    try:
        yield process
    finally:
        process.close()


def descriptors() -> set[str]:
    """Return what this process has open that is no file: maps, programs, links, events."""
    found = set()
    for number in os.listdir("/proc/self/fd"):
        try:
            target = os.readlink(f"/proc/self/fd/{number}")
        except OSError:
            continue
        if target.startswith("anon_inode:"):
            found.add(f"{number} {target}")
    return found


def ring_writer(
    payload: int, stride: int, *, discard: bool = False, wake: bool = False, number: int = 1
) -> ProgramImage:
    """Return a program that writes a record of ``payload`` bytes with its number and its first argument.

    It returns 0, or 1 if the ring was full, or 2 if it woke the reader.
    """
    inner = b"".join(
        insn(0x7A, 7, offset=at - 8)
        for at in range(stride, payload + 8, stride)  # *(u64 *)(r7 + at - 8) = 0
    )
    reserve = move(6, 1) + wide(1) + constant(2, payload) + constant(3, 0) + call(RINGBUF_RESERVE)
    refused = insn(0x55, 0, offset=2) + constant(0, 1) + EXIT
    fill = b"".join(
        [
            move(7, 0),
            insn(0x62, 7, offset=0, value=number),
            insn(0x62, 7, offset=4, value=0),
            insn(0x79, 1, 6),
            insn(0x7B, 7, 1, offset=8),
            inner,
            move(1, 7),
            constant(8, 0),
            constant(2, abi.RB_NO_WAKEUP),
        ]
    )
    relocations = [Relocation(1, RelocationKind.MAP, "ring")]
    ask = b""
    if wake:
        relocations.append(Relocation(size(reserve, refused, fill), RelocationKind.MAP_VALUE, "wake"))
        clear = insn(0x7A, 3) + constant(2, abi.RB_FORCE_WAKEUP) + constant(8, 2)
        ask = wide(3) + insn(0x79, 4, 3) + insn(0x15, 4, offset=size(clear)) + clear
    finish = call(RINGBUF_DISCARD if discard else RINGBUF_SUBMIT) + move(0, 8) + EXIT
    return image(reserve + refused + fill + ask + finish, tuple(relocations))
