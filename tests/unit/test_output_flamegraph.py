"""Flame graphs: their structure, exact widths, hostile names, comparisons."""

from __future__ import annotations

import math
import random
import xml.etree.ElementTree as ET
from collections.abc import Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from invivo.output.flamegraph import FlameOptions, fitting, format_flamegraph
from invivo.output.palettes import PALETTES, difference_colour
from invivo.stacks import FrameKind, Profile, ProfileBuilder, Quality

_SVG = "{http://www.w3.org/2000/svg}"
_IDS = {"frames", "title", "subtitle", "details", "unzoom", "search", "ignorecase", "matched"}


def profile_of(*stacks: tuple[tuple[str, ...], float], unit: str = "samples") -> Profile:
    builder = ProfileBuilder(unit)
    for names, weight in stacks:
        builder.add(tuple(builder.index(name, FrameKind.USER) for name in names), weight)
    return builder.build(Quality(0, 0, lost=2, remarks=("a word",)))


class Drawn:
    """A box as it stands in the picture."""

    def __init__(self, g: ET.Element) -> None:
        title, rect, text = g
        self.tags = [title.tag, rect.tag, text.tag]
        self.title = title.text or ""
        self.text = text.text or ""
        self.x, self.y, self.width, self.height = (
            float(rect.get(name, "nan")) for name in ("x", "y", "width", "height")
        )
        self.text_x, self.text_y = float(text.get("x", "nan")), float(text.get("y", "nan"))
        self.fill = rect.get("fill", "")


def drawn(text: str) -> tuple[ET.Element, list[Drawn]]:
    root = ET.fromstring(text.encode())
    frames = next(each for each in root.iter(f"{_SVG}g") if each.get("id") == "frames")
    return root, [Drawn(g) for g in frames]


def _ids(root: ET.Element) -> Iterator[str]:
    return (name for each in root.iter() if (name := each.get("id")))


def test_the_ids_that_scripts_look_for_are_there_once() -> None:
    ids = list(_ids(drawn(format_flamegraph(profile_of((("a", "b"), 3))))[0]))
    assert set(ids) >= _IDS and len(ids) == len(set(ids))


def test_boxes_have_title_rect_and_text() -> None:
    _, boxes = drawn(format_flamegraph(profile_of((("a", "b"), 1234), (("a",), 766))))
    assert all(box.tags == [f"{_SVG}title", f"{_SVG}rect", f"{_SVG}text"] for box in boxes)
    assert [box.title for box in boxes] == [
        "all (2,000 samples, 100.00%)",
        "a (2,000 samples, 100.00%)",
        "b (1,234 samples, 61.70%)",
    ]
    assert [box.text for box in boxes] == ["all", "a", "b"]


@pytest.mark.parametrize("icicle", [False, True])
def test_a_frame_stands_above_its_caller_or_below_it(icicle: bool) -> None:
    root, boxes = drawn(format_flamegraph(profile_of((("a", "b"), 1)), FlameOptions(icicle=icicle)))
    rows = [box.y for box in boxes]
    assert rows == sorted(rows, reverse=not icicle)
    assert all(box.y >= 36 and box.y + box.height <= float(root.get("height", "nan")) - 34 for box in boxes)


def test_widths_are_exact_and_boxes_stand_within_their_callers() -> None:
    source = random.Random(3)
    stacks = [
        (tuple(source.choices("abcd", k=source.randint(1, 8))), source.randint(1, 10 ** source.randint(1, 7)))
        for _ in range(200)
    ]
    total = sum(weight for _, weight in stacks)
    _, boxes = drawn(format_flamegraph(profile_of(*stacks), FlameOptions(least=0)))
    assert boxes[0].width == 1180
    for depth, row in enumerate(sorted({box.y for box in boxes}, reverse=True)):
        here = [box for box in boxes if box.y == row]
        wanted = sum(weight for names, weight in stacks if len(names) >= depth)
        assert math.isclose(sum(box.width for box in here), 1180 * wanted / total, abs_tol=0.0001 * len(here))
        for box in here:
            if depth:
                below = [each for each in boxes if each.y == row + 16 and each.x <= box.x + 0.0002]
                assert any(box.x + box.width <= each.x + each.width + 0.0004 for each in below)


_HOSTILE = [
    '<script>alert("1")</script>',
    "]]><x>&amp;&nosuch;",
    "\x00\x1b[31m\x07\n\r\t",
    "\ufffe\uffff\ud800\udc80",
    "\u202eabc\u2066",
    "x" * (1 << 20),
    "",
    "名前" * 40,
    "🔥" * 9,
]


