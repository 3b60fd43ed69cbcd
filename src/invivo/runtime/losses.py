"""Reading the counters of what is missing from the result."""

from __future__ import annotations

from collections.abc import Sequence

from invivo.events import Loss
from invivo.ir.layout import LossCounter


class LossWatch:
    """Watches the u64 counters that programs add to, in a mapped array."""

    def __init__(self, counters: Sequence[LossCounter], memory: memoryview | None) -> None:
        self._counters = counters if memory is not None else ()
        self._words = memory.cast("B").cast("Q") if memory is not None else memoryview(bytes(8)).cast("Q")
        self._places = [counter.offset // 8 for counter in self._counters]
        self._last = [0] * len(self._places)

    def news(self) -> list[Loss]:
        """Return what was lost since the last call."""
        words = self._words
        now = [words[place] for place in self._places]
        if now == self._last:
            return []
        found = [
            Loss(counter.kind.value, counter.subject, total - before, total)
            for counter, before, total in zip(self._counters, self._last, now, strict=True)
            if total != before
        ]
        self._last = now
        return found

    def totals(self) -> tuple[tuple[str, str, int], ...]:
        """Return (kind, subject, count) of everything that was lost, as of the last `news`."""
        return tuple(
            (counter.kind.value, counter.subject, total)
            for counter, total in zip(self._counters, self._last, strict=True)
            if total
        )

    def release(self) -> None:
        """Let go of the mapped memory (it cannot be unmapped while a view exists)."""
        self._words.release()
