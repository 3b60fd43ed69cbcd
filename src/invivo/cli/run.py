"""``invivo run``: compile a program, trace, show what it found."""

from __future__ import annotations

import sys
from collections.abc import Sequence

from invivo.api import scope_of
from invivo.cli.options import Arguments, Option, UsageError, format_options, parse, parse_pid
from invivo.cli.sources import decoded, read_source
from invivo.cli.tracing import STAGES, Request, trace
from invivo.diagnostics import SourceFile

OPTIONS = (
    Option(("-e",), "PROGRAM", "the program itself"),
    Option(("-c", "--command"), "CMD", "run a command and trace it and all its descendants, until it ends",
           section="what is traced (without these: the whole system)"),
    Option(("-p", "--pid"), "PID", "trace a process and its threads, until it ends"),
    Option(("--follow",), help="with -p: its children too"),
    Option(("--cgroup",), "PATH", "trace the processes of a control group (version 2) and of those below it"),
    Option(("--container",), "ID", "the same, by a container's id or its beginning"),
    Option(("--all-processes",), help="with -c or -p: do not filter"),
    Option(("-f", "--format"), "FORMAT", "text (default), json (bpftrace's shapes), ndjson (typed events), parquet",
           choices=("text", "json", "ndjson", "parquet"), section="output"),
    Option(("-o", "--output"), "FILE", "write the results to a file; FILE.parquet: as a table"),
    Option(("-B", "--buffer"), "MODE", "write out after each line, when full, or at once: line, full, none",
           choices=("line", "full", "none")),
    Option(("-q", "--quiet"), help="no word about the tracing itself"),
    Option(("-v", "--verbose"), help="show programs, maps, and the verifier's log if it refuses"),
    Option(("--dump",), "STAGE", "show a stage of the compiler instead of tracing: ast, ir, bpf, image",
           choices=STAGES),
    Option(("--dry-run",), help="load and attach, then end", section="behaviour"),
    Option(("--unsafe",), help="allow what changes the system: system()"),
    Option(("-I",), "DIR", "look for C headers in this folder, too"),
    Option(("--include",), "FILE", "include a C header before the program"),
    Option(("-k", "--warnings"), help="report failed lookups, reads and updates, too"),
    Option(("-h", "--help"), help="show this"),
)  # fmt: skip

USAGE = f"""\
usage: invivo run [OPTION]... FILE [ARGUMENT]...
       invivo run [OPTION]... -e PROGRAM [ARGUMENT]...

Runs a program in the bpftrace language until it calls exit(), what it traces has ended, or Ctrl-C.
FILE may be - for standard input. ARGUMENTs are $1, $2 ... in the program; --name=value after -- sets
the program's own options.

{format_options(OPTIONS)}

exit status: that of exit(), else the command's (128 + signal if one killed it); 1 if the program is wrong or the
machine refuses, 2 for a mistake on the command line
"""


def run(words: Sequence[str]) -> int:
    """Run ``invivo run``; return the exit status."""
    arguments = parse(OPTIONS, words)
    if arguments.has("help"):
        sys.stdout.write(USAGE)
        return 0
    return trace(understand(arguments))


def understand(arguments: Arguments) -> Request:
    """What the command line asks for. Raises `UsageError`, `InvivoError` if a script cannot be read."""
    pid = arguments.value("pid")
    command = split_command(arguments.value("command"))
    if pid is not None and command:
        raise UsageError("-c and -p exclude each other", "--follow traces the children of a process, too")
    cgroup = cgroup_path(arguments)
    if cgroup and (command or pid is not None):
        raise UsageError("--cgroup and --container exclude -c and -p")
    for option in ("follow", "all-processes"):
        if arguments.has(option) and pid is None and not (command and option == "all-processes"):
            needed = "-p" if option == "follow" else "-c or -p"
            raise UsageError(f"--{option} goes with {needed}", _WHY_NOT[option])
    number = parse_pid(pid) if pid is not None else None
    output = arguments.value("output")
    form = arguments.value("format") or ("parquet" if (output or "").endswith(".parquet") else "text")
    if form == "parquet" and output is None:
        raise UsageError("-f parquet needs a file", "-o FILE.parquet")
    source, parameters = _program(arguments)
    return Request(
        source=source,
        parameters=tuple(parameters),
        command=command,
        pid=number,
        cgroup=cgroup,
        scope=scope_of(
            command=bool(command),
            pid=number,
            follow=arguments.has("follow"),
            cgroup=bool(cgroup),
            all_processes=arguments.has("all-processes"),
        ),
        form=form,
        output=output,
        buffering=arguments.value("buffer") or "",
        quiet=arguments.has("quiet"),
        verbose=arguments.has("verbose"),
        dump=tuple(arguments.values("dump")),
        dry_run=arguments.has("dry-run"),
        unsafe=arguments.has("unsafe"),
        warnings=arguments.has("warnings"),
        include_folders=tuple(arguments.values("I")),
        includes=tuple(arguments.values("include")),
    )


_WHY_NOT = {
    "follow": "-c follows all descendants anyway",
    "all-processes": "without them the whole system is traced anyway",
}


def cgroup_path(arguments: Arguments) -> str:
    """The path of the control group that is meant, "" for none."""
    path, container = arguments.value("cgroup"), arguments.value("container")
    if container is None:
        return path or ""
    if path is not None:
        raise UsageError("--cgroup and --container exclude each other")
    from invivo.runtime.cgroups import find_container

    return find_container(container)


def split_command(text: str | None) -> tuple[str, ...]:
    """The words of ``-c``, split as a shell does, without its expansions."""
    if text is None:
        return ()
    import shlex

    try:
        words = tuple(shlex.split(text))
    except ValueError as problem:
        raise UsageError(f"-c: {str(problem).lower()} in '{text}'") from problem
    if not words:
        raise UsageError("-c needs a command")
    return words


def _program(arguments: Arguments) -> tuple[SourceFile, list[str]]:
    """The program, and the words that are its parameters."""
    words = arguments.words + arguments.after
    text = arguments.value("e")
    if text is not None:
        return SourceFile("-e", decoded(text.encode("utf-8", "surrogateescape"))), words
    if not arguments.words:
        raise UsageError("no program", "give a file, - for standard input, or -e PROGRAM")
    return read_source(arguments.words[0]), words[1:]
