"""Stacks as keys and values of maps: counted, copied, found, gone through."""

from __future__ import annotations

from invivo.events import MapSnapshot, Printed, Stack
from running import run

_PROGRAM = """
tracepoint:syscalls:sys_enter_write {
    @k[ustack(2), kstack(perf, 2)] = count();
    @d[kstack(1)] = kstack(2);
    @last = kstack(3);
    if (find(@d, kstack(1), $s)) { printf("found %d\\n", len($s) <= 2); }
}
END { for ($kv : @k) { printf("key %d\\n", len($kv.0.1) <= 2); } }
"""


def test_stacks_are_keys_and_values() -> None:
    result = run(_PROGRAM, command=["/bin/echo", "text"])
    assert result.errors == ""
    printed = [event.text for event in result.events if isinstance(event, Printed)]
    assert "found 1\n" in printed
    assert "key 1\n" in printed
    assert set(printed) == {"found 1\n", "key 1\n"}
    maps = {event.name: event.entries for event in result.events if isinstance(event, MapSnapshot)}
    ((key, value),) = maps["@d"]
    assert key is not None
    assert isinstance(key[0], Stack) and isinstance(value, Stack)
    assert len(key[0].frames) == 1
    assert value.frames[0] == key[0].frames[0]
    ((_, last),) = maps["@last"]
    assert isinstance(last, Stack)
    assert last.frames[:2] == value.frames
    assert sum(count for _, count in maps["@k"] if isinstance(count, int)) == printed.count("found 1\n")
