"""What ``invivo doctor`` tries: each thing that tracing does, for a moment."""

from __future__ import annotations

import ctypes
import os
import sys
from collections.abc import Callable
from typing import Final

from invivo.errors import NotSupportedError
from invivo.formats.btf import BtfKind
from invivo.formats.elf import Elf
from invivo.ir.layout import MapSpec, MapType
from invivo.kernel import abi, links, perf
from invivo.kernel.links import Link
from invivo.kernel.maps import Map
from invivo.kernel.programs import Load, Program, load_code
from invivo.kernel.tracefs import Tracefs
from invivo.kernel.vmlinux import open_btf
from invivo.record import Record
from invivo.target import ProgramType

_RETURN_0: Final = bytes([0xB7, 0, 0, 0, 0, 0, 0, 0, 0x95, 0, 0, 0, 0, 0, 0, 0])
# Functions that the kernel has for its own tests of BPF, and that nothing calls.
_UNUSED: Final = ("bpf_fentry_test1", "bpf_fentry_test2")


class Attempt(Record):
    """``make`` returns what is to be shown, or raises.

    ``needs``: privileges; ``needed``: for the main job.
    """

    name: str
    make: Callable[[], str]
    needs: tuple[str, ...]
    advice: str = ""
    needed: bool = True


def _open_btf() -> str:
    if open_btf() is None:
        raise NotSupportedError("BTF", "5.2")
    return f"{os.stat('/sys/kernel/btf/vmlinux').st_size >> 10} KiB"


def _load_program() -> str:
    load_code("doctor", _RETURN_0).close()
    return "accepted"


def _make_ring() -> str:
    Map.create(MapSpec("doctor", MapType.RINGBUF, 0, 0, 4096)).close()
    return "made"


def _read_tracefs() -> str:
    files = Tracefs()
    try:
        return f"{len(files.events())} tracepoints"
    finally:
        files.close()


def _sample() -> str:
    task_clock = 1  # PERF_COUNT_SW_TASK_CLOCK, include/uapi/linux/perf_event.h
    return _attached(
        ProgramType.PERF_EVENT,
        lambda program: links.perf_event(
            program, perf.open_counter(task_clock, period=1_000_000_000, pid=os.getpid(), cpu=-1)
        ),
    )


def _count_cycles() -> str:
    cycles = 0  # PERF_COUNT_HW_CPU_CYCLES, include/uapi/linux/perf_event.h
    os.close(perf.open_counter(cycles, kind=abi.TYPE_HARDWARE, period=1_000_000_000, pid=os.getpid(), cpu=-1))
    return "opened"


def _watch() -> str:
    written = 2  # HW_BREAKPOINT_W, include/uapi/linux/hw_breakpoint.h
    held = ctypes.c_long(0)
    place = ctypes.addressof(held)
    return _attached(
        ProgramType.PERF_EVENT,
        lambda program: links.perf_event(
            program, perf.open_breakpoint(place, ctypes.sizeof(held), written, pid=os.getpid())
        ),
    )


def _attached(kind: ProgramType, attach: Callable[[Program], Link], attach_btf_id: int = 0) -> str:
    program = Load("doctor", kind, _RETURN_0, "GPL", attach_btf_id=attach_btf_id).run(0)
    try:
        attach(program).close()
    finally:
        program.close()
    return "attached"


def _raw_tracepoint() -> str:
    return _attached(ProgramType.RAW_TRACEPOINT, lambda program: links.raw_tracepoint(program, "sched_process_exec"))


def _typed_raw_tracepoint() -> str:
    event = _type_number(BtfKind.TYPEDEF, "btf_trace_sched_process_exec")
    return _attached(ProgramType.TRACING_RAW_TP, lambda program: links.raw_tracepoint(program, None), event)


def _tracepoint() -> str:
    files = Tracefs()
    try:
        event = files.event_id("sched", "sched_process_exec")
    finally:
        files.close()
    return _attached(
        ProgramType.TRACEPOINT, lambda program: links.perf_event(program, perf.open_tracepoint(event))
    )  # fmt: skip


def _kprobe(*, retprobe: bool = False) -> str:
    return _attached(
        ProgramType.KPROBE,
        lambda program: links.perf_event(program, perf.open_kprobe(_UNUSED[0], retprobe=retprobe)),
    )  # fmt: skip


def _kprobe_multi() -> str:
    return _attached(ProgramType.KPROBE_MULTI, lambda program: links.kprobe_multi(program, _UNUSED))


def _kprobe_session() -> str:
    return _attached(ProgramType.KPROBE_SESSION, lambda program: links.kprobe_multi(program, _UNUSED))


