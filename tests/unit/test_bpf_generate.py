"""What code comes out: small functions and the instructions expected, to the last one."""

from __future__ import annotations

import pytest

from fixture_bpf import LAYOUT, PLAN, parse
from invivo import bpf, passes
from invivo.bpf.helpers import NUMBERS
from invivo.bpf.limits import JumpLimitError, LimitError, StackLimitError
from invivo.bpf.text import format_image
from invivo.diagnostics import SourceFile
from invivo.image import Relocation, RelocationKind
from invivo.ir.text import parse_program

CELLS = "map cells array key 4 value 4096 entries 1 flags 1024\n"
MAIN = "program main order 0\n"


def code(body: str, *, optimise: bool = True, more: str = "") -> list[str]:
    """Return the instructions of a function, without their numbers."""
    program = parse(f"{CELLS}{more}entry main(%0:ctx) {{\nstart:\n{body}\n}}\n{MAIN}")
    image = bpf.generate(passes.run(program) if optimise else program)
    lines = format_image(image).splitlines()[1:]
    return [line.partition(": ")[2] for line in lines if line[:5].strip().isdigit()]


def expect(body: str, wanted: str) -> None:
    assert code(body) == [line.strip() for line in wanted.strip().splitlines()]


def test_a_constant_is_returned() -> None:
    expect("return 0", "r0 = 0\nexit")


@pytest.mark.parametrize(
    ("constant", "text"),
    [
        (0, "r0 = 0"),
        (-1, "r0 = -1"),
        (0x7FFFFFFF, "r0 = 2147483647"),
        (0x80000000, "w0 = -2147483648"),
        (0xFFFFFFFF, "w0 = -1"),
        (0x100000000, "r0 = 0x100000000 ll"),
        (-0x80000001, "r0 = 0xffffffff7fffffff ll"),
    ],
)
def test_a_constant_takes_the_shortest_form(constant: int, text: str) -> None:
    expect(f"return {constant}", f"{text}\nexit")


def test_an_offset_is_part_of_the_access() -> None:
    expect(
        "%1:mapvalue = global cells+16\n%2:mapvalue = offset %1, 8\n%3 = load4 %2+4\nstore8 %2+8, %3\nreturn 0",
        """r4 = map cells value +28
        r5 = *(u32 *)(r4 +0)
        *(u64 *)(r4 +4) = r5
        r0 = 0
        exit""",
    )


def test_a_constant_is_stored_at_once() -> None:
    expect(
        "%1:stack = slot 16\nstore8 %1+8, -5\nstore4 %1+0, 4294967295\n%2 = load8 %1+0\nreturn %2",
        """*(u64 *)(r10 -8) = -5
        *(u32 *)(r10 -16) = -1
        r0 = *(u64 *)(r10 -16)
        exit""",
    )


def test_arguments_land_where_the_call_wants_them() -> None:
    expect(
        "%1:stack = slot 16\n%2 = call get_current_comm(%1, 16)\n%3 = load8 %1+0\nreturn %3",
        """r1 = r10
        r1 += -16
        r2 = 16
        call get_current_comm#16
        r0 = *(u64 *)(r10 -16)
        exit""",
    )


def test_what_lives_across_a_call_is_in_a_preserved_register() -> None:
    expect(
        "%1 = load8 %0+0\n%2 = call ktime_get_ns()\n%3 = sub %2, %1\nreturn %3",
        """r6 = *(u64 *)(r1 +0)
        call ktime_get_ns#5
        r0 -= r6
        exit""",
    )


def test_a_call_comes_with_a_call_in_between_without_moves() -> None:
    expect(
        "%1 = call ktime_get_ns()\n%2 = call ktime_get_ns()\n%3 = sub %2, %1\nreturn %3",
        """call ktime_get_ns#5
        r6 = r0
        call ktime_get_ns#5
        r0 -= r6
        exit""",
    )


def test_a_branch_falls_through_where_it_can() -> None:
    expect(
        "%1 = load8 %0+0\nif ult %1, 5 then small else big\nbig:\nreturn 1\nsmall:\nreturn %1",
        """r0 = *(u64 *)(r1 +0)
        if r0 >= 5 goto 3
        exit
        r0 = 1
        exit""",
    )


def test_a_comparison_is_a_number() -> None:
    expect(
        "%1 = load8 %0+0\n%2 = cmp slt %1, -3\nreturn %2",
        """r5 = *(u64 *)(r1 +0)
        r0 = 1
        if r5 s< -3 goto 4
        r0 = 0
        exit""",
    )


