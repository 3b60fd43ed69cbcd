"""Profiles of programs that spend known times in known functions: shares, waits, weights, ends."""

from __future__ import annotations

import json
import os
import re
import shlex
import shutil
import signal
import subprocess
import sys
import time
import xml.etree.ElementTree as ET
from collections.abc import Iterator
from pathlib import Path

import pytest

from busy_programs import FRAME_POINTERS, build_busy, build_busy_cpp
from invivo.formats.stacks.profile_json import parse_profile_json
from invivo.stacks import FrameKind, Function, Profile, named

INVIVO = (sys.executable, "-m", "invivo")


@pytest.fixture(scope="module")
def programs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("busy")
    for name in (
        "shares",
        "becomes",
        "storm",
        "waits",
        "blocks",
        "idle",
        "allocates",
        "makes_code",
        "loads",
        "rust_names",
    ):
        build_busy(name, folder)
    return folder


def _record(*words: str, out: Path) -> tuple[Profile, subprocess.CompletedProcess[str]]:
    done = subprocess.run([*INVIVO, *words, "-o", str(out)], capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr
    return parse_profile_json(out.read_bytes(), str(out)), done


def _weight(profile: Profile, *functions: str) -> float:
    """The weight of the stacks in which all these functions are."""
    wanted = set(functions)
    return sum(weight for stack, weight in profile.stacks if wanted <= {each.name for each in named(profile, stack)})


def _functions(profile: Profile) -> dict[str, Function]:
    return {each.name: each for each in profile.functions}


# -- on the processor ----------------------------------------------------------------------------


def test_shares_are_what_the_program_spent(programs: Path, tmp_path: Path) -> None:
    profile, done = _record("profile", "-F", "499", "-c", f"{programs}/shares 0.9 0.3", out=tmp_path / "x.json")
    heavy, light = _weight(profile, "main", "heavy"), _weight(profile, "main", "light")
    assert profile.unit == "samples" and heavy + light >= 0.9 * profile.total > 100
    # The standard error of a share of 3/4 in 600 samples is 1.8 percent.
    assert abs(heavy / (heavy + light) - 0.75) < 0.09
    assert _weight(profile, "shares", "main", "heavy", "spin") > 0.9 * heavy
    assert _functions(profile)["heavy"].module == str(programs / "shares")
    truncated = profile.quality.truncated
    assert truncated is not None and truncated < 0.05 * profile.total and profile.quality.lost == 0
    assert f"{int(profile.total):,} samples, " in done.stderr and "0 events lost" in done.stderr


def test_the_commands_status_is_told(programs: Path) -> None:
    done = subprocess.run(
        [*INVIVO, "profile", "-c", f"{programs}/shares 0.01 0 3"],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 3, done.stderr


def test_a_process_that_becomes_another_program_keeps_both_names(programs: Path, tmp_path: Path) -> None:
    command = f"{programs}/becomes {programs}/shares 0.3 0"
    profile, _ = _record("profile", "-F", "499", "-c", command, out=tmp_path / "x.json")
    before, after = _weight(profile, "becomes", "before"), _weight(profile, "shares", "heavy")
    assert before > 0.4 * (before + after) > 50
    assert _weight(profile, "becomes", "before", "spin") > 0.8 * before
    assert before + after > 0.9 * profile.total


def test_processes_that_live_a_moment_have_names(programs: Path, tmp_path: Path) -> None:
    profile, _ = _record("profile", "-F", "999", "-c", f"{programs}/storm 30", out=tmp_path / "x.json")
    assert _weight(profile, "storm", "main", "brief") > 0.8 * profile.total > 200


def test_what_a_jit_compiler_makes_has_the_name_that_it_gave(programs: Path, tmp_path: Path) -> None:
    profile, _ = _record("profile", "-F", "499", "-U", "-c", f"{programs}/makes_code", out=tmp_path / "x.json")
    name = "LazyCompile:~hot app.js:7"
    assert _weight(profile, "makes_code", "main", name) > 0.8 * profile.total > 30
    assert _functions(profile)[name].kind is FrameKind.JIT


def test_a_library_that_comes_and_goes(programs: Path, tmp_path: Path) -> None:
    library = build_busy("plugin", tmp_path, *FRAME_POINTERS, "-shared", "-fPIC")
    profile, _ = _record("profile", "-F", "499", "-c", f"{programs}/loads {library}", out=tmp_path / "x.json")
    assert _weight(profile, "main", "plugin_work", "plugin_inside") > 0.8 * profile.total > 50
    assert _functions(profile)["plugin_inside"].module == str(library)


def test_a_program_in_another_root_that_has_the_path_of_one_here(programs: Path, tmp_path: Path) -> None:
    root = tmp_path / "root"
    listed = subprocess.run(["ldd", programs / "shares"], capture_output=True, text=True, check=True).stdout
    for path in re.findall(r"(/\S+) \(", listed):
        (root / path[1:]).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(path, root / path[1:])
    (root / "bin").mkdir()
    shutil.copy(programs / "shares", root / "bin" / "true")
    profile, _ = _record(
        "profile", "-F", "499", "-U", "-c", f"chroot {root} /bin/true 0.3 0.3", out=tmp_path / "x.json"
    )
    heavy, light = _weight(profile, "true", "main", "heavy", "spin"), _weight(profile, "true", "main", "light", "spin")
    assert heavy + light > 0.8 * profile.total > 100
    assert abs(heavy / (heavy + light) - 0.5) < 0.12  # the standard error of a half of 300 samples is 3 percent


def test_names_of_rust(programs: Path, tmp_path: Path) -> None:
    profile, _ = _record("profile", "-F", "499", "-U", "-c", f"{programs}/rust_names", out=tmp_path / "x.json")
    for name in ("tools::Chopper::chop", "mycrate::foo::bar"):
        assert 0.3 * profile.total < _weight(profile, "main", name) < 0.7 * profile.total


def test_templates_and_lambdas(tmp_path: Path) -> None:
    program = build_busy_cpp(tmp_path)
    profile, _ = _record("profile", "-F", "499", "-U", "--inlined", "-c", str(program), out=tmp_path / "x.json")
    kinds: dict[str, set[FrameKind]] = {}
    for each in profile.functions:
        kinds.setdefault(each.name, set()).add(each.kind)
    filling, sorting = (next(each for each in kinds if f"app::during<main::{{lambda()#{n}}}>(" in each) for n in (1, 2))
    fills, sorts = _weight(profile, "main", filling), _weight(profile, "main", sorting)
    assert fills + sorts > 0.7 * profile.total > 100
    # Some samples in the C++ library's own code, which has no frame pointers, do not reach as far.
    assert abs(sorts / (fills + sorts) - 0.75) < 0.12
    sort = next(name for name in kinds if name.startswith("void std::sort<"))
    assert kinds[sort] == {FrameKind.INLINED} and _weight(profile, "app::Sorter::operator()(int)", sort) > 0.5 * sorts
    assert _weight(profile, filling, "app::Table<long>::fill(int)") > 0
    assert any(name.startswith("std::map<") and kind == {FrameKind.INLINED} for name, kind in kinds.items())


def test_inlined_functions_and_lines_are_shown_if_asked_for(tmp_path: Path) -> None:
    program = build_busy("inlines", tmp_path, "-O2", "-g", "-fno-omit-frame-pointer")
    lines = (tmp_path / "inlines.c").read_text().splitlines()
    called = next(number for number, line in enumerate(lines, 1) if "innermost(n);" in line)
    words = ("profile", "-F", "499", "-U", "-c", str(program))
    profile, _ = _record(*words, "--inlined", "--lines", out=tmp_path / "x.json")
    kinds = {each.name: each.kind for each in profile.functions}
    middle = f"middle (inlines.c:{called})"
    inner = sum(
        weight
        for stack, weight in profile.stacks
        if (names := [each.name for each in named(profile, stack)])[-1:]
        and names[-1].startswith("innermost (inlines.c:")
        and names[-2] == middle
    )
    assert inner > 0.8 * profile.total > 30
    assert kinds[middle] is FrameKind.INLINED
    assert any(name.startswith("outer (inlines.c:") and kind is FrameKind.USER for name, kind in kinds.items())
    plain, _ = _record(*words, out=tmp_path / "y.json")
    assert not [each for each in plain.functions if each.kind is FrameKind.INLINED]
    assert _weight(plain, "outer") > 0.8 * plain.total


def test_python_programs_have_native_frames(tmp_path: Path) -> None:
    command = f"{sys.executable} -S -c 'sum(i * i for i in range(6000000))'"
    profile, _ = _record("profile", "-F", "499", "-U", "-c", command, out=tmp_path / "x.json")
    assert profile.total > 20
    assert not [each for each in profile.functions if each.kind.value == "kernel"]


def test_a_running_process_for_some_time(programs: Path, tmp_path: Path) -> None:
    with subprocess.Popen([programs / "shares", "20", "0"]) as target:
        try:
            words = ("profile", "-F", "499", "-p", str(target.pid), "--by", "tid", "0.5")
            profile, _ = _record(*words, out=tmp_path / "x.json")
        finally:
            target.kill()
    assert _weight(profile, f"shares-{target.pid}/{target.pid}", "heavy") > 0.9 * profile.total > 20


def _interrupted(program: Path, out: Path, *, ends: bool) -> str:
    """Record a process until the live view has shown something; then it ends, or Ctrl-C is pressed."""
    with subprocess.Popen([program, "300", "0"]) as target:
        try:
            words = [*INVIVO, "profile", "-F", "499", "--top", "-p", str(target.pid), "-o", str(out)]
            with subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as running:
                assert running.stdout is not None
                assert "   self   total  function\n" in iter(running.stdout.readline, "")
                if ends:
                    target.kill()
                else:
                    running.send_signal(signal.SIGINT)
                _, errors = running.communicate(timeout=60)
        finally:
            target.kill()
    assert running.returncode == 0, errors
    return errors


def test_a_process_that_ends_midway_is_a_note(programs: Path, tmp_path: Path) -> None:
    out = tmp_path / "x.json"
    assert "the process has ended" in _interrupted(programs / "shares", out, ends=True)
    assert _weight(parse_profile_json(out.read_bytes(), str(out)), "heavy") > 0


def test_ctrl_c_keeps_what_there_is(programs: Path, tmp_path: Path) -> None:
    out = tmp_path / "x.svg"
    assert "the process has ended" not in _interrupted(programs / "shares", out, ends=False)
    titles = [each.text or "" for each in ET.parse(out).iter("{http://www.w3.org/2000/svg}title")]
    assert any(title.startswith("heavy (") for title in titles)


def test_folded_text_and_text_for_people(programs: Path, tmp_path: Path) -> None:
    out = tmp_path / "x.folded"
    command = f"{programs}/shares 0.2 0"
    done = subprocess.run(
        [*INVIVO, "profile", "-F", "499", "-c", command, "-o", str(out)], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert any(line.startswith("shares;") and "main;heavy;mix;spin" in line for line in out.read_text().splitlines())
    shown = subprocess.run(
        [*INVIVO, "profile", "-F", "499", "-c", command], capture_output=True, text=True, check=False
    ).stdout
    assert "   self   total  function\n" in shown and "  spin\n" in shown and "         heavy\n" in shown


def test_hostile_names_do_no_harm_in_any_output(tmp_path: Path) -> None:
    """Markup, control characters, separators and an endless name: from the program's symbols to each form."""
    program = build_busy("hostile", tmp_path)
    program.write_bytes(program.read_bytes().replace(b"CONTROL", b"\x1b[2J\n\r\x07"))
    profile, _ = _record("profile", "-F", "499", "-U", "-c", str(program), out=tmp_path / "x.json")
    marked = "<script>alert('x')</script>&amp;;]]> \x1b[2J\n\r\x07 7"
    assert _weight(profile, "main", marked) > 0.2 * profile.total > 30
    endless = [each.name for each in profile.functions if each.name.startswith("LLLL")]
    assert len(endless) == 1 and len(endless[0]) <= 4096
    assert _weight(profile, "main", *endless) > 0.2 * profile.total
    for ending in ("txt", "folded", "svg"):
        words = (*INVIVO, "flame", str(tmp_path / "x.json"), "-o", str(tmp_path / f"x.{ending}"))
        assert subprocess.run(words, timeout=60, check=False).returncode == 0
        text = (tmp_path / f"x.{ending}").read_text()
        assert "\x1b" not in text and len(text) < 200_000
    stacks = (tmp_path / "x.folded").read_text().splitlines()
    assert len(stacks) == len(profile.stacks) and all(re.search(r"^[\w.]+(;\S.*)? \d+$", line) for line in stacks)
    drawn = ET.parse(tmp_path / "x.svg")
    assert len(list(drawn.iter("{http://www.w3.org/2000/svg}script"))) == 1
    titles = [each.text or "" for each in drawn.iter("{http://www.w3.org/2000/svg}title")]
    assert any(title.startswith("<script>alert('x')</script>&amp;;]]> \\x1b[2J") for title in titles)


# -- off the processor ---------------------------------------------------------------------------


@pytest.fixture(scope="module")
def waits(programs: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Profile, dict[str, float]]:
    """The profile of the waits, with their wakers; and what the program says that they took, in microseconds."""
    out = tmp_path_factory.mktemp("waits") / "x.json"
    profile, done = _record("offcpu", "--waker", "-c", f"{programs}/waits", out=out)
    lines = [line.split() for line in done.stdout.splitlines()]
    return profile, {name: 1e6 * float(seconds) for name, seconds in lines}


@pytest.mark.parametrize("wait", ["sleeps", "reads", "locks"])
def test_waits_are_as_long_as_the_program_says(waits: tuple[Profile, dict[str, float]], wait: str) -> None:
    profile, took = waits
    assert profile.unit == "us" and took[wait] > 200_000
    assert abs(_weight(profile, wait) / took[wait] - 1) < 0.05


@pytest.mark.parametrize(("states", "kinds"), [("SDTtPIR", ("sleeps", "pipes", "locks", "syncs")), ("D", ("forks",))])
def test_sums_of_many_waits(programs: Path, tmp_path: Path, states: str, kinds: tuple[str, ...]) -> None:
    """Sleeps, a pipe, a lock, the disk, and in state D a child of vfork: as long as the program was not running."""
    words = ("offcpu", "--state", states, "-c", f"{programs}/blocks {tmp_path}/file")
    profile, done = _record(*words, out=tmp_path / "x.json")
    took = {name: 1e6 * float(seconds) for name, seconds in map(str.split, done.stdout.splitlines())}
    assert all(took[kind] > 150_000 for kind in ("sleeps", "pipes", "locks", "forks"))
    for kind in kinds:
        found = _weight(profile, "main", kind)
        # What is shorter than the shortest wait is not in the sum.
        assert found < 1.05 * took[kind] + 500, (kind, took)
        # Some file systems keep nobody waiting; and a virtual disk's work takes the processor away without a switch.
        assert kind == "syncs" or found > 0.95 * took[kind] - 500, (kind, took)
    if states == "D":
        assert _weight(profile, "sleeps") == _weight(profile, "pipes") == _weight(profile, "locks") == 0
    assert profile.quality.lost == 0


def test_wakers_stand_above_what_they_wake(waits: tuple[Profile, dict[str, float]]) -> None:
    profile, took = waits
    stacks = [([(each.name, each.kind.value) for each in named(profile, stack)], w) for stack, w in profile.stacks]
    woken = {("reads", "user"): ("vfs_write", "waker"), ("locks", "user"): ("do_futex", "waker")}
    for (frame, waker), name in zip(woken.items(), ("reads", "locks"), strict=True):
        above = sum(w for stack, w in stacks if frame in stack and waker in stack[stack.index(("--", "note")) :])
        assert abs(above / took[name] - 1) < 0.1
    slept = [stack for stack, w in stacks if ("sleeps", "user") in stack and w > 100_000]
    assert slept and all(stack[-1] == ("[interrupt]", "waker") for stack in slept)


@pytest.fixture
def idle(programs: Path) -> Iterator[subprocess.Popen[bytes]]:
    with subprocess.Popen([programs / "idle"], stdout=subprocess.PIPE) as target:
        assert target.stdout is not None and target.stdout.readline() == b"ready\n"
        yield target
        target.kill()


def test_a_wait_that_does_not_end_counts_from_when_it_began(programs: Path, tmp_path: Path) -> None:
    started = time.monotonic()
    profile, done = _record("offcpu", "-c", f"{programs}/idle", "1", out=tmp_path / "x.json")
    assert 0.2e6 < _weight(profile, "main", "rests") < 1e6 * (time.monotonic() - started)
    assert "1 waits had not ended, and count until then" in done.stderr


def test_a_thread_that_waits_all_the_time_is_found(idle: subprocess.Popen[bytes], tmp_path: Path) -> None:
    """A process that is stuck: nothing happens, and that is what one wants to know."""
    started = time.monotonic()
    words = ("offcpu", "-p", str(idle.pid), "--by", "tid", "1")
    profile, done = _record(*words, out=tmp_path / "x.json")
    waited = _weight(profile, f"idle-{idle.pid}/{idle.pid}", "[truncated]", "do_syscall_64")
    assert 0.5e6 < waited == profile.total < 1e6 * (time.monotonic() - started)
    assert "1 threads waited from before the recording on" in done.stderr
    (stack, _), *others = profile.stacks
    assert not others and any("pause" in each.name and each.kind is FrameKind.USER for each in named(profile, stack))
    running, _ = _record(*words, "--state", "D", out=tmp_path / "y.json")
    assert running.total == 0


def test_waits_can_be_chosen_by_state_and_length(programs: Path, tmp_path: Path) -> None:
    longer, _ = _record("offcpu", "-m", "280ms", "-c", f"{programs}/waits", out=tmp_path / "x.json")
    assert _weight(longer, "sleeps") > 0 and _weight(longer, "reads") < 280_000 * 2
    disk, _ = _record("offcpu", "--state", "D", "-c", f"{programs}/waits", out=tmp_path / "x.json")
    assert _weight(disk, "sleeps") == 0


# -- any event -----------------------------------------------------------------------------------


def test_stacks_of_an_event_are_counted(programs: Path, tmp_path: Path) -> None:
    probe = "uprobe:libc:malloc"
    words = ("stacks", probe, "-U", "-c", f"{programs}/allocates")
    profile, _ = _record(*words, "--if", "arg0 == 100 || arg0 == 5000", out=tmp_path / "x.json")
    assert profile.unit == "events"
    assert (_weight(profile, "small"), _weight(profile, "large")) == (50, 50)
    weighed, _ = _record(*words, "--weight", "arg0", "--unit", "bytes", out=tmp_path / "y.json")
    assert weighed.unit == "bytes"
    assert (_weight(weighed, "small"), _weight(weighed, "large")) == (5000, 250_000)


# -- mistakes ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("words", "status", "message"),
    [
        (("profile",), 2, "what is to be traced? one of -c CMD, -p PID, --cgroup PATH, -a"),
        (("profile", "-a", "-c", "true"), 2, "what is to be traced?"),
        (("profile", "-c", "true", "1x"), 2, "how many seconds? found '1x'"),
        (("profile", "-c", "true", "1", "2"), 2, "found '2' after the number of seconds"),
        (("profile", "-F", "0", "-c", "true"), 2, "-F is a number of samples per second"),
        (("profile", "-c", "true", "-o", "x.png"), 2, "what is 'x.png' to be?"),
        (("profile", "-U", "-K", "-c", "true"), 2, "-U and -K exclude each other"),
        (("offcpu", "--state", "Q", "-c", "true"), 2, "--state knows R, S, D"),
        (("offcpu", "-m", "5parsec", "-c", "true"), 2, "--min is a time"),
        (("stacks", "-c", "true"), 2, "no event"),
        (("stacks", "tracepoint:sched:nothing", "-c", "true"), 1, "nothing"),
        (("stacks", "tracepoint:sched:sched_switch", "--weight", "args.no", "-c", "true"), 1, "args"),
        (("profile", "-p", "4194304"), 1, "no process 4194304"),
    ],
)
def test_mistakes_are_told(words: tuple[str, ...], status: int, message: str) -> None:
    done = subprocess.run([*INVIVO, *words], capture_output=True, text=True, timeout=60, check=False, cwd="/")
    assert (done.returncode, done.stdout) == (status, "")
    assert message in done.stderr and "internal error" not in done.stderr


def test_progress_is_told_on_a_terminal_only(programs: Path, tmp_path: Path) -> None:
    master, slave = os.openpty()
    out = tmp_path / "x.json"
    with subprocess.Popen(
        [*INVIVO, "profile", "-c", f"{programs}/shares 1.5 0", "-o", str(out)], stderr=slave
    ) as running:
        os.close(slave)
        told = b""
        try:
            while data := os.read(master, 4096):
                told += data
        except OSError:
            pass  # the other end is closed
        os.close(master)
    assert running.returncode == 0
    assert b" s: " in told and b" samples" in told and b"\r" in told
    assert json.loads(out.read_text())["total"] > 0


# -- the manual ----------------------------------------------------------------------------------

_MANUAL = (Path(__file__).parents[2] / "docs" / "how-to" / "profile.md").read_text()


def _commands() -> list[str]:
    """The commands of the manual that record, complete."""
    written = re.findall(r"`(invivo (?:profile|offcpu|stacks) [^`]*)`", _MANUAL)
    written += re.findall(r"^    (invivo (?:profile|offcpu|stacks) .*)$", _MANUAL, re.MULTILINE)
    return sorted(set(written))


@pytest.mark.parametrize("command", _commands())
def test_the_manuals_commands_are_understood(command: str, tmp_path: Path) -> None:
    text = command.replace("CMD ARG", "true").replace("PID", str(os.getpid())).replace("1234", str(os.getpid()))
    words = shlex.split(text.replace(" ...", f" -p {os.getpid()} 1"))
    done = subprocess.run(
        [*INVIVO, *words[1:], "--dump", "image"], capture_output=True, text=True, timeout=60, check=False, cwd=tmp_path
    )
    assert done.returncode == 0, done.stderr
    assert "@stacks" in done.stdout


def test_the_manuals_example_is_what_comes_out(tmp_path: Path) -> None:
    busy = Path(__file__).parents[2] / "demo" / "busy.c"
    flags = ["-O1", "-fno-omit-frame-pointer", "-mno-omit-leaf-frame-pointer"]
    subprocess.run(["gcc", *flags, "-o", tmp_path / "busy", busy], check=True)
    block = re.search(r"\n    \$ (invivo .*)\n((?:    .*\n|\n)+)", _MANUAL)
    assert block is not None
    command, *_ = block.groups()
    shown = [line[4:] for line in block[2].splitlines() if line.strip()]
    done = subprocess.run(
        [*INVIVO, *shlex.split(command)[1:]], capture_output=True, text=True, timeout=60, check=False, cwd=tmp_path
    )
    assert done.returncode == 0, done.stderr
    found = [re.sub(r"[\d,.]+", "#", " ".join(line.split())) for line in done.stdout.splitlines()]
    wanted = [re.sub(r"[\d,.]+", "#", " ".join(line.split())) for line in shown if line != "[...]"]
    # What is to be said about this run in particular follows on the same line.
    assert wanted and not [line for line in wanted if not any(each.startswith(line) for each in found)]
