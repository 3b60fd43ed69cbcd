"""The table of what a profile can be written as: one row each."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from invivo.output.flamegraph import FlameOptions, format_flamegraph
from invivo.output.folded import format_folded
from invivo.output.profile_json import format_profile_json
from invivo.output.profile_text import format_profile_text
from invivo.record import Record
from invivo.stacks import Profile


class ProfileOutput(Record):
    """A row: its name, which is also the ending of its files, and what writes it.

    ``write`` gets a profile, options of flame graphs, and a profile to compare with, or None.
    """

    name: str
    doc: str
    write: Callable[[Profile, FlameOptions, Profile | None], str]
    compares: bool = False


PROFILE_OUTPUTS: Final = (
    ProfileOutput("text", "the hottest functions and stacks", lambda profile, _, __: format_profile_text(profile)),
    ProfileOutput("folded", "a line for each stack, for other tools", lambda profile, _, __: format_folded(profile)),
    ProfileOutput("svg", "a flame graph for a browser", format_flamegraph, compares=True),
    ProfileOutput("json", "everything, for programs", lambda profile, _, __: format_profile_json(profile)),
)
_BY_NAME: Final = {row.name: row for row in PROFILE_OUTPUTS}
_ENDINGS: Final = {"txt": "text"}


def profile_output(name: str) -> ProfileOutput:
    """Return a row of the table. Raises `KeyError`."""
    return _BY_NAME[name]


def output_of(path: str | None) -> str | None:
    """Return the form that a file's ending asks for; text for no file, None for an ending that says nothing."""
    if path is None:
        return "text"
    ending = _ending(path)
    name = _ENDINGS.get(ending, ending)
    return name if name in _BY_NAME else None


def _ending(path: str) -> str:
    return path.rpartition("/")[2].rpartition(".")[2].lower()
