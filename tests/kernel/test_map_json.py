"""Maps as JSON messages, in the neighbour's shapes, from programs that ran."""

from __future__ import annotations

import json
import re
from io import BytesIO

import pytest

from invivo.output.outputs import SinkOptions, open_sink
from invivo.output.sink import Dialect
from running import session

CASES = [
    ("@m = 5;", '{"type": "map", "data": {"@m": 5}}'),
    ("@m = 18446744073709551615;", '{"type": "map", "data": {"@m": "18446744073709551615"}}'),
    ("@m = count();", '{"type": "map", "data": {"@m": 1}}'),
    ("@m = sum(-5);", '{"type": "map", "data": {"@m": -5}}'),
    ("@m = min(3);", '{"type": "map", "data": {"@m": 3}}'),
    ("@m = avg(5);", '{"type": "stats", "data": {"@m": 5}}'),
    ("@m[1] = avg(3);", '{"type": "stats", "data": {"@m": {"1": 3}}}'),
    ("@m = stats(3);", '{"type": "stats", "data": {"@m": {"count": 1, "average": 3, "total": 3}}}'),
    ('@m["x", 1] = count();', '{"type": "map", "data": {"@m": {"x,1": 1}}}'),
    ('@m[(1, "a")] = (1, "b");', '{"type": "map", "data": {"@m": {"1,a": [1,"b"]}}}'),
    ("@m[2] = true; @m[-1] = false;", '{"type": "map", "data": {"@m": {"-1": false, "2": true}}}'),
    ("@m = hist(5); @m = hist(-1);", None),
    ("@m = hist(5);", '{"type": "hist", "data": {"@m": [{"min": 4, "max": 7, "count": 1}]}}'),
    (
        "@m[1] = hist(1); @m[1] = hist(2);",
        '{"type": "hist", "data": {"@m": {"1": [{"min": 1, "max": 1, "count": 1},{"min": 2, "max": 3, "count": 1}]}}}',
    ),
    (
        "@m = lhist(-1, 0, 2, 1); @m = lhist(7, 0, 2, 1);",
        '{"type": "hist", "data": {"@m": [{"max": -1, "count": 1},{"min": 0, "max": 0, "count": 0},'
        '{"min": 1, "max": 1, "count": 0},{"min": 2, "count": 1}]}}',
    ),
    ("@m[1] = 1; clear(@m);", ""),
    ("@m = 1; clear(@m);", '{"type": "map", "data": {"@m": 0}}'),
]


def _shown(program: str) -> str:
    out = BytesIO()
    with session(program, bpftrace=True) as opened:
        sink = open_sink("json", out, BytesIO(), Dialect.BPFTRACE, SinkOptions(quiet=True))
        for event in opened:
            sink.event(event)
        sink.close()
    return out.getvalue().decode().rstrip("\n")


@pytest.mark.parametrize(("body", "message"), CASES, ids=[body for body, _ in CASES])
def test_a_map(body: str, message: str | None) -> None:
    shown = _shown(f"BEGIN {{ {body} }}")
    if message is None:
        data = json.loads(shown)["data"]["@m"]
        assert data[0] == {"max": -1, "count": 1}
        assert data[-1] == {"min": 4, "max": 7, "count": 1}
    else:
        assert shown == message


@pytest.mark.parametrize(("key", "before", "after"), [("", "", ""), ('["x"]', '{"x": ', "}")])
def test_a_time_series(key: str, before: str, after: str) -> None:
    shown = _shown(f"BEGIN {{ @m{key} = tseries(5, 100ms, 3); }}")
    point = r'\{"interval_start":"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d00000000","value":5\}'
    assert re.fullmatch(
        rf'\{{"type": "tseries", "data": \{{"@m": {re.escape(before)}\[{point}\]{after}\}}\}}', shown
    ), shown


def test_an_element_and_an_empty_series() -> None:
    assert _shown('BEGIN { @m["x", 1] = 7; print(@m["x", 1]); clear(@m); }') == (
        '{"type": "map", "data": {"@m": {"x,1": 7}}}'
    )
    assert _shown("BEGIN { @m = tseries(5, 1s, 3); clear(@m); }") == '{"type": "tseries", "data": {"@m": []}}'
