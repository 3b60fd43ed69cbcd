"""Tables for unwinding: what call frame instructions say, one function after another and thousands at once."""

from __future__ import annotations

import random
import struct
from pathlib import Path

import pytest

from invivo.errors import BadFileError
from invivo.formats.elf import Elf
from invivo.formats.unwinding import eh_frame, eh_frame_bulk
from invivo.formats.unwinding.eh_frame import FrameSection, scan
from invivo.formats.unwinding.reading import read_unwind_table
from invivo.formats.unwinding.rule import Rule, RuleKind, pack, unpack
from invivo.formats.unwinding.table import UnwindTable, table_of

BASE = 0x400000
CIE = b"\x01zR\0\x01\x78\x10\x01\x1b" + b"\x0c\x07\x08\x90\x01"  # CFA = rsp + 8, return address at CFA - 8
SIGNAL_CIE = b"\x01zRS\0\x01\x78\x10\x01\x1b"


def entry(content: bytes) -> bytes:
    content += bytes(-len(content) % 4)
    return struct.pack("<I", len(content)) + content


def section(*functions: tuple[int, int, bytes], cie: bytes = CIE) -> FrameSection:
    """A section at 0x1000 with one CIE, and functions: address, size, instructions."""
    data = bytearray(entry(bytes(4) + cie))
    for address, size, instructions in functions:
        at = len(data) + 8
        fields = struct.pack("<IiI", at - 4, address - (0x1000 + at), size)
        data += entry(fields + b"\0" + instructions)
    return FrameSection(memoryview(bytes(data + bytes(4))), 0x1000, "made")


def table(made: FrameSection, entry_point: int = 0) -> UnwindTable:
    cies, functions = scan(made)
    found = table_of("made", eh_frame.rows_of(made, cies, functions), entry_point)
    assert found is not None
    return found


def bulk(made: FrameSection, entry_point: int = 0) -> UnwindTable:
    cies, functions = scan(made)
    found = eh_frame_bulk.table(made, cies, functions, entry_point)
    assert found is not None
    return found


def rows(found: UnwindTable) -> list[tuple[int, Rule]]:
    words = [unpack(found.words[index]) for index in found.indexes]
    return [(found.base + start, word) for start, word in zip(found.starts, words, strict=True)]


def of(instructions: bytes, cie: bytes = CIE) -> Rule:
    """The rule that holds after some instructions."""
    return unpack(table(section((BASE, 64, instructions), cie=cie)).rule(BASE + 63))


def rsp(offset: int, rbp: int = 0, rbx: int = 0) -> Rule:
    return Rule(RuleKind.REGISTER, 7, offset, rbp, rbx)


def test_prologue_and_epilogue() -> None:
    # push rbp; push rbx; sub rsp, 24; ...; add, pop, pop, ret
    instructions = b"\x41\x0e\x10\x86\x02\x41\x0e\x18\x83\x03\x44\x0e\x30\x02\x20\x0e\x18\x41\x0e\x10\x41\x0e\x08"
    assert rows(table(section((BASE, 0x40, instructions)))) == [
        (BASE, rsp(8)),
        (BASE + 1, rsp(16, rbp=-16)),
        (BASE + 2, rsp(24, rbp=-16, rbx=-24)),
        (BASE + 6, rsp(48, rbp=-16, rbx=-24)),
        (BASE + 0x26, rsp(24, rbp=-16, rbx=-24)),
        (BASE + 0x27, rsp(16, rbp=-16, rbx=-24)),
        (BASE + 0x28, rsp(8, rbp=-16, rbx=-24)),
        (BASE + 0x40, Rule(RuleKind.NONE)),
    ]


@pytest.mark.parametrize(
    ("instructions", "rule"),
    [
        (b"\x0c\x06\x10", Rule(RuleKind.REGISTER, 6, 16)),  # def_cfa
        (b"\x0d\x06", Rule(RuleKind.REGISTER, 6, 8)),
        (b"\x0e\x80\x80\x04", rsp(65536)),
        (b"\x12\x06\x7e", Rule(RuleKind.REGISTER, 6, 16)),  # def_cfa_sf
        (b"\x13\x7e", rsp(16)),
        (b"\x05\x06\x02", rsp(8, rbp=-16)),  # offset_extended
        (b"\x11\x03\x03", rsp(8, rbx=-24)),
        (b"\x2f\x06\x02", rsp(8, rbp=16)),
        (b"\x86\x02\xc6", rsp(8)),  # offset, restore
        (b"\x86\x02\x06\x06", rsp(8)),
        (b"\x86\x02\x08\x06", rsp(8)),  # same_value
        (b"\x0a\x0e\x20\x86\x02\x0b", rsp(8)),  # remember, restore
        (b"\x2e\x10\x8f\x03\x0e\x10", rsp(16)),  # GNU_args_size; r15
        (b"\x0f\x03\x76\x78\x06", Rule(RuleKind.DEREFERENCED, 6, -8)),  # a stack that is aligned anew
        (b"\x0f\x02\x77\x10", rsp(16)),
        (b"\x10\x06\x02\x76\x00", Rule(RuleKind.REGISTER, 7, 8, rbp_by_rbp=True)),
        (b"\x10\x03\x02\x76\x70", Rule(RuleKind.REGISTER, 7, 8, rbx=-16, rbx_by_rbp=True)),
        (b"\x0f\x0b\x77\x08\x80\x00\x3f\x1a\x3b\x2a\x33\x24\x22", Rule(RuleKind.PLT, 7, 11)),
        (b"\x07\x10", Rule(RuleKind.END)),  # no return address
        (b"\x09\x10\x05\x0e\x00", Rule(RuleKind.IN_REGISTER, 5)),  # vfork() pops its return address
        (b"\x09\x10\x05\x0d\x06", Rule(RuleKind.UNSUPPORTED)),  # the same, and the CFA is not by rsp
        (b"\x09\x06\x05", Rule(RuleKind.UNSUPPORTED)),  # another register's value in a register
        (b"\x09\x10\x11", Rule(RuleKind.UNSUPPORTED)),
        (b"\x16\x06\x02\x77\x00", Rule(RuleKind.UNSUPPORTED)),
        (b"\x0f\x01\x96", Rule(RuleKind.UNSUPPORTED)),
        (b"\x0b", Rule(RuleKind.UNSUPPORTED)),  # nothing remembered
        (b"\x3f", Rule(RuleKind.UNSUPPORTED)),  # no such instruction
        (b"\x0e\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff", Rule(RuleKind.UNSUPPORTED)),
        (b"\x0e\x80\x80\x80\x80\x01", Rule(RuleKind.UNSUPPORTED)),  # 256 MiB of frame
        (b"\x03\xff\xff", Rule(RuleKind.UNSUPPORTED)),  # beyond the function
    ],
)
def test_instructions(instructions: bytes, rule: Rule) -> None:
    assert of(instructions) == rule


