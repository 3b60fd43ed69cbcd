"""IR that breaks a rule is refused, with the rule's name and the text."""

from __future__ import annotations

import pytest

from fixture_bpf import LAYOUT, PLAN
from invivo.bpf.helpers import NUMBERS
from invivo.ir.text import parse_function, parse_program
from invivo.ir.verify import IRError, verify_function, verify_program

RESERVE = "%8:map = map ring\n%9:ring? = call ringbuf_reserve(%8, 8, 0)\n"
LOOKUP = "%8:map = map m\n%7:stack = slot 8\nstore8 %7+0, 0\n%9:mapvalue? = call map_lookup_elem(%8, %7)\n"


def check(body: str) -> None:
    verify_function(parse_function(f"entry main(%0:ctx) {{\nstart:\n{body}\n}}", NUMBERS))


REFUSED = {
    "a value that is defined on one way only": (
        "%1 = load8 %0+0\nif eq %1, 0 then a else b\na:\n%2 = add %1, 1\njump b\nb:\nreturn %2",
        "%2 is not defined on every way here at return",
    ),
    "a variable that is set on one way only": (
        "%1 = load8 %0+0\nif eq %1, 0 then a else b\na:\nset $0, 1\njump b\nb:\n%2 = get $0\nreturn %2",
        "$0 is not set on every way here",
    ),
    "a lookup's result that is used unseen": (LOOKUP + "%1 = load8 %9+0\nreturn %1", "%9 may be null here"),
    "a lookup's result that is used on the wrong side": (
        LOOKUP + "if eq %9, 0 then a else b\na:\n%1 = load8 %9+0\nreturn %1\nb:\nreturn 0",
        "%9 may be null here",
    ),
    "a null check on one way only": (
        LOOKUP + "%1 = load8 %0+0\nif eq %1, 0 then a else b\na:\nif ne %9, 0 then b else c\n"
        "b:\n%2 = load8 %9+0\nreturn %2\nc:\nreturn 0",
        "%9 may be null here",
    ),
    "a return before a record is submitted": (
        RESERVE + "if eq %9, 0 then a else b\na:\nreturn 0\nb:\nreturn 1",
        "a ring record is still reserved at a return",
    ),
    "a record that is submitted on one way only": (
        RESERVE + "if eq %9, 0 then a else b\na:\nreturn 0\nb:\n%1 = load8 %0+0\nif eq %1, 0 then c else a\n"
        "c:\ncall ringbuf_submit(%9, 0)\njump a",
        "a ring record is still reserved at a return",
    ),
    "arithmetic on a kernel pointer": (
        "%1:btf = call get_current_task_btf()\n%2 = add %1, 8\nreturn %2",
        "%1 is a pointer (btf), not a number",
    ),
    "a variable offset from a kernel pointer": (
        "%1:btf = call get_current_task_btf()\n%2 = load8 %0+0\n%3:btf = offset %1, %2\nreturn 0",
        "a btf pointer moves only by constants",
    ),
    "a store through a kernel pointer": (
        "%1:btf = call get_current_task_btf()\nstore8 %1+0, 1\nreturn 0",
        "memory of kind btf cannot be accessed so",
    ),
    "a load through a number": ("%1 = load8 %0+0\n%2 = load8 %1+0\nreturn 0", "memory of kind word"),
    "an odd size": ("%1 = load3 %0+0\nreturn 0", "size 3 is not one of (1, 2, 4, 8)"),
    "an atomic of two bytes": ("%1:stack = slot 8\natomic_add2 %1+0, 1\nreturn 0", "size 2 is not one of (4, 8)"),
    "an order of pointers": ("if ult %0, 5 then a else a\na:\nreturn 0", "%0 is a pointer (ctx), not a number"),
    "a jump to nowhere": ("jump away", "no block away"),
    "a jump to the entry": ("jump start", "the entry block cannot be jumped to"),
    "a return of a pointer": ("return %0", "%0 is a pointer"),
    "a pointer of the wrong kind in a variable": (
        'var $0:ring "p"\n%1:stack = slot 8\nset $0, %1\nreturn 0',
        "$0 holds ring, not stack",
    ),
    "a number in a variable for pointers": (
        'var $0:stack "p"\nset $0, 5\nreturn 0',
        "$0 holds pointers (stack), not numbers",
    ),
    "a bound of nothing": ("%1 = load8 %0+0\n%2 = bounded %1, 0\nreturn 0", "a bound is positive"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_refused_is(name: str) -> None:
    body, message = REFUSED[name]
    with pytest.raises(IRError) as error:
        check(body)
    assert message in str(error.value)
    assert "entry main(%0:ctx) {" in str(error.value), "the text goes along"


ACCEPTED = {
    "a lookup's result after its check": LOOKUP
    + "if ne %9, 0 then a else b\na:\n%1:mapvalue = offset %9, 8\n%2 = load8 %1+0\nreturn %2\nb:\nreturn 0",
    "the check turned round": LOOKUP + "if eq 0, %9 then b else a\na:\n%2 = load8 %9+0\nreturn %2\nb:\nreturn 0",
    "a checked pointer in a variable": 'var $0:mapvalue "p"\n'
    + LOOKUP
    + "if ne %9, 0 then a else b\na:\nset $0, %9\n%1:mapvalue = get $0\n%2 = load8 %1+0\nreturn %2\nb:\nreturn 0",
    "a record that is checked twice": RESERVE
    + "if eq %9, 0 then a else b\nb:\nstore8 %9+0, 1\njump a\na:\nif eq %9, 0 then c else d\n"
    "d:\ncall ringbuf_submit(%9, 0)\njump c\nc:\nreturn 0",
    "a record that a variable holds": 'var $0:ring? "r"\n' + RESERVE + "set $0, %9\n%1:ring? = get $0\n"
    "if eq %1, 0 then a else b\na:\nreturn 0\nb:\ncall ringbuf_discard(%1, 0)\nreturn 0",
    "a variable that is set on both ways": "%1 = load8 %0+0\nif eq %1, 0 then a else b\na:\nset $0, 1\njump c\n"
    "b:\nset $0, 2\njump c\nc:\n%2 = get $0\nreturn %2",
    "a loop": "set $0, 0\njump head\nhead:\n%1 = get $0\nif ult %1, 5 then body else done\n"
    "body:\n%2 = add %1, 1\nset $0, %2\njump head\ndone:\nreturn %1",
    "a kernel pointer that is compared, and moved by a constant": "%1:btf = call get_current_task_btf()\n"
    "%2:btf = offset %1, 16\nif eq %1, 0 then a else a\na:\nreturn 0",
    "what an unreachable block does": "return 0\na:\n%2 = get $0\nreturn %2",
}


@pytest.mark.parametrize("name", ACCEPTED)
def test_accepted_is(name: str) -> None:
    check(ACCEPTED[name])


def test_in_a_loop_the_last_turns_check_does_not_count() -> None:
    with pytest.raises(IRError, match="%9 may be null here"):
        check(
            "%8:map = map m\n%7:stack = slot 8\nstore8 %7+0, 0\njump head\n"
            "head:\n%9:mapvalue? = call map_lookup_elem(%8, %7)\n%1 = load8 %0+0\nif eq %1, 0 then use else test\n"
            "test:\nif ne %9, 0 then head else done\nuse:\n%2 = load8 %9+0\nreturn %2\ndone:\nreturn 0"
        )


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("%1:map = map nothing", "unknown map nothing"),
        ("%1:mapvalue = global nothing+0", "unknown map nothing"),
        ("%1:function = function nothing", "nothing is not a callback"),
        ("%1:function = function twice", "twice is not a callback"),
        ("run body(1)", "body is not a local function"),
        ("run twice(1, 2)", "twice takes 1 arguments"),
    ],
)
def test_a_program_refers_only_to_what_it_has(line: str, message: str) -> None:
    text = (
        "local twice(%0) {\nstart:\nreturn %0\n}\nloop body(%0, %1:stack) {\nstart:\nreturn 0\n}\n"
        f"entry main(%0:ctx) {{\nstart:\n{line}\nreturn 0\n}}\nprogram main order 0\n"
    )
    with pytest.raises(IRError) as error:
        verify_program(parse_program(text, PLAN, LAYOUT, NUMBERS))
    assert str(error.value).startswith(message)


def test_an_entry_is_an_entry_function() -> None:
    text = "local twice(%0) {\nstart:\nreturn %0\n}\nprogram twice order 0\n"
    with pytest.raises(IRError, match="twice is not an entry function"):
        verify_program(parse_program(text, PLAN, LAYOUT, NUMBERS))


def test_callbacks_have_the_kernels_parameters() -> None:
    with pytest.raises(IRError, match="a function of kind each has 4 parameters"):
        verify_function(parse_function("each body(%0:map, %1:mapvalue) {\nstart:\nreturn 0\n}"))
