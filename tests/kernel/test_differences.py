"""The two commands' meanings of one program, as docs/language/differences.md says."""

from __future__ import annotations

from io import BytesIO

import pytest

from invivo.diagnostics import CompileError, SourceFile
from invivo.output.outputs import SinkOptions, open_sink
from invivo.output.sink import Dialect
from invivo.pipeline import CompileOptions, compile_source
from invivo.probes.machine import Machine
from invivo.runtime.session import Session, SessionOptions


def _run(program: str, *, bpftrace: bool) -> tuple[str, str]:
    """What is printed, and what is said on stderr."""
    with Machine() as machine:
        image = compile_source(SourceFile("stdin", program), machine, CompileOptions(bpftrace=bpftrace)).image
    out, errors = BytesIO(), BytesIO()
    dialect = Dialect.BPFTRACE if bpftrace else Dialect.INVIVO
    with Session(image, options=SessionOptions(bpftrace=bpftrace)) as session:
        sink = open_sink("text", out, errors, dialect, SinkOptions(quiet=True))
        for event in session:
            sink.event(event)
        sink.close()
    return out.getvalue().decode().strip("\n"), errors.getvalue().decode()


@pytest.mark.parametrize(
    ("program", "ours", "theirs"),
    [
        ('BEGIN { $x = -7; $y = 2; printf("%ld %ld\\n", $x / $y, $x % $y); }', "-3 -1", "9223372036854775804 1"),
        ('BEGIN { $x = 7; $y = 2; printf("%ld %ld\\n", $x / $y, $x % $y); }', "3 1", "3 1"),
        (
            'BEGIN { $x = -8; $y = (int32)-8; $x >>= 1; printf("%ld %ld %ld\\n", $x, $y >> 1, -8 >> 1); }',
            "-4 -4 -4",
            "9223372036854775804 9223372036854775804 -4",
        ),
        (
            'BEGIN { printf("%d %x %u\\n", 4294967297, 4294967297, 4294967297); }',
            "4294967297 100000001 4294967297",
            "1 1 1",
        ),
        ('BEGIN { printf("%ld %lx\\n", 4294967297, 4294967297); }', "4294967297 100000001", "4294967297 100000001"),
        ('BEGIN { printf("%d\\n", has_cpid); }', "0", "1"),
    ],
    ids=[
        "signed division",
        "division",
        "shifts to the right",
        "conversions of 32 bits",
        "conversions of 64 bits",
        "has_cpid",
    ],
)
def test_values(program: str, ours: str, theirs: str) -> None:
    assert _run(program, bpftrace=False) == (ours, "")
    assert _run(program, bpftrace=True) == (theirs, "")


def test_division_by_zero_at_run_time() -> None:
    program = 'BEGIN { $zero = pid - pid; printf("%d\\n", 5 / $zero); }'
    (ours, our_words), (theirs, their_words) = _run(program, bpftrace=False), _run(program, bpftrace=True)
    assert (ours, theirs) == ("0", "1")
    assert "Divide or modulo by 0 detected" in our_words
    assert "0 is being used as the result" in our_words
    assert "1 is being used as the result" in their_words


def test_division_by_a_literal_zero() -> None:
    program = 'BEGIN { printf("%d\\n", 5 / 0); }'
    with pytest.raises(CompileError, match="division by zero"):
        _run(program, bpftrace=False)
    assert _run(program, bpftrace=True)[0] == "1"


def test_deleting_what_is_not_there() -> None:
    program = "BEGIN { @m[1] = 1; delete(@m, 2); clear(@m); }"
    assert _run(program, bpftrace=False) == ("", "")
    assert "Can't delete map element because it does not exist." in _run(program, bpftrace=True)[1]


def test_lines_before_the_maps() -> None:
    program = "BEGIN { print(1); }"
    for bpftrace, lines in ((False, "1\n"), (True, "1\n\n\n")):
        with Machine() as machine:
            image = compile_source(SourceFile("stdin", program), machine, CompileOptions(bpftrace=bpftrace)).image
        out = BytesIO()
        with Session(image, options=SessionOptions(bpftrace=bpftrace)) as session:
            sink = open_sink("text", out, BytesIO(), Dialect.BPFTRACE if bpftrace else Dialect.INVIVO)
            for event in session:
                sink.event(event)
            sink.close()
        assert out.getvalue().decode() == lines


def test_a_number_that_is_wider_than_its_variable() -> None:
    program = "BEGIN { let $x : uint8 = 1; $x = pid - pid + 257; print($x); }"
    assert _run(program, bpftrace=False) == ("1", "")
    with pytest.raises(CompileError, match=r"when variable already has a type 'uint8'"):
        _run(program, bpftrace=True)
    with pytest.raises(CompileError, match="257 does not fit 'uint8'"):
        _run("BEGIN { let $x : uint8 = 257; }", bpftrace=False)


@pytest.mark.parametrize(
    ("program", "ours", "theirs"),
    [
        ("BEGIN { $x = (int32)6; print($x / 2); }", [], ["signed operands for '/' can lead to undefined behavior"]),
        ("BEGIN { while (0) { } }", [], ["While loops are deprecated"]),
        ("#include <linux/fs.h>\nBEGIN { }", ["linux/fs.h is not read"], []),
        ("BEGIN { $x = (uint8)1; $y = (uint8)$x; }", ["Unnecessary cast"], ["Unnecessary cast"]),
    ],
    ids=["signed division", "while", "headers", "casts"],
)
def test_warnings_of_the_compiler(program: str, ours: list[str], theirs: list[str]) -> None:
    for bpftrace, expected in ((False, ours), (True, theirs)):
        with Machine() as machine:
            warnings = compile_source(SourceFile("stdin", program), machine, CompileOptions(bpftrace=bpftrace)).warnings
        assert len(warnings) == len(expected)
        assert all(words in warning.message for words, warning in zip(expected, warnings, strict=True))