def test_a_bound_is_a_mask_or_a_comparison() -> None:
    body = "%1 = load8 %0+0\n%2 = bounded %1, {}\n%3:mapvalue = global cells+0\n%4:mapvalue = offset %3, %2\n" \
           "store1 %4+0, 1\nreturn 0"  # fmt: skip
    assert code(body.format(8))[1] == "r4 &= 7"
    assert code(body.format(7))[1:3] == ["if r5 < 7 goto 3", "r5 = 0"]


def test_sign_extension_needs_no_new_instructions() -> None:
    """Linux 6.1 has no sign-extending loads and moves."""
    expect(
        "%1 = load2s %0+8\nreturn %1",
        """r0 = *(u16 *)(r1 +8)
        r0 <<= 48
        r0 s>>= 48
        exit""",
    )


def test_atomics_fetch_only_what_is_wanted() -> None:
    expect(
        "%1:mapvalue = global cells+0\natomic_add8 %1+8, 1\n%2 = atomic_or4 %1+16, 3\n"
        "%3 = cmpxchg %1+24, %2, 5\nreturn %3",
        """r4 = map cells value +8
        r5 = 1
        lock *(u64 *)(r4 +0) += r5
        r0 = 3
        r0 = lock *(u32 *)(r4 +8) |= r0
        r5 = 5
        r0 = lock *(u64 *)(r4 +16) cmpxchg r5
        exit""",
    )


def test_memory_is_zeroed_in_the_widest_pieces() -> None:
    body = "%1:mapvalue = global cells+0\nzero %1+0, {}, align {}\nreturn 0"
    assert [line.split()[0] for line in code(body.format(15, 8))[1:-2]] == ["*(u64", "*(u32", "*(u16", "*(u8"]
    assert [line.split()[0] for line in code(body.format(6, 2))[1:-2]] == ["*(u16"] * 3
    assert "call probe_read_kernel#113" in code(body.format(513, 1))


def test_division_by_a_constant_zero_never_reaches_the_verifier() -> None:
    for op, result in (("div", "r0 = 0"), ("mod", "r0 = *(u64 *)(r1 +0)")):
        lines = code(f"%1 = load8 %0+0\n%2 = {op} %1, 0\nreturn %2", optimise=False)
        assert lines[-1] == "exit"
        assert not any("/= 0" in line or "%= 0" in line for line in lines)
        assert result in code(f"%1 = load8 %0+0\n%2 = {op} %1, 0\nreturn %2")


def test_unreachable_blocks_and_unused_callbacks_are_left_out() -> None:
    callback = "loop body(%0, %1:stack) {\nstart:\nreturn 0\n}\n"
    lines = code("%1:function = function body\nreturn 0\nlost:\njump lost", optimise=False, more=callback)
    assert lines == ["r0 = 0", "exit"]


def test_maps_and_callbacks_are_relocated() -> None:
    text = (
        f"{CELLS}loop body(%0, %1:stack) {{\nstart:\n%2:mapvalue = global cells+40\natomic_add8 %2+0, 1\nreturn 0\n}}\n"
        "entry main(%0:ctx) {\nstart:\n%1:map = map cells\n%2:stack = slot 8\nstore8 %2+0, 0\n"
        "%3:mapvalue? = call map_lookup_elem(%1, %2)\n%4:function = function body\n"
        "call loop(3, %4, %2, 0)\nreturn 0\n}\n"
    )
    image = bpf.generate(passes.run(parse(text + MAIN)))
    (program,) = image.programs
    assert [info.name for info in program.functions] == ["main", "body"]
    assert [info.type_id for info in program.functions] == sorted({info.type_id for info in program.functions})
    start = program.functions[1].instruction
    assert program.relocations == (Relocation(start, RelocationKind.MAP_VALUE, "cells", 40),), (
        "a lookup whose result is unused is gone, and with it the map's address"
    )
    assert image.btf[:2] == b"\x9f\xeb"
    assert b"\0body\0" in image.btf


def test_a_program_without_callbacks_needs_no_btf() -> None:
    image = bpf.generate(parse(f"entry main(%0:ctx) {{\nstart:\nreturn 0\n}}\n{MAIN}"))
    assert image.btf == b""
    assert image.programs[0].functions == ()


