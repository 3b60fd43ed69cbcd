"""Marked places of programs: one of our own with every form of argument, and those of real ones."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

from invivo.diagnostics import CompileError
from invivo.events import Row
from running import run, session
from workloads import build

PYTHON = "/usr/bin/python3.11"


@pytest.fixture(scope="module")
def marks(tmp_path_factory: pytest.TempPathFactory) -> str:
    return str(build("marks", tmp_path_factory.mktemp("marks")))


def test_registers_in_whole_and_in_part(marks: str) -> None:
    result = run(
        f"usdt:{marks}:registers {{"
        ' printf("%lx %lx %ld %lx %lx ", arg0, arg1, arg2, arg3, arg4); printf("%ld %d\\n", arg5, arg8); }',
        command=[marks],
    )
    value = 0x1234567890ABCDEF
    low = value & 0xFFFFFFFF
    assert result.text == f"{value:x} {low:x} {low - (1 << 32)} cdef ef {0xCD - 256} 77\n"


def test_memory_at_sums_of_registers_and_of_symbols(marks: str) -> None:
    result = run(
        f"usdt:{marks}:memory {{"
        ' printf("%ld %lu %ld %ld ", arg0, arg1, arg2, arg3); printf("%ld %ld\\n", arg4, arg5); }',
        command=[marks],
    )
    assert result.text == f"-12 {(1 << 32) - 12} 13 -14 -2000 1000\n"


def test_constants(marks: str) -> None:
    result = run(f'usdt:{marks}:constants {{ printf("%ld %ld %ld\\n", arg0, arg1, arg2); }}', command=[marks])
    assert result.text == "-5 7 16\n"


def test_a_floating_point_register_is_out_of_reach(marks: str) -> None:
    with pytest.raises(CompileError) as refused:
        run(f"usdt:{marks}:constants {{ print(arg3); }}", command=[marks])
    assert [each.message for each in refused.value.diagnostics] == [
        "arg3 is 8f@%xmm0 here, which no program in the kernel can read"
    ]


def test_an_argument_that_is_not_there(marks: str) -> None:
    with pytest.raises(CompileError) as refused:
        run(f"usdt:{marks}:twice {{ print(arg1); }}", command=[marks])
    assert {each.message for each in refused.value.diagnostics} == {"there is no arg1 here: arguments are arg0 to arg0"}


def test_one_name_at_two_places(marks: str) -> None:
    result = run(f'usdt:{marks}:marks:twice {{ printf("%ld %s\\n", arg0, probe); }}', command=[marks])
    assert result.text == f"21 usdt:{marks}:marks:twice\n-42 usdt:{marks}:marks:twice\n"


def test_a_semaphore_is_up_while_somebody_looks(marks: str) -> None:
    assert subprocess.run([marks], check=False).returncode == 0
    result = run(f'usdt:{marks}:watched {{ printf("%d\\n", arg0); }}', command=[marks])
    assert (result.text, result.status) == ("1\n", 3)
    assert subprocess.run([marks], check=False).returncode == 0


def test_wildcards_share_a_program(marks: str) -> None:
    result = run(f"usdt:{marks}:marks:* {{ @[probe] = count(); }}", command=[marks])
    counts = dict(line[2:].split("]: ") for line in result.text.split("\n") if line)
    assert counts == {
        f"usdt:{marks}:marks:{name}": count
        for name, count in [("registers", "1"), ("memory", "1"), ("constants", "1"), ("twice", "2"), ("watched", "1")]
    }


def test_a_name_that_is_not_there(marks: str) -> None:
    with pytest.raises(CompileError) as refused:
        run(f"usdt:{marks}:twicce {{ }}", command=[marks])
    (diagnostic,) = refused.value.diagnostics
    assert f"{marks} has no usdt probe 'twicce'" in diagnostic.message
    assert diagnostic.hint == "did you mean twice?"


def test_collections_and_imports_of_cpython(tmp_path: Path) -> None:
    if not Path(PYTHON).exists():
        pytest.skip(f"{PYTHON} of Debian is not installed")
    script = tmp_path / "collect.py"
    script.write_text("import gc\ngc.disable()\nfor _ in range(7): gc.collect(1)\nimport wave, colorsys\n")
    result = run(
        f"usdt:{PYTHON}:python:gc__start /arg0 == 1/ {{ @collections = count(); }}"
        f"usdt:{PYTHON}:import__find__load__start {{ @imported[str(arg0)] = count(); }}",
        command=[PYTHON, "-I", "-S", str(script)],
    )
    lines = result.text.splitlines()
    assert "@collections: 7" in lines
    assert {"@imported[wave]: 1", "@imported[colorsys]: 1"} <= set(lines)


def test_exceptions_of_cpp_in_a_running_process(tmp_path: Path) -> None:
    """libstdc++'s own marks: thrown and caught, in a process that runs already, with no file named."""
    source = tmp_path / "throws.cpp"
    source.write_text(
        "#include <unistd.h>\n"
        "int main() { char c; read(0, &c, 1); for (int i = 0; i < 5; i++) try { throw i; } catch (int) {} }\n"
    )
    program = tmp_path / "throws"
    subprocess.run(["g++", "-O1", "-o", program, source], check=True)
    with subprocess.Popen([program], stdin=subprocess.PIPE) as child:
        assert child.stdin is not None
        while not any("libstdc++" in line for line in Path(f"/proc/{child.pid}/maps").read_text().splitlines()):
            os.sched_yield()
        with session(
            "usdt:*:libstdcxx:throw { print(probe); } usdt:catch { @caught = count(); }", pid=child.pid
        ) as opened:
            child.stdin.write(b"x")
            child.stdin.close()
            seen = [str(event.value) for event in opened if isinstance(event, Row)]
        assert opened.maps["@caught"].to_dict() == {None: 5}
    assert [text.rpartition(":")[2] for text in seen] == ["throw"] * 5