@pytest.mark.parametrize("name", _HOSTILE, ids=range(len(_HOSTILE)))
def test_hostile_names_are_harmless(name: str) -> None:
    options = FlameOptions(title=name, subtitle=name)
    text = format_flamegraph(profile_of(((name, name), 1)), options)
    root, boxes = drawn(text)
    assert len(boxes) == 3 and len(text) < 80_000
    assert len([each for each in root.iter() if each.tag.endswith("script")]) == 1
    assert all(character.isprintable() or character in "\n\u3000" for character in text)


@given(st.text(), st.floats(0, 400))
def test_text_never_leaves_its_box(name: str, width: float) -> None:
    shown = fitting(name, width)
    columns = sum(2 if ord(character) >= 0x1100 else 1 for character in shown)
    assert shown == "" or columns * 12 * 0.61 + 6 <= width
    assert shown in ("", name) or (shown.endswith("..") and name.startswith(shown[:-2]))


def test_names_that_have_room_are_whole() -> None:
    assert fitting("abcdef", 6 * 7.32 + 6.001) == "abcdef"
    assert fitting("abcdef", 5 * 7.32 + 6.001) == "abc.."
    assert fitting("名前名前", 8 * 7.32 + 6.001) == "名前名前"
    assert fitting("名前名前", 7 * 7.32 + 6.001) == "名前.."


def test_a_comparison_is_red_for_more_and_blue_for_less() -> None:
    now, before = (
        profile_of((("more",), 30), (("less",), 10), (("same",), 5)),
        profile_of((("more",), 10), (("less",), 20), (("same",), 5), (("gone",), 10)),
    )
    boxes = {box.title.partition(" ")[0]: box for box in drawn(format_flamegraph(now, before=before))[1]}
    assert boxes["more"].fill == "rgb(255,0,0)" and boxes["more"].title == "more (30 samples, 66.67%; +44.44%)"
    assert boxes["less"].fill == "rgb(105,105,255)" and boxes["less"].title == "less (10 samples, 22.22%; -22.22%)"
    assert boxes["same"].fill == "rgb(250,250,250)" and "gone" not in boxes
    swapped = {
        box.title.partition(" ")[0]: box for box in drawn(format_flamegraph(now, FlameOptions(swapped=True), before))[1]
    }
    assert swapped["more"].fill == "rgb(255,0,0)" and swapped["gone"].fill == "rgb(105,105,255)"


def test_differences_grow_towards_full_colour() -> None:
    assert [difference_colour(delta, 100) for delta in (0, 50, 100, -50)] == [
        (250, 250, 250),
        (255, 105, 105),
        (255, 0, 0),
        (105, 105, 255),
    ]


@pytest.mark.parametrize("palette", PALETTES)
def test_every_palette_has_colours(palette: str) -> None:
    builder = ProfileBuilder()
    for kind in FrameKind:
        builder.add((builder.index(f"f{kind.value}", kind),), 1)
    _, boxes = drawn(format_flamegraph(builder.build(), FlameOptions(palette=palette)))
    for box in boxes:
        numbers = [int(part) for part in box.fill.removeprefix("rgb(").removesuffix(")").split(",")]
        assert len(numbers) == 3 and all(0 <= number <= 255 for number in numbers)


def test_kinds_have_colours_of_their_own_and_time_off_the_processor_is_blue() -> None:
    def hue(kind: FrameKind, unit: str) -> list[int]:
        builder = ProfileBuilder(unit)
        builder.add((builder.index("name", kind),), 1)
        box = drawn(format_flamegraph(builder.build()))[1][1]
        return [int(part) for part in box.fill[4:-1].split(",")]

    assert len({tuple(hue(kind, "samples")) for kind in FrameKind}) >= 6
    red, green, blue = hue(FrameKind.USER, "us")
    assert blue > red and blue > green


def test_an_empty_profile_is_a_picture_too() -> None:
    _, boxes = drawn(format_flamegraph(profile_of()))
    assert [box.title for box in boxes] == ["all (0 samples, 0.00%)"]


def test_how_far_it_is_to_be_trusted_stands_in_the_picture() -> None:
    root, _ = drawn(format_flamegraph(profile_of((("a",), 3))))
    description = next(each.text for each in root.iter(f"{_SVG}desc"))
    assert description == (
        "3 samples; 0.0% in truncated stacks; 0.0% in stacks with unknown names; 2 events lost; a word"
    )
