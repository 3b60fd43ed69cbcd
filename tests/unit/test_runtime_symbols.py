"""Names of user-space addresses, also after the process has ended; when processes are looked at."""

from __future__ import annotations

import mmap
import subprocess
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from invivo.formats.elf import Elf
from invivo.ir import types as t
from invivo.ir.layout import MapLayout, MapSpec, MapType, Storage
from invivo.runtime.seams import MappingRecords
from invivo.runtime.symbols import Mapping, Observer, UserSymbols, parse_maps, shows_user_addresses
from runtime_fakes import FakeMap, layout

MAPS = """\
55d0c0000000-55d0c0001000 r--p 00000000 fe:01 12                         /bin/x
55d0c0001000-55d0c0005000 r-xp 00001000 fe:01 12                         /bin/x y (deleted)
7f0000000000-7f0000001000 rwxp 00000000 00:00 0
7ffd00000000-7ffd00002000 r-xp 00000000 00:00 0                          [vdso]
"""


def test_executable_mappings_are_parsed() -> None:
    assert parse_maps(MAPS) == [
        Mapping(0x55D0C0001000, 0x55D0C0005000, 0x1000, ("fe:01", 12), "/bin/x y (deleted)"),
        Mapping(0x7F0000000000, 0x7F0000001000, 0, ("00:00", 0), ""),
        Mapping(0x7FFD00000000, 0x7FFD00002000, 0, ("00:00", 0), "[vdso]"),
    ]
    assert parse_maps("") == []


@contextmanager
def sleeping() -> Iterator[tuple[int, int, str]]:
    """A process, the address of the C library's ``getppid`` in it, and the library's path."""
    with subprocess.Popen(["sleep", "100"]) as process:
        deadline = time.monotonic() + 5
        while not (found := [each for each in mappings(process.pid) if "/libc.so" in each.path]):
            assert time.monotonic() < deadline, "no C library in the process"
            time.sleep(0.01)
        library = found[0]
        with Path(library.path).open("rb") as file:
            elf = Elf(mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ), library.path)
        symbol = elf.symbols().find("getppid")
        assert symbol is not None
        offset = elf.file_offset(symbol.address)
        assert offset is not None
        yield process.pid, offset - library.offset + library.start, library.path
        process.kill()


def mappings(pid: int) -> list[Mapping]:
    return parse_maps(Path(f"/proc/{pid}/maps").read_text())


def test_an_address_has_its_name_while_the_process_lives_and_after() -> None:
    observed, unobserved = UserSymbols(), UserSymbols()
    with sleeping() as (pid, address, path):
        observed.observe([pid])
        (frame,) = UserSymbols().frames(pid, [address + 3])
        assert (frame.symbol, frame.offset, frame.module) == ("getppid", 3, path)
    (frame,) = observed.frames(pid, [address + 3])
    assert (frame.address, frame.symbol, frame.offset, frame.module) == (address + 3, "getppid", 3, path)
    (frame,) = unobserved.frames(pid, [address])
    assert (frame.symbol, frame.module) == ("", "")


def test_what_is_mapped_by_nothing_has_no_name() -> None:
    symbols = UserSymbols()
    with sleeping() as (pid, address, _):
        assert [frame.symbol for frame in symbols.frames(pid, [8, address + 3, 0])] == ["", "getppid", ""]


def test_build_ids_come_with_file_offsets() -> None:
    with sleeping() as (pid, address, path):
        (frame,) = UserSymbols().build_id_frames(pid, [address])
        with Path(path).open("rb") as file:
            elf = Elf(mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ), path)
        assert frame.module == elf.build_id
        symbol = elf.symbols().find("getppid")
        assert symbol is not None
        assert frame.address == elf.file_offset(symbol.address)


class Observed:
    def __init__(self) -> None:
        self.seen: list[list[int]] = []

    def observe(self, tgids: Iterable[int]) -> None:
        self.seen.append(list(tgids))

    def watch(self, records: MappingRecords) -> None:
        raise AssertionError(records)

    def catch_up(self) -> None:
        raise AssertionError("nothing is watched")


def test_the_scope_s_processes_are_observed_often_at_first() -> None:
    names = Observed()
    scope = FakeMap(MapSpec("invivo_scope", MapType.HASH, 4, 1, 10), [])
    scope.entries = {(7).to_bytes(4, "little"): b"\1", (9).to_bytes(4, "little"): b"\1"}
    observer = Observer(names, scope, is_needed=True)
    assert observer.next_seconds() == float("inf")
    observer.follow(7)
    assert names.seen == [[7]]
    observer.look()
    assert names.seen == [[7]]  # not yet time
    time.sleep(observer.next_seconds())
    observer.look()
    assert names.seen == [[7], [7, 9]]


def test_nothing_is_observed_that_nobody_shows() -> None:
    names = Observed()
    observer = Observer(names, None, is_needed=False)
    observer.follow(7)
    observer.look()
    assert names.seen == []
    assert observer.next_seconds() == float("inf")


USER, KERNEL = t.Stack(False, t.StackMode.BPFTRACE, 1), t.Stack(True, t.StackMode.BPFTRACE, 1)


@pytest.mark.parametrize(
    ("kind", "expected"),
    [(USER, True), (t.UserSymbol(), True), (t.Tuple((t.INT8, USER)), True), (KERNEL, False), (t.INT8, False)],
    ids=["stack", "symbol", "tuple", "kernel-stack", "number"],
)
def test_who_shows_user_addresses(kind: t.Type, expected: bool) -> None:
    described = layout(maps=[MapLayout("@", (t.INT8, kind), t.Count(), Storage.HASH, "m0")])
    assert shows_user_addresses(described) is expected
