"""Names for numbers that programs send: symbols, users, cgroups, probes, times. All lazily."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from invivo.events import Frame
from invivo.ir.types import Clock
from invivo.kernel.kallsyms import Kallsyms
from invivo.runtime.cgroups import Cgroups
from invivo.runtime.clocks import time_pieces, wall_offset_ns
from invivo.runtime.seams import MappingRecords
from invivo.runtime.symbols import InterpretedNames, UserSymbols

# What comes next on a kernel stack has called nothing, it was interrupted: arch/x86/include/asm/idtentry.h.
_INTERRUPTS = "asm_"
# Put into the places of return addresses: a call does not precede them.
_TRAMPOLINES = frozenset({"arch_rethook_trampoline", "__kretprobe_trampoline", "return_to_handler"})


class SystemNames:
    """Names as the running system knows them; `runtime.decode.Names`."""

    def __init__(self, probes: Sequence[str], longest_string: int = 1024, *, demangles: bool = True) -> None:
        self.longest_string = longest_string
        self._demangles = demangles
        self._probes = probes
        self._kernel: dict[int, Frame] = {}
        self._callers: dict[int, Frame] = {}
        self._kallsyms: Kallsyms | None = None
        self._users: dict[int, str] = {}
        self._user_symbols: UserSymbols | None = None
        self._interpreted: Mapping[str, InterpretedNames] = {}
        self._cgroups = Cgroups()
        self._wall: dict[Clock, int] = {}
        self._seconds: dict[str, tuple[int, list[str]]] = {}  # of each form of time: the last second, around its parts

    def close(self) -> None:
        """Give back what was opened to ask it: a BPF program, the files that processes map."""
        if self._kallsyms is not None:
            self._kallsyms.close()
        if self._user_symbols is not None:
            self._user_symbols.close()

    def kernel_frames(self, addresses: Sequence[int]) -> tuple[Frame, ...]:
        known = self._kernel
        missing = [address for address in addresses if address not in known]
        if missing:
            if self._kallsyms is None:
                self._kallsyms = Kallsyms()
            for address, (symbol, offset, module) in zip(missing, self._kallsyms.names(missing), strict=True):
                known[address] = Frame(address, symbol, offset, module or ("[kernel]" if symbol else ""))
        found = [known[address] for address in addresses]
        for place in range(1, len(found)):
            frame = found[place]
            if not frame.offset and frame.symbol and not found[place - 1].symbol.startswith(_INTERRUPTS):
                found[place] = self._callers.get(frame.address) or self._caller(frame)
        return tuple(found)

    def _caller(self, frame: Frame) -> Frame:
        """A frame at the start of a function: where the last call of the one before would return to."""
        assert self._kallsyms is not None
        ((symbol, offset, module),) = self._kallsyms.names([frame.address - 1])
        if symbol and frame.symbol not in _TRAMPOLINES:
            frame = Frame(frame.address, symbol, offset + 1, module or "[kernel]")
        self._callers[frame.address] = frame
        return frame

    def user_frames(self, tgid: int, addresses: Sequence[int]) -> tuple[Frame, ...]:
        return self._symbols().frames(tgid, addresses)

    def build_id_frames(self, tgid: int, addresses: Sequence[int]) -> tuple[Frame, ...]:
        return self._symbols().build_id_frames(tgid, addresses)

    def interpreted_frames(self, interpreter: str, tgid: int, words: Sequence[int]) -> tuple[Frame, ...]:
        known = self._interpreted.get(interpreter)
        return () if known is None else known.frames(tgid, words)

    def interpret(self, interpreted: Mapping[str, InterpretedNames]) -> None:
        """Have interpreters told what processes map, and asked for the names of their frames."""
        self._interpreted = interpreted
        self._symbols().interpret(tuple(interpreted.values()))

    def observe(self, tgids: Iterable[int]) -> None:
        """Record the mappings of living processes, so that their addresses have names later."""
        self._symbols().observe(tgids)

    def watch(self, records: MappingRecords) -> None:
        """Have the mappings told by records, which are read when names are asked for."""
        from invivo.runtime.mappings import apply

        symbols = self._symbols()
        symbols.watch(lambda: apply(records, symbols))

    def catch_up(self) -> None:
        """Take in what has been mapped."""
        self._symbols().catch_up()

    def probe(self, index: int) -> str:
        return self._probes[index] if index < len(self._probes) else ""

    def username(self, uid: int) -> str:
        """Return the user's name; the number as text if there is none."""
        name = self._users.get(uid)
        if name is None:
            import pwd  # only where user names are shown

            try:
                name = pwd.getpwuid(uid & 0xFFFFFFFF).pw_name
            except (KeyError, OverflowError):
                name = str(uid)
            self._users[uid] = name
        return name

    def cgroup_path(self, cgroup: int, pattern: str) -> str:
        return self._cgroups.path(cgroup, pattern)

    def wall_time(self, time_ns: int, form: str, clock: Clock) -> str:
        offset_ns = self._wall.get(clock)
        if offset_ns is None:
            offset_ns = self._wall[clock] = wall_offset_ns(clock)
        seconds, rest_ns = divmod(time_ns + offset_ns, 10**9)
        known = self._seconds.get(form)
        if known is None or known[0] != seconds:
            known = self._seconds[form] = seconds, time_pieces(form, seconds)
        return f"{rest_ns // 1000:06}".join(known[1])

    def _symbols(self) -> UserSymbols:
        if self._user_symbols is None:
            self._user_symbols = UserSymbols(demangles=self._demangles)
        return self._user_symbols
