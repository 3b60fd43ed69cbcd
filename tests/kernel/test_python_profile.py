"""Profiles of Python programs: their functions among the native ones, as another profiler finds them too."""

from __future__ import annotations

import re
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path

import pytest

from invivo.formats.stacks.profile_json import parse_profile_json
from invivo.stacks import FrameKind, Profile, named
from python_interpreters import DEBIAN, INTERPRETERS, debian_only, installed

INVIVO = (sys.executable, "-m", "invivo")

PROGRAM = """
import sys, threading, time

def spin(n):
    s = 0
    for i in range(n):
        s += i
    return s

def heavy():
    return spin(70000)

def light(x):
    return spin(30000)

def waits(seconds):
    time.sleep(seconds)

def main(seconds):
    thread = threading.Thread(target=waits, args=(seconds,))
    thread.start()
    end = time.process_time() + seconds
    while time.process_time() < end:
        heavy()
        sorted([1], key=light)
    thread.join()

main(float(sys.argv[1]))
"""


@pytest.fixture(scope="module")
def script(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("python") / "target.py"
    path.write_text(PROGRAM)
    return path


def _record(*words: str, out: Path) -> Profile:
    done = subprocess.run([*INVIVO, *words, "-o", str(out)], capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr
    return parse_profile_json(out.read_bytes(), str(out))


def _python(profile: Profile) -> Counter[tuple[str, ...]]:
    """The weights of the stacks, without their native functions and the lines of the others."""
    found: Counter[tuple[str, ...]] = Counter()
    for stack, weight in profile.stacks:
        frames = [each.name for each in named(profile, stack) if each.kind is FrameKind.PYTHON]
        found[tuple(re.sub(r" \(target.py:\d+\)$", "", name) for name in frames)] += round(weight)
    return found


def _share(stacks: Counter[tuple[str, ...]], function: str) -> float:
    """How much of the time in `spin` a function has called for."""
    spin = Counter({stack: weight for stack, weight in stacks.items() if "spin" in stack})
    return sum(weight for stack, weight in spin.items() if function in stack) / spin.total()


@pytest.mark.parametrize("interpreter", INTERPRETERS)
def test_functions_stand_among_the_native_ones(interpreter: str, script: Path, tmp_path: Path) -> None:
    profile = _record("profile", "-F", "499", "-U", "-c", f"{interpreter} {script} 0.3", out=tmp_path / "x.json")
    stacks = _python(profile)
    assert {("<module>", "main", "heavy", "spin"), ("<module>", "main", "light", "spin")} <= set(stacks)
    assert 0.55 < _share(stacks, "heavy") < 0.85
    whole = [[each.name for each in named(profile, stack)] for stack, _ in profile.stacks]
    assert all("_PyEval_EvalFrameDefault" not in names for names in whole if names[-1].startswith("spin "))
    if interpreter == DEBIAN:
        called = next(names for names in whole if names[-1].startswith("spin ") and "light" in names[-2])
        at = [index for index, name in enumerate(called) if name.split(" (")[0] in ("main", "light")]
        assert called.index("Py_BytesMain") < at[0] and "PyObject_CallOneArg" in called[at[-2] : at[-1]]


@debian_only
def test_waits_have_python_frames(script: Path, tmp_path: Path) -> None:
    profile = _record("offcpu", "-U", "-c", f"{DEBIAN} {script} 0.2", out=tmp_path / "x.json")
    waits = {stack: weight for stack, weight in _python(profile).items() if stack[-1:] == ("waits",)}
    assert sum(waits.values()) > 150_000
    names = {name.split(" (")[0] for stack in waits for name in stack}
    assert names == {"Thread._bootstrap", "Thread._bootstrap_inner", "Thread.run", "waits"}


@debian_only
def test_py_spy_finds_the_same(script: Path, tmp_path: Path) -> None:
    with subprocess.Popen([DEBIAN, str(script), "60"]) as target:
        try:
            raw = tmp_path / "spy.raw"
            spy = (str(Path(sys.executable).with_name("py-spy")), "record", "--format", "raw", "--function")
            options = ("--nonblocking", "-r", "200", "-d", "2", "-p", str(target.pid), "-o", str(raw))
            with subprocess.Popen([*spy, *options], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as other:
                words = ("profile", "-F", "199", "-U", "-p", str(target.pid), "2")
                ours = _python(_record(*words, out=tmp_path / "x.json"))
                assert other.wait(60) == 0
        finally:
            target.kill()
    theirs: Counter[tuple[str, ...]] = Counter()
    for line in raw.read_text().splitlines():
        stack, _, weight = line.rpartition(" ")
        theirs[tuple(re.sub(r" \([^()]*\)$", "", name) for name in stack.split(";"))] += int(weight)
    called = {stack for stack, weight in theirs.items() if weight > 10 and "spin" in stack}
    assert called == {("<module>", "main", "heavy", "spin"), ("<module>", "main", "light", "spin")}
    assert called <= set(ours)
    assert abs(_share(ours, "heavy") - _share(theirs, "heavy")) < 0.15


def test_trampolines(script: Path, tmp_path: Path) -> None:
    """What the interpreter itself tells profilers is read, and not shown beside the same functions found by us."""
    interpreters = installed("3.12")
    if not interpreters:
        pytest.skip("there is no CPython 3.12")
    with subprocess.Popen([interpreters[0], "-X", "perf", str(script), "60"]) as target:
        try:
            made = Path(f"/tmp/perf-{target.pid}.map")
            while not made.exists() or "py::spin:" not in made.read_text():
                assert target.poll() is None
                time.sleep(0.01)
            words = ("profile", "-F", "499", "-U", "-p", str(target.pid), "0.5")
            told = _record(*words, "--native", out=tmp_path / "x.json")
            found = _record(*words, out=tmp_path / "y.json")
        finally:
            target.kill()
            made.unlink(missing_ok=True)
    kinds = {each.name: each.kind for each in told.functions}
    assert kinds[f"py::spin:{script}"] is FrameKind.PYTHON
    assert ("<module>", "main", "heavy", "spin") in _python(found)
    assert not [each.name for each in found.functions if each.name.startswith("py::")]


def test_other_programs_have_none(tmp_path: Path) -> None:
    with subprocess.Popen(["sleep", "60"]) as other:
        try:
            done = subprocess.run(
                [*INVIVO, "profile", "-p", str(other.pid), "--dump", "source"],
                capture_output=True,
                text=True,
                timeout=60,
                check=False,
            )
        finally:
            other.kill()
    assert done.returncode == 0 and "ustack" in done.stdout and "pystack" not in done.stdout
