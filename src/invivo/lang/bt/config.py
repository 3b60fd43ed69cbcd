"""Names of the values in a ``config`` block."""

from __future__ import annotations

_PREFIX = "bpftrace_"


def canonical_key(name: str) -> str:
    """Return the one name of a key: ``MAX_STRLEN`` and ``BPFTRACE_MAX_STRLEN`` are ``max_strlen``."""
    return name.lower().removeprefix(_PREFIX)
