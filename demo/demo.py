"""What `make demo` shows: five questions, each asked of a command that the demo starts itself.

Nothing here is canned: each command line is printed, then run, and its own output is shown.
"""

from __future__ import annotations

import os
import pty
import shlex
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

INVIVO = Path(sys.executable).with_name("invivo")
MOST_LINES = 24
# Stacks are walked by frame pointers; an optimising compiler leaves them out of functions that call nothing.
FLAGS = ("-O0", "-fno-omit-frame-pointer")


def main() -> int:
    if os.geteuid() != 0:
        put("The demo traces the kernel, so it has to be run by root: sudo make demo")
        return 1
    started = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="invivo-demo-") as directory:
        files_opened()
        system_calls()
        latencies()
        typed_lines()
        profile(Path(directory))
    put(f"\nAll of that took {time.monotonic() - started:.0f} seconds.")
    return 0


def put(text: str) -> None:
    sys.stdout.write(f"{text}\n")
    sys.stdout.flush()


def ask(question: str, program: str, *options: str, last: int = 0) -> None:
    """Print a question and the command that answers it, run it, and show what it printed."""
    announce(question, program, *options)
    done = subprocess.run(
        [INVIVO, "run", "-e", program, *options], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, check=False
    )
    show(done.stdout.decode(errors="replace"), last)
    if done.returncode != 0:
        put(f"(exit status {done.returncode})")


def announce(question: str, program: str, *options: str) -> None:
    put(f"\n\033[1m# {question}\033[0m" if sys.stdout.isatty() else f"\n# {question}")
    put(f"$ invivo run -e {shlex.quote(program)} {' '.join(map(quoted, options))}")


def quoted(word: str) -> str:
    """A word as one would type it in a shell."""
    return f'"{word}"' if "'" in word and not set(word) & set('"$`\\') else shlex.quote(word)


def show(output: str, last: int = 0) -> None:
    """Print the first lines of an output, or its last ones: a demo fits on a screen."""
    lines = output.strip("\n").split("\n")
    if last and len(lines) > last:
        put(f"[... {len(lines) - last} lines ...]")
        lines = lines[-last:]
    elif len(lines) > MOST_LINES:
        left = len(lines) - MOST_LINES
        lines = [*lines[:MOST_LINES], f"[... {left} lines ...]"]
    put("\n".join(lines))


def files_opened() -> None:
    ask(
        "Which files does `find` open?",
        't:syscalls:sys_enter_openat { printf("%-8s %s\\n", comm, str(args.filename)); }',
        "-c",
        "find /etc/apt /etc/default -name '*.conf'",
    )


def system_calls() -> None:
    ask(
        "How often does it make which system call?",
        "t:syscalls:sys_enter_* { @[probe] = count(); }",
        "-c",
        "find /usr/share/doc -name copyright.nope",
        last=16,
    )


def latencies() -> None:
    ask(
        "How long do its reads take, in microseconds?",
        "t:syscalls:sys_enter_read { @start[tid] = nsecs; } "
        "t:syscalls:sys_exit_read /@start[tid]/ "
        "{ @us[comm] = hist((nsecs - @start[tid]) / 1000); delete(@start, tid); }",
        "-c",
        "sh -c 'cat /usr/bin/p* > /dev/null'",
    )


def typed_lines() -> None:
    """Type into a bash on a pseudo-terminal, and watch what its `readline` returns."""
    pid, terminal = pty.fork()
    if pid == 0:
        os.execve("/bin/bash", ["bash", "--norc", "--noprofile", "-i"], {"PATH": "/usr/bin:/bin", "TERM": "dumb"})
    reader = threading.Thread(target=swallow, args=(terminal,), daemon=True)
    try:
        program = 'uretprobe:/bin/bash:readline { printf("%d typed: %s\\n", pid, str(retval)); }'
        options = ("-p", str(pid))
        announce("What is typed into this bash?", program, *options)
        words = [str(INVIVO), "run", "-e", program, *options]
        with subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as tracer:
            assert tracer.stderr is not None
            put(tracer.stderr.readline().rstrip())  # Attached 1 probe: bash may be typed into
            reader.start()
            # The readline that bash waits in was called before the probe was there: an empty line ends it.
            for line in ("", "echo the answer is $((6 * 7))", "ls /proc/self/fd", "exit"):
                os.write(terminal, f"{line}\n".encode())
                time.sleep(0.3)
            output, errors = tracer.communicate(timeout=20)
        show(output + errors)
    finally:
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)


def swallow(terminal: int) -> None:
    """Read what the bash writes, so that it does not wait for us."""
    while True:
        try:
            if not os.read(terminal, 4096):
                return
        except OSError:
            return


def profile(directory: Path) -> None:
    """Where does a program spend its time? Built with frame pointers, so that stacks are whole."""
    ask(
        "Where does a busy program spend its time?",
        "profile:hz:999 { @[ustack, comm] = count(); } END { print(@, 3); clear(@); }",
        "-c",
        busy_program(directory),
    )


def busy_program(directory: Path) -> str:
    compiler = shutil.which("cc") or shutil.which("gcc") or shutil.which("clang")
    if compiler is None:
        put("\n(there is no C compiler here: a loop of bash stands for the busy program)")
        return "bash -c 'i=0; while ((i < 300000)); do ((i++)); done'"
    binary = directory / "busy"
    source = Path(__file__).with_name("busy.c")
    subprocess.run([compiler, *FLAGS, "-o", binary, source], check=True)
    return f"{binary} 2"


if __name__ == "__main__":
    sys.exit(main())
