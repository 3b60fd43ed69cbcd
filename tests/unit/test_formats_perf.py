"""What perf writes: its text and its files. Names, kinds, several events; what is broken is told with its place."""

from __future__ import annotations

import struct

import pytest

from invivo.errors import BadFileError
from invivo.formats.stacks.perf_data import PerfMapping, parse_perf_data
from invivo.formats.stacks.perf_script import parse_perf_script
from invivo.profiling.reading import read_profile
from invivo.stacks import FrameKind, Function, Profile, named
from stack_files import KERNEL_TEXT, PERF_SCRIPT, PerfDataWriter, perf_data_file


def _stacks(profile: Profile) -> list[tuple[str, float]]:
    return sorted(
        (";".join(f"{each.name}" for each in named(profile, stack)), weight) for stack, weight in profile.stacks
    )


class Names:
    """Names an address by the mapping it is in, and the offset in the file."""

    def user(self, pid: int, mapping: PerfMapping | None, address: int, *, is_caller: bool) -> Function:
        if mapping is None:
            return Function("[unknown]", FrameKind.USER)
        return Function(
            f"{mapping.path}+{address - mapping.start + mapping.offset:#x}", FrameKind.USER, mapping.build_id
        )

    def kernel(self, address: int, text: int, release: str, *, is_caller: bool) -> Function:
        return Function(f"{release}+{address - text:#x}", FrameKind.KERNEL)


# -- perf script ---------------------------------------------------------------------------------


def test_samples_of_the_first_event_are_read() -> None:
    profile, before = read_profile(PERF_SCRIPT.encode(), "x")
    assert before is None
    assert _stacks(profile) == [
        ("busy prog;LazyCompile:~f x.js:1;[libc.so.6];std::vector<int>::push_back(int const&);mix;do_syscall_64", 1),
    ]
    assert {each.name: each.kind.value for each in profile.functions if each.kind is not FrameKind.USER} == {
        "busy prog": "process",
        "LazyCompile:~f x.js:1": "jit",
        "std::vector<int>::push_back(int const&)": "inlined",
        "do_syscall_64": "kernel",
        "swapper": "process",
        "default_idle": "kernel",
    }
    assert profile.quality.unnamed == 1
    assert profile.quality.remarks == ("1 samples of cpu-clock left out", "1 samples of page-faults left out")


def test_equal_frames_of_other_samples_are_counted() -> None:
    """What differs is the process, the time or the event."""
    heads = ("sh 1/1 [000] 1.5: 99 cpu-clock:u: ", "7: x 2 2.5: 99 cpu-clock:u: ", "sh 1/1 [001] 3.5: page-faults: ")
    text = "".join(f"{head}\n\t1001 inner+0x1 (/a)\n\t2002 outer+0x2 (/a)\n\n" for head in (*heads, *heads, heads[0]))
    profile = parse_perf_script(text.encode(), "x")
    assert _stacks(profile) == [("7: x;outer;inner", 2), ("sh;outer;inner", 3)]
    assert profile.quality.remarks == ("2 samples of page-faults left out",)
    with pytest.raises(BadFileError, match="no sample of perf script"):
        parse_perf_script((text + "#" + text).encode(), "x")


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        (
            "a 1 1.5: cycles: \n\t 1 f+0x1 (/x)\n\t 2 g (/x)\n\na 1 1.6: cycles: \n\t 1 f+0x2 (/x)\n\t 2 g (/x)\n",
            ("a;g;f", 2),
        ),
        ("a b c 1/2 [003] 1.5:  7 cycles:u:  \n", ("a b c", 1)),
        ("a 1 cycles: \n\t 1 operator new(unsigned long)+0x3 (/x (deleted))\n", ("a;operator new(unsigned long)", 1)),
        (":1 1 [000] 1.0: cpu-clock:u:  7f3 main+0x10 (/x)\n", (":1;main", 1)),
        ("a 1 1.5: cycles: \n\t 1 clock_gettime@@GLIBC_2.17+0x1 (/x)\n", ("a;clock_gettime", 1)),
    ],
)
def test_forms_of_samples(text: str, wanted: tuple[str, float]) -> None:
    assert _stacks(parse_perf_script(text.encode(), "x")) == [wanted]


@pytest.mark.parametrize(
    ("text", "offset", "reason"),
    [
        ("a 1 1.5: cycles: \n\t 1 f (/x)\n\t no frame\n", 29, "no frame of perf script"),
        ("a 1 1.5: cycles: \n\t 1 f (/x)\n\nhello\n", 30, "no sample of perf script"),
    ],
)
def test_a_line_that_is_neither_is_told(text: str, offset: int, reason: str) -> None:
    with pytest.raises(BadFileError, match=reason) as problem:
        parse_perf_script(text.encode(), "x")
    assert problem.value.offset == offset


