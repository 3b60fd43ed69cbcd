"""A script's own command-line options: ``getopt("name", default, "what it is for")`` and ``-- --name=value``."""

from __future__ import annotations

from invivo.diagnostics import Code, Diagnostics
from invivo.lang.check.fold import as_bytes, parse_number
from invivo.record import Record

_TRUTHS = {"true": 1, "1": 1, "false": 0, "0": 0}
_HELP = "help"


class DeclaredOption(Record):
    """``default`` is a bool, a number or a text; it says what kind of option it is."""

    default: bool | int | str
    description: str


class ScriptOptions:
    """What was given on the command line, and what the script asks for."""

    def __init__(self, words: tuple[str, ...] = ()) -> None:
        self._given: dict[str, str | None] = {}
        self._declared: dict[str, DeclaredOption] = {}
        for word in words:
            name, equals, value = word.removeprefix("--").partition("=")
            self._given[name] = value if equals else None

    def value(self, name: str, default: bool | int | str, description: str) -> tuple[bool | int | str, str]:
        """Return an option's value, and what is wrong with it."""
        known = self._declared.get(name)
        if known is None:
            self._declared[name] = DeclaredOption(default, description)
        elif (type(known.default), known.default) != (type(default), default):
            return default, (
                f"Command line option '{name}' needs to have the same default value in all places it is used. "
                f"Previous default value: {_spelled(known.default)}"
            )
        elif description and not known.description:
            self._declared[name] = DeclaredOption(default, description)
        if name not in self._given:
            return default, ""
        return _read(name, self._given[name], default)

    def check(self, diagnostics: Diagnostics) -> None:
        """Report options that the script does not ask for; ``--help`` is one, and its answer the hint."""
        unexpected = [f"--{name}" for name in self._given if name not in self._declared]
        if not unexpected:
            return
        if _HELP in self._given:
            lines = [f"--{name}: {_shown(option.description)}" for name, option in sorted(self._declared.items())]
            hint = "\n".join(["expected program options:", *lines])
        else:
            hint = f"expected program options: {', '.join(f'--{name}' for name in sorted(self._declared))}"
        message = f"unexpected program command line options: {', '.join(unexpected)}"
        diagnostics.error(Code.BAD_OPTION, None, message, hint if self._declared else None)


def is_option(word: str) -> bool:
    """Whether a word behind ``--`` is an option of the script, and no positional parameter."""
    return word.startswith("--") and len(word) > 2


def _read(name: str, text: str | None, default: bool | int | str) -> tuple[bool | int | str, str]:
    if isinstance(default, bool):
        truth = 1 if text is None else _TRUTHS.get(text.lower())
        wrong = f"program command line option --{name} expects a boolean (value: {text})"
        return (default, wrong) if truth is None else (bool(truth), "")
    if isinstance(default, int):
        if text is None:
            return default, f"program command line option --{name} expects an integer (value: true)"
        number = parse_number(text)
        wrong = f"program command line option --{name} invalid integer (value: {text})"
        return (default, wrong) if number is None else (number, "")
    return as_bytes(text) if text is not None else "true", ""


def _shown(literal: str) -> str:
    return literal.encode("latin-1").decode("utf-8", "replace")


def _spelled(value: bool | int | str) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)
