"""Command lines as tables: options in any order, ``--`` ends them, errors name the nearest option.

``argparse`` costs 8 ms at import, a tenth of the time that a whole short trace may take.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from invivo.lang.suggest import nearest
from invivo.record import Record


class Option(Record):
    """One option. ``flags`` are its spellings (``-c``, ``--cmd``); the first long one names it.

    ``metavar`` is what its value is called in the help; "" if it takes none.
    A hidden option is accepted and not shown. ``section`` is a headline before it in the help.
    """

    flags: tuple[str, ...]
    metavar: str = ""
    help: str = ""
    choices: tuple[str, ...] = ()
    hidden: bool = False
    section: str = ""

    @property
    def name(self) -> str:
        """The first long spelling without its dashes."""
        return next((flag for flag in self.flags if flag.startswith("--")), self.flags[0]).lstrip("-")


class UsageError(Exception):
    """A command line that cannot be understood. ``hint`` says what was probably meant.

    ``classic`` is the same in getopt_long(3)'s words, for scripts that know these.
    """

    def __init__(self, message: str, hint: str | None = None, classic: str | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint
        self.classic = classic or message


class Arguments:
    """What a command line said: options by name, other words, and the words after ``--``."""

    def __init__(self) -> None:
        self.given: dict[str, list[str]] = {}
        self.words: list[str] = []
        self.after: list[str] = []

    def has(self, name: str) -> bool:
        return name in self.given

    def value(self, name: str) -> str | None:
        """The value of an option; the last one if it was given more than once."""
        values = self.given.get(name)
        return values[-1] if values else None

    def values(self, name: str) -> list[str]:
        """All values of an option, in order."""
        return self.given.get(name, [])

    def count(self, name: str) -> int:
        return len(self.given.get(name, ()))


def parse(table: Sequence[Option], words: Sequence[str], *, abbreviations: bool = False) -> Arguments:
    """Parse the words of a command line, without the command's name.

    ``-abVALUE``, ``-b VALUE``, ``--long VALUE`` and ``--long=VALUE`` are understood; ``-`` is a
    word. With ``abbreviations`` a unique beginning of a long option stands for it, as in
    getopt_long(3). Raises `UsageError`.
    """
    by_flag = {flag: option for option in table for flag in option.flags}
    arguments = Arguments()
    rest = iter(words)
    for word in rest:
        if word == "--":
            arguments.after = list(rest)
        elif word.startswith("--"):
            _long(word, by_flag, rest, arguments, abbreviations)
        elif word.startswith("-") and word != "-":
            _short(word, by_flag, rest, arguments)
        else:
            arguments.words.append(word)
    return arguments


def _long(
    word: str, by_flag: dict[str, Option], rest: Iterable[str], arguments: Arguments, abbreviations: bool
) -> None:
    flag, equals, value = word.partition("=")
    option = by_flag.get(flag)
    if option is None and abbreviations:
        option = _abbreviated(flag, by_flag)
    if option is None:
        raise _unknown(flag, by_flag)
    if not option.metavar:
        if equals:
            classic = f"option '{flag}' doesn't allow an argument"
            raise UsageError(f"option {flag} takes no value, found '{value}'", classic=classic)
        _add(arguments, option, flag, "")
    else:
        _add(arguments, option, flag, value if equals else _following(flag, option, rest))


def _abbreviated(flag: str, by_flag: dict[str, Option]) -> Option | None:
    matches = {spelling: option for spelling, option in by_flag.items() if spelling.startswith(flag)}
    if len({id(option) for option in matches.values()}) > 1:
        possible = " ".join(f"'{spelling}'" for spelling in matches)
        raise UsageError(
            f"option {flag} is ambiguous: {', '.join(sorted(matches))}",
            classic=f"option '{flag}' is ambiguous; possibilities: {possible}",
        )
    return next(iter(matches.values()), None)


def _short(word: str, by_flag: dict[str, Option], rest: Iterable[str], arguments: Arguments) -> None:
    for position in range(1, len(word)):
        flag = f"-{word[position]}"
        option = by_flag.get(flag)
        if option is None:
            raise _unknown(flag if position > 1 or len(word) == 2 else word, by_flag)
        if option.metavar:
            attached = word[position + 1 :]
            _add(arguments, option, flag, attached or _following(flag, option, rest))
            return
        _add(arguments, option, flag, "")


def _following(flag: str, option: Option, rest: Iterable[str]) -> str:
    for word in rest:
        return word
    long = flag.startswith("--")
    raise UsageError(
        f"option {flag} needs a value: {flag} {option.metavar}",
        classic=f"option '{flag}' requires an argument" if long else f"option requires an argument -- '{flag[1:]}'",
    )


def _add(arguments: Arguments, option: Option, flag: str, value: str) -> None:
    if option.choices and value not in option.choices:
        guess = nearest(value, option.choices)
        raise UsageError(
            f"option {flag} is one of {', '.join(option.choices)}, found '{value}'",
            f"did you mean {flag} {guess}?" if guess else None,
        )
    arguments.given.setdefault(option.name, []).append(value)


def _unknown(flag: str, by_flag: dict[str, Option]) -> UsageError:
    long = f"--{flag.lstrip('-')}"
    guess = long if long in by_flag else nearest(flag, [name for name in by_flag if name.startswith("--")])
    classic = f"unrecognized option '{flag}'" if flag.startswith("--") else f"invalid option -- '{flag[1]}'"
    return UsageError(f"unknown option {flag}", f"did you mean {guess}?" if guess else None, classic)


# -- help ------------------------------------------------------------------------------------------

_HELP_COLUMN = 26


def format_options(table: Sequence[Option]) -> str:
    """The help's lines of all options that are shown."""
    lines: list[str] = []
    for option in table:
        if option.hidden:
            continue
        if option.section:
            lines += ["", f"{option.section}:"]
        spelling = ", ".join(option.flags) + (f" {option.metavar}" if option.metavar else "")
        first, *others = option.help.split("\n")
        if len(spelling) + 4 > _HELP_COLUMN:
            lines.append(f"  {spelling}")
            spelling = ""
        lines.append(f"  {spelling:<{_HELP_COLUMN - 2}}{first}".rstrip())
        lines += [f"{'':<{_HELP_COLUMN}}{line}" for line in others]
    return "\n".join(lines).lstrip("\n")


def parse_pid(text: str) -> int:
    """Parse the value of ``-p``. Raises `UsageError`."""
    if not (text.isascii() and text.isdigit()):
        raise UsageError(f"-p needs a process id, found '{text}'")
    pid = int(text)
    # PID_MAX_LIMIT on 64-bit machines, include/linux/threads.h.
    if not 0 < pid <= 1 << 22:
        raise UsageError(f"process id out of range: {text}")
    return pid
