"""Files with stacks → profiles, whatever wrote them."""

from __future__ import annotations

from invivo.errors import BadFileError
from invivo.formats.stacks.folded import is_folded, parse_folded
from invivo.formats.stacks.perf_data import MAGIC, parse_perf_data
from invivo.formats.stacks.perf_script import is_perf_script, parse_perf_script
from invivo.formats.stacks.profile_json import parse_profile_json
from invivo.profiling.recorded import RecordedNames
from invivo.stacks import Profile

_KNOWN = "folded stacks, output of perf script, perf.data, JSON of invivo"


def read_profile(data: bytes, path: str) -> tuple[Profile, Profile | None]:
    """Return a file's profile, and the one before if it compares two. Raises `BadFileError`."""
    if data.startswith(b"{"):
        return parse_profile_json(data, path), None
    if data.startswith(MAGIC):
        names = RecordedNames()
        try:
            return parse_perf_data(data, path, names), None
        finally:
            names.close()
    line = _first_line(data)
    if is_folded(line):
        return parse_folded(data, path)
    if is_perf_script(line):
        return parse_perf_script(data, path), None
    if not line:
        raise BadFileError(path, "has no stacks in it")
    raise BadFileError(path, f"is none of {_KNOWN}")


def _first_line(data: bytes) -> str:
    """The first line that is neither empty nor a comment."""
    start = 0
    while 0 <= start < len(data):
        end = data.find(b"\n", start)
        line = data[start : end if end >= 0 else len(data)].strip()
        text = line.decode("utf-8", "replace")
        if text and (not text.startswith("#") or is_folded(text)):
            return text
        if end < 0:
            break
        start = end + 1
    return ""
