"""The manual of the language is complete, up to date, and shows what really comes of its examples."""

from __future__ import annotations

import re
import runpy
from pathlib import Path

import pytest

from fixture_target import FixtureTarget, probe_spec
from invivo.diagnostics import Code, CompileError, SourceFile
from invivo.library import FEATURE_PROBES
from invivo.pipeline import compile_source
from invivo.probes import providers
from invivo.probes.provider import Role
from invivo.rendering import format_diagnostic

_DOCS = Path(__file__).parents[2] / "docs"
_DIAGNOSTICS = _DOCS / "language" / "diagnostics.md"
_ENTRY = re.compile(
    r"### (?P<code>[a-z-]+)\n\n(?P<text>.+?)\n\n```\n(?P<program>.+?)\n```\n\n```\n(?P<shown>.+?)\n```\n", re.S
)
_ENTRIES = {match["code"]: match for match in _ENTRY.finditer(_DIAGNOSTICS.read_text(encoding="utf-8"))}


def _diagnostics(program: str) -> str:
    try:
        found = compile_source(SourceFile("script.bt", program), FixtureTarget()).warnings
    except CompileError as error:
        found = error.diagnostics
    return "\n".join(map(format_diagnostic, found))


def test_every_code_has_its_paragraph() -> None:
    headings = re.findall(r"^### (.+)$", _DIAGNOSTICS.read_text(encoding="utf-8"), re.MULTILINE)
    assert sorted(headings) == sorted(code.value for code in Code)
    assert sorted(_ENTRIES) == sorted(headings)


@pytest.mark.parametrize("code", _ENTRIES)
def test_example_of_a_diagnostic(code: str, request: pytest.FixtureRequest) -> None:
    entry = _ENTRIES[code]
    actual = _diagnostics(entry["program"])
    if request.config.getoption("--bless") and actual != entry["shown"]:
        written = _DIAGNOSTICS.read_text(encoding="utf-8")
        _DIAGNOSTICS.write_text(
            written.replace(entry[0], entry[0].replace(entry["shown"] + "\n```\n", f"{actual}\n```\n"))
        )
        return
    assert actual == entry["shown"]
    assert f"[{code}]" in actual


def test_the_reference_is_up_to_date() -> None:
    generate = runpy.run_path(str(_DOCS / "generate.py"))
    assert generate["reference"]() == generate["REFERENCE"].read_text(encoding="utf-8"), "run docs/generate.py"


_PROBES = {
    "begin": "begin",
    "bench": "bench:name",
    "end": "end",
    "fentry": "fentry:vfs_read",
    "fexit": "fexit:vfs_read",
    "hardware": "hardware:cycles:1000",
    "interval": "interval:s:1",
    "iter": "iter:task",
    "kprobe": "kprobe:vfs_read",
    "kretprobe": "kretprobe:vfs_read",
    "profile": "profile:hz:99",
    "rawtracepoint": "rawtracepoint:sched_switch",
    "self": "self:signal:SIGUSR1",
    "software": "software:page-faults:1",
    "test": "test:name",
    "tracepoint": "tracepoint:sched:sched_switch",
    "uprobe": "uprobe:/bin/demo:main",
    "usdt": "usdt:/bin/demo:mark",
    "watchpoint": "watchpoint:0x10000:8:w",
    "uretprobe": "uretprobe:/bin/demo:main",
}


def test_every_kind_of_probe_is_asked() -> None:
    assert sorted(_PROBES) == sorted(provider.name for provider in providers())


@pytest.mark.parametrize("provider", _PROBES)
def test_what_a_probe_has_is_what_hints_and_manual_say(provider: str) -> None:
    target = FixtureTarget(trial=Role(provider) if provider in ("test", "bench") else None)
    (plan,) = target.plan(target.expand(probe_spec(_PROBES[provider])), frozenset())
    said = {feature for feature, names in FEATURE_PROBES.items() if provider in names}
    assert plan.context.features - {"iter", "result"} == said
