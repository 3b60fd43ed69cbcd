"""Wildcards and nearest names."""

from __future__ import annotations

from fnmatch import fnmatchcase

import pytest
from hypothesis import given
from hypothesis import strategies as st

from invivo.probes.names import did_you_mean, is_wildcard, matcher, nearest, select


@pytest.mark.parametrize(
    ("pattern", "name", "expected"),
    [
        ("sched_switch", "sched_switch", True),
        ("sched_switch", "sched_switch2", False),
        ("sched_*", "sched_", True),
        ("*switch", "sched_switch", True),
        ("a*a", "a", False),
        ("a*a", "aa", True),
        ("*_enter_*at", "sys_enter_openat", True),
        ("*_enter_*at", "sys_enter_open", False),
        ("a*b*b", "ab", False),
        ("**", "", True),
        ("op[a]", "op[a]", True),
        ("op[a]", "opa", False),
        ("op?", "opa", False),
    ],
)
def test_a_star_stands_for_any_run_of_characters_and_nothing_else_is_special(
    pattern: str, name: str, expected: bool
) -> None:
    assert matcher(pattern)(name) is expected


@given(st.text("ab*", max_size=8), st.text("ab", max_size=10))
def test_matching_agrees_with_the_shell(pattern: str, name: str) -> None:
    assert matcher(pattern)(name) is fnmatchcase(name, pattern)


def test_selected_names_are_sorted() -> None:
    assert select("s*", ["sz", "a", "sa"]) == ["sa", "sz"]
    assert is_wildcard("s*")
    assert not is_wildcard("s?")


@pytest.mark.parametrize(
    ("wrong", "hint"),
    [
        ("sched_swich", "did you mean sched_switch?"),
        ("shced_switch", "did you mean sched_switch?"),
        ("wakeup", "did you mean sched_wakeup or sched_wakeup_new?"),
        ("completely_different", None),
    ],
)
def test_the_nearest_names_are_suggested(wrong: str, hint: str | None) -> None:
    known = ["sched_switch", "sched_wakeup", "sched_wakeup_new", "sched_process_exec"]
    assert did_you_mean(wrong, known) == hint


def test_nearer_names_come_first_and_at_most_three() -> None:
    assert nearest("aaaaaa", ["aaaabb", "aaaaab", "aaaaaa_", "baaaaa", "aaaaca"]) == ["aaaaaa_", "aaaaab", "aaaaca"]
