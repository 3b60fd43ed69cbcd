"""What the verifier's log says about a refusal."""

from __future__ import annotations

import errno
from typing import Final

# Messages of kernel/bpf/verifier.c and core.c for programs that are right but too much.
_TOO_LARGE: Final = (
    "BPF program is too large",
    "program is too complex",
    "too complex",
    "program too large",
    "The sequence of",
)


def failed_instruction(log: str) -> int:
    """Return the index of the instruction that the verifier stopped at; -1 if the log does not say.

    While it walks a program it writes each instruction as ``12: (85) call bpf_get_prandom_u32#7``;
    what it finds before walking is said in words: ``unreachable insn 12``.
    """
    lines = [line for line in log.splitlines() if line and not line.startswith("processed ")]
    if lines:
        _, found, rest = lines[-1].partition(" insn ")
        number = rest.split(" ")[0]
        if found and number.isdigit():
            return int(number)
    for line in reversed(lines):
        number, colon, rest = line.partition(": (")
        if colon and number.isdigit() and rest[2:3] == ")":
            return int(number)
    return -1


def is_too_large(code: int, log: str) -> bool:
    """Whether a program was refused for its size or for the number of paths through it."""
    if any(text in log for text in _TOO_LARGE):
        return True
    return code == errno.E2BIG and "call stack" not in log
