"""Profiles as JSON, with all that is known; `formats.stacks.profile_json` reads it again."""

from __future__ import annotations

import json

from invivo.stacks import Function, Profile


def format_profile_json(profile: Profile) -> str:
    """Return one object: unit, quality, the frames, and the stacks as indices into these, outermost first."""
    quality = profile.quality
    head = {
        "type": "profile",
        "unit": profile.unit,
        "total": profile.total,
        "truncated": quality.truncated,
        "unnamed": quality.unnamed,
        "lost": quality.lost,
        "remarks": quality.remarks,
    }
    frames = ",\n".join(json.dumps(_frame(each)) for each in profile.functions)
    stacks = ",\n".join(json.dumps({"frames": stack, "weight": weight}) for stack, weight in profile.stacks)
    return f'{json.dumps(head)[:-1]},\n"frames": [\n{frames}\n],\n"stacks": [\n{stacks}\n]}}\n'


def _frame(function: Function) -> dict[str, str]:
    frame = {"name": function.name, "kind": function.kind.value}
    return frame | {"module": function.module} if function.module else frame
