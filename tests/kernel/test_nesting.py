"""Programs that interrupt each other must not spoil each other's memory, records or counts.

A uprobe and a system call of one process on each processor.  The uprobe's program reads an address
that faults, and a program on page faults runs inside it; a 9,999 Hz profile lands inside all three.
Every record carries a pattern that can be checked by itself.
"""

from __future__ import annotations

import os
from collections import Counter
from pathlib import Path

import pytest

from invivo.events import Ended, Event, MapSnapshot, Printed, Value
from invivo.ir import ops
from invivo.ir.builder import Builder
from invivo.ir.ops import AtomicOp
from running import Result, run
from workloads import build

# In a guest, which is emulated, a hit takes so long that as many samples meet fewer of them.
_COUNT = 5_000 if "INVIVO_MODULES" in os.environ else 20_000
_CPUS = len(os.sched_getaffinity(0))
_UNMAPPED = 4711
_OF_FAULTS = "the program on page faults writes a text of its own, longer than the others"
_PROGRAM = """
uprobe:{program}:hit {{
    $text = str(arg2);
    @hits = count();
    $nothing = str((int8 *){address});
    @read[$nothing] = count();
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
tracepoint:exceptions:page_fault_kernel /args.address == {address}/ {{
    @faults[cpu] = count();
    $own = "{of_faults}";
    @by_fault[$own] = count();
    printf("f %d %s\\n", args.address, $own);
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
        case "f":
            assert event.values == (_UNMAPPED, _OF_FAULTS)
        case "p":
            assert event.values[0] == "the profile writes this pattern of its own"
        case _:
            raise AssertionError(event.text)
    return kind


def _scalar(events: list[Event], name: str) -> int:
    value = next(e for e in events if isinstance(e, MapSnapshot) and e.name == name and e.at_end).entries[0][1]
    assert isinstance(value, int)
    return value


def _entries(events: list[Event], name: str) -> dict[tuple[Value, ...] | None, Value]:
    return dict(next(e for e in events if isinstance(e, MapSnapshot) and e.name == name and e.at_end).entries)


def _keyed_total(events: list[Event], name: str) -> int:
    return sum(value for value in _entries(events, name).values() if isinstance(value, int))


def _run(folder: Path) -> Result:
    program = build("hits", folder)
    source = _PROGRAM.format(program=program, address=_UNMAPPED, of_faults=_OF_FAULTS)
    config = "config = { max_map_keys = 65536 }"
    return run(config + source, command=[str(program), str(_COUNT), str(_CPUS)])


def _check_run(result: Result) -> None:
    """Check every record, and that all counts agree with the workload's and with each other."""
    printed = Counter(_check(event) for event in result.events if isinstance(event, Printed))
    ended = result.events[-1]
    assert isinstance(ended, Ended)
    losses = {(kind, subject): count for kind, subject, count in ended.losses}
    full = losses.pop(("ring-full", ""), 0)
    unread = losses.pop(("read-failed", ""), 0)
    # A kernel refuses a map's lock now and then, to a program that interrupted the one that holds it.
    refused = {name: losses.pop((kind, name)) for kind, name in list(losses) if kind == "map-update"}
    assert not losses  # a program that finds no scratch slot would leave, and be counted as busy

    hits, seeks = _scalar(result.events, "@hits"), _scalar(result.events, "@seeks")
    samples = _scalar(result.events, "@samples")
    faults = _entries(result.events, "@faults")
    assert (hits, seeks, unread) == (_CPUS * _COUNT, _CPUS * _COUNT, _CPUS * _COUNT)
    assert _scalar(result.events, "@total") == _CPUS * _COUNT * (_COUNT - 1) // 2
    assert _keyed_total(result.events, "@by_text") + refused.get("@by_text", 0) == hits
    assert _entries(result.events, "@read") == {("<unread>",): hits - refused.get("@read", 0)}
    assert _keyed_total(result.events, "@stacks") + refused.get("@stacks", 0) == samples
    assert samples > 100  # the profile did interrupt
    # Kernels differ in how often they try a string again; each try is a fault inside the program.
    assert {key: isinstance(count, int) and count >= _COUNT for key, count in faults.items()} == {
        (cpu,): True for cpu in range(_CPUS)
    }
    assert _entries(result.events, "@by_fault") == {(_OF_FAULTS,): _keyed_total(result.events, "@faults")}
    assert sum(printed.values()) + full == hits + seeks + samples + _keyed_total(result.events, "@faults")


def test_nested_programs_lose_nothing_uncounted(tmp_path: Path) -> None:
    _check_run(_run(tmp_path))


def test_the_check_sees_programs_that_share_their_memory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """With an allocation that does not mark its slot, all programs of a processor write to the first one."""
    fetch = Builder.atomic_fetch

    def unmarked(
        builder: Builder, op: AtomicOp, pointer: ops.Value, offset: int, value: ops.Operand, size: int = 8
    ) -> ops.Value:
        return fetch(builder, op, pointer, offset, 0 if op is AtomicOp.OR else value, size)

    monkeypatch.setattr(Builder, "atomic_fetch", unmarked)
    result = _run(tmp_path)
    with pytest.raises(AssertionError):
        _check_run(result)
