"""``invivo flame``: flame graphs from files with stacks."""

from __future__ import annotations

import sys
from collections.abc import Sequence

from invivo.cli.failures import say
from invivo.cli.options import Arguments, Option, UsageError, format_options, parse
from invivo.cli.sources import Output
from invivo.errors import InvivoError
from invivo.output.flamegraph import FlameOptions, quality_lines
from invivo.output.palettes import PALETTES
from invivo.output.profiles import PROFILE_OUTPUTS, output_of, profile_output
from invivo.profiling.reading import read_profile
from invivo.record import replace
from invivo.stacks import Profile, merged, scaled

PICTURE = (
    Option(("-o", "--output"), "FILE", "write to a file; its ending says what: .svg, .folded, .json, .txt",
           section="output"),
    Option(("-f", "--format"), "FORMAT", "; ".join(f"{row.name}: {row.doc}" for row in PROFILE_OUTPUTS),
           choices=tuple(row.name for row in PROFILE_OUTPUTS)),
    Option(("--title",), "TEXT", "title of the picture", section="flame graphs"),
    Option(("--subtitle",), "TEXT", "the line below it"),
    Option(("--colors", "--palette"), "NAME", "palette: " + ", ".join(PALETTES), choices=tuple(PALETTES)),
    Option(("--icicle", "--inverted"), help="roots above"),
    Option(("--width",), "PIXELS", "of the picture (1200)"),
    Option(("--min-width",), "PIXELS", "of the boxes that are drawn (0.1)"),
)  # fmt: skip

OPTIONS = (
    Option(("--diff",), help="compare two files, OLD and NEW: red is more in NEW, blue is less"),
    Option(("--negate",), help="with --diff: widths of OLD; shows what NEW no longer has"),
    Option(("--normalize",), help="with --diff: scale OLD to as much as NEW"),
    *PICTURE,
    Option(("-h", "--help"), help="show this"),
)

USAGE = f"""\
usage: invivo flame FILE... -o out.svg
       invivo flame --diff OLD NEW -o out.svg

Draws flame graphs from files with stacks: folded ones (of invivo or any other tool), what `perf script` prints,
perf.data (of perf record -g; names come from the files that were profiled), JSON of invivo.
Several FILEs are added up; - is standard input. Without -o it shows the hottest functions and stacks.

{format_options(OPTIONS)}
"""


def flame(words: Sequence[str]) -> int:
    """Run ``invivo flame``; return the exit status."""
    arguments = parse(OPTIONS, words)
    if arguments.has("help"):
        sys.stdout.write(USAGE)
        return 0
    paths = [*arguments.words, *arguments.after]
    _check(arguments, paths)
    form, options = chosen_form(arguments), picture_options(arguments)
    options = replace(options, swapped=arguments.has("negate"))
    read = [_read(path) for path in paths]
    if arguments.has("diff"):
        before: Profile | None = read[0][0]
        profile = read[1][0]
    else:
        befores = [each for _, each in read if each is not None]
        before = merged(befores) if len(befores) == len(read) else None
        profile = merged([each for each, _ in read])
    if before is not None and arguments.has("normalize"):
        before = scaled(before, profile.total)
    row = profile_output(form)
    if before is not None and not row.compares:
        raise UsageError(f"{form} cannot compare two profiles", "-o out.svg can")
    text = row.write(profile, options, before)
    with Output(arguments.value("output")) as stream:
        stream.write(text.encode("utf-8", "backslashreplace"))
    if arguments.value("output"):
        say(", ".join(quality_lines(profile)))
    return 0


def _check(arguments: Arguments, paths: Sequence[str]) -> None:
    if not paths:
        raise UsageError("no file", "give files with stacks, or - for standard input")
    if arguments.has("diff") and len(paths) != 2:
        raise UsageError(f"--diff compares two files, found {len(paths)}")
    if arguments.has("normalize") and not arguments.has("diff"):
        raise UsageError("--normalize goes with --diff")


def _read(path: str) -> tuple[Profile, Profile | None]:
    try:
        if path == "-":
            data = sys.stdin.buffer.read()
        else:
            with open(path, "rb") as file:
                data = file.read()
    except OSError as problem:
        raise InvivoError(f"cannot read '{path}': {problem.strerror}") from problem
    return read_profile(data, "standard input" if path == "-" else path)


def chosen_form(arguments: Arguments) -> str:
    """What the output is to be: as -f says, else as the file's ending does. Raises `UsageError`."""
    path = arguments.value("output")
    form = arguments.value("format") or output_of(path)
    if form is None:
        raise UsageError(f"what is '{path}' to be?", "its ending says it: .svg, .folded, .json, .txt; or -f FORMAT")
    return form


def picture_options(arguments: Arguments) -> FlameOptions:
    """The options of `PICTURE`. Raises `UsageError`."""
    return FlameOptions(
        title=arguments.value("title") or "",
        subtitle=arguments.value("subtitle") or "",
        width=int(_number(arguments, "width", 1200, 200, 100_000)),
        least=_number(arguments, "min-width", 0.1, 0, 1000),
        palette=arguments.value("colors") or "",
        icicle=arguments.has("icicle"),
    )


def _number(arguments: Arguments, name: str, default: float, least: float, most: float) -> float:
    text = arguments.value(name)
    if text is None:
        return default
    try:
        value = float(text)
    except ValueError:
        value = -1
    if not least <= value <= most:
        raise UsageError(f"--{name} is a number of pixels from {least} to {most}, found '{text}'")
    return value
