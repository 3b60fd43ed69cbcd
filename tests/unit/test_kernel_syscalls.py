"""Errors of system calls: what they say, and how a test makes a call fail."""

from __future__ import annotations

import errno
import struct
from collections.abc import Iterator
from pathlib import Path

import pytest

from invivo.errors import NotSupportedError, PermissionDeniedError, SyscallError
from invivo.kernel import abi, capabilities, cpus, perf, syscalls
from invivo.kernel.verifier_log import failed_instruction, is_too_large


@pytest.fixture
def gate() -> Iterator[list[tuple[str, int]]]:
    """Refuse every call with an errno that the test appends; note the calls."""
    calls: list[tuple[str, int]] = []

    def refuse(name: str, command: int) -> int:
        calls.append((name, command))
        return errno.EMFILE

    syscalls.set_gate(refuse)
    yield calls
    syscalls.set_gate(None)


def test_the_gate_refuses_before_the_kernel_is_asked(gate: list[tuple[str, int]]) -> None:
    with pytest.raises(SyscallError, match=r"^make a map: Too many open files \(errno 24\)$") as error:
        syscalls.bpf(abi.MAP_CREATE, bytearray(4), "make a map")
    assert error.value.hint is not None
    assert "ulimit -n" in error.value.hint
    with pytest.raises(SyscallError, match=r"^open software event 0x0: "):
        perf.open_counter(0, frequency=99, cpu=0)
    assert gate == [("bpf", abi.MAP_CREATE), ("perf_event_open", 0)]


def test_the_nth_call_can_be_refused() -> None:
    seen = []

    def second(name: str, command: int) -> int:
        seen.append(command)
        return errno.EIO if len(seen) == 2 else 0

    syscalls.set_gate(second)
    try:
        # A command that no kernel knows: what gets through is refused with EINVAL.
        results = [syscalls.try_bpf(1000, bytearray(8)) for _ in range(3)]
    finally:
        syscalls.set_gate(None)
    assert results[1] == -errno.EIO
    assert results[0] == results[2] != -errno.EIO


def test_a_refusal_for_lack_of_privilege_is_its_own_error() -> None:
    error = syscalls.bpf_error("load program x", errno.EPERM)
    assert isinstance(error, PermissionDeniedError)
    assert error.hint
    assert isinstance(syscalls.perf_error("open x", errno.EACCES), PermissionDeniedError)


def test_a_refusal_names_what_is_missing_for_this_call(monkeypatch: pytest.MonkeyPatch) -> None:
    """A uprobe by perf needs more than other events of perf."""
    monkeypatch.setattr(capabilities, "effective", lambda: 1 << capabilities.NUMBERS["CAP_PERFMON"])
    with pytest.raises(PermissionDeniedError) as caught:
        raise syscalls.perf_error("open uprobe x", errno.EACCES, ("CAP_PERFMON", "CAP_SYS_ADMIN"))
    assert str(caught.value.hint).startswith("run as root (missing: CAP_SYS_ADMIN)")


def test_a_kernel_without_the_call_does_not_support_it() -> None:
    error = syscalls.bpf_error("load program x", errno.ENOSYS)
    assert isinstance(error, NotSupportedError)
    assert error.hint == "the kernel needs CONFIG_BPF_SYSCALL=y"
    assert isinstance(syscalls.perf_error("open x", errno.ENOSYS), NotSupportedError)


def test_an_unknown_filesystem_cannot_be_mounted() -> None:
    with pytest.raises(SyscallError) as error:
        syscalls.mount_detached("no-such-filesystem")
    assert error.value.what == "mount no-such-filesystem privately"


