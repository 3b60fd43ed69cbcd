"""A running trace: load, attach, run, detach; an iterator of events."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from itertools import chain
from types import TracebackType

from invivo.events import Attached, Ended, Event, MapSnapshot
from invivo.image import Image, ProgramImage
from invivo.ir.layout import INTERPRETER_MAPS, LOSSES_MAP, RING_MAP, SCOPE_MAP, UNWIND_MAP, WAKE_MAP, Exit, Layout
from invivo.probes.provider import Role
from invivo.record import Record
from invivo.runtime.actions import Actions
from invivo.runtime.cgroups import find_cgroup, members
from invivo.runtime.load import Loaded, close_all, in_attach_order, load, raise_file_limit
from invivo.runtime.losses import LossWatch
from invivo.runtime.machine import RunningKernel
from invivo.runtime.mapread import MapReader
from invivo.runtime.names import SystemNames
from invivo.runtime.process import Child, Watch, descendants
from invivo.runtime.records import record_positions
from invivo.runtime.seams import Closeable, Kernel, ProgramHandle, RingHandle, StackTables, WindowReader
from invivo.runtime.symbols import Observer, shows_user_addresses
from invivo.runtime.trials import Trial
from invivo.runtime.waiting import Signals, Sleeper
from invivo.runtime.walk import Walk
from invivo.values import LineForm, ValueText

_WINDOW_RECORDS = 4096  # of the ring at a time: what is in the events of a window bounds our memory
_WINDOW_BYTES = 1 << 18, 1 << 22  # least and greatest size of a window
_BUSY_SECONDS = 0.004  # between looks at the ring while records come
_RUSHED_SECONDS = 0.001  # the same if much comes: an eighth of the ring at one look
_IDLE_AFTER_SECONDS = 0.02  # without a record: then the next one is asked for a wakeup
_IDLE_SECONDS = 0.5  # the longest sleep
_PAIR_SECONDS = 0.0005  # for a clear() to follow its print(), each time
_PAIR_LOOKS = 200  # a program may be interrupted between the two, with the CPU of a virtual machine for long
_STRAGGLER_LOOKS = 20  # for records that were reserved when their program was detached


class SessionOptions(Record):
    """How a session runs.

    ``bpftrace``: the neighbour's meaning of formats and of begin-only programs with a command.
    ``lines``: many prints in a row may come as one `PrintedText` in the form of an output, which is faster.
    ``tables``: what is printed comes as `RecordTables`.
    ``escape`` is applied to the traced system's text in formatted output (for a terminal).
    ``signals``: SIGINT and SIGTERM end the session cleanly, the second one at once.
    ``dry_run``: attach and do no more.  ``follow``: with a pid, its children count too.
    ``watches_all``: if neither a command nor a process nor a group is traced, the mappings of all processes are
    recorded as they come.  ``cgroup``: only its processes count, if the program was compiled for `Scope.CGROUP`.
    """

    bpftrace: bool = False
    follow: bool = False
    cgroup: str = ""
    watches_all: bool = False
    dry_run: bool = False
    signals: bool = True
    lines: Callable[[ValueText], LineForm] | None = None
    tables: bool = False
    escape: Callable[[str], str] | None = None
    log_level: int = 0  # of the verifier; `Session.logs` has the texts


class Session:
    """A program in the kernel. A context manager, and an iterator of events until it has ended.

    Entering loads and attaches everything and starts the command; leaving closes everything and
    ends the command if it still runs.  ``maps`` and ``status`` stay readable.  Raises
    `InvivoError` from entering; nothing stays behind then.
    """

    def __init__(
        self,
        image: Image,
        *,
        child: Child | None = None,
        pid: int | None = None,
        options: SessionOptions | None = None,
        kernel: Kernel | None = None,
    ) -> None:
        self.image = image
        self.options = options or SessionOptions()
        self.maps: dict[str, MapSnapshot] = {}
        self.status = 0
        self.reason: str | None = None
        self._child = child
        self._pid = pid
        self._kernel: Kernel = kernel or RunningKernel(self.options.log_level)
        self._watch: Watch | None = None
        self._loaded: Loaded | None = None
        self._links: list[Closeable] = []
        self._walks: list[Walk] = []
        self.pinned: list[str] = []  # paths of what stays
        self._readers: dict[str, MapReader] = {}
        self._ring: RingHandle | None = None
        self._reader: WindowReader | None = None
        least, most = _WINDOW_BYTES
        self._rush_bytes = 0
        self._window_bytes = max(least, min(most, _WINDOW_RECORDS * image.layout.stride))
        layout = image.layout
        self._names = SystemNames(layout.probes, layout.settings.max_strlen, demangles=layout.settings.cpp_demangle)
        self._losses = LossWatch((), None)
        self._observer = Observer(self._names, None, False)
        self._unwinder: StackTables | None = None
        self._named: tuple[int, ...] = ()  # processes whose names are wanted from the beginning
        self._signals = Signals()
        self._exit_code: int | None = None
        self._closed = False
        self._ended = False

    # -- life ----------------------------------------------------------------------------------

    def __enter__(self) -> Session:
        try:
            self.load()
            self.attach()
            if not self.options.dry_run:
                self.start()
        except BaseException:
            self._ended = True  # a last look at the maps could fail as well, and hide why this failed
            self.close()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def load(self) -> None:
        """Create the maps and load the programs."""
        if self.options.signals:
            self._signals.install()
        if self._pid is not None:
            self._watch = Watch(self._pid)
        image, kernel = self.image, self._kernel
        loaded = self._loaded = load(
            image,
            kernel,
            child_pid=self._child.pid if self._child else 0,
            pid=next(iter(kernel.initial_pids([self._pid])), 0) if self._pid is not None else 0,
            scope=tuple(kernel.initial_pids(self._scope())),
            cgroup=find_cgroup(self.options.cgroup) if self.options.cgroup else (0, 0),
        )
        layout = image.layout
        cpus = kernel.possible_cpus
        for each in layout.maps:
            handle = loaded.maps[each.map]
            self._readers[each.name] = MapReader(each, handle, cpus, self._names, bpftrace=self.options.bpftrace)
        self._actions = self._actions_of(layout)
        if RING_MAP in loaded.maps and layout.stride:
            self._ring = kernel.open_ring(RING_MAP, WAKE_MAP if WAKE_MAP in loaded.maps else None, layout.stride)
            self._reader = self._ring
            self._rush_bytes = self._ring.size_bytes // 8
        self._sleeper = Sleeper(self._ring)
        losses = loaded.maps.get(LOSSES_MAP)
        self._losses = LossWatch(layout.losses, losses.memory() if losses else None)
        if shows_user_addresses(layout):
            self._named = members(self.options.cgroup) if self.options.cgroup else self._scope()
        if UNWIND_MAP in loaded.maps:
            from invivo.runtime.unwinding.following import Unwinder

            self._unwinder = Unwinder(loaded.maps, kernel)
            if self._child is not None:
                self._unwinder.expect(self._child.pid, self._child.path)
            else:
                for pid in self._named:
                    self._unwinder.follow(pid)
            self._unwinder.start()
        is_interpreted = any(name.startswith(INTERPRETER_MAPS) for name in loaded.maps)
        if is_interpreted:
            from invivo.runtime.interpreted import interpreted

            self._names.interpret(interpreted(loaded.maps))
            if self._pid is not None:
                self._names.observe(self._scope())
        self._observer = Observer(
            self._names, loaded.maps.get(SCOPE_MAP), shows_user_addresses(layout), is_urgent=is_interpreted
        )
        if shows_user_addresses(layout):
            everything = self.options.watches_all and not self._named and not self.options.cgroup
            self._observer.watch(kernel.watch_mappings(self._named, everything=everything))

    def _actions_of(self, layout: Layout) -> Actions:
        options = self.options
        text = ValueText(layout.settings.truncation_trailer, options.escape)
        return Actions(
            layout,
            self._readers,
            self._names,
            text,
            bpftrace=options.bpftrace,
            lines=options.lines(text) if options.lines is not None else None,
            tables=options.tables,
        )

    def logs(self) -> list[tuple[str, str]]:
        """Return the verifier's log of each program, if `SessionOptions.log_level` asked for it."""
        programs = self._loaded.programs if self._loaded is not None else ()
        return [(program.name, handle.log) for program, handle in programs]

    def attach(self) -> None:
        """Run the begin programs, then attach the others, invivo's own first."""
        assert self._loaded is not None
        events: list[tuple[ProgramImage, ProgramHandle]] = []
        iterators: list[tuple[ProgramImage, ProgramHandle]] = []
        self._end_programs: list[ProgramHandle] = []
        self._signal_programs: list[ProgramHandle] = []
        self._trials: list[tuple[ProgramImage, ProgramHandle]] = []
        self._lives = False
        begins: list[ProgramHandle] = []
        for program, handle in self._loaded.programs:
            match self._kernel.role(program.plan):
                case Role.BEGIN:
                    begins.append(handle)
                case Role.END:
                    self._end_programs.append(handle)
                case Role.ITERATOR:
                    iterators.append((program, handle))
                case Role.TEST | Role.BENCH:
                    self._trials.append((program, handle))
                case Role.SIGNAL:
                    self._signal_programs.append(handle)
                    self._lives = True
                case Role.EVENT | Role.WATCH | Role.TIMER:
                    events.append((program, handle))
                    self._lives = self._lives or program.order >= 0
        if self._signal_programs or (self.options.bpftrace and self.options.signals):
            self._signals.listen()  # bpftrace is not killed by a SIGUSR1 that no probe waits for
        for handle in begins:
            handle.run()
        if self._is_over_already():
            return
        raise_file_limit(sum(len(program.plan.points) for program, _ in events))
        for program, handle in in_attach_order(events):
            self._links += self._kernel.attach(program.plan, handle, self._subject(program))
        for program, handle in iterators:
            walks = self._kernel.attach(program.plan, handle, self._pid)
            self._links += walks
            if path := self._kernel.pinned(program.plan):
                self.pinned.append(path)
                continue  # whoever reads the file runs it
            self._walks.append(Walk(self._kernel, walks, self._signals.wake))

    def start(self) -> None:
        """Start the command."""
        if self._child is not None and not self._is_over_already():
            self._child.start()
        for pid in self._named:
            self._observer.follow(pid)
        for walk in self._walks:
            walk.start()

    def trials(self) -> Iterator[Trial]:
        """Run the tests or benchmarks, one after the other, in the order of the script."""
        for program, handle in self._trials:
            yield Trial(program.plan.points[0].name.partition(":")[2], handle, self._outcome, self._kernel.count_runs)

    def _outcome(self) -> tuple[list[Event], int]:
        """What a program has left in the ring, and the status that it has called exit() with."""
        events = list(chain.from_iterable(self._rest()))
        status, self._actions.exit_code = self._actions.exit_code or 0, None
        return events, status

    def stop(self, reason: str = "closed") -> None:
        """Let the session end; also from another thread."""
        self.reason = self.reason or reason
        self._signals.wake()

    def close(self) -> None:
        """Detach, take a last snapshot of the maps, close everything, end the command. Twice does no harm."""
        if self._closed:
            return
        self._closed = True
        try:
            for walk in self._walks:
                walk.join()
            close_all(self._links)
            if self._loaded is not None and not self._ended and self._readers:
                self._snapshot()
        finally:
            self._losses.release()
            self._observer.close()
            self._names.close()
            if self._unwinder is not None:
                self._unwinder.close()
            if self._ring is not None:
                self._ring.close()
            if self._loaded is not None:
                close_all(self._loaded.opened)
            if self._watch is not None:
                self._watch.close()
            if self._child is not None:
                self._child.close(at_once=self._signals.received > 1)
            self._signals.close()

    # -- events --------------------------------------------------------------------------------

    def __iter__(self) -> Iterator[Event]:
        return chain.from_iterable(self.batches())

    def batches(self) -> Iterator[list[Event]]:
        """Yield events as they come, those of one look at the ring together: the moment to flush an output."""
        if self.options.dry_run or self._closed:
            return
        yield [Attached(sum(len(program.plan.points) for program in self.image.programs if program.order >= 0))]
        yield from self._run()
        yield from self._finish()

    def _run(self) -> Iterator[list[Event]]:
        """Drain until there is a reason to end."""
        for fd in self._descriptors():
            self._sleeper.watch(fd)
        last_record = time.monotonic()
        while self.reason is None and not self._closed:
            ending = self._ending()
            while self._signals.asked:
                self._signals.asked -= 1
                for program in self._signal_programs:
                    program.run()
            events, size = self._drain()
            if events:
                yield events
            if self._actions.exit_code is not None:
                self._exit_code = self._actions.exit_code
                self.reason = "exit"
            elif ending is not None:
                self.reason = self.reason or ending  # what is still in the ring is read after detaching
            elif size < self._window_bytes // 2 and (self._reader is self._ring or not self._is_behind()):
                now = time.monotonic()
                if size:
                    last_record = now
                self._sleep(now - last_record, size)

    def _finish(self) -> Iterator[list[Event]]:
        """Detach, run the end programs, and read what is left."""
        if self._closed:
            return
        close_all(self._links)
        if self._exit_code is not None:
            self._discard()
        else:
            yield from self._rest()
        self._actions.exit_code = None
        if self._signals.received < 2:
            for program in self._end_programs:
                program.run()
            yield from self._rest()
        if self._exit_code is None:
            self._exit_code = self._actions.exit_code
        last = self._losses.news()
        snapshots = self._snapshot()
        self.status = self._final_status()
        self._ended = True
        printed = snapshots if self.image.layout.settings.print_maps_on_exit else []
        yield [*last, *printed, Ended(self.reason or "closed", self.status, self._losses.totals())]

    def _drain(self) -> tuple[list[Event], int]:
        """Handle one window of the ring; return the events, and how many bytes there were."""
        ring = self._reader
        events: list[Event] = []
        size = 0
        if ring is not None:
            window = ring.window(self._window_bytes)
            if self._actions.wants_speed(len(window)):
                ring = self._speed_up()
                window = ring.window(self._window_bytes)
            size = len(window)
            looks = 0
            while size and looks < _PAIR_LOOKS and self._actions.wants_more(window):
                time.sleep(_PAIR_SECONDS)
                window = ring.window(self._window_bytes)
                size = len(window)
                looks += 1
            if size:
                events = self._actions.handle(window)
                while self._actions.unwatched:
                    self._kernel.unwatch(self._actions.unwatched.pop())
                for event in events if self._readers else ():  # a look at each event has its price
                    if type(event) is MapSnapshot:
                        self.maps[event.name] = event
                ring.release(size)
        events += self._losses.news()
        return events, size

    def _speed_up(self) -> WindowReader:
        """Make the fast way ready; return what is read from then on."""
        assert self._ring is not None
        if self._actions.pairs_records:  # which must not be torn apart
            self._actions.speed_up()
            return self._ring
        from invivo.runtime.backlog import Backlog

        self._reader = backlog = Backlog(self._ring)
        backlog.during(self._actions.speed_up, self._window_bytes)
        return backlog

    def _is_behind(self) -> bool:
        """Whether more is there at once than what the ring has."""
        assert self._reader is not None and self._ring is not None
        return self._reader.pending_bytes() > self._ring.pending_bytes()

    def _rest(self) -> Iterator[list[Event]]:
        """Everything that is still in the ring when nothing more can come."""
        looks = 0
        while self._actions.exit_code is None and self._signals.received < 2:
            events, size = self._drain()
            if events:
                yield events
            if size == 0:
                looks += 1
                if self._reader is None or not self._reader.pending_bytes() or looks > _STRAGGLER_LOOKS:
                    return
                time.sleep(0.001)

    def _discard(self) -> None:
        """What came after exit() does not count."""
        while self._reader is not None and len(window := self._reader.window(self._window_bytes)):
            self._reader.release(len(window))

    def _snapshot(self) -> list[MapSnapshot]:
        snapshots = [self._readers[name].snapshot(at_end=True) for name in sorted(self._readers)]
        self.maps.update((snapshot.name, snapshot) for snapshot in snapshots)
        return snapshots

    # -- ends ----------------------------------------------------------------------------------

    def _is_over_already(self) -> bool:
        """Whether a begin program has called exit(): then nothing needs to be attached."""
        if self._ring is None:
            return False
        exits = {record.id for record in self.image.layout.records if isinstance(record.action, Exit)}
        window = self._ring.window(self._window_bytes)
        return bool(exits) and any(record in exits for _, record in record_positions(window))

    def _ending(self) -> str | None:
        """Return why the session should end once the ring is empty, or None."""
        if self._signals.received:
            return "signal"
        if self._child is not None:
            if self._child.poll() is not None:
                return "child"
            if not self.options.bpftrace:
                return None
        if self._watch is not None and self._watch.is_over():
            return "process"
        if any(walk.goes_on() for walk in self._walks):
            return None
        return None if self._lives else "begin"

    def _final_status(self) -> int:
        if self._exit_code is not None:
            return self._exit_code
        if self.reason == "child" and self._child is not None and not self.options.bpftrace:
            return self._child.poll() or 0
        return 0

    def _scope(self) -> tuple[int, ...]:
        if self._child is not None:
            return (self._child.pid,)
        if self._pid is None:
            return ()
        return (self._pid, *descendants(self._pid)) if self.options.follow else (self._pid,)

    def _subject(self, program: ProgramImage) -> int | None:
        """The process to which a program is attached, if the kernel can attach it to one."""
        if self._pid is None and self._child is not None and self._kernel.role(program.plan) is Role.WATCH:
            return self._child.pid
        return self._pid

    def _descriptors(self) -> list[int]:
        found = [self._signals.fd]
        if self._child is not None:
            found.append(self._child.pidfd)
        if self._watch is not None:
            found.append(self._watch.pidfd)
        return found

    def _sleep(self, idle_seconds: float, size_bytes: int) -> None:
        """Wait for the next record or an end: by time while busy, by one wakeup when idle."""
        self._observer.look()
        due_seconds = self._observer.next_seconds()
        if idle_seconds < _IDLE_AFTER_SECONDS:
            busy_seconds = _BUSY_SECONDS if size_bytes < self._rush_bytes else _RUSHED_SECONDS
            self._sleeper.pause(min(busy_seconds, due_seconds))
        else:
            self._sleeper.idle(min(_IDLE_SECONDS, due_seconds))
        self._signals.take()
