"""The command ``invivo-bpftrace``: bpftrace's own command line, with bpftrace's meaning.

``-c`` does not filter here, errors and exit statuses are bpftrace's, and so are option names and texts.
"""

from __future__ import annotations

import errno
import os
import sys
from collections.abc import Callable, Sequence
from typing import NoReturn

from invivo.cli.failures import EXIT_BUG, guarded, say
from invivo.cli.options import Arguments, Option, UsageError, format_options, parse
from invivo.cli.process import run_process
from invivo.cli.sources import OutputFileError, decoded, read_source
from invivo.diagnostics import CompileError, Severity, SourceFile
from invivo.errors import InvivoError
from invivo.record import replace

# The release whose language and command line this is.
BPFTRACE_VERSION = "0.26.1"
EXIT_FAILED = 1
EXIT_RUN_FAILED = 255  # -1

OPTIONS = (
    Option(("-B",), "MODE", "output buffering mode ('line', 'full', 'none')", section="OPTIONS"),
    Option(("-f",), "FORMAT", "output format ('text', 'json')"),
    Option(("-o", "--output"), "FILE", "redirect the program's output to a file"),
    Option(("-e",), "PROGRAM", "execute this program"),
    Option(("-h", "--help"), help="show this help message"),
    Option(("-I",), "DIR", "add a directory to the include search path"),
    Option(("--include",), "FILE", "add an #include file"),
    Option(("-l", "--list"), help="list kernel probes or probes in a program"),
    Option(("-p", "--pid"), "PID", "filter actions and enable USDT probes on PID"),
    Option(("-c", "--cmd"), "CMD", "run CMD; its pid is cpid"),
    Option(("--unsafe",), help="allow unsafe functions"),
    Option(("-q", "--quiet"), help="keep messages quiet"),
    Option(("--info",), help="print information about kernel features"),
    Option(("-k", "--warnings"), help="emit a warning when a BPF helper returns an error"),
    Option(("--no-warnings",), help="disable all warning messages"),
    Option(("-V", "--version"), help="print the version"),
    Option(("-v", "--verbose"), help="verbose messages"),
    Option(("--dry-run",), help="terminate after attaching all the probes"),
    Option(("-d", "--debug"), "STAGE", "show a stage, and run: ast, types, libbpf, verifier, dis, all"),
    Option(("--no-feature",), "FEATURE[,FEATURE]", "do not use kprobe_multi, kprobe_session, uprobe_multi"),
    Option(("--probe-filter",), "REGEX", "attach only probes whose names match"),
    Option(("-b", "--btf"), hidden=True),
    Option(("--dwarf-pid",), "PID", hidden=True),
    Option(("--usdt-file-activation",), hidden=True),
    Option(("--debuginfo",), "DIR[:DIR]", "look for files of debug information there first"),
    Option(("--traceable-functions",), "FILE", hidden=True),
    Option(("--verify-llvm-ir",), hidden=True),
    Option(("--mode",), "MODE", hidden=True),
    Option(("--test",), hidden=True),
    Option(("--bench",), hidden=True),
    Option(("--fmt",), hidden=True),
    Option(("--emit-elf",), "FILE", hidden=True),
    Option(("--emit-llvm",), "FILE", hidden=True),
    Option(("--aot",), "FILE", hidden=True),
)

USAGE = f"""\
USAGE:
    bpftrace [options] filename
    bpftrace [options] - <stdin input>
    bpftrace [options] -e 'program'

{format_options(OPTIONS)}

EXAMPLES:
    bpftrace -l '*sleep*'
        list probes containing "sleep"
    bpftrace -e 'kprobe:do_nanosleep {{ printf("PID %d sleeping...\\n", pid); }}'
        trace processes calling sleep
    bpftrace -e 'tracepoint:raw_syscalls:sys_enter {{ @[comm] = count(); }}'
        count syscalls by process name
"""

