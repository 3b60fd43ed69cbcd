"""The ELF reader, on files that the tests write, on the compiler's, and on bytes that are no ELF."""

from __future__ import annotations

import mmap
import struct
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fixture_elf import CODE_ADDRESS, CODE_OFFSET, executable
from invivo.errors import BadFileError
from invivo.formats.elf import Elf, ElfType, Note

DATA = executable([("main", 0, 32), ("open", 32, 16), ("fopen", 48, 16), ("after", 80, 0)])
SEGMENT_AT = 64
HEADER_SIZE = 64


def with_segments(*segments: tuple[int, bytes, int]) -> bytes:
    """Return the sample with other segments added behind the file: type, content, alignment."""
    data = bytearray(DATA)
    table = bytearray(data[SEGMENT_AT : SEGMENT_AT + 56])
    for kind, content, alignment in segments:
        table += struct.pack("<IIQQQQQQ", kind, 4, len(data), 0, 0, len(content), len(content), alignment)
        data += content
    struct.pack_into("<Q", data, 32, len(data))
    struct.pack_into("<H", data, 56, 1 + len(segments))
    return bytes(data + table)


def note(name: bytes, kind: int, content: bytes) -> bytes:
    head = struct.pack("<III", len(name), len(content), kind) + name + bytes(-len(name) % 4)
    return head + content + bytes(-len(content) % 4)


def test_the_header_is_read() -> None:
    elf = Elf(DATA, "file")
    assert (elf.type, elf.machine, elf.entry) == (ElfType.EXEC, 62, CODE_ADDRESS)
    assert not elf.is_pie
    assert elf.interpreter is None
    assert elf.build_id is None
    assert elf.debug_link is None
    assert [section.name for section in elf.sections] == [
        "",
        ".text",
        ".symtab",
        ".strtab",
        ".shstrtab",
        ".note.stapsdt",
    ]


def test_addresses_and_offsets_are_turned_into_each_other() -> None:
    elf = Elf(DATA, "file")
    assert elf.file_offset(CODE_ADDRESS + 5) == CODE_OFFSET + 5
    assert elf.address(CODE_OFFSET + 5) == CODE_ADDRESS + 5
    assert elf.file_offset(CODE_ADDRESS - 1) is None
    assert elf.file_offset(CODE_ADDRESS + 0x10000) is None
    assert elf.address(len(DATA) + 0x10000) is None


def test_a_section_has_its_content() -> None:
    elf = Elf(DATA, "file")
    text = elf.section(".text")
    assert text is not None
    assert bytes(elf.content(text)) == b"\x90" * 80
    assert elf.section(".data") is None


def test_symbols_are_found_by_name() -> None:
    symbols = Elf(DATA, "file").symbols()
    found = symbols.find("open")
    assert found is not None
    assert (found.name, found.address, found.size, found.is_function) == ("open", CODE_ADDRESS + 32, 16, True)
    assert symbols.find("pen") is None
    assert symbols.find("") is None
    assert symbols.find("opening") is None


def test_a_name_that_is_the_end_of_another_is_found() -> None:
    data = bytearray(DATA)
    elf = Elf(DATA, "file")
    strings, table = elf.section(".strtab"), elf.section(".symtab")
    assert strings is not None
    assert table is not None
    # As linkers do: "open" is stored as the end of "fopen" only.
    fopen = bytes(elf.content(strings)).index(b"\0fopen\0") + 1
    struct.pack_into("<I", data, table.offset + 2 * 24, fopen + 1)
    symbols = Elf(bytes(data), "file").symbols()
    for name, offset in (("open", 32), ("fopen", 48)):
        found = symbols.find(name)
        assert found is not None
        assert (found.name, found.address) == (name, CODE_ADDRESS + offset)


