"""Instructions as bytes, helpers by number, and the types of programs."""

from __future__ import annotations

import struct
from pathlib import Path

import pytest

from fixture_bpf import parse
from invivo import bpf
from invivo.bpf import helpers
from invivo.bpf.btf import BtfBuilder, identifier
from invivo.bpf.encode import encode
from invivo.bpf.insn import Insn
from invivo.bpf.registers import Allocated
from invivo.bpf.select import SelectedBlock
from invivo.bpf.text import format_program
from invivo.formats.btf import Btf, BtfKind
from invivo.ir import helpers as ir_helpers
from invivo.ir.text import parse_function

# code, dst | src << 4, off, imm: written by hand from instruction-set.rst.
ENCODED = {
    "r1 = r2": (Insn(0xBF, 1, 2), "bf21000000000000"),
    "r3 += -8": (Insn(0x07, 3, immediate=-8), "07030000f8ffffff"),
    "r0 = *(u32 *)(r6 +16)": (Insn(0x61, 0, 6, 16), "6160100000000000"),
    "*(u8 *)(r10 -1) = 5": (Insn(0x72, 10, 0, -1, 5), "720affff05000000"),
    "r2 = lock *(u64 *)(r1 +8) += r2": (Insn(0xDB, 1, 2, 8, 1), "db21080001000000"),
    "r0 = lock *(u64 *)(r1 +0) cmpxchg r2": (Insn(0xDB, 1, 2, 0, 0xF1), "db210000f1000000"),
    "r4 = be32 r4": (Insn(0xDC, 4, immediate=32), "dc04000020000000"),
    "call ringbuf_submit#132": (Insn(0x85, 0, 0, 2, 132), "8500000084000000"),
    "w1 = w1": (Insn(0xBC, 1, 1), "bc11000000000000"),
    "exit": (Insn(0x95), "9500000000000000"),
}


@pytest.mark.parametrize("text", ENCODED)
def test_encoded_is(text: str) -> None:
    insn, wanted = ENCODED[text]
    linked = encode([Allocated("f", [SelectedBlock("start", [insn], ())], 0)])
    assert linked.code.hex() == wanted
    image = bpf.generate(parse("entry f(%0:ctx) {\nstart:\nreturn 0\n}\nprogram f order 0\n")).programs[0]
    image = type(image)(image.name, linked.code, (), (), (), image.plan, 0)
    assert format_program(image).splitlines()[-1].strip() == f"0: {text}"


def test_wide_constants_take_two_slots_and_jumps_count_them() -> None:
    first = SelectedBlock("a", [Insn(0x15, 1, immediate=0, symbol="b"), Insn(0x18, 0, immediate=(5 << 32) | 7)], ("b",))
    second = SelectedBlock("b", [Insn(0x05, symbol="a")], ("a",))
    code = encode([Allocated("f", [first, second], 0)]).code
    assert code.hex(" ", 8) == "1501020000000000 1800000007000000 0000000005000000 0500fcff00000000"


def test_calls_and_callbacks_are_relative() -> None:
    main = SelectedBlock("a", [Insn(0x18, 2, 4, symbol="g"), Insn(0x85, 0, 1, 0, 0, "g"), Insn(0x95)], ())
    called = SelectedBlock("a", [Insn(0x95)], ())
    linked = encode([Allocated("f", [main], 0), Allocated("g", [called], 0)])
    assert linked.starts == (0, 4)
    assert linked.code.hex(" ", 8).split()[:3] == ["1842000003000000", "0000000000000000", "8510000001000000"]


def test_helpers_have_the_kernels_numbers() -> None:
    assert helpers.number("map_lookup_elem") == 1
    assert helpers.number("ringbuf_reserve") == 131
    assert helpers.number("loop") == 181
    assert (helpers.name(181), helpers.name(9999)) == ("loop", "9999")
    assert len(set(helpers.NAMES)) == len(helpers.NAMES) == 210
    for name, number in vars(ir_helpers).items():
        if name.isupper() and not name.startswith("BPF_"):
            assert helpers.NUMBERS[name.lower()] == number


def test_program_types_are_read_back() -> None:
    builder = BtfBuilder()
    ids = [
        builder.function(parse_function(text))
        for text in (
            "entry main(%0:ctx) {\nstart:\nreturn 0\n}",
            "loop t:x/1(%0, %1:stack) {\nstart:\nreturn 0\n}",
            "each body(%0:map, %1:mapvalue, %2:mapvalue, %3:stack) {\nstart:\nreturn 0\n}",
        )
    ]
    btf = Btf(builder.build())
    assert [btf.type(type_id).name for type_id in ids] == ["main", "t_x_1", "body"]
    assert [btf.type(type_id).kind for type_id in ids] == [BtfKind.FUNC] * 3
    counts = [len(btf.type(btf.type(type_id).target).parameters) for type_id in ids]
    assert counts == [1, 2, 4]
    linkages = [struct.unpack_from("<I", builder.build(), 24 + at)[0] & 0xFFFF for at in _starts(builder, ids)]
    assert linkages == [1, 0, 0], "callbacks must be static"


def _starts(builder: BtfBuilder, ids: list[int]) -> list[int]:
    """Return the places of the info words of FUNC types, after the header."""
    data = builder.build()
    length = struct.unpack_from("<I", data, 12)[0]
    found, at = [], 0
    while at < length:
        info = struct.unpack_from("<I", data, 24 + at + 4)[0]
        kind, count = info >> 24, info & 0xFFFF
        if kind == BtfKind.FUNC:
            found.append(at + 4)
        at += 12 + (4 if kind == BtfKind.INT else 8 * count if kind == BtfKind.FUNC_PROTO else 0)
    assert len(found) == len(ids)
    return found


def test_a_function_without_types_is_no_btf() -> None:
    assert BtfBuilder().build() == b""


@pytest.mark.parametrize(("name", "plain"), [("a.b:c", "a_b_c"), ("1st", "_1st"), ("é!", "__")])
def test_names_are_made_identifiers(name: str, plain: str) -> None:
    assert identifier(name) == plain


def test_the_header_agrees_with_our_table() -> None:
    header = Path("/usr/include/linux/bpf.h")
    if not header.exists():
        pytest.skip("the kernel's headers are not installed (linux-libc-dev)")
    names = [
        line.split("FN(")[1].split(")")[0].split(",")[0] for line in header.read_text().splitlines() if "\tFN(" in line
    ]
    assert names[: len(helpers.NAMES)] == list(helpers.NAMES)
