"""Profiles as flame graphs: an SVG that is looked at in a browser, with its script inside.

The ids of its elements are those that scripts for flame graphs look for: ``frames`` (whose children are
``<g><title/><rect/><text/></g>``), ``title``, ``subtitle``, ``details``, ``unzoom``, ``search``, ``ignorecase``,
``matched``.
"""

from __future__ import annotations

import os
from collections.abc import Callable

from invivo.output.folded import format_weight
from invivo.output.palettes import PALETTES, Palette, colour, difference_colour
from invivo.output.terminal import display
from invivo.record import Record
from invivo.stacks import FrameKind, Profile, Span, spans

_FONT = 12  # pixels
_CHARACTER = 0.61  # of the font's size: no common monospaced font is wider, so no text leaves its box
_ROW = 16
_PAD = 10
_TOP = 3 * _FONT
_BOTTOM = 2 * _FONT + 10
_INSIDE = 3  # between a box and its text
_LONGEST_TITLE = 200
_FEWEST = 3  # characters worth showing
_XML = {ord("&"): "&amp;", ord("<"): "&lt;", ord(">"): "&gt;", ord('"'): "&quot;"}
_NO_XML = {0xFFFE: "\\ufffe", 0xFFFF: "\\uffff"}  # https://www.w3.org/TR/xml/#charsets


class FlameOptions(Record):
    """How a flame graph is drawn. ``width``: of the picture, in pixels; ``least``: of the boxes that are shown.

    ``palette``: a name of `palettes.PALETTES`, "" for what suits the unit. ``icicle``: roots above.
    ``swapped``: in a comparison, the widths are those of the profile before.
    """

    title: str = ""
    subtitle: str = ""
    width: int = 1200
    least: float = 0.1
    palette: str = ""
    icicle: bool = False
    swapped: bool = False


def format_flamegraph(profile: Profile, options: FlameOptions | None = None, before: Profile | None = None) -> str:
    """Return the SVG. ``before``: a profile to compare with; red is more than there, blue is less."""
    options = options or FlameOptions()
    inner = options.width - 2 * _PAD
    shown, other = (before, profile) if before is not None and options.swapped else (profile, before)
    boxes = spans(shown, other, options.least * shown.total / inner)
    total = boxes[0].weight
    if not total:
        boxes = boxes[:1]
    palette = PALETTES[options.palette or ("io" if profile.unit in ("us", "ns", "ms") else "kind")]
    top = _TOP + (_ROW if options.subtitle else 0)
    height = (max(box.depth for box in boxes) + 1) * _ROW + top + _BOTTOM
    paint = _paint(palette, boxes, total, compared=before is not None, swapped=options.swapped)
    scale = inner / total if total else 0
    parts = [_head(profile, options, palette, height, before is not None)]
    parts.append(f'<g id="frames" data-total="{format_weight(total)}">\n')
    for box in boxes:
        y = top + box.depth * _ROW if options.icicle else height - _BOTTOM - (box.depth + 1) * _ROW + 1
        parts.append(_box(box, y, scale, paint(box), _label(box, total, shown.unit, other is not None)))
    parts.append("</g>\n</svg>\n")
    return "".join(parts)


def _box(box: Span, y: int, scale: float, fill: str, label: str) -> str:
    name = "all" if box.function is None else harmless(box.function.name)
    width = box.weight * scale
    text = escaped(fitting(name, width))
    x = _PAD + box.start * scale
    kind = "" if box.function is None else f' class="{box.function.kind.value}"'
    # In the browser the weights themselves are what zooming computes with: attributes in pixels are rounded.
    place = f'data-x="{format_weight(box.start)}" data-w="{format_weight(box.weight)}"'
    return (
        f"<g{kind}><title>{escaped(name)} {label}</title>"
        f'<rect x="{x:.4f}" y="{y}" width="{width:.4f}" height="{_ROW - 1}" fill="{fill}" rx="2" ry="2" {place}/>'
        f'<text x="{x + _INSIDE:.4f}" y="{y + _ROW - 5}">{text}</text></g>\n'
    )


def _label(box: Span, total: float, unit: str, compared: bool) -> str:
    share = 100 * box.weight / total if total else 0
    label = f"({thousands(box.weight)} {unit}, {share:.2f}%"
    if compared:
        change = 100 * (box.weight - box.before) / total if total else 0
        label += f"; {change:+.2f}%"
    return f"{label})"


def thousands(weight: float) -> str:
    """Return ``1,234`` or ``1,234.5``."""
    whole, dot, part = format_weight(weight).partition(".")
    return f"{int(whole):,}{dot}{part}"


def harmless(text: str) -> str:
    """Return text without characters that XML cannot have, or that act on what shows it."""
    return display(text).translate(_NO_XML).encode("utf-8", "backslashreplace").decode()


def escaped(text: str) -> str:
    return text.translate(_XML)