def test_an_endless_name_is_cut_and_spoils_no_other() -> None:
    symbols = Elf(executable([("_ZN" + "L" * 1_000_000, 0, 16), ("good", 16, 16)]), "file").symbols()
    names = [symbol.name for symbol in symbols]
    assert [len(name) for name in names] == [1 << 16, 4] and names[0].startswith("_ZNLLL")
    found = symbols.at(CODE_ADDRESS + 20)
    assert found is not None and found.name == "good"


def test_functions_come_in_the_order_of_addresses() -> None:
    functions = Elf(DATA, "file").symbols().functions()
    assert [symbol.name for symbol in functions] == ["main", "open", "fopen", "after"]


@pytest.mark.parametrize(
    ("offset", "expected"),
    [
        pytest.param(0, "main", id="first byte"),
        pytest.param(31, "main", id="last byte"),
        pytest.param(32, "open", id="next function"),
        pytest.param(64, None, id="in the gap"),
        pytest.param(-1, None, id="before all"),
        pytest.param(80, "after", id="without a size"),
        pytest.param(100, "after", id="beyond one without a size"),
    ],
)
def test_an_address_lies_in_a_function(offset: int, expected: str | None) -> None:
    found = Elf(DATA, "file").symbols().at(CODE_ADDRESS + offset)
    assert (found.name if found is not None else None) == expected


def test_a_function_may_enclose_others() -> None:
    data = executable([("outer", 0, 100), ("inner", 20, 10)])
    symbols = Elf(data, "file").symbols()
    names = [found.name if (found := symbols.at(CODE_ADDRESS + at)) else None for at in (10, 25, 50, 99, 100)]
    assert names == ["outer", "inner", "outer", "outer", None]


def test_of_several_names_the_plainest_is_taken() -> None:
    data = executable([("__libc_read", 0, 10), ("read", 0, 10), ("_read", 0, 10)])
    found = Elf(data, "file").symbols().at(CODE_ADDRESS + 4)
    assert found is not None
    assert found.name == "read"


def test_notes_and_build_id_are_read() -> None:
    notes = note(b"other\0", 9, b"12345") + note(b"GNU\0", 3, bytes.fromhex("abcdef0123"))
    elf = Elf(with_segments((4, notes, 4)), "/usr/bin/file")
    assert elf.build_id == "abcdef0123"
    assert elf.debug_paths() == ["/usr/lib/debug/.build-id/ab/cdef0123.debug"]


def test_notes_of_a_section_are_read() -> None:
    content = note(b"stapsdt\0", 3, b"first") + note(b"stapsdt\0", 3, b"second!")
    data = bytearray(DATA)
    elf = Elf(DATA, "file")
    at = struct.unpack_from("<Q", data, 40)[0] + 64  # the header of .text becomes that of the notes
    struct.pack_into("<QQ", data, at + 24, len(data), len(content))
    struct.pack_into("<Q", data, at + 48, 4)
    found = Elf(bytes(data) + content, "file").notes(".text")
    assert found == (Note("stapsdt", 3, b"first"), Note("stapsdt", 3, b"second!"))
    assert elf.notes(".none") == ()


def test_a_note_that_says_it_is_longer_than_its_section_is_refused() -> None:
    broken = struct.pack("<III", 4, 1000, 3) + b"GNU\0"
    with pytest.raises(BadFileError, match="note does not lie inside"):
        _ = Elf(with_segments((4, broken, 4)), "file").build_id


def test_the_interpreter_is_read() -> None:
    assert Elf(with_segments((3, b"/lib64/ld.so\0", 1)), "file").interpreter == "/lib64/ld.so"


