"""Where uprobes can be: C++ functions, offsets, addresses, stripped programs, other roots; in real programs."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from invivo.diagnostics import CompileError, Diagnostic
from invivo.events import MapSnapshot, Row
from invivo.formats.elf import Elf
from invivo.formats.x86_length import instruction_length
from invivo.probes.facts import LiveFacts
from invivo.probes.listing import list_probes
from running import run, session
from user_programs import build_id_path, build_program, strip_into


@pytest.fixture(scope="module")
def shapes(tmp_path_factory: pytest.TempPathFactory) -> str:
    return str(build_program("shapes.cc", tmp_path_factory.mktemp("shapes"), "-O0"))


def refusal(program: str, *, unsafe: bool = False, pid: int | None = None) -> tuple[str, str | None]:
    with pytest.raises(CompileError) as refused:
        run(program, command=["true"] if pid is None else None, pid=pid, unsafe=unsafe)
    diagnostic = refused.value.diagnostics[0]
    return diagnostic.message, diagnostic.hint


def test_all_overloads_of_a_cpp_function(shapes: str) -> None:
    result = run(f'uprobe:{shapes}:cpp:"ns::f" {{ print(probe); print(func); }}', command=[shapes])
    long = "ns::f(double, int, float, char const*, ns::C&, bool, ns::color, short, unsigned char, long, int)"
    assert sorted(result.text.splitlines()) == sorted(
        [f'uprobe:{shapes}:cpp:"ns::f(int)"', "ns::f(int)", f'uprobe:{shapes}:cpp:"{long}"', long]
    )


@pytest.mark.parametrize(
    ("signature", "functions"),
    [
        ("ns::f(int)", ["ns::f(int)"]),
        ("*twice*", ["int ns::twice<int>(int)", "double ns::twice<double>(double)"]),
        ("ns::twice<int>", ["int ns::twice<int>(int)"]),
        ("ns::C::C", ["ns::C::C(int)"]),
        ("ns::operator+", ["ns::operator+(ns::point, ns::point)"]),
        ("ns::C::method(int) const", ["ns::C::method(int) const"]),
        ("ns::C::*", ["ns::C::C(int)", "ns::C::method(int) const"]),
    ],
)
def test_a_cpp_function(shapes: str, signature: str, functions: list[str]) -> None:
    result = run(f'uprobe:{shapes}:cpp:"{signature}" {{ print(usym(reg("ip"))); }}', command=[shapes])
    assert result.text.splitlines() == functions


def test_names_as_the_linker_has_them(shapes: str) -> None:
    result = run(
        "config = { cpp_demangle = false }"
        f' uprobe:{shapes}:cpp:"ns::f(int)" {{ print(usym(reg("ip"))); print(func); print(ustack(1)); }}'
        f' uretprobe:{shapes}:cpp:"ns::f(int)" {{ print(func); }}',
        command=[shapes],
    )
    assert result.text.split() == ["_ZN2ns1fEi", "_ZN2ns1fEi", "_ZN2ns1fEi+0", "_ZN2ns1fEi"]


def test_a_return_of_a_cpp_function(shapes: str) -> None:
    result = run(f'uretprobe:{shapes}:cpp:"ns::f(int)" {{ print((func, retval)); }}', command=[shapes])
    assert result.text == "(ns::f(int), 2)\n"


def test_a_cpp_function_that_is_not_there(shapes: str) -> None:
    assert refusal(f'uprobe:{shapes}:cpp:"ns::g" {{ }}')[0] == f"No matches for uprobe {shapes}:ns::g."


@pytest.mark.parametrize(
    ("place", "hint"),
    [
        ('cpp:"ns::f(long)"', "there is ns::f(int) and ns::f(double, int, float, char const*, "),
        ('cpp:"f(long)"', "there is ns::f(int) and "),
        ('cpp:"ns::C::methd"', "did you mean ns::C::method?"),
        ('"ns::f(int)"', 'functions of C++ are written uprobe:{program}:cpp:"ns::f(int)"'),
        ("cpp:ns::f", 'uprobe:{program}:cpp:"ns::f"'),
    ],
)
def test_hints_for_cpp_functions(shapes: str, place: str, hint: str) -> None:
    assert str(refusal(f"uprobe:{shapes}:{place} {{ }}")[1]).startswith(hint.format(program=shapes))


@pytest.mark.parametrize(
    ("place", "message"),
    [
        ("main+2", "Could not add uprobe into middle of instruction: {program}:main+2"),
        ("main+50000", "Offset outside the function bounds ('main' size is {size})"),
        ("nope", "Could not resolve symbol: {program}:nope"),
        ("*nope*", "No matches for uprobe {program}:*nope*."),
    ],
)
def test_places_that_are_refused(shapes: str, place: str, message: str) -> None:
    main = Elf(Path(shapes).read_bytes(), shapes).symbols().find("main")
    assert main is not None
    assert refusal(f"uprobe:{shapes}:{place} {{ }}")[0] == message.format(program=shapes, size=main.size)


def test_an_address_must_be_the_start_of_an_instruction(shapes: str) -> None:
    main = Elf(Path(shapes).read_bytes(), shapes).symbols().find("main")
    assert main is not None
    result = run(f"uprobe:{shapes}:0x{main.address:x} {{ print(func); }}", command=[shapes])
    assert result.text == "main\n"
    message, hint = refusal(f"uprobe:{shapes}:0x{main.address + 2:x} {{ }}")
    assert message == f"Could not add uprobe into middle of instruction: {shapes}:main+2"
    assert hint is not None
    assert "--unsafe" in hint
    assert refusal(f"uretprobe:{shapes}:0x{main.address + 1:x} {{ }}")[0] == (
        "uretprobes cannot be attached at function offset. (address resolved to: main+1)"
    )


@pytest.mark.parametrize("flags", [(), ("-static",), ("-static-pie",), ("-no-pie", "-O2")])
def test_static_and_position_independent_programs(tmp_path: Path, flags: tuple[str, ...]) -> None:
    program = str(build_program("plain.c", tmp_path, *flags))
    result = run(f"uprobe:{program}:hidden {{ print((func, arg1)); }}", command=[program])
    assert result.text == "(hidden, 3)\n(hidden, 3)\n"


def test_a_stripped_program_by_its_debug_link(tmp_path: Path) -> None:
    program = build_program("plain.c", tmp_path)
    strip_into(program, tmp_path / ".debug" / "plain.debug", link=True)
    result = run(f'uprobe:{program}:hidden {{ print(usym(reg("ip"))); }}', command=[str(program)])
    assert result.text == "hidden\nhidden\n"
    (tmp_path / ".debug" / "plain.debug").write_bytes(b"\x7fELF, no more")
    assert refusal(f"uprobe:{program}:hidden {{ }}")[0] == f"Could not resolve symbol: {program}:hidden"


def test_a_stripped_program_by_its_build_id(tmp_path: Path) -> None:
    program = build_program("plain.c", tmp_path)
    strip_into(program, build_id_path(program, tmp_path / "debug"), link=False)
    command = [Path(sys.executable).with_name("invivo-bpftrace"), "--debuginfo", tmp_path / "debug", "-c", program]
    done = subprocess.run(
        [*map(str, command), "-e", f"uprobe:{program}:hidden /pid == cpid/ {{ print(arg1); }}"],
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.split() == ["3", "3"]


def test_symbols_packed_into_the_program(tmp_path: Path) -> None:
    program = build_program("plain.c", tmp_path)
    symbols = tmp_path / "symbols"
    subprocess.run(["objcopy", "-S", "--keep-symbol=hidden", str(program), str(symbols)], check=True)
    subprocess.run(["xz", str(symbols)], check=True)
    subprocess.run(["strip", "--strip-all", str(program)], check=True)
    subprocess.run(["objcopy", f"--add-section=.gnu_debugdata={symbols}.xz", str(program)], check=True)
    result = run(f"uprobe:{program}:hidden {{ print(func); }}", command=[str(program)])
    assert result.text == "hidden\nhidden\n"


def test_a_return_in_a_go_program_is_refused(tmp_path: Path) -> None:
    program = build_program("plain.c", tmp_path)
    (tmp_path / "info").write_bytes(b"\xff Go buildinf:")
    subprocess.run(["objcopy", f"--add-section=.go.buildinfo={tmp_path / 'info'}", str(program)], check=True)
    for unsafe in (False, True):
        message, hint = refusal(f"uretprobe:{program}:hidden {{ }}", unsafe=unsafe)
        assert message.startswith(f"{program} is a Go program")
        assert hint is not None
    result = run(f"uprobe:{program}:hidden {{ print(func); }}", command=[str(program)])
    assert result.text == "hidden\nhidden\n"


# A mount namespace of its own (CLONE_NEWNS), and in it another root; becomes the program when it is told to.
_IN_ANOTHER_ROOT = """
import ctypes, os, sys
assert ctypes.CDLL(None).unshare(0x20000) == 0
os.chroot(sys.argv[1])
os.chdir("/")
print("ready", flush=True)
sys.stdin.readline()
os.execv("/plain", ["/plain"])
"""


def test_a_process_in_another_mount_namespace(tmp_path: Path) -> None:
    build_program("plain.c", tmp_path, "-static")
    command = [sys.executable, "-c", _IN_ANOTHER_ROOT, str(tmp_path)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as child:
        assert child.stdin is not None
        assert child.stdout is not None
        assert child.stdout.readline() == "ready\n"
        with session("uprobe:/plain:hidden { print((probe, func)); }", pid=child.pid) as opened:
            child.stdin.write("\n")
            child.stdin.flush()
            rows = [event.value for event in opened if isinstance(event, Row)]
    assert rows == [(f"uprobe:/proc/{child.pid}/root/plain:hidden", "hidden")] * 2


def test_a_process_in_another_mount_namespace_and_pid_namespace(tmp_path: Path) -> None:
    """It has the number 1 inside; a probe knows it by the one outside."""
    build_program("plain.c", tmp_path, "-static")
    command = ["unshare", "--pid", "--fork", sys.executable, "-c", _IN_ANOTHER_ROOT, str(tmp_path)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as child:
        assert child.stdin is not None
        assert child.stdout is not None
        assert child.stdout.readline() == "ready\n"
        (pid,) = map(int, Path(f"/proc/{child.pid}/task/{child.pid}/children").read_text().split())
        assert Path(f"/proc/{pid}/status").read_text().split("NSpid:")[1].split("\n")[0].split() == [str(pid), "1"]
        with session("uprobe:/plain:hidden { print((func, pid)); }", pid=pid) as opened:
            child.stdin.write("\n")
            child.stdin.flush()
            rows = [event.value for event in opened if isinstance(event, Row)]
    assert rows == [("hidden", pid)] * 2


def test_every_boundary_of_a_library_is_that_of_objdump() -> None:
    path = os.path.realpath("/lib/x86_64-linux-gnu/libc.so.6")
    elf = Elf(Path(path).read_bytes(), path)
    section = elf.section(".text")
    assert section is not None
    code = bytes(elf.content(section))
    listing = subprocess.run(["objdump", "-dw", "-j", ".text", path], check=True, capture_output=True, text=True).stdout
    rows = re.findall(r"^ +([0-9a-f]+):\t((?:[0-9a-f]{2} )+)", listing, re.MULTILINE)
    assert len(rows) > 100_000
    wrong = [
        (address, data)
        for address, data in rows
        if instruction_length(code, int(address, 16) - section.address) != len(data.split())
    ]
    assert wrong == []


def test_a_name_that_several_directories_of_the_path_have(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, shapes: str
) -> None:
    """As a shell, take the first; and say so."""
    for folder in ("one", "two"):
        (tmp_path / folder).mkdir()
        build_program("plain.c", tmp_path / folder)
    monkeypatch.setenv("PATH", f"{tmp_path / 'one'}:{tmp_path / 'two'}:{os.environ['PATH']}")
    warnings: list[Diagnostic] = []
    with session("uprobe:plain:hidden { print(probe); }", command=["plain"], warnings=warnings) as opened:
        rows = [event.value for event in opened if isinstance(event, Row)]
    program = tmp_path / "one" / "plain"
    assert rows == [f"uprobe:{program}:hidden"] * 2
    assert [warning.message for warning in warnings] == [
        f"attaching to uprobe target file '{program}' but matched 2 binaries"
    ]


def test_missing_probes(shapes: str) -> None:
    clause = f"uprobe:{shapes}:*nope*, uprobe:/nope:f, uprobe:{shapes}:nope, uprobe:{shapes}:main {{ print(func); }}"
    warnings: list[Diagnostic] = []
    with session(f"config = {{ missing_probes = warn }} {clause}", command=[shapes], warnings=warnings) as opened:
        assert [event.value for event in opened if isinstance(event, Row)] == ["main"]
    assert [warning.message for warning in warnings] == [
        f"No matches for uprobe {shapes}:*nope*. Skipping.",
        "uprobe target file '/nope' does not exist or is not executable",
        f"Could not resolve symbol: {shapes}:nope",
    ]
    assert run(f"config = {{ missing_probes = ignore }} {clause}", command=[shapes]).text == "main\n"


@pytest.mark.parametrize(
    "target", ["libc", "libc.so.6", "/usr/lib/x86_64-linux-gnu/libc.so.6", "/lib/x86_64-linux-gnu/libc.so*"]
)
def test_names_of_the_c_library(target: str, shapes: str) -> None:
    result = run(f"uprobe:{target}:usleep {{ @[arg0] = count(); }}", command=[shapes])
    assert result.text.strip() == "@[20000]: 1"


def test_functions_of_real_programs() -> None:
    command = ["/bin/bash", "-c", "f() { :; }; f; f"]
    result = run("uprobe:/bin/bash:execute_command_i* { @[func] = count(); }", command=command)
    assert "@[execute_command_internal]: " in result.text
    python = "/usr/bin/python3.11"
    result = run(f"uprobe:{python}:PyObject_Repr {{ @ = count(); }}", command=[python, "-c", "repr(1); repr(2)"])
    assert int(result.text.strip().removeprefix("@: ")) >= 2


def test_all_files_of_a_process(tmp_path: Path) -> None:
    program = build_program("plain.c", tmp_path)
    waits = f"import os, sys; print(1, flush=True); sys.stdin.readline(); os.execv('{program}', ['plain'])"
    with subprocess.Popen(
        [sys.executable, "-c", waits], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as child:
        assert child.stdin is not None
        assert child.stdout is not None
        assert child.stdout.readline() == "1\n"
        with session("uprobe:*:execv* { @[func] = count(); } END { }", pid=child.pid) as opened:
            child.stdin.write("\n")
            child.stdin.flush()
            shown = [dict(event.entries) for event in opened if isinstance(event, MapSnapshot)]
    assert any("execv" in str(key) for entries in shown for key in entries), shown


def test_inside_an_instruction_if_that_is_insisted_on(shapes: str) -> None:
    warnings: list[Diagnostic] = []
    with session(f"uprobe:{shapes}:main+2 {{ }}", command=["true"], unsafe=True, warnings=warnings):
        assert [warning.message for warning in warnings] == [
            f"Unsafe uprobe in the middle of the instruction: {shapes}:main+2"
        ]


@pytest.mark.parametrize("pattern", ["cpp:ns::f", 'cpp:"ns::f"', 'cpp:"ns::f(*"', "*ns::f(*", "_ZN2ns1f*"])
def test_listing_cpp_functions(shapes: str, pattern: str) -> None:
    facts = LiveFacts()
    found = [each.name for each in list_probes(f"uprobe:{shapes}:{pattern}", facts)]
    assert found == [
        f'uprobe:{shapes}:cpp:"ns::f(double, int, float, char const*, ns::C&, bool, ns::color, short, unsigned char,'
        ' long, int)"',
        f'uprobe:{shapes}:cpp:"ns::f(int)"',
    ]


def test_listing_parameters(shapes: str) -> None:
    (found,) = list_probes(f"uprobe:{shapes}:cpp:ns::make", LiveFacts(), verbose=True)
    assert found.parameters == (
        ("int", "number"),
        ("struct point", "p"),
        ("struct big", "b"),
        ("struct mixed", "m"),
        ("int", "last"),
    )
