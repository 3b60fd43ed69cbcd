"""What processes map as they do so, for the names of their addresses: also of those that live a moment only."""

from __future__ import annotations

import os
from collections.abc import Sequence

from invivo.errors import InvivoError
from invivo.kernel.task_events import Executed, Forked, Mapped, TaskEvents
from invivo.runtime.seams import MappingRecords
from invivo.runtime.symbols import Mapping, UserSymbols


def watch(pids: Sequence[int], *, everything: bool = False) -> TaskEvents | None:
    """Watch the threads of processes and all that they create, or everything; None if that cannot be."""
    if not pids and not everything:
        return None
    try:
        return TaskEvents([tid for pid in pids for tid in _threads(pid)])
    except (InvivoError, OSError):
        return None


def _threads(pid: int) -> list[int]:
    try:
        return [int(name) for name in os.listdir(f"/proc/{pid}/task")]
    except OSError:
        return [pid]


def apply(records: MappingRecords, symbols: UserSymbols) -> None:
    """Tell the symbols what has happened since the last time."""
    for event in records.read():
        match event:
            case Mapped(tgid, start, end, offset, (major, minor), inode, path):
                name = "" if path == "//anon" else path
                symbols.mapped(tgid, Mapping(start, end, offset, (f"{major:02x}:{minor:02x}", inode), name))
            case Forked(tgid, parent):
                symbols.forked(tgid, parent)
            case Executed(tgid):
                symbols.executed(tgid)
            case _:
                raise AssertionError(event)
