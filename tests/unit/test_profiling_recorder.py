"""From the events of a session to a profile: names of frames, marks, losses, waits that have not ended."""

from __future__ import annotations

import time
from io import BytesIO

import pytest

from invivo.events import Attached, Ended, Event, Frame, Loss, MapSnapshot, Stack, Value
from invivo.ir.types import StackMode
from invivo.profiling.programs import MAP, Stacks, Waits, event_program, key_parts, wait_key, wait_program
from invivo.profiling.recorder import Recipe, Recorder
from invivo.stacks import Profile, named

_START = Frame(1, "_start", 2, "/bin/x")


def _user(*frames: Frame) -> Stack:
    return Stack(False, StackMode.BPFTRACE, frames)


def _kernel(*names: str) -> Stack:
    return Stack(True, StackMode.BPFTRACE, tuple(Frame(1 << 63, name, 0, "[kernel]") for name in names))


def _recorded(recipe: Recipe, *events: Event) -> tuple[Profile, str]:
    """The profile, and what was said on stderr."""
    errors, found = BytesIO(), list[Profile]()
    recorder = Recorder(recipe, errors, found.append, None)
    recorder.open()
    recorder.events([Attached(1), *events])
    recorder.close()
    recorder.close()
    (profile,) = found
    return profile, errors.getvalue().decode()


def _snapshot(*entries: tuple[tuple[Value, ...], Value], name: str = MAP, at_end: bool = False) -> MapSnapshot:
    return MapSnapshot(name, "map", False, entries, at_end)


def _stacks(profile: Profile) -> dict[str, float]:
    return {
        ";".join(
            f"{each.name}{'' if each.kind.value == 'user' else f'<{each.kind.value}>'}"
            for each in named(profile, stack)
        ): (weight)
        for stack, weight in profile.stacks
    }


_RECIPE = Recipe(("comm", "kstack", "ustack"), "samples")


@pytest.mark.parametrize(
    ("user", "kernel", "wanted"),
    [
        (_user(Frame(9, "f", 1, "/bin/x"), _START), _kernel(), "sh<process>;_start;f"),
        (_user(_START), _kernel("b", "a"), "sh<process>;_start;a<kernel>;b<kernel>"),
        (_user(), _kernel("a"), "sh<process>;a<kernel>"),
        (_user(Frame(9, "f", 1, "/bin/x")), _kernel(), "sh<process>;[truncated]<note>;f"),
        (_user(Frame(9, "", 0x123, "/lib/l.so"), _START), _kernel(), "sh<process>;_start;[l.so+0x123]"),
        (_user(Frame(9, "", 0, ""), _START), _kernel(), "sh<process>;_start;[unknown]"),
        (_user(Frame(9, "", 0x99, "/lib/libc.so.6")), _kernel(), "sh<process>;[libc.so.6+0x99]"),
        (_user(Frame(9, "g", 0, "/tmp/perf-7.map"), _START), _kernel(), "sh<process>;_start;g<jit>"),
        (
            _user(Frame(9, "py::f:x.py", 0, "/tmp/perf-7.map"), _START),
            _kernel(),
            "sh<process>;_start;py::f:x.py<python>",
        ),
        (_user(_START), _kernel("__traceiter_sched_switch", "__schedule"), "sh<process>;_start;__schedule<kernel>"),
        (_user(Frame(9, "_RNvC5crate4main", 0, "/bin/x"), _START), _kernel(), "sh<process>;_start;crate::main"),
    ],
)
def test_stacks_are_named_and_marked(user: Stack, kernel: Stack, wanted: str) -> None:
    profile, _ = _recorded(_RECIPE, _snapshot((("sh", kernel, user), 3)), Ended("exit", 0, ()))
    assert _stacks(profile) == {wanted: 3}
    assert profile.quality.truncated == (3 if "[truncated]" in wanted else 0)
    assert profile.quality.unnamed == (3 if "+0x" in wanted or "[unknown]" in wanted else 0)


def test_snapshots_are_added_up_also_the_last_one() -> None:
    entry = ("sh", _kernel("a"), _user())
    events = (_snapshot((entry, 3)), _snapshot((entry, 4)), _snapshot((entry, 5), at_end=True))
    assert _stacks(_recorded(_RECIPE, *events)[0]) == {"sh<process>;a<kernel>": 12}


