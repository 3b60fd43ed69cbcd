"""The life of a session, over a fake kernel: order, ends, failures, the ring's records in their order."""

from __future__ import annotations

import os
import signal
import struct
import threading
from collections.abc import Iterator
from pathlib import Path
from types import FrameType

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from invivo.diagnostics import SourceFile, Span
from invivo.errors import ProcessError, SyscallError, VerifierError
from invivo.events import (
    Attached,
    Complaint,
    Ended,
    Event,
    Loss,
    MapSnapshot,
    MapValue,
    Output,
    Printed,
    Row,
)
from invivo.image import Image, LineInfo, ProgramImage
from invivo.ir import layout as kinds
from invivo.ir import types as t
from invivo.ir.format import parse_format
from invivo.ir.layout import (
    CONSTANTS_MAP,
    LOSSES_MAP,
    RING_MAP,
    SCOPE_MAP,
    ErrorSite,
    LoadConstant,
    LossCounter,
    LossKind,
    MapLayout,
    MapSpec,
    MapType,
    RecordLayout,
    Settings,
    Storage,
)
from invivo.probes.provider import Role
from invivo.record import replace
from invivo.runtime.actions import Actions
from invivo.runtime.process import Child
from invivo.runtime.session import Session, SessionOptions
from invivo.target import ProgramType
from invivo.values import ValueText
from runtime_fakes import FakeKernel, FakeNames, image, layout, program, ring_record

NUMBER = t.Field("n", t.UINT64, 8)
PRINT, EXIT, PRINT_MAP, CLEAR, ZERO, TIME, FAILED, JOIN, ELEMENT, CAT, SYSTEM, WARN, ROW = range(13)
SPAN = Span(SourceFile("stdin", "begin { @b[1] = 1; delete(@b, 2); }"), 19, 32)
RECORDS = (
    RecordLayout(PRINT, kinds.Printf(parse_format("n=%d\n")), (NUMBER,), 16, 1),
    RecordLayout(EXIT, kinds.Exit(), (t.Field("code", t.INT64, 8),), 16, 1),
    RecordLayout(PRINT_MAP, kinds.PrintMap("@"), (), 8, 1),
    RecordLayout(CLEAR, kinds.ClearMap("@"), (), 8, 1),
    RecordLayout(ZERO, kinds.ZeroMap("@"), (), 8, 1),
    RecordLayout(TIME, kinds.PrintTime("%Y\n"), (), 8, 1),
    RecordLayout(FAILED, kinds.HelperFailed(), (t.Field("site", t.UINT64, 8), t.Field("code", t.INT64, 16)), 24, 1),
    RecordLayout(
        JOIN,
        kinds.Join(","),
        (t.Field("count", t.UINT64, 8), *(t.Field(str(i), t.String(4), 16 + 4 * i) for i in range(3))),
        32,
        1,
    ),
    RecordLayout(
        ELEMENT, kinds.PrintMapValue("@"), (t.Field("key", t.UINT64, 8), t.Field("value", t.INT64, 16)), 24, 1
    ),
    RecordLayout(CAT, kinds.Cat(parse_format("%s")), (t.Field("s", t.String(48), 8),), 56, 1, SPAN),
    RecordLayout(SYSTEM, kinds.System(parse_format("%s")), (t.Field("s", t.String(48), 8),), 56, 1, SPAN),
    RecordLayout(WARN, kinds.Complain(parse_format("bad %d"), SPAN, "WARNING"), (NUMBER,), 16, 1),
    RecordLayout(ROW, kinds.PrintValue(), (t.Field("value", t.String(8), 8),), 16, 1),
)
_CELLS = bytes(8 * len(LoadConstant))
MAPS = (
    MapSpec(CONSTANTS_MAP, MapType.ARRAY, 4, len(_CELLS) + 8, 1, initial=_CELLS + b"constant", frozen=True),
    MapSpec(LOSSES_MAP, MapType.ARRAY, 4, 8, 1),
    MapSpec(RING_MAP, MapType.RINGBUF, 0, 0, 0),
    MapSpec("m0", MapType.HASH, 8, 8, 16),
)
COUNTS = MapLayout("@", (t.UINT64,), t.Count(), Storage.HASH, "m0")
LAYOUT = layout(
    RECORDS,
    [COUNTS],
    [ErrorSite(SPAN, "map_delete_elem", "")],
    [LossCounter(LossKind.RING_FULL, "", 0)],
)

