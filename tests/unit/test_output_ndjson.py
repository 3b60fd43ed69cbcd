"""``-f ndjson``: every line is what the schema in docs/events.md says, and the values keep their types."""

from __future__ import annotations

import io
import json
import re
from pathlib import Path
from typing import cast

import pytest

from invivo.events import (
    Address,
    Attached,
    Bucket,
    Complaint,
    Ended,
    EnumValue,
    Event,
    Frame,
    HistogramValue,
    Loss,
    MapSnapshot,
    MapValue,
    Output,
    Printed,
    Row,
    SeriesValue,
    Stack,
    StatsValue,
    Symbol,
    Text,
    Value,
)
from invivo.ir.layout import LossKind
from invivo.ir.types import StackMode
from invivo.output.ndjson import json_value
from invivo.output.outputs import SinkOptions, open_sink
from invivo.output.sink import Dialect, Header

DOCUMENT = (Path(__file__).parents[2] / "docs" / "events.md").read_text()
Json = dict[str, object]


def schema() -> Json:
    found = re.search(r"```json\n(.*?)```", DOCUMENT, re.DOTALL)
    assert found is not None
    return cast(Json, json.loads(found[1]))


SCHEMA = schema()
TYPES: dict[str, type | tuple[type, ...]] = {
    "object": dict,
    "array": list,
    "string": str,
    "integer": int,
    "boolean": bool,
    "null": type(None),
}


def fits(value: object, rule: Json) -> bool:
    """Whether a value is what a rule of the schema says. Unknown words in a rule are an error."""
    assert rule.keys() <= {
        "$ref",
        "anyOf",
        "type",
        "const",
        "enum",
        "pattern",
        "properties",
        "required",
        "items",
        "values",
    }
    if "$ref" in rule:
        return fits(value, cast(dict[str, Json], SCHEMA["$defs"])[cast(str, rule["$ref"])])
    if "anyOf" in rule:
        return any(fits(value, each) for each in cast(list[Json], rule["anyOf"]))
    if "const" in rule:
        return value == rule["const"] and type(value) is type(rule["const"])
    if "enum" in rule:
        return value in cast(list[object], rule["enum"])
    kind = cast(str, rule["type"])
    if not isinstance(value, TYPES[kind]) or (isinstance(value, bool) and kind == "integer"):
        return False
    if isinstance(value, str):
        return re.search(cast(str, rule.get("pattern", "")), value) is not None
    if isinstance(value, list):
        return all(fits(each, cast(Json, rule["items"])) for each in value)
    if isinstance(value, dict):
        return fits_object(value, rule)
    return True


def fits_object(value: Json, rule: Json) -> bool:
    if "values" in rule:
        return all(fits(each, cast(Json, rule["values"])) for each in value.values())
    properties = cast(dict[str, Json], rule["properties"])
    return (
        value.keys() <= properties.keys()
        and set(cast(list[str], rule["required"])) <= value.keys()
        and all(fits(each, properties[name]) for name, each in value.items())
    )


def check(line: Json) -> None:
    members = dict(line)
    kind = cast(str, members.pop("type"))
    described = cast(dict[str, dict[str, Json]], SCHEMA["events"])[kind]
    rules = {name.removesuffix("?"): rule for name, rule in described.items()}
    required = {name for name in described if not name.endswith("?")}
    assert required <= members.keys() <= rules.keys(), f"{kind}: {sorted(members)}"
    for name, value in members.items():
        assert fits(value, rules[name]), f"{kind}.{name}: {value}"


def lines(*events: Event) -> list[Json]:
    out = io.BytesIO()
    header = Header("0.1", "6.18", (("stdin", 'BEGIN { printf("x") }'),), ("invivo", "run", "\udcff"))
    sink = open_sink("ndjson", out, io.BytesIO(), Dialect.INVIVO, SinkOptions(header=header))
    for event in events:
        sink.event(event)
    sink.close()
    return [cast(Json, json.loads(line)) for line in out.getvalue().decode().splitlines()]


STACK = Stack(False, StackMode.BPFTRACE, (Frame(0x7F, "main", 4, "/bin/x"), Frame(0x80, "", 0, "")))
HISTOGRAM = HistogramValue((Bucket(None, 9, 1), Bucket(10, None, 2)), 10, 3)

