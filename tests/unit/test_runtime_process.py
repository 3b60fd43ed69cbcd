"""The command of -c: held, executed, reported, and never left behind."""

from __future__ import annotations

import os
import select
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from invivo.errors import ProcessError
from invivo.runtime.process import Child, Watch, descendants, find_command


def ended(child: Child, seconds: float = 5) -> int:
    poll = select.poll()
    poll.register(child.pidfd, select.POLLIN)
    assert poll.poll(seconds * 1000), "the command runs for ever"
    status = child.poll()
    assert status is not None
    return status


def state(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except OSError:
        return "gone"


def test_the_command_begins_when_it_is_started(tmp_path: Path) -> None:
    mark = tmp_path / "mark"
    child = Child(["sh", "-c", f"echo $$ > {mark}; exit 3"])
    time.sleep(0.05)
    assert not mark.exists()
    assert child.poll() is None
    child.start()
    assert ended(child) == 3
    assert int(mark.read_text()) == child.pid
    child.close()


def test_a_signal_is_128_and_its_number() -> None:
    child = Child(["sh", "-c", "kill -KILL $$"])
    child.start()
    assert ended(child) == 128 + signal.SIGKILL
    child.close()


def test_a_command_that_does_not_exist_is_refused_before_the_fork() -> None:
    with pytest.raises(ProcessError, match="no such command in PATH"):
        Child(["invivo-no-such-command"])
    with pytest.raises(ProcessError, match="No such file"):
        Child(["/no/such/file"])
    with pytest.raises(ProcessError):
        Child([])


def test_a_file_that_cannot_be_executed_is_reported_by_start(tmp_path: Path) -> None:
    script = tmp_path / "script"
    script.write_text("not a program")
    script.chmod(0o755)
    child = Child([str(script)])
    with pytest.raises(ProcessError, match="Exec format error"):
        child.start()
    child.close()
    assert state(child.pid) == "gone"


def test_a_command_that_was_never_started_leaves_nothing() -> None:
    before = set(os.listdir("/proc/self/fd"))
    child = Child(["sleep", "100"])
    child.close()
    assert state(child.pid) == "gone"
    assert set(os.listdir("/proc/self/fd")) == before


def test_closing_ends_a_command_that_runs() -> None:
    child = Child(["sleep", "100"])
    child.start()
    child.close()
    assert child.status == 128 + signal.SIGTERM
    assert state(child.pid) == "gone"


def test_a_command_that_ignores_sigterm_is_killed_after_a_while() -> None:
    child = Child(["sh", "-c", "trap '' TERM; while :; do sleep 0.05; done"])
    child.start()
    time.sleep(0.2)
    child.close()
    assert child.status == 128 + signal.SIGKILL


def test_python_s_ignored_signals_are_not_handed_down() -> None:
    # SIGXFSZ is bit 24 and SIGPIPE bit 12 of the mask; others are what the test run was started with.
    mask = "^SigIgn:\t.{9}[02468ace].{2}[02468ace].{3}$"
    child = Child(["grep", "-qE", mask, "/proc/self/status"])
    child.start()
    assert ended(child) == 0
    child.close()


@pytest.mark.parametrize("started", [False, True])
def test_the_command_dies_with_this_process(started: bool) -> None:
    program = (
        "import sys, time; from invivo.runtime.process import Child; child = Child(['sleep', '100']);"
        f"{'child.start();' if started else ''} print(child.pid, flush=True); time.sleep(100)"
    )
    with subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE, text=True) as parent:
        assert parent.stdout is not None
        pid = int(parent.stdout.readline())
        assert state(pid) in "SRD"
        parent.kill()
    deadline = time.monotonic() + 5
    while state(pid) not in ("gone", "Z") and time.monotonic() < deadline:
        time.sleep(0.01)
    assert state(pid) in ("gone", "Z")


def test_find_command(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "sleep").mkdir()
    (tmp_path / "tool").write_text("#!/bin/sh\n")
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    assert find_command("sleep") in ("/usr/bin/sleep", "/bin/sleep")  # not the directory
    with pytest.raises(ProcessError):
        find_command("tool")  # not executable
    (tmp_path / "tool").chmod(0o755)
    assert find_command("tool") == f"{tmp_path}/tool"


def test_a_watch_tells_when_its_process_is_over() -> None:
    with subprocess.Popen(["sleep", "100"]) as process:
        watch = Watch(process.pid)
        assert not watch.is_over()
        process.kill()
        process.wait()
        assert watch.is_over()
        watch.close()
    with pytest.raises(ProcessError, match=f"no process {process.pid}"):
        Watch(process.pid)


def test_descendants_are_found_at_every_depth() -> None:
    tree = {1: [2, 3], 2: [4], 4: [5]}
    assert sorted(descendants(1, lambda pid: tree.get(pid, []))) == [2, 3, 4, 5]
    with subprocess.Popen(["sh", "-c", "sleep 100 & wait"]) as process:
        deadline = time.monotonic() + 5
        while not (found := descendants(process.pid)) and time.monotonic() < deadline:
            time.sleep(0.01)
        assert len(found) == 1
        os.kill(found[0], signal.SIGKILL)
