"""Profiles as text: which functions and stacks are shown, in which order, and what a terminal never sees."""

from __future__ import annotations

from invivo.output.profile_text import format_profile_text, function_lines
from invivo.stacks import FrameKind, Profile, ProfileBuilder, Quality


def _profile(stacks: dict[str, float], quality: Quality | None = None) -> Profile:
    builder = ProfileBuilder()
    for text, weight in stacks.items():
        process, *names = text.split(";")
        frames = [builder.index(name.removesuffix("_[k]"), _kind(name)) for name in names]
        builder.add((builder.index(process, FrameKind.PROCESS), *frames), weight)
    return builder.build(quality)


def _kind(name: str) -> FrameKind:
    return FrameKind.KERNEL if name.endswith("_[k]") else FrameKind.USER


def test_the_whole_text() -> None:
    profile = _profile({"sh;main;often;mix": 6, "sh;main;seldom;mix": 2, "sh;main;read_[k]": 2}, Quality(1, 0, 3))
    assert (
        format_profile_text(profile, functions=4, stacks=2)
        == """\
10 samples, 10.0% in truncated stacks, 0.0% in stacks with unknown names, 3 events lost

   self   total  function
  80.0%   80.0%  mix
  20.0%   20.0%  read [kernel]
   0.0%  100.0%  main
   0.0%   60.0%  often
                 ... and 1 more functions

  60.0%  6 samples
         mix
         often
         main
         sh

  20.0%  2 samples
         mix
         seldom
         main
         sh

         ... and 1 more stacks; -o x.svg shows all
"""
    )


def test_callers_are_shown_beside_many_functions_with_little() -> None:
    """A start is spread over a hundred functions, and main has nothing of its own."""
    start = {f"x;start;load_{number:03}": 1 for number in range(100)}
    lines = function_lines(_profile({**start, "x;main;outer;hot": 50}), 6)
    assert [line.split()[2] for line in lines[1:-1]] == ["hot", "load_000", "load_001", "load_002", "start", "main"]
    assert lines[-1].strip() == "... and 98 more functions"


def test_no_samples() -> None:
    assert format_profile_text(_profile({})) == "no samples, 0 events lost\n"


def test_a_terminal_sees_no_control_characters_and_no_endless_name() -> None:
    text = format_profile_text(_profile({"x\x1b[2J;a\nb\x07\x9b": 1, f"x;{'y' * 1_000_000}": 1}))
    assert not {"\x1b", "\x07", "\x9b"} & set(text) and len(text) < 2000
    assert f"  50.0%   50.0%  {'y' * 98}..\n" in text
