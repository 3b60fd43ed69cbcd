"""The live view: what it shows fits the terminal; without one the pictures follow each other."""

from __future__ import annotations

from io import BytesIO

import pytest

from invivo.profiling.live import LiveView, terminal_size
from invivo.stacks import FrameKind, Profile, ProfileBuilder, Quality


def _profile(functions: int) -> Profile:
    builder = ProfileBuilder()
    root = builder.index("prog", FrameKind.PROCESS)
    for number in range(functions):
        name = f"function_{number}_{'x' * 100}\x1b[2J"
        builder.add((root, builder.index(name, FrameKind.USER)), functions - number)
    return builder.build(Quality(0, 0))


@pytest.mark.parametrize(("columns", "rows"), [(80, 24), (20, 5), (200, 60)])
def test_it_fits_the_terminal(columns: int, rows: int) -> None:
    stream = BytesIO()
    view = LiveView(stream, "invivo: 99 Hz", lambda: (columns, rows))
    view.show(_profile(100), 1.0)
    view.show(_profile(100), 2.0)
    pictures = stream.getvalue().decode().split("\x1b[H\x1b[2J")[1:]
    assert len(pictures) == 2
    for picture in pictures:
        lines = picture.splitlines()
        assert len(lines) < rows and max(map(len, lines)) <= columns
        assert "\x1b" not in picture
    assert pictures[1].startswith("invivo: 99 Hz  2 s  10,100 samples in all"[:columns])


def test_without_a_terminal_nothing_is_cleared() -> None:
    stream = BytesIO()
    LiveView(stream, "x", lambda: None).show(_profile(3), 1.0)
    text = stream.getvalue().decode()
    assert "\x1b" not in text and "  50.0%   50.0%  function_0_" in text


def test_an_interval_without_samples_is_told() -> None:
    stream = BytesIO()
    LiveView(stream, "x", lambda: (80, 24)).show(_profile(0), 3.0)
    assert b"the last interval: no samples" in stream.getvalue()


def test_a_file_is_no_terminal() -> None:
    with open("/dev/null", "rb") as file:
        assert terminal_size(file.fileno()) is None
