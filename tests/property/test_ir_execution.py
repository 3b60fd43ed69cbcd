"""A program means the same to the interpreter, after every pass, and as eBPF in the kernel."""

from __future__ import annotations

import random

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from fixture_bpf import HELPER_NAMES, LAYOUT, PLAN, Loaded
from invivo import bpf, passes
from invivo.bpf.helpers import NUMBERS
from invivo.ir.program import Program
from invivo.ir.text import format_function, format_program, parse_program
from invivo.ir.verify import verify_function, verify_program
from property.ir_interpreter import Interpreter
from property.ir_programs import ARGUMENTS, INTERESTING, random_program

SEEDS = st.integers(0, 1 << 32)
SIZES = st.integers(1, 60)
relaxed = settings(deadline=None, suppress_health_check=list(HealthCheck))


def arguments_of(seed: int) -> tuple[int, ...]:
    choose = random.Random(seed)
    return tuple(choose.choice((*INTERESTING, choose.getrandbits(64))) for _ in range(ARGUMENTS))


def interpret(program: Program, arguments: tuple[int, ...]) -> tuple[int, bytes]:
    cells = bytearray(256)
    result = Interpreter(program.functions[0], arguments, {"cells": cells}).run()
    return result & 0xFFFFFFFF, bytes(cells)


def execute(program: Program, arguments: tuple[int, ...]) -> tuple[int, bytes]:
    programs = Loaded(bpf.generate(program))
    try:
        result = programs.run("main", *arguments)
        cells = programs.maps["cells"].lookup(bytes(4))
    finally:
        programs.close()
    assert cells is not None
    return result, cells


@given(SEEDS, SIZES)
@settings(relaxed, max_examples=120)
def test_text_is_read_back_as_it_was_written(seed: int, size: int) -> None:
    program = random_program(seed, size)
    text = format_program(program, HELPER_NAMES)
    again = parse_program(text, PLAN, LAYOUT, NUMBERS)
    verify_program(again)
    assert format_program(again, HELPER_NAMES) == text
    arguments = arguments_of(seed)
    assert interpret(again, arguments) == interpret(program, arguments)


@given(SEEDS, SIZES)
@settings(relaxed, max_examples=200)
def test_no_pass_changes_what_a_program_computes(seed: int, size: int) -> None:
    program = random_program(seed, size)
    arguments = arguments_of(seed)
    expected = interpret(program, arguments)
    function = program.functions[0]
    for apply in passes.PIPELINE:
        changed = apply(function)
        verify_function(changed)
        found = interpret(Program((changed,), program.entries, program.maps, program.layout), arguments)
        assert found == expected, f"{apply.__name__} changed\n{format_function(function)}to\n{format_function(changed)}"
        function = changed


@given(SEEDS, SIZES)
@settings(relaxed, max_examples=150)
def test_the_kernel_computes_what_the_interpreter_does(seed: int, size: int) -> None:
    program = random_program(seed, size)
    arguments = arguments_of(seed)
    expected = interpret(program, arguments)
    assert execute(program, arguments) == expected, "without passes"
    assert execute(passes.run(program), arguments) == expected, "with passes"


@given(SEEDS, SIZES)
@settings(relaxed, max_examples=30)
def test_equal_ir_gives_equal_bytes(seed: int, size: int) -> None:
    first, second = random_program(seed, size), random_program(seed, size)
    assert bpf.generate(passes.run(first)).programs[0].code == bpf.generate(passes.run(second)).programs[0].code
