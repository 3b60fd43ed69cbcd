"""Inside a PID namespace (a container) a trace is of the processes that are meant there."""

from __future__ import annotations

import shlex
import subprocess
import sys
from pathlib import Path

PRIVATE = ["unshare", "--pid", "--fork", "--mount-proc", "--kill-child"]
TRACE = [sys.executable, "-m", "invivo", "run", "-q", "-e", "t:syscalls:sys_enter_getppid { @ = count(); }"]
# Seven calls of a process, and one of its child.
CALLS = """
import os, time
{before}
for _ in range(7): os.getppid()
if os.fork() == 0:
    os.getppid()
    os._exit(0)
os.wait()
"""


def test_a_command_and_its_children() -> None:
    command = f"{sys.executable} -S -E -c '{CALLS.format(before='')}'"
    done = subprocess.run([*PRIVATE, *TRACE, "-c", command], capture_output=True, text=True, check=False)
    assert (done.stderr, done.returncode) == ("", 0)
    assert done.stdout.strip() == "@: 8"


def test_a_process(tmp_path: Path) -> None:
    """It begins when the trace has been attached: a file is there then."""
    gate = tmp_path / "gate"
    wait = f'while not os.path.exists("{gate}"): time.sleep(0.01)'
    program = CALLS.format(before=wait)
    trace = [*TRACE[:-1], TRACE[-1] + ' BEGIN { printf("ready\\n"); }', "-B", "none", "-p"]
    script = f"{sys.executable} -S -E -c '{program}' & {shlex.join(trace)} $! | (read ready; touch {gate}; cat)"
    done = subprocess.run([*PRIVATE, "bash", "-c", script], capture_output=True, text=True, check=False, timeout=60)
    assert done.stderr == ""
    assert done.stdout.strip() == "@: 7"
