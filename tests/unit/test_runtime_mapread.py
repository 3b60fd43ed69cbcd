"""Maps → snapshots: reduced over CPUs, in display order, divided; cleared and zeroed."""

from __future__ import annotations

import struct
from itertools import pairwise

import pytest

from invivo.events import Bucket, HistogramValue, MapSnapshot, SeriesValue, StatsValue, Value
from invivo.ir import types as t
from invivo.ir.layout import MapLayout, MapSpec, MapType, Storage
from invivo.runtime.mapread import MapReader
from invivo.runtime.reduce import bucket_range
from runtime_fakes import FakeMap, FakeNames

CPUS = 2
I64_MIN = -(1 << 63)


def words(*numbers: int) -> bytes:
    return b"".join(struct.pack("<Q", number & (1 << 64) - 1) for number in numbers)


class Made:
    """A map of one value type, and its reader."""

    def __init__(
        self, value: t.Type, key: tuple[t.Type, ...] | None, storage: Storage, bpftrace: bool = False, **more: int
    ) -> None:
        self.journal: list[str] = []
        self.map = FakeMap(MapSpec("m0", MapType.HASH, 8, 256, 16), self.journal)
        self.reader = MapReader(
            MapLayout("@", key, value, storage, "m0", **more), self.map, CPUS, FakeNames(), bpftrace=bpftrace
        )

    def snapshot(self, top: int = 0, divisor: int = 0) -> MapSnapshot:
        return self.reader.snapshot(top, divisor)


def keyed(
    value: t.Type, entries: dict[int, bytes], storage: Storage = Storage.PERCPU_HASH, *, bpftrace: bool = False
) -> Made:
    made = Made(value, (t.UINT64,), storage, bpftrace)
    made.map.entries = {words(key): data for key, data in entries.items()}
    return made


def biased(kind: t.Minimum | t.Maximum, *values: int | None) -> bytes:
    bias = t.extreme_bias(kind)
    return b"".join(words((value & (1 << 64) - 1) ^ bias, 1) if value is not None else words(0, 0) for value in values)


LOW, HIGH = t.Minimum(True), t.Maximum(True)
BUCKETS = t.LinearHistogram(0, 30, 10)

# value type, one entry's bytes (both CPUs), value, kind
REDUCED: list[tuple[str, t.Type, bytes, Value, str]] = [
    ("count", t.Count(), words(2, 3), 5, "map"),
    ("sum", t.Sum(True), words(-5, 3), -2, "map"),
    ("sum-unsigned", t.Sum(False), words((1 << 64) - 1, 3), 2, "map"),
    ("sum-wraps", t.Sum(True), words(I64_MIN, -1), (1 << 63) - 1, "map"),
    ("avg", t.Average(True), words(-10, 2, -11, 1), -7, "stats"),
    ("avg-empty", t.Average(False), words(0, 0, 0, 0), 0, "stats"),
    ("stats", t.Stats(False), words(4, 1, 2, 1), StatsValue(2, 3, 6), "stats"),
    ("min", LOW, biased(LOW, 5, -7), -7, "map"),
    ("min-one-cpu", LOW, biased(LOW, None, 7), 7, "map"),
    ("min-unsigned", t.Minimum(False), biased(t.Minimum(False), 9, (1 << 64) - 1), 9, "map"),
    ("max", HIGH, biased(HIGH, -5, -7), -5, "map"),
    ("max-unset", HIGH, biased(HIGH, None, None), 0, "map"),
    ("max-unsigned", t.Maximum(False), biased(t.Maximum(False), 9, (1 << 64) - 1), (1 << 64) - 1, "map"),
    (
        "lhist",
        BUCKETS,
        words(0, 1, 0, 0, 0) + words(0, 0, 0, 2, 0),
        HistogramValue((Bucket(0, 9, 1), Bucket(10, 19, 0), Bucket(20, 29, 2)), 10, 3),
        "hist",
    ),
    ("number", t.INT32, words(0, 7), 7, "map"),
]


