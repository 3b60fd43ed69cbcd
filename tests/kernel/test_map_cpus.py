"""Maps are exact while two processors write to them: what is shown, and what programs read, is the whole sum."""

from __future__ import annotations

import os
import re

import pytest

from invivo.events import HistogramValue, MapSnapshot, SeriesValue, StatsValue, Value
from running import Result, run
from workloads import build

_COUNT = 20_000
_CPUS = min(2, len(os.sched_getaffinity(0)))
_ALL = _COUNT * _CPUS
_TOTAL = _CPUS * _COUNT * (_COUNT - 1) // 2
_AVERAGE = (_COUNT - 1) // 2
_PROGRAM = """
tracepoint:syscalls:sys_enter_lseek /args.whence == 4711/ {
    $n = (int64)args.offset;
    @cpus[cpu] = count();
    @count = count(); @counts["k", 1] = count();
    @sum = sum($n); @sums["k"] = sum(-$n);
    @avg = avg($n); @avgs["k"] = avg(-$n);
    @min = min($n - 5); @mins["k"] = min($n);
    @max = max($n); @maxs["k"] = max(-$n - 7);
    @stats = stats($n); @all["k"] = stats($n);
    @hist = hist($n); @hists["k"] = hist($n, 2);
    @lhist = lhist($n, 0, 10000, 1000); @lhists["k"] = lhist($n, 0, 10000, 1000);
    @series = tseries(1, 50ms, 1000, "sum"); @least["k"] = tseries($n - 3, 1d, 2, "min");
    @greatest["k"] = tseries($n, 1d, 2, "max"); @mean = tseries($n, 1d, 2, "avg");
    @cell++; @cells["k"]++; ++@down["k"]; @down["k"]--;
}
END {
    printf("%d %d %d %d %d\\n", @count, @sum, @avg, @min, @max);
    printf("%d %d %d\\n", @counts["k", 1], @sums["k"], @avgs["k"]);
    printf("%d %d\\n", @mins["k"], @maxs["k"]);
    if (@count == ALL && @counts["k", 1] > ALL - 1 && @count - 1 < ALL) { printf("compared\\n"); }
    for ($kv : @sums) { printf("%s %d\\n", $kv.0, $kv.1); }
    for ($kv : @counts) { printf("%d %d\\n", $kv.0.1, $kv.1); }
    if (find(@counts, ("k", 1), $found)) { printf("%d\\n", $found); }
    printf("%d %d\\n", @counts["absent", 1], (int64)@maxs["absent"]);
}
""".replace("ALL", str(_ALL))


@pytest.fixture(scope="module")
def result(tmp_path_factory: pytest.TempPathFactory) -> Result:
    program = build("hits", tmp_path_factory.mktemp("cpus"))
    return run(_PROGRAM, command=[str(program), str(_COUNT), str(_CPUS)])


def _lost(result: Result) -> dict[str, int]:
    """How many updates of each time series got lost, as told.

    An emulated processor may be stopped for long while it claims an interval; what the others add then is lost.
    """
    told = re.findall(r"(\d+) updates? failed: (@(?:series|least|greatest|mean))\b", result.errors)
    return {name: max(int(count) for count, each in told if each == name) for _, name in told}


def _maps(result: Result) -> dict[str, Value]:
    """Each map's only value."""
    shown = [event for event in result.events if isinstance(event, MapSnapshot) and event.name != "@cpus"]
    return {event.name: event.entries[0][1] for event in shown}


def test_the_writers_were_on_different_processors(result: Result) -> None:
    (cpus,) = [event for event in result.events if isinstance(event, MapSnapshot) and event.name == "@cpus"]
    assert dict(cpus.entries) == {(cpu,): _COUNT for cpu in range(_CPUS)}


def test_a_program_reads_the_sum_over_all_processors(result: Result) -> None:
    assert [line for line in result.errors.splitlines() if not any(name in line for name in _lost(result))] == []
    assert result.text.split("\n\n\n")[0].splitlines() == [
        f"{_ALL} {_TOTAL} {_AVERAGE} -5 {_COUNT - 1}",
        f"{_ALL} {-_TOTAL} {-_AVERAGE}",
        "0 -7",
        "compared",
        f"k {-_TOTAL}",
        f"1 {_ALL}",
        str(_ALL),
        "0 0",
    ]


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("@count", _ALL),
        ("@counts", _ALL),
        ("@sum", _TOTAL),
        ("@sums", -_TOTAL),
        ("@avg", _AVERAGE),
        ("@avgs", -_AVERAGE),
        ("@min", -5),
        ("@mins", 0),
        ("@max", _COUNT - 1),
        ("@maxs", -7),
        ("@stats", StatsValue(_ALL, _AVERAGE, _TOTAL)),
        ("@all", StatsValue(_ALL, _AVERAGE, _TOTAL)),
        ("@cell", _ALL),
        ("@cells", _ALL),
        ("@down", 0),
    ],
)
def test_what_is_shown_is_exact(result: Result, name: str, value: Value) -> None:
    assert _maps(result)[name] == value


@pytest.mark.parametrize("name", ["@hist", "@hists", "@lhist", "@lhists"])
def test_histograms_count_every_value(result: Result, name: str) -> None:
    histogram = _maps(result)[name]
    assert isinstance(histogram, HistogramValue)
    assert histogram.total == _ALL
    for bucket in histogram.buckets:
        low, high = bucket.low or 0, _COUNT - 1 if bucket.high is None else min(bucket.high, _COUNT - 1)
        assert bucket.count == _CPUS * (high - low + 1)


def test_time_series_lose_nothing_between_their_intervals(result: Result) -> None:
    series = _maps(result)["@series"]
    assert isinstance(series, SeriesValue)
    assert sum(value or 0 for _, value in series.points) + _lost(result).get("@series", 0) == _ALL


@pytest.mark.parametrize(("name", "value"), [("@least", -3), ("@greatest", _COUNT - 1), ("@mean", _AVERAGE)])
def test_an_interval_is_reduced_over_all_processors(result: Result, name: str, value: int) -> None:
    series = _maps(result)[name]
    assert isinstance(series, SeriesValue)
    assert [point for _, point in series.points] == [value] or name in _lost(result)
