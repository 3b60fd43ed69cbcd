"""How findings are shown, and what they mean for the exit status."""

from __future__ import annotations

import json

from invivo.cli.doctor import MISSING, NOTE, OK, Finding, as_json, as_text, can_work

WORKS = [
    Finding("system", "kernel", OK, "6.18.0", needed=True),
    Finding("features", "kprobe", NOTE, "probes at kernel functions", "in Linux since 2.6, if it was built with it"),
]
FAILS = [*WORKS, Finding("tried", "load a program", MISSING, "no permission", "run it as root", True, ("CAP_BPF",))]


def test_a_note_does_not_matter_and_something_missing_does() -> None:
    assert can_work(WORKS)
    assert not can_work(FAILS)
    assert can_work([Finding("tried", "perf", MISSING, needed=False)])


def test_text() -> None:
    assert as_text(FAILS) == (
        "System\n"
        "  ok      kernel                              6.18.0\n"
        "\n"
        "Features of the kernel\n"
        "  -       kprobe                              probes at kernel functions\n"
        "          in Linux since 2.6, if it was built with it\n"
        "\n"
        "Tried\n"
        "  MISSING load a program                      no permission\n"
        "          run it as root\n"
        "          needs CAP_BPF\n"
        "\n"
        "Tracing does not work here; missing: load a program.\n"
    )


def test_json() -> None:
    report = json.loads(as_json(FAILS))
    assert report["works"] is False
    assert report["findings"][2] == {
        "area": "tried",
        "name": "load a program",
        "verdict": "missing",
        "value": "no permission",
        "advice": "run it as root",
        "needed": True,
        "needs": ["CAP_BPF"],
    }
