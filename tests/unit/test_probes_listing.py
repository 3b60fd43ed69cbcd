"""What ``list`` shows, and which files the target of a user-space probe means."""

from __future__ import annotations

import os
import struct
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fixture_elf import executable
from fixture_target import FixtureFacts, FixtureTarget, probe_spec
from invivo.probes.binaries import of_process, parse_ld_cache, resolve
from invivo.probes.event_format import Shape, parse_format
from invivo.probes.listing import list_probes, why_nothing
from invivo.probes.machine import Machine
from invivo.target import NoSuchProbeError


def listed(pattern: str) -> list[str]:
    return [each.name for each in list_probes(pattern, FixtureTarget().facts)]


def parameters(pattern: str) -> list[tuple[str, str]]:
    (found,) = list_probes(pattern, FixtureTarget().facts, verbose=True)
    return list(found.parameters)


@pytest.mark.parametrize(
    ("pattern", "expected"),
    [
        ("tracepoint:sched:sched_w*", ["tracepoint:sched:sched_wakeup"]),
        ("t:*:*_read", ["tracepoint:syscalls:sys_enter_read", "tracepoint:syscalls:sys_exit_read"]),
        ("tracepoint:*exec*", ["tracepoint:sched:sched_process_exec"]),
        ("rawtracepoint:sys_*", ["rawtracepoint:vmlinux:sys_enter", "rawtracepoint:vmlinux:sys_exit"]),
        ("software:*faults", [
            "software:alignment-faults:", "software:emulation-faults:",
            "software:faults:", "software:major-faults:", "software:minor-faults:", "software:page-faults:",
        ]),
        ("uprobe:/bin/demo:work*", ["uprobe:/bin/demo:work_one", "uprobe:/bin/demo:work_two"]),
        ("wakeup", ["tracepoint:sched:sched_wakeup", "rawtracepoint:vmlinux:sched_wakeup"]),
        ("vfs_read", ["kprobe:vfs_read", "fentry:vmlinux:vfs_read"]),
        ("*:vfs_wr*", ["kprobe:vfs_write", "fentry:vmlinux:vfs_write"]),
        ("kretprobe:vfs_wr*", ["kretprobe:vfs_write"]),
        ("fexit:vfs_wr*", ["fexit:vmlinux:vfs_write"]),
        ("kprobe:*:vfs_read", ["kprobe:vfs_read"]),
        ("nothing_like_this", []),
        ("nosuch:*", []),
    ],
)  # fmt: skip
def test_a_pattern_lists_full_names(pattern: str, expected: list[str]) -> None:
    assert listed(pattern) == expected


def test_programs_are_listed_only_if_asked_for() -> None:
    everything = listed("*:*")
    assert "tracepoint:sched:sched_switch" in everything
    assert not [name for name in everything if name.startswith("u")]
    assert "uprobe:/bin/demo:main" in listed("*:/bin/demo:main")
    assert listed("uretprobe:/bin/demo:main") == ["uretprobe:/bin/demo:main"]
    assert everything == listed("")


def test_parameters_have_the_kernels_spelling() -> None:
    assert parameters("tracepoint:sched:sched_process_exec") == [
        ("__data_loc char[]", "filename"),
        ("pid_t", "pid"),
        ("pid_t", "old_pid"),
    ]
    assert parameters("tracepoint:syscalls:sys_enter_openat") == [
        ("int", "__syscall_nr"),
        ("int", "dfd"),
        ("const char *", "filename"),
        ("int", "flags"),
        ("umode_t", "mode"),
    ]
    assert parameters("t:raw_syscalls:sys_enter")[1] == ("unsigned long", "args[6]")
    assert parameters("rawtracepoint:sched_wakeup") == [("struct task_struct *", "p")]
    assert parameters("fexit:vfs_write")[1:] == [
        ("const char *", "buf"),
        ("size_t", "count"),
        ("loff_t *", "pos"),
        ("ssize_t", "retval"),
    ]


def test_a_format_file_is_read_as_the_kernel_writes_it() -> None:
    text = (
        "name: x\nID: 1\nformat:\n"
        "\tfield:int common_pid;\toffset:4;\tsize:4;\tsigned:1;\n\n"
        "\tfield:unsigned char addr[6];\toffset:8;\tsize:6;\tsigned:0;\n"
        "\tfield:__data_loc const char *[] names;\toffset:16;\tsize:4;\tsigned:0;\n"
        "\tfield:struct page *page;\toffset:24;\tsize:8;\tsigned:0;\n"
        "\tfield:broken\n"
        '\nprint fmt: "field:%d;"\n'
    )
    fields = parse_format(text)
    assert [(field.name, field.c_type, field.shape) for field in fields] == [
        ("addr", "unsigned char", Shape.ARRAY),
        ("names", "const char *", Shape.DATA_LOC),
        ("page", "struct page *", Shape.VALUE),
    ]


@given(st.text(max_size=200))
def test_no_format_file_is_too_strange(text: str) -> None:
    for field in parse_format("\tfield:" + text):
        assert field.name


