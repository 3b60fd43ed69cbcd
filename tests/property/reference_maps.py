"""Maps of the reference interpreter: elements, aggregations, the order they are shown in."""

from __future__ import annotations

from invivo.ir import types as t
from invivo.ir.types import Type
from invivo.lang.check.model import MapInfo
from property.reference_values import UnspecifiedError, Value, bucket_of, buckets, convert, frozen, quotient, wrap, zero

AGGREGATIONS = frozenset(["count", "sum", "avg", "stats", "min", "max", "hist", "lhist", "tseries"])

Key = tuple[Value, ...] | None


class State:
    """What an aggregation keeps for one key."""

    def __init__(self) -> None:
        self.total = 0
        self.count = 0
        self.extreme: int | None = None
        self.buckets: dict[int, int] = {}


class Store:
    """One map of the script. A scalar map has one element, with the key None, from the beginning."""

    def __init__(self, info: MapInfo) -> None:
        assert info.value is not None
        self.info = info
        self.type: Type = info.value
        self.aggregates = t.is_aggregation(info.value)
        self.elements: dict[object, tuple[Key, Value]] = {}
        self.states: dict[object, State] = {}
        self.written = False  # for a scalar map

    @property
    def scalar(self) -> bool:
        return self.info.scalar is not False

    # -- elements ------------------------------------------------------------------------------

    def read(self, key: Key) -> Value:
        if self.aggregates:
            return self._reduced(self.states.get(_frozen(key)) or State())
        found = self.elements.get(_frozen(key))
        return zero(self.type) if found is None else found[1]

    def write(self, key: Key, value: Value) -> Value:
        self.written = True
        stored = convert(value, self.type)
        self.elements[_frozen(key)] = (key, stored)
        return stored

    def has(self, key: Key) -> bool:
        return self.written if self.scalar else _frozen(key) in self.elements

    def delete(self, key: Key) -> bool:
        found = self.has(key)
        self.elements.pop(_frozen(key), None)
        self.states.pop(_frozen(key), None)
        self.written = False
        return found

    def all_keys(self) -> list[tuple[Value, ...]]:
        return [key for key, _ in self.elements.values() if key is not None]

    def clear(self) -> None:
        self.elements.clear()
        self.states.clear()
        self.written = False

    def zero(self) -> None:
        self.states = {}
        self.elements = {key: (shown, zero(self.type)) for key, (shown, _) in self.elements.items()}
        self.written = True

    # -- aggregations --------------------------------------------------------------------------

    def aggregate(self, key: Key, arguments: list[Value], signed: bool) -> None:
        """Add a value; ``signed`` says of which kind the argument is."""
        self.written = True
        self.elements.setdefault(_frozen(key), (key, 0))
        state = self.states.setdefault(_frozen(key), State())
        state.count += 1
        if not arguments:
            return
        value = arguments[0]
        assert isinstance(value, int)
        match self.type:
            case t.Sum(wide) | t.Average(wide) | t.Stats(wide):
                state.total = wrap(state.total + value, 64, signed=wide)
            case t.Minimum(wide):
                number = wrap(value, 64, signed=wide)
                state.extreme = number if state.extreme is None else min(state.extreme, number)
            case t.Maximum(wide):
                number = wrap(value, 64, signed=wide)
                state.extreme = number if state.extreme is None else max(state.extreme, number)
            case t.Histogram() | t.LinearHistogram() as shape:
                bucket = bucket_of(shape, wrap(value, 64, signed=True))
                state.buckets[bucket] = state.buckets.get(bucket, 0) + 1
            case t.TimeSeries(wide) as shape:
                state.total = _in_interval(shape.reduce, state, wrap(value, 64, signed=wide), signed=wide)
            case _:
                raise AssertionError(self.type)

    def _reduced(self, state: State) -> int:
        match self.type:
            case t.Count():
                return state.count
            case t.Sum():
                return state.total
            case t.Average() | t.Stats():
                return quotient(state.total, state.count) if state.count else 0
            case t.Minimum() | t.Maximum():
                return state.extreme or 0
            case _:
                raise AssertionError(self.type)

    # -- showing -------------------------------------------------------------------------------

    def shown(self, top: int = 0, divisor: int = 0) -> list[tuple[object, object]]:
        """All elements in display order: numbers by value, then by key; all others by key.

        Buffers in keys have no order: who compares sorts what is shown.
        """
        if self.scalar:
            return [(None, self._shown(None, divisor))]
        elements = list(self.elements.values())
        elements.sort(key=lambda element: (self._weight(element[0]), _rank(element[0] or ())))
        if top and any(isinstance(part, bytes) for key, _ in elements for part in key or ()):
            raise UnspecifiedError("the order of keys that have none")
        return [(frozen(key or ()), self._shown(key, divisor)) for key, _ in elements[-top:]]

    def _weight(self, key: Key) -> int:
        state = self.states.get(_frozen(key)) or State()
        match self.type:
            case t.Count() | t.Sum() | t.Average() | t.Stats() | t.Minimum() | t.Maximum():
                return self._reduced(state)
            case t.Histogram() | t.LinearHistogram():
                return sum(state.buckets.values())
            case t.TimeSeries():
                return min(state.count, 1)  # all generated ones are in the same interval
            case t.Int() | t.Enumeration():
                value = self.read(key)
                assert isinstance(value, int)
                return value
            case _:
                return 0

    def _shown(self, key: Key, divisor: int) -> object:
        state = self.states.get(_frozen(key)) or State()
        divisor = max(divisor, 1)
        match self.type:
            case t.Stats():
                return ("stats", state.count, quotient(self._reduced(state), divisor), state.total)
            case t.Histogram() | t.LinearHistogram() as shape:
                return ("hist", _bars(shape, state.buckets, divisor if isinstance(shape, t.Histogram) else 1))
            case t.TimeSeries() as shape:
                if not state.count:
                    return ("series",)
                last = quotient(state.total, state.count) if shape.reduce == "avg" else state.total
                return ("series", quotient(last, divisor))
            case t.Bool():
                return frozen(self.read(key))
            case _:
                value = self.read(key)
                return quotient(value, divisor) if isinstance(value, int) else frozen(value)


def _in_interval(reduce: str, state: State, value: int, *, signed: bool) -> int:
    """What an interval keeps after one more value; ``state.count`` counts it already."""
    if reduce in ("sum", "avg"):
        return wrap(state.total + value, 64, signed=signed)
    if state.count == 1 or reduce == "last":
        return value
    return min(state.total, value) if reduce == "min" else max(state.total, value)


def _bars(
    shape: t.Histogram | t.LinearHistogram, counts: dict[int, int], divisor: int
) -> tuple[tuple[int | None, int | None, int], ...]:
    """The buckets from the first used one to the last."""
    if not counts:
        return ()
    first, last = min(counts), max(counts)
    return tuple(
        (low, high, counts.get(index, 0) // divisor)
        for index, (low, high) in enumerate(buckets(shape))
        if first <= index <= last
    )


def _frozen(key: Key) -> object:
    return None if key is None else frozen(key)


def _rank(value: Value) -> tuple[object, ...]:
    """What elements are sorted by: integers as signed numbers, strings by their bytes, part by part."""
    match value:
        case tuple() | list():
            return tuple(rank for part in value for rank in _rank(part))
        case dict():
            return tuple(rank for part in value.values() for rank in _rank(part))
        case int():
            return (wrap(int(value), 64, signed=True),)
        case str():
            return (value,)
        case _:
            return ()
