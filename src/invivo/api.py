"""What ``import invivo`` offers: a trace from Python, with typed events instead of text."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from io import BytesIO
from typing import Protocol

from invivo.diagnostics import SourceFile
from invivo.events import Value
from invivo.kernel.files import read_text
from invivo.output.sink import Header
from invivo.pipeline import Compilation, CompileOptions, compile_source
from invivo.probes.machine import Machine
from invivo.record import replace
from invivo.runtime.process import Child
from invivo.runtime.session import Session, SessionOptions
from invivo.script_files import DiskFiles
from invivo.target import Scope
from invivo.version import VERSION


def trace(
    program: str | os.PathLike[str],
    *,
    command: Sequence[str] | None = None,
    pid: int | None = None,
    follow: bool = False,
    cgroup: str | None = None,
    all_processes: bool = False,
    parameters: Sequence[str | int] = (),
    unsafe: bool = False,
) -> Session:
    """Compile a program in the bpftrace language; return a session that traces once it is entered.

    ``program`` is its text, or the path of a script; imports are relative to the script, those of a text
    to the current directory.

    ``with invivo.trace(text, command=["ls", "/"]) as session: for event in session: ...`` gives
    the events of `invivo.events`. ``command`` is run and traced with all its descendants, ``pid``
    is traced with its threads (``follow``: and the children it makes), ``cgroup`` is the path of a
    control group (version 2) whose processes count: all filtered in the kernel; ``all_processes``
    lifts the filter. ``parameters`` are ``$1``, ``$2`` ... Without any of these the whole system
    is traced.

    The command is forked here, so call this before starting threads.  Raises `CompileError` for
    a mistake in the program, `InvivoError` for what the machine refuses (also when the session
    is entered), `ValueError` for arguments that exclude each other.
    """
    # Ctrl-C is a KeyboardInterrupt in Python; leaving the block then ends the session.
    _, session = _prepared(
        program,
        SessionOptions(signals=False),
        command=command,
        pid=pid,
        follow=follow,
        cgroup=cgroup,
        all_processes=all_processes,
        parameters=parameters,
        unsafe=unsafe,
    )
    return session


class Table(Protocol):
    """What of a ``pyarrow.Table`` is named here; the rest is in pyarrow's documentation."""

    @property
    def num_rows(self) -> int: ...

    @property
    def column_names(self) -> list[str]: ...

    def to_pydict(self) -> dict[str, list[Value]]: ...

    def to_pandas(self) -> object: ...


def trace_table(
    program: str | os.PathLike[str],
    *,
    command: Sequence[str] | None = None,
    pid: int | None = None,
    follow: bool = False,
    cgroup: str | None = None,
    all_processes: bool = False,
    parameters: Sequence[str | int] = (),
    unsafe: bool = False,
) -> Table:
    """Trace to the end; return what was printed as a ``pyarrow.Table``: a row an event, a column a value.

    The arguments are those of `trace`; rows, columns and metadata (losses) those of a Parquet file
    (docs/how-to/tables.md).  No object is made for an event, and what waits for the end is packed.  Ctrl-C
    ends the trace, and what came until then is returned.  What else is said goes to ``sys.stderr``;
    maps are left to `trace`.  Raises what `trace` and its session raise, `TablesMissingError` without pyarrow.
    """
    from invivo.lang.labels import column_labels
    from invivo.output.parquet import ParquetSink, libraries

    _, parquet = libraries()
    compilation, session = _prepared(
        program,
        SessionOptions(tables=True),
        command=command,
        pid=pid,
        follow=follow,
        cgroup=cgroup,
        all_processes=all_processes,
        parameters=parameters,
        unsafe=unsafe,
    )
    packed = BytesIO()
    layout = compilation.image.layout
    labels = column_labels(compilation.script, layout)
    header = Header(VERSION, os.uname().release, (_named(program),), ())
    sink = ParquetSink(packed, _Said(), layout, labels, header, "", lambda path: BytesIO(), quiet=True)
    with session:
        for events in session.batches():
            sink.events(events)
    sink.close()
    table: Table = parquet.read_table(packed)
    return table


class _Said:
    """``sys.stderr``, whatever stands for it in a notebook."""

    def write(self, data: bytes | bytearray, /) -> int:
        return sys.stderr.write(data.decode("utf-8", "replace"))

    def flush(self) -> None:
        sys.stderr.flush()


def _prepared(
    program: str | os.PathLike[str],
    options: SessionOptions,
    *,
    command: Sequence[str] | None,
    pid: int | None,
    follow: bool,
    cgroup: str | None,
    all_processes: bool,
    parameters: Sequence[str | int],
    unsafe: bool,
) -> tuple[Compilation, Session]:
    if [command, pid, cgroup].count(None) < 2:
        raise ValueError("command, pid and cgroup exclude each other")
    if follow and pid is None:
        raise ValueError("follow goes with pid; a command's descendants are always traced")
    if isinstance(command, str):
        raise TypeError('command is a list of words: ["ls", "-l"]')
    child = Child(command) if command is not None else None
    try:
        scope = scope_of(
            command=command is not None, pid=pid, follow=follow, cgroup=bool(cgroup), all_processes=all_processes
        )
        name, text = _named(program)
        compilation = compile_text(text, scope=scope, pid=pid, parameters=parameters, unsafe=unsafe, name=name)
    except BaseException:
        if child is not None:
            child.close()
        raise
    options = replace(options, follow=pid is not None and scope is not Scope.PROCESS, cgroup=cgroup or "")
    return compilation, Session(compilation.image, child=child, pid=pid, options=options)


def _named(program: str | os.PathLike[str]) -> tuple[str, str]:
    """Name and text of a program. Raises `OSError` if a script cannot be read."""
    if isinstance(program, str):
        return "program", program
    path = os.fspath(program)
    return path, read_text(path).removeprefix("\ufeff")


def compile_text(
    program_text: str,
    *,
    scope: Scope = Scope.ALL,
    pid: int | None = None,
    parameters: Sequence[str | int] = (),
    unsafe: bool = False,
    name: str = "program",
) -> Compilation:
    """Compile a program for this machine; every stage can be looked at. Raises `CompileError`.

    ``name`` is what messages call the program.
    """
    options = CompileOptions(parameters=tuple(map(str, parameters)), unsafe=unsafe, files=DiskFiles())
    with Machine(scope, pid, unsafe=unsafe) as machine:
        return compile_source(SourceFile(name, program_text), machine, options)


def scope_of(*, command: bool, pid: int | None, follow: bool, cgroup: bool, all_processes: bool) -> Scope:
    """Which processes' events count."""
    if all_processes:
        return Scope.ALL
    if cgroup:
        return Scope.CGROUP
    if command or follow:
        return Scope.TREE
    return Scope.ALL if pid is None else Scope.PROCESS
