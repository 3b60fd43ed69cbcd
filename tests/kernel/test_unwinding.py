"""User stacks without frame pointers: they are whole, down to where the thread began."""

from __future__ import annotations

import subprocess
import sys
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import pytest

from invivo.events import Ended, MapSnapshot, Row, Stack
from invivo.formats.stacks.profile_json import parse_profile_json
from invivo.profiling.programs import MAP, Stacks, Waits, event_program, wait_program
from invivo.stacks import named
from running import session
from unwound_programs import EXECUTING, PYTHON, SCRIPT, THREAD, WALKED, Walked, build, build_burning, make_root

WHOLE = 20
# A stack is taken twice: to be counted, and to see whether it is whole; tables may come in between.
COUNTED = WHOLE - 1
_LEAST_SHARE = 0.95
INTERPRETER = "/usr/bin/python3"  # of the distribution, without frame pointers


class Counted:
    """The stacks that a run has counted, and what it has lost."""

    def __init__(self, program: str, command: Sequence[str]) -> None:
        self.counts: Counter[Stack] = Counter()
        self.losses: dict[str, int] = {}
        with session(program, command=command) as opened:
            for event in opened:
                if isinstance(event, MapSnapshot) and event.name == "@":
                    for key, value in event.entries:
                        assert key is not None
                        assert isinstance(key[0], Stack) and isinstance(value, int)
                        self.counts[key[0]] += value
                elif isinstance(event, Ended):
                    self.losses = {kind: count for kind, _, count in event.losses}

    @property
    def whole(self) -> Counter[Stack]:
        return Counter({stack: count for stack, count in self.counts.items() if stack.complete})

    def share(self) -> float:
        return self.whole.total() / self.counts.total()


def names(stack: Stack) -> tuple[str, ...]:
    return tuple(frame.symbol or "?" for frame in stack.frames)


def until_whole(probes: str, frames: int) -> str:
    """A program that counts stacks until some have so many frames: tables are not there at once."""
    return f"{probes} {{ @[dw_ustack] = count(); if (len(dw_ustack) == {frames} && ++@n == {WHOLE}) {{ exit(); }} }}"


@pytest.mark.parametrize("program", WALKED, ids=lambda program: program.name)
def test_callers(program: Walked, tmp_path: Path) -> None:
    command = build(program, tmp_path)
    found = Counted(until_whole(f"uprobe:{command[0]}:leaf*", len(program.callers) + 4), command)
    ((stack, count),) = found.whole.items()
    leaf, *callers = names(stack)
    assert leaf.startswith("leaf")
    assert len(callers) == len(program.callers) + 3
    assert callers[-1] == "_start"
    for name, expected in zip(callers, program.callers, strict=False):
        assert expected in (name, "?")
    assert count >= COUNTED


def test_a_thread_ends_where_it_began(tmp_path: Path) -> None:
    command = build(THREAD, tmp_path)
    found = Counted(until_whole(f"uprobe:{command[0]}:leaf", len(THREAD.callers) + 2), command)
    ((stack, count),) = found.whole.items()
    assert names(stack)[:-1] == ("leaf", *THREAD.callers)
    assert "clone" in names(stack)[-1]
    assert count >= COUNTED


def test_another_program_is_executed(tmp_path: Path) -> None:
    """The mappings of before do not count any more, and those of the new program are known soon."""
    (before,) = build(EXECUTING._replace(flags=("-DHITS=40",)), tmp_path)
    deep = next(program for program in WALKED if program.name == "deep-static-pie")
    (after,) = build(deep, tmp_path)
    found = Counted(until_whole(f"uprobe:{before}:leaf,uprobe:{after}:leaf", len(deep.callers) + 4), (before, after))
    sizes = {len(stack.frames): count for stack, count in found.whole.items()}
    assert set(sizes) <= {len(program.callers) + 4 for program in (EXECUTING, deep)}
    assert sizes[len(deep.callers) + 4] >= COUNTED
    stack = next(stack for stack in found.whole if "down" in names(stack))
    assert names(stack)[1:-3] == deep.callers


def test_a_running_process(tmp_path: Path) -> None:
    """Its mappings are read when the session begins: the first stack is whole."""
    deep = next(program for program in WALKED if program.name == "deep")
    command = build(deep._replace(flags=(*deep.flags, "-DHITS=100000")), tmp_path)
    with subprocess.Popen(command) as process:
        stacks = []
        with session(f"uprobe:{command[0]}:leaf {{ print(dw_ustack); exit(); }}", pid=process.pid) as opened:
            stacks += [event.value for event in opened if isinstance(event, Row)]
        process.kill()
    (stack,) = stacks
    assert isinstance(stack, Stack) and stack.complete
    assert names(stack)[1 : len(deep.callers) + 1] == deep.callers


def test_limits(tmp_path: Path) -> None:
    """A limit that was asked for does not make a stack truncated, the greatest default depth does."""
    deep = next(program for program in WALKED if program.name == "deep")
    command = build(deep._replace(flags=("-DDEPTH=140",)), tmp_path)
    counts = "@few[dw_ustack(3)] = count(); @all[dw_ustack] = count();"
    program = f"uprobe:{command[0]}:leaf {{ {counts} if (len(dw_ustack) == 127 && ++@n == {WHOLE}) {{ exit(); }} }}"
    with session(program, command=command) as opened:
        entries = {event.name: event.entries for event in opened if isinstance(event, MapSnapshot)}
    stacks = {(name, key[0]) for name, rows in entries.items() for key, _ in rows if key is not None}
    found = {(name, len(stack.frames), stack.complete) for name, stack in stacks if isinstance(stack, Stack)}
    assert ("@few", 3, True) in found
    assert ("@all", 127, False) in found