@pytest.mark.parametrize(
    ("kind", "data", "value", "name"), [row[1:] for row in REDUCED], ids=[row[0] for row in REDUCED]
)
def test_entries_are_reduced_over_the_cpus(kind: t.Type, data: bytes, value: Value, name: str) -> None:
    snapshot = keyed(kind, {1: data}).snapshot()
    assert snapshot == MapSnapshot("@", name, False, (((1,), value),))
    assert snapshot.to_dict() == {1: value}
    # The same in a mapped array, each CPU's slot on a cache line of its own.
    cell = Made(kind, None, Storage.PERCPU_CELL, offset=8, stride=64)
    half = len(data) // 2
    cell.map.array[8 : 8 + half] = data[:half]
    cell.map.array[72 : 72 + half] = data[half:]
    assert cell.snapshot() == MapSnapshot("@", name, True, ((None, value),))


def keys(made: Made, top: int = 0) -> list[Value]:
    return list(made.snapshot(top).to_dict())


def test_counts_are_sorted_by_value_and_ties_by_key() -> None:
    made = keyed(t.Count(), {3: words(1, 0), 2: words(9, 9), 1: words(0, 1), 4: words(5, 0)})
    assert keys(made) == [1, 3, 4, 2]
    assert keys(made, top=2) == [4, 2]


def test_negative_minima_come_first_and_last_for_the_neighbour() -> None:
    entries = {1: biased(LOW, -1, None), 2: biased(LOW, 5, None), 3: biased(LOW, 3, 4)}
    assert keys(keyed(LOW, entries)) == [1, 3, 2]
    assert keys(keyed(LOW, entries, bpftrace=True)) == [3, 2, 1]


def test_histograms_are_sorted_by_their_sums() -> None:
    made = keyed(BUCKETS, {1: words(9, 0, 0, 0, 0) * 2, 2: words(0, 0, 5, 0, 0) * 2})
    assert keys(made) == [2, 1]


def test_averages_are_sorted_by_the_average() -> None:
    made = keyed(t.Stats(False), {1: words(10, 1, 0, 0), 2: words(100, 50, 0, 0)})
    assert keys(made) == [2, 1]


def test_other_values_are_sorted_by_key() -> None:
    made = Made(t.String(8), (t.UINT64, t.String(8)), Storage.HASH)
    entries = [(5, b"b"), (5, b"a"), ((1 << 64) - 1, b"z"), (0, b"\xff")]
    made.map.entries = {words(number) + text.ljust(8, b"\0"): b"v".ljust(8, b"\0") for number, text in entries}
    # Integers compare as signed, so the largest unsigned one comes first.
    assert [key for key, _ in made.snapshot().entries] == [((1 << 64) - 1, "z"), (0, "\udcff"), (5, "a"), (5, "b")]


def test_strings_are_sorted_bytewise() -> None:
    made = Made(t.String(8), (t.String(4),), Storage.HASH)
    texts = [b"\xf0\x9f\x98\x80", b"\xff", b"a", b"", b"\xc3\xa9"]
    made.map.entries = {text.ljust(4, b"\0"): bytes(8) for text in texts}
    shown = [str(key[0]).encode("utf-8", "surrogateescape") for key, _ in made.snapshot().entries if key]
    assert shown == sorted(texts)


def test_a_tuple_in_a_key_is_sorted_part_by_part() -> None:
    made = Made(t.String(8), (t.Tuple((t.INT32, t.INT32)),), Storage.HASH)
    made.map.entries = {struct.pack("<ii", *pair): bytes(8) for pair in [(1, 2), (-1, 9), (1, -2)]}
    assert [key for key, _ in made.snapshot().entries] == [((-1, 9),), ((1, -2),), ((1, 2),)]


DIVIDED: list[tuple[str, t.Type, bytes, Value]] = [
    ("count", t.Count(), words(7, 0), 2),
    ("negative", t.Sum(True), words(-7, 0), -2),
    ("stats", t.Stats(False), words(70, 10, 0, 0), StatsValue(10, 2, 70)),
    ("lhist", BUCKETS, words(0, 7, 0, 0, 0) * 2, HistogramValue((Bucket(0, 9, 14),), 10, 14)),
    ("hist", t.Histogram(), words(0, 7, *(0 for _ in range(64))) * 2, HistogramValue((Bucket(0, 0, 4),), 0, 14)),
]


@pytest.mark.parametrize(("kind", "data", "value"), [row[1:] for row in DIVIDED], ids=[row[0] for row in DIVIDED])
def test_a_divisor_of_three(kind: t.Type, data: bytes, value: Value) -> None:
    assert keyed(kind, {1: data}).snapshot(divisor=3).to_dict() == {1: value}


