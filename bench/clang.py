"""What does a hit cost in the kernel, beside the same program in C, compiled by clang -O2?

``corpus/clang.c`` has both programs' sense: the gate, the filter by process, atomic updates, counted losses.  Its
object is loaded with maps of the same kinds as invivo's, and attached in the same way; the load's calls are counted,
and the kernel's statistics say how long a run of a program took.  Both trace only the load, by its number.
"""

from __future__ import annotations

import os
import shutil
import struct
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

from elftools.elf.elffile import ELFFile
from elftools.elf.relocation import RelocationSection
from elftools.elf.sections import Section, Symbol

from bench.contenders import INVIVO, Bench, Load
from bench.figures import LOST, Figures
from bench.hits import empty_program, mean_ns, program_ids, statistics_of
from bench.machine import BenchError, install
from invivo.diagnostics import SourceFile
from invivo.events import HistogramValue
from invivo.formats.btf import BtfKind
from invivo.ir.layout import MapSpec, MapType
from invivo.kernel import abi, links, programs
from invivo.kernel.maps import Map
from invivo.kernel.programs import Program
from invivo.kernel.vmlinux import open_btf
from invivo.pipeline import compile_source
from invivo.probes.machine import Machine
from invivo.record import Record
from invivo.runtime.session import Session, SessionOptions
from invivo.target import ProgramType

TITLE = "The cost of a hit, beside clang"
_CLANG = "clang -O2"
_SOURCE = Path(__file__).with_name("corpus") / "clang.c"
_OWN = "program's own, ns"
_ENTER = "tracepoint:syscalls:sys_enter_lseek /pid == PID/"
_LEAVE = "tracepoint:syscalls:sys_exit_lseek /pid == PID && @start[tid]/"
_COMM_BYTES = 16


class Case(Record):
    """A program in the language, its functions in C (all run for each call), and the maps that these have."""

    name: str
    source: str
    functions: tuple[str, ...]
    maps: dict[str, tuple[MapType, int, int]]  # by name in C: kind, sizes of key and value in bytes


def _hits(value: object) -> int:
    """How many hits a value of invivo's map shows."""
    return value if isinstance(value, int) else value.total if isinstance(value, HistogramValue) else 0


CASES = (
    Case("@ = count()", f"{_ENTER} {{ @ = count(); }}", ("p_count",), {}),
    Case(
        "@[tid] = count()",
        f"{_ENTER} {{ @[tid] = count(); }}",
        ("p_count_by_tid",),
        {"by_u32": (MapType.PERCPU_HASH, 4, 8)},
    ),
    Case(
        "@[comm] = count()",
        f"{_ENTER} {{ @[comm] = count(); }}",
        ("p_count_by_comm",),
        {"by_comm": (MapType.PERCPU_HASH, _COMM_BYTES, 8)},
    ),
    Case("@ = hist(args.offset)", f"{_ENTER} {{ @ = hist(args.offset); }}", ("p_hist",), {}),
    Case(
        "@start[tid] = nsecs; then @ = hist(nsecs - @start[tid])",
        f"{_ENTER} {{ @start[tid] = nsecs; }} {_LEAVE} "
        "{ @ = hist((nsecs - @start[tid]) / 1000); delete(@start[tid]); }",
        ("p_latency_start", "p_latency_end"),
        {"by_u32": (MapType.HASH, 4, 8)},
    ),
)


def measure(bench: Bench) -> Figures:
    """Run both in turn, the load's number compiled in."""
    if shutil.which("clang") is None:
        install("clang")
    figures = Figures()
    for number in range(bench.runs):
        for case in CASES:
            bench.note(f"clang, run {number + 1}: {case.name}")
            statistics_fd = programs.enable_statistics()
            try:
                with (
                    empty_program("sys_enter_lseek") as empty,
                    _HeldLoad(bench.load) as load,
                ):
                    load.run()
                    base_ns = mean_ns(empty.statistics())
                for name, run in ((INVIVO.name, _run_ours), (_CLANG, _run_clang)):
                    with _HeldLoad(bench.load) as load:
                        own_ns, missing = run(case, load)
                    own_ns -= len(case.functions) * base_ns
                    figures.add(case.name, name, {_OWN: own_ns, LOST: missing})
            finally:
                os.close(statistics_fd)
    return figures


class _HeldLoad:
    """The load in a process whose number is known before it begins."""

    def __init__(self, load: Load) -> None:
        self.calls = load.calls
        load.reset()
        words = ["sh", "-c", 'read -r go && exec "$@"', "sh", *load.command]
        self._process = subprocess.Popen(words, stdin=subprocess.PIPE)
        self.pid = self._process.pid

    def __enter__(self) -> _HeldLoad:
        return self

    def __exit__(self, *_: object) -> None:
        self._process.kill()
        self._process.wait()

    def run(self) -> None:
        """Let it begin, and wait for its end."""
        self._process.communicate(b"go\n")
        if self._process.returncode:
            raise BenchError("the load failed")


