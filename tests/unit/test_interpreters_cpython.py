"""CPython's table of offsets, as files tell it, and the names of frames."""

from __future__ import annotations

import struct

import pytest

from invivo.events import Frame
from invivo.formats.elf import Elf
from invivo.interpreters.cpython import At, name_frame, recognise

_ADDRESS = 0x5294C0


def _file(content: bytes, name: bytes = b".PyRuntime") -> Elf:
    """An ELF file with one section that has a content."""
    names = b"\0.names\0" + name + b"\0"
    table = 64 + len(names) + len(content)
    header = struct.pack("<16sHHIQQQIHHHHHH", b"\x7fELF\2\1\1", 3, 62, 1, 0, 0, table, 0, 64, 56, 0, 64, 3, 1)
    sections = bytes(64)
    sections += struct.pack("<IIQQQQIIQQ", 1, 3, 0, 0, 64, len(names), 0, 0, 1, 0)
    sections += struct.pack("<IIQQQQIIQQ", 8, 1, 3, _ADDRESS, 64 + len(names), len(content), 0, 0, 1, 0)
    return Elf(header + names + content + sections, "libpython3.13.so")


def _debug_offsets(**changed: int) -> bytes:
    """``_Py_DebugOffsets`` of 3.13.0, as far as it is used."""
    words = {1: 0x030D00F0, 5: 632, 8: 7264, 9: 7344, 21: 8, 23: 72, 25: 160, 29: 8, 30: 0, 33: 70}
    words |= {35: 112, 37: 128, 39: 68, 68: 32, 69: 16, 70: 40}
    words |= {int(place.removeprefix("at")): value for place, value in changed.items()}
    return b"xdebugpy" + struct.pack("<70Q", *(words.get(place, 0) for place in range(1, 71)))


def test_the_offsets_that_the_interpreter_tells() -> None:
    found = recognise(_file(_debug_offsets() + bytes(100)))
    assert found is not None and found.address == _ADDRESS
    fields = dict(zip(At, struct.unpack(f"<{len(At)}I", found.table), strict=True))
    assert fields[At.THREADS] == 7344 and fields[At.NATIVE_ID] == 160 and fields[At.CFRAME] == 0
    assert fields[At.FRAME_BYTES] == 71 and fields[At.C_STACK] == 3 and fields[At.COMPACT_BYTES] == 56


@pytest.mark.parametrize(
    "elf",
    [
        pytest.param(_file(_debug_offsets(), b".data"), id="no section"),
        pytest.param(_file(_debug_offsets()[:-8]), id="a short section"),
        pytest.param(_file(bytes(568)), id="no version at all"),
        pytest.param(_file(_debug_offsets(at1=0x030E00F0)), id="a later version"),
        pytest.param(_file(_debug_offsets(at33=128)), id="a frame that is too large"),
        pytest.param(_file(_debug_offsets(at9=1 << 40)), id="an offset that is too large"),
    ],
)
def test_what_is_not_recognised(elf: Elf) -> None:
    assert recognise(elf) is None


@pytest.mark.parametrize(
    "name, kind, expected",
    [
        pytest.param(b"run", 1 | 3 << 8, "run", id="ascii"),
        pytest.param(b"k\xe9y", 1 | 3 << 8, "k\u00e9y", id="latin-1"),
        pytest.param("\u03c0".encode("utf-16-le"), 2 | 2 << 8, "\u03c0", id="two bytes"),
        pytest.param("\U00010348".encode("utf-32-le"), 4 | 4 << 8, "\U00010348", id="four bytes"),
        pytest.param(b"\0\0\x11\0", 4 | 4 << 8, "\ufffd", id="no character"),
        pytest.param(b"long", 1 | 4 << 8 | 1 << 31, "long..", id="cut"),
        pytest.param(b"what", 3 | 4 << 8, "", id="no kind of text"),
    ],
)
def test_names(name: bytes, kind: int, expected: str) -> None:
    value = struct.pack("<IIII128s128s", 7, kind, 1 | 4 << 8, 0, name, b"a.py")
    assert name_frame(0x7F00_1234_0001, value) == Frame(0x7F00_1234, expected, 7, "a.py", 0, True)


def test_a_frame_that_nobody_has_named() -> None:
    assert name_frame(0x7F00_1234_0002, None) == Frame(0x7F00_1234, "", 0, "", 0, False)
