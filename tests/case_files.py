"""Test cases as text: ``=== sentence``, a program, then ``--- name`` sections."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple


class Case(NamedTuple):
    sentence: str
    program: str
    sections: dict[str, str]


def read_cases(path: Path) -> list[Case]:
    """Return a file's cases. A section's text ends with one line break; blank lines at its end are not part of it."""
    cases = []
    for chunk in ("\n" + path.read_text()).split("\n=== ")[1:]:
        sentence, _, rest = chunk.partition("\n")
        program, *parts = ("\n" + rest).split("\n--- ")
        sections = {}
        for part in parts:
            name, _, body = part.partition("\n")
            sections[name.strip()] = body.rstrip("\n") + "\n" if body.strip("\n") else ""
        cases.append(Case(sentence.strip(), program.strip("\n"), sections))
    return cases
