"""Clocks of the kernel against the wall clock."""

from __future__ import annotations

import time

from invivo.ir.types import Clock

_CLOCK_IDS = {
    Clock.MONOTONIC: time.CLOCK_MONOTONIC,
    Clock.BOOT: time.CLOCK_BOOTTIME,
    Clock.TAI: time.CLOCK_TAI,
    Clock.SW_TAI: time.CLOCK_TAI,  # made of boot time so that it equals TAI
}


def offset_ns(clock: int, reference: int, tries: int = 5) -> int:
    """Return how far clock ``reference`` is ahead of ``clock``: the reading with the least time around it."""
    best: tuple[int, int] | None = None
    for _ in range(tries):
        before = time.clock_gettime_ns(clock)
        middle = time.clock_gettime_ns(reference)
        after = time.clock_gettime_ns(clock)
        reading = (after - before, middle - (before + after) // 2)
        best = reading if best is None else min(best, reading)
    assert best is not None
    return best[1]


def tai_offset_ns() -> int:
    """Return TAI minus boot time, as `LoadConstant.TAI_OFFSET_NS` wants it."""
    return offset_ns(time.CLOCK_BOOTTIME, time.CLOCK_TAI)


def wall_offset_ns(clock: Clock) -> int:
    """Return what must be added to a reading of ``clock`` to get nanoseconds since 1970 (UTC)."""
    return offset_ns(_CLOCK_IDS[clock], time.CLOCK_REALTIME)


def format_time(form: str, time_ns: int) -> str:
    """Format a wall-clock time (ns since 1970) in the local time zone; ``%f`` stands for microseconds."""
    seconds, rest_ns = divmod(time_ns, 10**9)
    return f"{rest_ns // 1000:06}".join(time_pieces(form, seconds))


def time_pieces(form: str, seconds: int) -> list[str]:
    """Format a second (since 1970) in the local time zone; return what stands around each ``%f``."""
    forms = [""]
    for index, piece in enumerate(form.split("%%")):
        first, *others = piece.split("%f")
        forms[-1] += f"%%{first}" if index else first
        forms += others
    local = time.localtime(seconds)
    return [time.strftime(each, local) for each in forms]


def format_now(form: str) -> str:
    return format_time(form, time.time_ns())
