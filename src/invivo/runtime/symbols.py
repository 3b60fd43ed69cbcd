"""User-space addresses → symbols: mappings are recorded while a process lives, files read when asked."""

from __future__ import annotations

import mmap
import os
import time
from bisect import bisect_right
from collections.abc import Callable, Iterable, Sequence
from typing import Protocol

from invivo.errors import BadFileError
from invivo.events import Frame
from invivo.formats.buffer import Buffer
from invivo.formats.elf import Elf, SymbolTable
from invivo.formats.elf_symbols import readable
from invivo.ir import types
from invivo.ir.layout import Layout
from invivo.ir.types import Type
from invivo.kernel.files import read_text
from invivo.record import Record, replace
from invivo.runtime.perf_map import PerfMap, open_perf_map
from invivo.runtime.seams import MapHandle, MappingRecords

_FIRST_SECONDS = 0.002  # a program's libraries are mapped within the first milliseconds
_LONGEST_SECONDS = 0.25
_URGENT_SECONDS = 0.02  # between looks at what has been mapped
_MOST_PROCESSES = 512
_VDSO = "[vdso]"
_OF_THE_KERNEL = (_VDSO, "[vsyscall]", "[uprobes]")
_JIT_SECONDS = 0.02  # between looks for a list of names
_MOST_OLDER = 256  # mappings of a process that are remembered
_REREAD_SECONDS = 0.1  # how often the mappings of a living process are read again for unknown addresses
# mov $15, %rax; syscall: rt_sigreturn(2), to which signal handlers return. Not by a call: the kernel says so.
_SIGNAL_RETURN = (bytes.fromhex("48c7c00f0000000f05"), bytes.fromhex("b80f0000000f05"))


class Mapping(Record):
    """An executable mapping: addresses [start, end) show the file from ``offset`` on."""

    start: int
    end: int
    offset: int
    file: tuple[str, int]  # device as "major:minor" in hexadecimal, inode: what identifies the file
    path: str

    @property
    def is_nameless(self) -> bool:
        """Whether it shows no file: code that was made at run time."""
        return not self.file[1] and self.path not in _OF_THE_KERNEL


def parse_maps(text: str) -> list[Mapping]:
    """Parse the executable mappings of ``/proc/PID/maps``, in order of their addresses."""
    found: list[Mapping] = []
    for line in text.splitlines():
        # 7f1c0a200000-7f1c0a3bd000 r-xp 00028000 fe:01 262307        /usr/lib/libc.so.6
        fields = line.split(None, 5)
        if len(fields) < 5 or "x" not in fields[1]:
            continue
        start, _, end = fields[0].partition("-")
        path = fields[5] if len(fields) == 6 else ""
        found.append(Mapping(int(start, 16), int(end, 16), int(fields[2], 16), (fields[3], int(fields[4])), path))
    return found


def _no_function(address: int) -> None:
    return None


