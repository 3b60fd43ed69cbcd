"""IR as text and back."""

from __future__ import annotations

import pytest

from fixture_bpf import HELPER_NAMES, LAYOUT, PLAN
from invivo.bpf.helpers import NUMBERS
from invivo.diagnostics import SourceFile
from invivo.ir import ops
from invivo.ir.layout import MapType
from invivo.ir.ops import Kind
from invivo.ir.text import TextError, format_function, format_program, parse_function, parse_program

EVERYTHING = """\
map cells array key 4 value 256 entries 1 flags 1024
map constants array key 4 value 8 entries 1 flags 128 frozen initial 0700000000000000
map ring ringbuf key 0 value 0 entries 4096 flags 0

local twice(%0) {
start:
  %1 = add %0, %0
  return %1
}

loop body(%0, %1:stack) {
start:
  return 1
}

entry main(%0:ctx) {
  var $0 "i"
  var $7:mapvalue? "a \\"b\\" \\\\"
start:
  %1:stack = slot 24
  %2 = load8 %0+16
  %3 = load2s %0-8
  %4 = cmp slt %2, -5
  %5 = zext8 %2
  %6 = sext32 %2
  %7 = bswap16 %2
  %8:mapvalue = global cells+8
  %9 = bounded %2, 13
  %10:mapvalue = offset %8, %9
  store4 %10+0, 4294967295
  atomic_add8 %8+0, %2
  %11 = atomic_xchg4 %8+4, 1
  %12 = cmpxchg %8+0, 0, %2
  copy %1+0, %8+0, 24, align 8
  zero %1+8, 5, align 1
  %13:map = map ring
  %14:ring? = call ringbuf_reserve(%13, 24, 0)
  if eq %14, 0 then none else some
none:
  return 0
some:
  call ringbuf_submit(%14, 1)
  %15:function = function body
  %16 = run twice(%2)
  run twice(%2)
  set $0, %16
  %17 = get $0
  set $7, 0
  %18:mapvalue? = get $7
  %19 = ashr %17, 3
  jump last
last:
  return %19
}

program main order -1
"""


def test_every_operation_is_printed_as_it_was_read() -> None:
    program = parse_program(EVERYTHING, PLAN, LAYOUT, NUMBERS)
    assert format_program(program, HELPER_NAMES).split() == EVERYTHING.split()


def test_what_is_read_is_what_the_text_says() -> None:
    program = parse_program(EVERYTHING, PLAN, LAYOUT, NUMBERS)
    assert [spec.type for spec in program.maps] == [MapType.ARRAY, MapType.ARRAY, MapType.RINGBUF]
    assert program.maps[1].frozen
    assert program.maps[1].initial == (7).to_bytes(8, "little")
    assert (program.entries[0].function, program.entries[0].order) == ("main", -1)
    main = program.functions[2]
    reserve = main.blocks[0].ops[-1]
    assert isinstance(reserve, ops.Call)
    assert (reserve.helper, reserve.arguments[1:]) == (131, (24, 0))
    assert reserve.result is not None
    assert reserve.result.kind is Kind.RING_OR_NULL
    variable = main.blocks[2].ops[-3]
    assert isinstance(variable, ops.SetVariable)
    assert (variable.variable.name, variable.variable.kind) == ('a "b" \\', Kind.MAP_VALUE_OR_NULL)


def test_helpers_without_names_are_numbers() -> None:
    function = parse_function("entry main(%0:ctx) {\nstart:\n%1 = call 14()\nreturn %1\n}")
    assert "call 14()" in format_function(function)
    assert "call get_current_pid_tgid()" in format_function(function, HELPER_NAMES)


def test_places_in_the_source_go_along() -> None:
    source = SourceFile("script.bt", "BEGIN { exit(); }")
    text = "entry main(%0:ctx) {\nstart:\n  %1 = load8 %0+0 @8-14\n  return %1\n}\n"
    function = parse_function(text, source=source)
    load = function.blocks[0].ops[0]
    assert isinstance(load, ops.Load)
    assert load.span is not None
    assert load.span.text == "exit()"
    assert format_function(function, spans=True) == text
    assert "@" not in format_function(function)


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("%1 = frobnicate %0", "line 3: unknown operation frobnicate"),
        ("%1 = add %7, 1", "line 3: %7 is not defined before"),
        ("%1:nothing = load8 %0+0", "line 3: unknown kind nothing"),
        ("%0 = load8 %0+0", "line 3: %0 is defined twice"),
        ("store8 %0, 1", "line 3: expected %value+offset"),
        ("%1 = add %0", "line 3: not an operation"),
        ("%1 = call unknown_helper()", "line 3: not an operation"),
        ("if nearly %0, 1 then a else b", "line 3: not an operation"),
    ],
)
def test_a_mistake_is_named_with_its_line(line: str, message: str) -> None:
    with pytest.raises(TextError) as error:
        parse_function(f"entry main(%0:ctx) {{\nstart:\n  {line}\n  return 0\n}}")
    assert str(error.value).startswith(message)


def test_a_function_without_an_end_is_noticed() -> None:
    with pytest.raises(TextError, match="does not end"):
        parse_function("entry main(%0:ctx) {\nstart:\n  return 0\n")
    with pytest.raises(TextError, match="no terminator"):
        parse_function("entry main(%0:ctx) {\nstart:\n  %1 = load8 %0+0\n}")
