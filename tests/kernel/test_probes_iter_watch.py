"""Iterators over what the kernel has, and watchpoints: on processes of the tests' own."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from errno import EBADF, EEXIST, EINVAL, ENOSPC
from pathlib import Path

import pytest

from invivo.diagnostics import CompileError
from invivo.errors import SyscallError
from invivo.events import Row
from invivo.kernel import abi, syscalls
from invivo.probes.facts import LiveFacts
from invivo.probes.listing import list_probes
from running import run, session
from workloads import build


def test_a_task_is_found_once() -> None:
    program = 'iter:task /ctx.task.pid == $1/ { printf("%d %s\\n", ctx.task.tgid, ctx.task.comm); }'
    comm = Path("/proc/self/comm").read_text().strip()
    assert run(program, parameters=(str(os.getpid()),)).text == f"{os.getpid()} {comm}\n"


def test_the_last_call_without_an_object_is_left_out() -> None:
    # Without a predicate every task counts; one that was not there would have the number 0.
    result = run("iter:task /ctx.task.pid == 0 || ctx.task.pid == $1/ { @[ctx.task.pid] = count(); }",
                 parameters=(str(os.getpid()),))  # fmt: skip
    assert result.text.split() == [f"@[{os.getpid()}]:", "1"]


def test_the_files_of_a_process() -> None:
    read_end, write_end = os.pipe()
    try:
        result = run("iter:task_file /ctx.task.tgid == $1/ { @[ctx.fd] = 1; }", parameters=(str(os.getpid()),))
        assert {f"@[{fd}]: 1" for fd in (read_end, write_end)} <= set(result.text.splitlines())
    finally:
        os.close(read_end)
        os.close(write_end)


def test_the_mappings_of_a_process() -> None:
    result = run(
        'iter:task_vma /ctx.task.pid == $1/ { printf("%lx-%lx\\n", ctx.vma.vm_start, ctx.vma.vm_end); }',
        parameters=(str(os.getpid()),),
    )
    lines = Path("/proc/self/maps").read_text().splitlines()
    [libc] = {line.split()[0] for line in lines if "r-xp" in line and "/libc.so" in line}
    assert libc.lstrip("0") in result.text.split()


def test_an_iterator_does_not_stop_what_else_is_traced() -> None:
    """The trace goes on until its other probes end it."""
    result = run(
        "iter:task /ctx.task.pid == $1/ { @seen = count(); } interval:ms:50 { exit(); } END { @end = 1; }",
        parameters=(str(os.getpid()),),
    )
    assert result.text.split() == ["@end:", "1", "@seen:", "1"]


# -- every iterator, and pinned ones -------------------------------------------------------------


def test_every_iterator_of_the_kernel_is_read_once() -> None:
    """Most show objects of the whole machine: only how often each ran is asked, and no object is looked at."""
    facts = LiveFacts()
    kinds = [each.name.removeprefix("iter:") for each in list_probes("iter:*", facts)]
    facts.close()
    assert {"task", "task_file", "task_vma", "bpf_map", "bpf_prog", "bpf_link"} <= set(kinds)
    for kind in kinds:
        try:
            result = run(f"iter:{kind} {{ @objects = count(); }} end {{ @ended = 1; }}")
        except SyscallError as error:
            # These walk over a map or a control group that is named when they are attached.
            assert (kind, error.errno) in {(each, code) for each in _OF_SOMETHING for code in (EINVAL, EBADF)}
            continue
        assert "@ended: 1" in result.text, kind


_OF_SOMETHING = ("bpf_map_elem", "bpf_sk_storage_map", "sockmap", "cgroup")


@pytest.fixture
def bpf_files() -> Iterator[str]:
    """A BPF file system of its own, to which only a descriptor leads: what is pinned there goes with it."""
    name = b"bpf\0"
    context = syscalls.call(abi.SYS_FSOPEN, syscalls.address(name), abi.FSOPEN_CLOEXEC)
    assert syscalls.call(abi.SYS_FSCONFIG, context, abi.FSCONFIG_CMD_CREATE) == 0
    mount = syscalls.call(abi.SYS_FSMOUNT, context, abi.FSMOUNT_CLOEXEC, 0)
    os.close(context)
    assert mount >= 0
    yield f"/proc/self/fd/{mount}"
    os.close(mount)


def test_a_pinned_iterator_stays_and_runs_when_it_is_read(bpf_files: str) -> None:
    program = (
        f"iter:task:{bpf_files}/list /ctx.task.pid == $1/ {{"
        ' printf("%-8d|%s|%x|100%%\\n", ctx.task.tgid, ctx.task.comm, 255); }'
    )
    with session(program, parameters=(str(os.getpid()),)) as opened:
        assert opened.pinned == [f"{bpf_files}/list"]
        assert [event for event in opened if isinstance(event, Row)] == []
    comm = Path("/proc/self/comm").read_text().strip()
    for _ in range(2):
        assert Path(f"{bpf_files}/list").read_text() == f"{os.getpid():<8}|{comm}|ff|100%\n"
    with pytest.raises(SyscallError, match="pin an iterator to") as refused, session(program, parameters=("1",)):
        pass
    assert refused.value.errno == EEXIST
    os.unlink(f"{bpf_files}/list")


@pytest.mark.parametrize("call", ["print(1)", "exit()", "clear(@)", 'system("true")', 'printf("%r", buf("a", 1))'])
def test_what_a_pinned_iterator_cannot_do(call: str) -> None:
    with pytest.raises(CompileError) as refused, session(f"iter:task:list {{ @ = 1; {call}; }}", unsafe=True):
        pass
    (diagnostic,) = refused.value.diagnostics
    assert "pinned" in diagnostic.message + str(diagnostic.hint)


@pytest.fixture(scope="module")
def watched(tmp_path_factory: pytest.TempPathFactory) -> tuple[str, str]:
    """A program that writes a variable three times in each of two threads, and the variable's address."""
    program = build("watched", tmp_path_factory.mktemp("watched"), "-no-pie", "-lpthread")
    shown = subprocess.run([program], input=b"x", capture_output=True, check=True).stdout
    return str(program), shown.decode().strip()


