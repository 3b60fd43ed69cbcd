"""Generated programs compile, load, and do what the reference interpreter says; and the comparison sees faults."""

from __future__ import annotations

import importlib
import random
import re
from collections.abc import Callable, Iterator

import pytest

from invivo.bpf import insn as bpf
from invivo.bpf.insn import Insn
from invivo.bpf.registers import Allocated, allocate
from invivo.bpf.select import Selected, SelectedBlock, select
from invivo.diagnostics import CompileError
from invivo.ir.ops import BinaryOp, Function
from invivo.probes.machine import Machine
from invivo.record import replace
from property.language_generator import generate
from property.language_runs import PARAMETERS, on_one_cpu, run_program, surroundings, typed
from property.minimise import minimise
from property.reference_calls import Surroundings

_PROGRAMS = 150
_AT_ONCE = 15
_MUTANTS = 300
_MOST_TRIED = 100  # programs until a seeded fault must have been seen

generation = importlib.import_module("invivo.bpf.generate")  # the package exports the function of this name


@pytest.fixture(scope="module")
def machine() -> Iterator[Machine]:
    with Machine() as machine, on_one_cpu():
        yield machine


@pytest.fixture(scope="module")
def around() -> Surroundings:
    return surroundings()


@pytest.mark.requires("bpf")
@pytest.mark.parametrize("first", range(0, _PROGRAMS, _AT_ONCE))
def test_programs_do_what_the_reference_interpreter_says(first: int, machine: Machine, around: Surroundings) -> None:
    results = {seed: run_program(generate(seed), machine, around) for seed in range(first, first + _AT_ONCE)}
    assert {seed: result for seed, result in results.items() if result.is_finding} == {}
    assert sum(result.kind == "same" for result in results.values()) > _AT_ONCE // 2  # the others are open


# -- the test of the test ----------------------------------------------------------------------


def first_seen(machine: Machine, around: Surroundings) -> str:
    """The first program that does something else; to be refused by the verifier does not count."""
    for seed in range(_MOST_TRIED):
        program = generate(seed)
        if run_program(program, machine, around).kind == "different":
            return program
    pytest.fail(f"{_MOST_TRIED} programs did not show the fault")


def faulty_selection(change: Callable[[Insn, Insn], Insn]) -> Callable[[Function], Selected]:
    """Instruction selection with a fault: ``change`` gets an instruction and the one before it."""

    def select_wrongly(function: Function) -> Selected:
        selected = select(function)
        blocks = []
        for block in selected.blocks:
            pairs = zip([Insn(bpf.EXIT), *block.insns], block.insns, strict=False)
            blocks.append(SelectedBlock(block.label, [change(insn, before) for before, insn in pairs], block.targets))
        return replace(selected, blocks=blocks)

    return select_wrongly


def without_sign(insn: Insn, before: Insn) -> Insn:
    """The second half of a sign extension, as that of a zero extension."""
    left, right = (bpf.ALU64 | bpf.ARITHMETIC[op] for op in (BinaryOp.SHL, BinaryOp.ASHR))
    if (insn.code, before.code) == (right, left) and insn.immediate == before.immediate:
        return replace(insn, code=bpf.ALU64 | bpf.ARITHMETIC[BinaryOp.LSHR])
    return insn


def in_32_bits(insn: Insn, before: Insn) -> Insn:
    """A multiplication that wraps too early."""
    code = bpf.ALU64 | bpf.ARITHMETIC[BinaryOp.MUL]
    if insn.code in (code, code | bpf.SOURCE_REGISTER):
        return replace(insn, code=insn.code & ~bpf.CLASS | bpf.ALU32)
    return insn


def allocate_wrongly(function: Selected, parameters: int) -> Allocated:
    """Register allocation that reads the last spilled register from the first one's slot."""
    allocated = allocate(function, parameters)
    first, last = -function.frame_bytes - 8, -allocated.frame_bytes
    if last >= first:
        return allocated
    load = bpf.LDX | bpf.MEM | bpf.SIZES[8]

    def wrong(insn: Insn) -> Insn:
        spilled = insn.code == load and insn.source == bpf.FRAME and insn.offset == last
        return replace(insn, offset=first) if spilled else insn

    blocks = [SelectedBlock(block.label, list(map(wrong, block.insns)), block.targets) for block in allocated.blocks]
    return replace(allocated, blocks=blocks)


@pytest.mark.requires("bpf")
@pytest.mark.parametrize(
    ("stage", "fault"),
    [
        ("select", faulty_selection(without_sign)),
        ("select", faulty_selection(in_32_bits)),
        ("allocate", allocate_wrongly),
    ],
    ids=["a missing sign extension", "a product of 32 bits", "a wrong spill slot"],
)
def test_a_seeded_fault_is_seen(
    stage: str, fault: object, machine: Machine, around: Surroundings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(generation, stage, fault)
    program = first_seen(machine, around)
    monkeypatch.undo()
    assert run_program(program, machine, around).kind == "same"


@pytest.mark.requires("bpf")
def test_a_failing_program_is_made_small(
    machine: Machine, around: Surroundings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(generation, "select", faulty_selection(in_32_bits))
    program = first_seen(machine, around)
    small = minimise(
        program, lambda text: run_program(text, machine, around).kind == "different", PARAMETERS, attempts=150
    )
    assert run_program(small, machine, around).kind == "different"
    assert len(small) < len(program) / 2


# -- mutants -----------------------------------------------------------------------------------

_TOKEN = re.compile(r'"(?:\\.|[^"\\])*"|[A-Za-z_$@][\w#]*|\d\w*|\s+|[-+*/%&|^<>=!~?:.]+|.')
_PIECES = (
    *("0", "-1", "9223372036854775808", '""', "$x", "@m", "@m[1]", "(1, 2)", "(a=1)", "{", "}", ";", "=", "++", "pid"),
    *("if", "else", "return", "break", "for", "while", "unroll", "let", "(int8)", "str(", "buf(", "count()", "&", "*"),
)


def mutant(choose: random.Random) -> str:
    """A generated program with some tokens removed, doubled, exchanged or replaced."""
    tokens = _TOKEN.findall(generate(choose.randrange(_PROGRAMS), 6))
    for _ in range(choose.randrange(1, 4)):
        place, other = choose.randrange(len(tokens)), choose.randrange(len(tokens))
        match choose.randrange(5):
            case 0:
                tokens[place] = ""
            case 1:
                tokens[place] *= 2
            case 2:
                tokens[place], tokens[other] = tokens[other], tokens[place]
            case 3:
                tokens[place] = tokens[other]
            case _:
                tokens[place] = choose.choice(_PIECES)
    return "".join(tokens)


def test_mutants_never_crash_the_compiler(machine: Machine) -> None:
    """Diagnostics only; what is still well typed is compiled, too."""
    choose = random.Random(1)
    compiled = 0
    for _ in range(_MUTANTS):
        program = mutant(choose)
        try:
            typed(program, machine)
        except CompileError as error:
            assert error.diagnostics
            continue
        except Exception as error:
            raise AssertionError(f"the compiler crashed with {error!r}:\n{program}") from error
        compiled += 1
    assert _MUTANTS // 20 < compiled < _MUTANTS - _MUTANTS // 20