def _run_ours(case: Case, load: _HeldLoad) -> tuple[float, int]:
    """Nanoseconds of the case's programs for a hit, and how many hits its map does not show."""
    with Machine() as machine:
        text = case.source.replace("PID", str(load.pid))
        image = compile_source(SourceFile(case.name, text), machine).image
    session = Session(image, options=SessionOptions(signals=False))
    with session:
        load.run()
        seen = sorted(
            map(statistics_of, program_ids(os.getpid())),
            key=lambda found: -found.run_count,
        )
        own_ns = sum(map(mean_ns, seen[: len(case.functions)]))
    return own_ns, load.calls - sum(map(_hits, session.maps["@"].to_dict().values()))


def _run_clang(case: Case, load: _HeldLoad) -> tuple[float, int]:
    with _Object(case, load.pid) as loaded:
        load.run()
        own_ns = sum(mean_ns(program.statistics()) for program in loaded.programs)
        return own_ns, load.calls - loaded.hits()


def _offsets() -> Iterator[str]:
    """Where the members of ``task_struct`` are that the programs read, as definitions for the compiler."""
    types = open_btf()
    task = types.find(BtfKind.STRUCT, "task_struct") if types is not None else None
    if types is None or task is None:
        raise BenchError("this kernel has no BTF")
    for name, path in (
        ("STATUS", "thread_info.status"),
        ("PARENT", "real_parent"),
        ("TGID", "tgid"),
        ("PRIO", "prio"),
        ("COMM", "comm"),
    ):
        owner, offset = task, 0
        for part in path.split("."):
            member = types.member(owner, part)
            if member is None:
                raise BenchError(f"task_struct has no {path}")
            offset += member.bit_offset // 8
            owner = types.strip(member.type)
        yield f"-D{name}_AT={offset}"


class _Object:
    """A compiled object's functions, loaded and attached."""

    def __init__(self, case: Case, pid: int) -> None:
        self.programs: list[Program] = []
        self._links: list[links.Link] = []
        self._maps: dict[str, Map] = {}
        self._case = case
        self._pid = pid

    def __enter__(self) -> _Object:
        try:
            with tempfile.TemporaryDirectory(prefix="bench-") as folder:
                compiled = Path(folder) / "clang.o"
                options = [
                    "-O2",
                    "-target",
                    "bpf",
                    "-mcpu=v3",
                    f"-DTARGET={self._pid}",
                    *_offsets(),
                ]
                subprocess.run(
                    ["clang", *options, "-c", str(_SOURCE), "-o", str(compiled)],
                    check=True,
                )
                with compiled.open("rb") as file:
                    self._load(ELFFile(file))
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        for each in (*self._links, *self.programs, *self._maps.values()):
            each.close()

    def hits(self) -> int:
        """What stands in the map, or in the plain memory: nothing but counts."""
        if not self._case.maps or len(self._case.functions) > 1:
            memory = self._maps[".bss"].memory()
            return sum(memory.cast("B").cast("Q"))
        (name,) = self._case.maps
        return sum(memoryview(self._maps[name].read_all().all_values).cast("Q"))

    def _load(self, elf: ELFFile) -> None:
        symbols = list(elf.get_section_by_name(".symtab").iter_symbols())
        functions = {each.name: each for each in symbols if each["st_info"]["type"] == "STT_FUNC"}
        for name in self._case.functions:
            symbol = functions[name]
            section = elf.get_section(symbol["st_shndx"])
            start, size = symbol["st_value"], symbol["st_size"]
            code = bytearray(section.data()[start : start + size])
            for other in elf.iter_sections():
                if isinstance(other, RelocationSection) and other["sh_info"] == symbol["st_shndx"]:
                    for relocation in other.iter_relocations():
                        at = relocation["r_offset"] - start
                        if 0 <= at < size:
                            self._relocate(elf, code, at, symbols[relocation["r_info_sym"]])
            types = open_btf()
            event = "sys_enter" if "end" not in name else "sys_exit"
            target = types.find(BtfKind.TYPEDEF, f"btf_trace_{event}") if types is not None else None
            load = programs.Load(
                name,
                ProgramType.TRACING_RAW_TP,
                bytes(code),
                "GPL",
                attach_btf_id=target or 0,
            )
            self.programs.append(load.run(0))
        self._links += [links.raw_tracepoint(program, None) for program in self.programs]

    def _relocate(self, elf: ELFFile, code: bytearray, at: int, symbol: Symbol) -> None:
        """Put a map's descriptor into a 16-byte load."""
        section = elf.get_section(symbol["st_shndx"])
        offset = symbol["st_value"] + struct.unpack_from("<i", code, at + 4)[0]
        is_map = section.name == ".maps"
        name = symbol.name if is_map else section.name
        if name not in self._maps:
            self._maps[name] = self._create(name, section, is_map=is_map)
        kind = abi.PSEUDO_MAP_FD if is_map else abi.PSEUDO_MAP_VALUE
        code[at + 1] = code[at + 1] & 0x0F | kind << 4
        struct.pack_into("<i", code, at + 4, self._maps[name].fd)
        struct.pack_into("<I", code, at + 12, 0 if is_map else offset)

    def _create(self, name: str, section: Section, *, is_map: bool) -> Map:
        if is_map:
            kind, key, value = self._case.maps[name]
            return Map.create(MapSpec(name, kind, key, value, 4096, 0))
        flags = 0 if name.startswith(".rodata") else abi.F_MMAPABLE
        return Map.create(MapSpec(name, MapType.ARRAY, 4, -(-section["sh_size"] // 8) * 8, 1, flags))
