"""Which capabilities this process has."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from invivo.kernel import files

# include/uapi/linux/capability.h
NUMBERS: Final = {
    "CAP_DAC_READ_SEARCH": 2,
    "CAP_KILL": 5,
    "CAP_NET_ADMIN": 12,
    "CAP_SYS_PTRACE": 19,
    "CAP_SYS_ADMIN": 21,
    "CAP_SYS_RESOURCE": 24,
    "CAP_SYSLOG": 34,
    "CAP_PERFMON": 38,
    "CAP_BPF": 39,
}

# bpf_capable() and perfmon_capable() in include/linux/capability.h accept CAP_SYS_ADMIN as well.
_INCLUDED_IN_SYS_ADMIN: Final = frozenset({"CAP_BPF", "CAP_PERFMON", "CAP_SYSLOG"})


def effective(status: str = "/proc/self/status", uid_map: str = "/proc/self/uid_map") -> int:
    """Return the effective capabilities as the kernel's bit mask; 0 inside a user namespace.

    In a user namespace they count only for what belongs to it, which tracing does not.
    """
    first, *rest = files.read_text(uid_map).splitlines()
    if rest or first.split() != ["0", "0", "4294967295"]:
        return 0
    for line in files.read_text(status).splitlines():
        if line.startswith("CapEff:"):
            return int(line.split()[1], 16)
    return 0


def missing(names: Iterable[str], mask: int | None = None) -> list[str]:
    """Return those of the named capabilities that this process lacks, in the given order."""
    have = effective() if mask is None else mask
    administrator = bool(have >> NUMBERS["CAP_SYS_ADMIN"] & 1)
    return [
        name
        for name in names
        if not have >> NUMBERS[name] & 1 and not (administrator and name in _INCLUDED_IN_SYS_ADMIN)
    ]


def lockdown(path: str = "/sys/kernel/security/lockdown") -> str:
    """Return what the kernel is locked down for: none, integrity, confidentiality (Documentation/ABI: since Linux 5.4).

    "none" as well where it does not say so.
    """
    try:
        modes = files.read_text(path)
    except OSError:
        return "none"
    return modes.partition("[")[2].partition("]")[0] or "none"
