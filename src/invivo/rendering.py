"""How diagnostics are shown: with the line, what is meant in it, and a hint.

Everything that comes from a program's text is shown printable: a script is no more
trusted with the terminal than the system that it traces.
"""

from __future__ import annotations

from typing import Final
from unicodedata import east_asian_width

from invivo.diagnostics import Code, Diagnostic, Severity, Span

_TAB: Final = "    "
_INDENT: Final = "    "
_COLOURS: Final = {Severity.ERROR: "\033[31m", Severity.WARNING: "\033[33m"}
_WIDEST: Final = 160  # columns of a source line that are shown

# The neighbour's parser puts its own name before its messages.
_SYNTAX_CODES: Final = (Code.SYNTAX, Code.BAD_LITERAL)


def format_diagnostic(diagnostic: Diagnostic) -> str:
    """Return a diagnostic in invivo's form, without a final line break::

    script.bt:1:19: error[unknown-function]: unknown function nsec()
        kprobe:vfs_read { nsec(); }
                          ^^^^^^
      hint: did you mean nsecs?
    """
    kind = f"{diagnostic.severity.value}[{diagnostic.code.value}]"
    lines = [f"{_place(diagnostic.span)}{kind}: {_printable(clause(diagnostic.message))}"]
    if diagnostic.span is not None:
        lines += _marked_line(diagnostic.span)
    for note in diagnostic.notes:
        lines.append(f"  {_place(note.span)}note: {_printable(note.message)}")
        lines += _marked_line(note.span)
    for origin in _origins(diagnostic):
        lines.append(f"  {_place(origin)}note: expanded from here")
        lines += _marked_line(origin)
    if diagnostic.hint:
        lines.append(f"  hint: {_lines(clause(diagnostic.hint))}")
    return "\n".join(lines)


def format_bpftrace(diagnostic: Diagnostic, *, coloured: bool = False) -> str:
    """Return a diagnostic in bpftrace's form, without a final line break::

        stdin:1:9-12: ERROR: message
        begin { foo }
                ~~~
        HINT: hint text

    A span of several lines has all of them and nothing below; a note is a block of its own, and
    so is each call of a macro that brought the text into the program.
    """
    severity = "ERROR" if diagnostic.severity is Severity.ERROR else "WARNING"
    prefix = "syntax: " if diagnostic.code in _SYNTAX_CODES else ""
    message = diagnostic.classic or diagnostic.message
    if diagnostic.code is Code.SYNTAX and message.startswith("expected "):
        message = message.partition(", found ")[0]  # the neighbour only says what should be there
    lines = _bpftrace_block(diagnostic.span, severity, prefix + message)
    for note in diagnostic.notes:
        lines += _bpftrace_block(note.span, severity, note.message)
    for origin in _origins(diagnostic):
        lines += _bpftrace_block(origin, severity, "expanded from")
    if diagnostic.hint:
        lines.append(f"HINT: {_lines(diagnostic.hint)}")
    if coloured:
        lines[0] = f"{_COLOURS[diagnostic.severity]}{lines[0]}\033[0m"
    return "\n".join(lines)


def _lines(hint: str) -> str:
    return "\n".join(map(_printable, hint.split("\n")))


def clause(message: str) -> str:
    """Return a message as it stands after a colon.

    Where the neighbour has words for the same thing, messages are written in them, and some of those
    are sentences.
    """
    message = message.rstrip()
    if message[:1].isupper() and message[1:2].islower():
        message = message[0].lower() + message[1:]
    return message[:-1] if message.endswith(".") and not message.endswith("..") else message


def _origins(diagnostic: Diagnostic) -> tuple[Span, ...]:
    return () if diagnostic.span is None else diagnostic.span.origins()


def _place(span: Span | None) -> str:
    if span is None:
        return ""
    location = span.location()
    return f"{_printable(span.source.name)}:{location.line}:{location.column}: "


def _marked_line(span: Span) -> list[str]:
    """Return the first line of a span and the carets below it."""
    location = span.location()
    line = span.source.line(location.line)
    end = location.end_column - 1 if location.end_line == location.line else max(len(line), location.column)
    first = location.column - 1
    before, marked, after = line[:first], line[first:end], line[end:]
    shown = [_display(part) for part in (before, marked, after)]
    width = max(1, _columns(shown[1].rstrip() or shown[1]))
    start, text = _columns(shown[0]), "".join(shown)
    if _columns(text) > _WIDEST:
        text, start, width = _excerpt(text, shown, width)
    return [(_INDENT + text).rstrip(), _INDENT + " " * start + "^" * width]


def _excerpt(text: str, shown: list[str], width: int) -> tuple[str, int, int]:
    """Return a part of a long line with what is marked in it: text, first marked column, columns."""
    begin = max(0, len(shown[0]) - _WIDEST // 4)
    cut = text[begin : begin + _WIDEST]
    left, right = "…" if begin else "", "…" if begin + _WIDEST < len(text) else ""
    start = _columns(left + shown[0][begin:])
    return left + cut + right, start, max(1, min(width, _columns(left + cut) - start))


def _bpftrace_block(span: Span | None, severity: str, message: str) -> list[str]:
    if span is None:
        return [f"{severity}: {_printable(message)}"]
    location = span.location()
    name = _printable(span.source.name)
    if location.line != location.end_line:
        numbers = range(location.line, location.end_line + 1)
        lines = [_display(span.source.line(number)) for number in numbers]
        return [f"{name}:{location.line}-{location.end_line}: {severity}: {_printable(message)}", *lines]
    line = span.source.line(location.line)
    before = _display(line[: location.column - 1])
    marked = _display(line[location.column - 1 : location.end_column - 1])
    return [
        f"{name}:{location.line}:{location.column}-{location.end_column}: {severity}: {_printable(message)}",
        _display(line),
        " " * _columns(before) + "~" * max(1, _columns(marked)),
    ]


def _display(text: str) -> str:
    """Return source text as it is shown: tabs as spaces, control characters as escapes."""
    return _printable(text.replace("\t", _TAB))


def _printable(text: str) -> str:
    if text.isprintable():
        return text
    return "".join(character if character.isprintable() else _escaped(character) for character in text)


def _escaped(character: str) -> str:
    code = ord(character)
    return f"\\x{code:02x}" if code < 0x100 else f"\\u{code:04x}" if code < 0x10000 else f"\\U{code:08x}"


def _columns(text: str) -> int:
    """Return how many columns of a terminal a text takes."""
    if text.isascii():
        return len(text)
    return sum(2 if east_asian_width(character) in "WF" else 1 for character in text)
