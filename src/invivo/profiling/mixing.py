"""Frames of interpreted code among the native ones: in the place of the function that interprets it."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from invivo.events import Frame

Placed = tuple[Frame, bool]  # a frame, and whether it is one of interpreted code


def mixed(
    native: Sequence[Frame], interpreted: Sequence[Frame], is_loop: Callable[[str], bool], *, complete: bool
) -> list[Placed]:
    """Put two stacks of a thread into one, all innermost frame first.

    A call of the interpreter (`is_loop` by the function's name) runs the frames up to one that is an entry; these
    stand in its place.  ``complete``: the native stack has its beginning; calls are then paired from there, since an
    interpreter that has just been called has no frame yet.  Otherwise they are paired from the innermost, and the
    frames whose calls are missing stand below all others, in the place of addresses that nothing is known of.
    """
    if not complete:
        known = max((place + 1 for place, frame in enumerate(native) if frame.symbol or frame.module), default=0)
        native = native[:known]
    parts = _parts(interpreted)
    loops = [place for place, frame in enumerate(native) if is_loop(frame.symbol)]
    count = min(len(parts), len(loops))
    first_part, first_loop = (len(parts) - count, len(loops) - count) if complete and count else (0, 0)
    at = {loops[first_loop + index]: parts[first_part + index] for index in range(count)}
    if count:
        place = loops[first_loop]
        at[place] = [frame for part in parts[:first_part] for frame in part] + at[place]
    found: list[Placed] = []
    for place, frame in enumerate(native):
        found += [(each, True) for each in at[place]] if place in at else [(frame, False)]
    return [*found, *((frame, True) for part in parts[first_part + count :] for frame in part)]


def _parts(frames: Sequence[Frame]) -> list[list[Frame]]:
    """The frames of each call of the interpreter; the last one may lack its entry."""
    parts: list[list[Frame]] = [[]]
    for frame in frames:
        parts[-1].append(frame)
        if frame.is_entry:
            parts.append([])
    return parts if parts[-1] else parts[:-1]
