"""The traced processes: the command of -c, held until everything is attached, and the process of -p."""

from __future__ import annotations

import errno
import os
import select
import signal
import stat
from collections.abc import Callable, Sequence

from invivo.errors import ProcessError
from invivo.kernel.files import read_bytes
from invivo.kernel.processes import set_parent_death_signal

_TERMINATION_SECONDS = 1.0  # after SIGTERM, before SIGKILL


class Child:
    """A command that is forked at once and executed by `start`.

    To be built before any thread and any kernel object exists: the fork copies the process.
    The child waits on a pipe: a byte means go, end of file (this process has died) means give
    up.  It is killed if this process dies.  Raises `ProcessError` if there is no such command.
    """

    def __init__(self, argv: Sequence[str]) -> None:
        if not argv:
            raise ProcessError("no command to run")
        self.argv = tuple(argv)
        self.path = find_command(argv[0])
        self.status: int | None = None  # exit status, or 128 + signal, once it has ended
        self._started = False
        gate, self._gate = os.pipe2(os.O_CLOEXEC)
        self._failure, failure = os.pipe2(os.O_CLOEXEC)
        parent = os.getpid()
        if signal.getsignal(signal.SIGCHLD) == signal.SIG_IGN:  # inherited: the kernel would reap it, status and all
            signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        self.pid = os.fork()
        if self.pid == 0:
            os.close(self._gate)
            _run(self.path, self.argv, gate, failure, parent)
        os.close(gate)
        os.close(failure)
        self.pidfd = os.pidfd_open(self.pid)

    def start(self) -> None:
        """Let the command begin; returns when it has been executed. Raises `ProcessError` if it cannot be."""
        if self._started:
            return
        self._started = True
        os.write(self._gate, b"x")
        os.close(self._gate)
        with os.fdopen(self._failure, "rb") as pipe:
            failure = pipe.read()
        if failure:
            raise ProcessError(f"cannot run '{self.argv[0]}': {os.strerror(int(failure))}")

    def poll(self) -> int | None:
        """Return the exit status, 128 + signal if one killed it, or None while it runs.

        It is not reaped before `close`: until the probes are gone, nobody else gets its number.
        """
        if self.status is None:
            ended = os.waitid(os.P_PID, self.pid, os.WEXITED | os.WNOHANG | os.WNOWAIT)
            if ended is not None:
                self.status = ended.si_status + (0 if ended.si_code == os.CLD_EXITED else 128)
        return self.status

    def close(self, *, at_once: bool = False) -> None:
        """End the command if it runs (SIGTERM, a second later SIGKILL; ``at_once``: SIGKILL), and reap it."""
        if self.pidfd < 0:
            return
        if not self._started:
            self._started = True
            os.close(self._gate)
            os.close(self._failure)
            _is_over(self.pidfd, _TERMINATION_SECONDS)  # it reads the end of file, and gives up
        if self.poll() is None:
            self._end(signal.SIGKILL if at_once else signal.SIGTERM)
        os.waitpid(self.pid, 0)
        os.close(self.pidfd)
        self.pidfd = -1

    def _end(self, number: int) -> None:
        signal.pidfd_send_signal(self.pidfd, number)
        if not _is_over(self.pidfd, _TERMINATION_SECONDS):
            signal.pidfd_send_signal(self.pidfd, signal.SIGKILL)
            _is_over(self.pidfd, None)
        self.poll()


def _run(path: str, argv: tuple[str, ...], gate: int, failure: int, parent: int) -> None:
    """The forked child: never returns."""
    try:
        set_parent_death_signal(signal.SIGKILL)
        if os.getppid() != parent or not _wait_for_byte(gate):
            os._exit(0)
        _reset_signals()
        os.execv(path, argv)
    except OSError as problem:
        os.write(failure, str(problem.errno).encode())
    finally:
        os._exit(127)


def _wait_for_byte(gate: int) -> bool:
    # Ctrl-C at this point is the parent's matter; it closes the pipe if it gives up.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    return os.read(gate, 1) == b"x"


def _reset_signals() -> None:
    """Give the command the signals that a shell would: Python ignores SIGPIPE and SIGXFSZ."""
    signal.set_wakeup_fd(-1)
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGPIPE, signal.SIGXFSZ):
        signal.signal(number, signal.SIG_DFL)
    signal.pthread_sigmask(signal.SIG_SETMASK, ())


def find_command(name: str) -> str:
    """Return the path that a command's name means, by PATH. Raises `ProcessError`."""
    if "/" in name:
        if not os.access(name, os.F_OK):
            raise ProcessError(f"cannot run '{name}': {os.strerror(errno.ENOENT)}")
        return name
    for directory in os.environ.get("PATH", os.defpath).split(os.pathsep):
        path = f"{directory or '.'}/{name}"
        if _is_executable(path):
            return path
    raise ProcessError(f"cannot run '{name}': no such command in PATH")


def _is_executable(path: str) -> bool:
    try:
        mode = os.stat(path).st_mode
    except OSError:
        return False
    return stat.S_ISREG(mode) and os.access(path, os.X_OK)


def _is_over(pidfd: int, timeout_seconds: float | None) -> bool:
    poll = select.poll()
    poll.register(pidfd, select.POLLIN)
    return bool(poll.poll(None if timeout_seconds is None else timeout_seconds * 1000))


class Watch:
    """A process of -p: watched, never touched. Raises `ProcessError` if there is none."""

    def __init__(self, pid: int) -> None:
        try:
            self.pidfd = os.pidfd_open(pid)
        except OSError as problem:
            raise ProcessError(_watch_problem(pid, problem.errno)) from problem
        self.pid = pid

    def is_over(self) -> bool:
        return _is_over(self.pidfd, 0)

    def close(self) -> None:
        if self.pidfd >= 0:
            os.close(self.pidfd)
            self.pidfd = -1


def _watch_problem(pid: int, code: int | None) -> str:
    # pidfd_open refuses a thread's id: EINVAL until Linux 6.14, ENOENT since.
    if code in (errno.EINVAL, errno.ENOENT) and os.access(f"/proc/{pid}", os.F_OK):
        return f"{pid} is a thread; give the id of its process"
    return f"no process {pid}: {os.strerror(code or errno.ESRCH)}"


def descendants(pid: int, children: Callable[[int], Sequence[int]] | None = None) -> list[int]:
    """Return the ids of all living descendants of a process."""
    children = children or _children
    found: list[int] = []
    waiting = [pid]
    while waiting:
        new = [child for child in children(waiting.pop()) if child not in found]
        found += new
        waiting += new
    return found


def _children(pid: int) -> list[int]:
    """Children of all threads of a process (needs CONFIG_PROC_CHILDREN, as every distribution has)."""
    found: list[int] = []
    try:
        threads = os.listdir(f"/proc/{pid}/task")
    except OSError:
        return found
    for thread in threads:
        try:
            found += map(int, read_bytes(f"/proc/{pid}/task/{thread}/children").split())
        except OSError:
            continue
    return found
