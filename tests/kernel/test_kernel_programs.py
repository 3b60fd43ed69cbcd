"""Loading and running programs on the running kernel."""

from __future__ import annotations

import os
import struct

import pytest

from fixture_btf import BtfBuilder
from fixture_kernel import (
    COUNTS,
    EXIT,
    LOOP,
    PSEUDO_FUNC,
    call,
    constant,
    descriptors,
    image,
    insn,
    loaded,
    move,
    opened,
    wide,
)
from invivo.errors import SyscallError, VerifierError
from invivo.image import FunctionInfo, Relocation, RelocationKind
from invivo.ir.layout import MapSpec, MapType
from invivo.kernel.programs import enable_statistics, load_btf, load_program


def test_a_program_is_run_with_arguments() -> None:
    code = insn(0x79, 0, 1) + insn(0x79, 2, 1, offset=8) + insn(0x0F, 0, 2) + EXIT
    with loaded(image(code), {}) as program:
        assert program.run(struct.pack("<QQ", 40, 2)) == 42
        assert program.run(struct.pack("<QQ", 1, 2)) == 3


def test_a_context_shorter_than_what_is_read_is_refused() -> None:
    with loaded(image(insn(0x79, 0, 1, offset=8) + EXIT), {}) as program, pytest.raises(SyscallError) as error:
        program.run(bytes(8))
    assert error.value.what == "run program test"


def test_a_map_is_reached_through_its_relocation() -> None:
    code = wide(1) + insn(0x79, 0, 1) + insn(0x07, 0, value=1) + insn(0x7B, 1, 0) + EXIT
    program_image = image(code, (Relocation(0, RelocationKind.MAP_VALUE, "counts", 16),))
    with opened(COUNTS) as maps, loaded(program_image, maps) as program:
        assert [program.run() for _ in range(3)] == [1, 2, 3]
        assert list(maps["counts"].memory().cast("Q"))[:4] == [0, 0, 3, 0]


def test_a_map_is_handed_to_a_helper_through_its_relocation() -> None:
    key = move(2, 10) + insn(0x07, 2, value=-4) + insn(0x62, 10, offset=-4, value=5)
    code = wide(1) + key + call(1) + insn(0x15, 0, offset=1) + insn(0x79, 0, 0) + EXIT
    program_image = image(code, (Relocation(0, RelocationKind.MAP, "table"),))
    with opened(MapSpec("table", MapType.HASH, 4, 8, 4)) as maps, loaded(program_image, maps) as program:
        assert program.run() == 0
        maps["table"].update(struct.pack("<I", 5), struct.pack("<Q", 77))
        assert program.run() == 77


def test_the_verifier_knows_the_content_of_a_frozen_map() -> None:
    # The branch for another value divides by nothing the verifier would accept: it is never looked at.
    code = wide(1) + insn(0x79, 0, 1) + insn(0x15, 0, offset=1, value=9) + insn(0x79, 0, 5) + EXIT
    program_image = image(code, (Relocation(0, RelocationKind.MAP_VALUE, "constants"),))
    spec = MapSpec("constants", MapType.ARRAY, 4, 8, 1, initial=struct.pack("<Q", 9), frozen=True)
    with opened(spec) as maps:
        with pytest.raises(VerifierError):
            load_program(program_image, maps, -1, "GPL")
        maps["constants"].freeze()
        with loaded(program_image, maps) as program:
            assert program.run() == 9


@pytest.mark.parametrize(
    ("code", "instruction", "text"),
    [
        pytest.param(constant(0, 0) + move(0, 5) + EXIT, 1, "R5 !read_ok", id="uninitialised"),
        pytest.param(constant(0, 0) + insn(0x79, 0, 10, offset=8) + EXIT, 1, "stack", id="beyond the stack"),
        pytest.param(constant(0, 0) + EXIT + constant(0, 1) + EXIT, 2, "unreachable insn 2", id="unreachable"),
        pytest.param(call(1 << 20) + EXIT, 0, "invalid func", id="unknown helper"),
    ],
)
def test_a_refusal_says_where_and_why(code: bytes, instruction: int, text: str) -> None:
    with pytest.raises(VerifierError) as error:
        load_program(image(code, name="refused"), {}, -1, "GPL")
    assert error.value.instruction == instruction
    assert text in error.value.log
    assert text in str(error.value)
    assert error.value.program == "refused"
    assert not error.value.too_large


