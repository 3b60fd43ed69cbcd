"""Kernel functions that are not the kernel's own: of modules, which a test loads in a guest, and of BPF programs.

The module is the watchdog that is only software: what a test writes into its device calls the module's functions.
"""

from __future__ import annotations

import ctypes
import lzma
import os
import struct
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from fixture_btf import BtfBuilder
from fixture_kernel import EXIT, insn
from invivo.diagnostics import CompileError, Diagnostic
from invivo.errors import SyscallError
from invivo.events import Value
from invivo.image import FunctionInfo
from invivo.kernel import links
from invivo.kernel.kallsyms import Kallsyms
from invivo.kernel.programs import Load, Program, load_btf, load_code
from invivo.probes.facts import LiveFacts
from invivo.probes.listing import list_probes
from invivo.probes.provider import Listed
from invivo.runtime.session import Session
from invivo.target import ProgramType
from running import session

_SYS_INIT_MODULE = 175
_DEVICE = "/dev/watchdog"
_IDENTITY = b"Software Watchdog"


@pytest.fixture(scope="module")
def watchdog() -> Iterator[int]:
    """Load the modules watchdog and softdog and open the device."""
    folder = os.environ.get("INVIVO_MODULES")
    if folder is None:
        pytest.skip("requires modules that a test may load: only a guest's kernel has them")
    for name in ("watchdog", "softdog"):
        (path,) = Path(folder).rglob(f"{name}.ko*")
        code = path.read_bytes()
        code = lzma.decompress(code) if path.suffix == ".xz" else code
        libc = ctypes.CDLL(None, use_errno=True)
        loaded = libc.syscall(_SYS_INIT_MODULE, code, ctypes.c_ulong(len(code)), b"")
        assert loaded == 0, os.strerror(ctypes.get_errno())
    descriptor = os.open(_DEVICE, os.O_WRONLY)
    try:
        yield descriptor
    finally:
        os.write(descriptor, b"V")  # or the machine is reset in a minute
        os.close(descriptor)


def pinged(program: str, watchdog: int) -> Session:
    """Run a program on this process while it writes to the watchdog three times."""
    with session(program, pid=os.getpid()) as opened:
        for _ in range(3):
            os.write(watchdog, b"x")
    return opened


def contents(opened: Session, name: str = "@") -> dict[Value, Value]:
    return opened.maps[name].to_dict()


def refusal(program: str) -> Diagnostic:
    with pytest.raises(CompileError) as caught, session(program, pid=os.getpid()):
        pass
    (diagnostic,) = caught.value.diagnostics
    return diagnostic


def listed(pattern: str, *, verbose: bool = False) -> list[Listed]:
    facts = LiveFacts()
    try:
        return list(list_probes(pattern, facts, verbose=verbose))
    finally:
        facts.close()


# -- modules -------------------------------------------------------------------------------------


@pytest.mark.requires("fentry")
@pytest.mark.parametrize("name", ["softdog_ping", "softdog:softdog_ping"])
def test_typed_arguments_of_a_module(name: str, watchdog: int) -> None:
    """The device is a struct that only the module's types have."""
    program = f"fentry:{name} {{ @[probe, str(args.w.info.identity), args.w.timeout] = count(); }}"
    probe = "fentry:softdog:softdog_ping"
    assert contents(pinged(program, watchdog)) == {(probe, _IDENTITY.decode(), 60): 3}


@pytest.mark.requires("fentry")
def test_typed_results_of_a_module(watchdog: int) -> None:
    assert contents(pinged("fexit:softdog:softdog_ping { @[retval, args.w.timeout] = count(); }", watchdog)) == {
        (0, 60): 3
    }


@pytest.mark.requires("fentry", "function_tracer")
def test_wildcards_in_a_module(watchdog: int) -> None:
    assert contents(pinged("fentry:softdog:*ping { @[probe] = count(); }", watchdog)) == {
        "fentry:softdog:softdog_ping": 3
    }


@pytest.mark.requires("btf")
@pytest.mark.parametrize("name", ["watchdog_start", "watchdog:watchdog_start", "watchdog:*_start", "*:watchdog_sta*"])
def test_raw_tracepoints_of_a_module(name: str, watchdog: int) -> None:
    program = f"rawtracepoint:{name} {{ @[probe, args.wdd.timeout, args.err] = count(); }}"
    assert contents(pinged(program, watchdog)) == {("rawtracepoint:watchdog:watchdog_start", 60, 0): 3}


