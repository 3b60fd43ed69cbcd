"""Frames of Python functions in processes that know nothing of it: order, names, threads, broken memory."""

from __future__ import annotations

import subprocess
import sys
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import pytest

from invivo.events import Ended, Frame, MapSnapshot, Stack
from invivo.profiling.programs import Stacks, Waits, event_program, wait_program
from python_interpreters import INTERPRETERS
from running import session

PROGRAM = """
import os, threading, time

class Worker(threading.Thread):
    def run(self):
        while True:
            self.blocked()

    def blocked(self):
        time.sleep(0.001)

def leaf():
    os.getppid()

def k\u00e9y(x):
    leaf()
    return x

def through_sorted():
    sorted([1], key=k\u00e9y)

def through_map():
    list(map(lambda x: leaf(), [1]))

def steps():
    while True:
        leaf()
        yield

def main():
    Worker(daemon=True).start()
    generator = steps()
    while True:
        through_sorted()
        through_map()
        next(generator)

main()
"""

_COUNTS = """
tracepoint:syscalls:sys_enter_getppid /len(pystack) > 0/ {
    @on[pystack] = count();
    if (++@n >= 50 && @m >= 10) { exit(); }
}
tracepoint:sched:sched_switch /pid != tid && len(pystack) > 2/ { @off[pystack] = count(); @m++; }
"""


class Run:
    """The maps of a run as counted stacks, and what it lost."""

    def __init__(self, program: str, command: Sequence[str]) -> None:
        self.maps: dict[str, Counter[Stack]] = {}
        self.losses: dict[str, int] = {}
        with session(program, command=command, unsafe=True) as opened:
            for event in opened:
                if isinstance(event, MapSnapshot) and not event.scalar:
                    counts = self.maps[event.name] = Counter()
                    for key, value in event.entries:
                        assert key is not None and isinstance(key[0], Stack) and isinstance(value, int)
                        counts[key[0]] += value
                elif isinstance(event, Ended):
                    self.losses = {kind: count for kind, _, count in event.losses}


def _told(frames: Sequence[Frame]) -> list[tuple[str, int, bool]]:
    return [(frame.symbol, frame.offset, frame.is_entry) for frame in frames]


@pytest.mark.parametrize("interpreter", INTERPRETERS)
def test_names_in_order(interpreter: str, tmp_path: Path) -> None:
    script = tmp_path / "target.py"
    script.write_text(PROGRAM)
    lines = {text.strip().rstrip(":"): number for number, text in enumerate(PROGRAM.splitlines(), 1)}
    leaf = ("leaf", lines["def leaf()"], False)
    main = [("main", lines["def main()"], False), ("<module>", 1, True)]
    run = Run(_COUNTS, (interpreter, str(script)))
    by_callback = [
        leaf,
        ("k\u00e9y", lines["def k\u00e9y(x)"], True),
        ("through_sorted", lines["def through_sorted()"], False),
    ]
    anonymous = lines["list(map(lambda x: leaf(), [1]))"]
    by_map = [leaf, ("through_map.<locals>.<lambda>", anonymous, True)]
    by_map.append(("through_map", lines["def through_map()"], False))
    by_generator = [leaf, ("steps", lines["def steps()"], True)]
    assert sorted(_told(stack.frames) for stack in run.maps["@on"]) == sorted(
        [*frames, *main] for frames in (by_callback, by_map, by_generator)
    )
    assert all(stack.complete for stack in run.maps["@on"])
    assert {frame.module for stack in run.maps["@on"] for frame in stack.frames} == {str(script)}
    waits = [_told(stack.frames)[:2] for stack in run.maps["@off"]]
    blocked = [("Worker.blocked", lines["def blocked(self)"], False), ("Worker.run", lines["def run(self)"], False)]
    assert blocked in waits


def test_children_of_a_fork(tmp_path: Path) -> None:
    """They have another thread id and the memory of their parent."""
    script = tmp_path / "target.py"
    script.write_text(
        "import os\n"
        "def child():\n    first = os.getppid()\n    while os.getppid() == first: pass\n    os._exit(0)\n"
        "def parent():\n    os.fork() or child()\n    os.wait()\n"
        "parent()\n"
    )
    program = "tracepoint:syscalls:sys_enter_getppid /len(pystack) > 0/ { @[pystack] = count(); exit(); }"
    ((stack, _),) = Run(program, (sys.executable, str(script))).maps["@"].items()
    assert [frame.symbol for frame in stack.frames] == ["child", "parent", "<module>"]


def test_deep_recursion_is_cut(tmp_path: Path) -> None:
    script = tmp_path / "target.py"
    script.write_text("import os\ndef deep(n):\n    while n == 0: os.getppid()\n    deep(n - 1)\ndeep(200)\n")
    program = "tracepoint:syscalls:sys_enter_getppid /len(pystack) > 0/ { @[pystack] = count(); exit(); }"
    ((stack, _),) = Run(program, (sys.executable, str(script))).maps["@"].items()
    assert [frame.symbol for frame in stack.frames] == ["deep"] * 127 and not stack.complete


# -- broken memory -------------------------------------------------------------------------------