class Binary:
    """An ELF file that is mapped by some process; its tables are read when the first name is wanted."""

    def __init__(self, data: Buffer, path: str) -> None:
        self.path = path
        self._data = data
        self._elf: Elf | None = None
        self._symbols: SymbolTable | None = None
        self._functions: Callable[[int], tuple[str, int] | None] | None = None
        self._bad = False

    def symbol(self, offset: int) -> tuple[str, int]:
        """Return name and distance of the function at a file offset; ("", 0) if there is none."""
        elf = self._opened()
        address = None if elf is None else elf.address(offset)
        if elf is None or address is None:
            return "", 0
        try:
            if self._symbols is None:
                self._symbols = elf.symbols()
            found = self._symbols.at(address)
            if found is not None:
                return found.name, address - found.address
            function = self._go_function(elf, address)
        except BadFileError:
            self._bad = True
            return "", 0
        return ("", 0) if function is None else (function[0], address - function[1])

    def _go_function(self, elf: Elf, address: int) -> tuple[str, int] | None:
        """A Go program's function and its start, by a table that is there when the symbols have been stripped."""
        if self._functions is None:
            self._functions = _no_function
            if elf.is_go:
                from invivo.formats.go_functions import go_functions

                found = go_functions(elf)
                if found is not None:
                    self._functions = found.at
        return self._functions(address)

    def caller(self, offset: int) -> tuple[str, int]:
        """As `symbol`, for an offset that a call returns to: if nothing follows the call, it is still its function."""
        found = self.symbol(offset)
        if (found[0] and found[1]) or self.returns_from_signal(offset):
            return found
        name, distance = self.symbol(offset - 1)
        return (name, distance + 1) if name else found

    def returns_from_signal(self, offset: int) -> bool:
        """Whether this is where a signal's handler returns to: what comes next on the stack was interrupted there."""
        return any(bytes(self._data[offset : offset + len(code)]) == code for code in _SIGNAL_RETURN)

    def build_id(self) -> str:
        """Return the build id as hexadecimal digits, "" if there is none."""
        elf = self._opened()
        try:
            return "" if elf is None else elf.build_id or ""
        except BadFileError:
            return ""

    def elf(self) -> Elf | None:
        """Return the file's reader; None if it is no ELF file."""
        return self._opened()

    def _opened(self) -> Elf | None:
        if self._elf is None and not self._bad:
            try:
                self._elf = Elf(self._data, self.path)
                if self._elf.is_stripped:
                    from invivo.probes.debug_files import symbol_file

                    companion = symbol_file(self._elf)
                    if companion is not None:
                        self._elf.complete(companion)
            except BadFileError:
                self._bad = True  # mapped, executable, and no ELF file: a JIT's cache
        return None if self._bad else self._elf


class _Process:
    """The mappings of one process, as last seen."""

    def __init__(self) -> None:
        self.mappings: list[Mapping] = []
        self.starts: list[int] = []
        self.older: list[Mapping] = []  # what it had mapped before, the newest first
        self.frames: dict[int, Frame] = {}
        self.callers: dict[int, Frame] = {}  # of addresses that calls return to, where it makes a difference
        self.signals: set[int] = set()  # addresses that handlers of signals return to
        self.read_at = -_REREAD_SECONDS
        self.is_watched = False  # its mappings are told as they come
        self.perf_map: PerfMap | None = None

    def replace(self, mappings: list[Mapping]) -> None:
        """Take other mappings; the old ones are remembered: addresses that were there may be asked for later."""
        if self.mappings:
            kept = set(mappings)
            gone = [each for each in self.mappings if each not in kept]
            self.older = [*gone, *self.older][:_MOST_OLDER]
        self.mappings = mappings
        self.starts = [mapping.start for mapping in mappings]
        self.frames = {}
        self.callers = {}
        self.signals = set()

    def add(self, mapping: Mapping) -> None:
        """Take a mapping more; of those that were there what sticks out stays."""
        kept = [mapping]
        for each in self.mappings:
            if each.start < mapping.start:
                kept.append(replace(each, end=min(each.end, mapping.start)))
            if each.end > mapping.end:
                start = max(each.start, mapping.end)
                kept.append(replace(each, start=start, offset=each.offset + start - each.start))
        self.replace(sorted(kept, key=_start))

    def at(self, address: int) -> Mapping | None:
        index = bisect_right(self.starts, address) - 1
        if index >= 0 and address < self.mappings[index].end:
            return self.mappings[index]
        return next((each for each in self.older if each.start <= address < each.end), None)


def _start(mapping: Mapping) -> int:
    return mapping.start


class InterpretedNames(Protocol):
    """Who is told where processes have an interpreter, and names its frames: `runtime.interpreted.Interpreted`."""

    def mapped(self, tgid: int, mapping: Mapping, binary: Binary | None) -> None: ...

    def forked(self, tgid: int, parent: int) -> None: ...

    def executed(self, tgid: int) -> None: ...

    def frames(self, tgid: int, words: Sequence[int]) -> tuple[Frame, ...]: ...