def test_tracepoints_of_a_module(watchdog: int) -> None:
    program = "tracepoint:watchdog:watchdog_start { @[args.err] = count(); }"
    assert contents(pinged(program, watchdog)) == {0: 3}


@pytest.mark.requires("kprobe")
@pytest.mark.parametrize("name", ["softdog_ping", "softdog:softdog_ping", "softdog:*_ping", "softdog:*ping*"])
def test_kprobes_in_a_module_have_typed_arguments(name: str, watchdog: int) -> None:
    program = f"kprobe:{name} {{ @[func, args.w.timeout, ((struct watchdog_device *)arg0).timeout] = count(); }}"
    assert contents(pinged(program, watchdog)) == {("softdog_ping", 60, 60): 3}


@pytest.mark.requires("kprobe")
def test_returns_from_functions_of_a_module(watchdog: int) -> None:
    program = "kretprobe:softdog:softdog_ping { @[probe, retval] = count(); }"
    assert contents(pinged(program, watchdog)) == {("kretprobe:softdog:softdog_ping", 0): 3}


@pytest.mark.requires("fentry", "kprobe", "function_tracer")
def test_functions_and_events_of_a_module_are_listed(watchdog: int) -> None:
    (found,) = listed("fexit:softdog:softdog_ping", verbose=True)
    assert found.parameters == (("struct watchdog_device *", "w"), ("int", "retval"))
    assert [each.name for each in listed("kprobe:softdog:*_ping")] == ["kprobe:softdog:softdog_ping"]
    assert "fentry:softdog:softdog_stop" in [each.name for each in listed("fentry:softdog:*")]
    (event,) = listed("rawtracepoint:watchdog:watchdog_stop", verbose=True)
    assert event.parameters == (("struct watchdog_device *", "wdd"), ("int", "err"))


@pytest.mark.requires("fentry", "kprobe")
def test_a_name_in_the_wrong_module(watchdog: int) -> None:
    wrong = refusal("fentry:watchdog:softdog_ping { }")
    assert "no such function in 'watchdog'" in wrong.message
    assert wrong.hint == "did you mean fentry:softdog:softdog_ping?"
    assert "no module 'nowhere' with types is loaded" in refusal("fentry:nowhere:softdog_ping { }").message
    wrong = refusal("kprobe:watchdog:softdog_ping { }")
    assert "no such function in 'watchdog'" in wrong.message
    assert wrong.hint == "did you mean kprobe:softdog:softdog_ping?"
    missing = refusal("kprobe:softdogg:softdog_ping { }")
    assert "no module 'softdogg' is loaded" in missing.message
    assert missing.hint == "did you mean softdog?"
    assert "no tracepoints of a module 'nowhere'" in refusal("rawtracepoint:nowhere:watchdog_ping { }").message


# -- places in functions -------------------------------------------------------------------------


@pytest.mark.requires("kprobe")
def test_a_place_behind_the_beginning(tmp_path: Path) -> None:
    """The instruction behind the call of the tracer, which is behind a landing pad in newer kernels."""
    for offset in (5, 9):
        try:
            with session(f"kprobe:vfs_mkdir+{offset} {{ @[probe] = count(); }}", pid=os.getpid()) as opened:
                (tmp_path / "made").mkdir()
        except SyscallError as error:
            assert error.hint == "that is in the middle of an instruction"
        else:
            assert contents(opened) == {f"kprobe:vfs_mkdir+{offset}": 1}
            return
    pytest.fail("neither is the start of an instruction")


@pytest.mark.requires("kprobe")
def test_a_place_outside_of_the_function() -> None:
    size = Kallsyms().size("vfs_mkdir")
    assert size is not None
    message = refusal(f"kprobe:vfs_mkdir+{size} {{ }}").message
    assert f"Offset outside the function bounds ('vfs_mkdir' size is {size})" in message


@pytest.mark.requires("kprobe")
def test_a_place_inside_of_an_instruction() -> None:
    with pytest.raises(SyscallError) as caught, session("kprobe:vfs_mkdir+2 { }", pid=os.getpid()):
        pass
    assert caught.value.hint == "that is in the middle of an instruction"
    assert "vfs_mkdir+2" in str(caught.value)