# What looks like CPython 3.13 and is not: its own idea of where everything is, in a section of the right name.
HOSTILE = r"""
#include <signal.h>
#include <stdint.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>
struct text { uint64_t refs, type, length, hash; uint32_t state, pad; char data[64]; };
static struct text name = {.length = 3, .state = 1 << 2 | 1 << 5 | 1 << 6, .data = "bad"};
static struct { struct text head; char more[64]; } endless = {{.length = 1ull << 40, .state = 4 << 2}};
struct code { char at[136]; };
static struct code good, bad;
struct frame { uint64_t code, previous, more[6]; uint32_t top; uint16_t offset; uint8_t owner; } frames[2];
struct thread { uint64_t next, frame, id; } threads[2];
struct interpreter { uint64_t next, threads; } interpreter;
struct runtime { uint64_t words[71]; uint64_t head; }
    runtime __attribute__((section(".PyRuntime"))) = {.words = {
    0x7970677562656478, 0x030d00f0, 0, 0, 0, sizeof(uint64_t) * 71, 0, 0,
    0, 8, [21] = 0, [23] = 8, [25] = 16, [29] = 8, [30] = 0, [33] = 70, [35] = 112, [37] = 128, [39] = 68,
    [68] = 32, [69] = 16, [70] = 40}};
static volatile int told;
static void tell(int number) { told = 1; }
int main(int count, char **words) {
    char how = words[1][0];
    memcpy(good.at + 112, &(void *){&name}, 8), memcpy(good.at + 128, &(void *){&name}, 8);
    memcpy(bad.at + 112, &(void *){&name}, 8), memcpy(bad.at + 128, &(void *){&endless}, 8);
    frames[0] = (struct frame){(uint64_t)&good, (uint64_t)&frames[1]};
    frames[1] = (struct frame){(uint64_t)&good, 0};
    threads[0] = (struct thread){(uint64_t)&threads[1], (uint64_t)frames, -1};
    threads[1] = (struct thread){0, (uint64_t)frames, syscall(SYS_gettid)};
    interpreter = (struct interpreter){0, (uint64_t)threads};
    runtime.head = (uint64_t)&interpreter;
    endless.more[0] = name.pad = 0;
    signal(SIGUSR1, tell);
    while (!told) syscall(SYS_getppid);
    if (how == 't') threads[1] = (struct thread){(uint64_t)threads, 0, -1};       /* a circle of threads */
    if (how == 'i') interpreter = (struct interpreter){(uint64_t)&interpreter, 0}; /* a circle of interpreters */
    if (how == 'f') frames[1].previous = (uint64_t)frames;                         /* a circle of frames */
    if (how == 'c') frames[1].code = 0xdeadbeef00000123;                           /* no code object */
    if (how == 'n') frames[1].code = (uint64_t)&bad;                               /* a name without an end */
    if (how == 's') for (int i = 0; i < 2; i++) frames[i].owner = 3, frames[i].previous = (uint64_t)frames;
    if (how == 'r') runtime.head = 0x4141414141414141;
    for (;;) syscall(SYS_getpgid, 0);
}
"""


@pytest.fixture(scope="module")
def hostile(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("hostile")
    (folder / "hostile.c").write_text(HOSTILE)
    subprocess.run(["gcc", "-w", "-o", folder / "python-hostile", folder / "hostile.c"], check=True)
    return folder / "python-hostile"


@pytest.mark.parametrize(
    "how, count, names, fails",
    [
        pytest.param("-", 2, {"bad"}, False, id="none"),
        pytest.param("t", 0, set(), False, id="threads in a circle"),
        pytest.param("i", 0, set(), False, id="interpreters in a circle"),
        pytest.param("f", 127, {"bad"}, False, id="frames in a circle"),
        pytest.param("c", 1, {"bad"}, True, id="no code object"),
        pytest.param("n", 2, {"bad", 31 * "\0" + ".."}, False, id="a name without an end"),
        pytest.param("s", 0, set(), False, id="boundaries without an end"),
        pytest.param("r", 0, set(), True, id="no interpreter"),
    ],
)
def test_broken_memory_is_harmless(hostile: Path, how: str, count: int, names: set[str], fails: bool) -> None:
    """The process is told to break its memory when its frames have been seen."""
    program = (
        'tracepoint:syscalls:sys_enter_getppid /len(pystack) == 2/ { signal("USR1"); } '
        "tracepoint:syscalls:sys_enter_getpgid { @[pystack] = count(); if (++@n == 20) { exit(); } }"
    )
    run = Run(program, (str(hostile), how))
    ((stack, _),) = run.maps["@"].items()
    assert len(stack.frames) == count and {frame.symbol for frame in stack.frames} == names
    assert stack.complete == (not fails and count < 127)
    assert bool(run.losses.get("interpreter-memory")) is fails


# -- among native frames -------------------------------------------------------------------------


@pytest.mark.parametrize(
    "program",
    [
        pytest.param(event_program("profile:hz:99", "", Stacks(interpreted=("pystack",))), id="profile"),
        pytest.param(wait_program(Stacks(interpreted=("pystack",)), Waits()), id="offcpu"),
    ],
)
def test_the_programs_of_profiles_load(program: str) -> None:
    with session(program, command=("true",)) as opened:
        assert isinstance(list(opened)[-1], Ended)
