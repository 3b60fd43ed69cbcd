"""Damages real files in many ways and lets the readers of formats at them.

    python -m property.damaged_files [N] [SEED]     N damaged files for each reader (make fuzz-formats)

A reader may answer, or raise `BadFileError`; it may do nothing else, and not for long.
"""

from __future__ import annotations

import random
import resource
import signal
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import FrameType

from fixture_target import btf_data
from invivo.errors import BadFileError
from invivo.formats.btf import Btf, BtfKind
from invivo.formats.dwarf import Dwarf, DwarfKind
from invivo.formats.elf import Elf
from invivo.formats.elf_symbols import readable
from invivo.formats.stacks.perf_data import PerfMapping, parse_perf_data
from invivo.formats.unwinding import eh_frame_bulk
from invivo.formats.unwinding.eh_frame import FrameSection, frame_section, rows_of, scan
from invivo.formats.unwinding.reading import read_unwind_table
from invivo.formats.unwinding.rule import unpack
from invivo.formats.unwinding.table import table_of
from invivo.formats.usdt import read_probes
from invivo.formats.x86_length import instruction_length
from invivo.output.flamegraph import format_flamegraph
from invivo.profiling.reading import read_profile
from invivo.runtime.perf_map import parse_perf_map
from invivo.stacks import FrameKind, Function
from stack_files import FOLDED, PERF_SCRIPT, PROFILE_JSON, perf_data_file
from user_programs import build_program
from workloads import build

SECONDS = 10  # for one file; all take milliseconds
MOST_BYTES = 1 << 30  # of the whole run
_EXTREMES = (0, 1, 0x7F, 0x80, 0xFF, 0xFFFF, 0x7FFFFFFF, 0xFFFFFFFF, 1 << 63, (1 << 64) - 1)

Reader = Callable[[bytes], None]


def read_elf(data: bytes) -> None:
    elf = Elf(data, "damaged")
    for section in elf.sections:
        try:
            elf.content(section)
        except BadFileError:
            continue
    questions: Sequence[Callable[[], object]] = (
        lambda: elf.build_id, lambda: elf.interpreter, lambda: elf.is_pie, lambda: elf.debug_link, elf.debug_paths,
        lambda: elf.is_go, lambda: elf.is_stripped, lambda: elf.file_offset(elf.entry), lambda: elf.address(0x1000),
    )  # fmt: skip
    for question in questions:
        try:
            question()
        except BadFileError:
            continue
    symbols = elf.symbols()
    for symbol in symbols.functions()[:200]:
        readable(symbol.name)
        symbols.at(symbol.address)
    symbols.find("main")
    symbols.at(elf.entry)


def read_usdt(data: bytes) -> None:
    for probe in read_probes(Elf(data, "damaged")):
        probe.parse()


def read_dwarf(data: bytes) -> None:
    elf = Elf(data, "damaged")
    addresses = [symbol.address for symbol in elf.symbols().functions()[:12]]
    dwarf = Dwarf(elf)
    for address in addresses:
        function = dwarf.function(address)
        for parameter in function.parameters if function is not None else ():
            dwarf.spelling(parameter.type)
            _walk(dwarf, parameter.type, 0)
    dwarf.lines("plain.c")


def _walk(dwarf: Dwarf, handle: int, depth: int) -> None:
    described = dwarf.type(handle)
    if depth > 4:
        return
    if described.kind in (DwarfKind.STRUCT, DwarfKind.UNION):
        for member in dwarf.members(handle)[:20]:
            _walk(dwarf, member.type, depth + 1)
    elif described.kind is DwarfKind.ENUM:
        dwarf.variants(handle)
    elif described.target:
        _walk(dwarf, described.target, depth + 1)


def read_btf(data: bytes) -> None:
    btf = Btf(data, "damaged")
    for name in ("task_struct", "pt_regs", "qstr"):
        found = btf.find(BtfKind.STRUCT, name)
        if found is not None:
            for member in btf.type(found).members:
                btf.strip(member.type)
    btf.names(BtfKind.FUNC, "vfs")
    btf.enumerator("PIDTYPE_PID")


def read_frames(data: bytes) -> None:
    table = read_unwind_table(Elf(data, "damaged"))
    if table is not None:
        assert list(table.starts) == sorted(set(table.starts))
        for index in table.indexes:
            unpack(table.words[index])


def read_call_frames(data: bytes) -> None:
    """Both readers of .eh_frame: what one makes of it, the other does."""
    section = FrameSection(memoryview(data), 0x400000, "damaged")
    cies, functions = scan(section)
    if not functions:
        return
    rows = list(rows_of(section, cies, functions))
    one_by_one = table_of("damaged", iter(rows), 0)
    at_once = eh_frame_bulk.table(section, cies, functions, 0)
    # Of functions that overlap, or are where no program is, either may be right.
    is_told_twice = len({row[:2] for row in rows}) < len(set(rows))
    if is_told_twice or any(address >= 1 << 63 for address, _, _ in rows):
        return
    assert (one_by_one is None) == (at_once is None)
    if one_by_one is not None and at_once is not None:
        assert one_by_one.base == at_once.base and one_by_one.starts == at_once.starts
        assert [one_by_one.words[index] for index in one_by_one.indexes] == [
            at_once.words[index] for index in at_once.indexes
        ]


