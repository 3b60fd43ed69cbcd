"""A live view in the terminal: the hottest functions and stacks of the last second."""

from __future__ import annotations

import os
from collections.abc import Callable

from invivo.output.flamegraph import quality_lines, thousands
from invivo.output.profile_text import function_lines, stack_lines
from invivo.output.sink import Stream
from invivo.stacks import Profile

_CLEAR = "\x1b[H\x1b[2J"
_WITHOUT_TERMINAL = (100, 40)


class LiveView:
    """Shows each interval's profile on a stream; on a terminal in the place of the one before."""

    def __init__(self, stream: Stream, title: str, size: Callable[[], tuple[int, int] | None]) -> None:
        """``size``: columns and lines of the terminal; None if it is none."""
        self._stream = stream
        self._title = title
        self._size = size
        self._total: float = 0

    def show(self, latest: Profile, seconds: float) -> None:
        """Show what came since the last time; ``seconds`` since the beginning."""
        size = self._size()
        columns, rows = size or _WITHOUT_TERMINAL
        self._total += latest.total
        lines = [f"{self._title}  {seconds:.0f} s  {thousands(self._total)} {latest.unit} in all", ""]
        if latest.total:
            lines[1] = f"the last interval: {', '.join(quality_lines(latest))}"
            functions = max((rows - 6) // 2, 3)
            lines += ["", *function_lines(latest, functions)]
            room = rows - len(lines) - 1
            lines += stack_lines(latest, max(room // 8, 1))[: max(room, 0)]
        else:
            lines[1] = f"the last interval: no {latest.unit}"
        text = "\n".join([line[:columns] for line in lines[: rows - 1]]) + "\n"
        self._stream.write(((_CLEAR if size else "\n") + text).encode("utf-8", "backslashreplace"))
        self._stream.flush()


def terminal_size(fd: int) -> tuple[int, int] | None:
    """Return columns and lines of a terminal, None if a descriptor is none."""
    try:
        size = os.get_terminal_size(fd)
    except OSError:
        return None
    return size.columns or 80, size.lines or 24
