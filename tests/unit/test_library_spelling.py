"""Types as text, and which type holds the values of two."""

from __future__ import annotations

import pytest

from invivo.ir import types as t
from invivo.ir.types import Type
from invivo.library.spelling import PROBE_NAME_CAPACITY, literal_type, promote, promote_literals, spell, whole

_ENUM = t.Enumeration("color", 32, False, (("RED", 1),))
_OTHER = t.Enumeration("shape", 32, False, ())
_TASK = t.Struct("struct", "task_struct", 9536, 7)
_PERF = t.Stack(True, t.StackMode.PERF, 3)


@pytest.mark.parametrize(
    ("type_", "text"),
    [
        (t.INT8, "int8"),
        (t.UINT64, "uint64"),
        (t.BOOL, "bool"),
        (t.VOID, "void"),
        (_ENUM, "enum color"),
        (t.Pointer(t.Pointer(t.VOID)), "void * *"),
        (t.Pointer(_TASK), "struct task_struct *"),
        (t.String(16), "string[16]"),
        (t.Buffer(8), "buffer[8]"),
        (t.Array(t.Array(t.INT32, 3), 2), "int32[3][2]"),
        (t.Struct("union", "", 8), "union"),
        (t.Tuple((t.INT8, t.String(2))), "(int8,string[2])"),
        (t.NamedTuple(("a", "b"), (t.INT8, t.BOOL)), "record { .a = int8, .b = bool }"),
        (_PERF, "kstack_t"),
        (t.Stack(False, t.StackMode.RAW, 1), "ustack_t"),
        (t.ProbeName(), "string"),
        (t.Count(), "count_t"),
        (t.Histogram(0), "hist_t"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_spell(type_: Type, text: str) -> None:
    assert spell(type_) == text


@pytest.mark.parametrize(
    ("old", "new", "merged"),
    [
        (t.INT8, t.INT32, t.INT32),
        (t.UINT32, t.UINT8, t.UINT32),
        (t.UINT32, t.INT8, t.INT64),
        (t.UINT8, t.INT8, t.INT16),
        (t.UINT8, t.INT32, t.INT32),
        (t.INT8, t.UINT64, t.INT64),
        (t.INT32, t.BOOL, t.INT32),
        (t.BOOL, t.UINT8, t.UINT8),
        (_ENUM, t.UINT64, t.UINT64),
        (_ENUM, _OTHER, t.UINT32),
        (t.BOOL, _ENUM, t.UINT32),
        (t.BOOL, t.INT8, t.INT16),
        (t.String(3), t.String(9), t.String(9)),
        (t.String(9), t.String(3), t.String(9)),
        (t.ProbeName(), t.String(3), t.String(PROBE_NAME_CAPACITY)),
        (t.String(200), t.ProbeName(), t.String(200)),
        (t.Buffer(3), t.Buffer(9), t.Buffer(9)),
        (t.Pointer(t.VOID), t.Pointer(_TASK), t.Pointer(_TASK)),
        (t.Pointer(_TASK), t.Pointer(t.VOID), t.Pointer(_TASK)),
        (t.Stack(True, t.StackMode.PERF, 9), _PERF, t.Stack(True, t.StackMode.PERF, 9)),
        (
            t.Tuple((t.INT8, t.String(2))),
            t.Tuple((t.INT64, t.String(5))),
            t.Tuple((t.INT64, t.String(5))),
        ),
        (t.Sum(False), t.Sum(True), t.Sum(True)),
        (t.Average(True), t.Average(False), t.Average(True)),
        (t.Minimum(False), t.Minimum(True), t.Minimum(True)),
        (t.Maximum(False), t.Maximum(False), t.Maximum(False)),
        (t.Histogram(2), t.Histogram(2), t.Histogram(2)),
    ],
    ids=spell,
)
def test_promote(old: Type, new: Type, merged: Type) -> None:
    assert promote(old, new) == merged


@pytest.mark.parametrize(
    ("old", "new"),
    [
        (t.INT8, t.String(2)),
        (t.INT64, t.Pointer(t.VOID)),
        (t.BOOL, t.String(2)),
        (t.Pointer(t.INT8), t.Pointer(_TASK)),
        (t.String(3), t.Buffer(3)),
        (t.Array(t.INT8, 3), t.Array(t.INT8, 4)),
        (t.Tuple((t.INT8,)), t.Tuple((t.INT8, t.INT8))),
        (t.Tuple((t.INT8,)), t.Tuple((t.String(2),))),
        (t.NamedTuple(("a",), (t.INT8,)), t.NamedTuple(("b",), (t.INT8,))),
        (_PERF, t.Stack(False, t.StackMode.PERF, 3)),
        (_PERF, t.Stack(True, t.StackMode.RAW, 3)),
        (t.Count(), t.Sum(False)),
        (t.Histogram(0), t.Histogram(1)),
        (t.LinearHistogram(0, 10, 1), t.LinearHistogram(0, 10, 2)),
        (t.Count(), t.INT64),
    ],
    ids=spell,
)
def test_what_does_not_fit(old: Type, new: Type) -> None:
    assert promote(old, new) is None
    assert promote(new, old) is None


_TYPES = (t.INT8, t.UINT8, t.INT64, t.UINT64, t.BOOL, _ENUM, t.String(4), t.Pointer(t.VOID), t.Pointer(_TASK), _PERF)


@pytest.mark.parametrize("old", _TYPES, ids=spell)
@pytest.mark.parametrize("new", _TYPES, ids=spell)
def test_promotion_ends(old: Type, new: Type) -> None:
    """Promoting again with either side changes nothing, so the checker's rounds come to an end."""
    merged = promote(old, new)
    if merged is not None:
        assert promote(merged, old) == merged
        assert promote(merged, new) == merged


def test_arithmetic_has_whole_words() -> None:
    assert whole(t.UINT8) == t.UINT64
    assert whole(t.INT16) == t.INT64


def test_literals_take_the_sign_of_the_other() -> None:
    def merged(old: t.Type, new: t.Type, old_is_literal: bool, new_is_literal: bool) -> t.Type | None:
        return promote_literals(old, new, old_is_literal=old_is_literal, new_is_literal=new_is_literal)

    assert merged(t.INT8, t.UINT32, True, False) == t.UINT32
    assert merged(t.UINT8, t.INT16, False, True) == t.UINT16
    assert merged(t.INT8, t.INT16, True, True) == t.INT16
    assert merged(t.INT8, t.UINT64, True, True) == t.UINT64
    assert merged(t.INT8, t.BOOL, True, False) is None


@pytest.mark.parametrize(
    ("value", "type_"),
    [
        (0, t.INT8),
        (127, t.INT8),
        (128, t.INT16),
        (-128, t.INT8),
        (-129, t.INT16),
        (40_000, t.INT32),
        (1 << 31, t.INT64),
        ((1 << 63) - 1, t.INT64),
        (1 << 63, t.UINT64),
        ((1 << 64) - 1, t.UINT64),
        (-(1 << 63), t.INT64),
    ],
)
def test_type_of_a_literal(value: int, type_: Type) -> None:
    assert literal_type(value) == type_
