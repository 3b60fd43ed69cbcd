"""Arguments of marked places, as compilers write them."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from invivo.formats.usdt import (
    ConstantOperand,
    MemoryOperand,
    Operand,
    RegisterOperand,
    UnknownOperand,
    UsdtProbe,
)


@pytest.mark.parametrize(
    ("text", "size", "signed", "operand"),
    [
        ("8@%rax", 8, False, RegisterOperand("rax")),
        ("-4@%r12d", 4, True, RegisterOperand("r12d")),
        ("%edi", 8, False, RegisterOperand("edi")),
        ("4@$5", 4, False, ConstantOperand(5)),
        ("-1@$-0x7f", 1, True, ConstantOperand(-127)),
        ("8@(%rbx)", 8, False, MemoryOperand("", 0, "rbx", "", 1)),
        ("8@-80(%rbx)", 8, False, MemoryOperand("", -80, "rbx", "", 1)),
        ("2@8(%rax,%rcx)", 2, False, MemoryOperand("", 8, "rax", "rcx", 1)),
        ("1@0x10(%rax,%rcx,8)", 1, False, MemoryOperand("", 16, "rax", "rcx", 8)),
        ("8@(,%rcx,4)", 8, False, MemoryOperand("", 0, "", "rcx", 4)),
        ("8@counter(%rip)", 8, False, MemoryOperand("counter", 0, "rip", "", 1)),
        ("8@table+12(%rip)", 8, False, MemoryOperand("table", 12, "rip", "", 1)),
        ("8@global.3-4(%rip)", 8, False, MemoryOperand("global.3", -4, "rip", "", 1)),
        ("8f@%xmm0", 8, False, UnknownOperand()),
        ("8@%fs:16", 8, False, UnknownOperand()),
        ("8@(%rax", 8, False, UnknownOperand()),
    ],
)
def test_an_argument(text: str, size: int, signed: bool, operand: Operand) -> None:
    (argument,) = UsdtProbe("provider", "name", 0, 0, text).parse()
    assert (argument.size, argument.signed, argument.operand, argument.text) == (size, signed, operand, text)


def test_no_arguments() -> None:
    assert UsdtProbe("provider", "name", 0, 0, "").parse() == ()


@given(st.text("-@%$()+,0123456789abcdefrxip. ", max_size=30))
def test_no_text_is_too_much(text: str) -> None:
    assert len(UsdtProbe("provider", "name", 0, 0, text).parse()) == len(text.split())