BEGIN = program("begin", Role.BEGIN, 0)
END = program("end", Role.END, 1)


@pytest.fixture(autouse=True)
def _no_session_runs_for_ever() -> Iterator[None]:
    """A session that misses its end waits: the test fails instead."""

    def stop(number: int, frame: FrameType | None) -> None:
        raise TimeoutError("the session does not end")

    before = signal.signal(signal.SIGALRM, stop)
    signal.alarm(20)
    yield
    signal.alarm(0)
    signal.signal(signal.SIGALRM, before)


def number(identity: int, *values: int, flags: int = 0) -> bytes:
    return ring_record(identity, struct.pack(f"<{len(values)}q", *values), flags=flags)


def made(*programs: ProgramImage, described: kinds.Layout = LAYOUT) -> Image:
    return image(programs, MAPS, described)


def run(
    kernel: FakeKernel, *programs: ProgramImage, child: Child | None = None, options: SessionOptions | None = None
) -> tuple[list[Event], Session]:
    with Session(made(*programs), child=child, options=options, kernel=kernel) as session:
        return list(session), session


def handled(*records: bytes, described: kinds.Layout = LAYOUT) -> list[Event]:
    """The events of records that a begin program sent."""
    kernel = FakeKernel()
    kernel.scripts["begin"] = lambda: kernel.ring.put(b"".join(records))
    with Session(made(BEGIN, described=described), kernel=kernel) as session:
        events = list(session)
    assert isinstance(events[0], Attached)
    assert isinstance(events[-1], Ended)
    return [event for event in events[1:-1] if not (isinstance(event, MapSnapshot) and event.at_end)]


# -- order -------------------------------------------------------------------------------------


def test_everything_happens_in_order_and_nothing_stays() -> None:
    kernel = FakeKernel()
    kernel.scripts["second"] = lambda: kernel.ring.put(number(EXIT, 7))
    own = program("own", Role.EVENT, -1, ProgramType.RAW_TRACEPOINT)
    probes = [
        program("uprobe-a", Role.EVENT, 4, ProgramType.UPROBE_MULTI),
        program("tracepoint-a", Role.EVENT, 2),
        program("tracepoint-b", Role.EVENT, 3, points=3),
        program("timer", Role.TIMER, 6),
        program("uprobe-b", Role.EVENT, 5, ProgramType.UPROBE_MULTI),
    ]
    session = Session(made(END, *probes, own, BEGIN), kernel=kernel)
    with session:
        attached = [line for line in kernel.journal if line.split()[0] in ("attach", "run")]
        assert attached == [
            "run begin",
            "attach own",
            "attach tracepoint-a",
            "attach tracepoint-b",
            "attach timer",
            "attach uprobe-b",
            "attach uprobe-a",
        ]
        events = iter(session)
        assert next(events) == Attached(9)  # all points of the script, begin and end, not invivo's own
        kernel.ring.put(number(PRINT, 1) + number(EXIT, 3) + number(PRINT, 2))
        rest = list(events)
        assert rest[0] == Printed("n=1\n", (1,))
        assert rest[-1] == Ended("exit", 3, ())
        assert len([event for event in rest if isinstance(event, Printed)]) == 1  # what follows exit() does not count
        order = [line for line in kernel.journal if line.startswith(("detach", "run end", "read"))]
        assert order[-2:] == ["run end", "read m0"]
        assert order[0] == "detach uprobe-a"
        assert order[5] == "detach own"
    loaded = [line.split()[1] for line in kernel.journal if line.startswith(("create", "load"))]
    closed = [line.split()[1] for line in kernel.journal if line.startswith(("close", "unload"))]
    assert closed == loaded[::-1]
    assert session.status == 3


