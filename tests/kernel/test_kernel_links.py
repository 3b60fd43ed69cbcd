"""Attaching on the running kernel: each test traces the process that it starts, and nothing else."""

from __future__ import annotations

import errno
import mmap
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from fixture_kernel import (
    COUNTS,
    EXIT,
    SEQ_WRITE,
    call,
    constant,
    counter,
    counts,
    descriptors,
    image,
    insn,
    loaded,
    move,
    opened,
    traced,
)
from invivo.errors import SyscallError
from invivo.formats.btf import BtfKind
from invivo.formats.elf import Elf
from invivo.kernel import links, perf, syscalls, vmlinux
from invivo.kernel.tracefs import Tracefs
from invivo.target import ProgramType


def libc(symbol: str) -> tuple[str, int]:
    """Return the C library that this process uses, and a function's offset in the file."""
    lines = Path("/proc/self/maps").read_text().splitlines()
    path = next(line.split()[-1] for line in lines if "/libc.so.6" in line)
    with Path(path).open("rb") as file:
        elf = Elf(mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ), path)
    found = elf.symbols().find(symbol)
    assert found is not None
    offset = elf.file_offset(found.address)
    assert offset is not None
    return path, offset


def test_a_tracepoint_counts_what_the_process_does_and_carries_its_cookie() -> None:
    event = Tracefs().event_id("syscalls", "sys_enter_getppid")
    before = descriptors()
    with (
        traced() as process,
        opened(COUNTS) as maps,
        loaded(counter(process.pid, ProgramType.TRACEPOINT), maps) as program,
    ):
        link = links.perf_event(program, perf.open_tracepoint(event), 3)
        os.getppid()  # this process's own call is not counted
        process.do(50)
        assert counts(maps["counts"]) == [0, 0, 0, 50, 0, 0, 0, 0]
        link.close()
        process.do(50)
        assert counts(maps["counts"]) == [0, 0, 0, 50, 0, 0, 0, 0]
    assert descriptors() == before


def test_two_attachments_of_one_program_are_told_apart() -> None:
    tracefs = Tracefs()
    ids = [tracefs.event_id("syscalls", f"sys_{side}_getppid") for side in ("enter", "exit")]
    with (
        traced() as process,
        opened(COUNTS) as maps,
        loaded(counter(process.pid, ProgramType.TRACEPOINT), maps) as program,
    ):
        attached = [links.perf_event(program, perf.open_tracepoint(each), number) for number, each in enumerate(ids)]
        process.do(20)
        for link in attached:
            link.close()
        assert counts(maps["counts"])[:2] == [20, 20]


@pytest.mark.requires("raw_tracepoint_cookies")
def test_a_raw_tracepoint_is_attached_with_a_cookie() -> None:
    with (
        traced() as process,
        opened(COUNTS) as maps,
        loaded(counter(process.pid, ProgramType.RAW_TRACEPOINT), maps) as program,
    ):
        link = links.raw_tracepoint(program, "sys_enter", cookie=5)
        process.do(100)
        link.close()
        found = counts(maps["counts"])
        # Reading the line and writing the answer are system calls too.
        assert 100 <= found[5] < 120
        assert sum(found) == found[5]
        process.do(10)
        assert counts(maps["counts"]) == found


def test_a_raw_tracepoint_is_attached_without_a_cookie() -> None:
    with (
        traced() as process,
        opened(COUNTS) as maps,
        loaded(counter(process.pid, ProgramType.RAW_TRACEPOINT, told_apart=False), maps) as program,
    ):
        link = links.raw_tracepoint(program, "sys_enter")
        process.do(100)
        link.close()
        found = counts(maps["counts"])
        assert 100 <= found[0] < 120
        process.do(10)
        assert counts(maps["counts"]) == found


def test_a_raw_tracepoint_that_does_not_exist_is_named() -> None:
    with (
        opened(COUNTS) as maps,
        loaded(counter(os.getpid(), ProgramType.RAW_TRACEPOINT, told_apart=False), maps) as program,
        pytest.raises(SyscallError) as error,
    ):
        links.raw_tracepoint(program, "no_such_event")
    assert error.value.errno == errno.ENOENT
    assert "no_such_event" in str(error.value)


