"""What a profile takes in: a control group with what is below it; in a guest, everything that runs."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from busy_programs import build_busy
from invivo.cli.main import run_words
from invivo.formats.stacks.profile_json import parse_profile_json
from invivo.stacks import named
from kernel.test_cgroups import unified

IN_GUEST = "INVIVO_MODULES" in os.environ
_ENTERS = 'import os, sys; open(sys.argv[1] + "/cgroup.procs", "w").write("0"); os.execv(sys.argv[2], sys.argv[2:])'


@contextmanager
def running(*words: str | Path) -> Iterator[subprocess.Popen[bytes]]:
    with subprocess.Popen(words, stdout=subprocess.PIPE) as process:
        try:
            yield process
        finally:
            process.kill()


def recorded(*words: str, out: Path) -> set[tuple[str, ...]]:
    """The names of each stack's functions, the process first."""
    assert run_words([*words, "-q", "-o", str(out)]) == 0
    profile = parse_profile_json(out.read_bytes(), str(out))
    assert profile.quality.lost == 0
    return {tuple(each.name for each in named(profile, stack)) for stack, _ in profile.stacks}


def test_the_processes_of_a_control_group(tmp_path: Path) -> None:
    root = unified()
    if root is None or not os.access(root, os.W_OK):
        pytest.skip("no cgroup hierarchy of version 2 that can be written to")
    inside, outside = build_busy("shares", tmp_path), tmp_path / "outside"
    os.link(inside, outside)
    group = root / f"invivo-test-profile-{os.getpid()}"
    below = group / "below"
    below.mkdir(parents=True)
    try:
        words = (sys.executable, "-S", "-E", "-c", _ENTERS, below, inside, "60", "0")
        with running(*words) as within, running(outside, "60", "0"):
            stacks = recorded("profile", "-F", "199", "--cgroup", str(group), "1", out=tmp_path / "x.json")
            within.kill()
            within.wait()
    finally:
        below.rmdir()
        group.rmdir()
    assert any(stack[0] == "shares" and "heavy" in stack for stack in stacks)
    assert {stack[0] for stack in stacks} <= {"shares", "python3", Path(sys.executable).name}


@pytest.mark.skipif(not IN_GUEST, reason="the whole system is traced in a guest only")
def test_the_whole_system(tmp_path: Path) -> None:
    """All processes on all processors, but not those that idle."""
    shares = build_busy("shares", tmp_path)
    with running(shares, "60", "0"), running(shares, "0", "60"):
        stacks = recorded("profile", "-F", "49", "-a", "1", out=tmp_path / "x.json")
    assert {name for stack in stacks if stack[0] == "shares" for name in stack} >= {"main", "heavy", "light"}
    assert not [stack for stack in stacks if stack[0].startswith("swapper")]