def test_constants_are_written_before_the_map_is_frozen_and_programs_are_loaded() -> None:
    kernel = FakeKernel()
    child = Child(["true"])
    run(kernel, BEGIN, child=child)
    count = len(LoadConstant)
    cells = dict(zip(LoadConstant, struct.unpack_from(f"<{count}Q", kernel.maps[CONSTANTS_MAP].array), strict=True))
    assert cells[LoadConstant.CHILD_PID] == child.pid
    assert cells[LoadConstant.SELF_PID] == os.getpid()
    assert [cells[each] for each in (LoadConstant.SCOPE_PID, LoadConstant.SCOPE_CGROUP, LoadConstant.SCOPE_DEPTH)] == [
        0
    ] * 3
    assert all(cells[each] > 0 for each in LoadConstant if each.value.endswith("_ns"))
    assert kernel.maps[CONSTANTS_MAP].array[8 * count :][:8] == b"constant"
    assert kernel.journal.index(f"freeze {CONSTANTS_MAP}") < kernel.journal.index("load begin")


def test_the_ring_gets_a_size_if_the_compiler_gave_none() -> None:
    kernel = FakeKernel()
    run(kernel, BEGIN)
    assert kernel.maps[RING_MAP].spec.max_entries == 8 << 20
    kernel = FakeKernel()
    described = replace(LAYOUT, settings=Settings(ring_pages=100))
    with Session(made(BEGIN, described=described), kernel=kernel):
        assert kernel.maps[RING_MAP].spec.max_entries == 128 * 4096


def test_the_scope_map_begins_with_the_child() -> None:
    kernel = FakeKernel()
    child = Child(["true"])
    scoped = image([BEGIN], [*MAPS, MapSpec(SCOPE_MAP, MapType.HASH, 4, 1, 10)], LAYOUT)
    with Session(scoped, child=child, kernel=kernel) as session:
        assert kernel.maps[SCOPE_MAP].entries == {struct.pack("<I", child.pid): b"\1"}
        list(session)


# -- ends --------------------------------------------------------------------------------------


def test_begin_programs_alone_end_by_themselves() -> None:
    kernel = FakeKernel()
    kernel.scripts = {
        "begin": lambda: kernel.ring.put(number(PRINT, 1)),
        "end": lambda: kernel.ring.put(number(PRINT, 2)),
    }
    events, session = run(kernel, BEGIN, END)
    assert [event.text for event in events if isinstance(event, Printed)] == ["n=1\n", "n=2\n"]
    assert (session.reason, session.status) == ("begin", 0)


def test_exit_in_begin_attaches_and_starts_nothing(tmp_path: Path) -> None:
    kernel = FakeKernel()
    kernel.scripts["begin"] = lambda: kernel.ring.put(number(EXIT, 4))
    mark = tmp_path / "mark"
    child = Child(["touch", str(mark)])
    events, session = run(kernel, BEGIN, program("probe", Role.EVENT, 1), child=child)
    assert "attach probe" not in kernel.journal
    assert events[-1] == Ended("exit", 4, ())
    assert session.status == 4
    assert not mark.exists()


@pytest.mark.parametrize("bpftrace", [False, True])
def test_the_command_s_status_is_the_session_s(bpftrace: bool) -> None:
    events, session = run(
        FakeKernel(),
        program("probe", Role.EVENT, 0),
        child=Child(["sh", "-c", "exit 5"]),
        options=SessionOptions(bpftrace=bpftrace),
    )
    status = 0 if bpftrace else 5
    assert events[-1] == Ended("child", status, ())
    assert session.status == status


def test_a_command_that_cannot_be_run_leaves_nothing_attached(tmp_path: Path) -> None:
    script = tmp_path / "x"
    script.write_text("?")
    script.chmod(0o755)
    kernel = FakeKernel()
    with pytest.raises(ProcessError):
        run(kernel, program("probe", Role.EVENT, 0), child=Child([str(script)]))
    assert kernel.journal.index("detach probe") < kernel.journal.index("unload probe")


def test_what_came_before_the_command_s_end_is_shown() -> None:
    kernel = FakeKernel()
    child = Child(["true"])
    with Session(made(program("probe", Role.EVENT, 0)), child=child, kernel=kernel) as session:
        os.waitid(os.P_PID, child.pid, os.WEXITED | os.WNOWAIT)
        kernel.ring.put(number(PRINT, 1) * 10_000)
        events = list(session)
    assert len([event for event in events if isinstance(event, Printed)]) == 10_000


