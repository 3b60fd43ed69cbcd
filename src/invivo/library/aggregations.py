"""Aggregations: what is kept for each key, and how a value is added to it in place.

All updates are atomic: a program may be interrupted by another one on the same processor, and
values that several processors share are written by all of them.
"""

from __future__ import annotations

from invivo.diagnostics import Code
from invivo.ir import types as t
from invivo.ir.layout import LossKind
from invivo.ir.ops import AtomicOp, BinaryOp, CompareOp, Operand
from invivo.ir.types import Type
from invivo.library.record import Builtin, Emit, Place, Site
from invivo.library.spelling import spell, spell_kind


def _signed(site: Site) -> bool:
    source = site.type(0)
    if not isinstance(source, t.Int | t.Bool | t.Enumeration):
        site.error(
            Code.BAD_ARGUMENT, f"{site.name}() only supports integer arguments ({spell(source)} provided)", argument=0
        )
    literal = site.literal(0)
    natural = isinstance(literal, int) and literal >= 0
    return isinstance(source, t.Int | t.Enumeration) and source.signed and not natural


def _update_count(emit: Emit, slot: Place) -> None:
    emit.b.atomic(AtomicOp.ADD, slot.pointer, slot.offset, 1)


def _update_sum(emit: Emit, slot: Place) -> None:
    emit.b.atomic(AtomicOp.ADD, slot.pointer, slot.offset, emit.word(0))


def _update_average(emit: Emit, slot: Place) -> None:
    emit.b.atomic(AtomicOp.ADD, slot.pointer, slot.offset, emit.word(0))
    emit.b.atomic(AtomicOp.ADD, slot.pointer, slot.offset + 8, 1)


_EXCHANGE_ATTEMPTS = 4


def _update_extreme(emit: Emit, slot: Place) -> None:
    assert isinstance(emit.result, t.Minimum | t.Maximum)
    raise_extreme(emit, slot, emit.word(0), t.extreme_bias(emit.result))


def raise_extreme(emit: Emit, slot: Place, value: Operand, bias: int) -> None:
    """Raise the stored number by compare and exchange (see `types.extreme_bias`), and mark it as set."""
    b = emit.b
    new = b.binary(BinaryOp.XOR, value, bias)
    done, written = b.label("extreme_done"), b.label("extreme_written")
    for _ in range(_EXCHANGE_ATTEMPTS):
        exchange, again = b.label("exchange"), b.label("again")
        old = b.load(slot.pointer, slot.offset, 8)
        b.branch(CompareOp.UGT, new, old, exchange, written)
        b.start(exchange)
        seen = b.compare_exchange(slot.pointer, slot.offset, old, new)
        b.branch(CompareOp.EQ, seen, old, written, again)
        b.start(again)
    emit.lose(LossKind.MAP_UPDATE, emit.subject)
    b.jump(done)
    b.start(written)
    b.store(slot.pointer, slot.offset + 8, 8, 1)
    b.start(done)


# -- histograms --------------------------------------------------------------------------------

_MAX_BITS = 5


def _check_hist(site: Site) -> Type:
    source = site.type(0)
    if not isinstance(source, t.Int | t.Bool | t.Enumeration):
        site.error(Code.BAD_ARGUMENT, f"hist() only supports int arguments ({spell_kind(source)} provided)", argument=0)
    bits = site.literal(1) if site.arity > 1 else 0
    if not isinstance(bits, int) or not 0 <= bits <= _MAX_BITS:
        found = f"bits {bits}" if isinstance(bits, int) else "bits"
        hint = None if isinstance(bits, int) else "it must be known when the script is compiled"
        site.error(Code.BAD_ARGUMENT, f"hist: {found} must be 0..{_MAX_BITS}", hint, 1)
        bits = 0
    return t.Histogram(bits)


def _update_hist(emit: Emit, slot: Place) -> None:
    assert isinstance(emit.result, t.Histogram)
    bucket = log2_bucket(emit, emit.word(0), emit.result.bits)
    _count_bucket(emit, slot, bucket, t.bucket_count(emit.result))


def _count_bucket(emit: Emit, slot: Place, bucket: Operand, count: int) -> None:
    b = emit.b
    index = b.bounded(bucket, count)
    pointer = b.offset(b.offset(slot.pointer, slot.offset), b.shift_left(index, 3))
    b.atomic(AtomicOp.ADD, pointer, 0, 1)


