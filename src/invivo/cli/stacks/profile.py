"""``invivo profile``, ``offcpu`` and ``stacks``: record stacks, show or draw them."""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence

from invivo.api import scope_of
from invivo.cli.failures import say
from invivo.cli.options import Arguments, Option, UsageError, format_options, parse, parse_pid
from invivo.cli.run import cgroup_path, split_command
from invivo.cli.sources import Messages, Output
from invivo.cli.stacks.flame import PICTURE, chosen_form, picture_options
from invivo.cli.tracing import STAGES, Request, trace
from invivo.diagnostics import SourceFile
from invivo.interpreters import MODULES as INTERPRETERS
from invivo.interpreters.record import find_interpreter
from invivo.kernel.files import read_text
from invivo.output.flamegraph import FlameOptions, quality_lines
from invivo.output.profiles import profile_output
from invivo.output.sink import Sink, Stream
from invivo.profiling.live import LiveView, terminal_size
from invivo.profiling.programs import STATES, Stacks, Waits, event_program, key_parts, wait_key, wait_program
from invivo.profiling.recorder import Recipe, Recorder
from invivo.record import replace
from invivo.runtime.cgroups import members
from invivo.runtime.process import descendants
from invivo.runtime.symbols import parse_maps
from invivo.stacks import Profile
from invivo.target import Scope

_TRACED = (
    Option(("-c", "--command"), "CMD", "run a command, it and all its descendants count",
           section="what is traced (one of these)"),
    Option(("-p", "--pid"), "PID", "a process and its threads"),
    Option(("--follow",), help="with -p: its children too"),
    Option(("--cgroup",), "PATH", "the processes of a control group (version 2) and of those below it"),
    Option(("--container",), "ID", "the same, by a container's id or its beginning"),
    Option(("-a", "--all-processes"), help="the whole system"),
)  # fmt: skip

_STACKS = (
    Option(("--by",), "WHAT", "tell stacks apart by comm (default), pid or tid", choices=("comm", "pid", "tid"),
           section="stacks"),
    Option(("-U", "--user"), help="of user space only"),
    Option(("-K", "--kernel"), help="of the kernel only"),
    Option(("--unwind",), "HOW", "how user stacks are walked: by the files' tables (dwarf, the default: complete)\n"
           "or by frame pointers only (frame-pointer: cheaper)", choices=("dwarf", "frame-pointer")),
    Option(("--native",), help="no frames of interpreted code (Python), only what the interpreter does"),
    Option(("--inlined",), help="show inlined functions, where there is debug information"),
    Option(("--lines",), help="say the lines of the source, where there is debug information"),
)  # fmt: skip

_REST = (
    *PICTURE,
    Option(("--top",), help="show the hottest functions and stacks while recording"),
    Option(("-q", "--quiet"), help="no progress on stderr", section="behaviour"),
    Option(("--dump",), "STAGE", "show a stage of the compiler instead of tracing, or the program: source, "
           + ", ".join(STAGES), choices=("source", *STAGES)),
    Option(("-v", "--verbose"), help="show programs, maps, and the verifier's log if it refuses"),
    Option(("-h", "--help"), help="show this"),
)  # fmt: skip

_ENDING = """
It ends after SECONDS, when what it traces has ended, or by Ctrl-C, and keeps what there is. How many stacks are
truncated, nameless or lost stands in every result.
"""

PROFILE_OPTIONS = (
    Option(("-F", "--frequency"), "HZ", "samples per second and processor (99)"),
    *_TRACED,
    *_STACKS,
    *_REST,
)

PROFILE_USAGE = f"""\
usage: invivo profile [OPTION]... -c CMD | -p PID | --cgroup PATH | -a [SECONDS]

Samples what the processors do: which functions take the time.
{_ENDING}
{format_options(PROFILE_OPTIONS)}
"""

STACKS_OPTIONS = (
    Option(("--weight",), "EXPRESSION", "what to add up instead of counting: args.bytes"),
    Option(("--unit",), "WORD", "what the sum of weights is: bytes"),
    Option(("--if",), "CONDITION", "count only where it holds: 'args.bytes > 4096'"),
    *_TRACED,
    *_STACKS,
    *_REST,
)

STACKS_USAGE = f"""\
usage: invivo stacks EVENT [OPTION]... -c CMD | -p PID | --cgroup PATH | -a [SECONDS]

Which stacks lead to an event. EVENT is any probe of the language: tracepoint:block:block_rq_issue,
software:page-faults:1, uprobe:libc:malloc ...
{_ENDING}
{format_options(STACKS_OPTIONS)}
"""