def test_the_first_interrupt_ends_cleanly() -> None:
    kernel = FakeKernel()
    kernel.scripts["end"] = lambda: kernel.ring.put(number(PRINT, 2))
    before = signal.getsignal(signal.SIGINT)
    with Session(made(program("probe", Role.EVENT, 0), END), kernel=kernel) as session:
        threading.Timer(0.05, os.kill, (os.getpid(), signal.SIGINT)).start()
        events = list(session)
    assert Printed("n=2\n", (2,)) in events
    assert events[-1] == Ended("signal", 0, ())
    assert signal.getsignal(signal.SIGINT) is before


def test_the_second_interrupt_ends_at_once() -> None:
    kernel = FakeKernel()
    with Session(made(program("probe", Role.EVENT, 0), END), kernel=kernel) as session:
        kernel.ring.put(number(PRINT, 1) * 100_000)
        events = []
        for event in session:
            events.append(event)
            if len(events) == 2:
                os.kill(os.getpid(), signal.SIGINT)
                os.kill(os.getpid(), signal.SIGTERM)
    assert "run end" not in kernel.journal
    assert len(events) < 50_000
    assert isinstance(events[-1], Ended)


def test_a_session_ends_with_the_process_it_watches() -> None:
    child = Child(["sleep", "100"])
    child.start()
    kernel = FakeKernel()
    with Session(made(program("probe", Role.EVENT, 0)), pid=child.pid, kernel=kernel) as session:
        threading.Timer(0.05, child.close).start()
        events = list(session)
    assert events[-1] == Ended("process", 0, ())
    assert struct.unpack_from("<2Q", kernel.maps[CONSTANTS_MAP].array) == (0, child.pid)


def test_leaving_early_keeps_the_maps_and_kills_the_command() -> None:
    kernel = FakeKernel()
    child = Child(["sleep", "100"])
    with Session(made(program("probe", Role.EVENT, 0)), child=child, kernel=kernel) as session:
        kernel.maps["m0"].entries = {struct.pack("<Q", 1): struct.pack("<Q", 5)}
        assert next(iter(session)) == Attached(1)
    assert session.maps["@"].to_dict() == {1: 5}
    assert child.status == 128 + signal.SIGTERM
    assert kernel.journal.index("detach probe") < kernel.journal.index("read m0") < kernel.journal.index("close m0")
    assert list(session) == []


def test_stop_from_another_thread() -> None:
    with Session(made(program("probe", Role.EVENT, 0)), kernel=FakeKernel()) as session:
        threading.Timer(0.05, session.stop).start()
        assert list(session)[-1] == Ended("closed", 0, ())


def test_a_dry_run_attaches_and_says_nothing() -> None:
    kernel = FakeKernel()
    child = Child(["true"])
    events, _ = run(kernel, program("probe", Role.EVENT, 0), END, child=child, options=SessionOptions(dry_run=True))
    assert events == []
    assert "attach probe" in kernel.journal
    assert "run end" not in kernel.journal
    assert child.status == 0  # it gave up


# -- failures ----------------------------------------------------------------------------------


def test_a_failed_attachment_undoes_everything() -> None:
    kernel = FakeKernel()
    kernel.refused["attach two"] = SyscallError("attach", 22)
    with pytest.raises(SyscallError):
        run(kernel, program("one", Role.EVENT, 0), program("two", Role.EVENT, 1))
    assert kernel.journal.index("detach one") < kernel.journal.index("unload two") < kernel.journal.index("unload one")
    assert kernel.journal[-1] == f"close {CONSTANTS_MAP}"