def fitting(name: str, width: float) -> str:
    """Return as much of a name as a box of a width has room for, "" if that says nothing."""
    room = int((width - 2 * _INSIDE) / (_FONT * _CHARACTER))
    if room < _FEWEST:
        return ""
    if name.isascii():
        return name if len(name) <= room else f"{name[: room - 2]}.."
    cells = kept = 0
    for position, character in enumerate(name):
        cells += 2 if ord(character) >= 0x1100 else 1  # from Hangul on many characters take two columns
        if cells > room:
            return f"{name[:kept]}.."
        if cells <= room - 2:
            kept = position + 1
    return name


def _paint(
    palette: Palette, boxes: list[Span], total: float, *, compared: bool, swapped: bool
) -> Callable[[Span], str]:
    most = max((abs(box.weight - box.before) for box in boxes if box.function is not None), default=0)
    known: dict[tuple[str, FrameKind], str] = {}

    def fill(box: Span) -> str:
        if box.function is None:
            return "rgb(250,250,250)" if compared else "rgb({},{},{})".format(*PALETTES["grey"].base)
        if compared:
            delta = box.weight - box.before
            return "rgb({},{},{})".format(*difference_colour(-delta if swapped else delta, most))
        key = box.function.name, box.function.kind
        if key not in known:
            known[key] = "rgb({},{},{})".format(*colour(palette, box.function))
        return known[key]

    return fill


def _head(profile: Profile, options: FlameOptions, palette: Palette, height: int, compared: bool) -> str:
    width = options.width
    title = options.title or ("Differential Flame Graph" if compared else "Flame Graph")
    subtitle = options.subtitle
    top, bottom = palette.background
    right = width - _PAD
    quality = " ".join(f"{each};" for each in quality_lines(profile)).rstrip(";")
    return f"""\
<?xml version="1.0" encoding="UTF-8" standalone="no"?>
<svg version="1.1" width="{width}" height="{height}" viewBox="0 0 {width} {height}" onload="init()" \
xmlns="http://www.w3.org/2000/svg">
<desc>{escaped(harmless(quality))}</desc>
<defs><linearGradient id="background" x1="0" y1="0" x2="0" y2="1">
<stop offset="5%" stop-color="{top}"/><stop offset="95%" stop-color="{bottom}"/></linearGradient></defs>
<style>
text {{ font-family: Verdana, "DejaVu Sans", sans-serif; font-size: {_FONT}px; fill: rgb(0,0,0); }}
#title {{ text-anchor: middle; font-size: {_FONT + 5}px; }}
#subtitle {{ text-anchor: middle; fill: rgb(110,110,110); }}
#search, #ignorecase, #matched {{ text-anchor: end; }}
#search, #ignorecase {{ opacity: 0.4; cursor: pointer; }}
#search:hover, #search.on, #ignorecase:hover, #ignorecase.on {{ opacity: 1; }}
#unzoom {{ cursor: pointer; }}
#frames text {{ font-family: "DejaVu Sans Mono", Menlo, Consolas, monospace; pointer-events: none; white-space: pre; }}
#frames g:hover rect {{ stroke: black; stroke-width: 0.5; cursor: pointer; }}
.hide {{ display: none; }}
.parent {{ opacity: 0.5; }}
</style>
<rect id="back" x="0" y="0" width="100%" height="100%" fill="url(#background)"/>
<text id="title" x="{width / 2:g}" y="{2 * _FONT}">{escaped(harmless(title[:_LONGEST_TITLE]))}</text>
<text id="subtitle" x="{width / 2:g}" y="{3 * _FONT + 2}">{escaped(harmless(subtitle[:_LONGEST_TITLE]))}</text>
<text id="details" x="{_PAD}" y="{height - _BOTTOM // 2}"> </text>
<text id="unzoom" x="{_PAD}" y="{2 * _FONT}" class="hide">Reset Zoom</text>
<text id="search" x="{right - 26}" y="{2 * _FONT}">Search</text>
<text id="ignorecase" x="{right}" y="{2 * _FONT}">ic</text>
<text id="matched" x="{right}" y="{height - _BOTTOM // 2}"> </text>
<script type="text/ecmascript"><![CDATA[
{_script()}]]></script>
"""


def quality_lines(profile: Profile) -> list[str]:
    """Return what is doubtful about a profile, a sentence each; always how much there is of it."""
    total, quality = profile.total, profile.quality
    lines = [f"{thousands(total)} {profile.unit}"]
    for weight, what in ((quality.truncated, "truncated stacks"), (quality.unnamed, "stacks with unknown names")):
        if total and weight is not None:
            lines.append(f"{100 * weight / total:.1f}% in {what}")
    lines.append(f"{quality.lost:,} events lost")
    return [*lines, *quality.remarks]


def _script() -> str:
    path = os.path.join(os.path.dirname(os.path.abspath(__file__)), "flamegraph.js")
    with open(path, encoding="utf-8") as file:
        script = file.read()
    geometry = f"const PAD = {_PAD}, INSIDE = {_INSIDE}, FEWEST = {_FEWEST}, CHARACTER = {_FONT * _CHARACTER};\n"
    return geometry + script
