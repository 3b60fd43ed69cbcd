"""What the running kernel says of itself: types, tracepoints, symbols, features."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from fixture_kernel import descriptors
from invivo.cli.attempts import ATTEMPTS
from invivo.errors import InvivoError
from invivo.formats.btf import Btf, BtfKind
from invivo.kernel import features, vmlinux
from invivo.kernel.features import FEATURES, Features
from invivo.kernel.kallsyms import Kallsyms
from invivo.kernel.tracefs import Tracefs
from running import run


@pytest.fixture(scope="module")
def btf() -> Btf:
    found = vmlinux.open_btf()
    assert found is not None
    return found


def test_fields_of_the_kernels_structs_are_found(btf: Btf) -> None:
    task = btf.find(BtfKind.STRUCT, "task_struct")
    assert task is not None
    pid, tgid, comm = (btf.member(task, name) for name in ("pid", "tgid", "comm"))
    assert pid is not None
    assert tgid is not None
    assert comm is not None
    assert tgid.bit_offset == pid.bit_offset + 32
    assert btf.type(btf.strip(pid.type)).name == "int"
    assert btf.type(btf.strip(comm.type)).count == 16


def test_the_lazy_answers_are_those_of_a_full_reading(btf: Btf) -> None:
    names = btf.names(BtfKind.STRUCT)
    assert len(names) > 1000
    first: dict[str, int] = {}
    for name, number in names:
        first.setdefault(name, number)
    for name in list(first)[::200]:
        fresh = vmlinux.open_btf()
        assert fresh is not None
        assert fresh.find(BtfKind.STRUCT, name) == first[name]
        assert fresh.contains(BtfKind.STRUCT, name)
        assert fresh.type(first[name]).name == name


def test_every_type_of_the_kernel_is_decoded(btf: Btf) -> None:
    kinds = {btf.type(number).kind for number in range(1, btf.count(), 7)}
    assert kinds >= {BtfKind.INT, BtfKind.PTR, BtfKind.STRUCT, BtfKind.UNION, BtfKind.ENUM, BtfKind.FUNC}


def test_a_module_that_is_not_there_has_no_types() -> None:
    assert vmlinux.open_btf("no_such_module") is None


def test_tracepoints_are_read_without_touching_the_mount_table() -> None:
    before = Path("/proc/self/mountinfo").read_text()
    tracefs = Tracefs()
    assert tracefs.event_id("sched", "sched_process_fork") > 0
    assert "field:pid_t child_pid" in tracefs.format_text("sched", "sched_process_fork")
    assert ("syscalls", "sys_enter_openat") in tracefs.events("syscalls", "sys_enter_*")
    assert tracefs.events("no_such_category", "x") == []
    assert Path("/proc/self/mountinfo").read_text() == before
    directory = tracefs._directory()
    assert not os.get_inheritable(directory)
    tracefs.close()
    with pytest.raises(OSError, match="Bad file descriptor"):
        os.fstat(directory)


def test_the_kernel_names_its_own_functions() -> None:
    before = descriptors()
    kallsyms = Kallsyms()
    address = kallsyms.address("vfs_read")
    assert address is not None
    found = kallsyms.names([address + offset for offset in range(200)] + [16])
    assert found[:200] == [("vfs_read", offset, "") for offset in range(200)]
    assert found[200] == ("", 16, "")
    assert not kallsyms._namer_failed
    kallsyms.close()
    assert descriptors() == before


def test_both_ways_to_a_name_agree() -> None:
    by_program = Kallsyms()
    start = by_program.address("vfs_read")
    assert start is not None
    addresses = [start + offset for offset in range(0, 100_000, 997)]
    by_table = Kallsyms()
    by_table._namer_failed = True
    assert by_program.names(addresses) == by_table.names(addresses)
    by_program.close()


def test_features_are_tried_on_use_and_leave_nothing_open() -> None:
    before = descriptors()
    found = Features()
    assert found.has("btf")
    assert found.has("ringbuf")
    assert found.has("helper:get_current_task_btf")
    assert found.has("helper:ringbuf_reserve:PERF_EVENT")
    assert not found.has("helper:no_such_helper")
    assert not found.has("helper:override_return:RAW_TRACEPOINT")
    assert found.has("iterator:task")
    assert not found.has("iterator:no_such_thing")
    assert not found.has("kfunc:no_such_function")
    for feature in FEATURES:
        assert found.has(feature.name) in (True, False)
    assert descriptors() == before


def test_what_features_say_is_what_an_attempt_finds() -> None:
    """What --info and doctor show as there can be attached, and what they show as missing cannot."""
    known = Features()
    attempts = {attempt.name.partition("(")[2].rstrip(")"): attempt for attempt in ATTEMPTS}
    said, found = {}, {}
    links = [f"{kind}{form}" for kind in ("kprobe", "uprobe") for form in ("", "_multi", "_session")]
    same = (*links, "fentry", "hardware")
    others = {"kretprobe": "kprobe", "fexit": "fentry", "uretprobe": "uprobe", "iter": "iterator:task", "tp_btf": "btf"}
    for name in (*same, *others, "profile", "watchpoint"):
        said[name] = name in ("profile", "watchpoint") or known.has(others.get(name, name))
        try:
            found[name] = bool(attempts[name].make())
        except InvivoError:
            found[name] = False
    assert said == found


@pytest.mark.requires("data_symbols")
def test_a_variable_of_the_kernel_on_each_processor() -> None:
    """What percpu_kaddr() tells is where kallsyms has the variable, moved by the processor's distance."""
    program = """begin {
        printf("%lx %lx %lx\\n", (uint64)kaddr("runqueues"), (uint64)percpu_kaddr("runqueues", 0),
            (uint64)percpu_kaddr("runqueues", 1));
        exit();
    }"""
    template, first, second = (int(word, 16) for word in run(program).text.split())
    assert template == Kallsyms().address("runqueues")
    assert len({template, first, second}) == 3
    assert first >> 63 == second >> 63 == 1


def test_an_unknown_feature_is_a_mistake_of_the_caller() -> None:
    with pytest.raises(KeyError):
        features.has("no_such_feature")
    with pytest.raises(KeyError):
        features.has("no_such_kind:x")


def test_a_kernel_without_types_has_no_feature_that_needs_them() -> None:
    found = Features(lambda: None)
    assert not found.has("btf")
    assert not found.has("helper:get_current_task_btf")
    assert not found.has("fentry")
    assert found.has("bpf")