# -- perf.data -----------------------------------------------------------------------------------

_KERNEL, _USER = (1 << 64) - 128, (1 << 64) - 512  # PERF_CONTEXT_*, include/uapi/linux/perf_event.h


@pytest.mark.parametrize("counts", [False, True])
def test_stacks_are_named_by_what_was_mapped_at_the_time(counts: bool) -> None:
    profile = parse_perf_data(perf_data_file(counts=counts), "x", Names())
    assert _stacks(profile) == [
        ("ls;/bin/ls+0x4300", 1),
        ("sh;/bin/sh+0x200;/bin/sh+0x100", 2),
        ("sh;/bin/sh+0x200;/bin/sh+0x100;6.1.0-x+0x30", 1),
    ]
    modules = {each.name: each.module for each in profile.functions}
    assert modules["/bin/ls+0x4300"] == bytes(range(20)).hex()
    assert profile.quality.lost == 3


def test_samples_of_a_second_event_are_left_out() -> None:
    profile = parse_perf_data(perf_data_file(events=2), "x", Names())
    assert profile.total == 4
    assert profile.quality.remarks == ("1 samples of other events left out",)


def test_what_is_mapped_later_replaces_what_was_there() -> None:
    writer = PerfDataWriter()
    writer.mmap(1, 5, 0x1000, 0x3000, 0, "/old")
    writer.sample(2, 5, [0x2000])
    writer.mmap(3, 5, 0x2000, 0x1000, 0, "/new")
    writer.sample(4, 5, [0x2000, 0x3010, 0x9000])
    assert _stacks(parse_perf_data(writer.file(), "x", Names())) == [
        ("[5];/old+0x1000", 1),
        ("[5];[unknown];/old+0x2010;/new+0x0", 1),
    ]


class Calls(Names):
    """Marks what calls return to."""

    def user(self, pid: int, mapping: PerfMapping | None, address: int, *, is_caller: bool) -> Function:
        return Function(f"{'>' if is_caller else ''}{address:x}", FrameKind.USER)

    def kernel(self, address: int, text: int, release: str, *, is_caller: bool) -> Function:
        mark, name = (
            ">" if is_caller else "",
            "asm_exc_page_fault" if address & 0xFF == 0xEE else f"k{address & 0xFF:x}",
        )
        return Function(f"{mark}{name}" if name.startswith("k") else name, FrameKind.KERNEL)


def test_innermost_and_interrupted_code_has_not_called() -> None:
    """Of all other addresses of a chain the call stands before them."""
    writer = PerfDataWriter()
    kernel = 0xFFFFFFFF81000000
    writer.sample(
        2, 5, [_KERNEL, kernel + 1, kernel + 2, kernel + 0xEE, kernel + 3, kernel + 4, _USER, 0x10, 0x20, 0x10]
    )
    assert _stacks(parse_perf_data(writer.file(), "x", Calls())) == [
        ("[5];>10;>20;10;>k4;k3;asm_exc_page_fault;>k2;k1", 1),
    ]


def test_names_of_this_machine_are_found(tmp_path_factory: pytest.TempPathFactory) -> None:
    """The kernel that runs is another one than the file's: its addresses stay numbers."""
    profile, _ = read_profile(perf_data_file(), "x")
    assert f"[{KERNEL_TEXT + 0x30:#x}]" in {each.name for each in profile.functions}


def _changed(at: int, form: str, *values: int) -> bytes:
    data = bytearray(perf_data_file())
    struct.pack_into(form, data, at, *values)
    return bytes(data)


_FIRST_RECORD = 104 + 152 + 8


@pytest.mark.parametrize(
    ("data", "offset", "reason"),
    [
        (b"PERFILE2" + struct.pack("<Q", 16) + bytes(8), 8, "for a pipe: `perf script` shows it"),
        (perf_data_file()[:300], 300, "ends at 300, within its records"),
        (_changed(16, "<Q", 8), 16, "event descriptions of 8 bytes"),
        (_changed(24, "<Q", 1 << 40), 24, "ends within the descriptions of its events"),
        (_changed(104 + 24, "<Q", 2), 128, "its samples have neither addresses nor call chains"),
        (_changed(_FIRST_RECORD + 6, "<H", 0), _FIRST_RECORD, "a record of type 1 with 0 bytes"),
        (_changed(_FIRST_RECORD, "<I", 81), _FIRST_RECORD, "is compressed"),
        (_changed(104 + 136, "<Q", 1 << 50), 240, "ends within the ids of its events"),
    ],
)
def test_what_is_broken_is_told_with_its_place(data: bytes, offset: int, reason: str) -> None:
    with pytest.raises(BadFileError, match=reason) as problem:
        parse_perf_data(data, "x", Names())
    assert problem.value.offset == offset
