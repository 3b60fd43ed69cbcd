"""Needless jumps go."""

from __future__ import annotations

from invivo.bpf.insn import Insn
from invivo.bpf.jumps import straighten
from invivo.bpf.select import SelectedBlock

EXIT = Insn(0x95)


def block(label: str, *insns: Insn) -> SelectedBlock:
    return SelectedBlock(label, list(insns), ())


def jump(label: str) -> Insn:
    return Insn(0x05, symbol=label)


def test_a_jump_over_nothing_goes() -> None:
    found = straighten([block("a", Insn(0xB7), jump("b")), block("b", EXIT)])
    assert [[insn.code for insn in each.insns] for each in found] == [[0xB7], [0x95]]


def test_a_jump_to_a_jump_goes_where_that_one_goes() -> None:
    found = straighten(
        [
            block("a", Insn(0x15, 1, symbol="b")),
            block("e", Insn(0xB7), EXIT),
            block("b", jump("c")),
            block("d", Insn(0xB7, 1), jump("b")),
            block("c", EXIT),
        ]
    )
    assert [each.label for each in found] == ["a", "e", "c"], "what nothing leads to goes too"
    assert found[0].insns[0].symbol == "c"


def test_an_empty_block_is_the_next_one() -> None:
    found = straighten([block("a", Insn(0x15, 1, symbol="b"), jump("c")), block("b"), block("c"), block("d", EXIT)])
    assert [insn.symbol for insn in found[0].insns] == ["d"]


def test_an_endless_loop_stays() -> None:
    found = straighten([block("a", Insn(0xB7)), block("b", jump("b"))])
    assert [each.label for each in found] == ["a", "b"]
    assert found[1].insns[0].symbol == "b"
