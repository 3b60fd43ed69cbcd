"""JSON strings and numbers, written without the json package (its import costs 7 ms)."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TypeVar, cast

T = TypeVar("T")

_SHORT = {0x22: '\\"', 0x5C: "\\\\", 0x0A: "\\n", 0x0D: "\\r", 0x09: "\\t"}
# DEL and C1 controls are legal in JSON; escaped they are harmless on a terminal too.
_ESCAPES = {code: f"\\u{code:04x}" for code in (*range(0x20), *range(0x7F, 0xA0))} | _SHORT


def quote(text: str) -> str:
    """Return a JSON string. Bytes that were not UTF-8 (surrogates) stay, and leave as they came."""
    if text.isascii() and text.isprintable() and '"' not in text and "\\" not in text:
        return f'"{text}"'
    return f'"{text.translate(_ESCAPES)}"'


def json_bool(value: bool) -> str:
    return "true" if value else "false"


def json_null(_: None) -> str:
    return "null"


def exact_number(value: int) -> str:
    """Return a number; as a string if a double cannot hold it exactly, as most readers would use one."""
    return str(int(value)) if _fits_double(value) else f'"{int(value)}"'


def _fits_double(value: int) -> bool:
    return -(1 << 53) <= value <= 1 << 53 or int(float(value)) == value


def json_column(values: Sequence[T], write: Callable[[T], str]) -> Sequence[object]:
    """Return values as JSON: integers that a double holds stay as they are."""
    if set(map(type, values)) == {int}:
        numbers = cast("Sequence[int]", values)
        if -(1 << 53) <= min(numbers) <= max(numbers) <= 1 << 53:
            return numbers
    return list(map(write, values))