_FEATURES = ("kprobe_multi", "kprobe_session", "uprobe_multi")
_MODES = ("codegen", "compiler-bench", "bench", "test", "format")
_STAGES = {
    "all": ("ast", "bpf"),
    "ast": ("ast",),
    "parse": ("ast",),
    "types": ("ast",),
    "codegen": (),
    "codegen-opt": (),
    "dis": ("bpf",),
    "libbpf": (),
    "verifier": (),
}
# What bpftrace can do and invivo cannot: said at once instead of ignored.
_NO_LLVM = "it compiles without LLVM"
_ABSENT = {
    "--emit-elf": "it loads programs without an ELF file; -d dis shows them",
    "--emit-llvm": f"{_NO_LLVM}; -d dis shows the programs",
    "--aot": "it needs no compiler where a program runs",
    "--mode compiler-bench": _NO_LLVM,
    "-d codegen": f"{_NO_LLVM}; -d dis shows the programs",
    "-d codegen-opt": f"{_NO_LLVM}; -d dis shows the programs",
}
_SHORT_MODES = {"test": "test", "bench": "bench", "fmt": "format"}


class FatalError(Exception):
    """A message in bpftrace's words, and the exit status. ``usage``: the help follows."""

    def __init__(self, message: str, *, usage: bool = False, status: int = EXIT_FAILED) -> None:
        super().__init__(message)
        self.message = message
        self.usage = usage
        self.status = status


def main() -> NoReturn:
    """The command's process: runs its command line, and ends with the exit status."""
    run_process(lambda: run_words(sys.argv[1:], os.path.basename(sys.argv[0])))


def run_words(words: Sequence[str], name: str = "invivo-bpftrace") -> int:
    """Run bpftrace's command line, without the name of the command; return the exit status."""
    return guarded(name, lambda: _in_bpftraces_words(name, lambda: _command(list(words))))


def _in_bpftraces_words(name: str, command: Callable[[], int]) -> int:
    try:
        return command()
    except UsageError as mistake:
        say(f"{name}: {mistake.classic}")
        return say(USAGE)
    except FatalError as problem:
        say(problem.message)
        if problem.usage:
            say(USAGE)
        return problem.status


def _command(words: list[str]) -> int:
    if not words:
        return say(USAGE)
    arguments = parse(OPTIONS, words, abbreviations=True)
    if arguments.has("help"):
        sys.stdout.write(USAGE)
        return 0
    if arguments.has("version"):
        sys.stdout.write(f"bpftrace v{BPFTRACE_VERSION}\n")
        return 0
    _check(arguments)
    if _mode(arguments) != "format":
        _check_privileges()
    if arguments.has("info"):
        from invivo.cli.doctor import bpftrace_info

        sys.stdout.write(bpftrace_info(BPFTRACE_VERSION))
        return 0
    try:
        if _mode(arguments) == "format":
            return _format(arguments)
        return _list(arguments) if arguments.has("list") else _run(arguments)
    except CompileError as mistakes:
        return _say_mistakes(mistakes, warnings=not arguments.has("no-warnings"))


def _say_mistakes(mistakes: CompileError, *, warnings: bool) -> int:
    """Write all errors, then all warnings; without ``warnings`` neither these nor hints."""
    from invivo.rendering import format_bpftrace

    for severity in (Severity.ERROR, Severity.WARNING) if warnings else (Severity.ERROR,):
        for diagnostic in mistakes.diagnostics:
            if diagnostic.severity is severity:
                shown = diagnostic if warnings else replace(diagnostic, hint=None)
                say(format_bpftrace(shown, coloured=_coloured()))
    return EXIT_FAILED


def _check(arguments: Arguments) -> None:
    """Refuse values and combinations, in bpftrace's words. Raises `FatalError`."""
    form = arguments.value("f")
    if form not in (None, "text", "json"):
        raise FatalError(f"ERROR: Invalid output format \"{form}\"\nValid formats: 'text', 'json'")
    if arguments.value("B") not in (None, "line", "full", "none"):
        raise FatalError("USAGE: -B must be either 'line', 'full', or 'none'.")
    if arguments.count("warnings") > 1:
        raise FatalError("ERROR: -kk has been deprecated. Use a single -k to show run-time warnings.")
    if arguments.has("warnings") and arguments.has("no-warnings"):
        raise FatalError("USAGE: -k conflicts with --no-warnings")
    if arguments.has("cmd") and arguments.has("pid"):
        raise FatalError("USAGE: Cannot use both -c and -p.", usage=True)
    for feature in _unwanted_features(arguments):
        if feature not in _FEATURES:
            raise FatalError(f"USAGE: --no-feature can only have values {', '.join(_FEATURES)}.")
    stages = _stages(arguments)
    for stage in stages:
        if stage not in _STAGES:
            raise FatalError(f"USAGE: invalid option for -d: {stage}")
    mode = arguments.value("mode")
    if mode is not None and mode not in _MODES:
        raise FatalError(f"USAGE: invalid option for --mode: {mode}")
    _check_modes(arguments, mode)
    absent = [name for name in _ABSENT if arguments.has(name.removeprefix("--"))]
    absent += [name for name in (*(f"-d {stage}" for stage in stages), f"--mode {mode}") if name in _ABSENT]
    for name in absent:
        raise FatalError(f"ERROR: {name} is not supported by invivo: {_ABSENT[name]}")


