"""``--fmt``: a program in one spelling, with its comments.

The syntax tree has no comments. They are put back by counting words and braces, which formatting
keeps: a comment stands behind as many of them as before.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

from invivo.diagnostics import SourceFile
from invivo.lang.parse import parse
from invivo.lang.text import format_script
from invivo.record import Record

_TOKEN = re.compile(r'"(?:\\.|[^"\\\n])*"|(?P<comment>//[^\n]*|/\*.*?\*/)|[$@]?\w+|[{}]', re.DOTALL)
_TRIVIAL = re.compile(r'[\d"]')  # numbers and strings may be spelled in another way
_STAND_IN = "__parameter_"  # of $1 in an attach point, where the parser would put its value
_MOST_PARAMETERS = 100


class Comment(Record):
    """``after``: how many words and braces come before it. ``alone``: it begins its line."""

    text: str
    after: int
    alone: bool


def format_source(source: SourceFile) -> tuple[str, bool]:
    """Return a program formatted, and whether all its comments are there. Raises `CompileError`."""
    stand_ins = tuple(f"{_STAND_IN}{number}" for number in range(1, _MOST_PARAMETERS))
    formatted = format_script(parse(source, stand_ins)).replace(_STAND_IN, "$")
    first, text = "", source.text
    if text.startswith("#!"):
        first, _, text = text.partition("\n")
        first += "\n"
    words, comments = _scan(text)
    lines = formatted.splitlines()
    if [_plain(word) for word in words] != [_plain(word) for word in _scan(formatted)[0]]:
        return first + _with_space(lines), not comments
    return first + _with_space(_with_comments(lines, comments)), True


def _plain(word: str) -> str:
    return "" if _TRIVIAL.match(word) else word


def _scan(text: str) -> tuple[list[str], list[Comment]]:
    words: list[str] = []
    comments: list[Comment] = []
    for match in _TOKEN.finditer(text):
        if match["comment"] is None:
            words.append(match[0])
        else:
            before = text[text.rfind("\n", 0, match.start()) + 1 : match.start()]
            comments.append(Comment(match[0].rstrip(), len(words), not before.strip()))
    return words, comments


def _with_comments(lines: list[str], comments: list[Comment]) -> list[str]:
    """Put a comment that began its line before the line of the next word, others behind the word before."""
    result: list[str] = []
    waiting = list(comments)
    count = 0
    for line in lines:
        indent = line[: len(line) - len(line.lstrip())]
        words = len(_scan(line)[0])
        inner = indent + "    " if line.strip().startswith("}") else indent
        while waiting and waiting[0].alone and (waiting[0].after < count + words or words == 0):
            if waiting[0].after > count:
                break
            result += _indented(waiting.pop(0).text, inner)
        count += words
        while waiting and waiting[0].after <= count and not (waiting[0].alone and waiting[0].after == count):
            line += f" {waiting.pop(0).text}"
        result.append(line)
    for comment in waiting:
        result += _indented(comment.text, "")
    return result


def _indented(comment: str, indent: str) -> Iterator[str]:
    first, *others = comment.splitlines()
    yield indent + first
    yield from (f"{indent} {line.strip()}" for line in others)


def _with_space(lines: list[str]) -> str:
    """A line is left empty behind each probe and the like."""
    spaced = [line + "\n" if line == "}" or line.startswith("} //") else line for line in lines]
    return "\n".join(spaced).rstrip("\n") + "\n"