def test_taking_empties_the_map_in_one_call() -> None:
    made = keyed(t.Count(), {1: words(1, 1)})
    assert made.reader.snapshot(take=True).to_dict() == {1: 2}
    assert made.map.entries == {}
    assert made.journal == ["take m0"]


def test_zero_keeps_the_keys() -> None:
    made = keyed(t.Count(), {1: words(1, 1)})
    made.reader.zero()
    assert made.snapshot().to_dict() == {1: 0}
    made.reader.clear()
    assert made.snapshot().entries == ()


def test_a_cell_is_cleared_and_its_neighbours_are_not() -> None:
    made = Made(t.INT64, None, Storage.CELL, offset=8, present=16)
    made.map.array[0:32] = words(1, 2, 1, 4)
    assert made.snapshot().to_dict() == {None: 2}
    made.reader.zero()
    assert made.map.array[0:32] == words(1, 0, 1, 4)
    made.reader.clear()
    assert made.map.array[0:32] == words(1, 0, 0, 4)


def test_an_empty_map_has_no_entries() -> None:
    assert keyed(t.Histogram(), {}).snapshot().entries == ()
    assert Made(t.INT64, (t.String(16), t.INT64), Storage.HASH).snapshot().entries == ()


def test_a_series_goes_from_its_oldest_interval_to_the_latest() -> None:
    kind = t.TimeSeries(True, 1000, 3, "avg")
    # Interval 7 of an earlier round, 9 and 11 of this one; 10 has no value.
    made = keyed(kind, {1: words(9, -10, 4, 0, 7, 8, 1, 0, 11, 6, 2, 0)})
    assert made.snapshot().kind == "tseries"
    assert made.snapshot().to_dict() == {1: SeriesValue(1000, ((9000, -2), (10000, None), (11000, 3)))}
    assert made.reader.snapshot(divisor=2).to_dict() == {1: SeriesValue(1000, ((9000, -1), (10000, None), (11000, 1)))}


@pytest.mark.parametrize(
    ("reduce", "signed", "word", "value"),
    [
        ("last", True, -3, -3),
        ("last", False, -3, (1 << 64) - 3),
        ("sum", True, -3, -3),
        ("min", True, -3 ^ t.extreme_bias(t.Minimum(True)), -3),
        ("max", False, 3 ^ t.extreme_bias(t.Maximum(False)), 3),
    ],
)
def test_the_values_of_a_series(reduce: str, signed: bool, word: int, value: int) -> None:
    made = keyed(t.TimeSeries(signed, 5, 1, reduce), {1: words(2, word, 1, 0)})
    assert made.snapshot().to_dict() == {1: SeriesValue(5, ((10, value),))}


def test_a_series_without_values_is_empty_and_comes_first() -> None:
    kind = t.TimeSeries(True, 5, 1)
    full = words(3, 1, 1, 0)
    made = keyed(kind, {2: full, 1: words(0, 0, 0, 0), 3: words(-1, 0, 0, 0), 4: words(2, 1, 1, 0)})
    assert [key for key, _ in made.snapshot().entries] == [(1,), (3,), (4,), (2,)]
    assert made.snapshot().to_dict()[1] == SeriesValue(5, ())


@pytest.mark.parametrize("bits", range(6))
def test_the_buckets_of_a_histogram_follow_each_other(bits: int) -> None:
    kind = t.Histogram(bits)
    ranges = [bucket_range(kind, index, 0) for index in range(t.bucket_count(kind))]
    assert (ranges[0].low, ranges[0].high) == (None, -1)
    assert ranges[1].low == 0
    for before, after in pairwise(ranges):
        assert before.high is not None
        assert after.low == before.high + 1
    assert ranges[-1].high == (1 << 64) - 1
    exact = [each for each in ranges[1:] if each.low == each.high]
    assert len(exact) == 2 << bits


def test_the_buckets_of_a_linear_histogram() -> None:
    kind = t.LinearHistogram(-5, 8, 5)
    ranges = [bucket_range(kind, index, 0) for index in range(t.bucket_count(kind))]
    assert [(each.low, each.high) for each in ranges] == [(None, -6), (-5, -1), (0, 4), (5, None)]