def test_the_kinds_of_position_independent_files_are_told_apart() -> None:
    def dynamic(*entries: tuple[int, int], interpreter: bool = True) -> Elf:
        content = b"".join(struct.pack("<QQ", *entry) for entry in (*entries, (0, 0)))
        segments = [(2, content, 8)] + ([(3, b"/lib64/ld.so\0", 1)] if interpreter else [])
        data = bytearray(with_segments(*segments))
        struct.pack_into("<H", data, 16, ElfType.DYN)
        return Elf(bytes(data), "file")

    flags, pie, soname = 0x6FFFFFFB, 0x08000000, 14
    assert dynamic((flags, pie)).is_pie
    assert dynamic((flags, pie), interpreter=False).is_pie
    assert dynamic((5, 0)).is_pie
    assert not dynamic((5, 0), interpreter=False).is_pie
    assert not dynamic((soname, 1)).is_pie


def test_what_the_running_interpreter_is_made_of() -> None:
    lines = Path("/proc/self/maps").read_text().splitlines()
    path = next(line.split()[-1] for line in lines if "/libc.so.6" in line)
    with Path(path).open("rb") as file:
        elf = Elf(mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ), path)
    symbols = elf.symbols()
    found = symbols.find("fopen")
    assert found is not None
    assert found.is_function
    assert elf.address(elf.file_offset(found.address) or 0) == found.address
    inside = symbols.at(found.address + found.size // 2)
    assert inside is not None
    assert inside.address == found.address
    assert not elf.is_pie
    assert elf.type is ElfType.DYN


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        pytest.param(b"", "no ELF", id="empty"),
        pytest.param(b"#!/bin/sh\n" * 10, "no ELF", id="script"),
        pytest.param(DATA[:4] + b"\x01" + DATA[5:], "64-bit", id="32-bit"),
        pytest.param(DATA[:5] + b"\x02" + DATA[6:], "little-endian", id="big-endian"),
        pytest.param(DATA[:16] + b"\xff\xff" + DATA[18:], "type", id="type"),
        pytest.param(DATA[:100], "inside the file", id="cut"),
        pytest.param(DATA[:58] + b"\x01\x00" + DATA[60:], "section headers of 1 bytes", id="section size"),
        pytest.param(DATA[:54] + b"\x01\x00" + DATA[56:], "program headers of 1 bytes", id="segment size"),
    ],
)
def test_what_is_not_elf_is_refused(data: bytes, reason: str) -> None:
    with pytest.raises(BadFileError, match=reason):
        Elf(data, "file")


def exercise(data: bytes) -> None:
    try:
        elf = Elf(data, "fuzzed")
    except BadFileError:
        return
    for question in (
        lambda: [elf.content(section) for section in elf.sections],
        lambda: elf.symbols().functions(),
        lambda: elf.symbols().find("open"),
        lambda: [elf.symbols().at(CODE_ADDRESS + at) for at in range(0, 120, 7)],
        lambda: list(elf.symbols()),
        lambda: elf.build_id,
        lambda: elf.is_pie,
        elf.debug_paths,
        lambda: [elf.notes(section.name) for section in elf.sections],
        lambda: (elf.file_offset(CODE_ADDRESS), elf.address(CODE_OFFSET)),
    ):
        try:
            question()
        except BadFileError as error:
            assert error.path == "fuzzed"


RICH = with_segments((4, note(b"GNU\0", 3, b"12345678"), 4), (3, b"/ld\0", 1), (2, bytes(32), 8))
# The headers and tables are what matters; the code is not read.
PLACES = st.one_of(st.integers(0, HEADER_SIZE + 56), st.integers(CODE_OFFSET + 80, len(RICH) - 1))


@given(st.binary(max_size=300))
def test_random_bytes_never_crash_the_reader(data: bytes) -> None:
    exercise(data)
    exercise(DATA[:HEADER_SIZE] + data)


@settings(max_examples=300)
@given(st.lists(st.tuples(PLACES, st.integers(0, 255)), min_size=1, max_size=12), st.integers(0, len(RICH)))
def test_a_spoilt_file_never_crashes_the_reader(changes: list[tuple[int, int]], end: int) -> None:
    data = bytearray(RICH)
    for at, value in changes:
        data[at] = value
    exercise(bytes(data))
    exercise(bytes(data[:end]))