def test_a_path_means_itself(tmp_path: Path) -> None:
    program = tmp_path / "program"
    program.write_bytes(executable([("main", 0, 16)]))
    assert resolve(str(program), None) == [str(program)]
    assert resolve(str(tmp_path / "nothing"), None) == []
    assert resolve(str(tmp_path), None) == []
    assert resolve(str(tmp_path / "prog*"), None) == [str(program)]


def test_a_name_is_looked_for_in_the_search_path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    program = tmp_path / "invivo-demo"
    program.write_bytes(b"")
    monkeypatch.setenv("PATH", str(tmp_path))
    assert resolve("invivo-demo", None) == []
    program.chmod(0o755)
    assert resolve("invivo-demo", None) == [str(program)]


def test_a_relative_path_is_made_absolute(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "busy").write_bytes(b"")
    monkeypatch.chdir(tmp_path)
    assert resolve("./busy", None) == [str(tmp_path / "busy")]


def ld_cache(*entries: tuple[int, str, str]) -> bytes:
    """Return a cache as ldconfig writes it; entries are flags, soname, path."""
    header, size = 48, 24
    strings = b""
    table = b""
    start = header + size * len(entries)
    for flags, soname, path in entries:
        name_at = start + len(strings)
        strings += soname.encode() + b"\0"
        path_at = start + len(strings)
        strings += path.encode() + b"\0"
        table += struct.pack("<iIIIQ", flags, name_at, path_at, 0, 0)
    return struct.pack("<20sII20x", b"glibc-ld.so.cache1.1", len(entries), len(strings)) + table + strings


def test_libraries_are_found_in_the_loaders_cache() -> None:
    data = ld_cache((0x0303, "libm.so.6", "/lib64/libm.so.6"), (0x0003, "libm.so.6", "/lib32/libm.so.6"))
    assert parse_ld_cache(data) == (("libm.so.6", "/lib64/libm.so.6"),)
    assert parse_ld_cache(b"x" * 16 + data) == (("libm.so.6", "/lib64/libm.so.6"),)


@given(st.binary(max_size=80))
def test_a_damaged_cache_has_no_libraries(data: bytes) -> None:
    assert parse_ld_cache(data) == ()
    parse_ld_cache(ld_cache((0x0303, "a", "b"))[:48] + data)


def test_the_program_of_a_process_is_its_executable() -> None:
    assert Path(of_process(os.getpid())).samefile(sys.executable)


class _TwoHomes(FixtureFacts):
    """A kernel with two modules that have a function of the same name."""

    def modules_with(self, function: str) -> list[str]:
        return ["first", "second"] if function == "shared" else super().modules_with(function)


@pytest.mark.parametrize("provider", ["fentry", "fexit", "kprobe", "kretprobe"])
def test_a_name_in_two_modules_asks_for_the_module(provider: str) -> None:
    with pytest.raises(NoSuchProbeError) as caught:
        Machine(facts=_TwoHomes()).expand(probe_spec(f"{provider}:shared"))
    assert caught.value.message == (
        "ambiguous attach point, please specify module containing the function 'shared'"
    )  # fmt: skip
    assert caught.value.hint == f"{provider}:first:shared or {provider}:second:shared"


@pytest.mark.parametrize(
    ("pattern", "message", "hint"),
    [
        ("kprob:vfs_read", "Invalid provider: 'kprob'", "did you mean kprobe?"),
        (
            "t:shced:*",
            "tracepoint:shced:* cannot be probed on this kernel: no such tracepoint category 'shced'",
            "did you mean sched?",
        ),
        ("t:sched:nope*", "tracepoint:sched:nope* cannot be probed on this kernel: no tracepoint matches", None),
        ("hardware:L1-dcach-loads", "L1-dcach-loads is not a hardware probe", "did you mean L1-dcache-loads"),
        ("uprobe:/nope:f", "uprobe target file '/nope' does not exist or is not executable", None),
        ("usdt:/bin/demo:demmo:*", "usdt:/bin/demo:demmo:* cannot be probed: /bin/demo has no usdt probes of 'demmo'",
         "did you mean demo?"),
        ("usdt:/bin/demo:x:mark", "usdt:/bin/demo:x:mark cannot be probed: /bin/demo has no usdt probes of 'x'",
         "it has probes of demo"),
    ],
)  # fmt: skip
def test_why_nothing_is_listed(pattern: str, message: str, hint: str | None) -> None:
    problem = why_nothing(pattern, FixtureTarget().facts)
    assert problem is not None
    assert problem.message == message
    assert (problem.hint or "").startswith(hint or "") and bool(problem.hint) == bool(hint)


@pytest.mark.parametrize("pattern", ["nothing_here", "*:nothing_here", "profile:hz:99", "tracepoint:sched"])
def test_a_pattern_of_which_there_is_nothing_more_to_say(pattern: str) -> None:
    assert why_nothing(pattern, FixtureTarget().facts) is None
