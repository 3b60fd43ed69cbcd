"""Flame graphs in headless Chromium, as people see them: `make browser`.

Not among the tests that run everywhere, for a browser is large.  Each text is measured in its box, the states that an
address can have are opened, and screenshots are left in build/.
"""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest

from invivo.output.flamegraph import FlameOptions, format_flamegraph
from invivo.stacks import FrameKind, Profile, ProfileBuilder

_SCREENSHOTS = Path(__file__).parents[1] / "build"
_MEASURE = """
window.addEventListener("load", () => {
    const seen = Array.from(document.getElementById("frames").children, g => {
        const [title, rect, text] = g.children;
        const hidden = g.classList.contains("hide"), box = hidden ? null : rect.getBBox();
        const inner = hidden || !text.textContent ? null : text.getBBox();
        return {name: title.textContent, hidden, fill: rect.getAttribute("fill"),
                left: box && box.x, right: box && box.x + box.width,
                from: inner && inner.x, to: inner && inner.x + inner.width};
    });
    const desc = document.querySelector("desc");
    desc.textContent = "MEASURED" + JSON.stringify({
        boxes: seen, matched: document.getElementById("matched").textContent, width: innerWidth}) + "OVER";
});
"""


def _profile(names: dict[str, float], *, unit: str = "samples") -> Profile:
    builder = ProfileBuilder(unit)
    for text, weight in names.items():
        process, *frames = text.split(";")
        builder.add(
            (builder.index(process, FrameKind.PROCESS), *(builder.index(each, FrameKind.USER) for each in frames)),
            weight,
        )
    return builder.build()


_WIDE = _profile(
    {
        "sh;main;" + "W" * 500: 400,
        "sh;main;iiiiiiiiiiiiiiiiiiiiii;" + "m" * 40: 100,
        "sh;main;std::vector<int, std::allocator<int> >::push_back(int&&)": 300,
        "sh;main;データベースを読む関数の名前はとても長い": 150,
        "sh;main;каждое_имя_функции;\N{GRINNING FACE}" + "\N{GRINNING FACE}" * 20: 120,
        "sh;main;<b>&amp;\x1b[2J": 60,
        **{f"sh;main;small_{number:03}": number % 9 + 1 for number in range(120)},
    }
)


def _opened(picture: Path, address: str = "", width: int = 1220) -> dict[str, Any]:
    """What a browser shows of a picture; a screenshot is left beside the others."""
    browser = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    assert browser is not None, "needs chromium"
    measured = picture.with_name(f"measured-{picture.name}")
    text = picture.read_text()
    measured.write_text(text.replace("]]></script>", f"{_MEASURE}]]></script>"))
    flags = ["--headless", "--no-sandbox", "--disable-gpu", "--hide-scrollbars", f"--window-size={width},800"]
    words = [browser, *flags, "--dump-dom", f"file://{measured}{address}"]
    shown = subprocess.run(words, capture_output=True, text=True, timeout=120, check=True).stdout
    _SCREENSHOTS.mkdir(exist_ok=True)
    shot = _SCREENSHOTS / f"flamegraph-{picture.stem}{re.sub(r'[^a-z0-9]+', '-', address)}.png"
    subprocess.run(
        [browser, *flags, f"--screenshot={shot}", f"file://{picture}{address}"],
        capture_output=True,
        timeout=120,
        check=True,
    )
    found = re.search(r"MEASURED(\{.*?\})OVER", shown, re.DOTALL)
    assert found is not None, shown[:2000]
    told: dict[str, Any] = json.loads(found[1].replace("&lt;", "<").replace("&gt;", ">").replace("&amp;", "&"))
    return told


def _assert_texts_are_inside(seen: dict[str, Any]) -> None:
    texts = 0
    for box in seen["boxes"]:
        if box["from"] is not None:
            texts += 1
            assert box["left"] <= box["from"] and box["to"] <= box["right"], box
    assert texts > 3


@pytest.mark.parametrize("icicle", [False, True])
def test_no_text_leaves_its_box(tmp_path: Path, icicle: bool) -> None:
    picture = tmp_path / ("icicle.svg" if icicle else "flame.svg")
    picture.write_text(format_flamegraph(_WIDE, FlameOptions(icicle=icicle)))
    _assert_texts_are_inside(_opened(picture))


def test_an_address_opens_the_place_and_the_search(tmp_path: Path) -> None:
    picture = tmp_path / "zoomed.svg"
    picture.write_text(format_flamegraph(_WIDE))
    whole = _opened(picture)
    target = next(box for box in whole["boxes"] if box["name"].startswith("std::vector"))
    text = picture.read_text()
    found = re.search(r'<title>std::vector[^\n]*? y="(\d+)"[^\n]*? data-x="([^"]*)"', text)
    assert found is not None
    seen = _opened(picture, f"?x={found[2]}&y={found[1]}&s=std")
    zoomed = next(box for box in seen["boxes"] if box["name"] == target["name"])
    assert (zoomed["left"], zoomed["right"]) == (10, 1190) and zoomed["fill"] == "rgb(230,0,230)"
    assert {box["name"].partition(" ")[0] for box in seen["boxes"] if not box["hidden"]} == {
        "all",
        "sh",
        "main",
        "std::vector<int,",
    }
    assert re.fullmatch(r"Matched: \d+\.\d%", seen["matched"])
    _assert_texts_are_inside(seen)


def test_time_off_the_processor_is_blue_and_differences_are_red_and_blue(tmp_path: Path) -> None:
    waits = tmp_path / "waits.svg"
    waits.write_text(format_flamegraph(_profile({"sh;main;read": 7, "sh;main;nap": 3}, unit="us")))
    fills = [box["fill"] for box in _opened(waits)["boxes"] if box["name"].startswith(("main", "read", "nap"))]
    for red, _, blue in (map(int, re.findall(r"\d+", fill)) for fill in fills):
        assert blue > red
    both = tmp_path / "difference.svg"
    before, after = (
        _profile({"sh;main;more": 10, "sh;main;less": 30}),
        _profile({"sh;main;more": 30, "sh;main;less": 10}),
    )
    both.write_text(format_flamegraph(after, None, before))
    found = {box["name"].partition(" ")[0]: box["fill"] for box in _opened(both)["boxes"]}
    assert (found["more"], found["less"]) == ("rgb(255,0,0)", "rgb(0,0,255)")
