"""Profiles as invivo writes them in JSON."""

from __future__ import annotations

import json
from typing import Any

from invivo.errors import BadFileError
from invivo.stacks import FrameKind, Profile, ProfileBuilder, Quality


def parse_profile_json(data: bytes, path: str) -> Profile:
    """Return the profile. Raises `BadFileError`."""
    try:
        top: Any = json.loads(data)
    except json.JSONDecodeError as problem:
        raise BadFileError(path, f"no JSON: {problem.msg}", problem.pos) from problem
    except (UnicodeDecodeError, RecursionError) as problem:
        raise BadFileError(path, "no JSON that can be read") from problem
    try:
        if top["type"] != "profile":
            raise BadFileError(path, "JSON, but no profile of invivo")
        builder = ProfileBuilder(str(top["unit"]))
        places = [
            builder.index(str(frame["name"]), FrameKind(frame["kind"]), str(frame.get("module", "")))
            for frame in top["frames"]
        ]
        for stack in top["stacks"]:
            frames = [int(index) for index in stack["frames"]]
            if frames and not 0 <= min(frames) <= max(frames) < len(places):
                raise BadFileError(path, f"a stack with frame {max(frames)} of {len(places)}")
            builder.add(tuple([places[index] for index in frames]), _weight(stack["weight"]))
        quality = Quality(
            _share(top["truncated"]), _share(top["unnamed"]), int(top["lost"]), tuple(map(str, top["remarks"]))
        )
    except (KeyError, TypeError, ValueError, AttributeError) as problem:
        raise BadFileError(path, f"JSON, but no profile of invivo: {problem}") from problem
    return builder.build(quality)


def _weight(value: Any) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value < 2**63:
        raise ValueError(f"a weight of {value!r}")
    return value


def _share(value: Any) -> float | None:
    return None if value is None else _weight(value)
