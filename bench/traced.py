"""How much slower does a program get while it is traced: a loop of calls, ``find``, a web server, PostgreSQL?

BCC is fetched with the headers of Debian's kernel (it finds none for a kernel that has no package): what its programs
here use of them is the same in all kernels.  The members of ``task_struct`` are not, so it cannot tell children, and
is left out where several processes are traced.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from bench import database
from bench.contenders import BPFTRACE, INVIVO, Bench, Contender, Load, Run
from bench.figures import LOST, TOLD, Figures
from bench.machine import BenchError, fetch, need, newest
from invivo.record import Record

TITLE = "The traced program"
_UNTRACED = "untraced"
_TIME = "time, ms"
_FACTOR = "times as long as untraced"
_WEB = Path(__file__).with_name("web.py")
_BCC = Path(__file__).with_name("bcc_trace.py")
_REQUESTS = 2000
_TRANSACTIONS = 400
_FIND_IN = ("/usr/share", "/usr/lib")
_SHARE = 8  # the loop makes this part of the calls that other questions make: strace takes 0.1 ms for one

_COUNT = "tracepoint:raw_syscalls:sys_enter /scope/ { @[args->id] = count(); }"
_PRINT = 'tracepoint:raw_syscalls:sys_enter /scope/ { printf("%d %d\\n", tid, args->id); }'
_PROFILE = "profile:hz:99 /scope/ { @[ustack, kstack] = count(); }"
# What strace shows: number and arguments, the paths (to 63 characters, as bpftrace 0.17 has room for), the result.
_LIKE_STRACE = (
    'tracepoint:raw_syscalls:sys_enter /scope/ { printf("%d %d(%lx, %lx, %lx, %lx)\\n", tid, args->id, '
    "args->args[0], args->args[1], args->args[2], args->args[3]); } "
    'tracepoint:raw_syscalls:sys_exit /scope/ { printf("%d = %ld\\n", tid, args->ret); } '
    "tracepoint:syscalls:sys_enter_openat, tracepoint:syscalls:sys_enter_newfstatat /scope/ "
    '{ printf("%d %s\\n", tid, str(args->filename, 64)); }'
)


class Manner(Record):
    """A way of tracing, as the command that traces another command; text goes to a file.

    ``sees`` says how often a call is in that text, by its number and name; None: calls are not in it.
    """

    name: str
    contender: str
    command: Callable[[Sequence[str], Path], list[str]]
    sees: Callable[[str, int, str], int] | None


def _counted(text: str, number: int, name: str) -> int:
    found = re.search(rf"^@\[{number}\]: (\d+)$", text, re.MULTILINE)
    return int(found[1]) if found else 0


def _printed(text: str, number: int, name: str) -> int:
    return len(re.findall(rf"^\d+ {number}\b", text, re.MULTILINE))


def _named(text: str, number: int, name: str) -> int:
    """In strace's form. (A call that another thread interrupts has two lines there, one of which has the bracket.)"""
    return len(re.findall(rf"\b{name}\(", text))


def _program(
    name: str, source: str, sees: Callable[[str, int, str], int] | None, tracers: Sequence[Contender]
) -> list[Manner]:
    def manner(each: Contender) -> Manner:
        return Manner(name, each.name, lambda command, out: each.command(source, command, out), sees)

    return [manner(each) for each in tracers]


# As much memory for the events that wait as invivo's ring has.
_BUFFERS = ("env", "BPFTRACE_PERF_RB_PAGES=2048", *BPFTRACE.words)
_ALONE = (INVIVO, Contender(BPFTRACE.name, BPFTRACE.scope, _BUFFERS))
_WITH_CHILDREN = (
    INVIVO,
    Contender(BPFTRACE.name, "/pid == cpid || curtask->real_parent->tgid == cpid/", _BUFFERS),
)


def _bcc(words: Sequence[str], manner: str) -> Callable[[Sequence[str], Path], list[str]]:
    return lambda command, out: [*words, manner, str(out), *command]


def _manners(tracers: Sequence[Contender], bcc: Sequence[str]) -> list[Manner]:
    """All ways of tracing. ``bcc``: how its programs are run, if they can trace this."""
    count, show, like = "calls counted by number", "calls printed", "calls as strace shows them"
    return [
        *_program(count, _COUNT, _counted, tracers),
        *([Manner(count, "BCC", _bcc(bcc, "count"), _counted)] if bcc else []),
        *_program(show, _PRINT, _printed, tracers),
        *([Manner(show, "BCC", _bcc(bcc, "print"), _printed)] if bcc else []),
        *_program(like, _LIKE_STRACE, _printed, tracers),
        Manner(like, "perf trace", lambda command, out: ["perf", "trace", "-o", str(out), *command], _named),
        Manner(like, "strace", lambda command, out: ["strace", "-f", "-o", str(out), *command], _named),
        *_program("stacks at 99 Hz", _PROFILE, None, tracers),
    ]


class Work(Record):
    """A program, and how it is run in a folder.

    ``time_ns`` runs its (traced) command, and says how long the work took, and what the tracer did.
    ``call``: number and name of a call that it makes ``at_least`` so often (``exactly``: and no more).
    """

    name: str
    command: list[str]
    time_ns: Callable[[Bench, Path, list[str]], tuple[float, Run]]
    call: tuple[int, str]
    at_least: int
    exactly: bool = False
    tracers: Sequence[Contender] = _ALONE


def _load_time_ns(bench: Bench, folder: Path, command: list[str]) -> tuple[float, Run]:
    load = _load(bench)
    load.reset()
    run = bench.launcher.run(command)
    return load.finished().call_ns * load.calls, run


