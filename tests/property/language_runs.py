"""One program through everything: compiled, loaded, run, and compared with the reference interpreter."""

from __future__ import annotations

import os
import pwd
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import groupby
from typing import NamedTuple

from invivo.bpf import generate
from invivo.bpf.limits import LimitError
from invivo.diagnostics import CompileError, Diagnostics, Severity, SourceFile
from invivo.errors import InvivoError
from invivo.events import (
    Attached,
    Complaint,
    Ended,
    Event,
    HistogramValue,
    Loss,
    MapSnapshot,
    MapValue,
    Output,
    Printed,
    PrintedText,
    RecordTables,
    Row,
    SeriesValue,
    StatsValue,
    Symbol,
    Value,
)
from invivo.image import Image
from invivo.kernel import cpus
from invivo.lang.check import check
from invivo.lang.check.model import Checked
from invivo.lang.config import read_config
from invivo.lang.lower import lower
from invivo.lang.parse import parse
from invivo.passes import run as run_passes
from invivo.runtime.session import Session, SessionOptions
from invivo.target import Target
from property.reference import Outcome, Seen, interpret
from property.reference_calls import Surroundings
from property.reference_values import UnspecifiedError

PARAMETERS = ("42", "word")


class Result(NamedTuple):
    """``kind``: "same", "different", "refused" (by the verifier), "ill-typed" (by the checker), "crash" or
    "open" (the language does not say what the program does)."""

    kind: str
    message: str = ""

    @property
    def is_finding(self) -> bool:
        return self.kind not in ("same", "open")


def surroundings() -> Surroundings:
    parent = os.getppid()
    return Surroundings(
        os.getpid(),
        threading.get_native_id(),
        os.getuid(),
        os.getgid(),
        pwd.getpwuid(os.getuid()).pw_name,
        _comm(os.getpid()),
        cpus.possible(),
        parent,
        _comm(parent),
    )


def _comm(pid: int) -> str:
    with open(f"/proc/{pid}/comm", encoding="latin-1") as file:
        return file.read().removesuffix("\n")


@contextmanager
def on_one_cpu() -> Iterator[None]:
    """Keep this process on one processor, so that all of an aggregation's values meet in one slot."""
    allowed = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {min(allowed)})
    try:
        yield
    finally:
        os.sched_setaffinity(0, allowed)


def cpu_of_worker(number: int) -> None:
    """Keep one of several processes on a processor of its own."""
    allowed = sorted(os.sched_getaffinity(0))
    os.sched_setaffinity(0, {allowed[number % len(allowed)]})


def typed(program: str, target: Target) -> tuple[Checked, Image]:
    """Compile a program and keep its typed tree. Raises `CompileError`."""
    diagnostics = Diagnostics()
    script = parse(SourceFile("generated", program), PARAMETERS)
    config, settings = read_config(script.config, {}, diagnostics)
    checked = check(script, target, config, diagnostics, parameters=PARAMETERS, unsafe=True)
    return checked, generate(run_passes(lower(checked, settings)))


def run_program(program: str, target: Target, around: Surroundings) -> Result:
    """Say whether a program does what the reference interpreter says; call it under `on_one_cpu`."""
    try:
        checked, image = typed(program, target)
    except CompileError as error:
        return Result("ill-typed", "; ".join(d.message for d in error.diagnostics if d.severity is Severity.ERROR))
    except LimitError as error:
        return Result("refused", str(error))
    except Exception as error:
        return Result("crash", f"{type(error).__name__}: {error}")
    try:
        expected = interpret(checked, around)
    except UnspecifiedError as error:
        return Result("open", str(error))
    except (AssertionError, KeyError, ValueError, TypeError) as error:
        return Result("uninterpreted", repr(error)[:300])
    try:
        with Session(image, options=SessionOptions(signals=False)) as session:
            events = list(session)
    except InvivoError as error:
        return Result("refused", str(error))
    difference = compare(expected, events, session)
    return Result("different", difference) if difference else Result("same")