def _check_modes(arguments: Arguments, mode: str | None) -> None:
    short = [name for name in _SHORT_MODES if arguments.has(name)]
    if len(short) + (mode is not None) > 1:
        raise FatalError(f"USAGE: --{short[-1]} conflicts with existing --mode")


def _check_privileges() -> None:
    """Refuse to go on where tracing cannot work, in bpftrace's words, whatever is asked for. Raises `FatalError`."""
    from invivo.kernel.capabilities import lockdown, missing

    for lacking in missing(("CAP_BPF", "CAP_PERFMON")):
        raise FatalError(f"ERROR: Missing {lacking} capability, please run bpftrace as the root user.")
    if lockdown() == "confidentiality":
        raise FatalError(
            "ERROR: Kernel lockdown is enabled and set to 'confidentiality'. Lockdown mode blocks parts of BPF "
            "which makes it impossible for bpftrace to function."
        )


def _mode(arguments: Arguments) -> str:
    return next((mode for name, mode in _SHORT_MODES.items() if arguments.has(name)), arguments.value("mode") or "")


def _stages(arguments: Arguments) -> list[str]:
    return [stage for value in arguments.values("debug") for stage in value.split(",")]


def _unwanted_features(arguments: Arguments) -> tuple[str, ...]:
    return tuple(feature for value in arguments.values("no-feature") for feature in value.split(",") if feature)


def _pid(arguments: Arguments) -> int | None:
    text = arguments.value("pid")
    if text is None:
        return None
    try:
        pid = int(text, 0)
    except ValueError:
        raise FatalError(f"ERROR: Failed to parse pid: invalid integer: {text}") from None
    if not 0 < pid <= 0x400000:
        raise FatalError(f"ERROR: Pid out of range: {pid}")
    try:
        os.stat(f"/proc/{pid}")
    except OSError as problem:
        raise FatalError(f"ERROR: Failed to attach to pid: {os.strerror(errno.ESRCH)}: {pid}") from problem
    return pid


# -- listing -----------------------------------------------------------------------------------


def _list(arguments: Arguments) -> int:
    from invivo.cli.bpftrace_list import ListedFacts, list_patterns, list_program
    from invivo.formats.elf import DEBUG_DIRECTORIES

    words = arguments.words + arguments.after
    facts = ListedFacts(
        _pid(arguments),
        debug_directories=(*_debug_directories(arguments), *DEBUG_DIRECTORIES),
        functions_file=arguments.value("traceable-functions") or "",
        btf_path=os.environ.get("BPFTRACE_BTF", ""),
    )
    verbose = arguments.has("verbose")
    if arguments.value("e") or (words and os.path.isfile(words[0])):
        parameters = tuple(words if arguments.value("e") else words[1:])
        return list_program(_source(arguments), parameters, _environment(), facts, verbose=verbose)
    return list_patterns(words[0] if words else "*:*", facts, verbose=verbose)


# -- running -----------------------------------------------------------------------------------


def _source(arguments: Arguments) -> SourceFile:
    text = arguments.value("e")
    if text:
        return SourceFile("stdin", decoded(text.encode("utf-8", "surrogateescape")))
    words = arguments.words + arguments.after
    if not words:
        raise FatalError("USAGE: filename or -e 'program' required.")
    path = words[0]
    try:
        return read_source(path)
    except InvivoError as problem:
        reason = problem.__cause__.strerror if isinstance(problem.__cause__, OSError) else str(problem)
        raise FatalError(f"ERROR: failed to open file '{path}': {reason}") from problem


def _format(arguments: Arguments) -> int:
    from invivo.cli.fmt import format_source

    text, has_comments = format_source(_source(arguments))
    sys.stdout.write(text)
    if not has_comments:
        say("WARNING: comments are left out.")
    return 0


