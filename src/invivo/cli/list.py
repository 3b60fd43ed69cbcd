"""``invivo list``: the probes of this machine that match a pattern."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable, Iterator, Sequence

from invivo.cli.options import Arguments, Option, UsageError, format_options, parse, parse_pid
from invivo.probes.provider import Facts
from invivo.record import Record

OPTIONS = (
    Option(("-v", "--verbose"), help="show the arguments of each probe, too"),
    Option(("-f", "--format"), "FORMAT", "text (default), json: one object with all probes,\nndjson: one object a line",
           choices=("text", "json", "ndjson")),
    Option(("-p", "--pid"), "PID", "include the user-space probes of this process"),
    Option(("-h", "--help"), help="show this"),
)  # fmt: skip

USAGE = f"""\
usage: invivo list [OPTION]... [PATTERN]...

Lists probes. A PATTERN is a probe with wildcards (`tracepoint:sched:*`), or words to look for in any probe of
the kernel (`openat`), or a type of the kernel (`struct task_struct`). Without one, all probes of the kernel
are listed.

{format_options(OPTIONS)}

exit status: 0 if something was found, 1 if nothing, 2 for a mistake on the command line
"""


class Line(Record):
    """A probe as it is shown. ``parameters``: type and name in C's spelling.

    ``is_type``: it is a type of the kernel instead, by its name or as C declares it.
    """

    name: str
    parameters: tuple[tuple[str, str], ...] = ()
    is_type: bool = False


def list_probes(words: Sequence[str]) -> int:
    """Run ``invivo list``; return the exit status."""
    arguments = parse(OPTIONS, words)
    if arguments.has("help"):
        sys.stdout.write(USAGE)
        return 0
    from invivo.probes.facts import LiveFacts

    text = arguments.value("pid")
    facts = LiveFacts(parse_pid(text) if text is not None else None)
    verbose = arguments.has("verbose")
    patterns = _patterns(arguments)
    without: list[str] = []
    count = write(_found_by(patterns, facts, without, verbose=verbose), arguments.value("format") or "text")
    sys.stdout.flush()
    for pattern in without:
        sys.stderr.write(_why_nothing(pattern, facts))
    return 0 if count else 1


def _found_by(patterns: Sequence[str], facts: Facts, without: list[str], *, verbose: bool) -> Iterator[Line]:
    """Yield what any of the patterns matches; those that match nothing go to ``without``."""
    for pattern in patterns:
        line = None
        for line in found(pattern, facts, verbose=verbose):
            yield line
        if line is None:
            without.append(pattern)


def _why_nothing(pattern: str, facts: Facts) -> str:
    keyword, _, name = pattern.partition(" ")
    told, hint = f"nothing matches '{pattern}'", None
    if name and keyword in ("struct", "union", "enum"):
        from invivo.cli.type_listing import nearest_type

        hint = nearest_type(keyword, name.strip(), facts)
    else:
        from invivo.probes.listing import why_nothing
        from invivo.rendering import clause

        problem = why_nothing(pattern, facts)
        if problem is not None:
            told, hint = clause(problem.message), problem.hint
    return f"invivo list: {told}\n" + (f"hint: {hint}\n" if hint else "")


def _patterns(arguments: Arguments) -> list[str]:
    patterns = arguments.words + arguments.after
    for pattern in patterns:
        if not pattern:
            raise UsageError("an empty pattern matches nothing")
    return patterns or ["*:*"]


def found(pattern: str, facts: Facts, *, verbose: bool) -> Iterator[Line]:
    """The probes that match one pattern, or the kernel's types if it says ``struct NAME``."""
    keyword, _, name = pattern.partition(" ")
    if name and keyword in ("struct", "union", "enum"):
        from invivo.cli.type_listing import list_types

        for text in list_types(keyword, name.strip(), facts, verbose=verbose):
            yield Line(text, is_type=True)
        return
    from invivo.probes import listing

    for each in listing.list_probes(pattern, facts, verbose=verbose):
        yield Line(each.name, each.parameters)


def write(lines: Iterable[Line], form: str) -> int:
    """Write probes on standard output as they are found; return how many there were."""
    if form == "text":
        return _write_each(lines, format_line)
    import json

    if form == "json":
        objects = [_as_object(line) for line in lines]
        sys.stdout.write(json.dumps(objects, indent=1) + "\n")
        return len(objects)
    return _write_each(lines, lambda line: json.dumps(_as_object(line)) + "\n")


def _write_each(lines: Iterable[Line], form: Callable[[Line], str]) -> int:
    count = 0
    for line in lines:
        sys.stdout.write(form(line))
        count += 1
    return count


def format_line(line: Line) -> str:
    """A probe, and one line for each of its parameters."""
    return f"{line.name}\n" + "".join(f"    {type_} {name}\n" for type_, name in line.parameters)


def _as_object(line: Line) -> dict[str, object]:
    if line.is_type:
        name = line.name.partition(" {")[0]
        return {"type": name} if name == line.name else {"type": name, "declaration": line.name}
    shown: dict[str, object] = {"probe": line.name}
    if line.parameters:
        shown["args"] = [{"name": name, "type": type_} for type_, name in line.parameters]
    return shown