_FIRST = {"_start", "__libc_start_main", "__libc_start_call_main", "start_thread", "clone", "clone3", "__clone3"}
# Programs of the script, and functions that stand in their stacks, in this order, outermost first.
_EXPECTED = {
    "cpp": ("main", "run(step&)", "table::go(int)"),
    "signals": ("main", "work", "burn"),  # with or without the handler between them
    "threads": ("worker", "burn"),
    "loads": ("main", "plugin", "inner", "burn"),
    "storm": ("main", "brief", "burn"),
    "executes": ("main", "before", "burn"),
    "rooted": ("main", "run(step&)", "table::go(int)"),
}


def test_share_of_whole_stacks(tmp_path: Path) -> None:
    """At least 95 of 100 samples of user code reach the bottom, in everything that a shell starts."""
    built = build_burning(tmp_path)
    python = tmp_path / "shapes.py"
    python.write_text(PYTHON)
    arguments = {"loads": f"{tmp_path}/plugin.so", "executes": f"{built['threads']}"}
    programs = [f"{path} {arguments.get(name, '')}" for name, path in built.items()]
    rooted = make_root(tmp_path / "root", built["cpp"])
    pieces = {
        "{seen}": f"{built['cpp']} '{INTERPRETER} {python}' 'chroot {tmp_path}/root {rooted}'",
        "{programs}": "\n".join([*programs, f"chroot {tmp_path}/root {rooted}", f"{INTERPRETER} {python}"]),
        "{last}": str(built["threads"]),
    }
    text = SCRIPT
    for mark, piece in pieces.items():
        text = text.replace(mark, piece)
    script = tmp_path / "all.sh"
    script.write_text(text)
    out = tmp_path / "out.json"
    words = ("profile", "-U", "-F", "499", "-c", f"/bin/bash {script}", "-o", str(out))
    done = subprocess.run(
        [sys.executable, "-m", "invivo", *words], capture_output=True, text=True, timeout=120, check=True
    )
    profile = parse_profile_json(out.read_bytes(), str(out))
    whole: Counter[str] = Counter()
    every: Counter[str] = Counter()
    seen: Counter[str] = Counter()
    for stack, weight in profile.stacks:
        process, *names = (each.name for each in named(profile, stack))
        if not names:
            continue
        every[process] += round(weight)
        if names[0] in _FIRST or names[0].startswith(
            ("[libc.so", "[ld-linux", f"[{Path(INTERPRETER).resolve().name}+")
        ):
            whole[process] += round(weight)
        if is_inside(_EXPECTED.get(process, ()), names):
            seen[process] += round(weight)
    sys.stdout.write(f"{done.stderr}{[(name, whole[name], seen[name], count) for name, count in every.items()]}\n")
    assert every.total() > 500
    assert whole.total() >= _LEAST_SHARE * every.total()
    for name in _EXPECTED:
        assert seen[name] > 0.4 * every[name] > 8, name


def is_inside(wanted: Sequence[str], names: Sequence[str]) -> bool:
    """Whether some names are among others, in this order."""
    rest = iter(names)
    return all(any(name == each for each in rest) for name in wanted)


def test_the_whole_system(tmp_path: Path) -> None:
    """Without a scope nothing is known of a process before its first sample; from then on stacks are whole."""
    deep = next(program for program in WALKED if program.name == "deep")
    command = build(deep._replace(name="burning", flags=("-DDEPTH=20", "-DBURNS", "-static-pie")), tmp_path)
    counts: Counter[bool] = Counter()
    is_known = False
    with subprocess.Popen(("nice", *command)) as process:
        stacks = Stacks(kernel=False, interval_ms=200)
        with session(event_program("profile:hz:199", "", stacks, condition=f"pid == {process.pid}")) as opened:
            for event in opened:
                seen: Counter[bool] = Counter()
                for key, value in event.entries if isinstance(event, MapSnapshot) and event.name == MAP else ():
                    assert key is not None and isinstance(key[-1], Stack) and isinstance(value, int)
                    seen[key[-1].complete and len(key[-1].frames) > 20] += value
                if is_known:
                    counts += seen
                is_known = is_known or seen[True] > 0
                if counts.total() >= 60:
                    break
        process.kill()
    assert counts[True] >= _LEAST_SHARE * counts.total()


def test_waits_and_what_ends_them(tmp_path: Path) -> None:
    """Stacks are walked for the thread that leaves the processor, and for that which wakes another one."""
    deep = next(program for program in WALKED if program.name == "deep-static-pie")
    command = build(deep, tmp_path)  # it goes on for seconds: tables are there sooner or later
    text = wait_program(Stacks(kernel=False), Waits(waker=True))
    found: Counter[bool] = Counter()
    with session(text, command=command) as opened:
        for event in opened:
            for key, value in event.entries if isinstance(event, MapSnapshot) and event.name == MAP else ():
                assert key is not None and isinstance(value, int)
                stack = key[1]
                assert isinstance(stack, Stack)
                is_whole = stack.complete and names(stack)[-1:] == ("_start",)
                found[is_whole and is_inside(("again", *("down",) * 10, "main"), names(stack))] += 1
            if found[True]:
                break
    assert found[True] >= 1