def test_a_program_typed_by_btf_is_attached_without_a_name() -> None:
    btf = vmlinux.open_btf()
    assert btf is not None
    target = btf.find(BtfKind.TYPEDEF, "btf_trace_sys_enter")
    assert target is not None
    with traced() as process, opened(COUNTS) as maps:
        typed = counter(process.pid, ProgramType.TRACING_RAW_TP, told_apart=False)
        kind = ProgramType.TRACING_RAW_TP
        with loaded(image(typed.code, typed.relocations, kind, attach_btf_id=target), maps) as program:
            link = links.raw_tracepoint(program, None)
            process.do(30)
            link.close()
        assert 30 <= counts(maps["counts"])[0] < 50


def test_a_clock_samples_one_process() -> None:
    busy = subprocess.Popen([sys.executable, "-I", "-S", "-c", "while True: pass"])
    try:
        with opened(COUNTS) as maps, loaded(counter(busy.pid, ProgramType.PERF_EVENT), maps) as program:
            clock = perf.open_counter(0, frequency=999, pid=busy.pid, cpu=-1)
            link = links.perf_event(program, clock, 2)
            deadline = time.monotonic() + 10
            while counts(maps["counts"])[2] < 20 and time.monotonic() < deadline:
                time.sleep(0.02)
            link.close()
            found = counts(maps["counts"])
            assert found[2] >= 20
            time.sleep(0.05)
            assert counts(maps["counts"]) == found
    finally:
        busy.send_signal(signal.SIGKILL)
        busy.wait()


def test_a_user_function_and_its_return_are_probed_in_one_process() -> None:
    path, offset = libc("getppid")
    with (
        traced() as process,
        opened(COUNTS) as maps,
        loaded(counter(process.pid, ProgramType.KPROBE), maps) as program,
    ):
        entry = links.perf_event(program, perf.open_uprobe(path, offset, pid=process.pid), 1)
        leaving = links.perf_event(program, perf.open_uprobe(path, offset, pid=process.pid, retprobe=True), 2)
        process.do(25)
        leaving.close()
        process.do(5)
        entry.close()
        process.do(5)
        assert counts(maps["counts"])[:4] == [0, 30, 25, 0]


@pytest.mark.requires("uprobe_multi")
def test_many_user_functions_are_probed_with_one_link() -> None:
    action = "os.getppid(); os.getpid()"
    places = [libc("getppid"), libc("getpid"), libc("getuid")]
    path = places[0][0]
    with (
        traced(action) as process,
        opened(COUNTS) as maps,
        loaded(counter(process.pid, ProgramType.UPROBE_MULTI), maps) as program,
    ):
        link = links.uprobe_multi(program, path, [offset for _, offset in places], cookies=[1, 2, 3], pid=process.pid)
        process.do(40)
        link.close()
        assert counts(maps["counts"])[:4] == [0, 40, 40, 0]
        process.do(40)
        assert counts(maps["counts"])[:4] == [0, 40, 40, 0]


@pytest.mark.requires("kprobe_multi")
@pytest.mark.parametrize("retprobe", [False, True], ids=["entry", "return"])
def test_many_kernel_functions_are_probed_with_one_link(retprobe: bool) -> None:
    names = ["__x64_sys_getppid", "__x64_sys_getuid"]
    with (
        traced("os.getppid(); os.getuid(); os.getuid()") as process,
        opened(COUNTS) as maps,
        loaded(counter(process.pid, ProgramType.KPROBE_MULTI), maps) as program,
    ):
        link = links.kprobe_multi(program, names, cookies=[1, 2], retprobe=retprobe)
        process.do(10)
        link.close()
        process.do(10)
        assert counts(maps["counts"])[:4] == [0, 10, 20, 0]