class UserSymbols:
    """Names the addresses of processes, also of those that have ended since."""

    def __init__(self, *, demangles: bool = True) -> None:
        """``demangles``: show the names of C++ as its programs have them."""
        self._demangles = demangles
        self._processes: dict[int, _Process] = {}
        self._binaries: dict[tuple[str, int], Binary | None] = {}
        self._news: Callable[[], None] | None = None
        self._jits: set[int] = set()  # have code of no file, and no list of names for it yet
        self._jits_due = 0.0
        self._vdso: Binary | None = None
        self._interpreted: tuple[InterpretedNames, ...] = ()

    def interpret(self, interpreted: tuple[InterpretedNames, ...]) -> None:
        """Tell these what processes map from now on, too."""
        self._interpreted = interpreted

    def watch(self, news: Callable[[], None] | None) -> None:
        """``news`` tells what has been mapped since (by `mapped`, `forked`, `executed`): asked for before names are."""
        self._news = news

    def catch_up(self) -> None:
        """Ask for the news."""
        if self._news is not None:
            self._news()
        if self._jits and time.monotonic() >= self._jits_due:
            self._jits_due = time.monotonic() + _JIT_SECONDS
            for tgid in tuple(self._jits):
                opened = self._processes[tgid].perf_map = open_perf_map(tgid)
                if opened is not None or not os.path.exists(f"/proc/{tgid}"):
                    self._jits.discard(tgid)

    def mapped(self, tgid: int, mapping: Mapping) -> None:
        """A process has mapped a file; it is opened as long as it can be had."""
        process = self._processes.setdefault(tgid, _Process())
        process.is_watched = True
        process.add(mapping)
        self._find(tgid, process, mapping)

    def forked(self, tgid: int, parent: int) -> None:
        """A process has what its parent has mapped."""
        for each in self._interpreted:
            each.forked(tgid, parent)
        known = self._processes.get(parent)
        if known is None or tgid == parent:
            return
        process = self._processes[tgid] = _Process()  # the number may have been another one's
        process.is_watched = known.is_watched
        process.replace(list(known.mappings))

    def executed(self, tgid: int) -> None:
        """A process has become another program."""
        for each in self._interpreted:
            each.executed(tgid)
        process = self._processes.setdefault(tgid, _Process())
        process.is_watched = True
        process.replace([])

    def close(self) -> None:
        """Let go of the files: each holds a mapping and a descriptor."""
        self._binaries.clear()
        self._news = None
        for process in self._processes.values():
            if process.perf_map is not None:
                process.perf_map.close()

    def observe(self, tgids: Iterable[int]) -> None:
        """Record the mappings of processes, and open the files, as long as both can be had."""
        for tgid in tgids:
            process = self._processes.setdefault(tgid, _Process())
            if self._read(tgid, process):
                for mapping in process.mappings:
                    self._find(tgid, process, mapping)

    def frames(self, tgid: int, addresses: Sequence[int]) -> tuple[Frame, ...]:
        """Return a frame for each address of a stack, the innermost first; without a symbol where none is known.

        All but the first are those that calls return to, except for what a signal has interrupted.
        """
        self.catch_up()
        process = self._processes.get(tgid)
        if process is None:
            process = self._processes[tgid] = _Process()
        known = process.frames
        found = [known.get(address) or self._frame(tgid, process, address) for address in addresses]
        for place in range(1, len(found)):
            frame = found[place]
            if not (frame.symbol and frame.offset) and addresses[place - 1] not in process.signals:
                found[place] = process.callers.get(frame.address) or self._caller(tgid, process, frame)
        return tuple(found)

    def _caller(self, tgid: int, process: _Process, frame: Frame) -> Frame:
        """A frame whose address is at the start of a function, or outside: where a call returns to."""
        mapping = process.at(frame.address - 1)
        if mapping is None:
            return frame
        symbol, offset, in_file, module = "", 0, frame.address - mapping.start + mapping.offset, mapping.path
        if mapping.is_nameless:
            if process.perf_map is not None:
                symbol, offset = process.perf_map.name(frame.address - 1)
                offset, in_file, module = offset + 1, 0, process.perf_map.path
        else:
            binary = self._binary(tgid, mapping)
            if binary is not None:
                symbol, offset = binary.caller(in_file)
                if binary.returns_from_signal(in_file):
                    process.signals.add(frame.address)
        if not symbol:
            if not mapping.is_nameless:  # a file's symbols stay as they are
                process.callers[frame.address] = frame
            return frame
        if self._demangles:
            symbol = readable(symbol)
        found = process.callers[frame.address] = Frame(frame.address, symbol, offset, module, in_file)
        return found

    def _frame(self, tgid: int, process: _Process, address: int) -> Frame:
        mapping = process.at(address)
        if mapping is None and self._is_due(process) and self._read(tgid, process):
            mapping = process.at(address)
        if mapping is None:
            return Frame(address, "", 0, "")
        in_file = address - mapping.start + mapping.offset
        if mapping.is_nameless:
            symbol, offset = process.perf_map.name(address) if process.perf_map is not None else ("", 0)
            if symbol and process.perf_map is not None:
                return Frame(address, symbol, offset, process.perf_map.path)
            return Frame(address, "", in_file if mapping.path else 0, mapping.path)
        binary = self._binary(tgid, mapping)
        symbol, offset = ("", 0) if binary is None else binary.symbol(in_file)
        if self._demangles:
            symbol = readable(symbol)
        frame = Frame(address, symbol, offset if symbol else in_file, mapping.path, in_file)
        process.frames[address] = frame
        return frame

    def build_id_frames(self, tgid: int, addresses: Sequence[int]) -> tuple[Frame, ...]:
        """Return frames whose module is the file's build id and whose address is the file offset."""
        frames: list[Frame] = []
        for frame in self.frames(tgid, addresses):
            mapping = self._processes[tgid].at(frame.address)
            binary = None if mapping is None else self._binary(tgid, mapping)
            if mapping is None or binary is None:
                frames.append(frame)
                continue
            offset = frame.address - mapping.start + mapping.offset
            frames.append(Frame(offset, frame.symbol, frame.offset, binary.build_id()))
        return tuple(frames)

    def _is_due(self, process: _Process) -> bool:
        return not process.is_watched and time.monotonic() - process.read_at >= _REREAD_SECONDS

    def _read(self, tgid: int, process: _Process) -> bool:
        """Read a process's mappings again. False: it has ended (a zombie has none), the old ones stay."""
        process.read_at = time.monotonic()
        try:
            text = read_text(f"/proc/{tgid}/maps")
        except OSError:
            return False
        mappings = parse_maps(text)
        if not mappings:
            return False
        if mappings != process.mappings:
            process.replace(mappings)
        return True

    def _find(self, tgid: int, process: _Process, mapping: Mapping) -> None:
        """Take hold of what names the addresses of a mapping, as long as it can be had."""
        if mapping.is_nameless:
            if process.perf_map is None:
                self._jits.add(tgid)
        else:
            binary = self._binary(tgid, mapping)
            for each in self._interpreted:
                each.mapped(tgid, mapping, binary)

    def _binary(self, tgid: int, mapping: Mapping) -> Binary | None:
        if mapping.path == _VDSO:
            if self._vdso is None:
                self._vdso = Binary(own_vdso(), _VDSO)
            return self._vdso
        if mapping.file not in self._binaries or (self._binaries[mapping.file] is None and mapping.file[1]):
            self._binaries[mapping.file] = _open_binary(tgid, mapping) if mapping.file[1] else None
        return self._binaries[mapping.file]


