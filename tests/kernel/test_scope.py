"""Which processes the commands trace: a command's and their descendants', a process's, and no others'."""

from __future__ import annotations

import subprocess
import sys

INVIVO = (sys.executable, "-m", "invivo")


def test_a_command_is_traced_with_its_descendants_and_nothing_else() -> None:
    program = """
        t:syscalls:sys_enter_execve { printf("%s\\n", str(args.filename)); }
        t:sched:sched_switch { @[comm] = count(); }
    """
    with subprocess.Popen(["sleep", "30"]) as stranger:
        try:
            words = (*INVIVO, "run", "-q", "-e", program, "-c", "sh -c '/bin/true; /bin/sleep 0.1'")
            done = subprocess.run(words, capture_output=True, text=True, timeout=60, check=False)
        finally:
            stranger.kill()
    assert done.returncode == 0, done.stderr
    assert "/bin/true" in done.stdout
    assert "/bin/sleep" in done.stdout
    comms = {line[2:].partition("]")[0] for line in done.stdout.splitlines() if line.startswith("@[")}
    assert comms <= {"sh", "true", "sleep", "python", "python3", "invivo", "python3.11"}, comms
    assert not any(comm.startswith("swapper") for comm in comms)


def traced_shell(key: str, *options: str) -> tuple[int, set[str]]:
    """Trace a shell that goes on when the probes are there; return its process id and the keys of its calls."""
    program = f"t:syscalls:sys_enter_* {{ @[{key}] = count(); }}"
    with subprocess.Popen(["sh", "-c", "read go; sleep 0.1; sleep 0.1"], stdin=subprocess.PIPE) as traced:
        words = (*INVIVO, "run", *options, "-e", program, "-p", str(traced.pid))
        with subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as tracer:
            assert tracer.stderr is not None
            assert tracer.stderr.readline().startswith("Attached ")
            assert traced.stdin is not None
            traced.stdin.close()
            output, errors = tracer.communicate(timeout=60)
    assert tracer.returncode == 0, errors
    return traced.pid, {line[2:].partition("]")[0] for line in output.splitlines() if line.startswith("@[")}


def test_a_process_is_traced_until_it_ends() -> None:
    pid, pids = traced_shell("pid")
    assert pids == {str(pid)}


def test_follow_adds_the_children_of_a_process() -> None:
    _, names = traced_shell("comm", "--follow")
    assert names == {"sh", "sleep"}
