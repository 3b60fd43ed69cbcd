"""Events of a session → a profile: a sink that writes when the session has ended."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence

from invivo.events import Attached, Complaint, Ended, Event, Frame, Loss, MapSnapshot, Stack, Value
from invivo.formats.rust_names import readable_rust
from invivo.formats.stacks.folded import is_python
from invivo.interpreters.record import find_interpreter
from invivo.ir.layout import LossKind
from invivo.output.losses import describe_loss
from invivo.output.sink import Stream
from invivo.output.terminal import display
from invivo.output.text import complaint_text
from invivo.profiling.mixing import mixed
from invivo.profiling.programs import BEGAN, COMM, KERNEL, MAP, PID, USER, WAKER, WAKER_KERNEL, WAKER_USER, Waits, kept
from invivo.profiling.waiting import Waiters
from invivo.record import Record
from invivo.stacks import SEPARATOR, TRUNCATED, FrameKind, Profile, ProfileBuilder, Quality

_FIRST_FUNCTIONS = frozenset(
    {"_start", "__libc_start_main", "__libc_start_main_impl", "__libc_start_call_main"}
    | {"start_thread", "clone", "clone3", "__clone", "__clone3", "_dl_start_user", "_dl_start", "__restore_rt"}
    | {
        "runtime.goexit",
        "runtime.goexit.abi0",
        "runtime.mcall",
        "runtime.mstart",
        "runtime.rt0_go",
        "runtime.rt0_go.abi0",
    }
)
_LIBC = ("libc.so", "libc-", "ld-linux", "ld-2", "libpthread", "ld-musl")
# Losses of whole events; the others make an event's stack shorter, or its names worse.
_MISSING = frozenset(
    kind.value for kind in (LossKind.RING_FULL, LossKind.MAP_FULL, LossKind.MAP_UPDATE, LossKind.SCRATCH_BUSY)
)
_INTERRUPTS = ("asm_sysvec_", "asm_common_interrupt", "common_interrupt")
_UNKNOWN = "[unknown]"
_MOST_SEEN = 1 << 16
_MOST_FRAMES = 127  # PERF_MAX_STACK_DEPTH, include/uapi/linux/perf_event.h


class Recipe(Record):
    """What the keys of the map mean (`programs.key_parts`), and what its values are ("samples", "us", "bytes" ...).

    ``progress``: whether it is told, on a line that is written over. ``seconds``: how long it will take, 0 if
    nobody knows.  ``divisor``: of the values.  ``lines``, ``inlined``: say the source's lines, and show what was
    inlined, where debug information tells.  ``waits``: threads that still wait at the end count until then.
    ``processes``: those whose threads may wait from before the recording on.
    ``by_tables``: user stacks were walked by tables, and know whether they are complete.
    """

    parts: tuple[str, ...]
    unit: str
    progress: bool = False
    seconds: float = 0
    divisor: int = 1
    lines: bool = False
    inlined: bool = False
    waits: Waits | None = None
    by_tables: bool = False
    processes: tuple[int, ...] = ()


class StackReader:
    """Events' stacks → indices of functions; what was seen is remembered by address and name."""

    def __init__(
        self, builder: ProfileBuilder, *, lines: bool = False, inlined: bool = False, by_tables: bool = False
    ) -> None:
        self._builder = builder
        self._lines = lines
        self._inlined = inlined
        self._by_tables = by_tables
        self._sources: Callable[[Frame, bool], list[tuple[str, str, int]]] | None = None
        self._told: dict[tuple[int, str, str, bool], list[int]] = {}
        self._known: dict[tuple[int, str, str], tuple[int, bool]] = {}
        self._seen: dict[int, tuple[int, bool, Frame]] = {}  # by the ids of frames: most stacks are made of the same
        self._truncated = builder.index(TRUNCATED.name, TRUNCATED.kind)

    def kernel(self, stack: Stack) -> tuple[list[int], bool]:
        """Return a kernel stack outermost first, and whether a frame has no name."""
        frames = stack.frames
        if frames and frames[0].symbol.startswith("__traceiter_"):
            frames = frames[1:]  # what calls the programs of a tracepoint
        pairs = [self._seen.get(id(frame)) or self._index(frame, kernel=True) for frame in reversed(frames)]
        return [pair[0] for pair in pairs], any(pair[1] for pair in pairs)

    def user(self, stack: Stack, interpreted: Sequence[Stack] = ()) -> tuple[list[int], bool, bool]:
        """Return a user stack outermost first, whether a frame has no name, and whether its beginning is missing.

        ``interpreted``: the frames of interpreted code of the same thread, which have their places in it.
        """
        frames = stack.frames
        if not frames:
            return [], False, False
        cut = self._is_cut(stack)
        inner = next((each for each in interpreted if each.frames), None)
        if inner is None:
            return self._native(frames, cut=cut)
        interpreter = find_interpreter(inner.interpreter)
        frames = tuple([each for each in frames if not is_python(each.symbol)])  # trampolines for perf, of the same
        placed = mixed(frames, inner.frames, interpreter.is_loop, complete=not cut)
        cut = cut and not (placed and placed[-1][1] and inner.complete)
        indices: list[int] = []
        nameless = False
        for place in range(len(placed) - 1, -1, -1):
            frame, is_interpreted = placed[place]
            if is_interpreted:
                indices.append(self._builder.index(interpreted_name(frame), interpreter.kind, frame.module))
                nameless = nameless or not frame.symbol
            else:
                found, _, _ = self._native((frame,), cut=False, innermost=not place)
                indices += found
                nameless = nameless or not frame.symbol
        return ([self._truncated, *indices] if cut else indices), nameless, cut

    def _native(self, frames: Sequence[Frame], *, cut: bool, innermost: bool = True) -> tuple[list[int], bool, bool]:
        if self._lines or self._inlined:
            indices = [
                index
                for place in range(len(frames) - 1, -1, -1)
                for index in self._source(frames[place], innermost and not place)
            ]
        else:
            seen = self._seen
            pairs = [seen.get(id(frame)) or self._index(frame, kernel=False) for frame in reversed(frames)]
            indices = [pair[0] for pair in pairs]
        return ([self._truncated, *indices] if cut else indices), not all(frame.symbol for frame in frames), cut

    def _is_cut(self, stack: Stack) -> bool:
        last = stack.frames[-1]
        if self._by_tables:
            return not stack.complete and not (last.symbol and is_first(last))
        return len(stack.frames) >= _MOST_FRAMES or not is_first(last)

    def _source(self, frame: Frame, innermost: bool) -> list[int]:
        """A frame as the source has it: its function, and what was inlined there."""
        key = frame.address, frame.symbol, frame.module, innermost
        found = self._told.get(key)
        if found is None:
            found = self._told[key] = self._from_source(frame, innermost)
        return found

    def _from_source(self, frame: Frame, innermost: bool) -> list[int]:
        if self._sources is None:
            from invivo.profiling.sources import Sources

            self._sources = Sources().frames
        told = self._sources(frame, innermost)
        if not told:
            return [self._index(frame, kernel=False)[0]]
        if not self._inlined:
            told = told[:1]
        indices: list[int] = []
        for place, (inlined, path, line) in enumerate(told):
            name = inlined if place else name_of(frame)
            if self._lines and line:
                name += f" ({path.rpartition('/')[2]}:{line})"
            indices.append(
                self._builder.index(name, FrameKind.INLINED if place else kind_of_frame(frame), frame.module)
            )
        return indices

    def waker(self, name: str, stacks: Sequence[Stack]) -> list[int]:
        """Return a waker's frames, innermost first, and its name: they stand upon the stack of what it wakes.

        What an interrupt has interrupted has nothing to do with it.
        """
        found: list[int] = []
        for stack in stacks:
            for frame in stack.frames:
                if frame.symbol.startswith(_INTERRUPTS):
                    return [*found, self._builder.index("[interrupt]", FrameKind.WAKER)]
                if not frame.symbol.startswith("__traceiter_"):
                    found.append(self._builder.index(name_of(frame), FrameKind.WAKER, frame.module))
        return [*found, self._builder.index(name, FrameKind.WAKER)]

    def _index(self, frame: Frame, *, kernel: bool) -> tuple[int, bool, Frame]:
        """The index of a frame's function, whether it has no name, and the frame: as long as it is kept, its id is."""
        key = frame.address if not frame.symbol else 0, frame.symbol, frame.module
        known = self._known.get(key)
        if known is None:
            kind = FrameKind.KERNEL if kernel else kind_of_frame(frame)
            known = self._known[key] = self._builder.index(name_of(frame), kind, frame.module), not frame.symbol
        if len(self._seen) >= _MOST_SEEN:
            self._seen.clear()
        found = self._seen[id(frame)] = (*known, frame)
        return found