@pytest.mark.parametrize("too_large", [False, True])
def test_a_refusal_by_the_verifier_names_the_source_line(too_large: bool) -> None:
    kernel = FakeKernel()
    log = "0: r0 = 0\nR1 invalid mem access 'scalar'\nprocessed 5 insns"
    kernel.refused["load bad"] = VerifierError("bad", 13, log, 3, too_large=too_large)
    bad = replace(program("bad", Role.EVENT, 1), lines=(LineInfo(0, None), LineInfo(2, SPAN), LineInfo(4, None)))
    with pytest.raises(VerifierError) as refusal:
        run(kernel, BEGIN, bad)
    assert str(refusal.value).splitlines() == [
        "stdin:1:20: the kernel's verifier refused bad: R1 invalid mem access 'scalar'",
        "    begin { @b[1] = 1; delete(@b, 2); }",
        "                       ^^^^^^^^^^^^^",
    ]
    assert ("too large" in (refusal.value.hint or "")) == too_large
    assert refusal.value.log == log
    assert next(line for line in kernel.journal if line.startswith(("unload", "close"))) == "unload begin"


# -- actions -----------------------------------------------------------------------------------


def test_records_are_handled_in_their_order() -> None:
    events = handled(
        number(PRINT, 1),
        ring_record(PRINT, discarded=True),
        number(PRINT, 2, flags=kinds.RECORD_READ_FAILED),
        number(ELEMENT, 5, -6),
        ring_record(ROW, b"text"),
        ring_record(JOIN, struct.pack("<Q4s4s4s", 2, b"a", b"b", b"c")),
        number(WARN, 3),
    )
    assert events == [
        Printed("n=1\n", (1,)),
        Printed("n=2\n", (2,), incomplete=True),
        MapValue("@", (5,), -6),
        Row("text"),
        Output("join", "a,b\n"),
        Complaint(
            "WARNING",
            "bad 3",
            "stdin",
            1,
            20,
            source="begin { @b[1] = 1; delete(@b, 2); }\n                   ~~~~~~~~~~~~~\n",
            place="stdin:1:20-33",
        ),
    ]


NAME_AND_NUMBER = RecordLayout(
    0, kinds.Printf(parse_format("%s %d %p %x\n")),
    (
        t.Field("s", t.String(16), 8),
        t.Field("n", t.INT64, 24),
        t.Field("p", t.Pointer(t.VOID), 32),
        t.Field("x", t.INT32, 40),
    ),
    48, 1,
)  # fmt: skip
OTHER = RecordLayout(1, kinds.Printf(parse_format("other %d\n")), (t.Field("n", t.INT32, 8),), 16, 1)


@settings(max_examples=50)
@given(
    st.lists(
        st.tuples(
            st.integers(0, 1),  # the kind
            st.integers(1, 40),  # how many in a row
            st.sampled_from([b"bash", b"\xff", b"full-of-letters!", b""]),
            st.integers(-(1 << 63), (1 << 63) - 1),
            st.sampled_from([0, 0, 0, kinds.RECORD_READ_FAILED]),
            st.booleans(),  # discarded
        ),
        max_size=12,
    ),
    st.booleans(),
)
def test_records_read_in_columns_give_what_they_give_alone(
    groups: list[tuple[int, int, bytes, int, int, bool]], bpftrace: bool
) -> None:
    described = layout([NAME_AND_NUMBER, OTHER])
    records = []
    for kind, count, name, value, flags, discarded in groups:
        bodies = struct.pack("<16sqQi", name, value, value & 0xFF, value & 0x7F), struct.pack("<q", value)
        records += [ring_record(kind, bodies[kind], flags=flags, discarded=discarded)] * count
    actions = Actions(described, {}, FakeNames(), ValueText(), bpftrace=bpftrace)
    alone = [event for record in records for event in actions.handle(memoryview(record))]
    assert actions.handle(memoryview(b"".join(records))) == alone
    for event in alone:
        assert isinstance(event, Printed)
        assert ("full-of" in event.text) == ("full-of-letters!.." in event.text)


def test_time_is_that_of_the_handling() -> None:
    (event,) = handled(ring_record(TIME))
    assert isinstance(event, Output)
    assert event.text.strip().isdigit()


def test_a_failed_helper_is_explained() -> None:
    deleted, other = handled(number(FAILED, 0, -2), number(FAILED, 0, -22))
    assert isinstance(deleted, Complaint)
    assert isinstance(other, Complaint)
    assert deleted.message == "Can't delete map element because it does not exist."
    assert (deleted.helper, deleted.code, deleted.line, deleted.column) == ("map_delete_elem", -2, 1, 20)
    assert other.message == "Invalid argument"