def _run(arguments: Arguments) -> int:
    from invivo.cli.tracing import Request, compile_request, trace
    from invivo.probes.provider import Role
    from invivo.target import Scope

    pid = _pid(arguments)
    source = _source(arguments)
    words = arguments.words + arguments.after
    request = Request(
        source=source,
        parameters=tuple(words if arguments.value("e") else words[1:]),
        command=_command_of(arguments),
        pid=pid,
        scope=Scope.ALL if pid is None else Scope.PROCESS,
        form=arguments.value("f") or "text",
        output=arguments.value("output"),
        buffering=arguments.value("B") or "",
        quiet=arguments.has("quiet"),
        verbose=arguments.has("verbose"),
        dump=tuple(stage for each in _stages(arguments) for stage in _STAGES[each]),
        verifier_log=not {"verifier", "all"}.isdisjoint(_stages(arguments)),
        wanted=_filter(arguments),
        trial={"test": Role.TEST, "bench": Role.BENCH}.get(_mode(arguments)),
        dry_run=arguments.has("dry-run"),
        unsafe=arguments.has("unsafe"),
        debug_directories=_debug_directories(arguments),
        without=_unwanted_features(arguments),
        functions_file=arguments.value("traceable-functions") or "",
        warnings=arguments.has("warnings"),
        suppress_warnings=arguments.has("no-warnings"),
        environment=_environment(),
        bpftrace=True,
        coloured=_coloured(),
        include_folders=(*arguments.values("I"), *_include_folders()),
        includes=tuple(arguments.values("include")),
    )
    try:
        if _mode(arguments) == "codegen":
            compile_request(request)
            return 0
        return trace(request)
    except OutputFileError as problem:
        raise FatalError(f"ERROR: {problem.classic}") from problem
    except InvivoError as problem:
        hint = f"\nHINT: {problem.hint}" if problem.hint else ""
        raise FatalError(f"ERROR: {problem}{hint}", status=_status_of(problem)) from problem


def _command_of(arguments: Arguments) -> tuple[str, ...]:
    """The words of -c, of which the first is a program."""
    text = arguments.value("cmd")
    if text is None:
        return ()
    from invivo.cli.run import split_command
    from invivo.errors import ProcessError
    from invivo.runtime.process import find_command

    try:
        words = split_command(text)
    except UsageError as mistake:
        raise FatalError(f"ERROR: Failed to fork child: {mistake.message}") from mistake
    try:
        if os.access(find_command(words[0]), os.X_OK):
            return words
    except ProcessError:
        pass
    raise FatalError(f"ERROR: Failed to fork child: path '{words[0]}' does not exist or is not executable")


def _filter(arguments: Arguments) -> Callable[[str], object] | None:
    """The test of --probe-filter: a regular expression that a probe's name contains."""
    text = arguments.value("probe-filter")
    if text is None:
        return None
    import re

    try:
        return re.compile(text).search
    except re.error as problem:
        raise FatalError(f"ERROR: Invalid regular expression for --probe-filter: {problem}") from problem


def _debug_directories(arguments: Arguments) -> tuple[str, ...]:
    """The directories of --debuginfo; a + or - before one says whether checksums count, which they always do here."""
    given = [directory for value in arguments.values("debuginfo") for directory in value.split(":")]
    return tuple(directory.lstrip("+-") for directory in given)


def _status_of(problem: InvivoError) -> int:
    from invivo.errors import ProcessError, VerifierError

    if isinstance(problem, VerifierError) and not problem.too_large:
        return EXIT_BUG
    return EXIT_FAILED if isinstance(problem, ProcessError) else EXIT_RUN_FAILED


def _coloured() -> bool:
    """Whether messages are in colour: BPFTRACE_COLOR says auto (the default: on a terminal), always, never."""
    wish = os.environ.get("BPFTRACE_COLOR", "auto")
    return wish == "always" or (wish != "never" and sys.stdout.isatty() and sys.stderr.isatty())


def _include_folders() -> list[str]:
    """The folders that C's compilers look for headers in."""
    paths = ":".join(os.environ.get(name, "") for name in ("CPATH", "C_INCLUDE_PATH"))
    return [path for path in paths.split(":") if path]


def _environment() -> dict[str, str]:
    """The settings in the environment: ``BPFTRACE_MAX_STRLEN`` ..."""
    return {name: value for name, value in os.environ.items() if name.startswith("BPFTRACE_")}
