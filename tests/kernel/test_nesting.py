"""Programs that interrupt each other must not spoil each other's memory, records or counts.

A uprobe and a system call of one process on each processor, and a 9,999 Hz profile that lands
inside the programs of both.  Every record carries a pattern that can be checked by itself.
"""

from __future__ import annotations

import os
from collections import Counter
from pathlib import Path

from invivo.events import Ended, Event, MapSnapshot, Printed
from running import run
from workloads import build

_COUNT = 20_000
_PROGRAM = """
uprobe:{program}:hit {{
    $text = str(arg2);
    @hits = count();
    @by_text[$text, arg0 % 8] = count();
    printf("u %d %d %s\\n", arg0, arg1, $text);
}}
tracepoint:syscalls:sys_enter_lseek /args.whence == 4711/ {{
    @seeks = count();
    @total = sum(args.offset);
    $pair = (args.offset, "a pattern that is longer than the stack would like it to be");
    @last[cpu] = $pair;
    printf("s %d %d %s\\n", args.offset, args.whence, $pair.1);
}}
profile:hz:9999 {{
    $mark = "the profile writes this pattern of its own";
    @samples = count();
    @stacks[kstack(8), $mark] = count();
    printf("p %s %d\\n", $mark, cpu);
}}
"""


def _expected_text(number: int) -> str:
    return f"{number}:" + chr(ord("a") + number % 26) * (number % 97)


def _check(event: Printed) -> str:
    """Check one record's pattern; the result is its kind."""
    kind, *_ = event.text.split(" ", 1)
    match kind:
        case "u":
            number, twice, text = event.values
            assert isinstance(number, int)
            assert (twice, text) == (2 * number + 1, _expected_text(number))
        case "s":
            assert event.values[1:] == (4711, "a pattern that is longer than the stack would like it to be")
        case "p":
            assert event.values[0] == "the profile writes this pattern of its own"
        case _:
            raise AssertionError(event.text)
    return kind


def _scalar(events: list[Event], name: str) -> int:
    value = next(e for e in events if isinstance(e, MapSnapshot) and e.name == name and e.at_end).entries[0][1]
    assert isinstance(value, int)
    return value


def _keyed_total(events: list[Event], name: str) -> int:
    entries = next(e for e in events if isinstance(e, MapSnapshot) and e.name == name and e.at_end).entries
    return sum(value for _, value in entries if isinstance(value, int))


def test_nested_programs_lose_nothing_uncounted(tmp_path: Path) -> None:
    cpus = len(os.sched_getaffinity(0))
    program = build("hits", tmp_path)
    config = "config = { max_map_keys = 65536 }"
    result = run(config + _PROGRAM.format(program=program), command=[str(program), str(_COUNT), str(cpus)])
    printed = Counter(_check(event) for event in result.events if isinstance(event, Printed))
    ended = result.events[-1]
    assert isinstance(ended, Ended)
    losses = {(kind, subject): count for kind, subject, count in ended.losses}
    busy = losses.pop(("scratch-busy", ""), 0)
    full = losses.pop(("ring-full", ""), 0)
    assert not losses

    hits, seeks = _scalar(result.events, "@hits"), _scalar(result.events, "@seeks")
    samples = _scalar(result.events, "@samples")
    # A program that finds no scratch slot leaves before it counts anything.
    assert hits + seeks + busy >= 2 * cpus * _COUNT
    assert busy == 0
    assert (hits, seeks) == (cpus * _COUNT, cpus * _COUNT)
    assert _scalar(result.events, "@total") == cpus * _COUNT * (_COUNT - 1) // 2
    assert _keyed_total(result.events, "@by_text") == hits
    assert _keyed_total(result.events, "@stacks") == samples
    assert samples > 100  # the profile did interrupt
    assert sum(printed.values()) + full == hits + seeks + samples
