"""What acts on processes and reads their symbols and the kernel's objects, with programs that the test started."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from invivo.events import MapSnapshot, Printed
from running import Result, run, run_bpftrace

_COMMAND = Path(sys.executable).with_name("invivo-bpftrace")

_SOURCE = r"""
#include <stdio.h>
unsigned int number = 4711;
unsigned char small = 7;
unsigned long wide = 1UL << 40;
char text[100] = "some text";
__attribute__((noinline)) int one(int a) { __asm__ volatile(""); return a + small; }
__attribute__((noinline)) int two(int a) { __asm__ volatile(""); return a + (int)number; }
int main(void) { return one(1) + two(2) + (int)wide + text[0] == 0; }
"""


@pytest.fixture(scope="module")
def symbols(tmp_path_factory: pytest.TempPathFactory) -> str:
    folder = tmp_path_factory.mktemp("symbols")
    (folder / "symbols.c").write_text(_SOURCE)
    subprocess.run(["cc", "-O1", "-fPIE", "-pie", "-o", folder / "symbols", folder / "symbols.c"], check=True)
    return str(folder / "symbols")


@pytest.fixture
def sleeper() -> Iterator[subprocess.Popen[bytes]]:
    with Path("/proc/sys/kernel/ostype").open() as file:
        process = subprocess.Popen(["sleep", "100"], stdin=file)
    yield process
    process.kill()
    process.wait()


def printed(result: Result) -> list[str]:
    return [event.text for event in result.events if isinstance(event, Printed)]


@pytest.mark.parametrize("provider", ["uprobe", "uretprobe"])
def test_symbols_wherever_a_program_is_mapped(symbols: str, provider: str) -> None:
    program = (
        f'{provider}:{symbols}:one {{ printf("%d %d %ld %s", *uaddr("number"), *uaddr("small"), *uaddr("wide"), '
        'str(uaddr("text"))); }'
    )
    assert printed(run(program, command=[symbols])) == ["4711 7 1099511627776 some text"]


@pytest.mark.parametrize("provider", ["uprobe", "uretprobe"])
def test_symbols_from_several_places(symbols: str, provider: str) -> None:
    program = f'{provider}:{symbols}:one, {provider}:{symbols}:two {{ @[probe, *uaddr("number")] = count(); }}'
    (counts,) = (event for event in run(program, command=[symbols]).events if isinstance(event, MapSnapshot))
    assert counts.to_dict() == {(f"{provider}:{symbols}:{name}", 4711): 1 for name in ("one", "two")}


def test_a_symbol_that_is_not_there(symbols: str) -> None:
    result = run_bpftrace(f'uprobe:{symbols}:one {{ print(uaddr("nothing")); }}')
    assert f"ERROR: Could not resolve symbol: {symbols}:nothing\n" in result.errors
    assert result.status == 1


@pytest.mark.parametrize(
    ("call", "number"), [('signal("SIGTERM")', 15), ("signal(10)", 10), ('signal_thread("USR2")', 12)]
)
def test_a_signal_ends_the_process(call: str, number: int) -> None:
    program = f"tracepoint:syscalls:sys_enter_clock_nanosleep {{ {call}; }}"
    result = run(program, command=["sleep", "100"], unsafe=True)
    assert result.status == 128 + number


def test_a_signal_whose_number_is_computed() -> None:
    program = "tracepoint:syscalls:sys_enter_clock_nanosleep { $n = (uint64)cpu * 0 + 15; signal($n); }"
    assert run(program, command=["sleep", "100"], unsafe=True).status == 128 + 15


def test_paths_of_open_files(sleeper: subprocess.Popen[bytes]) -> None:
    program = (
        f"iter:task_file / ctx.task.tgid == {sleeper.pid} && ctx.fd == 0 / "
        '{ printf("%s|%s", path(ctx.file.f_path), path(ctx.file.f_path, 6)); }'
    )
    assert printed(run(program)) == ["/proc/sys/kernel/ostype|ostype"]


@pytest.mark.requires("kfunc:bpf_task_from_pid")
def test_names_of_other_processes(sleeper: subprocess.Popen[bytes]) -> None:
    program = (
        f"iter:task / ctx.task.pid == {sleeper.pid} / "
        f'{{ printf("%s %s %d", comm({sleeper.pid}), pcomm(ctx.task) == comm(ppid(ctx.task)) ? "same" : "other", '
        "ppid(ctx.task)); }"
    )
    assert printed(run(program)) == [f"sleep same {os.getpid()}"]


def test_a_command_whose_end_nobody_wants_to_hear_of() -> None:
    """SIGCHLD may be ignored by whoever starts a tracer: the command's status is there all the same."""
    words = [sys.executable, "-m", "invivo", "run", "-q", "-e", 'END { printf("end\\n"); }', "-c", "sh -c 'exit 3'"]
    start = f"import os, signal; signal.signal(signal.SIGCHLD, signal.SIG_IGN); os.execv({words[0]!r}, {words!r})"
    done = subprocess.run([sys.executable, "-c", start], capture_output=True, text=True, check=False, timeout=60)
    assert (done.returncode, done.stdout, done.stderr) == (3, "end\n", "")


@pytest.mark.requires("kfunc:bpf_task_from_pid")
def test_a_process_that_is_not_there() -> None:
    program = 'rawtracepoint:sched_process_exit { printf("%s", comm(999999999)); }'
    result = run(program, command=["true"])
    assert printed(result) == ["N/A"]
    assert "No process with this id." in result.errors


def test_ids_inside_a_namespace() -> None:
    program = 'begin { printf("%d %d %d", pid, tid(curr_ns), pid(init) > 1); }'
    done = subprocess.run(
        ["unshare", "--pid", "--fork", _COMMAND, "-q", "-e", program],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.stdout.strip() == "1 1 1", done.stderr