@pytest.mark.requires("kprobe")
def test_an_address(tmp_path: Path) -> None:
    address = Kallsyms().address("vfs_mkdir")
    program = f"kprobe:{address:#x} {{ @[probe] = count(); }}"
    assert "Probing by address requires --unsafe" in refusal(program).message
    with session(program, pid=os.getpid(), unsafe=True) as opened:
        (tmp_path / "made").mkdir()
    assert contents(opened) == {f"kprobe:{address:#x}": 1}


@pytest.mark.requires("kprobe", "function_tracer")
def test_what_is_not_traceable_is_warned_of() -> None:
    """The entry of system calls is code that no prober may touch."""
    warnings: list[Diagnostic] = []
    with pytest.raises(SyscallError), session(
        "kprobe:entry_SYSCALL_64 { }", pid=os.getpid(), warnings=warnings
    ):  # fmt: skip
        pass
    assert [each.message for each in warnings] == [
        'entry_SYSCALL_64 is not traceable (either non-existing, inlined, or marked as "notrace"); '
        "attaching to it will likely fail"
    ]


# -- many functions ------------------------------------------------------------------------------


@pytest.mark.requires("kprobe_multi", "function_tracer")
def test_thousands_of_functions_by_one_link(capsys: pytest.CaptureFixture[str]) -> None:
    """In the time that reading the list of them takes, give or take what finding each name among all takes."""
    facts = LiveFacts()
    started = time.perf_counter()
    text = facts.tracefs().functions()
    reading = time.perf_counter() - started
    facts.close()
    # Nothing that runs all the time.
    quiet = ("acpi_", "pci", "ext", "tcp_", "dev")
    names = sorted({line.split()[0] for line in text.splitlines() if line.startswith(quiet)})
    program = load_code("many", struct.pack("<BBhiBBhi", 0xB7, 0, 0, 0, 0x95, 0, 0, 0), ProgramType.KPROBE_MULTI)
    try:
        started = time.perf_counter()
        link = links.kprobe_multi(program, names)
        attaching = time.perf_counter() - started
        started = time.perf_counter()
        link.close()
        detaching = time.perf_counter() - started
    finally:
        program.close()
    told = f"{len(names)} functions: list {reading:.2f} s, attach {attaching:.2f} s, detach {detaching:.2f} s"
    with capsys.disabled():
        sys.stdout.write(f"\n{told}\n")
    assert len(names) > 2000
    assert attaching < 60 * reading, told


# -- BPF programs --------------------------------------------------------------------------------


@contextmanager
def traced_program() -> Iterator[Program]:
    """Load a program with a type for its function ``adds_two``: the sum of the tracepoint's two arguments."""
    types = BtfBuilder()
    number = types.typedef("u64", types.integer("unsigned long long", 8))
    integer = types.integer("int", 4, signed=True)
    entry = types.function("adds_two", types.prototype(integer, [("ctx", types.pointer(number))]))
    btf_fd = load_btf(types.data())
    code = insn(0x79, 0, 1) + insn(0x79, 2, 1, offset=8) + insn(0x0F, 0, 2) + EXIT
    load = Load("adds_two", ProgramType.RAW_TRACEPOINT, code, "GPL", btf_fd, (FunctionInfo(0, entry, "adds_two"),))
    try:
        program = load.run(0)
    finally:
        os.close(btf_fd)
    try:
        yield program
    finally:
        program.close()


@pytest.mark.requires("fentry")
def test_a_bpf_program_is_a_function() -> None:
    with traced_program() as target:
        (number,) = (each.program_id for each in LiveFacts().bpf_functions() if each.name == "adds_two")
        script = f"""
            fentry:bpf:adds_two {{ @entered[probe] = count(); }}
            fexit:bpf:{number}:adds_* {{ @left[retval, *args.ctx] = count(); }}
        """
        with session(script, pid=os.getpid()) as opened:
            assert target.run(struct.pack("<QQ", 40, 2)) == 42
        assert [each.name for each in listed("fexit:bpf:adds_two")] == [f"fexit:bpf:{number}:adds_two"]
    assert contents(opened, "@entered") == {f"fentry:bpf:{number}:adds_two": 1}
    assert contents(opened, "@left") == {(42, 40): 1}


@pytest.mark.requires("fentry")
def test_a_bpf_program_that_is_not_there() -> None:
    with traced_program():
        told = refusal("fentry:bpf:adds_tow { }")
    assert "no such function of a BPF program with types" in told.message
    assert "adds_two" in str(told.hint)