def test_programs_have_names_that_the_kernel_takes() -> None:
    image = bpf.generate(parse("entry tracepoint:sched:switch(%0:ctx) {\nstart:\nreturn 0\n}\n"
                               "program tracepoint:sched:switch order 3"))  # fmt: skip
    assert (image.programs[0].name, image.programs[0].order) == ("tracepoint_sche", 3)


def test_each_instruction_knows_its_place_in_the_source() -> None:
    source = SourceFile("script.bt", "BEGIN { @ = 1; exit(); }")
    text = (
        f"{CELLS}entry main(%0:ctx) {{\nstart:\n%1:mapvalue = global cells+0\nstore8 %1+0, 1 @8-13\n"
        f"%2 = call ktime_get_ns() @15-21\nreturn %2\n}}\n{MAIN}"
    )
    program = bpf.generate(parse_program(text, PLAN, LAYOUT, NUMBERS, source)).programs[0]
    assert [(line.instruction, line.span.text if line.span else None) for line in program.lines] == [
        (0, "@ = 1"),
        (3, "exit()"),
    ]
    assert "  ; script.bt:1:9: @ = 1" in format_image(bpf.generate(parse_program(text, PLAN, LAYOUT, NUMBERS, source)))


def test_more_values_than_registers_go_to_the_stack() -> None:
    count = 30
    loads = "\n".join(f"%{n} = load8 %0+{8 * n}" for n in range(1, count + 1))
    sums = "\n".join(f"%{100 + n} = add %{99 + n if n > 1 else count}, %{n}" for n in range(1, count))
    lines = code(f"{loads}\n{sums}\nreturn %{99 + count}")
    stores = [line for line in lines if line.startswith("*(u64 *)(r10")]
    assert 15 <= len(stores) <= 25
    assert len(lines) <= 2 * count + 2 * len(stores) + 4


def test_constants_are_made_again_and_not_spilled() -> None:
    loads = "\n".join(f"%{n} = load8 %0+{8 * n}" for n in range(1, 9))
    lines = code(
        f"%50 = load8 %0+0\n{loads}\n%60 = xor %50, 1311768467463790320\n%61 = call ktime_get_ns()\n"
        + "\n".join(f"%{70 + n} = add %{69 + n if n > 1 else 60}, %{n}" for n in range(1, 9))
        + "\n%90 = xor %78, 1311768467463790320\nreturn %90"
    )
    assert sum("0x123456789abcdef0" in line for line in lines) == 2


def slots(size: int) -> str:
    return f"%1:stack = slot {size}\nstore8 %1+0, 1\n%2 = load8 %1+0\nreturn %2"


def test_frames_add_up_over_callbacks() -> None:
    text = (
        "loop body(%0, %1:stack) {{\nstart:\n%2:stack = slot {}\nstore8 %2+0, 1\n%3 = load8 %2+0\nreturn 0\n}}\n"
        "entry main(%0:ctx) {{\nstart:\n%1:stack = slot {}\nstore8 %1+0, 0\n%2:function = function body\n"
        "call loop(3, %2, %1, 0)\nreturn 0\n}}\n" + MAIN
    )
    bpf.generate(parse(text.format(256, 256)))
    with pytest.raises(StackLimitError) as error:
        bpf.generate(parse(text.format(264, 256)))
    assert (error.value.function, error.value.size_bytes) == ("main", 288 + 256)
    assert str(error.value) == "main: needs 544 bytes of stack, and there are 512"


def test_a_program_that_is_too_long_for_its_jumps_is_refused() -> None:
    many = "\n".join(f"atomic_add8 %2+{8 * (n % 100)}, %1" for n in range(33_000))
    with pytest.raises(JumpLimitError) as error:
        code(
            f"%1 = load8 %0+0\n%2:mapvalue = global cells+0\n"
            f"if eq %1, 0 then a else b\na:\n{many}\njump b\nb:\nreturn 0",
            optimise=False,
        )
    assert isinstance(error.value, LimitError)


def test_a_function_that_calls_itself_is_a_bug() -> None:
    text = "local f(%0) {\nstart:\n%1 = run f(%0)\nreturn %1\n}\n" \
           "entry main(%0:ctx) {\nstart:\n%1 = run f(1)\nreturn 0\n}\n"  # fmt: skip
    with pytest.raises(AssertionError, match="f calls itself"):
        bpf.generate(parse(text + MAIN))
