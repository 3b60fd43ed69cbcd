r"""Text from the traced system, made harmless for a terminal.

A file name, a process name or a string argument may hold any bytes; sent raw they could move
the cursor, change the title or answer for the user.
"""

from __future__ import annotations

# C0 controls, DEL, C1 controls, characters that reorder or hide text, and bytes that are not UTF-8
# (surrogates U+DC80..U+DCFF stand for those: some terminals take 0x9b for ESC [).
_HIDDEN = (
    *range(0x20),
    *range(0x7F, 0xA0),
    0x061C,
    *range(0x200B, 0x2010),
    *range(0x2028, 0x202F),
    *range(0x2060, 0x2070),
    0xFEFF,
)
_NAMED = {0x09: "\\t", 0x0A: "\\n", 0x0D: "\\r"}


def _escape(code: int) -> str:
    return _NAMED.get(code) or (f"\\x{code:02x}" if code < 0x100 else f"\\u{code:04x}")


_TABLE = {code: _escape(code) for code in _HIDDEN} | {code: f"\\x{code - 0xDC00:02x}" for code in range(0xDC80, 0xDD00)}


def display(text: str) -> str:
    r"""Return text in which every character that a terminal would act on is shown as ``\x1b``, ``\n`` or ``\u202e``."""
    if text.isascii() and text.isprintable():
        return text
    return text.translate(_TABLE)
