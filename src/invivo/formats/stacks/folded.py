"""Folded stacks: ``process;outer;inner 12``, a line each, as flame graph tools exchange them.

Suffixes say what a frame is: ``_[k]`` kernel, ``_[i]`` inlined, ``_[j]`` JIT, ``_[w]`` waker.
"""

from __future__ import annotations

from typing import Final

from invivo.errors import BadFileError
from invivo.stacks import FrameKind, Profile, ProfileBuilder

SUFFIXES: Final = {
    "_[k]": FrameKind.KERNEL,
    "_[i]": FrameKind.INLINED,
    "_[j]": FrameKind.JIT,
    "_[w]": FrameKind.WAKER,
}
_NOTES: Final = frozenset({"-", "--"})


def parse_folded(data: bytes, path: str, unit: str = "samples") -> tuple[Profile, Profile | None]:
    """Return the profile, and the second one if every line has two numbers (``difffolded``: before, after).

    Raises `BadFileError` with the offset of the line that is none.
    """
    lines: list[tuple[str, int]] = []
    offset = 0
    for line in data.split(b"\n"):
        text = line.decode("utf-8", "surrogateescape").rstrip()
        if text and not (text.startswith("#") and _numbered(text) is None):  # a comment
            lines.append((text, offset))
        offset += len(line) + 1
    rows = [_row(text, at, path) for text, at in lines]
    pairs = [_numbered(stack) for stack, _ in rows]
    if rows and all(pair is not None for pair in pairs):
        before = _profile([pair for pair in pairs if pair is not None], unit)
        names = [pair[0] for pair in pairs if pair is not None]
        return _profile(list(zip(names, [weight for _, weight in rows], strict=True)), unit), before
    return _profile(rows, unit), None


def is_folded(line: str) -> bool:
    """Whether a line looks like a folded stack."""
    return _numbered(line.rstrip()) is not None


def kind_of(name: str) -> tuple[str, FrameKind]:
    """Return a frame's name without its suffix, and what it is."""
    if name.endswith("]"):
        kind = SUFFIXES.get(name[-4:])
        if kind is not None and len(name) > 4:
            return name[:-4], kind
        if name.startswith("[") and name in ("[truncated]", "[Missed User Stack]", "[Missed Kernel Stack]"):
            return name, FrameKind.NOTE
    if name in _NOTES:
        return name, FrameKind.NOTE
    return name, FrameKind.PYTHON if is_python(name) else FrameKind.USER


def is_python(name: str) -> bool:
    """Whether a name is spelled as profilers spell functions of Python: ``run (job.py:12)``, ``py::run:job.py``."""
    if name.startswith("py::"):
        return True
    file, _, line = name[:-1].rpartition(":")
    is_file = file.endswith(".py") or (file.endswith(">") and " (<" in file)  # (<frozen runpy>:65), (<string>:1)
    return name.endswith(")") and ((is_file and line.isdecimal()) or ".py:" in name[-40:])


def _row(text: str, offset: int, path: str) -> tuple[str, float]:
    found = _numbered(text)
    if found is None:
        raise BadFileError(path, f"no folded stack, which ends with its weight: '{text[:60]}'", offset)
    return found


def _numbered(text: str) -> tuple[str, float] | None:
    """The stack and its number, which may have decimals."""
    number = text.rsplit(maxsplit=1)[-1] if text else ""
    stack = text[: len(text) - len(number)]
    if not stack:
        return None
    if number.isascii() and number.isdigit():
        return stack.rstrip(), int(number)
    whole, dot, part = number.partition(".")
    if dot and whole.isascii() and whole.isdigit() and (not part or (part.isascii() and part.isdigit())):
        return stack.rstrip(), float(number)
    return None


def _profile(rows: list[tuple[str, float]], unit: str) -> Profile:
    builder = ProfileBuilder(unit)
    known: dict[str, int] = {}
    for text, weight in rows:
        stack: list[int] = []
        for name in text.split(";"):
            index = known.get(name)
            if index is None:
                index = known[name] = builder.index(*kind_of(name))
            stack.append(index)
        builder.add(tuple(stack), weight)
    return builder.build()
