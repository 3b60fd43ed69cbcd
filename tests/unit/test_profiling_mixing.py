"""Frames of interpreted code among the native ones."""

from __future__ import annotations

import pytest

from invivo.events import Frame
from invivo.profiling.mixing import mixed


def _mixed(native: str, interpreted: str, *, complete: bool = True) -> str:
    """``L`` is the function that interprets; capitals of interpreted code are entries, ``?`` is not known."""
    frames = [Frame(1, "" if name == "?" else name, 0, "") for name in native]
    inner = [Frame(1, name, 0, "", 0, name.isupper()) for name in interpreted]
    placed = mixed(frames, inner, lambda symbol: symbol == "L", complete=complete)
    return "".join(f"{frame.symbol or '?'}{'!' if is_interpreted else ''}" for frame, is_interpreted in placed)


@pytest.mark.parametrize(
    "native, interpreted, expected",
    [
        pytest.param("aLb", "xyZ", "ax!y!Z!b", id="one call"),
        pytest.param("aLbLc", "xYz", "ax!Y!bz!c", id="two calls, the first one's entry is not marked"),
        pytest.param("aLbLc", "XyZ", "aX!by!Z!c", id="two calls"),
        pytest.param("LbLc", "yZ", "Lby!Z!c", id="the interpreter has just been called"),
        pytest.param("aLc", "XyZ", "aX!y!Z!c", id="frames of a call that was optimised away"),
        pytest.param("abc", "xY", "abcx!Y!", id="no function that interprets"),
        pytest.param("aLb", "", "aLb", id="no frames"),
    ],
)
def test_whole_stacks(native: str, interpreted: str, expected: str) -> None:
    assert _mixed(native, interpreted) == expected


@pytest.mark.parametrize(
    "native, interpreted, expected",
    [
        pytest.param("aL", "XyZ", "aX!y!Z!", id="the calls further out are missing"),
        pytest.param("aL??", "Xy", "aX!y!", id="nothing is known of the callers"),
        pytest.param("aL?b", "Xy", "aX!?by!", id="something is known of the callers"),
        pytest.param("??", "Xy", "X!y!", id="nothing is known at all"),
        pytest.param("LbL", "XyZ", "X!by!Z!", id="as many calls as there are"),
    ],
)
def test_stacks_without_their_beginning(native: str, interpreted: str, expected: str) -> None:
    assert _mixed(native, interpreted, complete=False) == expected
