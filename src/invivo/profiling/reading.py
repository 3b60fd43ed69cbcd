"""Files with stacks → profiles, whatever wrote them."""

from __future__ import annotations

from invivo.errors import BadFileError
from invivo.formats.folded import is_folded, parse_folded
from invivo.formats.profile_json import parse_profile_json
from invivo.stacks import Profile

_KNOWN = "folded stacks, JSON of invivo"


def read_profile(data: bytes, path: str) -> tuple[Profile, Profile | None]:
    """Return a file's profile, and the one before if it compares two. Raises `BadFileError`."""
    if data.startswith(b"{"):
        return parse_profile_json(data, path), None
    line = _first_line(data)
    if is_folded(line):
        return parse_folded(data, path)
    if not line:
        raise BadFileError(path, "has no stacks in it")
    raise BadFileError(path, f"is none of {_KNOWN}")


def _first_line(data: bytes) -> str:
    """The first line that is neither empty nor a comment."""
    start = 0
    while 0 <= start < len(data):
        end = data.find(b"\n", start)
        line = data[start : end if end >= 0 else len(data)].strip()
        if line and not line.startswith(b"#"):
            return line.decode("utf-8", "replace")
        if end < 0:
            break
        start = end + 1
    return ""