@pytest.mark.parametrize(
    ("mode", "counts"),
    [
        ("w", {True: 3, False: 3}),
        # The main thread reads it once at the end.
        ("rw", {True: 4, False: 3}),
    ],
)
def test_accesses_of_all_threads_are_seen(mode: str, counts: dict[bool, int], watched: tuple[str, str]) -> None:
    program, address = watched
    with subprocess.Popen([program], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as child:
        assert child.stdin is not None
        assert child.stdout is not None
        child.stdout.readline()
        with session(f"watchpoint:{address}:8:{mode} {{ @[tid == pid] = count(); }}", pid=child.pid) as opened:
            child.stdin.write(b"x")
            child.stdin.close()
            for _ in opened:
                pass
    assert opened.maps["@"].to_dict() == counts


def test_a_watchpoint_is_removed(watched: tuple[str, str]) -> None:
    program, address = watched
    with subprocess.Popen([program], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as child:
        assert child.stdin is not None
        assert child.stdout is not None
        child.stdout.readline()
        with session(
            f"begin {{ unwatch({address}); }} interval:ms:50 {{ print(1); }} "
            f"watchpoint:{address}:8:w {{ @gone = count(); }}",
            pid=child.pid,
        ) as opened:
            for event in opened:
                if isinstance(event, Row) and not child.stdin.closed:
                    child.stdin.write(b"x")
                    child.stdin.close()
    assert opened.maps["@gone"].to_dict() == {None: 0}


def test_a_command_is_watched_from_its_start(watched: tuple[str, str]) -> None:
    program, address = watched
    result = run(f"watchpoint:{address}:8:w {{ @[tid == pid] = count(); }}", command=["sh", "-c", f"echo | {program}"])
    counts = dict(line.split(": ") for line in result.text.splitlines() if line)
    assert counts["@[false]"] == "3"
    # The kernel clears the page of the variable when it starts the program.
    assert int(counts["@[true]"]) in (3, 4)


@pytest.mark.parametrize(
    ("program", "code", "hint"),
    [
        ("watchpoint:0x1001:8:w { }", EINVAL, "multiple of the length"),
        (" ".join(f"watchpoint:{place}:8:w {{ }}" for place in range(0x1000, 0x1028, 8)), ENOSPC, "4 places"),
    ],
)
def test_what_the_processor_cannot_watch(program: str, code: int, hint: str) -> None:
    with pytest.raises(SyscallError) as refused, session(program, pid=os.getpid()):
        pass
    assert refused.value.errno == code
    assert hint in str(refused.value.hint)
