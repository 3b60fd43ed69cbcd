"""Programs as distributions ship them: written in several languages, stripped, with probes of their own.

What is not installed is fetched from the machine's Debian package sources, and only unpacked.
"""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pytest

from guest.packages import fetch_package, fetch_with_dependencies
from invivo.diagnostics import CompileError
from invivo.formats.elf import Elf
from invivo.probes.facts import LiveFacts
from invivo.probes.listing import list_probes
from running import run
from shipped_programs import fetched
from user_programs import build_program

_POSTGRES = "usr/lib/postgresql/15/bin"
_NOBODY = 65534


def test_bash() -> None:
    """A stripped program that exports its functions."""
    program = """
        uprobe:/bin/bash:echo_builtin { @[func] = count(); }
        uretprobe:/bin/bash:type_builtin { @left[retval] = count(); }
    """
    script = "{ echo; echo; type cd nothing; } >/dev/null 2>&1"
    result = run(program, command=["/bin/bash", "-c", script])
    assert {"@[echo_builtin]: 2", "@left[1]: 1"} <= set(result.text.splitlines())


def test_cpp() -> None:
    """apt: functions of its library by their signatures, in a process that apt starts."""
    if shutil.which("apt-config") is None:
        pytest.skip("apt is not installed")
    program = 'uprobe:libapt-pkg.so.6.0:cpp:"pkgInit*" { @[func] = count(); }'
    result = run(program, command=["sh", "-c", "apt-config dump APT::Architecture >/dev/null"])
    assert "@[pkgInitConfig(Configuration&)]: 1" in result.text.splitlines()


def test_rust() -> None:
    """ripgrep has no symbols at all: its first instruction by its address, and what it calls of the C library."""
    path = fetched(fetch_package, "ripgrep") / "usr/bin/rg"
    entry = Elf(path.read_bytes(), str(path)).entry
    with pytest.raises(CompileError) as refused:
        run(f"uprobe:{path}:{entry:#x} {{ }}", command=[str(path), "--version"])
    assert "(binary appears stripped)" in refused.value.diagnostics[0].message
    program = f"uprobe:{path}:{entry:#x} {{ @[comm] = count(); }} uprobe:libc:getenv {{ @asked[ustack(1)] = count(); }}"
    result = run(program, command=[str(path), "--version"], unsafe=True)
    assert "@[rg]: 1" in result.text.splitlines()


def test_go() -> None:
    """fzf: the functions that C sees; a return is refused, since it would crash."""
    path = fetched(fetch_package, "fzf") / "usr/bin/fzf"
    result = run(f"uprobe:{path}:x_cgo_* {{ @[func] = count(); }}", command=[str(path), "--version"])
    assert "@[x_cgo_init]: 1" in result.text.splitlines()
    with pytest.raises(CompileError) as refused:
        run(f"uretprobe:{path}:x_cgo_init {{ }}", command=[str(path), "--version"])
    assert refused.value.diagnostics[0].message.startswith(f"{path} is a Go program")


def test_postgresql(tmp_path: Path) -> None:
    """Its own probes (Debian builds it with them): each query of a server of one process, with its text."""
    root = Path("/")
    if not (root / _POSTGRES / "postgres").exists():
        root = fetched(fetch_with_dependencies, "postgresql-15")
    programs = root / _POSTGRES
    facts = LiveFacts()
    found = {each.name.rpartition(":")[2] for each in list_probes(f"usdt:{programs}/postgres:postgresql:*", facts)}
    assert {"query__start", "query__done", "transaction__commit", "lwlock__acquire"} <= found
    # PostgreSQL is not for root, and nobody else may go into root's folders: they are mounted where nobody can.
    shown = Path("/mnt") if root != Path("/") else root
    os.chown(tmp_path, _NOBODY, _NOBODY)
    (tmp_path / "serve").write_text(
        f"cd /media\nexport LC_ALL=C LD_LIBRARY_PATH={shown}/usr/lib/x86_64-linux-gnu\n"
        f"{shown / _POSTGRES}/initdb -D /media/data --no-sync -L {shown}/usr/share/postgresql/15 || exit 1\n"
        "printf 'select 6 * 7;\\nselect pg_sleep(0);\\n' |\n"
        f"    {shown / _POSTGRES}/postgres --single -D /media/data postgres\n"
    )
    mounts = f"mount --bind {tmp_path} /media" + (f" && mount --bind {root} {shown}" if shown != root else "")
    as_nobody = f"setpriv --reuid={_NOBODY} --regid={_NOBODY} --clear-groups sh /media/serve"
    command = ["unshare", "--mount", "sh", "-c", f"{mounts} && exec {as_nobody} >{tmp_path}/said 2>&1"]
    program = f"""
        usdt:{programs}/postgres:postgresql:query__start {{ @asked[str(arg0)] = count(); }}
        usdt:{programs}/postgres:postgresql:query__done {{ @done = count(); }}
        usdt:{programs}/postgres:postgresql:transaction__commit {{ @committed = count(); }}
    """
    lines = run(program, command=command).text.splitlines()
    said = (tmp_path / "said").read_text()
    assert any("select 6 * 7" in line for line in lines if line.startswith("@asked[")), (lines, said)
    assert any(line.startswith("@done: ") for line in lines), (lines, said)
    assert any(line.startswith("@committed: ") for line in lines)


def test_debug_information_that_several_files_share(tmp_path: Path) -> None:
    """What dwz has moved out of two programs is in a third file, without which nothing is told."""
    tool = fetched(fetch_with_dependencies, "dwz")
    program = build_program("shapes.cc", tmp_path)
    shutil.copy(program, tmp_path / "other")
    environment = os.environ | {"LD_LIBRARY_PATH": f"{tool}/usr/lib/x86_64-linux-gnu"}
    words = [str(tool / "usr/bin/dwz"), "-m", "common", program.name, "other"]
    subprocess.run(words, env=environment, cwd=tmp_path, check=True)
    script = f'uprobe:{program}:cpp:"ns::f(double*" {{ print((args.number, str(args.text), args.c.at.y)); }}'
    assert run(script, command=[str(program)]).text == "(7, text, 2)\n"
    (tmp_path / "common").unlink()
    with pytest.raises(CompileError) as refused:
        run(script, command=[str(program)])
    assert refused.value.diagnostics[0].message.startswith("no debug information tells the arguments of")