def test_other_maps_and_values_that_are_none_do_not_count() -> None:
    entry = ("sh", _kernel("a"), _user())
    events = (_snapshot((entry, 3), name="@other"), _snapshot((entry, 0)), _snapshot((entry, "x")))
    assert _recorded(_RECIPE, *events)[0].total == 0


def test_losses_of_events_are_told_once_and_counted_others_are_remarks() -> None:
    profile, errors = _recorded(
        _RECIPE,
        Loss("map-full", MAP, 2, 2),
        Loss("map-full", MAP, 3, 5),
        Loss("stack-failed", "", 7, 7),
        Ended("process", 0, (("map-full", MAP, 5), ("stack-failed", "", 7))),
    )
    assert profile.quality.lost == 5
    assert profile.quality.remarks == ("7 stacks could not be taken", "the process has ended")
    assert errors == "warning: 2 updates lost: the map is full (see max_map_keys): @stacks (told once)\n"


def test_processes_may_be_told_apart() -> None:
    for by, name in (("pid", "sh-7<process>"), ("tid", "sh-7/8<process>")):
        parts = key_parts(Stacks(by=by, kernel=False, user=False))
        key: tuple[Value, ...] = ("sh", 7) if by == "pid" else ("sh", 7, 8)
        assert _stacks(_recorded(Recipe(parts, "samples"), _snapshot((key, 1)))[0]) == {name: 1}


def test_wakers_stand_behind_a_separator_and_interrupts_have_no_process() -> None:
    stacks, waits = Stacks(), Waits(waker=True)
    recipe = Recipe(wait_key(stacks, waits), "us", divisor=1000, waits=waits)
    key = ("sh", _kernel("schedule"), _user(_START))
    woken = (*key, "cat", _kernel("try_to_wake_up"), _user(Frame(5, "write", 1, "/bin/x")))
    timed = (*key, "idle", _kernel("try_to_wake_up", "asm_sysvec_apic_timer_interrupt", "victim"), _user(_START))
    found = _stacks(_recorded(recipe, _snapshot((woken, 5_000_000), (timed, 2_000_400)))[0])
    front = "sh<process>;_start;schedule<kernel>;--<note>;try_to_wake_up<waker>"
    assert found == {f"{front};write<waker>;cat<waker>": 5000, f"{front};[interrupt]<waker>": 2000}


def test_waits_that_have_not_ended_count_until_now() -> None:
    stacks, waits = Stacks(kernel=False), Waits(least_ns=10**9)
    recipe = Recipe(wait_key(stacks, waits), "us", divisor=1000, waits=waits)
    now_ns = time.clock_gettime_ns(time.CLOCK_BOOTTIME)
    profile, _ = _recorded(
        recipe,
        _snapshot(((7,), now_ns - 5 * 10**9), ((8,), now_ns - 10**6), name="@began", at_end=True),
        _snapshot(((7,), "sh"), ((8,), "sh"), name="@comm", at_end=True),
        _snapshot(((7,), _user(_START)), name="@user", at_end=True),
        Ended("signal", 0, ()),
    )
    assert list(_stacks(profile)) == ["sh<process>;_start"]
    assert 5_000_000 <= profile.total < 15_000_000
    assert profile.quality.remarks == ("1 waits had not ended, and count until then",)


def test_programs_say_what_was_asked_for() -> None:
    text = event_program("profile:hz:99", "", Stacks(seconds=1.5), condition="pid == 7")
    assert "profile:hz:99 /pid == 7/ { @stacks[comm, kstack, ustack] = count(); }\n" in text
    assert "interval:us:1500000 { exit(); }\n" in text
    assert "= sum(args.bytes); }" in event_program("t:a:b", "args.bytes", Stacks())
    disk = wait_program(Stacks(), Waits(states="D", most_ns=5))
    assert "(($state & 0x2) != 0)" in disk and "$ns <= 5" in disk and "sched_waking" not in disk
    assert "($state == 0)" in wait_program(Stacks(), Waits(states="R"))
