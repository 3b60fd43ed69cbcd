"""Every bpf(2) and perf_event_open(2) of a trace refused, one after the other: one clear line, and nothing left."""

from __future__ import annotations

import errno
import os
import re
import sys
from collections import Counter
from collections.abc import Iterator
from types import FrameType
from typing import Final, NamedTuple

import pytest

from invivo.cli.main import run_words
from invivo.kernel import abi, syscalls
from leftovers import command_name, objects, remaining, state

# Calls getppid some times, and lives long enough for a timer to fire.
CALLER: Final = "import os, time\nfor _ in range(8): os.getppid(); time.sleep(0.004)"
COMMAND: Final = f'{sys.executable} -S -E -c "{CALLER}"'

_SYSTEM_CALL: Final = 't:syscalls:sys_enter_getppid { printf("%d %s\\n", pid, comm); }'
_FUNCTIONS: Final = """
    uprobe:libc:getppid {
        @calls[tid] = count();
        for ($i : 0..10) { @sum = sum($i); }
        for ($kv : @calls) { @seen[$kv.0] = 1; }
    }
    profile:hz:999 { @stacks[ustack] = count(); }
    t:syscalls:sys_enter_exit_group { @ending[kstack] = count(); }
    interval:ms:10 { print(@calls); clear(@calls); zero(@seen); }
    END { @last[1] = 1; print(@sum); }
"""
_BEGIN_AND_END: Final = """
    BEGIN { @h = hist(10); @h = hist(1000); @s[1] = stats(5); }
    END { print(@h); clear(@s); printf("end\\n"); }
"""

# What the kernel answers when it refuses such a call: no privilege, no memory, too many, too old.
ERRNO: Final = {
    "BPF_MAP_CREATE": errno.ENOMEM,
    "BPF_MAP_LOOKUP_ELEM": errno.ENOMEM,
    "BPF_MAP_UPDATE_ELEM": errno.E2BIG,
    "BPF_MAP_DELETE_ELEM": errno.EPERM,
    "BPF_MAP_FREEZE": errno.EPERM,
    "BPF_BTF_LOAD": errno.EINVAL,
    "BPF_PROG_LOAD": errno.EPERM,
    "BPF_RAW_TRACEPOINT_OPEN": errno.ENOMEM,
    "BPF_LINK_CREATE": errno.EINVAL,
    "BPF_PROG_TEST_RUN": errno.EINVAL,
    "BPF_MAP_LOOKUP_BATCH": errno.ENOMEM,
    "BPF_MAP_LOOKUP_AND_DELETE_BATCH": errno.ENOMEM,
    "perf_event_open": errno.EPERM,
}
# Refused once, these are asked again, with a log.
ASKED_AGAIN: Final = frozenset({"BPF_PROG_LOAD", "BPF_BTF_LOAD"})
# A running trace reads as often as its timers fire: the first calls of a kind stand for the others.
MOST_WHILE_RUNNING: Final = 2


class Call(NamedTuple):
    """A call of a trace: the how manieth of its kind at its place (start, run, symbols, mappings)."""

    name: str
    place: str
    occurrence: int


class Refusal:
    """A gate: refuses one call, or from it on all of its kind; keeps what was called, and the ids it saw."""

    def __init__(self, refused: Call | None = None, *, lasting: bool = False) -> None:
        self.calls: list[Call] = []
        self.objects: set[tuple[str, int]] = set()
        self.hits = 0
        self._refused, self._lasting = refused, lasting
        self._counts: Counter[tuple[str, str]] = Counter()

    def __call__(self, name: str, command: int) -> int:
        kind, place = command_name(name, command), calling_place()
        call = Call(kind, place, self._counts[kind, place])
        self._counts[kind, place] += 1
        self.calls.append(call)
        refused = self._refused
        if call != refused and not (self._lasting and self.hits and refused is not None and kind == refused.name):
            return 0
        if not self.hits:
            self.objects = objects(os.getpid())
        self.hits += 1
        return ERRNO[kind]


def calling_place() -> str:
    """Return who asks: the namer of kernel symbols, who watches mappings, a session that runs, or one that starts."""
    frame: FrameType | None = sys._getframe(2)
    place = "start"
    while frame is not None:
        code = frame.f_code
        if code.co_filename.endswith("/kernel/kallsyms.py"):
            return "symbols"
        if code.co_filename.endswith("/kernel/task_events.py"):
            return "mappings"
        if code.co_name == "batches":
            place = "run"
        frame = frame.f_back
    return place


@pytest.fixture(autouse=True)
def open_gate() -> Iterator[None]:
    """Whatever a test does, the next one's calls go through."""
    yield
    syscalls.set_gate(None)


def traced(words: list[str], gate: Refusal) -> int:
    """Run the command in this process, with a gate; return its exit status."""
    syscalls.set_gate(gate)
    try:
        return run_words(["run", "-q", *words])
    finally:
        syscalls.set_gate(None)


