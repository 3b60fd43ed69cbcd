"""What a machine can refuse: errors with what was attempted, why it failed, and what to do."""

from __future__ import annotations

import os


class InvivoError(Exception):
    """Base of every error that is the machine's and not the program's.

    ``hint`` says what to do; ``str()`` is one line without it.
    """

    def __init__(self, message: str, hint: str | None = None) -> None:
        super().__init__(message)
        self.hint = hint


class SyscallError(InvivoError):
    """A system call failed: ``what`` was attempted, ``errno`` is the kernel's answer."""

    def __init__(self, what: str, errno: int, hint: str | None = None) -> None:
        super().__init__(f"{what}: {os.strerror(errno)} (errno {errno})", hint)
        self.what = what
        self.errno = errno


class PermissionDeniedError(SyscallError):
    """EPERM or EACCES; the hint says which capability is missing."""


class NotSupportedError(InvivoError):
    """This kernel lacks a feature. ``feature`` is its name, ``since`` the first kernel with it."""

    def __init__(self, feature: str, since: str = "", hint: str | None = None) -> None:
        requires = f" (requires Linux {since})" if since else ""
        super().__init__(f"{feature} not supported by this kernel{requires}", hint)
        self.feature = feature
        self.since = since


# What the verifier ends its log with (print_verification_stats, kernel/bpf/verifier.c).
_STATISTICS = ("processed ", "stack depth ", "verification time ", "insns processed ")


class VerifierError(InvivoError):
    """The kernel's verifier refused a program: our bug, unless ``too_large``.

    ``log`` is the verifier's own text; ``instruction`` the index it stopped at (-1: unknown).
    """

    def __init__(self, program: str, errno: int, log: str, instruction: int, *, too_large: bool = False) -> None:
        last = next((line for line in reversed(log.splitlines()) if line and not line.startswith(_STATISTICS)), "")
        super().__init__(f"the kernel's verifier refused {program}: {last or os.strerror(errno)}")
        self.program = program
        self.errno = errno
        self.log = log
        self.instruction = instruction
        self.too_large = too_large


class BadFileError(InvivoError):
    """A file is not what it claims to be. ``offset`` is where that was noticed."""

    def __init__(self, path: str, reason: str, offset: int = 0) -> None:
        super().__init__(f"{path}: {reason} (at offset {offset})")
        self.path = path
        self.reason = reason
        self.offset = offset


class ProcessError(InvivoError):
    """A process to trace or to start cannot be had."""
