"""One program at the entries and the returns of the same functions, where the kernel has links for that."""

from __future__ import annotations

import ctypes
import os
from contextlib import suppress
from pathlib import Path

import pytest

from invivo.events import Value
from invivo.runtime.session import Session
from invivo.target import ProgramType
from running import session

# A loop and a walk through a map, so that both bodies have functions of their own behind them.
_ENTRY = "{ @entered[probe] = count(); @now[tid] += 1; for ($i : 0..2) { @turns[func] += $i + 1; } }"
_RETURN = """/@now[tid]/ {
    @left[func, probe, (int32)retval] = count();
    for ($kv : @now) { @walked[func] += $kv.1; }
    @now[tid] -= 1;
}"""


def contents(opened: Session, name: str) -> dict[Value, Value]:
    return opened.maps[name].to_dict()


def kinds(opened: Session) -> list[ProgramType]:
    return [program.plan.context.program for program in opened.image.programs if program.order >= 0]


@pytest.mark.requires("uprobe_session")
@pytest.mark.parametrize("is_return_first", [False, True])
def test_functions_of_a_program(is_return_first: bool) -> None:
    path = "/lib/x86_64-linux-gnu/libc.so.6"
    halves = [
        f"uprobe:{path}:labs, uprobe:{path}:abs {_ENTRY}",
        f"uretprobe:{path}:labs, uretprobe:{path}:abs {_RETURN}",
    ]
    if is_return_first:
        halves.reverse()
    libc = ctypes.CDLL(None)
    with session("\n".join(halves), pid=os.getpid()) as opened:
        libc.labs(-1)
        libc.labs(-2)
        libc.abs(-3)
    assert kinds(opened) == [ProgramType.UPROBE_SESSION]
    assert contents(opened, "@entered") == {f"uprobe:{path}:labs": 2, f"uprobe:{path}:abs": 1}
    assert contents(opened, "@left") == {
        ("labs", f"uretprobe:{path}:labs", 1): 1,
        ("labs", f"uretprobe:{path}:labs", 2): 1,
        ("abs", f"uretprobe:{path}:abs", 3): 1,
    }
    assert contents(opened, "@turns") == {"labs": 6, "abs": 3}
    assert contents(opened, "@walked") == {"labs": 2, "abs": 1}


@pytest.mark.requires("uprobe_session")
def test_what_an_entry_returns_does_not_keep_the_return_away() -> None:
    """The kernel leaves out the return if a session's program returns 1 at the entry."""
    program = """
        uprobe:libc:labs, uprobe:libc:abs { @entered = count(); return 1; }
        uretprobe:libc:labs, uretprobe:libc:abs { @left = count(); }
    """
    libc = ctypes.CDLL(None)
    with session(program, pid=os.getpid()) as opened:
        libc.labs(-1)
    assert contents(opened, "@entered") == contents(opened, "@left") == {None: 1}


@pytest.mark.requires("kprobe_session", "function_tracer")
def test_functions_of_the_kernel(tmp_path: Path) -> None:
    with session(f"kprobe:vfs_* {_ENTRY} kretprobe:vfs_* {_RETURN}", pid=os.getpid()) as opened:
        for name in ("a", "b", "a/c"):
            (tmp_path / name).mkdir()
        for name in ("a", "a/c", "a", "b"):
            with suppress(OSError):
                (tmp_path / name).rmdir()
    assert kinds(opened) == [ProgramType.KPROBE_SESSION]
    (plan,) = (program.plan for program in opened.image.programs if program.order >= 0)
    assert len(plan.points) >= 2 * 16
    entered, left = contents(opened, "@entered"), contents(opened, "@left")
    assert (entered["kprobe:vfs_mkdir"], entered["kprobe:vfs_rmdir"]) == (3, 4)
    assert {key: count for key, count in left.items() if isinstance(key, tuple) and str(key[0]).endswith("dir")} == {
        ("vfs_mkdir", "kretprobe:vfs_mkdir", 0): 3,
        ("vfs_rmdir", "kretprobe:vfs_rmdir", 0): 3,
        ("vfs_rmdir", "kretprobe:vfs_rmdir", -39): 1,  # ENOTEMPTY
    }
    turns = contents(opened, "@turns")
    assert (turns["vfs_mkdir"], turns["vfs_rmdir"]) == (9, 12)