def test_cat_shows_the_beginning_of_a_file(tmp_path: Path) -> None:
    path = Path("/tmp") / f"invivo-{os.getpid()}"
    fifo = Path("/tmp") / f"invivo-fifo-{os.getpid()}"
    path.write_bytes(b"0123456789\xff")
    os.mkfifo(fifo)
    try:
        described = replace(LAYOUT, settings=Settings(max_cat_bytes=4))
        assert handled(ring_record(CAT, bytes(path)), described=described) == [Output("cat", "0123")]
        assert handled(ring_record(CAT, bytes(path))) == [Output("cat", "0123456789\udcff")]
        assert handled(ring_record(CAT, bytes(fifo))) == [Output("cat", "")]  # nobody waits for a writer
        path.unlink()
        (complaint,) = handled(ring_record(CAT, bytes(path)))
    finally:
        fifo.unlink()
    assert isinstance(complaint, Complaint)
    assert complaint.message == f"failed to open file '{path}': No such file or directory"


def test_system_gives_what_the_command_prints() -> None:
    assert handled(ring_record(SYSTEM, b"echo a; echo b")) == [Output("system", "a\nb\n")]


def entries(kernel: FakeKernel) -> None:
    kernel.maps["m0"].entries = {struct.pack("<Q", 1): struct.pack("<Q", 5)}


def journal_of(*records: bytes) -> tuple[list[str], list[MapSnapshot]]:
    kernel = FakeKernel()

    def begin() -> None:
        entries(kernel)
        kernel.ring.put(b"".join(records))

    kernel.scripts["begin"] = begin
    events, _ = run(kernel, BEGIN)
    touched = [line for line in kernel.journal if line.split()[0] in ("take", "read", "clear")]
    return touched, [event for event in events if isinstance(event, MapSnapshot)]


def test_a_print_and_its_clear_take_the_map_in_one_batch() -> None:
    touched, snapshots = journal_of(ring_record(PRINT_MAP), number(PRINT, 1), ring_record(CLEAR))
    assert touched == ["take m0", "read m0"]  # the latter at the end
    assert [snapshot.to_dict() for snapshot in snapshots] == [{1: 5}, {}]


def test_a_print_that_another_follows_does_not_take() -> None:
    touched, snapshots = journal_of(ring_record(PRINT_MAP), ring_record(PRINT_MAP), ring_record(CLEAR))
    assert touched == ["read m0", "take m0", "read m0"]
    assert [snapshot.to_dict() for snapshot in snapshots] == [{1: 5}, {1: 5}, {}]


def test_a_clear_alone_clears_and_a_zero_zeroes() -> None:
    assert journal_of(ring_record(CLEAR))[0] == ["clear m0", "read m0"]
    _, snapshots = journal_of(ring_record(PRINT_MAP), ring_record(ZERO), ring_record(PRINT_MAP))
    assert [snapshot.to_dict() for snapshot in snapshots] == [{1: 5}, {1: 0}, {1: 0}]


def test_maps_are_not_shown_at_the_end_if_the_script_says_so() -> None:
    kernel = FakeKernel()
    described = replace(LAYOUT, settings=Settings(print_maps_on_exit=False))
    with Session(made(BEGIN, described=described), kernel=kernel) as session:
        assert not [event for event in session if isinstance(event, MapSnapshot)]
    assert session.maps["@"].at_end


# -- losses ------------------------------------------------------------------------------------


def test_losses_are_reported_as_they_grow_and_in_sum() -> None:
    kernel = FakeKernel()

    def steps() -> Iterator[None]:
        for count in (5, 7):
            struct.pack_into("<Q", kernel.maps[LOSSES_MAP].array, 0, count)
            yield

    step = steps()
    with Session(made(program("probe", Role.EVENT, 0)), kernel=kernel) as session:
        next(step)
        events = []
        for event in session:
            events.append(event)
            if isinstance(event, Loss) and next(step, 0) == 0:
                session.stop()
    assert [event for event in events if isinstance(event, Loss)] == [
        Loss("ring-full", "", 5, 5),
        Loss("ring-full", "", 2, 7),
    ]
    assert events[-1] == Ended("closed", 0, (("ring-full", "", 7),))
