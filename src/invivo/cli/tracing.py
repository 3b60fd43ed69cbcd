"""One trace from start to end, for both commands: fork, compile, load, show the events."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Mapping, Sequence

from invivo.cli.failures import say
from invivo.cli.process import collect_from_now
from invivo.cli.sources import Messages, Output
from invivo.diagnostics import SourceFile
from invivo.errors import InvivoError, VerifierError
from invivo.formats.elf import DEBUG_DIRECTORIES
from invivo.kernel import cpus
from invivo.kernel.capabilities import missing
from invivo.lang.check.options import is_option
from invivo.output.outputs import SinkOptions, lines_of, open_sink
from invivo.output.sink import Buffering, Dialect, Header, Sink, Stream
from invivo.output.terminal import display
from invivo.pipeline import Compilation, CompileOptions, compile_source
from invivo.probes.machine import Machine
from invivo.probes.provider import Role
from invivo.record import Record
from invivo.runtime.load import most_memory
from invivo.runtime.process import Child
from invivo.runtime.session import Session, SessionOptions
from invivo.target import NoFiles, Scope, ScriptFiles
from invivo.version import VERSION

_NOTHING: Mapping[str, str] = {}
STAGES = ("ast", "ir", "bpf", "image")


class PrivilegeError(InvivoError):
    """This process may not trace. ``capabilities`` are those that are missing."""

    def __init__(self, capabilities: list[str]) -> None:
        one = len(capabilities) == 1
        names = " and ".join(capabilities)
        super().__init__(
            f"tracing needs {names}, which this process does not have",
            f"run it as root, or in a service with {'this capability' if one else 'these capabilities'} "
            "(AmbientCapabilities=); `invivo doctor` says more",
        )
        self.capabilities = capabilities


_NOTIFY = "__BPFTRACE_NOTIFY_PROBES_ATTACHED"


class Request(Record):
    """What a command line asks for.

    ``form``: text, json, ndjson, parquet (with an ``output``).
    ``buffering``: "" (what suits the output), line, full, none.
    ``environment``: variables whose settings (``BPFTRACE_MAX_STRLEN``) win over the program's own.
    ``without``: features of the kernel that are not used. ``functions_file``: lists the functions to be traced.
    ``dump``: stages to be shown; bpftrace runs the program then, invivo does not. ``verifier_log``: shown, too.
    ``bpftrace``: that command's meaning of everything. ``include_folders``, ``includes``: of C headers.
    ``sink``: what makes an output of its own, instead of that of ``form``.
    """

    source: SourceFile
    parameters: tuple[str, ...] = ()
    command: tuple[str, ...] = ()
    pid: int | None = None
    scope: Scope = Scope.ALL
    debug_directories: tuple[str, ...] = ()
    without: tuple[str, ...] = ()
    functions_file: str = ""
    form: str = "text"
    output: str | None = None
    wanted: Callable[[str], object] | None = None
    trial: Role | None = None
    buffering: str = ""
    cgroup: str = ""
    quiet: bool = False
    verbose: bool = False
    dump: tuple[str, ...] = ()
    verifier_log: bool = False
    dry_run: bool = False
    unsafe: bool = False
    warnings: bool = False
    suppress_warnings: bool = False
    environment: Mapping[str, str] = _NOTHING
    bpftrace: bool = False
    coloured: bool = False
    include_folders: tuple[str, ...] = ()
    includes: tuple[str, ...] = ()
    sink: Callable[[Stream], Sink] | None = None


def trace(request: Request) -> int:
    """Do what is asked; return the exit status. Raises `CompileError`, `InvivoError`."""
    # Before any thread or kernel object exists: a fork copies the whole process.
    shows_only = bool(request.dump) and not request.bpftrace
    child = Child(request.command) if request.command and not shows_only else None
    try:
        compilation = compile_request(request)
        if request.dump:
            from invivo.cli.dump import format_stage

            for stage in request.dump:
                sys.stdout.write(format_stage(compilation, stage))
            sys.stdout.flush()
        if shows_only:
            return 0
        return _session(request, compilation, child)
    finally:
        if child is not None:
            child.close()


def compile_request(request: Request) -> Compilation:
    """Compile, and show what the compiler warns of. Raises `CompileError`."""
    files: ScriptFiles = NoFiles()
    if "import" in request.source.text or "#include" in request.source.text or request.includes:
        from invivo.script_files import DiskFiles

        files = DiskFiles(request.include_folders)
    options = CompileOptions(
        parameters=tuple(word for word in request.parameters if not is_option(word)),
        named=tuple(word for word in request.parameters if is_option(word)),
        unsafe=request.unsafe,
        bpftrace=request.bpftrace,
        environment=request.environment,
        warnings=request.warnings,
        files=files,
        includes=request.includes,
    )
    with Machine(
        request.scope,
        request.pid,
        unsafe=request.unsafe,
        wanted=request.wanted,
        trial=request.trial,
        debug_directories=(*request.debug_directories, *DEBUG_DIRECTORIES),
        without=request.without,
        functions_file=request.functions_file,
        btf_path=request.environment.get("BPFTRACE_BTF", ""),
    ) as machine:
        compilation = compile_source(request.source, machine, options)
    if compilation.warnings and not request.suppress_warnings:
        from invivo.rendering import format_bpftrace, format_diagnostic

        # bpftrace writes what it warns of at compile time where the results go.
        stream = sys.stdout if request.bpftrace else sys.stderr
        for warning in compilation.warnings:
            shown = (
                format_bpftrace(warning, coloured=request.coloured) if request.bpftrace else format_diagnostic(warning)
            )
            stream.write(f"{shown}\n")
        stream.flush()
    return compilation


def check_privileges() -> None:
    """Raise `PrivilegeError` if this process may not trace at all."""
    lacking = missing(("CAP_BPF", "CAP_PERFMON"))
    if lacking:
        raise PrivilegeError(lacking)


def _session(request: Request, compilation: Compilation, child: Child | None) -> int:
    check_privileges()
    if request.verbose:
        _say_what_is_attached(compilation, bpftrace=request.bpftrace)
    if request.form == "parquet":
        from invivo.output.parquet import libraries

        libraries()  # before anything is attached: it takes longer than the ring lasts
    logs = request.verifier_log or (request.verbose and not request.bpftrace)
    try:
        with Output(request.output) as stream:
            escape = display if os.isatty(stream.fd) else None
            session = Session(
                compilation.image,
                child=child,
                pid=request.pid,
                options=SessionOptions(
                    bpftrace=request.bpftrace,
                    follow=request.pid is not None and request.scope is not Scope.PROCESS,
                    cgroup=request.cgroup,
                    watches_all=request.sink is not None,
                    dry_run=request.dry_run,
                    lines=lines_of(request.form) if request.sink is None else None,
                    tables=request.form == "parquet",
                    escape=escape,
                    log_level=1 if logs else 0,
                ),
            )
            with session:
                for name, log in session.logs() if logs else ():
                    say(f"verifier's log of {name}:\n{log}")
                if request.trial is not None:
                    return _show_trials(session, request, stream)
                sink = _open_sink(request, compilation, stream, terminal=escape is not None)
                for path in session.pinned:
                    stream.write(f"Program pinned to {path}\n".encode())
                collect_from_now()
                _show(session, sink, hook=request.bpftrace)
                return session.status
    except VerifierError as refusal:
        if request.verbose or logs:
            say(refusal.log)
        raise


def _say_what_is_attached(compilation: Compilation, *, bpftrace: bool) -> None:
    from invivo.cli.dump import describe_attaching, describe_image

    if bpftrace:
        say(describe_attaching(compilation.image))
        return
    ring, others = (f"{size / (1 << 20):.1f} MiB" for size in most_memory(compilation.image, cpus.possible()))
    say(describe_image(compilation.image))
    say(f"memory in the kernel, at most: {ring} for events that wait, {others} for maps\n")


def _show_trials(session: Session, request: Request, stream: Output) -> int:
    """Run tests or benchmarks; the exit status says whether all tests have passed."""
    from invivo.cli.trials import run_benchmarks, run_tests

    if request.trial is Role.BENCH:
        for text in run_benchmarks(session, request.form):
            stream.write(text.encode())
        return 0
    verdict = True
    for text, passed in run_tests(session, request.form):
        stream.write(text.encode())
        verdict = passed
    return 0 if verdict else 1


def _open_sink(request: Request, compilation: Compilation, stream: Output, *, terminal: bool) -> Sink:
    if request.sink is not None:
        return request.sink(stream)
    dialect = Dialect.BPFTRACE if request.bpftrace else Dialect.INVIVO
    return open_sink(request.form, stream, Messages(), dialect, _sink_options(request, compilation, terminal=terminal))


def _sink_options(request: Request, compilation: Compilation, *, terminal: bool) -> SinkOptions:
    labels: Sequence[tuple[str, ...]] = ()
    if request.form == "parquet":
        from invivo.lang.labels import column_labels

        labels = column_labels(compilation.script, compilation.image.layout)
    return SinkOptions(
        buffering=Buffering(request.buffering or "line"),
        quiet=request.quiet,
        warnings=not request.suppress_warnings,
        trailer=compilation.image.layout.settings.truncation_trailer,
        terminal=terminal,
        errors_terminal=sys.stderr.isatty(),
        header=_header(request),
        layout=compilation.image.layout,
        labels=labels,
        path=request.output or "",
        open_stream=Output,
    )


def _header(request: Request) -> Header:
    """What a stream of events says of itself."""
    source = request.source
    return Header(VERSION, os.uname().release, ((source.name, source.text),), tuple(sys.argv[1:]))


def _show(session: Session, sink: Sink, *, hook: bool) -> None:
    """Give every event to the output; whatever happens, what came is written."""
    try:
        batches = session.batches()
        for events in batches:  # the first one says that everything is attached
            sink.events(events)
            sink.flush()
            _tell_attached(hook=hook)
            break
        for events in batches:
            sink.events(events)
            sink.flush()
    finally:
        sink.close()
        if "NOTIFY_SOCKET" in os.environ:
            notify_service("STOPPING=1\nSTATUS=ending")


def _tell_attached(*, hook: bool) -> None:
    """Tell whoever waits for it that everything is attached: a service's supervisor, or a test (``hook``)."""
    if hook and _NOTIFY in os.environ:
        sys.stdout.write(f"{_NOTIFY}\n")
        sys.stdout.flush()
    if "NOTIFY_SOCKET" in os.environ:
        notify_service("READY=1\nSTATUS=tracing")


def notify_service(state: str) -> None:
    """Tell the supervisor of a service its state, as sd_notify(3) does; that nobody listens does not matter."""
    import socket

    address = os.environ["NOTIFY_SOCKET"]
    try:
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as sender:
            sender.sendto(state.encode(), address.replace("@", "\0", 1) if address.startswith("@") else address)
    except OSError:
        return
