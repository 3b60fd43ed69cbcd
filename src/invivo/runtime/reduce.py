"""The values of many map entries from their bytes: every CPU's slot is one summand."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from operator import add, itemgetter
from struct import iter_unpack

from invivo.events import Bucket, HistogramValue, SeriesValue, StatsValue, Value
from invivo.ir import types
from invivo.ir.types import Type
from invivo.record import Record
from invivo.runtime.decode import Names, numbers_at, shape_of, value_decoder

_MASK = (1 << 64) - 1

Reduce = Callable[[bytes | bytearray, int], Sequence[Value]]


class Reduction(Record):
    """How a map's values are read, and by what they are sorted.

    ``reduce`` takes the values of all entries, one after another (each: all slots, one after another,
    a multiple of 8 bytes each), and the size of one.  ``weigh`` gives what a value is sorted by;
    None: the map is sorted by key.  ``kind`` is that of `events.MapSnapshot`.
    """

    reduce: Reduce
    weigh: Callable[..., int] | None
    kind: str = "map"


def reduction(t: Type, slots: int, names: Names, *, bpftrace: bool = False) -> Reduction:
    """Return how entries of a value type with ``slots`` slots are reduced, in one of the two dialects."""
    match t:
        case types.Count():
            return Reduction(lambda data, size: _sums(data, slots, False), int)
        case types.Sum(signed):
            return Reduction(lambda data, size: _sums(data, slots, signed), int)
        case types.Average(signed):
            return Reduction(lambda data, size: _averages(data, slots, signed)[1], int, "stats")
        case types.Stats(signed):
            return Reduction(
                lambda data, size: list(map(StatsValue, *_averages(data, slots, signed))), _average, "stats"
            )
        case types.Minimum() | types.Maximum():
            return Reduction(lambda data, size: _extremes(t, data, slots), _unsigned if bpftrace else int)
        case types.Histogram() | types.LinearHistogram():
            return Reduction(lambda data, size: [_histogram(t, entry) for entry in _each(data, size)], _total, "hist")
        case types.TimeSeries():
            return Reduction(lambda data, size: [_series(t, entry) for entry in _each(data, size)], _latest, "tseries")
        case _:
            return _plain(t, slots, names)


def divide(value: Value, divisor: int) -> Value:
    """Apply the divisor of ``print(@m, top, divisor)``; towards zero, as the kernel's C would."""
    match value:
        case bool():
            return value
        case int():
            return truncated_quotient(value, divisor)
        case StatsValue(count, average, total):
            return StatsValue(count, truncated_quotient(average, divisor), total)
        case HistogramValue(buckets, 0, total, bits):
            shown = tuple(Bucket(bucket.low, bucket.high, bucket.count // divisor) for bucket in buckets)
            return HistogramValue(shown, 0, total, bits)
        case SeriesValue(interval_ns, points):
            shared = [(at, None if point is None else truncated_quotient(point, divisor)) for at, point in points]
            return SeriesValue(interval_ns, tuple(shared))
        case _:
            return value


def truncated_quotient(number: int, divisor: int) -> int:
    return number // divisor if number >= 0 else -(-number // divisor)


def _words(entry: bytes) -> list[int]:
    return memoryview(entry).cast("Q").tolist()


def _each(data: bytes | bytearray, size: int) -> Iterator[bytes]:
    return map(itemgetter(0), iter_unpack(f"{size}s", data))


def _slots(data: bytes | bytearray, slots: int, signed: bool, words: int = 1, word: int = 0) -> Iterator[list[int]]:
    """One of the words that a slot has: a list for each slot, of all entries."""
    numbers = memoryview(data).cast("q" if signed else "Q")
    return (numbers[slot * words + word :: slots * words].tolist() for slot in range(slots))


def _joined(columns: Iterator[list[int]], join: Callable[[int, int], int]) -> list[int]:
    joined = next(columns)
    for column in columns:
        joined = list(map(join, joined, column))
    return joined


def _sums(data: bytes | bytearray, slots: int, signed: bool) -> list[Value]:
    totals = _joined(_slots(data, slots, signed), add)
    least = -(1 << 63) if signed else 0
    if totals and (min(totals) < least or max(totals) > least + _MASK):
        totals = [((total - least) & _MASK) + least for total in totals]
    return list[Value](totals)


def _averages(data: bytes | bytearray, slots: int, signed: bool) -> tuple[list[int], list[int], list[int]]:
    """Counts, averages and totals."""
    totals, counts = (_joined(_slots(data, slots, signed, 2, word), add) for word in range(2))
    averages = [truncated_quotient(t, n) if n else 0 for t, n in zip(totals, counts, strict=True)]
    return counts, averages, totals


def _average(stats: StatsValue) -> int:
    return stats.average


def _extremes(t: types.Minimum | types.Maximum, data: bytes | bytearray, slots: int) -> list[Value]:
    """Of both kinds the greatest stored word is the result; see `types.extreme_bias`."""
    stored, is_set = (_joined(_slots(data, slots, False, 2, word), max) for word in range(2))
    bias = types.extreme_bias(t)
    values = [word ^ bias if known else 0 for word, known in zip(stored, is_set, strict=True)]
    return [value - (1 << 64) if t.signed and value >> 63 else value for value in values]


def _unsigned(value: int) -> int:
    # bpftrace compares min and max as unsigned: negative values come last.
    return value & _MASK


def _histogram(t: types.Histogram | types.LinearHistogram, entry: bytes) -> HistogramValue:
    words = _words(entry)
    length = types.bucket_count(t)
    if len(words) > length:
        words = [sum(words[index::length]) for index in range(length)]
    return histogram_value(t, words)


def _total(value: HistogramValue) -> int:
    return value.total


# -- time series -------------------------------------------------------------------------------


def _series(t: types.TimeSeries, entry: bytes) -> SeriesValue:
    """Return the intervals from the oldest to the latest that has a value; those between have none or one."""
    words = memoryview(entry).cast("Q")
    intervals = words[0::4].tolist()
    used = {interval: 4 * index for index, interval in enumerate(intervals) if interval not in _NO_INTERVAL}
    if not used:
        return SeriesValue(t.interval_ns, ())
    latest = max(used)
    oldest = min(interval for interval in used if interval > latest - t.length)
    points = [
        (interval * t.interval_ns, _point(t, words, used[interval]) if interval in used else None)
        for interval in range(oldest, latest + 1)
    ]
    return SeriesValue(t.interval_ns, tuple(points))


_NO_INTERVAL = (0, _MASK)  # never used; being emptied at this moment


def _point(t: types.TimeSeries, words: memoryview, at: int) -> int | None:
    value, count = words[at + 1], words[at + 2]
    if not count:
        return None
    if t.reduce in ("min", "max"):
        value ^= types.extreme_bias(types.Minimum(t.signed) if t.reduce == "min" else types.Maximum(t.signed))
    if t.signed and value >> 63:
        value -= 1 << 64
    return truncated_quotient(value, count) if t.reduce == "avg" else value


def _latest(value: SeriesValue) -> int:
    return value.points[-1][0] if value.points else 0


def _plain(t: Type, slots: int, names: Names) -> Reduction:
    decode = value_decoder(t, names)
    own = types.size_bytes(t)
    stride = -(-own // 8) * 8
    weigh = int if isinstance(t, types.Int | types.Enumeration) else None
    shape = shape_of(t, names)
    if slots == 1 and weigh is not None and shape.convert is None:
        return Reduction(lambda data, size: numbers_at(data, size, 0, shape.code).tolist(), weigh)
    if slots == 1:
        return Reduction(lambda data, size: [decode(entry) for entry in _each(data, size)], weigh)

    def first_set(entry: bytes) -> Value:
        # Not an aggregation: the value of the first CPU that wrote one.
        values = [entry[start : start + own] for start in range(0, slots * stride, stride)]
        return decode(next(filter(any, values), values[0]))

    return Reduction(lambda data, size: [first_set(entry) for entry in _each(data, size)], weigh)


# -- buckets -----------------------------------------------------------------------------------


def bucket_range(t: types.Histogram | types.LinearHistogram, index: int, count: int) -> Bucket:
    """Return a bucket with its bounds (both inclusive, None: open); ``count`` is handed through."""
    if isinstance(t, types.LinearHistogram):
        return _linear(t, index, count)
    exact = 2 << t.bits
    if index == 0:
        return Bucket(None, -1, count)
    if index <= exact:
        return Bucket(index - 1, index - 1, count)
    # Powers of two from 2**(bits+1) on, each cut into 2**bits equal buckets.
    power, part = divmod(index - 1 - exact, 1 << t.bits)
    low = (1 << t.bits) + part << power + 1
    return Bucket(low, low + (1 << power + 1) - 1, count)


def _linear(t: types.LinearHistogram, index: int, count: int) -> Bucket:
    if index == 0:
        return Bucket(None, t.low - 1, count)
    low = t.low + (index - 1) * t.step
    return Bucket(low, low + t.step - 1 if index + 1 < types.bucket_count(t) else None, count)


def histogram_value(
    t: types.Histogram | types.LinearHistogram, counts: Sequence[int], divisor: int = 1
) -> HistogramValue:
    """Return the buckets from the first to the last that is not empty."""
    used = [index for index, count in enumerate(counts) if count]
    linear_step, bits = (t.step, 0) if isinstance(t, types.LinearHistogram) else (0, t.bits)
    if not used:
        return HistogramValue((), linear_step, 0, bits)
    buckets = tuple(bucket_range(t, index, counts[index]) for index in range(used[0], used[-1] + 1))
    return HistogramValue(buckets, linear_step, sum(counts), bits)
