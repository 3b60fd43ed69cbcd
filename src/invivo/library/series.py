"""``tseries()``: a value's course over time, one bucket for each interval."""

from __future__ import annotations

from invivo.diagnostics import Code
from invivo.ir import helpers
from invivo.ir import types as t
from invivo.ir.layout import LoadConstant, LossKind
from invivo.ir.ops import AtomicOp, BinaryOp, CompareOp, Operand
from invivo.ir.types import Type
from invivo.library.aggregations import raise_extreme
from invivo.library.record import Builtin, Emit, Place, Site
from invivo.library.spelling import spell_kind
from invivo.library.values import load_constant

_MOST_INTERVALS = 1_000_000
# A hash's element, value and all, is at most 4 MiB (KMALLOC_MAX_SIZE, kernel/bpf/hashtab.c).
_MOST_KEYED_INTERVALS = 100_000
_CLAIMED = (1 << 64) - 1  # in place of an interval's number: some program is emptying the bucket
_ATTEMPTS = 8
_BUCKET_SHIFT = 5
assert 1 << _BUCKET_SHIFT == t.SERIES_BUCKET_BYTES


def _check_tseries(site: Site) -> Type:
    site.unstable("tseries")
    source = site.type(0)
    if not isinstance(source, t.Int | t.Bool | t.Enumeration):
        what = f"tseries() only supports int arguments ({spell_kind(source)} provided)"
        site.error(Code.BAD_ARGUMENT, what, argument=0)
    first = site.literal(0)
    signed = isinstance(source, t.Int | t.Enumeration) and source.signed
    signed = signed and not (isinstance(first, int) and first >= 0)
    reduce = _check_reduce(site)
    numbers = [site.literal(index) for index in (1, 2)]
    for index, number in enumerate(numbers):
        if not isinstance(number, int) or number < 0:
            site.error(
                Code.BAD_ARGUMENT,
                f"tseries: invalid {('interval_ns', 'num_intervals')[index]} value (must be non-negative literal)",
                'tseries(value, interval_ns, num_intervals, "avg")',
                index + 1,
            )
            return t.TimeSeries(signed, 1, 1, reduce)
    interval_ns, length = (int(number or 0) for number in numbers)
    problem = None
    if interval_ns < 1:
        problem = f"tseries() interval_ns must be >= 1 ({interval_ns} provided)"
    elif length < 1:
        problem = f"tseries() num_intervals must be >= 1 ({length} provided)"
    elif length > _MOST_INTERVALS:
        problem = f"tseries() num_intervals must be < {_MOST_INTERVALS} ({length} provided)"
    elif length > _MOST_KEYED_INTERVALS and site.assigned_with_key:
        problem = f"tseries() num_intervals must be <= {_MOST_KEYED_INTERVALS} in a map with keys ({length} provided)"
    if problem is not None:
        site.error(Code.BAD_ARGUMENT, problem)
        return t.TimeSeries(signed, 1, 1, reduce)
    return t.TimeSeries(signed, interval_ns, length, reduce)


_REDUCTIONS = ("avg", "max", "min", "sum")


def _check_reduce(site: Site) -> str:
    if site.arity < 4:
        return "last"
    name = site.literal(3)
    if isinstance(name, str) and name in _REDUCTIONS:
        return name
    found = f' ("{name}" provided)' if isinstance(name, str) else ""
    site.error(
        Code.BAD_ARGUMENT,
        f"tseries() expects one of the following aggregation functions: {', '.join(_REDUCTIONS)}{found}",
        argument=3,
    )
    return "last"


def _update_tseries(emit: Emit, slot: Place) -> None:
    """Find the bucket of this moment's interval, empty it if it is another interval's, and add to it.

    A bucket that is emptied is claimed first, so that no update of another processor gets lost in between.
    """
    shape = emit.result
    assert isinstance(shape, t.TimeSeries)
    b = emit.b
    value = emit.word(0)
    now = b.add(b.call(helpers.KTIME_GET_BOOT_NS), load_constant(emit, LoadConstant.WALL_OFFSET_NS))
    interval = b.binary(BinaryOp.DIV, now, shape.interval_ns)
    index = b.bounded(b.binary(BinaryOp.MOD, interval, shape.length), shape.length)
    bucket = Place(b.offset(b.offset(slot.pointer, slot.offset), b.shift_left(index, _BUCKET_SHIFT)), 0)
    ready, done = b.label("series_ready"), b.label("series_done")
    for _ in range(_ATTEMPTS):
        other, taken, claim, empty, again = (b.label(f"series_{part}") for part in _STEPS)
        held = b.load(bucket.pointer, 0, 8)
        b.branch(CompareOp.EQ, held, interval, ready, other)
        b.start(other)
        b.branch(CompareOp.EQ, held, _CLAIMED, again, taken)
        b.start(taken)
        b.branch(CompareOp.UGT, held, interval, done, claim)  # so late that its interval is gone
        b.start(claim)
        seen = b.compare_exchange(bucket.pointer, 0, held, _CLAIMED)
        b.branch(CompareOp.EQ, seen, held, empty, again)
        b.start(empty)
        b.store(bucket.pointer, 8, 8, 0)
        b.store(bucket.pointer, 16, 8, 0)
        b.store(bucket.pointer, 0, 8, interval)
        b.jump(ready)
        b.start(again)
    emit.lose(LossKind.MAP_UPDATE, emit.subject)
    b.jump(done)
    b.start(ready)
    _add(emit, shape, bucket, value)
    b.jump(done)
    b.start(done)


_STEPS = ("other", "taken", "claim", "empty", "again")


def _add(emit: Emit, shape: t.TimeSeries, bucket: Place, value: Operand) -> None:
    b = emit.b
    match shape.reduce:
        case "sum" | "avg":
            b.atomic(AtomicOp.ADD, bucket.pointer, 8, value)
            b.atomic(AtomicOp.ADD, bucket.pointer, 16, 1)
        case "min":
            raise_extreme(emit, bucket.at(8), value, t.extreme_bias(t.Minimum(shape.signed)))
        case "max":
            raise_extreme(emit, bucket.at(8), value, t.extreme_bias(t.Maximum(shape.signed)))
        case _:
            b.store(bucket.pointer, 8, 8, value)
            b.store(bucket.pointer, 16, 8, 1)


SERIES: tuple[Builtin, ...] = (
    Builtin(
        "tseries",
        3,
        4,
        "tseries(n, interval_ns, num_intervals [, function]): the last intervals of a value's course: "
        "its last value in each, or the avg, max, min or sum",
        _check_tseries,
        update=_update_tseries,
    ),
)