def compare(expected: Outcome, events: list[Event], session: Session) -> str:
    """The first difference between what should be and what is; "" if there is none."""
    losses = [event for event in events if isinstance(event, Loss)]
    if losses:
        return f"something was lost: {losses}"
    wanted = _ordered(expected.seen)
    found = _in_groups([seen for event in events if (seen := observed(event)) is not None], expected.seen)
    for index, (want, have) in enumerate(zip(wanted, found, strict=False)):
        if want != have:
            return f"event {index}: expected {want}, found {have}"
    if len(wanted) != len(found):
        rest = (wanted if len(wanted) > len(found) else found)[min(len(wanted), len(found)) :]
        word = "missing" if len(wanted) > len(found) else "not expected"
        return f"{word}: {rest[0]}"
    maps = {name: _entries(snapshot) for name, snapshot in session.maps.items()}
    for name, entries in expected.maps.items():
        if name not in maps or _settled(maps[name]) != _settled(entries):
            return f"map {name} at the end: expected {entries}, found {maps.get(name)}"
    if session.status != expected.status:
        return f"exit status: expected {expected.status}, found {session.status}"
    return ""


def _ordered(seen: list[Seen]) -> list[tuple[str, tuple[object, ...]]]:
    """What a loop over a map shows is sorted: its order is open."""
    result: list[tuple[str, tuple[object, ...]]] = []
    for group, members in groupby(seen, key=lambda each: each.group):
        plain = [(each.kind, _settled_map(each.what) if each.kind == "map" else each.what) for each in members]
        result += sorted(plain, key=repr) if group else plain
    return result


def _settled_map(what: tuple[object, ...]) -> tuple[object, ...]:
    name, entries = what
    assert isinstance(entries, list)
    return name, _settled(entries)


def _settled(entries: list[tuple[object, object]]) -> list[tuple[object, object]]:
    """Elements in an order that both sides have: buffers in keys have none."""
    unordered = any(isinstance(part, bytes) for key, _ in entries if isinstance(key, tuple) for part in key)
    return sorted(entries, key=repr) if unordered else entries


def _in_groups(found: list[Seen], expected: list[Seen]) -> list[tuple[str, tuple[object, ...]]]:
    """Give what was found the groups of what was expected in its place."""
    groups = [each.group for each in expected] + [0] * len(found)
    return _ordered([Seen(seen.kind, seen.what, group) for seen, group in zip(found, groups, strict=False)])


def observed(event: Event) -> Seen | None:
    match event:
        case Printed(text):
            return Seen("printf", (text,))
        case Row(value):
            return Seen("value", (plain(value),))
        case MapSnapshot(name, _, _, _, at_end):
            return None if at_end else Seen("map", (name, _entries(event)))
        case MapValue(name, key, value):
            return Seen("element", (name, plain(key or ()), plain(value)))
        case Output(kind, text):
            return Seen("output", (kind, text))
        case Complaint(severity, message):
            return Seen("complaint", (severity, message))
        case Attached() | Ended() | Loss() | PrintedText() | RecordTables():
            return None


def _entries(snapshot: MapSnapshot) -> list[tuple[object, object]]:
    return [(None if key is None else plain(key), plain(value)) for key, value in snapshot.entries]


def plain(value: Value) -> object:
    """An event's value as the reference interpreter writes it."""
    match value:
        case StatsValue(count, average, total):
            return ("stats", count, average, total)
        case HistogramValue(bars):
            return ("hist", tuple((bar.low, bar.high, bar.count) for bar in bars))
        case SeriesValue(_, points):
            return ("series", *(point for _, point in points))
        case Symbol(address, name):
            return name or hex(address)
        case bool():
            return value
        case int():
            return int(value)
        case str():
            return value.encode("utf-8", "surrogateescape").decode("latin-1")
        case tuple() | list():
            return tuple(plain(part) for part in value)
        case dict():
            return tuple((name, plain(part)) for name, part in value.items())
        case _:
            return value
