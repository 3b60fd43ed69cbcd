"""Runs a script on this machine's kernel, in this process, and gives what it printed."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from io import BytesIO
from typing import NamedTuple

from invivo.diagnostics import CompileError, Diagnostic, SourceFile
from invivo.events import Event
from invivo.output.outputs import SinkOptions, open_sink
from invivo.output.sink import Dialect
from invivo.pipeline import CompileOptions, compile_source
from invivo.probes.machine import Machine
from invivo.rendering import format_bpftrace
from invivo.runtime.process import Child
from invivo.runtime.session import Session, SessionOptions
from invivo.target import Scope


class Result(NamedTuple):
    text: str
    errors: str
    events: list[Event]
    status: int


@contextmanager
def session(
    program: str,
    *,
    command: Sequence[str] | None = None,
    pid: int | None = None,
    parameters: tuple[str, ...] = (),
    unsafe: bool = False,
    bpftrace: bool = False,
    warnings: list[Diagnostic] | None = None,
) -> Iterator[Session]:
    """Open a session of a program: scoped to a command or a process, or to nothing (BEGIN only).

    ``warnings`` gets the compiler's.
    """
    child = None if command is None else Child(command)
    scope = Scope.TREE if child is not None else Scope.PROCESS if pid is not None else Scope.ALL
    try:
        source = SourceFile("stdin", program)
        options = CompileOptions(parameters=parameters, unsafe=unsafe, bpftrace=bpftrace)
        with Machine(scope, pid, unsafe=unsafe) as machine:
            compilation = compile_source(source, machine, options)
        if warnings is not None:
            warnings += compilation.warnings
    except BaseException:
        if child is not None:
            child.close()
        raise
    with Session(compilation.image, child=child, pid=pid, options=SessionOptions(bpftrace=bpftrace)) as opened:
        yield opened


def run(
    program: str,
    *,
    command: Sequence[str] | None = None,
    pid: int | None = None,
    parameters: tuple[str, ...] = (),
    unsafe: bool = False,
) -> Result:
    """Run a program to its end; the text output's stdout and stderr are kept."""
    out, errors = BytesIO(), BytesIO()
    seen = []
    with session(program, command=command, pid=pid, parameters=parameters, unsafe=unsafe) as opened:
        sink = open_sink("text", out, errors, Dialect.INVIVO, SinkOptions(quiet=True))
        for event in opened:
            seen.append(event)
            sink.event(event)
        sink.close()
    return Result(_decode(out), _decode(errors), seen, opened.status)


def run_bpftrace(program: str, *, parameters: tuple[str, ...] = ()) -> Result:
    """As `run`, with the neighbour's meaning and words; the compiler's messages are part of it."""
    out, errors, warnings, seen = BytesIO(), BytesIO(), list[Diagnostic](), list[Event]()
    status = 1
    try:
        with session(program, parameters=parameters, bpftrace=True, warnings=warnings) as opened:
            _write(out, warnings)
            sink = open_sink("text", out, errors, Dialect.BPFTRACE, SinkOptions(quiet=True))
            for event in opened:
                seen.append(event)
                sink.event(event)
            sink.close()
            status = opened.status
    except CompileError as mistakes:
        _write(errors, mistakes.diagnostics)
    return Result(_decode(out), _decode(errors), seen, status)


def _write(stream: BytesIO, diagnostics: Sequence[Diagnostic]) -> None:
    stream.write("".join(f"{format_bpftrace(diagnostic)}\n" for diagnostic in diagnostics).encode())


def _decode(stream: BytesIO) -> str:
    return stream.getvalue().decode("utf-8", "surrogateescape")
