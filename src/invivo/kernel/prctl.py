"""prctl(2): what a process asks of the kernel about itself."""

from __future__ import annotations

from typing import Final

from invivo.kernel import syscalls

_SYS_PRCTL: Final = 157  # arch/x86/entry/syscalls/syscall_64.tbl
_PR_SET_PDEATHSIG: Final = 1  # include/uapi/linux/prctl.h


def set_parent_death_signal(number: int) -> bool:
    """Ask for a signal when the thread that forked this process ends; return whether that succeeded."""
    return syscalls.call(_SYS_PRCTL, _PR_SET_PDEATHSIG, number) == 0