def _load(bench: Bench) -> Load:
    return Load(bench.load.program, bench.load.calls // _SHARE)


def _find(folder: Path) -> list[str]:
    """A script that becomes find: the same process, so that a filter by process sees it."""
    script = folder / "find"
    script.write_text(
        f"#!/bin/sh\n: > {folder}/start\nexec find {' '.join(_FIND_IN)} -name libc.so.6 > {folder}/found\n"
    )
    script.chmod(0o700)
    return ["/bin/sh", str(script)]


def _find_time_ns(bench: Bench, folder: Path, command: list[str]) -> tuple[float, Run]:
    """From the file that the shell made to find's only write, which it makes when it ends."""
    for name in ("start", "found"):
        (folder / name).unlink(missing_ok=True)
    run = bench.launcher.run(command)
    if not (folder / "found").read_text().endswith("libc.so.6\n"):
        raise BenchError("find did not find")
    return (folder / "found").stat().st_mtime_ns - (folder / "start").stat().st_mtime_ns, run


def _serve(folder: Path) -> list[str]:
    return [sys.executable, "-S", str(_WEB), "serve", str(folder / "port"), str(_REQUESTS)]


def _serve_time_ns(bench: Bench, folder: Path, command: list[str]) -> tuple[float, Run]:
    (folder / "port").unlink(missing_ok=True)
    ask = [sys.executable, "-S", str(_WEB), "ask", str(folder / "port"), str(_REQUESTS)]
    said, run = _with_client(bench, command, ask)
    return float(said), run


def _with_client(bench: Bench, command: list[str], client: list[str]) -> tuple[str, Run]:
    """Run a (traced) server, and a client that measures it and makes it end; return what the client said."""
    with subprocess.Popen(client, stdout=subprocess.PIPE, text=True) as asking:
        try:
            run = bench.launcher.run(command)
            said, _ = asking.communicate(timeout=60)
        finally:
            asking.kill()
    if asking.returncode:
        raise BenchError(f"the client failed: {' '.join(client)}")
    return said, run


@contextmanager
def _works(bench: Bench, folder: Path) -> Iterator[list[Work]]:
    folders = sum(1 for top in _FIND_IN for _ in os.walk(top))
    calls = _load(bench).calls
    with database.made() as made:

        def query_time_ns(bench: Bench, folder: Path, command: list[str]) -> tuple[float, Run]:
            said, run = _with_client(bench, command, made.client(_TRANSACTIONS))
            return made.time_ns(said, _TRANSACTIONS), run

        yield [
            Work("system calls", _load(bench).command, _load_time_ns, (8, "lseek"), calls, exactly=True),
            Work("find", _find(folder), _find_time_ns, (217, "getdents64"), folders),
            Work("web server", _serve(folder), _serve_time_ns, (288, "accept4"), _REQUESTS),
            Work(
                "PostgreSQL",
                made.server,
                query_time_ns,
                (45, "recvfrom"),
                _TRANSACTIONS * database.STATEMENTS,
                tracers=_WITH_CHILDREN,
            ),
        ]


def measure(bench: Bench) -> Figures:
    """Run each work untraced and in all manners, in turn; the slow-down is taken within the round."""
    need("strace", "strace")
    need("perf", "linux-perf")
    bcc = _bcc_words()
    figures = Figures()
    folder = bench.load.program.parent
    os.chdir(_WEB.parent)  # what the web server serves
    with _works(bench, folder) as works:
        for number in range(bench.runs):
            for work in works:
                bench.note(f"traced, run {number + 1}: {work.name}")
                untraced_ns, _ = work.time_ns(bench, folder, work.command)
                for manner in _manners(work.tracers, bcc if work.tracers is _ALONE else ()):
                    case = f"{work.name}, {manner.name}"
                    if manner.contender == INVIVO.name:
                        figures.add(case, _UNTRACED, {_TIME: untraced_ns / 1e6})
                    figures.add(case, manner.contender, _traced(bench, work, manner, untraced_ns))
    return figures


def _traced(bench: Bench, work: Work, manner: Manner, untraced_ns: float) -> dict[str, float]:
    folder = bench.load.program.parent
    out = folder / "text"
    out.unlink(missing_ok=True)
    traced_ns, run = work.time_ns(bench, folder, manner.command(work.command, out))
    values = {_TIME: traced_ns / 1e6, _FACTOR: traced_ns / untraced_ns}
    if manner.sees is not None:
        text = out.read_text(errors="replace")
        seen = manner.sees(text, *work.call)
        told = sum(map(int, _SAID.findall(text + run.said.decode(errors="replace"))))
        missing = work.at_least - seen
        values[TOLD] = float(told)
        # What is told to be lost may have been any call.
        values[LOST] = missing if work.exactly and missing < 0 else max(0, missing - told)
    return values


_SAID = re.compile(r"^(?:Lost|LOST|warning: in all) (\d+) events", re.MULTILINE)


def _bcc_words() -> list[str]:
    """How ``bcc_trace.py`` is run: by the system's Python, with what is fetched for it."""
    common = newest("linux-headers-6.1.0-[0-9]+-common")
    headers = fetch("bcc", "python3-bpfcc", common, common.replace("-common", "-amd64"))
    sources = headers / "usr" / "src"
    whole = sources / "whole"
    if not whole.exists():
        # BCC wants one tree; Debian has one of all that is the same for its kernels, and one for each.
        for part in (common, common.replace("-common", "-amd64")):
            for name in ("arch", "include"):
                shutil.copytree(sources / part / name, whole / name, symlinks=True, dirs_exist_ok=True)
    modules = headers / "usr" / "lib" / "python3" / "dist-packages"
    return ["env", f"BCC_KERNEL_SOURCE={whole}", f"PYTHONPATH={modules}", "/usr/bin/python3", str(_BCC)]
