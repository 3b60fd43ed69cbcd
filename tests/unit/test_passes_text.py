"""Each pass, text to text."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from fixture_bpf import HELPER_NAMES
from invivo.bpf.helpers import NUMBERS
from invivo.ir.ops import Function
from invivo.ir.text import format_function, parse_function
from invivo.ir.verify import verify_function
from invivo.passes import (
    fold_constants,
    forward_variables,
    promote_variables,
    remove_dead,
    share_values,
    simplify_flow,
)

HEAD = "entry main(%0:ctx) {\n"


def applied(apply: Callable[[Function], Function], body: str) -> str:
    function = apply(parse_function(f"{HEAD}start:\n{body}\n}}", NUMBERS))
    verify_function(function)
    text = format_function(function, HELPER_NAMES)
    lines = [line.strip() for line in text.splitlines()[1:-1] if not line.strip().startswith("var ")]
    return "\n".join(lines)


def expect(apply: Callable[[Function], Function], before: str, after: str) -> None:
    wanted = "\n".join(line.strip() for line in after.strip().splitlines())
    assert applied(apply, before) == f"start:\n{wanted}"


FOLDED = {
    "x + 0": ("%2 = add %1, 0", "%1"),
    "0 + x": ("%2 = add 0, %1", "%1"),
    "x * 1": ("%2 = mul %1, 1", "%1"),
    "x * 0": ("%2 = mul %1, 0", "0"),
    "x / 0": ("%2 = div %1, 0", "0"),
    "x % 0": ("%2 = mod %1, 0", "%1"),
    "x % 1": ("%2 = mod %1, 1", "0"),
    "x - x": ("%2 = sub %1, %1", "0"),
    "x ^ x": ("%2 = xor %1, %1", "0"),
    "x << 64": ("%2 = shl %1, 64", "%1"),
    "x & -1": ("%2 = and %1, -1", "%1"),
    "constants": ("%2 = sub 3, 5", "-2"),
    "an unsigned division": ("%2 = div -1, 2", str((1 << 63) - 1)),
    "a comparison": ("%2 = cmp slt -1, 0", "1"),
    "an unsigned comparison": ("%2 = cmp ult -1, 0", "0"),
    "a sign extension": ("%2 = sext8 128", "-128"),
    "a swap": ("%2 = bswap16 4660", str(0x3412)),
    "a bound": ("%2 = bounded 5, 8", "5"),
    "a bound that is passed": ("%2 = bounded 9, 7", "0"),
}


@pytest.mark.parametrize("name", FOLDED)
def test_folded_away_is(name: str) -> None:
    op, result = FOLDED[name]
    expect(fold_constants, f"%1 = load8 %0+0\n{op}\nreturn %2", f"%1 = load8 %0+0\nreturn {result}")


CHEAPER = {
    "x * 8": ("%2 = mul %1, 8", "%2 = shl %1, 3"),
    "x / 16": ("%2 = div %1, 16", "%2 = lshr %1, 4"),
    "x % 16": ("%2 = mod %1, 16", "%2 = and %1, 15"),
    "x - 5": ("%2 = sub %1, 5", "%2 = add %1, -5"),
    "5 ^ x": ("%2 = xor 5, %1", "%2 = xor %1, 5"),
    "5 - x": ("%2 = sub 5, %1", "%2 = sub 5, %1"),
    "a bound": ("%2 = bounded %1, 8", "%2 = bounded %1, 8"),
}


@pytest.mark.parametrize("name", CHEAPER)
def test_made_cheaper_is(name: str) -> None:
    before, after = CHEAPER[name]
    expect(fold_constants, f"%1 = load8 %0+0\n{before}\nreturn %2", f"%1 = load8 %0+0\n{after}\nreturn %2")


@pytest.mark.parametrize(
    ("load", "extension", "goes"),
    [
        ("load4", "zext32", True),
        ("load1", "zext32", True),
        ("load1", "sext32", True),
        ("load4s", "sext32", True),
        ("load2s", "sext32", True),
        ("load4", "sext32", False),
        ("load4s", "zext32", False),
        ("load8", "zext32", False),
    ],
)
def test_an_extension_that_changes_nothing_goes(load: str, extension: str, goes: bool) -> None:
    before = f"%1 = {load} %0+0\n%2 = {extension} %1\nreturn %2"
    expect(fold_constants, before, f"%1 = {load} %0+0\nreturn %1" if goes else before)


def test_sums_with_constants_become_one() -> None:
    expect(
        fold_constants,
        "%1 = load8 %0+0\n%2 = add %1, 5\n%3 = sub %2, 7\nreturn %3",
        "%1 = load8 %0+0\n%2 = add %1, 5\n%3 = add %1, -2\nreturn %3",
    )


def test_a_branch_makes_the_comparison_itself() -> None:
    expect(
        fold_constants,
        "%1 = load8 %0+0\n%2 = cmp ult %1, 5\n%3 = cmp eq %2, 0\nif ne %3, 0 then a else b\na:\nreturn 1\nb:\nreturn 2",
        "%1 = load8 %0+0\n%2 = cmp ult %1, 5\n%3 = cmp uge %1, 5\n"
        "if uge %1, 5 then a else b\na:\nreturn 1\nb:\nreturn 2",
    )


def test_a_branch_on_constants_is_a_jump() -> None:
    expect(
        fold_constants, "if slt -1, 0 then a else b\na:\nreturn 1\nb:\nreturn 2", "jump a\na:\nreturn 1\nb:\nreturn 2"
    )


def test_flow_drops_what_cannot_be_reached_and_merges_what_follows() -> None:
    expect(
        simplify_flow,
        "%1 = load8 %0+0\njump a\nlost:\n%2 = add 1, 2\njump b\na:\n%3 = add %1, 1\njump b\nb:\nreturn %3",
        "%1 = load8 %0+0\n%3 = add %1, 1\nreturn %3",
    )


def test_flow_jumps_straight_to_the_end_of_a_chain() -> None:
    expect(
        simplify_flow,
        "%1 = load8 %0+0\nif eq %1, 0 then a else c\n"
        "a:\njump b\nb:\njump d\nc:\n%2 = add %1, 1\nreturn %2\nd:\nreturn 7",
        "%1 = load8 %0+0\nif eq %1, 0 then d else c\nd:\nreturn 7\nc:\n%2 = add %1, 1\nreturn %2",
    )


def test_flow_makes_one_way_of_two_equal_ones() -> None:
    expect(simplify_flow, "%1 = load8 %0+0\nif eq %1, 0 then a else b\na:\njump b\nb:\nreturn %1",
           "%1 = load8 %0+0\nreturn %1")  # fmt: skip


def test_flow_leaves_an_endless_loop() -> None:
    expect(simplify_flow, "jump a\na:\njump b\nb:\njump a", "jump b\nb:\njump b")


def test_a_variable_that_is_set_once_is_its_value() -> None:
    expect(
        promote_variables,
        "%1 = load8 %0+0\nset $0, %1\nif eq %1, 0 then a else b\na:\n%2 = get $0\nreturn %2\nb:\nreturn 0",
        "%1 = load8 %0+0\nif eq %1, 0 then a else b\na:\nreturn %1\nb:\nreturn 0",
    )


def test_a_variable_that_is_set_twice_stays() -> None:
    body = "%1 = load8 %0+0\nset $0, %1\nif eq %1, 0 then a else b\na:\nset $0, 1\njump b\nb:\n%2 = get $0\nreturn %2"
    expect(promote_variables, body, body)


def test_a_pointer_that_is_read_as_a_number_stays_a_variable() -> None:
    body = "%1:btf = call get_current_task_btf()\nset $0, %1\n%2 = get $0\n%3 = add %2, 1\nreturn %3"
    expect(promote_variables, body, body)
    expect(forward_variables, body, body)


def test_reads_after_a_set_in_the_same_block_see_its_value() -> None:
    expect(
        forward_variables,
        "%1 = load8 %0+0\nset $0, 5\n%2 = get $0\n%3 = add %1, %2\nset $0, %3\n%4 = get $0\nreturn %4",
        "%1 = load8 %0+0\n%3 = add %1, 5\nset $0, %3\nreturn %3",
    )


def test_dead_things_go() -> None:
    expect(
        remove_dead,
        "%1 = load8 %0+0\n%2 = add %1, 1\n%3 = mul %2, 2\nset $0, %3\n%4 = call get_current_pid_tgid()\nreturn %1",
        "%1 = load8 %0+0\nreturn %1",
    )


def test_what_has_an_effect_stays() -> None:
    body = (
        "%1:stack = slot 16\n%2 = call get_current_comm(%1, 16)\n%3:mapvalue = global cells+0\n"
        "%4 = atomic_add8 %3+0, 1\n%5 = cmpxchg %3+0, 0, 1\nstore8 %3+8, 1\nreturn 0"
    )
    expect(remove_dead, body, body)


def test_a_set_that_another_turn_of_the_loop_reads_stays() -> None:
    body = (
        "set $0, 0\nset $1, 0\njump head\nhead:\n%1 = get $0\nif ult %1, 5 then body else done\n"
        "body:\n%2 = add %1, 1\nset $0, %2\njump head\ndone:\nreturn 0"
    )
    expect(remove_dead, body, body.replace("set $1, 0\n", ""))


def test_a_stable_helper_is_asked_once() -> None:
    expect(
        share_values,
        "%1 = call get_current_pid_tgid()\n%2 = call get_current_pid_tgid()\n%3 = call ktime_get_ns()\n"
        "%4 = call ktime_get_ns()\nif eq %1, %2 then a else b\na:\n%5 = call get_current_pid_tgid()\n"
        "%6 = sub %4, %3\n%7 = add %5, %6\nreturn %7\nb:\nreturn 0",
        "%1 = call get_current_pid_tgid()\n%3 = call ktime_get_ns()\n%4 = call ktime_get_ns()\n"
        "if eq %1, %1 then a else b\na:\n%6 = sub %4, %3\n%7 = add %1, %6\nreturn %7\nb:\nreturn 0",
    )


def test_an_answer_on_one_way_is_none_on_the_other() -> None:
    body = (
        "%1 = load8 %0+0\nif eq %1, 0 then a else b\na:\n%2 = call get_current_pid_tgid()\n"
        "store8 %3+0, %2\njump b\nb:\n%4 = call get_current_pid_tgid()\nreturn %4"
    ).replace("store8 %3+0, %2\n", "set $0, %2\n")
    expect(share_values, body, body)


def test_equal_arithmetic_in_a_block_is_done_once() -> None:
    expect(
        share_values,
        "%1 = load8 %0+8\n%2 = load8 %0+8\n%3 = add %1, 5\n%4 = add %2, 5\n%5 = mul %3, %4\nreturn %5",
        "%1 = load8 %0+8\n%3 = add %1, 5\n%5 = mul %3, %3\nreturn %5",
    )