VALUES: list[tuple[str, Value, object]] = [
    ("int", 5, 5),
    ("large", (1 << 64) - 1, "18446744073709551615"),
    ("bool", True, True),
    ("none", None, None),
    ("string", "grüße\n", "grüße\n"),
    ("not-utf8", "a\udcff", {"b64": "Yf8="}),
    ("cut", Text("ab"), {"text": "ab", "truncated": True}),
    ("bytes", b"\x00\xff", {"b64": "AP8="}),
    ("list", [1, "a"], [1, "a"]),
    ("tuple", (1, (2, 3)), [1, [2, 3]]),
    ("struct", {"a": 1, "b": {"c": b""}}, {"struct": {"a": 1, "b": {"struct": {"c": {"b64": ""}}}}}),
    ("enum", EnumValue(2, "TWO"), {"enum": "TWO", "value": 2}),
    ("enum-unknown", EnumValue(2, None), {"enum": None, "value": 2}),
    ("pointer", Address(255), {"address": "0xff"}),
    ("symbol", Symbol(255, "f"), {"address": "0xff", "symbol": "f"}),
    (
        "stack",
        STACK,
        {
            "stack": "user",
            "frames": [
                {"address": "0x7f", "symbol": "main", "offset": 4, "module": "/bin/x"},
                {"address": "0x80", "symbol": "", "offset": 0, "module": ""},
            ],
        },
    ),
    ("stats", StatsValue(1, 2, 3), {"count": 1, "average": 2, "total": 3}),
    (
        "histogram",
        HISTOGRAM,
        {
            "step": 10,
            "total": 3,
            "buckets": [{"min": None, "max": 9, "count": 1}, {"min": 10, "max": None, "count": 2}],
        },
    ),
    (
        "series",
        SeriesValue(10, ((5, 1), (15, None))),
        {"interval_ns": 10, "points": [{"start_ns": "5", "value": 1}, {"start_ns": "15", "value": None}]},
    ),
]


@pytest.mark.parametrize(("value", "expected"), [row[1:] for row in VALUES], ids=[row[0] for row in VALUES])
def test_values_keep_their_types(value: Value, expected: object) -> None:
    assert json.loads(json_value(value)) == expected
    check(lines(Row(value))[1])


def test_every_kind_of_event_fits_the_schema() -> None:
    everything = tuple(value for _, value, _ in VALUES)
    events: tuple[Event, ...] = (
        Attached(3),
        Printed("a\udcffb", everything, incomplete=True),
        Row(1, incomplete=True),
        MapSnapshot("@", "hist", True, ((None, HISTOGRAM),)),
        MapSnapshot("@m", "map", False, (((1, STACK), 2),), at_end=True),
        MapValue("@m", ("k",), 3),
        MapValue("@x", None, 3),
        Output("time", "12:00\n"),
        Complaint("WARNING", "m", "stdin", 1, 2, "map_update_elem", -7),
        Complaint("ERROR", "m", "stdin", 1, 2),
        Loss(LossKind.MAP_FULL.value, "@m", 1, 2),
        Ended("signal", 0, ((LossKind.MAP_FULL.value, "@m", 2),)),
    )
    found = lines(*events)
    for line in found:
        check(line)
    assert [line["type"] for line in found] == [
        *("header", "attached", "printf", "value", "map", "map", "map_value", "map_value", "output"),
        *("complaint", "complaint", "loss", "end"),
    ]
    assert found[0]["sources"] == [{"name": "stdin", "text": 'BEGIN { printf("x") }'}]
    assert found[0]["arguments"] == ["invivo", "run", {"b64": "/w=="}]
    assert found[4]["entries"] == [{"key": None, "value": json.loads(json_value(HISTOGRAM))}]
    assert found[-1] == {
        "type": "end",
        "reason": "signal",
        "status": 0,
        "losses": [{"kind": "map-full", "subject": "@m", "count": 2}],
        "counts": {
            "attached": 1,
            "printf": 1,
            "value": 1,
            "map": 2,
            "map_value": 2,
            "output": 1,
            "complaint": 2,
            "loss": 1,
        },
    }


def test_the_documentation_names_every_type_and_loss() -> None:
    assert set(re.findall(r"^\| `(\w+)` \|", DOCUMENT, re.MULTILINE)) == {"type", *cast(Json, SCHEMA["events"])}
    for kind in LossKind:
        assert f"`{kind.value}`" in DOCUMENT


@pytest.mark.parametrize(
    "line",
    [
        {"type": "attached", "probes": "3"},
        {"type": "attached"},
        {"type": "attached", "probes": 1, "more": 1},
        {"type": "value", "value": {"nonsense": 1}},
        {"type": "value", "value": 1.5},
        {"type": "map_value", "name": "@", "key": 1, "value": 1},
    ],
    ids=str,
)
def test_the_check_itself_refuses(line: Json) -> None:
    with pytest.raises(AssertionError):
        check(line)
