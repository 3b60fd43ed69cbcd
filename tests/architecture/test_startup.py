"""Start-up is decided by what is imported: the shortest trace has a budget of modules."""

from __future__ import annotations

import subprocess
import sys

import pytest

OWN_MODULES = 162  # of invivo itself, 0.3 ms each
ALL_MODULES = 238  # with the interpreter's own

# Milliseconds each, and nothing that this run needs.
NOT_FOR_THIS = {
    "argparse",
    "asyncio",
    "dataclasses",
    "email",
    "inspect",
    "json",
    "logging",
    "numpy",
    "pathlib",
    "shlex",
    "shutil",
    "socket",
    "subprocess",
    "tempfile",
    "threading",
    "traceback",
    "unicodedata",
    "urllib",
}

_PROGRAM = """
import sys
from invivo.cli.main import run_words
status = run_words(["run", *sys.argv[1:], "-e", "BEGIN { exit(); }"])
sys.stderr.write(" ".join(sys.modules))
sys.exit(status)
"""


@pytest.fixture(scope="module")
def loaded() -> set[str]:
    done = subprocess.run([sys.executable, "-c", _PROGRAM, "--quiet"], capture_output=True, text=True, check=False)
    return set(done.stderr.splitlines()[-1].split())


def test_nothing_superfluous(loaded: set[str]) -> None:
    assert loaded & NOT_FOR_THIS == set()


def test_own_modules(loaded: set[str]) -> None:
    own = sorted(name for name in loaded if name.partition(".")[0] == "invivo")
    assert "invivo.pipeline" in own
    assert len(own) <= OWN_MODULES, own


def test_all_modules(loaded: set[str]) -> None:
    assert len(loaded) <= ALL_MODULES


def test_rooms_that_this_run_does_not_need(loaded: set[str]) -> None:
    unneeded = {"invivo.cli.list", "invivo.cli.doctor", "invivo.cli.dump", "invivo.ir.text", "invivo.bpf.text"}
    assert loaded & unneeded == set()
