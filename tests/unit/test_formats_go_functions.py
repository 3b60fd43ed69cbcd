"""Names of Go's functions: the table as compilers since 1.16 write it, and as nobody does."""

from __future__ import annotations

import struct

import pytest

from invivo.errors import BadFileError
from invivo.formats.go_functions import GoFunctions

_START = 0x401000
_FUNCTIONS = ((0, b"runtime.text"), (0x40, b"main.(*T).run"), (0x100, b"main.\xff"))
_END = 0x180


def table(magic: int, start: int = _START) -> bytearray:
    """A table of three functions."""
    is_relative = magic != 0xFFFFFFFA
    width, form, base = (4, "<I", 0) if is_relative else (8, "<Q", _START)
    names = b"".join(name + b"\0" for _, name in _FUNCTIONS)
    records, pairs, name_at = b"", b"", 0
    first = (2 * len(_FUNCTIONS) + 1) * width
    for entry, name in _FUNCTIONS:
        pairs += struct.pack(form, base + entry) + struct.pack(form, first + len(records))
        records += struct.pack(form, base + entry) + struct.pack("<i", name_at) + bytes(8)
        name_at += len(name) + 1
    pairs += struct.pack(form, base + _END)
    words = [len(_FUNCTIONS), 1, *([start] if is_relative else [])]
    header_size = 8 + 8 * (len(words) + 5)
    names_at, functions_at = header_size, header_size + (len(names) + 7) // 8 * 8
    header = struct.pack(f"<IHBB{len(words) + 5}Q", magic, 0, 1, 8, *words, names_at, 0, 0, 0, functions_at)
    return bytearray((header + names).ljust(functions_at, b"\0") + pairs + records)


@pytest.mark.parametrize("magic", [0xFFFFFFFA, 0xFFFFFFF0, 0xFFFFFFF1])
@pytest.mark.parametrize("start", [_START, 0])
def test_functions(magic: int, start: int) -> None:
    found = GoFunctions("x", memoryview(table(magic, start)), _START)
    assert [found.at(_START + at) for at in (-1, 0, 0x3F, 0x40, 0xFF, 0x100, _END - 1, _END)] == [
        None,
        ("runtime.text", _START),
        ("runtime.text", _START),
        ("main.(*T).run", _START + 0x40),
        ("main.(*T).run", _START + 0x40),
        ("main.\ufffd", _START + 0x100),
        ("main.\ufffd", _START + 0x100),
        None,
    ]


def _changed(at: int, form: str, value: int) -> memoryview:
    made = table(0xFFFFFFF1)
    struct.pack_into(form, made, at, value)
    return memoryview(made)


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (memoryview(b""), "ends"),
        (memoryview(table(0xFFFFFFF1)[:40]), "ends"),
        (_changed(0, "<I", 0xFFFFFFFB), "unknown table"),
        (_changed(8, "<Q", 1 << 60), "ends within them"),
        (_changed(64, "<Q", 1 << 62), "ends within them"),
        (_changed(32, "<Q", 1 << 62), "does not lie in the table"),
        (memoryview(table(0xFFFFFFF1)[:-40]), "the table of Go's functions ends"),
    ],
)
def test_what_is_broken_is_told(data: memoryview, reason: str) -> None:
    with pytest.raises(BadFileError, match=reason):
        GoFunctions("x", data, _START).at(_START + 0x100)