def test_a_hint_names_the_missing_capabilities(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(capabilities, "effective", lambda: 0)
    hint = syscalls.privilege_hint(("CAP_BPF", "CAP_PERFMON"), "or ask")
    assert hint == "run as root (missing: CAP_BPF, CAP_PERFMON), or ask"


def test_an_address_is_that_of_the_bytes() -> None:
    import ctypes

    for buffer in (b"some bytes", bytearray(b"some bytes")):
        assert ctypes.string_at(syscalls.address(buffer), 10) == b"some bytes"
    assert syscalls.address(b"") == 0


@pytest.mark.parametrize(
    ("mask", "expected"),
    [
        pytest.param(0, ["CAP_BPF", "CAP_PERFMON", "CAP_SYS_PTRACE"], id="none"),
        pytest.param(1 << 39, ["CAP_PERFMON", "CAP_SYS_PTRACE"], id="CAP_BPF"),
        pytest.param(1 << 21, ["CAP_SYS_PTRACE"], id="CAP_SYS_ADMIN includes two"),
        pytest.param((1 << 41) - 1, [], id="all"),
    ],
)
def test_missing_capabilities(mask: int, expected: list[str]) -> None:
    assert capabilities.missing(("CAP_BPF", "CAP_PERFMON", "CAP_SYS_PTRACE"), mask) == expected


def test_capabilities_in_a_user_namespace_do_not_count(tmp_path: Path) -> None:
    status, uid_map = tmp_path / "status", tmp_path / "uid_map"
    status.write_text("Name:\tx\nCapInh:\t0000000000000000\nCapEff:\t000001ffffffffff\n")
    uid_map.write_text("         0          0 4294967295\n")
    assert capabilities.effective(str(status), str(uid_map)) == (1 << 41) - 1
    uid_map.write_text("         0       1000          1\n")
    assert capabilities.effective(str(status), str(uid_map)) == 0


@pytest.mark.parametrize(
    ("text", "expected"),
    [("0\n", [0]), ("0-3\n", [0, 1, 2, 3]), ("0,2-3,7\n", [0, 2, 3, 7]), ("\n", [])],
)
def test_cpu_lists(text: str, expected: list[int]) -> None:
    assert cpus.parse_list(text) == expected


def test_online_cpus_are_possible() -> None:
    assert cpus.online()
    assert max(cpus.online()) < cpus.possible()


LOG = """\
func#0 @0
0: R1=ctx() R10=fp0
0: (b7) r0 = 0                        ; R0_w=0
1: (79) r0 = *(u64 *)(r10 +8)
invalid read from stack R10 off=8 size=8
processed 2 insns (limit 1000000) max_states_per_insn 0 total_states 0 peak_states 0 mark_read 0
"""


@pytest.mark.parametrize(
    ("log", "expected"),
    [
        pytest.param(LOG, 1, id="walked"),
        pytest.param("unreachable insn 12\nprocessed 0 insns\n", 12, id="unreachable"),
        pytest.param("jump out of range from insn 3 to 99\n", 3, id="jump"),
        pytest.param("last insn is not an exit or jmp\n", -1, id="not said"),
        pytest.param("", -1, id="empty"),
        pytest.param("0: (b7) r0 = 0\nfrom 0 to 7: R0=0\n7: (95) exit\nR0 !read_ok\n", 7, id="a second path"),
    ],
)
def test_where_the_verifier_stopped(log: str, expected: int) -> None:
    assert failed_instruction(log) == expected


@pytest.mark.parametrize(
    ("code", "log", "expected"),
    [
        (errno.E2BIG, "", True),
        (errno.E2BIG, "BPF program is too large. Processed 1000001 insn\n", True),
        (errno.EINVAL, "The sequence of 8193 jumps is too complex.\n", True),
        (errno.E2BIG, "the call stack of 9 frames is too deep !\n", False),
        (errno.EACCES, LOG, False),
    ],
)
def test_programs_that_are_too_large(code: int, log: str, expected: bool) -> None:
    assert is_too_large(code, log) is expected


def test_the_layout_of_events_is_the_kernels(monkeypatch: pytest.MonkeyPatch) -> None:
    seen = []

    def keep(attributes: bytearray, pid: int, cpu: int, what: str, needs: tuple[str, ...]) -> int:
        seen.append((bytes(attributes), pid, cpu))
        return 0

    monkeypatch.setattr(syscalls, "perf_event_open", keep)
    perf.open_counter(3, frequency=99, cpu=1)
    perf.open_counter(3, period=1000, pid=77, cpu=-1)
    (first, *first_place), (second, *second_place) = seen
    kind, size, config, frequency, _, _, flags = struct.unpack_from("<IIQQQQQ", first)
    assert (kind, size, config, frequency) == (1, len(first), 3, 99)
    assert flags == 1 << 10 | 1
    assert struct.unpack_from("<16xQ16xQ", second) == (1000, 1)
    assert (first_place, second_place) == ([-1, 1], [77, -1])
