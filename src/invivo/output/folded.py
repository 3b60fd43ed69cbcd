"""Profiles as folded stacks, which other viewers read."""

from __future__ import annotations

from invivo.formats.stacks.folded import SUFFIXES
from invivo.output.terminal import display
from invivo.stacks import Function, Profile

_SUFFIX_OF = {kind: suffix for suffix, kind in SUFFIXES.items()}
_NAMELESS = "[unknown]"
_SEPARATORS = {ord(";"): ":"}  # it stands between frames, and Java's signatures are full of it


def format_folded(profile: Profile) -> str:
    """Return a line for each stack, sorted; control characters in names are shown as ``\\n``, ``;`` as ``:``."""
    names = [folded_name(function) for function in profile.functions]
    sums: dict[str, float] = {}
    for stack, weight in profile.stacks:
        line = ";".join([names[index] for index in stack]) or _NAMELESS
        sums[line] = sums.get(line, 0) + weight
    return "".join(f"{line} {format_weight(weight)}\n" for line, weight in sorted(sums.items()))


def folded_name(function: Function) -> str:
    """Return the name with the suffix that says what it is."""
    return (display(function.name).translate(_SEPARATORS).strip() or _NAMELESS) + _SUFFIX_OF.get(function.kind, "")


def format_weight(weight: float) -> str:
    return f"{weight:.6f}".rstrip("0").rstrip(".") if isinstance(weight, float) else str(weight)
