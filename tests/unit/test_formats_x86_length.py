"""Lengths of instructions, one of each form; a whole library against objdump is in tests/kernel."""

from __future__ import annotations

import pytest

from invivo.formats.x86_length import instruction_length, is_boundary


@pytest.mark.parametrize(
    ("code", "length"),
    [
        ("90", 1),  # nop
        ("f30f1efa", 4),  # endbr64
        ("4889e5", 3),  # mov %rsp,%rbp
        ("48b8efcdab9078563412", 10),  # movabs
        ("66b83412", 4),  # mov $0x1234,%ax
        ("48c7c001000000", 7),
        ("66c7000100", 5),  # movw $1,(%rax)
        ("488b042500000000", 8),  # absolute address: SIB without a base
        ("488b05f0ff0000", 7),  # (%rip)
        ("8b44241c", 4),  # SIB and 8 bits
        ("8b8424a0000000", 7),  # SIB and 32 bits
        ("f6c301", 3),  # test $1,%bl
        ("f7d8", 2),  # neg: no immediate
        ("f7c701000000", 6),  # test $1,%edi
        ("c20800", 3),
        ("c8100000", 4),
        ("e800000000", 5),
        ("0f8400000000", 6),
        ("a13412efcdab907856", 9),  # movabs from an address
        ("67a178563412", 6),
        ("660f3a0fc108", 6),  # palignr
        ("c5f877", 3),  # vzeroupper
        ("c4e27d18c0", 5),  # vbroadcastss
        ("c4e37d19c001", 6),  # vextractf128
        ("62f17c48104001", 7),  # vmovups with a compressed displacement
        ("62f37d4819c001", 7),
        ("8fe978e1c0", 5),  # XOP
        ("8f00", 2),  # pop (%rax)
        ("666666662e0f1f840000000000", 13),
    ],
)
def test_length(code: str, length: int) -> None:
    data = bytes.fromhex(code)
    assert instruction_length(data) == length
    assert instruction_length(b"\x90" + data + b"\x90", 1) == length
    assert [instruction_length(data[:cut]) for cut in range(len(data))] == [None] * len(data)


@pytest.mark.parametrize("code", ["06", "0f04", "82c001", "d6", "66" * 15 + "90", ""])
def test_what_is_no_instruction(code: str) -> None:
    assert instruction_length(bytes.fromhex(code)) is None


def test_boundaries() -> None:
    code = bytes.fromhex("554889e5b801000000c3")
    assert [offset for offset in range(12) if is_boundary(code, offset)] == [0, 1, 4, 9, 10]
