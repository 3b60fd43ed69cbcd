"""Sessions on the running kernel. Every program is scoped to a process that the test started."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from invivo.events import Attached, Complaint, Ended, Loss, MapSnapshot, Output, Printed, Row
from invivo.runtime.process import Child
from running import run, session

# Calls getppid as often as it is told.
CALLER = "import os, sys\nfor _ in range(int(sys.argv[1])): os.getppid()"
HITS = "tracepoint:syscalls:sys_enter_getppid"


def caller(count: int) -> list[str]:
    return [sys.executable, "-S", "-E", "-c", CALLER, str(count)]


def descriptors() -> list[str]:
    return sorted(os.listdir("/proc/self/fd"))


def children() -> list[str]:
    return Path(f"/proc/self/task/{os.getpid()}/children").read_text().split()


def test_records_come_in_the_order_of_the_program() -> None:
    found = run('BEGIN { printf("a\\n"); @x = 1; print(@x); @x = 2; print((1, "b")); time("%%\\n"); printf("c\\n"); }')
    assert [type(event) for event in found.events[1:-2]] == [
        Printed,
        MapSnapshot,
        Row,
        Output,
        Printed,
    ]
    assert found.text == "a\n@x: 2\n(1, b)\n%\nc\n\n\n@x: 2\n"


def test_exit_ends_at_once_and_gives_the_status() -> None:
    found = run('BEGIN { printf("before\\n"); exit(42); } END { printf("end\\n"); }')
    assert (found.text, found.status) == ("before\nend\n", 42)


def test_what_follows_exit_is_not_shown() -> None:
    found = run(f'{HITS} {{ @n++; printf("%d\\n", @n); if (@n == 3) {{ exit(); }} }}', command=caller(1000))
    lines = found.text.split("\n\n\n")[0].splitlines()
    assert lines == ["1", "2", "3"]
    assert found.events[-1] == Ended("exit", 0, ())


def test_every_hit_is_an_event_or_a_counted_loss() -> None:
    count = 30_000
    program = f'config = {{ perf_rb_pages = 1 }} {HITS} {{ printf("%d %s\\n", pid, comm); }}'
    found = run(program, command=caller(count))
    printed = sum(isinstance(event, Printed) for event in found.events)
    lost = sum(event.count for event in found.events if isinstance(event, Loss))
    last = found.events[-1]
    assert isinstance(last, Ended)
    assert printed + lost == count
    assert sum(total for _, _, total in last.losses) == lost


def test_print_and_clear_lose_no_more_than_the_update_of_that_moment() -> None:
    """The kernel deletes an element while a program may hold it: that program's one update is lost with it.

    Reading first and clearing then would lose all updates between the two.
    """
    count = 200_000
    program = f"{HITS} {{ @[tid] = count(); }} interval:ms:2 {{ print(@); clear(@); }}"
    found = run(program, command=caller(count))
    snapshots = [event for event in found.events if isinstance(event, MapSnapshot)]
    counted = sum(value for each in snapshots for value in each.to_dict().values() if isinstance(value, int))
    assert len(snapshots) > 2
    assert count - len(snapshots) <= counted <= count


def test_the_maps_stay_readable_and_no_descriptor_stays_open() -> None:
    run("BEGIN { exit(); }")  # what is opened once for the process
    before = descriptors()
    with session(f"{HITS} {{ @[comm] = count(); @total = count(); }}", command=caller(100)) as opened:
        assert [type(event).__name__ for event in opened][-1] == "Ended"
    assert opened.maps["@total"].to_dict() == {None: 100}
    assert list(opened.maps["@"].to_dict().values()) == [100]
    assert descriptors() == before


def test_leaving_early_ends_the_command_and_keeps_the_maps() -> None:
    before = children()
    with session(f"{HITS} {{ @ = count(); }}", command=["sleep", "100"]) as opened:
        next(iter(opened))
        assert len(children()) == len(before) + 1
    assert opened.maps["@"].to_dict() == {None: 0}
    assert children() == before


def test_the_scope_holds_the_command_and_its_descendants() -> None:
    child = Child(caller(500))
    child.start()  # not of the session
    script = "{ " + " ".join(f"'{word}'" for word in caller(70)) + "; } & wait"
    found = run(f"{HITS} {{ @[pid] = count(); }}", command=["sh", "-c", script])
    child.close()
    (at_end,) = [event for event in found.events if isinstance(event, MapSnapshot)]
    assert 70 in at_end.to_dict().values()
    assert 500 not in at_end.to_dict().values()


def test_a_watched_process_is_followed_until_it_ends() -> None:
    events = []
    with subprocess.Popen(["sh", "-c", "read go"], stdin=subprocess.PIPE) as process:
        program = "tracepoint:syscalls:sys_enter_exit_group { @[pid] = count(); }"
        with session(program, pid=process.pid) as opened:
            for event in opened:
                events.append(event)
                if isinstance(event, Attached):
                    assert process.stdin is not None
                    process.stdin.close()
    assert events[-1] == Ended("process", 0, ())
    (at_end,) = [event for event in events if isinstance(event, MapSnapshot)]
    assert at_end.to_dict() == {process.pid: 1}


def test_an_interrupt_ends_a_session_cleanly() -> None:
    script = f'BEGIN {{ printf("ready\\n"); }} {HITS} {{ @ = count(); }} END {{ printf("bye\\n"); }}'
    program = f"""
