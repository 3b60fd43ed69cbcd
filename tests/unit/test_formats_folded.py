"""Folded stacks: what other tools write is read, what is none is told with its offset; profiles go and come back."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from invivo.errors import BadFileError
from invivo.formats.stacks.folded import parse_folded
from invivo.formats.stacks.profile_json import parse_profile_json
from invivo.output.folded import format_folded
from invivo.output.profile_json import format_profile_json
from invivo.output.terminal import display
from invivo.profiling.reading import read_profile
from invivo.stacks import FrameKind, Profile, ProfileBuilder, Quality, named


def _stacks(profile: Profile) -> list[tuple[list[tuple[str, str]], float]]:
    return [
        ([(each.name, each.kind.value) for each in named(profile, stack)], weight) for stack, weight in profile.stacks
    ]


def test_suffixes_say_what_a_frame_is() -> None:
    text = b"sh;main;f_[i];g_[j];--;run (job.py:3);py::x:y.py;sys_read_[k];waker_[w] 3\n"
    assert _stacks(parse_folded(text, "x")[0]) == [
        (
            [
                ("sh", "user"),
                ("main", "user"),
                ("f", "inlined"),
                ("g", "jit"),
                ("--", "note"),
                ("run (job.py:3)", "python"),
                ("py::x:y.py", "python"),
                ("sys_read", "kernel"),
                ("waker", "waker"),
            ],
            3,
        )
    ]


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        (b"a;b 1\na;b 2\n", [(["a", "b"], 3)]),
        (b"\n# made by x\na 1.5\r\n#b 2\n", [(["a"], 1.5), (["#b"], 2)]),
        (b"a b  c;d e 7", [(["a b  c", "d e"], 7)]),
        (b"a\t7\n", [(["a"], 7)]),
        (b"a 1 2\nb 3\n", [(["a 1"], 2), (["b"], 3)]),
        (b";a; 4\n", [(["", "a", ""], 4)]),
    ],
)
def test_lines(text: bytes, wanted: list[tuple[list[str], float]]) -> None:
    profile, before = parse_folded(text, "x")
    assert [([name for name, _ in stack], weight) for stack, weight in _stacks(profile)] == wanted
    assert before is None


def test_two_numbers_on_every_line_are_a_comparison() -> None:
    profile, before = parse_folded(b"a;b 1 2\na;c 3 4\n", "x")
    assert before is not None
    assert (profile.total, before.total) == (6, 4)


@pytest.mark.parametrize(
    ("text", "offset"),
    [(b"a;b 1\na;b\n", 6), (b"a;b 1\n\n a;b -1\n", 7), (b"a 1\nb 0x10\n", 4), (b"a 1\nb 1e5\n", 4), (b"a 1\n1\n", 4)],
)
def test_a_line_that_is_none_is_told(text: bytes, offset: int) -> None:
    with pytest.raises(BadFileError, match=r"x: no folded stack") as problem:
        parse_folded(text, "x")
    assert problem.value.offset == offset


@pytest.mark.parametrize(
    "data", [b"", b"\n\n# only a comment\n", b"\x7fELF\x02\x01", b"hello world\n", b"{", b"{}", b"[]"]
)
def test_what_is_no_profile_is_told(data: bytes) -> None:
    with pytest.raises(BadFileError, match="x: "):
        read_profile(data, "x")


_NAMES = st.text(max_size=20) | st.sampled_from(["\x1b[2J", "a;b", "<b>&\"'", "\u202e", "\udc80", "f_[k]", "a 12"])
_FRAMES = st.lists(st.tuples(_NAMES, st.sampled_from(list(FrameKind))), min_size=1, max_size=5)
_PROFILES = st.lists(st.tuples(_FRAMES, st.integers(1, 10**12)), max_size=5)


def _built(stacks: list[tuple[list[tuple[str, FrameKind]], int]]) -> Profile:
    builder = ProfileBuilder("us")
    for frames, weight in stacks:
        builder.add(tuple(builder.index(name, kind, "/lib/x.so") for name, kind in frames), weight)
    return builder.build(Quality(1, 2.5, 3, ("a word",)))


@given(_PROFILES)
def test_json_goes_and_comes_back(stacks: list[tuple[list[tuple[str, FrameKind]], int]]) -> None:
    profile = _built(stacks)
    again = parse_profile_json(format_profile_json(profile).encode(), "x")
    assert again == profile


@given(_PROFILES)
def test_any_name_is_a_line_of_folded_text(stacks: list[tuple[list[tuple[str, FrameKind]], int]]) -> None:
    profile = _built(stacks)
    text = format_folded(profile)
    assert all(display(line) == line for line in text.split("\n"))
    again, _ = parse_folded(text.encode("utf-8", "backslashreplace"), "x")
    assert again.total == profile.total
    depths = {len(stack) for stack, _ in profile.stacks}
    assert {len(stack) for stack, _ in again.stacks} == depths


@pytest.mark.parametrize(
    "change",
    [('"samples"', '"weight": NaN'), ('"frames": [0]', '"frames": [7]'), ('"user"', '"nobody"'), ('"unit"', '"u"')],
)
def test_damaged_json_is_told(change: tuple[str, str]) -> None:
    builder = ProfileBuilder()
    builder.add((builder.index("f", FrameKind.USER),), 1)
    text = format_profile_json(builder.build())
    damaged = text.replace(*change) if change[0] != '"samples"' else text.replace('"weight": 1', change[1])
    assert damaged != text
    with pytest.raises(BadFileError):
        parse_profile_json(damaged.encode(), "x")
