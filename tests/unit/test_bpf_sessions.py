"""Which programs become one at entry and return, and what code that is."""

from __future__ import annotations

import pytest

from fixture_bpf import LAYOUT, PLAN
from invivo import bpf
from invivo.bpf.helpers import NUMBERS
from invivo.bpf.text import format_image
from invivo.image import Image
from invivo.ir.program import Program
from invivo.ir.text import parse_program
from invivo.record import Record, replace
from invivo.target import AttachPoint, Plan, ProgramType, SessionHalf

_KFUNC = 4711


class Place(Record):
    number: int


def plan(provider: str, *places: int, half: bool = True) -> Plan:
    """Return what a kprobe or kretprobe of several functions is planned as."""
    points = tuple(AttachPoint(provider, f"{provider}:f{place}", f"f{place}", Place(place)) for place in places)
    context = replace(PLAN.context, provider=provider, program=ProgramType.KPROBE_MULTI)
    session = SessionHalf(provider == "kretprobe", ProgramType.KPROBE_SESSION, _KFUNC) if half else None
    return replace(PLAN, points=points, context=context, session=session)


def image(*plans: Plan, body: str = "return 0", more: str = "") -> Image:
    """Compile the same body once for each plan."""
    text = "".join(f"entry probe{number}(%0:ctx) {{\nstart:\n{body}\n}}\n" for number in range(len(plans)))
    text += more + "".join(f"program probe{number} order {number}\n" for number in range(len(plans)))
    program = parse_program(text, PLAN, LAYOUT, NUMBERS)
    entries = tuple(replace(entry, plan=each) for entry, each in zip(program.entries, plans, strict=True))
    return bpf.generate(Program(program.functions, entries, program.maps, program.layout))


def names(compiled: Image) -> list[str]:
    return [f"{program.name} {program.plan.context.program.name}" for program in compiled.programs]


SEPARATE = ["probe0 KPROBE_MULTI", "probe1 KPROBE_MULTI"]


def test_the_kernel_is_asked_which_it_is() -> None:
    both = image(
        plan("kprobe", 1, 2), plan("kretprobe", 1, 2), body="%1 = load8 %0+8\n%2 = call ktime_get_ns()\nreturn 0"
    )
    (program,) = both.programs
    assert program.plan.context.program is ProgramType.KPROBE_SESSION
    assert [point.name for point in program.plan.points] == ["kprobe:f1", "kprobe:f2", "kretprobe:f1", "kretprobe:f2"]
    code = [line.partition(": ")[2] for line in format_image(both).splitlines() if line[:5].strip().isdigit()]
    half = (len(code) - 4) // 2
    assert code[:4] == ["r6 = r1", f"call kernel#{_KFUNC}", "r1 = r6", f"if r0 != 0 goto {4 + half}"]
    assert code[4 : 4 + half] == code[4 + half :]


def test_a_return_that_comes_first_is_asked_for_first() -> None:
    text = format_image(image(plan("kretprobe", 1, 2), plan("kprobe", 1, 2)))
    assert "if r0 == 0 goto 6" in text


def test_functions_of_both_follow_behind_them() -> None:
    """Calls and callbacks still lead to their own functions."""
    more = "".join(f"loop probe{n}_loop(%0, %1:stack) {{\nstart:\nreturn {n}\n}}\n" for n in range(2))
    text = "".join(
        f"entry probe{n}(%0:ctx) {{\nstart:\n%1:stack = slot 8\n%2:function = function probe{n}_loop\n"
        f"%3 = call loop(3, %2, %1, 0)\nreturn 0\n}}\nprogram probe{n} order {n}\n"
        for n in range(2)
    )
    program = parse_program(more + text, PLAN, LAYOUT, NUMBERS)
    plans = plan("kprobe", 1), plan("kretprobe", 1)
    entries = tuple(replace(entry, plan=each) for entry, each in zip(program.entries, plans, strict=True))
    (both,) = bpf.generate(replace(program, entries=entries)).programs
    assert [function.name for function in both.functions] == ["probe0", "probe0_loop", "probe1_loop"]


@pytest.mark.parametrize(
    "second",
    [
        plan("kprobe", 1, 2),
        plan("kretprobe", 1, 3),
        plan("kretprobe", 2, 1),
        plan("kretprobe", 1),
        plan("kretprobe", 1, 2, half=False),
    ],
    ids=["two entries", "another function", "another order", "fewer", "a kernel without"],
)
def test_what_differs_stays_apart(second: Plan) -> None:
    assert names(image(plan("kprobe", 1, 2), second)) == SEPARATE


def test_what_stands_between_keeps_its_place() -> None:
    others = image(plan("kprobe", 1, 2), plan("kretprobe", 2, half=False), plan("kretprobe", 1, 2))
    assert names(others) == [*SEPARATE, "probe2 KPROBE_MULTI"]
    beside = image(plan("kprobe", 1, 2), plan("interval", half=False), plan("kretprobe", 1, 2))
    assert names(beside) == ["probe0 KPROBE_SESSION", "probe1 KPROBE_MULTI"]


def test_of_three_the_first_two_are_one() -> None:
    three = image(plan("kprobe", 1, 2), plan("kretprobe", 1, 2), plan("kprobe", 1, 2))
    assert names(three) == ["probe0 KPROBE_SESSION", "probe2 KPROBE_MULTI"]


@pytest.mark.parametrize(
    "body",
    ["return 1", "%1 = call ktime_get_ns()\nreturn %1", "%1 = call ktime_get_ns()\n" * 2200 + "return 0"],
    ids=["a constant", "a value", "too large"],
)
def test_a_body_that_is_no_half_stays_alone(body: str) -> None:
    lines, number = [], 0
    for line in body.splitlines():
        number += line.startswith("%1")
        lines.append(line.replace("%1 =", f"%{number} ="))
    assert names(image(plan("kprobe", 1, 2), plan("kretprobe", 1, 2), body="\n".join(lines))) == SEPARATE