def sweep(words: list[str], capfd: pytest.CaptureFixture[str]) -> set[tuple[str, str]]:
    """Refuse each call, once and lastingly; return what was refused, and where."""
    assert traced(words, Refusal()) == 0, capfd.readouterr().err  # opens what stays open in this process
    usual = Refusal()
    assert traced(words, usual) == 0
    capfd.readouterr()
    before = state()
    seen: set[tuple[str, int]] = set()
    refused: set[tuple[str, str]] = set()
    for call in usual.calls:
        if call.place != "start" and call.occurrence >= MOST_WHILE_RUNNING:
            continue
        # A lasting refusal of a later call of the kind is that of the first, a little later.
        for lasting in (False, True) if not call.occurrence or call.name in ASKED_AGAIN else (False,):
            gate = Refusal(call, lasting=lasting)
            status = traced(words, gate)
            errors = capfd.readouterr().err
            what = f"{call} lasting={lasting} hits={gate.hits}: status {status}\n{errors}"
            assert gate.hits or call.occurrence, what  # a later one may come too late in this run
            asked_again = call.name in ASKED_AGAIN and not lasting
            # Mappings are read from time to time then.
            in_other_ways = call.place == "symbols" or (call.place == "mappings" and not lasting)
            goes_on = not gate.hits or asked_again or in_other_ways
            is_told(errors, status, ERRNO[call.name], what, goes_on=goes_on)
            assert state() == before, what
            seen |= gate.objects
            refused |= {(call.name, call.place)} if gate.hits else set()
    assert seen
    assert not remaining(seen)
    return refused


def is_told(errors: str, status: int, code: int, what: str, *, goes_on: bool) -> None:
    assert "Traceback" not in errors, what
    assert "internal error" not in errors, what
    if status == 0:
        assert goes_on, what
        assert errors == "", what
        return
    assert status == 1, what
    assert not goes_on, what
    line, *hints = errors.splitlines()
    assert re.fullmatch(rf"invivo run: .+: {re.escape(os.strerror(code))} \(errno {code}\)", line), what
    assert all(hint.startswith("hint: ") for hint in hints), what
    assert len(hints) <= 1, what


def test_a_system_call_printed_from_a_command(capfd: pytest.CaptureFixture[str]) -> None:
    refused = sweep(["-e", _SYSTEM_CALL, "-c", COMMAND], capfd)
    assert {name for name, _ in refused} >= {"BPF_MAP_CREATE", "BPF_PROG_LOAD", "BPF_RAW_TRACEPOINT_OPEN"}


def test_functions_timers_and_loops(capfd: pytest.CaptureFixture[str]) -> None:
    """Kernel symbols are asked of a small BPF program; where that is refused, of a file."""
    refused = sweep(["-e", _FUNCTIONS, "-c", COMMAND], capfd)
    starting = {"perf_event_open", "BPF_MAP_CREATE", "BPF_BTF_LOAD", "BPF_PROG_LOAD", "BPF_LINK_CREATE"}
    running = {"BPF_MAP_LOOKUP_BATCH", "BPF_MAP_LOOKUP_AND_DELETE_BATCH", "BPF_PROG_TEST_RUN"}
    symbols = {"BPF_MAP_CREATE", "BPF_PROG_LOAD", "BPF_PROG_TEST_RUN"}
    expected = {"start": starting, "run": running, "symbols": symbols}
    assert refused >= {(name, place) for place, names in expected.items() for name in names}


def test_begin_and_end_with_histograms(capfd: pytest.CaptureFixture[str]) -> None:
    refused = sweep(["-e", _BEGIN_AND_END], capfd)
    assert refused >= {("BPF_PROG_TEST_RUN", "start"), ("BPF_PROG_TEST_RUN", "run"), ("BPF_MAP_LOOKUP_BATCH", "run")}


@pytest.mark.parametrize("number", [abi.SYS_FSOPEN, abi.SYS_FSCONFIG, abi.SYS_FSMOUNT])
def test_the_private_mount_of_tracefs(
    number: int, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each of the three calls that make it refused; where tracefs is mounted, none of them is made."""
    words = ["-e", _SYSTEM_CALL, "-c", COMMAND]
    assert traced(words, Refusal()) == 0
    capfd.readouterr()
    before = state()
    call, refused = syscalls.call, list[int]()

    def refusing(which: int, *arguments: int) -> int:
        if which == number:
            refused.append(which)
            return -errno.ENODEV
        return call(which, *arguments)

    monkeypatch.setattr(syscalls, "call", refusing)
    status = traced(words, Refusal())
    errors = capfd.readouterr().err
    is_told(errors, status, errno.ENODEV, f"status {status}\n{errors}", goes_on=not refused)
    assert state() == before
