"""Which processors there are."""

from __future__ import annotations

from invivo.kernel import files

_DIRECTORY = "/sys/devices/system/cpu"


def parse_list(text: str) -> list[int]:
    """Return the numbers of a kernel CPU list such as ``0-3,8``."""
    numbers: list[int] = []
    for part in text.strip().split(","):
        if part:
            first, _, last = part.partition("-")
            numbers.extend(range(int(first), int(last or first) + 1))
    return numbers


def possible() -> int:
    """Return the number of per-CPU slots: the highest possible CPU number plus one.

    Not the number of online ones: a kernel keeps slots for CPUs that may be plugged in.
    """
    return parse_list(files.read_text(f"{_DIRECTORY}/possible"))[-1] + 1


def online() -> list[int]:
    """Return the numbers of the CPUs that run now."""
    return parse_list(files.read_text(f"{_DIRECTORY}/online"))
