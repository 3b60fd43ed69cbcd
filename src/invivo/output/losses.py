"""How losses are told to a person."""

from __future__ import annotations

from collections.abc import Callable

from invivo.events import Ended
from invivo.ir.layout import LossKind

_MEANINGS: dict[str, str] = {
    LossKind.RING_FULL.value: "events lost: the ring buffer was full or busy",
    LossKind.MAP_FULL.value: "updates lost: the map is full (see max_map_keys)",
    LossKind.MAP_UPDATE.value: "updates failed",
    LossKind.SCRATCH_BUSY.value: "events lost: programs nested too deep",
    LossKind.READ_FAILED.value: "values empty: memory of the traced program could not be read",
    LossKind.STACK_FAILED.value: "stacks could not be taken",
    LossKind.LOOP_CAPPED.value: "loops were cut short",
    LossKind.UNWIND_NO_TABLE.value: "user stacks cut: no table yet for the code at their end",
    LossKind.UNWIND_UNKNOWN.value: "user stacks cut: nothing tells how the code at their end is left",
    LossKind.INTERPRETER_MEMORY.value: "stacks of interpreted code cut: the interpreter's memory could not be read",
    LossKind.UNWIND_MEMORY.value: "user stacks cut: memory of the stack could not be read",
}


def describe_loss(kind: str, subject: str, count: int, escape: Callable[[str], str]) -> str:
    """Return ``12 updates lost: the map is full (see max_map_keys): @``."""
    where = f": {escape(subject)}" if subject else ""
    return f"{count} {_MEANINGS.get(kind, kind)}{where}"


def events_lost(end: Ended) -> int:
    """How many events did not fit into the ring, in the whole trace."""
    return sum(count for kind, _, count in end.losses if kind == LossKind.RING_FULL.value)