def test_signal_frame() -> None:
    assert of(b"\x0f\x04\x77\xa0\x01\x06\x10\x10\x03\x77\xa8\x01", SIGNAL_CIE) == Rule(RuleKind.SIGNAL)
    assert of(b"\x0c\x07\x08", SIGNAL_CIE) == Rule(RuleKind.UNSUPPORTED)


def test_code_between_functions() -> None:
    """Padding belongs to the function before it, larger gaps are not described."""
    found = table(section((BASE, 10, b"\x0e\x10"), (BASE + 16, 10, b""), (BASE + 0x100, 8, b"\x0e\x10")))
    assert [address - BASE for address, _ in rows(found)] == [0, 16, 26, 0x100, 0x108]
    assert found.rule(BASE + 30) == 0 == found.rule(BASE - 1) == found.rule(BASE + 0x109)


def test_entry_point_without_information() -> None:
    made = section((BASE, 16, b""), (BASE + 0x100, 16, b""))
    for read in (table, bulk):
        found = read(made, BASE + 0x80)
        assert unpack(found.rule(BASE + 0x80 + 20)) == Rule(RuleKind.END)
        assert not found.rule(BASE + 0x7F)
        assert not found.rule(BASE + 0xC0)
        assert unpack(read(made, BASE + 0xF0).rule(BASE + 0x100)) == rsp(8)
        assert unpack(read(made, BASE + 4).rule(BASE + 5)) == rsp(8)  # it has information of its own


def test_not_inside_the_section() -> None:
    made = section((BASE, 16, b""))
    cut = FrameSection(made.data[: len(made.data) - 8], 0x1000, "cut")
    with pytest.raises(BadFileError, match=r"does not lie inside"):
        scan(cut)


def test_too_far_apart() -> None:
    far = section((0, 16, b""), (0x7FFF0000, 16, b""), (-0x7FFF0000, 16, b""))
    with pytest.raises(BadFileError, match="4 GiB"):
        table(far)


@pytest.mark.parametrize("rule", [rsp(8), rsp(1 << 22, rbp=-16384, rbx=16376), Rule(RuleKind.DEREFERENCED, 15, -8)])
def test_words(rule: Rule) -> None:
    assert unpack(pack(rule)) == rule


_PIECES = (
    b"\x41", b"\x42", b"\x02\x03", b"\x03\x01\x00", b"\x04\x02\0\0\0", b"\x0e\x10", b"\x0e\x90\x01",
    b"\x0e\xf0\xff\x03", b"\x86\x02", b"\x83\x03", b"\x8c\x04", b"\xc6", b"\xc3", b"\x0a", b"\x0b",
    b"\x0c\x06\x10", b"\x0d\x06", b"\x0d\x07", b"\x2e\x10", b"\x00", b"\x90\x01", b"\x90\x02", b"\x07\x10",
    b"\x0f\x03\x76\x78\x06", b"\x10\x06\x02\x76\x00", b"\x13\x7e",
)  # fmt: skip


@pytest.mark.parametrize("seed", range(20))
def test_thousands_at_once_are_as_one_by_one(seed: int) -> None:
    random_ = random.Random(seed)
    functions: list[tuple[int, int, bytes]] = []
    for number in range(300):
        instructions = b"".join(random_.choices(_PIECES, k=random_.randrange(12)))
        if random_.random() < 0.1:
            instructions += random_.randbytes(random_.randrange(6))
        size = random_.choice((1, 20, 32, 60))
        functions.append((BASE + number * 80 + random_.randrange(16), size, instructions))
    made = section(*functions)
    assert rows(bulk(made)) == rows(table(made))


def test_the_c_library() -> None:
    """Nearly all of a real library's code is described, and both ways agree about it."""
    path = next(line.split()[-1] for line in Path("/proc/self/maps").read_text().splitlines() if "/libc.so" in line)
    elf = Elf(Path(path).read_bytes(), path)
    found = read_unwind_table(elf)
    assert found is not None
    kinds = [unpack(found.words[index]).kind for index in found.indexes]
    assert kinds.count(RuleKind.REGISTER) > 0.97 * len(kinds) > 10_000
    assert kinds.count(RuleKind.UNSUPPORTED) < 0.001 * len(kinds)
    assert {RuleKind.END, RuleKind.SIGNAL, RuleKind.PLT} <= set(kinds)
    header = elf.section(".eh_frame")
    assert header is not None
    made = FrameSection(elf.content(header), header.address, path)
    assert rows(table(made, elf.entry)) == rows(found)
