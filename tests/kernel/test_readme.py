"""The README's examples are run: every command works, and what is shown has the form of what it prints."""

from __future__ import annotations

import doctest
import os
import pty
import re
import shlex
import subprocess
import sys
import time
from pathlib import Path

import pytest

_ROOT = Path(__file__).parents[2]
_README = (_ROOT / "README.md").read_text()
_INVIVO = str(Path(sys.executable).parent / "invivo")


def _examples() -> list[tuple[str, list[str]]]:
    """Each command of the README and the lines shown below it."""
    found: list[tuple[str, list[str]]] = []
    for block in re.findall(r"\n\n((?:    .*\n|\n(?=    ))+)", _README):
        lines = [line[4:] for line in block.splitlines()]
        if not lines[0].startswith("$ invivo"):
            continue
        end = next(end for end in range(1, len(lines) + 1) if _closed("\n".join(lines[:end])))
        found.append(("\n".join(lines[:end])[2:], [line for line in lines[end:] if line.strip()]))
    return found


def _closed(command: str) -> bool:
    try:
        shlex.split(command)
    except ValueError:
        return False
    return True


def _shape(line: str) -> str:
    """A line without its numbers and the lengths of its bars."""
    line = re.sub(r"0x[0-9a-f]+", "ADDRESS", line)
    line = re.sub(r"\d+", "#", line)
    line = re.sub(r"\|@* *\|", "||", line)
    return re.sub(r"^(\[#\]|\[#, #\))", "[BUCKET]", re.sub(r" +", " ", line)).strip()


@pytest.fixture
def busy(tmp_path: Path) -> Path:
    program = tmp_path / "busy"
    flags = ["-O1", "-fno-omit-frame-pointer", "-mno-omit-leaf-frame-pointer"]
    subprocess.run(["gcc", *flags, "-o", str(program), str(_ROOT / "demo" / "busy.c")], check=True)
    return program


def _run(words: list[str]) -> list[str]:
    done = subprocess.run(words, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr
    return [line for line in (done.stderr + done.stdout).splitlines() if line.strip()]


def _run_beside_a_shell(words: list[str]) -> list[str]:
    """Give the command a bash on a terminal, and type into it what the README shows."""
    pid, terminal = pty.fork()
    if pid == 0:
        os.execv("/bin/bash", ["bash", "--norc", "--noprofile", "-i"])
    command = [str(pid) if word.isdigit() and words[i - 1] == "-p" else word for i, word in enumerate(words)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as tracer:
        assert tracer.stdout is not None
        first = tracer.stdout.readline()
        for typed in ("true\n", "ls /proc/self/fd\n", "exit\n"):
            os.write(terminal, typed.encode())
            time.sleep(0.3)
        rest, errors = tracer.communicate(timeout=20)
    os.waitpid(pid, 0)
    os.close(terminal)
    assert tracer.returncode == 0, errors
    return [first.rstrip("\n"), *rest.splitlines()]


@pytest.mark.parametrize(("command", "shown"), _examples(), ids=[command[:60] for command, _ in _examples()])
def test_a_command_prints_what_is_shown(command: str, shown: list[str], busy: Path) -> None:
    words = [_INVIVO, *shlex.split(command.replace("./busy", str(busy)))[1:]]
    lines = _run_beside_a_shell(words) if "-p" in words else _run(words)
    shapes = {_shape(line) for line in lines}
    assert len(shown) > 1
    for line in shown:
        # Which functions a profile shows is the program's business; that it shows functions is ours.
        if line != "[...]" and not re.match(r"\s+\w+\+\d+$", line):
            assert _shape(line) in shapes, (line, lines)


def test_there_are_six_examples() -> None:
    assert len(_examples()) == 6


def test_the_python_example() -> None:
    assert doctest.testfile(str(_ROOT / "README.md"), module_relative=False).failed == 0