def _at_function(kind: ProgramType) -> str:
    return _attached(kind, links.tracing, _type_number(BtfKind.FUNC, _UNUSED[0]))


def _iterate() -> str:
    return _attached(ProgramType.TRACING_ITER, links.iterator, _type_number(BtfKind.FUNC, "bpf_iter_task"))


def _type_number(kind: BtfKind, name: str) -> int:
    btf = open_btf()
    number = btf.find(kind, name) if btf is not None else None
    if number is None:
        raise NotSupportedError(f"{name} among the kernel's types")
    return number


def _start_of_python() -> tuple[str, int]:
    """Return this process's executable and where in it a process of it begins."""
    path = os.path.realpath(sys.executable)
    with open(path, "rb") as file:
        elf = Elf(file.read(), path)
    offset = elf.file_offset(elf.entry)
    if offset is None:
        raise NotSupportedError(f"a probe at the start of {path}")
    return path, offset


def _uprobe(*, retprobe: bool = False) -> str:
    path, offset = _start_of_python()
    pid = os.getpid()
    return _attached(
        ProgramType.KPROBE,
        lambda program: links.perf_event(program, perf.open_uprobe(path, offset, pid=pid, retprobe=retprobe)),
    )


def _uprobe_multi(kind: ProgramType = ProgramType.UPROBE_MULTI) -> str:
    path, offset = _start_of_python()
    pid = os.getpid()
    return _attached(kind, lambda program: links.uprobe_multi(program, path, [offset], pid=pid))


def _list_functions() -> str:
    files = Tracefs()
    try:
        return f"{files.functions().count(chr(10))} functions"
    finally:
        files.close()


_LOAD: Final = ("CAP_BPF", "CAP_PERFMON")
_UPROBE: Final = (*_LOAD, "CAP_SYS_ADMIN")

ATTEMPTS: Final = (
    Attempt("types of the kernel (BTF)", _open_btf, (), "the kernel needs CONFIG_DEBUG_INFO_BTF=y"),
    Attempt(
        "load a program",
        _load_program,
        _LOAD,
        "the kernel needs CONFIG_BPF_SYSCALL=y and CONFIG_BPF_EVENTS=y",
    ),
    Attempt("make a ring buffer", _make_ring, ("CAP_BPF",)),
    Attempt(
        "read tracefs", _read_tracefs, ("CAP_DAC_READ_SEARCH", "CAP_SYS_ADMIN"), "the kernel needs CONFIG_TRACING=y"
    ),
    Attempt("attach to a raw tracepoint", _raw_tracepoint, _LOAD),
    Attempt("attach to it with types (tp_btf)", _typed_raw_tracepoint, _LOAD, needed=False),
    Attempt("attach to a tracepoint", _tracepoint, _LOAD, needed=False),
    Attempt("sample this process (profile)", _sample, _LOAD, needed=False),
    Attempt(
        "count its cycles (hardware)",
        _count_cycles,
        ("CAP_PERFMON",),
        "a virtual machine often has no hardware counters",
        needed=False,
    ),
    Attempt("watch its memory (watchpoint)", _watch, _LOAD, needed=False),
    Attempt("iterate over tasks (iter)", _iterate, _LOAD, needed=False),
    Attempt(
        "list the kernel's functions",
        _list_functions,
        ("CAP_SYS_ADMIN",),
        "wildcards in names of functions need it",
        needed=False,
    ),
    Attempt("probe a kernel function (kprobe)", _kprobe, _LOAD, needed=False),
    Attempt("probe its return (kretprobe)", lambda: _kprobe(retprobe=True), _LOAD, needed=False),
    Attempt("probe several (kprobe_multi)", _kprobe_multi, _LOAD, "the kernel needs CONFIG_FPROBE=y", needed=False),
    Attempt("entry and return (kprobe_session)", _kprobe_session, _LOAD, "since Linux 6.10", needed=False),
    Attempt("probe a kernel function (fentry)", lambda: _at_function(ProgramType.TRACING_FENTRY), _LOAD, needed=False),
    Attempt("probe its return (fexit)", lambda: _at_function(ProgramType.TRACING_FEXIT), _LOAD, needed=False),
    Attempt("probe this program (uprobe)", _uprobe, _UPROBE, needed=False),
    Attempt("probe its return (uretprobe)", lambda: _uprobe(retprobe=True), _UPROBE, needed=False),
    Attempt("probe this program (uprobe_multi)", _uprobe_multi, _LOAD, needed=False),
    Attempt(
        "entry and return (uprobe_session)",
        lambda: _uprobe_multi(ProgramType.UPROBE_SESSION),
        _LOAD,
        "since Linux 6.13",
        needed=False,
    ),
)
