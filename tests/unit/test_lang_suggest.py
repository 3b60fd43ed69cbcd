"""The nearest name."""

from __future__ import annotations

import pytest

from invivo.lang.suggest import nearest

_NAMES = ("printf", "print", "pid", "tid", "nsecs", "sched_switch", "strlen", "str")


@pytest.mark.parametrize(
    ("word", "name"),
    [
        ("prntf", "printf"),
        ("pritn", "print"),
        ("pdi", "pid"),
        ("nsec", "nsecs"),
        ("NSECS", "nsecs"),
        ("sched_swich", "sched_switch"),
        ("shced_switch", "sched_switch"),
        ("printf", "printf"),
    ],
)
def test_a_typing_mistake(word: str, name: str) -> None:
    assert nearest(word, _NAMES) == name


@pytest.mark.parametrize("word", ["frobnicate", "x", "", "schedule", "abcd"])
def test_something_else(word: str) -> None:
    assert nearest(word, _NAMES) is None


def test_nothing_to_suggest() -> None:
    assert nearest("pid", ()) is None


def test_the_first_of_equally_near_names() -> None:
    assert nearest("xid", ("pid", "tid")) == "pid"
