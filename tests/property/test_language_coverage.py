"""The generator writes every form of the syntax, every function and every pair of number types, or says why not."""

from __future__ import annotations

import random
from collections.abc import Iterator
from typing import NamedTuple

import pytest

from invivo.diagnostics import Diagnostics, SourceFile
from invivo.ir import types as t
from invivo.lang import ast
from invivo.lang.check import check
from invivo.lang.check.model import Checked
from invivo.lang.config import read_config
from invivo.lang.parse import parse
from invivo.library import library
from invivo.library.spelling import spell
from invivo.probes.machine import Machine
from property.language_generator import (
    EXCLUDED_FORMS,
    EXCLUDED_FUNCTIONS,
    ProgramWriter,
)
from property.language_runs import PARAMETERS
from property.reference_calls import CALLS, VALUES
from property.reference_maps import AGGREGATIONS

_PROGRAMS = 900
_NUMBERS = ("bool", *(f"{sign}int{bits}" for sign in ("", "u") for bits in (8, 16, 32, 64)))
_ARITHMETIC = frozenset("+-*&|^")
_COMPARISONS = frozenset(["==", "!=", "<", "<=", ">", ">="])


class Found(NamedTuple):
    """What the generated programs have in them."""

    forms: set[str]
    names: set[str]
    operators: set[str]
    assignments: set[str]
    pairs: set[tuple[str, str, str]]
    casts: set[tuple[str, str]]


@pytest.fixture(scope="module")
def found() -> Found:
    result = Found(set(), set(), set(), set(), set(), set())
    with Machine() as machine:
        for seed in range(_PROGRAMS):
            program = ProgramWriter(random.Random(seed), 14).program()
            diagnostics = Diagnostics()
            script = parse(SourceFile("generated", program), PARAMETERS)
            config, _ = read_config(script.config, {}, diagnostics)
            checked = check(script, machine, config, diagnostics, parameters=PARAMETERS, unsafe=True)
            for node in walk(script):
                note_form(node, result)
            note_types(checked, result)
    return result


def walk(node: ast.Node) -> Iterator[ast.Node]:
    yield node
    for name in type(node).__record_fields__:
        value = getattr(node, name)
        for item in value if isinstance(value, tuple) else (value,):
            if isinstance(item, ast.Node):
                yield from walk(item)


def note_form(node: ast.Node, found: Found) -> None:
    found.forms.add(type(node).__name__)
    match node:
        case ast.Name(_, name) | ast.Call(_, name):
            found.names.add(name)
        case ast.Unary(_, op):
            found.operators.add(f"unary {op}")
        case ast.Binary(_, op):
            found.operators.add(op)
        case ast.Assign(_, _, op):
            found.assignments.add(op)
        case ast.Increment(_, _, delta, prefix):
            found.operators.add(f"{'prefix' if prefix else 'postfix'} {delta}")
        case _:
            pass


def note_types(checked: Checked, found: Found) -> None:
    for instance in checked.instances:
        for node in instance.types:
            match node:
                case ast.Binary(_, op, left, right):
                    sides = instance.types.get(left), instance.types.get(right)
                    if sides[0] is not None and sides[1] is not None:
                        found.pairs.add((_group(op), spell(sides[0]), spell(sides[1])))
                case ast.Cast(_, _, operand) if operand in instance.types:
                    found.casts.add((spell(instance.types[operand]), spell(instance.types[node])))
                case _:
                    pass


def _group(op: str) -> str:
    if op in _ARITHMETIC:
        return "arithmetic"
    if op in ("/", "%"):
        return "division"
    if op in ("<<", ">>"):
        return "shift"
    return "comparison" if op in _COMPARISONS else "logic"


def test_every_form_of_the_syntax(found: Found) -> None:
    forms = {form.__name__ for form in ast.Node.__subclasses__()}
    assert forms - found.forms == set(EXCLUDED_FORMS)


def test_every_record_of_the_library(found: Found) -> None:
    names = {builtin.name for builtin in library()}
    assert names - found.names == set(EXCLUDED_FUNCTIONS)


def test_the_reference_interpreter_knows_what_is_generated() -> None:
    known = set(CALLS) | set(VALUES) | AGGREGATIONS
    assert {builtin.name for builtin in library()} - set(EXCLUDED_FUNCTIONS) <= known


def test_every_operator(found: Found) -> None:
    binary = {"||", "&&", "|", "^", "&", "==", "!=", "<", "<=", ">", ">=", "<<", ">>", "+", "-", "*", "/", "%"}
    assert found.operators == binary | {
        "unary !",
        "unary ~",
        "unary -",
        "unary *",
        "unary &",
        "prefix 1",
        "prefix -1",
        "postfix 1",
        "postfix -1",
    }
    assert found.assignments == {"", "+", "-", "*", "/", "%", "&", "|", "^", "<<", ">>"}


@pytest.mark.parametrize("group", ["arithmetic", "division", "shift", "comparison", "logic"])
def test_every_pair_of_number_types(found: Found, group: str) -> None:
    pairs = {(left, right) for op, left, right in found.pairs if op == group}
    assert {(left, right) for left in _NUMBERS for right in _NUMBERS} - pairs == set()


def test_every_cast_between_number_types(found: Found) -> None:
    assert {(old, new) for old in _NUMBERS for new in _NUMBERS} - found.casts == set()


def test_what_is_spelled_is_a_number_type() -> None:
    integers = {spell(t.Int(bits, signed)) for bits in (8, 16, 32, 64) for signed in (True, False)}
    assert set(_NUMBERS) == integers | {spell(t.BOOL)}
