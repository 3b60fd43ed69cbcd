"""Weighted stacks: adding, merging, boxes of flame graphs, self and total."""

from __future__ import annotations

import random
from itertools import pairwise

import pytest

from invivo.stacks import FrameKind, Profile, ProfileBuilder, Quality, merged, scaled, self_and_total, spans


def profile_of(*stacks: tuple[str, float], unit: str = "samples") -> Profile:
    builder = ProfileBuilder(unit)
    for text, weight in stacks:
        builder.add(tuple(builder.index(name, FrameKind.USER) for name in text.split(";")), weight)
    return builder.build()


def _boxes(profile: Profile, before: Profile | None = None, least: float = 0) -> list[tuple[str, int, float, float]]:
    return [
        (box.function.name if box.function else "all", box.depth, box.start, box.weight)
        for box in spans(profile, before, least)
    ]


def test_boxes_stand_in_the_order_of_names_whatever_the_order_of_stacks() -> None:
    one = profile_of(("a;c", 3), ("a;b;d", 2), ("a", 1), ("e", 4))
    other = profile_of(("e", 4), ("a;b;d", 1), ("a", 1), ("a;c", 3), ("a;b;d", 1))
    wanted = [("all", 0, 0, 10), ("e", 1, 6, 4), ("a", 1, 0, 6), ("c", 2, 3, 3), ("b", 2, 1, 2), ("d", 3, 1, 2)]
    assert _boxes(one) == _boxes(other) == wanted


def test_one_function_above_itself_is_two_boxes() -> None:
    assert _boxes(profile_of(("f;f", 2), ("f", 1))) == [("all", 0, 0, 3), ("f", 1, 0, 3), ("f", 2, 1, 2)]


def test_narrow_boxes_are_left_out_and_what_is_above_them() -> None:
    assert _boxes(profile_of(("a;b", 1), ("c", 99)), least=2) == [("all", 0, 0, 100), ("c", 1, 1, 99)]


def test_a_profile_without_stacks_has_its_root() -> None:
    assert _boxes(profile_of()) == [("all", 0, 0, 0)]


def test_boxes_of_any_profile_fill_what_their_stacks_weigh() -> None:
    source = random.Random(7)
    for _ in range(50):
        stacks = [
            (";".join(source.choices("abc", k=source.randint(1, 6))), source.randint(1, 9))
            for _ in range(source.randint(1, 30))
        ]
        profile = profile_of(*stacks)
        boxes = spans(profile)
        by_place = sorted((box.depth, box.start, box.start + box.weight) for box in boxes)
        for (depth, _, end), (next_depth, start, _) in pairwise(by_place):
            assert depth != next_depth or end <= start
        assert sum(box.weight for box in boxes) == sum((text.count(";") + 2) * weight for text, weight in stacks)


def test_a_comparison_has_both_weights() -> None:
    found = {
        box.function.name if box.function else "all": (box.weight, box.before)
        for box in spans(profile_of(("a;b", 5), ("c", 1)), profile_of(("a;b", 2), ("d", 7)))
    }
    assert found == {"all": (6, 9), "a": (5, 2), "b": (5, 2), "c": (1, 0)}


def test_time_off_the_processor_is_that_of_what_called_the_scheduler() -> None:
    """Of samples on a processor the scheduler's functions are what runs."""
    rows: dict[str, list[tuple[str, float, float]]] = {}
    for unit in ("us", "samples"):
        builder = ProfileBuilder(unit)
        names = ("read", "pipe_read", "schedule", "__schedule")
        builder.add(tuple(builder.index(name, FrameKind.KERNEL) for name in names), 5)
        builder.add((builder.index("schedule", FrameKind.USER),), 1)
        rows[unit] = [(each.name, own, total) for each, own, total in self_and_total(builder.build())]
    assert rows["us"] == [("pipe_read", 5, 5), ("schedule", 1, 1), ("read", 0, 5)]
    assert rows["samples"][0] == ("__schedule", 5, 5)


def test_self_and_total_count_recursion_once() -> None:
    rows = {each.name: (own, total) for each, own, total in self_and_total(profile_of(("a;b;a", 3), ("a;b", 2)))}
    assert rows == {"a": (3, 5), "b": (2, 5)}


def test_processes_and_notes_are_no_functions() -> None:
    builder = ProfileBuilder()
    process, note = builder.index("sh", FrameKind.PROCESS), builder.index("[truncated]", FrameKind.NOTE)
    builder.add((process, note, builder.index("f", FrameKind.USER)), 2)
    builder.add((process,), 1)
    assert [(each.name, own, total) for each, own, total in self_and_total(builder.build())] == [("f", 2, 2)]


def test_profiles_are_added_up() -> None:
    one, other = profile_of(("a;b", 1)), profile_of(("b", 4), ("a;b", 2))
    both = merged([Profile(one.functions, one.stacks, "samples", Quality(1, 0, 2, ("x",))), other])
    assert both.total == 7 and len(both.stacks) == 2
    assert both.quality == Quality(None, None, 2, ("x",))
    assert merged(
        [Profile((), (), "us", Quality(1, 2, 3)), Profile((), (), "us", Quality(4, 5, 6))]
    ).quality == Quality(5, 7, 9)


def test_scaling_keeps_proportions() -> None:
    assert [weight for _, weight in scaled(profile_of(("a", 1), ("b", 3)), 8).stacks] == [2, 6]


@pytest.mark.parametrize("size", [4096, 4097, 1 << 20])
def test_a_name_has_an_end(size: int) -> None:
    function = profile_of(("x" * size, 1)).functions[0]
    assert len(function.name) == 4096 and function.name.endswith("x" if size == 4096 else "..")