@pytest.mark.requires("kprobe")
def test_a_kernel_function_and_its_return_are_probed() -> None:
    with (
        traced() as process,
        opened(COUNTS) as maps,
        loaded(counter(process.pid, ProgramType.KPROBE), maps) as program,
    ):
        entry = links.perf_event(program, perf.open_kprobe("__x64_sys_getppid"), 1)
        leaving = links.perf_event(program, perf.open_kprobe("__x64_sys_getppid", retprobe=True), 2)
        process.do(10)
        leaving.close()
        entry.close()
        process.do(10)
        assert counts(maps["counts"])[:4] == [0, 10, 10, 0]


@pytest.mark.requires("fentry")
def test_a_kernel_function_is_probed_without_a_trap() -> None:
    btf = vmlinux.open_btf()
    assert btf is not None
    target = btf.find(BtfKind.FUNC, "vfs_read")
    assert target is not None
    with traced("os.read(os.open('/dev/zero', os.O_RDONLY), 1)") as process, opened(COUNTS) as maps:
        typed = counter(process.pid, ProgramType.TRACING_FENTRY)
        kind = ProgramType.TRACING_FENTRY
        with loaded(image(typed.code, typed.relocations, kind, attach_btf_id=target), maps) as program:
            link = links.tracing(program, cookie=4)
            process.do(10)
            link.close()
            found = counts(maps["counts"])
            # Reading the line is a read too.
            assert 10 < found[4] < 15
            assert sum(found) == found[4]
            process.do(10)
            assert counts(maps["counts"]) == found


@pytest.mark.requires("btf")
def test_an_iterator_is_read() -> None:
    btf = vmlinux.open_btf()
    assert btf is not None
    target = btf.find(BtfKind.FUNC, "bpf_iter_task")
    assert target is not None
    # struct bpf_iter__task: meta, task. The last call has no task: only that one writes.
    text = int.from_bytes(b"end\n", "little")
    write = b"".join(
        [
            insn(0x79, 1, 1),  # meta
            insn(0x79, 1, 1),  # meta->seq
            insn(0x62, 10, offset=-4, value=text),
            move(2, 10),
            insn(0x07, 2, value=-4),
            constant(3, 4),
            call(SEQ_WRITE),
        ]
    )
    code = insn(0x79, 2, 1, offset=8) + insn(0x55, 2, offset=len(write) // 8) + write + constant(0, 0) + EXIT
    with loaded(image(code, kind=ProgramType.TRACING_ITER, attach_btf_id=target), {}) as program:
        link = links.iterator(program)
        assert link.read() == b"end\n"
        assert link.read() == b"end\n"
        link.close()


def test_an_event_is_closed_if_it_cannot_be_attached() -> None:
    event = Tracefs().event_id("syscalls", "sys_enter_getppid")
    before = descriptors()
    with (
        opened(COUNTS) as maps,
        loaded(counter(os.getpid(), ProgramType.RAW_TRACEPOINT, told_apart=False), maps) as program,
    ):
        perf_fd = perf.open_tracepoint(event)
        with pytest.raises(SyscallError) as error:
            links.perf_event(program, perf_fd)
    assert error.value.errno == errno.EINVAL
    assert descriptors() == before


def test_events_are_closed_on_exec() -> None:
    event = perf.open_tracepoint(Tracefs().event_id("syscalls", "sys_enter_getppid"))
    try:
        assert not os.get_inheritable(event)
    finally:
        os.close(event)


@pytest.mark.parametrize(
    ("call_name", "number"),
    [pytest.param("perf_event_open", 0, id="perf"), pytest.param("bpf", 28, id="link")],
)
def test_a_gate_makes_one_call_fail_and_nothing_is_left(call_name: str, number: int) -> None:
    event = Tracefs().event_id("syscalls", "sys_enter_getppid")
    before = descriptors()
    with opened(COUNTS) as maps, loaded(counter(os.getpid(), ProgramType.TRACEPOINT), maps) as program:
        syscalls.set_gate(lambda name, command: errno.ENOMEM if (name, command) == (call_name, number) else 0)
        try:
            with pytest.raises(SyscallError) as error:
                links.perf_event(program, perf.open_tracepoint(event))
        finally:
            syscalls.set_gate(None)
    assert error.value.errno == errno.ENOMEM
    assert error.value.hint is not None
    assert descriptors() == before
