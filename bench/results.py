"""Reading what contenders counted. Anything that is not there or not of its shape counts as 0: a wrong result."""

from __future__ import annotations

from collections.abc import Mapping

OFFSETS = 1024  # the load's are 0 to 1023, again and again


def entry(maps: Mapping[str, object], name: str, key: str | None = None) -> int:
    """The number in a map, or under one key of it."""
    value = maps.get(name)
    if key is not None:
        value = value.get(key) if isinstance(value, dict) else None
    return value if isinstance(value, int) else 0


def hits_in_histogram(maps: Mapping[str, object], expected: Mapping[int, int], key: str | None = None) -> int:
    """How many hits stand in the bucket where they belong; ``expected``: lower bound of a bucket → count."""
    value = maps.get("@")
    if key is not None:
        value = value.get(key) if isinstance(value, dict) else None
    if not isinstance(value, list):
        return 0
    found = {bucket.get("min"): bucket.get("count", 0) for bucket in value if isinstance(bucket, dict)}
    return sum(min(count, int(found.get(lower, 0))) for lower, count in expected.items())


def all_in_histogram(maps: Mapping[str, object]) -> int:
    """How many hits a histogram has, wherever they stand."""
    value = maps.get("@")
    if not isinstance(value, list):
        return 0
    return sum(int(bucket.get("count", 0)) for bucket in value if isinstance(bucket, dict))


def all_in_series(maps: Mapping[str, object]) -> int:
    """The sum of the intervals of a time series."""
    value = maps.get("@")
    if not isinstance(value, list):
        return 0
    return sum(int(point.get("value", 0)) for point in value if isinstance(point, dict))


def offsets_added(calls: int) -> int:
    """The sum of the load's offsets."""
    return sum(offset * len(range(offset, calls, OFFSETS)) for offset in range(OFFSETS))


def equal_steps(calls: int, step: int) -> dict[int, int]:
    """The linear histogram of the load's offsets."""
    buckets: dict[int, int] = {}
    for offset in range(OFFSETS):
        lower = offset // step * step
        buckets[lower] = buckets.get(lower, 0) + len(range(offset, calls, OFFSETS))
    return buckets


def powers_of_two(calls: int) -> dict[int, int]:
    """The histogram of the load's offsets."""
    buckets: dict[int, int] = {}
    for offset in range(OFFSETS):
        lower = 1 << offset.bit_length() - 1 if offset else 0
        buckets[lower] = buckets.get(lower, 0) + len(range(offset, calls, OFFSETS))
    return buckets