def own_vdso() -> bytes:
    """Return the kernel's own code in this process, an ELF file: the same in all 64-bit ones."""
    try:
        place = next(each for each in parse_maps(read_text("/proc/self/maps")) if each.path == _VDSO)
        with open("/proc/self/mem", "rb", buffering=0) as memory:
            memory.seek(place.start)
            return memory.read(place.end - place.start)
    except (OSError, StopIteration):
        return b""


def _open_binary(tgid: int, mapping: Mapping) -> Binary | None:
    data = map_file(tgid, mapping)
    return None if data is None else Binary(data, mapping.path)


def map_file(tgid: int, mapping: Mapping) -> mmap.mmap | None:
    """Map the very file that a process has mapped; by its path only if that still is the same file."""
    exact = f"/proc/{tgid}/map_files/{mapping.start:x}-{mapping.end:x}"
    for path, is_exact in ((exact, True), (f"/proc/{tgid}/root{mapping.path}", True), (mapping.path, False)):
        try:
            fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
        except OSError:
            continue
        try:
            if is_exact or os.fstat(fd).st_ino == mapping.file[1]:
                return mmap.mmap(fd, 0, prot=mmap.PROT_READ)
        except (OSError, ValueError):
            continue
        finally:
            os.close(fd)
    return None


class Observed(Protocol):
    def observe(self, tgids: Iterable[int]) -> None: ...

    def watch(self, records: MappingRecords) -> None: ...

    def catch_up(self) -> None: ...


