"""What a command says when it cannot do its work, and the exit status that tells a script."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable

from invivo.cli.options import UsageError
from invivo.diagnostics import CompileError
from invivo.errors import InvivoError, VerifierError

EXIT_FAILED = 1  # the program is wrong, or the machine refuses
EXIT_USAGE = 2
EXIT_BUG = 70  # EX_SOFTWARE of sysexits.h
EXIT_INTERRUPTED = 130  # 128 + SIGINT
EXIT_BROKEN_PIPE = 141  # 128 + SIGPIPE

_REPORT = """\
This is a bug of invivo, not of your program. Please report it with the program, the command line and the
output of `invivo doctor`; with INVIVO_DEBUG=1 in the environment it says where it happened.
"""


def guarded(name: str, command: Callable[[], int]) -> int:
    """Run a command: return its exit status, or that of what stopped it, which is said on stderr."""
    try:
        status = command()
        sys.stdout.flush()
        return status
    except UsageError as mistake:
        return say(f"{name}: {mistake.message}", mistake.hint or f"`{name} --help` lists the options", EXIT_USAGE)
    except CompileError as mistakes:
        from invivo.rendering import format_diagnostic

        for diagnostic in mistakes.diagnostics:
            say(format_diagnostic(diagnostic))
        return EXIT_FAILED
    except VerifierError as refusal:
        return _refused(name, refusal)
    except InvivoError as refusal:
        return _debugged(say(f"{name}: {refusal}", refusal.hint))
    except KeyboardInterrupt:
        return EXIT_INTERRUPTED
    except BrokenPipeError:
        _close_stdout()
        return EXIT_BROKEN_PIPE
    except OSError as problem:
        subject = f"{problem.filename}: " if problem.filename else ""
        return _debugged(say(f"{name}: {subject}{problem.strerror or problem}"))
    except Exception as bug:
        return _bug(name, bug)


def say(text: str, hint: str | None = None, status: int = EXIT_FAILED) -> int:
    """Write a message and its hint on stderr; return the status."""
    lines = text.rstrip("\n") + "\n" + (f"hint: {hint}\n" if hint else "")
    try:
        sys.stderr.write(lines)
        sys.stderr.flush()
    except OSError:
        pass  # nobody listens there any more; the exit status still says it
    return status


def _refused(name: str, refusal: VerifierError) -> int:
    """A refusal by the verifier is a bug of the compiler, unless the program is too large for it."""
    if refusal.too_large:
        return _debugged(say(f"{name}: {refusal}", refusal.hint or "make the program smaller: fewer or shorter loops"))
    say(f"{name}: {refusal}", refusal.hint or "-v shows the verifier's log")
    say(_REPORT)
    return _debugged(EXIT_BUG)


def _bug(name: str, bug: Exception) -> int:
    say(f"{name}: internal error: {type(bug).__name__}: {bug} ({_place(bug)})")
    say(_REPORT)
    return _debugged(EXIT_BUG)


def _place(bug: Exception) -> str:
    trace = bug.__traceback__
    if trace is None:
        return "place unknown"
    while trace.tb_next is not None:
        trace = trace.tb_next
    _, _, inside = trace.tb_frame.f_code.co_filename.rpartition("invivo/")
    return f"{inside}:{trace.tb_lineno}"


def _debugged(status: int) -> int:
    if os.environ.get("INVIVO_DEBUG", "0") not in ("", "0"):
        import traceback

        traceback.print_exc()
    return status


def _close_stdout() -> None:
    """Let the interpreter's last flush go nowhere: the reader has gone."""
    nowhere = os.open(os.devnull, os.O_WRONLY | os.O_CLOEXEC)
    os.dup2(nowhere, sys.stdout.fileno())
    os.close(nowhere)
