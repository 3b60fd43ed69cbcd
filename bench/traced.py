"""How much slower does a program get while it is traced: a loop of system calls, ``find``, a web server in Python?"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

from bench.contenders import BPFTRACE, INVIVO, Bench, Contender, Load
from bench.figures import Figures
from bench.machine import BenchError, install
from invivo.record import Record

TITLE = "The traced program"
_UNTRACED = "untraced"
_TIME = "time, ms"
_FACTOR = "times as long as untraced"
_WEB = Path(__file__).with_name("web.py")
_REQUESTS = 2000

_COUNT = "tracepoint:raw_syscalls:sys_enter /scope/ { @[args->id] = count(); }"
_PRINT = 'tracepoint:raw_syscalls:sys_enter /scope/ { printf("%d %d\\n", tid, args->id); }'
_PROFILE = "profile:hz:99 /scope/ { @[ustack, kstack] = count(); }"
# What strace shows: number and arguments, the paths, the result.
_LIKE_STRACE = (
    'tracepoint:raw_syscalls:sys_enter /scope/ { printf("%d %d(%lx, %lx, %lx, %lx)\\n", tid, args->id, '
    "args->args[0], args->args[1], args->args[2], args->args[3]); } "
    'tracepoint:raw_syscalls:sys_exit /scope/ { printf("%d = %ld\\n", tid, args->ret); } '
    "tracepoint:syscalls:sys_enter_openat, tracepoint:syscalls:sys_enter_newfstatat /scope/ "
    '{ printf("%d %s\\n", tid, str(args->filename)); }'
)


class Manner(Record):
    """A way of tracing, as the command that traces another command; text goes to a file."""

    name: str
    contender: str
    command: Callable[[Sequence[str], Path], list[str]]


def _program(name: str, source: str) -> list[Manner]:
    def manner(each: Contender) -> Manner:
        return Manner(name, each.name, lambda command, out: each.command(source, command, out))

    return [manner(INVIVO), manner(BPFTRACE)]


MANNERS = (
    *_program("calls counted by number", _COUNT),
    *_program("calls printed", _PRINT),
    *_program("calls as strace shows them", _LIKE_STRACE),
    Manner(
        "calls as strace shows them", "perf trace", lambda command, out: ["perf", "trace", "-o", str(out), *command]
    ),
    Manner("calls as strace shows them", "strace", lambda command, out: ["strace", "-f", "-o", str(out), *command]),
    *_program("stacks at 99 Hz", _PROFILE),
)


class Work(Record):
    """A program: ``command`` for a folder; ``time_ns`` runs a (traced) command and says how long the work took."""

    name: str
    command: Callable[[Bench, Path], list[str]]
    time_ns: Callable[[Bench, Path, list[str]], float]


def _load_time_ns(bench: Bench, folder: Path, command: list[str]) -> float:
    load = _load(bench)
    load.reset()
    bench.launcher.run(command)
    return load.finished().call_ns * load.calls


def _load(bench: Bench) -> Load:
    return Load(bench.load.program, bench.load.calls // 4)


def _find(bench: Bench, folder: Path) -> list[str]:
    """A script that becomes find: the same process, so that a filter by process sees it."""
    script = folder / "find"
    script.write_text(
        f"#!/bin/sh\n: > {folder}/start\nexec find /usr/share /usr/lib -name libc.so.6 > {folder}/found\n"
    )
    script.chmod(0o700)
    return ["/bin/sh", str(script)]


def _find_time_ns(bench: Bench, folder: Path, command: list[str]) -> float:
    """From the file that the shell made to find's only write, which it makes when it ends."""
    for name in ("start", "found"):
        (folder / name).unlink(missing_ok=True)
    bench.launcher.run(command)
    if not (folder / "found").read_text().endswith("libc.so.6\n"):
        raise BenchError("find did not find")
    return (folder / "found").stat().st_mtime_ns - (folder / "start").stat().st_mtime_ns


def _serve(bench: Bench, folder: Path) -> list[str]:
    return [sys.executable, "-S", str(_WEB), "serve", str(folder / "port"), str(_REQUESTS)]


def _serve_time_ns(bench: Bench, folder: Path, command: list[str]) -> float:
    (folder / "port").unlink(missing_ok=True)
    ask = [sys.executable, "-S", str(_WEB), "ask", str(folder / "port"), str(_REQUESTS)]
    with subprocess.Popen(ask, stdout=subprocess.PIPE) as client:
        try:
            bench.launcher.run(command)
            said, _ = client.communicate(timeout=60)
        finally:
            client.kill()
    if client.returncode:
        raise BenchError("the web server's client failed")
    return float(said)


WORKS = (
    Work("system calls", lambda bench, folder: _load(bench).command, _load_time_ns),
    Work("find", _find, _find_time_ns),
    Work("web server", _serve, _serve_time_ns),
)


def measure(bench: Bench) -> Figures:
    """Run each work untraced and in all manners, in turn; the slow-down is taken within the round."""
    for tool, package in (("strace", "strace"), ("perf", "linux-perf")):
        if shutil.which(tool) is None:
            install(package)
    figures = Figures()
    folder = bench.load.program.parent
    os.chdir(_WEB.parent)  # what the web server serves
    for number in range(bench.runs):
        for work in WORKS:
            bench.note(f"traced, run {number + 1}: {work.name}")
            command = work.command(bench, folder)
            untraced_ns = work.time_ns(bench, folder, command)
            for manner in MANNERS:
                traced_ns = work.time_ns(bench, folder, manner.command(command, folder / "text"))
                case = f"{work.name}, {manner.name}"
                if manner.contender == INVIVO.name:
                    figures.add(case, _UNTRACED, {_TIME: untraced_ns / 1e6})
                figures.add(case, manner.contender, {_TIME: traced_ns / 1e6, _FACTOR: traced_ns / untraced_ns})
    return figures
