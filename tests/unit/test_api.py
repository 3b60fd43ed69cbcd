"""The public names, and the arguments that `invivo.trace` refuses before it touches anything."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

import invivo
from invivo.api import scope_of
from invivo.target import Scope


def test_every_public_name_loads() -> None:
    for name in invivo.__all__:
        assert getattr(invivo, name) is not None
    assert sorted(dir(invivo)) == sorted(invivo.__all__)


def test_an_unknown_name_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="module 'invivo' has no attribute 'nope'"):
        getattr(invivo, "nope")  # noqa: B009 (the type checkers know that it is not there)


def test_importing_the_package_loads_nothing_of_it() -> None:
    program = "import sys, invivo; print([name for name in sys.modules if name.startswith('invivo.')])"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"


@pytest.mark.parametrize(
    ("command", "pid", "follow", "cgroup", "all_processes", "scope"),
    [
        pytest.param(False, None, False, False, False, Scope.ALL, id="nothing"),
        pytest.param(True, None, False, False, False, Scope.TREE, id="command"),
        pytest.param(False, 1, False, False, False, Scope.PROCESS, id="pid"),
        pytest.param(False, 1, True, False, False, Scope.TREE, id="pid and follow"),
        pytest.param(False, None, False, True, False, Scope.CGROUP, id="cgroup"),
        pytest.param(True, None, False, False, True, Scope.ALL, id="command, unfiltered"),
        pytest.param(False, 1, False, False, True, Scope.ALL, id="pid, unfiltered"),
    ],
)
def test_scope(command: bool, pid: int | None, follow: bool, cgroup: bool, all_processes: bool, scope: Scope) -> None:
    found = scope_of(command=command, pid=pid, follow=follow, cgroup=cgroup, all_processes=all_processes)
    assert found is scope


def test_arguments_that_exclude_each_other() -> None:
    with pytest.raises(ValueError, match="command, pid and cgroup exclude each other"):
        invivo.trace("BEGIN { exit(); }", command=["true"], pid=1)
    with pytest.raises(ValueError, match="follow goes with pid"):
        invivo.trace("BEGIN { exit(); }", follow=True)


def test_a_command_is_a_list_of_words() -> None:
    with pytest.raises(TypeError, match="list of words"):
        invivo.trace("BEGIN { exit(); }", command="ls /")


def test_a_mistake_in_the_program_leaves_no_child() -> None:
    with pytest.raises(invivo.CompileError):
        invivo.trace("BEGIN { nope(); }", command=["true"])
    # Nothing to wait for: the forked command has been reaped.
    with pytest.raises(ChildProcessError):
        os.waitpid(-1, os.WNOHANG)