OFFCPU_OPTIONS = (
    Option(("-m", "--min"), "TIME", "shortest wait that counts (1us); 5ms, 1s"),
    Option(("-M", "--max"), "TIME", "longest wait that counts"),
    Option(("--state",), "LETTERS", "in which state, as of ps(1): S sleeping, D uninterruptible, R runnable but not\n"
           "running ...; without it all but R"),
    Option(("--waker",), help="add the stack of what wakes the thread"),
    *_TRACED,
    *_STACKS,
    *_REST,
)  # fmt: skip

OFFCPU_USAGE = f"""\
usage: invivo offcpu [OPTION]... -c CMD | -p PID | --cgroup PATH | -a [SECONDS]

Adds up the time for which threads wait, by the stack in which they do: sleeps, locks, pipes, disks. A wait that has
not ended counts until the end, with -p and --cgroup also one that began before the recording.
{_ENDING}
{format_options(OFFCPU_OPTIONS)}
"""


def profile(words: Sequence[str]) -> int:
    """Run ``invivo profile``; return the exit status."""
    arguments = parse(PROFILE_OPTIONS, words)
    if arguments.has("help"):
        sys.stdout.write(PROFILE_USAGE)
        return 0
    stacks = _stacks(arguments, [*arguments.words, *arguments.after])
    hertz = _frequency(arguments.value("frequency"))
    # Idle processors are sampled, too: in the task with the number 0.
    text = event_program(f"profile:hz:{hertz}", "", stacks, condition="tid" if arguments.has("all-processes") else "")
    return _record(arguments, text, Recipe(key_parts(stacks), "samples"), stacks, f"{hertz} Hz")


def offcpu(words: Sequence[str]) -> int:
    """Run ``invivo offcpu``; return the exit status."""
    arguments = parse(OFFCPU_OPTIONS, words)
    if arguments.has("help"):
        sys.stdout.write(OFFCPU_USAGE)
        return 0
    chosen = _stacks(arguments, [*arguments.words, *arguments.after])
    waits = Waits(
        states=_states(arguments.value("state")),
        least_ns=_time_ns(arguments, "min", 1000),
        most_ns=_time_ns(arguments, "max", 0),
        waker=arguments.has("waker"),
    )
    recipe = Recipe(wait_key(chosen, waits), "us", divisor=1000, waits=waits)
    return _record(arguments, wait_program(chosen, waits), recipe, chosen, "time off the processor")


def stacks(words: Sequence[str]) -> int:
    """Run ``invivo stacks``; return the exit status."""
    arguments = parse(STACKS_OPTIONS, words)
    if arguments.has("help"):
        sys.stdout.write(STACKS_USAGE)
        return 0
    if not arguments.words:
        raise UsageError("no event", "give a probe: invivo stacks software:page-faults:1 -c CMD")
    event, *rest = arguments.words
    chosen = _stacks(arguments, [*rest, *arguments.after])
    weight = arguments.value("weight") or ""
    text = event_program(event, weight, chosen, condition=arguments.value("if") or "")
    unit = arguments.value("unit") or (weight.rpartition(".")[2] if weight else "events")
    return _record(arguments, text, Recipe(key_parts(chosen), unit), chosen, event)


def _record(arguments: Arguments, text: str, recipe: Recipe, stacks: Stacks, subtitle: str) -> int:
    """Run a program, and write the profile that it gathers."""
    if "source" in arguments.values("dump"):
        sys.stdout.write(text)
        return 0
    form, options, request = chosen_form(arguments), picture_options(arguments), _request(arguments)
    progress = sys.stderr.isatty() and not arguments.has("quiet")
    recipe = replace(
        recipe,
        progress=progress,
        seconds=stacks.seconds,
        lines=arguments.has("lines"),
        inlined=arguments.has("inlined"),
        by_tables=stacks.unwind == "dwarf",
        processes=_processes(request) if recipe.waits is not None else (),
    )
    options = replace(options, subtitle=options.subtitle or subtitle)
    output = arguments.value("output")

    def sink(stream: Stream) -> Sink:
        show = None
        if arguments.has("top"):
            shown = Output(None)
            show = LiveView(shown, f"invivo: {subtitle}", lambda: terminal_size(shown.fd)).show
        return Recorder(recipe, Messages(), _writer(form, options, stream, told=output is not None), show)

    return trace(replace(request, source=SourceFile("invivo", text), output=output, sink=sink))


