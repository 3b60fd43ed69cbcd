"""Profiles as text: the hottest functions and stacks, for a terminal."""

from __future__ import annotations

from invivo.output.flamegraph import quality_lines, thousands
from invivo.output.terminal import display
from invivo.stacks import FrameKind, Function, Profile, named, self_and_total

FUNCTIONS = 15
STACKS = 5
_LONGEST = 100  # characters of a name on a line
_MARKS = {FrameKind.KERNEL: " [kernel]", FrameKind.INLINED: " [inlined]", FrameKind.JIT: " [jit]"}


def format_profile_text(profile: Profile, functions: int = FUNCTIONS, stacks: int = STACKS) -> str:
    """Return tables of the functions and stacks with the greatest weights, and how far they are to be trusted."""
    total = profile.total
    if not total:
        return ", ".join([f"no {profile.unit}", *quality_lines(profile)[1:]]) + "\n"
    lines = [", ".join(quality_lines(profile)), ""]
    lines += function_lines(profile, functions)
    lines += stack_lines(profile, stacks)
    return "\n".join(lines) + "\n"


def function_lines(profile: Profile, count: int) -> list[str]:
    """Return a line for each of the hottest functions: its own share, its share with all it calls, its name.

    A third of them are those that call the most: a hundred functions of a short start with a sample each would hide
    ``main``, which has none of its own.
    """
    total = profile.total
    rows = self_and_total(profile)
    busiest = rows[: count - count // 3]
    callers = sorted(rows[len(busiest) :], key=lambda row: -row[2])[: count // 3]
    chosen = [*busiest, *callers] if len(rows) > count else rows
    lines = ["   self   total  function"]
    lines += [f"{100 * own / total:6.1f}% {100 * whole / total:6.1f}%  {shown(each)}" for each, own, whole in chosen]
    if len(rows) > count:
        lines.append(f"                 ... and {len(rows) - count} more functions")
    return lines


def stack_lines(profile: Profile, count: int) -> list[str]:
    """Return the hottest stacks, innermost frame first, each after a line with its share."""
    total = profile.total
    heaviest = sorted(profile.stacks, key=lambda each: (-each[1], each[0]))
    lines: list[str] = []
    for stack, weight in heaviest[:count]:
        lines += ["", f"{100 * weight / total:6.1f}%  {thousands(weight)} {profile.unit}"]
        lines += [f"         {shown(function)}" for function in reversed(list(named(profile, stack)))]
    if len(heaviest) > count:
        lines += ["", f"         ... and {len(heaviest) - count} more stacks; -o x.svg shows all"]
    return lines


def shown(function: Function) -> str:
    """Return a function's name as a terminal may see it, with a word on what it is if that is not user code."""
    name = display(function.name)
    return (name if len(name) <= _LONGEST else f"{name[: _LONGEST - 2]}..") + _MARKS.get(function.kind, "")