class Observer:
    """Looks at the processes of a session, often at first, then seldom."""

    def __init__(self, names: Observed, scope: MapHandle | None, is_needed: bool, *, is_urgent: bool = False) -> None:
        """``is_urgent``: programs wait for what is seen."""
        self._is_urgent = is_urgent
        self._names = names
        self._scope = scope
        self._is_needed = is_needed
        self._followed: list[int] = []
        self._gap = _FIRST_SECONDS
        self._next = 0.0
        self._records: MappingRecords | None = None

    def watch(self, records: MappingRecords | None) -> None:
        """Have mappings told as they come, so that the processes need not be looked at again and again."""
        self._records = records
        if records is not None:
            self._names.watch(records)

    def close(self) -> None:
        """Stop watching. Twice does no harm."""
        records, self._records = self._records, None
        if records is not None:
            records.close()

    def follow(self, tgid: int) -> None:
        """Add a process; it is looked at soon."""
        self._followed.append(tgid)
        self._gap = _FIRST_SECONDS
        if self._is_needed:
            self._names.observe((tgid,))
        self._next = time.monotonic() + self._gap

    def look(self) -> None:
        """Record the mappings, if it is time."""
        if not self._is_needed or time.monotonic() < self._next:
            return
        if self._records is not None:
            self._names.catch_up()
            self._next = time.monotonic() + _FIRST_SECONDS
            return
        if not self._followed:
            return
        tgids = dict.fromkeys(self._followed)
        if self._scope is not None:
            tgids |= dict.fromkeys(int.from_bytes(key, "little") for key, _ in self._scope.read_all())
        self._names.observe(list(tgids)[:_MOST_PROCESSES])
        self._gap = min(self._gap * 2, _LONGEST_SECONDS)
        self._next = time.monotonic() + self._gap

    def next_seconds(self) -> float:
        """Return in how many seconds the next look is due."""
        if not self._is_needed or (self._records is not None and not self._is_urgent):
            return float("inf")
        if self._records is not None:
            return _URGENT_SECONDS
        if not self._followed:
            return float("inf")
        return max(0.0, self._next - time.monotonic())


def shows_user_addresses(layout: Layout) -> bool:
    """Whether a program shows symbols of user space at all."""
    shown = [field.type for record in layout.records for field in record.fields]
    for each in layout.maps:
        shown += [*(each.key or ()), each.value]
    return any(map(_is_user_address, shown))


def _is_user_address(t: Type) -> bool:
    match t:
        case types.UserSymbol():
            return True
        case types.Stack(kernel, _, _):
            return not kernel
        case types.Array(element, _):
            return _is_user_address(element)
        case types.Tuple(elements) | types.NamedTuple(_, elements):
            return any(map(_is_user_address, elements))
        case _:
            return False