def is_first(frame: Frame) -> bool:
    """Whether a frame is the first one of a thread, as far as one can tell.

    The C library's part of it has no name where its symbols are not installed.
    """
    if frame.symbol:
        return frame.symbol.partition("@")[0] in _FIRST_FUNCTIONS
    return frame.module.rpartition("/")[2].startswith(_LIBC)


def kind_of_frame(frame: Frame) -> FrameKind:
    """Return the kind of a frame of user space."""
    if is_python(frame.symbol):
        return FrameKind.PYTHON
    if frame.module.startswith("/tmp/perf-") and frame.module.endswith(".map"):
        return FrameKind.JIT
    return FrameKind.USER


def name_of(frame: Frame) -> str:
    """Return a frame's symbol, else ``[libfoo.so+0x1234]``: a file and the offset there, or that nothing is known."""
    if frame.symbol:
        return readable_rust(frame.symbol)
    if not frame.module:
        return _UNKNOWN
    return f"[{frame.module.rpartition('/')[2]}+{frame.offset:#x}]" if frame.offset else f"[{frame.module}]"


def interpreted_name(frame: Frame) -> str:
    """Return what a function of interpreted code is called: ``run (job.py:12)``, with its first line."""
    file = frame.module.rpartition("/")[2]
    return f"{frame.symbol} ({file}:{frame.offset})" if frame.symbol else _UNKNOWN


