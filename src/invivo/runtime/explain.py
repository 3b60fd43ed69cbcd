"""A verifier's refusal, explained by the line of the source that it is about."""

from __future__ import annotations

from bisect import bisect_right

from invivo.diagnostics import Span
from invivo.errors import VerifierError
from invivo.image import ProgramImage

_NO_HELPER = ("cannot use helper", "unknown func ")  # kernel/bpf/verifier.c of Linux 6.18 and 6.1


def source_of(program: ProgramImage, instruction: int) -> Span | None:
    """Return the place in the source that an instruction was made for."""
    starts = [line.instruction for line in program.lines]
    for index in range(bisect_right(starts, instruction) - 1, -1, -1):
        if program.lines[index].span is not None:
            return program.lines[index].span
    return None


def explain(problem: VerifierError, program: ProgramImage) -> VerifierError:
    """Return the error with the source line in its text, and a hint that says what to do."""
    reason = str(problem).partition(f"{problem.program}: ")[2] or str(problem)
    span = source_of(program, problem.instruction) if problem.instruction >= 0 else None
    lines = [f"the kernel's verifier refused {_described(program)}: {reason}"]
    if span is not None:
        at = span.location()
        line = span.source.line(at.line)
        end = at.end_column if at.end_line == at.line else len(line) + 1
        lines[0] = f"{span.source.name}:{at.line}:{at.column}: {lines[0]}"
        underline = " " * (at.column - 1) + "^" * max(1, end - at.column)
        lines += [f"    {line.expandtabs(1)}", f"    {underline}"]
    problem.args = ("\n".join(lines),)
    if problem.too_large:
        problem.hint = "the program is too large for this kernel: make it smaller, or split it into several probes"
    elif any(text in reason for text in _NO_HELPER):
        problem.hint = "this kernel lets no such program call it: it was built or locked down that way"
    else:
        problem.hint = "this is a mistake of invivo's compiler, not of your program; -v shows the verifier's log"
    return problem


def _described(program: ProgramImage) -> str:
    points = program.plan.points
    if not points:
        return program.name
    return points[0].name if len(points) == 1 else f"{points[0].name} and {len(points) - 1} more"