def log2_bucket(emit: Emit, value: Operand, bits: int) -> Operand:
    """The bucket of a value: 0 for negative ones, then exact up to 2**(bits+1), then by powers.

    Unsigned numbers from 2**63 on are negative too: what a kretprobe's ``retval`` has so is an error.

    See `types.Histogram`: for v >= 2**(bits+1) with highest bit p the bucket is
    1 + 2**(bits+1) + (p - bits - 1) * 2**bits + the ``bits`` bits below the highest.
    """
    b = emit.b
    result = b.variable("bucket")
    b.set(result, 0)
    done, natural = b.label("bucketed"), b.label("natural")
    small, large = b.label("small"), b.label("large")
    b.branch(CompareOp.SLT, value, 0, done, natural)
    b.start(natural)
    b.branch(CompareOp.ULT, value, 2 << bits, small, large)
    b.start(small)
    b.set(result, b.add(value, 1))
    b.jump(done)
    b.start(large)
    power = highest_bit(emit, value)
    below = b.mask(b.shift_right(value, b.sub(power, bits)), (1 << bits) - 1)
    steps = b.shift_left(b.sub(power, bits + 1), bits)
    b.set(result, b.add(b.add(steps, below), 1 + (2 << bits)))
    b.start(done)
    return b.get(result)


def highest_bit(emit: Emit, value: Operand) -> Operand:
    """floor(log2(value)) by halving, without branches."""
    b = emit.b
    power: Operand = 0
    rest = value
    for width in (32, 16, 8, 4, 2, 1):
        above = b.shift_left(b.compare(CompareOp.UGE, rest, 1 << width), width.bit_length() - 1)
        rest = b.shift_right(rest, above)
        power = above if power == 0 else b.binary(BinaryOp.OR, power, above)
    return power


_MAX_LINEAR = 1000
_RANGE = (
    "min value (must be non-negative literal)",
    "max value (must be non-negative literal)",
    "step value",
)


def _check_lhist(site: Site) -> Type:
    _signed(site)
    numbers = [site.literal(index) for index in (1, 2, 3)]
    for index, number in enumerate(numbers):
        if not isinstance(number, int) or number < 0:
            site.error(
                Code.BAD_ARGUMENT,
                f"lhist: invalid {_RANGE[index]}",
                "lhist(value, min, max, step)",
                index + 1,
            )
            return t.LinearHistogram(0, 1, 1)
    low, high, step = (int(number or 0) for number in numbers)
    problem = None
    if step < 1:
        problem = f"lhist() step must be >= 1 ({step} provided)"
    elif low > high:
        problem = f"lhist() min must be less than max (provided min {low} and max {high})"
    elif (high - low) // step > _MAX_LINEAR:
        problem = f"lhist() too many buckets, must be <= {_MAX_LINEAR} (would need {(high - low) // step})"
    elif step > high - low:
        problem = f"lhist() step is too large for the given range (provided step {step} for range {high - low})"
    if problem is not None:
        site.error(Code.BAD_ARGUMENT, problem)
        return t.LinearHistogram(0, 1, 1)
    return t.LinearHistogram(low, high, step)


def _update_lhist(emit: Emit, slot: Place) -> None:
    shape = emit.result
    assert isinstance(shape, t.LinearHistogram)
    b = emit.b
    value = emit.word(0)
    count = t.bucket_count(shape)
    result = b.variable("bucket")
    done, not_below, above, inside = (b.label(f"lhist_{part}") for part in ("done", "not_below", "above", "inside"))
    b.set(result, 0)
    b.branch(CompareOp.SLT, value, shape.low, done, not_below)  # as in log2_bucket
    b.start(not_below)
    last = shape.low + (count - 2) * shape.step
    b.branch(CompareOp.UGE, value, last, above, inside)
    b.start(above)
    b.set(result, count - 1)
    b.jump(done)
    b.start(inside)
    b.set(result, b.add(b.binary(BinaryOp.DIV, b.sub(value, shape.low), shape.step), 1))
    b.start(done)
    _count_bucket(emit, slot, b.get(result), count)


AGGREGATIONS: tuple[Builtin, ...] = (
    Builtin("count", 0, 0, "count(): how often", lambda site: t.Count(), update=_update_count),
    Builtin("sum", 1, 1, "sum(n): the total", lambda site: t.Sum(_signed(site)), update=_update_sum),
    Builtin("avg", 1, 1, "avg(n): the average", lambda site: t.Average(_signed(site)), update=_update_average),
    Builtin(
        "stats", 1, 1, "stats(n): count, average and total", lambda site: t.Stats(_signed(site)), update=_update_average
    ),
    Builtin("min", 1, 1, "min(n): the least", lambda site: t.Minimum(_signed(site)), update=_update_extreme),
    Builtin("max", 1, 1, "max(n): the greatest", lambda site: t.Maximum(_signed(site)), update=_update_extreme),
    Builtin("hist", 1, 2, "hist(n [, bits]): a histogram by powers of two", _check_hist, update=_update_hist),
    Builtin("lhist", 4, 4, "lhist(n, min, max, step): a linear histogram", _check_lhist, update=_update_lhist),
)
