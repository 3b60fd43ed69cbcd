"""Tracing a control group: a group of the test's own, with one below it, and a process outside."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from invivo.api import trace
from invivo.cli.main import run_words
from invivo.errors import InvivoError
from invivo.runtime.cgroups import find_cgroup, find_container, members

ID = "3f2a9c81d7e64b05"
# Moves itself into the group of its argument, waits for the go, calls getppid seven times.
CALLER = """
import os, sys
with open(sys.argv[1] + "/cgroup.procs", "w") as file: file.write("0")
print("ready", flush=True)
sys.stdin.readline()
for _ in range(7): os.getppid()
"""


def unified() -> Path | None:
    for line in Path("/proc/self/mountinfo").read_text().splitlines():
        before, _, after = line.partition(" - ")
        if after.startswith("cgroup2 "):
            return Path(before.split()[4])
    return None


@pytest.fixture
def group() -> Iterator[Path]:
    root = unified()
    if root is None or not os.access(root, os.W_OK):
        pytest.skip("no cgroup hierarchy of version 2 that can be written to")
    folder = root / f"invivo-test-{os.getpid()}" / f"docker-{ID}.scope"
    below = folder / "below"
    below.mkdir(parents=True)
    try:
        yield folder
    finally:
        for each in (below, folder, folder.parent):
            each.rmdir()


def callers(*groups: Path) -> list[subprocess.Popen[str]]:
    started = [
        subprocess.Popen(
            [sys.executable, "-S", "-E", "-c", CALLER, group], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        for group in groups
    ]
    for caller in started:
        assert caller.stdout is not None
        assert caller.stdout.readline() == "ready\n"
    return started


def end(started: list[subprocess.Popen[str]]) -> None:
    for caller in started:
        caller.communicate("go\n")


def test_processes_of_the_group_and_of_those_below_count(group: Path) -> None:
    started = callers(group, group / "below", group.parent)
    try:
        assert set(members(str(group))) == {started[0].pid, started[1].pid}
        with trace("t:syscalls:sys_enter_getppid { @[pid] = count(); }", cgroup=str(group)) as session:
            end(started)
            session.stop()
            for _ in session:
                pass
        assert session.maps["@"].to_dict() == {started[0].pid: 7, started[1].pid: 7}
    finally:
        end([each for each in started if each.poll() is None])


def test_a_container_is_found_by_the_beginning_of_its_id(group: Path) -> None:
    assert find_container(ID) == str(group)
    assert find_container(ID[:12]) == str(group)
    number, depth = find_cgroup(str(group))
    assert (number, depth) == (group.stat().st_ino, 2)
    assert find_cgroup(f"/{group.parent.name}/{group.name}/below")[1] == 3
    with pytest.raises(InvivoError, match="no cgroup is that of a container 'feedfacefeed'"):
        find_container("feedfacefeed")
    with pytest.raises(InvivoError, match="no cgroup '/nowhere'"):
        find_cgroup("/nowhere")


def test_the_command_line_takes_both(group: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    """The program itself lets the process go, once everything is attached."""
    gate = tmp_path / "gate"
    os.mkfifo(gate)
    with gate.open("r+b", buffering=0) as waiting, (tmp_path / "ready").open("w+") as ready:
        command = [sys.executable, "-S", "-E", "-c", CALLER, str(group)]
        with subprocess.Popen(command, stdin=waiting, stdout=ready) as caller:
            while not (tmp_path / "ready").read_text():
                time.sleep(0.01)
            program = f"""
                BEGIN {{ system("echo go >{gate}"); }}
                t:syscalls:sys_enter_getppid {{ @[pid == {caller.pid}] = count(); }}
                t:sched:sched_process_exit /pid == {caller.pid}/ {{ exit(); }}
            """
            assert run_words(["run", "-q", "--unsafe", "--container", ID[:8], "-e", program]) == 0
    printed = capfd.readouterr()
    assert (printed.out.strip(), printed.err) == ("@[true]: 7", "")


def test_what_excludes_each_other(capfd: pytest.CaptureFixture[str]) -> None:
    assert run_words(["run", "--cgroup", "/", "-p", "1", "-e", "BEGIN { }"]) == 2
    assert "--cgroup and --container exclude -c and -p" in capfd.readouterr().err
    assert run_words(["run", "--cgroup", "/", "--container", "abcd", "-e", "BEGIN { }"]) == 2
    assert "--cgroup and --container exclude each other" in capfd.readouterr().err
    assert run_words(["run", "--cgroup", "/nowhere", "-e", "BEGIN { exit(); }"]) == 1
    assert "no cgroup '/nowhere'" in capfd.readouterr().err