def test_a_log_longer_than_the_first_buffer_is_whole() -> None:
    code = b"".join(constant(0, number) for number in range(8000)) + move(0, 5) + EXIT
    with pytest.raises(VerifierError) as error:
        load_program(image(code), {}, -1, "GPL")
    assert error.value.instruction == 8000
    assert "\n0: (b7) r0 = 0" in error.value.log
    assert "R5 !read_ok" in error.value.log


def test_too_many_instructions_is_too_large() -> None:
    code = constant(0, 0) * 1_000_001 + EXIT
    with pytest.raises(VerifierError) as error:
        load_program(image(code), {}, -1, "GPL")
    assert error.value.too_large


def test_too_many_states_is_too_large() -> None:
    # Each of 11 bits of an argument makes two ways to the same 600 instructions: all 2,048 have to be followed,
    # for r0 is another number on each, and what it is compared with needs it to the bit.
    bits = [insn(0x45, 6, offset=1, value=1 << bit) + insn(0x47, 0, value=1 << bit) for bit in range(11)]
    code = insn(0x79, 6, 1) + constant(0, 0) + b"".join(bits) + constant(2, 0) * 600
    code += insn(0x15, 0, value=5000) + EXIT
    with pytest.raises(VerifierError) as error:
        load_program(image(code), {}, -1, "GPL")
    assert error.value.too_large
    assert "BPF program is too large" in error.value.log
    assert len(error.value.log) < 10_000


def test_a_log_is_kept_if_it_is_asked_for() -> None:
    program = load_program(image(constant(0, 3) + EXIT), {}, -1, "GPL", log_level=2)
    try:
        assert "0: (b7) r0 = 3" in program.log
        assert program.run() == 3
    finally:
        program.close()


def test_a_callback_needs_the_types_of_its_function() -> None:
    types = BtfBuilder()
    integer = types.integer("int", 4, signed=True)
    pointer = types.pointer(0)
    long = types.integer("long", 8, signed=True)
    entry = types.function("entry", types.prototype(integer, [("ctx", pointer)]))
    callback = types.function("body", types.prototype(long, [("index", long), ("state", pointer)]))
    # bpf_loop(5, body, &sum, 0): the sum of 0 to 4.
    first = b"".join(
        [
            insn(0x7A, 10, offset=-8),
            constant(1, 5),
            wide(2, PSEUDO_FUNC, 7),
            move(3, 10),
            insn(0x07, 3, value=-8),
            constant(4, 0),
            call(LOOP),
            insn(0x79, 0, 10, offset=-8),
            EXIT,
        ]
    )
    second = b"".join([insn(0x79, 0, 2), insn(0x0F, 0, 1), insn(0x7B, 2, 0), constant(0, 0), EXIT])
    at = len(first) // 8
    assert at == 2 + 1 + 1 + 6
    functions = (FunctionInfo(0, entry, "entry"), FunctionInfo(at, callback, "body"))
    btf_fd = load_btf(types.data())
    try:
        with loaded(image(first + second, functions=functions), {}, btf_fd) as program:
            assert program.run() == 10
    finally:
        os.close(btf_fd)


def test_bad_btf_is_refused_with_a_log() -> None:
    types = BtfBuilder()
    types.pointer(99)
    with pytest.raises(VerifierError) as error:
        load_btf(types.data())
    assert "99" in error.value.log


def test_runs_are_counted_while_statistics_are_enabled() -> None:
    with loaded(image(constant(0, 0) + EXIT), {}) as program:
        statistics = enable_statistics()
        try:
            for _ in range(5):
                program.run()
        finally:
            os.close(statistics)
        assert program.run_count() == 5
        assert program.run_time_ns() > 0
        assert program.statistics().verified_instructions == 2


def test_nothing_stays_open() -> None:
    before = descriptors()
    with opened(COUNTS) as maps:
        with loaded(image(constant(0, 0) + EXIT), maps):
            assert len(descriptors()) == len(before) + 2
        with pytest.raises(VerifierError):
            load_program(image(EXIT), maps, -1, "GPL")
    assert descriptors() == before
