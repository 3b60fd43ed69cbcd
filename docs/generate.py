"""Writes docs/language/reference.md from the records of the library, the providers and the options.

    python docs/generate.py          writes the file
    python docs/generate.py --check  says whether it is up to date (exit status 1 if not)

The examples are docs/language/examples.test, which a test runs on a real kernel.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

from invivo.lang.config import OPTIONS, Option
from invivo.library import FEATURE_PROBES, records
from invivo.library.aggregations import AGGREGATIONS
from invivo.library.maps import MAPS
from invivo.library.output import OUTPUT
from invivo.library.probe import PROBE
from invivo.library.record import Builtin, Config
from invivo.library.strings import STRINGS
from invivo.library.symbols import SYMBOLS
from invivo.library.values import NSECS, VALUES
from invivo.probes import providers
from invivo.probes.provider import Provider

LANGUAGE = Path(__file__).parent / "language"
REFERENCE = LANGUAGE / "reference.md"

_TOPICS: tuple[tuple[str, str, tuple[Builtin, ...]], ...] = (
    ("Process, machine, clock", "Values, written without parentheses.", (*VALUES, NSECS)),
    ("The probe", "What the probe that fired knows.", PROBE),
    ("Strings and bytes", "", (*STRINGS, *records("search"), *records("tables"))),
    ("Addresses, symbols, stacks", "", (*SYMBOLS, *records("unwind"), *records("interpreted"))),
    ("Maps", "", MAPS),
    ("Objects of the kernel", "", (*records("kernel"), *records("user"))),
    ("Changing the system", "", records("interference")),
    (
        "Output",
        "The program only says what to write; it is written when its record is drained, in the program's order.",
        (*OUTPUT, *records("debug")),
    ),
    (
        "Aggregations",
        "They stand to the right of `@map =` or `@map[key] =` and are kept in the kernel, without a loss between "
        "processors.",
        AGGREGATIONS,
    ),
)

_ARGUMENTS = (
    ("args", "args.NAME", "an argument of the probe by its name; `invivo list -v PROBE` shows the names and types"),
    ("argN", "arg0, arg1 ...", "an argument of the probe by its position, as a number"),
)


def reference() -> str:
    """Return the text of the reference."""
    return "\n".join(_reference()) + "\n"


def _reference() -> Iterator[str]:
    yield "# Language reference\n"
    yield (
        "<!-- Written by docs/generate.py from the records in src/invivo. Do not edit. -->\n\n"
        "Programs are written in the language of bpftrace. This page lists what a program can name: kinds of probes, "
        "values, functions, options.\n[diagnostics.md](diagnostics.md) explains the compiler's messages, "
        "[differences.md](differences.md) what differs between `invivo run` and `invivo-bpftrace`.\n"
    )
    yield "## Probes\n"
    for provider in providers():
        yield from _provider(provider)
    examples = _examples()
    yield "## Arguments\n"
    for name, usage, doc in _ARGUMENTS:
        yield f"### {name}\n\n`{usage}`: {doc}. {_where(name)}\n"
        yield examples[name]
    for title, text, builtins in _TOPICS:
        yield f"## {title}\n" + (f"\n{text}\n" if text else "")
        for builtin in builtins:
            yield from _builtin(builtin)
            yield examples[builtin.name]
    yield "## Options\n"
    yield (
        "Set in a `config = { key = value; ... }` block at the top of a program, or in the environment in upper case "
        "with `BPFTRACE_`\nbefore the name (`BPFTRACE_MAX_STRLEN=64`, for `invivo-bpftrace`), which wins.\n"
    )
    yield "| option | default | values | meaning |\n|---|---|---|---|"
    for key, option in OPTIONS.items():
        yield _option(key, option)


def _provider(provider: Provider) -> Iterator[str]:
    aliases = f" (also {', '.join(f'`{alias}`' for alias in provider.aliases)})" if provider.aliases else ""
    needs = f" Needs: {', '.join(provider.needs)}." if provider.needs else ""
    yield f"### {provider.name}\n\n{provider.doc}{needs}\n"
    yield f"Written {', '.join(f'`{form}`' for form in provider.syntax)}{aliases}.\n"
    offers = [feature for feature, names in FEATURE_PROBES.items() if provider.name in names]
    if offers:
        yield f"Has: {', '.join(f'`{_OFFERS.get(feature, feature)}`' for feature in offers)}.\n"


_OFFERS = {"args": "args.NAME", "argN": "arg0 ...", "stacks": "kstack, ustack, dw_ustack, pystack", "reg": "reg()"}


def _builtin(builtin: Builtin) -> Iterator[str]:
    usage, _, doc = builtin.doc.partition(": ")
    if not builtin.doc.startswith(builtin.name):
        usage, doc = builtin.name, builtin.doc
    notes = [_where(builtin.feature)] if builtin.feature else []
    notes += ["Needs `--unsafe`."] if builtin.unsafe else []
    notes += ["Not in loops."] if not builtin.in_loops else []
    yield " ".join([f"### {builtin.name}\n\n`{usage}`: {doc}.", *notes]) + "\n"


def _where(feature: str) -> str:
    return f"In {', '.join(FEATURE_PROBES[feature])} probes."


def _option(key: str, option: Option) -> str:
    default = getattr(Config(), key)
    match default:
        case bool():
            shown = "true" if default else "false"
        case _:
            shown = str(default)
    values = (
        ", ".join(option.choices)
        or {int: f"{option.least} to {option.most}", bool: "true, false", str: "text"}[option.kind]
    )
    return f"| `{key}` | {shown} | {values} | {option.doc} |"


def _examples() -> dict[str, str]:
    """The examples by name, as Markdown."""
    found: dict[str, str] = {}
    for chunk in ("\n" + (LANGUAGE / "examples.test").read_text(encoding="utf-8")).split("\n=== ")[1:]:
        name, _, rest = chunk.partition("\n")
        program, *parts = rest.split("\n--- ")
        sections = {title: body.strip("\n") for title, _, body in (part.partition("\n") for part in parts)}
        found[name.strip()] = _example(program.strip("\n"), sections)
    return found


def _example(program: str, sections: dict[str, str]) -> str:
    shown = sections.get("output") or sections.get("errors") or ""
    options = "".join([" --unsafe"] if "options" in sections else [])
    command = f"with `invivo run{options} -c {_quoted(sections['command'])}`" if "command" in sections else ""
    if not command and options:
        command = f"with `invivo run{options}`"
    parts = [f"```\n{program}\n```"]
    if shown:
        parts.append(f"prints{f' {command}' if command else ''}\n\n```\n{shown}\n```")
    elif command:
        parts.append(f"{command}.")
    return "\n\n".join(parts) + "\n"


def _quoted(command: str) -> str:
    return f'"{command}"' if " " in command else command


def main() -> int:
    text = reference()
    if "--check" in sys.argv[1:]:
        return 0 if REFERENCE.read_text(encoding="utf-8") == text else 1
    REFERENCE.write_text(text, encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
