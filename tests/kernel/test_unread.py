"""What cannot be read of the traced program's memory is marked, counted, and never taken for empty."""

from __future__ import annotations

from pathlib import Path

from invivo.events import Ended, Printed
from running import run
from workloads import build


def test_a_string_that_cannot_be_read_is_marked_and_counted(tmp_path: Path) -> None:
    program = build("unread", tmp_path)
    script = 't:syscalls:sys_enter_chdir { printf("[%s]\\n", str(args.filename)); @[str(args.filename)] = count(); }'
    result = run(script, command=[str(program)])
    printed = [event for event in result.events if isinstance(event, Printed)]
    assert [(event.text, event.incomplete) for event in printed] == [
        ("[]\n", False),
        ("[<unread>]\n", True),
        ("[/]\n", False),
    ]
    ended = result.events[-1]
    assert isinstance(ended, Ended)
    assert ended.losses == (("read-failed", "", 2),)
    assert "@[<unread>]: 1" in result.text
    assert "could not be read" in result.errors