def call_frames_of(path: str) -> bytes:
    """Some hundred functions of a file's .eh_frame."""
    section = frame_section(Elf(Path(path).read_bytes(), path))
    assert section is not None
    whole = bytes(section.data)
    at = 0
    while at < min(24_000, len(whole) - 4):
        at += 4 + int.from_bytes(whole[at : at + 4], "little")
    return whole[:at] + bytes(4)


class Nameless:
    """Names no address: what is read does not depend on this machine."""

    def user(self, pid: int, mapping: PerfMapping | None, address: int, *, is_caller: bool) -> Function:
        return Function(mapping.path if mapping is not None else "[unknown]", FrameKind.USER)

    def kernel(self, address: int, text: int, release: str, *, is_caller: bool) -> Function:
        return Function(f"[{address:#x}]", FrameKind.KERNEL)


def read_perf_data(data: bytes) -> None:
    format_flamegraph(parse_perf_data(data, "damaged", Nameless()))


def read_stacks(data: bytes) -> None:
    profile, before = read_profile(data, "damaged")
    format_flamegraph(profile, before=before)


def read_perf_map(data: bytes) -> None:
    for start, (end, name) in parse_perf_map(data).items():
        assert start < end and name


def read_code(data: bytes) -> None:
    at = 0
    while at < min(len(data), 4096):
        at += instruction_length(data, at) or 1


def damaged(random_: random.Random, data: bytes) -> bytes:
    """Return the data with one to eight wounds, of which some are in its first bytes or its last."""
    wounded = bytearray(data)
    for _ in range(random_.choice((1, 1, 2, 3, 8))):
        if not wounded:
            return b""
        place = random_.choice((random_.randrange(len(wounded)), random_.randrange(min(len(wounded), 512))))
        if random_.random() < 0.3:
            place = len(wounded) - 1 - place
        match random_.randrange(6):
            case 0:
                wounded[place] ^= 1 << random_.randrange(8)
            case 1:
                wounded[place] = random_.randrange(256)
            case 2:
                size = random_.choice((1, 2, 4, 8))
                place -= place % size
                value = random_.choice(_EXTREMES) & (1 << 8 * size) - 1
                wounded[place : place + size] = value.to_bytes(size, "little")
            case 3:
                del wounded[place:]
            case 4:
                source = random_.randrange(len(wounded))
                length = random_.randrange(1, 64)
                wounded[place : place + length] = wounded[source : source + length]
            case _:
                del wounded[place : place + random_.randrange(1, 16)]
    return bytes(wounded)


def samples(folder: Path) -> dict[str, tuple[Reader, list[bytes]]]:
    """Return each reader with whole files for it."""
    plain = build_program("plain.c", folder, "-O2")
    old = build_program("plain.c", folder, "-O0", "-gdwarf-4", name="old")
    shapes = build_program("shapes.cc", folder, "-O1")
    marks = build("marks", folder)
    programs = [path.read_bytes() for path in (plain, old, shapes)]
    return {
        "elf": (read_elf, programs),
        "usdt": (read_usdt, [marks.read_bytes()]),
        "dwarf": (read_dwarf, programs),
        "frames": (read_frames, programs),
        "call_frames": (read_call_frames, [call_frames_of("/bin/bash")]),
        "btf": (read_btf, [btf_data()]),
        "perf_data": (read_perf_data, [perf_data_file(), perf_data_file(counts=True, events=2)]),
        "stacks": (read_stacks, [PERF_SCRIPT.encode(), FOLDED.encode(), PROFILE_JSON.encode()]),
        "perf_map": (read_perf_map, [b"7f0010 20 f\n7f0030 8 LazyCompile:~g x.js:1\n7f0040 100 py::h:x.py\n"]),
        "code": (read_code, [programs[0][0x1000:0x1800]]),
    }


@contextmanager
def time_limit(seconds: int) -> Iterator[None]:
    def expired(_signal: int, _frame: FrameType | None) -> None:
        raise TimeoutError

    before = signal.signal(signal.SIGALRM, expired)
    signal.alarm(seconds)
    try:
        yield
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)


def survive(reader: Reader, files: Sequence[bytes], count: int, seed: int) -> int:
    """Read damaged files; return how many of them were refused. Raises whatever a reader must not."""
    refused = 0
    for number in range(count):
        random_ = random.Random(seed * 1_000_003 + number)
        data = damaged(random_, random_.choice(files))
        try:
            with time_limit(SECONDS):
                reader(data)
        except BadFileError as error:
            assert not isinstance(error.__cause__, TimeoutError | MemoryError), f"file {number} of seed {seed}: {error}"
            refused += 1
        except BaseException as error:
            error.add_note(f"file {number} of seed {seed}")
            raise
    return refused


def main() -> None:
    count, seed = int(sys.argv[1]) if len(sys.argv) > 1 else 100_000, int(sys.argv[2]) if len(sys.argv) > 2 else 1
    with tempfile.TemporaryDirectory() as folder:
        for name, (reader, files) in samples(Path(folder)).items():
            refused = survive(reader, files, count, seed)
            peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
            assert peak < MOST_BYTES, f"{peak} bytes"
            sys.stdout.write(f"{name}: {count} files, {refused} refused, at most {peak >> 20} MiB\n")
            sys.stdout.flush()


if __name__ == "__main__":
    main()
