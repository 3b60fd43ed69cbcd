"""Tracing files and the kernel's symbols, from files that the tests write."""

from __future__ import annotations

from pathlib import Path

import pytest

from invivo.errors import NotSupportedError, PermissionDeniedError
from invivo.kernel.kallsyms import Kallsyms, parse_name
from invivo.kernel.tracefs import Tracefs

SYMBOLS = """\
ffffffff81000000 T _stext
ffffffff81000000 T _text
ffffffff81000100 t do_one
ffffffff81000200 T vfs_read
ffffffff81000200 t __pfx_alias
ffffffff82000000 D jiffies
ffffffffc0000000 t mod_init\t[some_module]
"""


@pytest.fixture
def kallsyms(tmp_path: Path) -> Kallsyms:
    path = tmp_path / "kallsyms"
    path.write_text(SYMBOLS)
    return Kallsyms(str(path))


def test_an_address_is_found_by_name(kallsyms: Kallsyms) -> None:
    assert kallsyms.address("vfs_read") == 0xFFFFFFFF81000200
    assert kallsyms.address("mod_init") == 0xFFFFFFFFC0000000
    assert kallsyms.address("read") is None
    assert kallsyms.address("some_module") is None


def test_names_are_found_by_address(kallsyms: Kallsyms) -> None:
    addresses = [0xFFFFFFFF81000000, 0xFFFFFFFF810001FF, 0xFFFFFFFFC0000010, 5, 0xFFFFFFFF81000104]
    assert kallsyms.names(addresses) == [
        ("_stext", 0, ""),
        ("do_one", 0xFF, ""),
        ("mod_init", 0x10, "some_module"),
        ("", 5, ""),
        ("do_one", 4, ""),
    ]


def test_hidden_addresses_are_a_matter_of_privilege(tmp_path: Path) -> None:
    path = tmp_path / "kallsyms"
    path.write_text("0000000000000000 T vfs_read\n")
    with pytest.raises(PermissionDeniedError) as error:
        Kallsyms(str(path)).address("vfs_read")
    assert error.value.hint is not None
    assert "kptr_restrict" in error.value.hint
    with pytest.raises(PermissionDeniedError):
        Kallsyms(str(path)).names([0xFFFFFFFF81000200])


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("vfs_read+0x10/0x2b0", ("vfs_read", 16, "")),
        ("mod_init+0x0/0x20 [some_module]", ("mod_init", 0, "some_module")),
        ("0xffffffff81000200", ("", 77, "")),
        ("0x0", ("", 77, "")),
        ("odd+0xzz/0x1", ("", 77, "")),
        ("", ("", 77, "")),
    ],
)
def test_what_the_kernel_prints_is_taken_apart(text: str, expected: tuple[str, int, str]) -> None:
    assert parse_name(text, 77) == expected


@pytest.fixture
def tracefs(tmp_path: Path) -> Tracefs:
    for category, event, number in (
        ("sched", "sched_switch", 10),
        ("sched", "sched_wakeup", 11),
        ("syscalls", "sys_enter_read", 12),
    ):
        directory = tmp_path / "events" / category / event
        directory.mkdir(parents=True)
        (directory / "id").write_text(f"{number}\n")
        (directory / "format").write_text(f"name: {directory.name}\n")
    lines = ["syscalls:sys_enter_read", "sched:sched_wakeup", "sched:sched_switch"]
    (tmp_path / "available_events").write_text("".join(f"{line}\n" for line in lines))
    return Tracefs((str(tmp_path / "nothing"), str(tmp_path)))


def test_tracepoints_are_listed_by_patterns(tracefs: Tracefs) -> None:
    switch, wakeup, read = ("sched", "sched_switch"), ("sched", "sched_wakeup"), ("syscalls", "sys_enter_read")
    assert tracefs.events() == [switch, wakeup, read]
    assert tracefs.events("sched") == [switch, wakeup]
    assert tracefs.events("s*", "*_s*tch") == [switch]
    assert tracefs.events("*", "sched_*_switch") == []
    assert tracefs.events("sched", "sched_wakeup") == [wakeup]
    assert tracefs.events("sched", "nothing") == []
    assert tracefs.categories() == ["sched", "syscalls"]


def test_a_tracepoint_is_described(tracefs: Tracefs) -> None:
    assert tracefs.event_id("sched", "sched_wakeup") == 11
    assert tracefs.format_text("sched", "sched_wakeup") == "name: sched_wakeup\n"
    assert tracefs.has_event("syscalls", "sys_enter_read")
    with pytest.raises(FileNotFoundError):
        tracefs.event_id("sched", "nothing")


@pytest.mark.parametrize("name", ["..", ".", "", "../sched", "sched/sched_switch"])
def test_names_do_not_lead_out_of_the_directory(tracefs: Tracefs, name: str) -> None:
    assert not tracefs.has_event(name, "sched_switch")
    assert not tracefs.has_event("sched", name)


def test_a_kernel_without_the_function_tracer_has_no_list(tracefs: Tracefs, tmp_path: Path) -> None:
    with pytest.raises(NotSupportedError, match="function tracer not supported by this kernel"):
        tracefs.functions()
    (tmp_path / "available_filter_functions").write_text("vfs_read\nmod_init [some_module]\n")
    assert tracefs.functions() == "vfs_read\nmod_init [some_module]\n"
    tracefs.close()
    assert tracefs.events("sched", "sched_switch") == [("sched", "sched_switch")]