class Recorder:
    """A sink: collects stacks, tells the progress on ``errors``, and has the profile written at the end."""

    def __init__(
        self,
        recipe: Recipe,
        errors: Stream,
        write: Callable[[Profile], None],
        show: Callable[[Profile, float], None] | None,
    ) -> None:
        """``write`` gets the whole profile at the end, ``show`` what came since the last look, if it is to be seen."""
        self._recipe = recipe
        self._errors = errors
        self._write = write
        self._show = show
        self._builder = ProfileBuilder(recipe.unit)
        self._stacks = StackReader(
            self._builder, lines=recipe.lines, inlined=recipe.inlined, by_tables=recipe.by_tables
        )
        self._quality = _Tally()
        self._began = time.monotonic()
        self._told = ""
        self._warned: set[tuple[str, str]] = set()
        self._done = False
        self._left: dict[str, dict[Value, Value]] = {}
        self._waiters = Waiters(())

    def open(self) -> None:
        """Nothing is written before the end."""

    def event(self, event: Event) -> None:
        match event:
            case Attached():
                self._began = time.monotonic()
                self._waiters = Waiters(self._recipe.processes)
            case MapSnapshot(name, _, _, entries, at_end) if name == MAP:
                self._take(entries)
                if not at_end:
                    self._progress()
            case Loss(kind, subject, count, _):
                if kind in _MISSING:
                    self._quality.lost += count
                    if (kind, subject) not in self._warned:
                        self._warned.add((kind, subject))
                        self._clear_line()
                        self._say(f"warning: {describe_loss(kind, subject, count, display)} (told once)\n")
            case Complaint():
                self._say(complaint_text(event, display))
            case MapSnapshot(name, _, _, entries, True) if self._recipe.waits is not None:
                self._left[name] = {key[0]: value for key, value in entries if key is not None}
            case Ended(reason, _, losses):
                self._take_left()
                self._take_waiting()
                for kind, subject, count in losses:
                    if kind not in _MISSING:
                        self._quality.remarks.append(describe_loss(kind, subject, count, str))
                if reason == "process":
                    self._quality.remarks.append("the process has ended")
            case _:
                pass

    def events(self, events: Sequence[Event]) -> None:
        for event in events:
            self.event(event)

    def flush(self) -> None:
        """Nothing is held back that could be shown."""

    def close(self) -> None:
        if not self._done:
            self._done = True
            self._clear_line()
            self._write(self.profile())

    def profile(self) -> Profile:
        """Return what there is so far."""
        return self._builder.build(self._quality.frozen())

    def _take(self, entries: Sequence[tuple[tuple[Value, ...] | None, Value]]) -> None:
        interval = ProfileBuilder(self._recipe.unit) if self._show is not None else None
        tally = _Tally()
        for key, value in entries:
            if key is None or not isinstance(value, int) or value <= 0:
                continue
            stack, truncated, nameless = self._read(dict(zip(self._recipe.parts, key, strict=True)))
            value = round(value / self._recipe.divisor)
            self._builder.add(stack, value)
            if interval is not None:
                interval.add(stack, value)
                tally.add(value, truncated=truncated, nameless=nameless)
            self._quality.add(value, truncated=truncated, nameless=nameless)
        if interval is not None and self._show is not None:
            whole = self._builder.build()
            latest = interval.build(tally.frozen())
            seconds = time.monotonic() - self._began
            self._show(Profile(whole.functions, latest.stacks, latest.unit, latest.quality), seconds)

    def _take_left(self) -> None:
        """Count the waits that have not ended."""
        waits, began = self._recipe.waits, self._left.get(BEGAN, {})
        if waits is None or not began:
            return
        now_ns = time.clock_gettime_ns(time.CLOCK_BOOTTIME)
        count = 0
        names = {part: _LEFT.get(part, kept(part)) for part in self._recipe.parts}
        entries: list[tuple[tuple[Value, ...] | None, Value]] = []
        for tid, start in began.items():
            waited = now_ns - start if isinstance(start, int) else 0
            if waited < waits.least_ns or (waits.most_ns and waited > waits.most_ns):
                continue
            fields = {part: self._left.get(name, {}).get(tid) for part, name in names.items()} | {"tid": tid}
            entries.append((tuple([fields[part] for part in self._recipe.parts]), waited))
            count += 1
        self._take(entries)
        if count:
            self._quality.remarks.append(f"{count} waits had not ended, and count until then")

    def _take_waiting(self) -> None:
        """Count the threads that have waited all the time."""
        waits = self._recipe.waits
        waited = round(1e9 * (time.monotonic() - self._began))
        if waits is None or waited < waits.least_ns or (waits.most_ns and waited > waits.most_ns):
            return
        entries: list[tuple[tuple[Value, ...] | None, Value]] = []
        for each in self._waiters.still():
            if each.state in waits.states:
                fields: dict[str, Value] = {"comm": each.comm, "pid": each.pid, "tid": each.tid}
                fields |= {"kstack": each.kernel, "ustack": each.user}
                entries.append((tuple([fields.get(part) for part in self._recipe.parts]), waited))
        self._take(entries)
        if entries:
            self._quality.remarks.append(f"{len(entries)} threads waited from before the recording on")

    def _read(self, fields: dict[str, Value]) -> tuple[tuple[int, ...], bool, bool]:
        """The fields of a key of the map → a stack, whether its beginning is missing, whether a frame has no name."""
        stack = [self._builder.index(_process(fields), FrameKind.PROCESS)]
        truncated = nameless = False
        user, kernel = fields.get("ustack"), fields.get("kstack")
        if isinstance(user, Stack):
            interpreted = [each for each in fields.values() if isinstance(each, Stack) and each.interpreter]
            indices, nameless, truncated = self._stacks.user(user, interpreted)
            stack += indices
        if isinstance(kernel, Stack):
            indices, unknown = self._stacks.kernel(kernel)
            stack += indices
            nameless = nameless or unknown
        if fields.get("waker"):
            wakers = [each for part in ("waker_kstack", "waker_ustack") if isinstance(each := fields.get(part), Stack)]
            stack.append(self._builder.index(SEPARATOR.name, SEPARATOR.kind))
            stack += self._stacks.waker(str(fields["waker"]), wakers)
        return tuple(stack), truncated, nameless

    # -- progress ------------------------------------------------------------------------------

    def _progress(self) -> None:
        if not self._recipe.progress or self._show is not None:
            return
        passed = time.monotonic() - self._began
        limit = f" of {self._recipe.seconds:g}" if self._recipe.seconds else ""
        text = f"{passed:.0f}{limit} s: {self._quality.weight:,} {self._recipe.unit}"
        self._say(f"\r{text}{' ' * (len(self._told) - len(text))}")
        self._told = text

    def _clear_line(self) -> None:
        if self._told:
            self._say(f"\r{' ' * len(self._told)}\r")
            self._told = ""

    def _say(self, text: str) -> None:
        self._errors.write(text.encode("utf-8", "backslashreplace"))
        self._errors.flush()


_LEFT = {
    **{"comm": COMM, "pid": PID, "kstack": KERNEL, "ustack": USER},
    **{"waker": WAKER, "waker_kstack": WAKER_KERNEL, "waker_ustack": WAKER_USER},
}


class _Tally:
    """How good the stacks are, counted as they come."""

    def __init__(self) -> None:
        self.weight = 0
        self.truncated = 0
        self.nameless = 0
        self.lost = 0
        self.remarks: list[str] = []

    def add(self, weight: int, *, truncated: bool, nameless: bool) -> None:
        self.weight += weight
        self.truncated += weight if truncated else 0
        self.nameless += weight if nameless else 0

    def frozen(self) -> Quality:
        return Quality(self.truncated, self.nameless, self.lost, tuple(self.remarks))


def _process(fields: dict[str, Value]) -> str:
    """``sh``, ``sh-123`` or ``sh-123/124``."""
    name, pid, tid = str(fields["comm"]), fields.get("pid"), fields.get("tid")
    if isinstance(tid, int):
        return f"{name}-{pid if isinstance(pid, int) else tid}/{tid}"
    return f"{name}-{pid}" if isinstance(pid, int) else name