from running import run
found = run({script!r}, command=["sleep", "100"])
print(found.text, found.events[-1].reason, found.status)
"""
    # Something to wait for: the command of the session is there.
    with subprocess.Popen(
        [sys.executable, "-c", program], stdout=subprocess.PIPE, text=True, env=environment()
    ) as traced:
        wait_for_child(traced.pid)
        time.sleep(0.1)
        traced.send_signal(signal.SIGINT)
        out, _ = traced.communicate(timeout=30)
    assert out == "ready\nbye\n\n\n@: 0\n signal 0\n"


def test_kill_9_leaves_nothing() -> None:
    program = f"from running import run; run('{HITS} {{ @ = count(); }}', command=['sleep', '100'])"
    with subprocess.Popen([sys.executable, "-c", program], env=environment()) as traced:
        sleeper = wait_for_child(traced.pid)
        traced.kill()
    deadline = time.monotonic() + 10
    while is_running(sleeper) and time.monotonic() < deadline:
        time.sleep(0.01)
    assert not is_running(sleeper)


def environment() -> dict[str, str]:
    return {**os.environ, "PYTHONPATH": str(Path(__file__).parents[1])}


def wait_for_child(pid: int) -> int:
    """Return the process id of the command that a session has begun."""
    deadline = time.monotonic() + 30
    while time.monotonic() < deadline:
        found = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
        if found and Path(f"/proc/{found[0]}/comm").read_text() == "sleep\n":
            return int(found[0])
        time.sleep(0.01)
    pytest.fail("the session has not begun its command")


def is_running(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] not in "ZX"
    except OSError:
        return False


def test_equal_kernel_stacks_of_two_processes_are_one_key() -> None:
    processes = "import os\nfor child in (os.fork(), os.fork()):\n    os.getppid()\nchild and os.wait()"
    found = run(f"{HITS} {{ @[kstack(4)] = count(); }}", command=[sys.executable, "-S", "-E", "-c", processes])
    snapshot = next(event for event in found.events if isinstance(event, MapSnapshot))
    assert [value for _, value in snapshot.entries] == [8]


def test_what_is_told_while_arguments_are_evaluated_comes_before_what_is_printed_with_them() -> None:
    events = run('BEGIN { $a = (int8[4])1; $i = (uint64)7; printf("%s %d\\n", (1, $a[$i]), 1 / ($i - 7)); }').events
    assert [type(event) for event in events[1:4]] == [Complaint, Complaint, Printed]
