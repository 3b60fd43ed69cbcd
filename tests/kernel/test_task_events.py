"""What processes map, fork and execute, as the kernel tells it: in order, also of those that live a moment."""

from __future__ import annotations

import os
import time
from collections.abc import Callable

import pytest

from invivo.errors import InvivoError
from invivo.kernel.task_events import Executed, Forked, Mapped, TaskEvent, TaskEvents
from invivo.runtime.mappings import apply, watch
from invivo.runtime.process import Child
from invivo.runtime.symbols import UserSymbols


def _run(command: list[str], look: Callable[[TaskEvents, Child], None]) -> None:
    child = Child(command)
    try:
        records = TaskEvents([child.pid])
        try:
            child.start()
            deadline = time.monotonic() + 20
            while child.poll() is None:
                assert time.monotonic() < deadline
                time.sleep(0.01)
            look(records, child)
        finally:
            records.close()
    finally:
        child.close()


def test_a_command_is_told_from_its_beginning() -> None:
    def look(records: TaskEvents, child: Child) -> None:
        events = records.read()
        assert isinstance(events[0], Executed) and events[0].tgid == child.pid
        mapped = [event for event in events if isinstance(event, Mapped)]
        assert {event.tgid for event in mapped} == {child.pid}
        paths = [event.path for event in mapped]
        program = os.path.realpath(child.path)
        assert paths[0] == program and any("/libc.so" in path for path in paths) and "[vdso]" in paths
        status = os.stat(program)
        assert (mapped[0].inode, mapped[0].device) == (
            status.st_ino,
            (os.major(status.st_dev), os.minor(status.st_dev)),
        )
        assert all(event.start < event.end for event in mapped)
        assert records.read() == [] and records.lost == 0

    _run(["true"], look)


def test_children_are_told_in_order() -> None:
    def look(records: TaskEvents, child: Child) -> None:
        events: list[TaskEvent] = list(records.read())
        forks = [event for event in events if isinstance(event, Forked) and event.tgid != event.parent]
        assert len(forks) == 2 and {event.parent for event in forks} == {child.pid}
        for fork in forks:
            assert events.index(fork) < events.index(Executed(fork.tgid))
            assert any(isinstance(event, Mapped) and event.tgid == fork.tgid for event in events)

    _run(["sh", "-c", "/bin/true; /bin/true; exit 0"], look)


def test_names_outlive_the_process_and_the_program_it_was() -> None:
    def look(records: TaskEvents, child: Child) -> None:
        symbols = UserSymbols()
        events = records.read()
        mapped = {event.path: event for event in events if isinstance(event, Mapped) and event.tgid == child.pid}
        shell = next(event for path, event in mapped.items() if path.endswith(("/dash", "/bash", "/sh", "/busybox")))
        true = next(event for path, event in mapped.items() if path.endswith(("/true", "/coreutils")))

        class Told:
            lost = 0

            def read(self) -> list[TaskEvent]:
                return list(events)

            def close(self) -> None:
                """Nothing is open."""

        apply(Told(), symbols)
        modules = [frame.module for frame in symbols.frames(child.pid, [true.start, shell.start, 8])]
        assert modules == [true.path, shell.path, ""]
        symbols.close()

    _run(["sh", "-c", "exec /bin/true"], look)


def test_what_cannot_be_watched_is_none() -> None:
    assert watch(()) is None
    assert watch((1 << 22,)) is None
    with pytest.raises(InvivoError, match="too many threads"):
        TaskEvents(range(1, 5000))
