"""Colours of flame graphs. The same name has the same colour in every picture."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final
from zlib import crc32

from invivo.record import Record
from invivo.stacks import FrameKind, Function

Colour = tuple[int, int, int]


class Palette(Record):
    """Colours from ``base`` to ``base + spread`` (red, green, blue), by a name's hash.

    ``kinds``: the palettes of some kinds of frames. ``background``: from its top to its bottom.
    """

    name: str
    doc: str
    base: Colour
    spread: Colour
    kinds: Mapping[FrameKind, str] = {}
    background: tuple[str, str] = ("#eeeeee", "#eeeeb0")


_BLUE_BACKGROUND = ("#eeeeee", "#e0e0ff")
_GREEN_BACKGROUND = ("#eef2ee", "#e0ffe0")
_KINDS: Final = {
    FrameKind.KERNEL: "orange",
    FrameKind.INLINED: "aqua",
    FrameKind.JIT: "green",
    FrameKind.PYTHON: "yellow",
    FrameKind.PROCESS: "grey",
    FrameKind.NOTE: "grey",
}
_CHAIN: Final = {FrameKind.WAKER: "aqua", FrameKind.NOTE: "grey"}

PALETTES: Final = {
    palette.name: palette
    for palette in (
        Palette("kind", "by what a frame is: user red, kernel orange, inlined aqua, JIT green, Python yellow",
                (222, 84, 52), (33, 90, 40), _KINDS),
        Palette("hot", "red to yellow", (205, 0, 0), (50, 230, 55)),
        Palette("mem", "green, for memory", (0, 190, 0), (0, 50, 210), background=_GREEN_BACKGROUND),
        Palette("io", "blue, for time off the processor", (105, 120, 215), (60, 65, 40), _CHAIN, _BLUE_BACKGROUND),
        Palette("wakeup", "aqua, for wakeups", (50, 165, 165), (60, 55, 55), background=_BLUE_BACKGROUND),
        Palette("red", "one colour", (205, 70, 70), (50, 70, 70)),
        Palette("orange", "one colour", (215, 125, 30), (40, 60, 50)),
        Palette("yellow", "one colour", (190, 175, 50), (50, 50, 20)),
        Palette("green", "one colour", (75, 190, 75), (60, 50, 60)),
        Palette("aqua", "one colour", (60, 175, 180), (60, 50, 45)),
        Palette("blue", "one colour", (90, 95, 205), (70, 75, 50)),
        Palette("purple", "one colour", (185, 85, 205), (55, 60, 45)),
        Palette("grey", "one colour", (185, 185, 185), (30, 30, 30)),
    )
}  # fmt: skip


def colour(palette: Palette, function: Function) -> Colour:
    """Return a function's colour."""
    chosen = PALETTES[palette.kinds[function.kind]] if function.kind in palette.kinds else palette
    value = crc32(function.name.encode("utf-8", "surrogatepass")) / 0xFFFFFFFF
    # Another hash for each part would let the hues of one palette run into those of its neighbour.
    red, green, blue = (int(base + spread * value) for base, spread in zip(chosen.base, chosen.spread, strict=True))
    return red, green, blue


def difference_colour(delta: float, most: float) -> Colour:
    """Return red for more, blue for less, the stronger the nearer to the greatest change; white for no change."""
    if not delta or not most:
        return 250, 250, 250
    rest = int(210 * (most - min(abs(delta), most)) / most)
    return (255, rest, rest) if delta > 0 else (rest, rest, 255)