def _processes(request: Request) -> tuple[int, ...]:
    """The processes that are there before the recording. Raises `InvivoError`."""
    if request.pid is not None:
        return (request.pid, *(descendants(request.pid) if request.scope is Scope.TREE else ()))
    return members(request.cgroup) if request.cgroup else ()


def _writer(form: str, options: FlameOptions, stream: Stream, *, told: bool) -> Callable[[Profile], None]:
    def write(profile: Profile) -> None:
        stream.write(profile_output(form).write(profile, options, None).encode("utf-8", "backslashreplace"))
        if told:
            say(", ".join(quality_lines(profile)))

    return write


def _request(arguments: Arguments) -> Request:
    """What is traced. Raises `UsageError`."""
    command, pid = split_command(arguments.value("command")), arguments.value("pid")
    cgroup = cgroup_path(arguments)
    everything = arguments.has("all-processes")
    if [bool(command), pid is not None, bool(cgroup), everything].count(True) != 1:
        raise UsageError("what is to be traced? one of -c CMD, -p PID, --cgroup PATH, -a")
    if arguments.has("follow") and pid is None:
        raise UsageError("--follow goes with -p", "-c follows all descendants anyway")
    number = parse_pid(pid) if pid is not None else None
    return Request(
        SourceFile("invivo", ""),
        command=command,
        pid=number,
        cgroup=cgroup,
        scope=scope_of(
            command=bool(command),
            pid=number,
            follow=arguments.has("follow"),
            cgroup=bool(cgroup),
            all_processes=everything,
        ),
        quiet=arguments.has("quiet"),
        verbose=arguments.has("verbose"),
        dump=tuple(arguments.values("dump")),
    )


def _stacks(arguments: Arguments, words: Sequence[str]) -> Stacks:
    if len(words) > 1:
        raise UsageError(f"found '{words[1]}' after the number of seconds")
    if arguments.has("user") and arguments.has("kernel"):
        raise UsageError("-U and -K exclude each other", "without them stacks of both are taken")
    return Stacks(
        by=arguments.value("by") or "comm",
        kernel=not arguments.has("user"),
        user=not arguments.has("kernel"),
        seconds=_seconds(words[0]) if words else 0,
        unwind=arguments.value("unwind") or "dwarf",
        interpreted=() if arguments.has("native") or arguments.has("kernel") else _interpreted(arguments),
    )


def _interpreted(arguments: Arguments) -> tuple[str, ...]:
    """Which interpreters' frames are asked for: all, but only those that a process has if just one is traced."""
    pid = arguments.value("pid")
    if pid is None or arguments.has("follow"):
        return tuple(INTERPRETERS)
    try:
        paths = [mapping.path for mapping in parse_maps(read_text(f"/proc/{parse_pid(pid)}/maps"))]
    except OSError:
        return ()
    return tuple(name for name in INTERPRETERS if any(map(find_interpreter(name).is_candidate, paths)))


def _seconds(text: str) -> float:
    try:
        seconds = float(text)
    except ValueError:
        seconds = 0
    if not 0.001 <= seconds <= 1e7:
        raise UsageError(f"how many seconds? found '{text}'", "a command is given with -c, a process with -p")
    return seconds


def _frequency(text: str | None) -> int:
    if text is None:
        return 99
    if not (text.isascii() and text.isdigit() and 1 <= int(text) <= 100_000):
        raise UsageError(f"-F is a number of samples per second from 1 to 100000, found '{text}'")
    return int(text)


def _states(text: str | None) -> str:
    known = ("R", *STATES)
    if text is None:
        return "".join(STATES)
    for letter in text:
        if letter not in known:
            raise UsageError(f"--state knows {', '.join(known)}, found '{letter}'")
    if not text:
        raise UsageError("--state needs letters", f"of {', '.join(known)}")
    return text


_UNITS_NS = {"ns": 1, "us": 1000, "ms": 10**6, "s": 10**9}


def _time_ns(arguments: Arguments, name: str, default: int) -> int:
    """A time with its unit, microseconds without one."""
    text = arguments.value(name)
    if text is None:
        return default
    digits = text.rstrip("numsh")
    unit = text[len(digits) :] or "us"
    if not (digits.isascii() and digits.isdigit() and unit in _UNITS_NS):
        raise UsageError(f"--{name} is a time, such as 5ms, found '{text}'", "units: " + ", ".join(_UNITS_NS))
    return int(digits) * _UNITS_NS[unit]
