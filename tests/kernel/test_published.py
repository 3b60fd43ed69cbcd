"""Scripts as they have been published since 2018, in their spelling, compile without complaint.

``published.txt`` has one in each paragraph.  Kernel functions that are probed are taken to be there,
since no kernel has them all; types, tracepoints and users' functions are this machine's.
"""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from invivo.diagnostics import CompileError, Diagnostic, SourceFile
from invivo.pipeline import CompileOptions, compile_source
from invivo.probes.facts import LiveFacts
from invivo.probes.machine import Machine
from invivo.probes.provider import VMLINUX
from running import run

_SCRIPTS = (Path(__file__).parent / "published.txt").read_text().strip("\n").split("\n\n")
_TOOLS = sorted(Path("/usr/sbin").glob("*.bt"))  # of Debian's package bpftrace
_KPROBES = frozenset({"kprobe", "kprobe_multi", "fentry"})
# What the neighbour says as well, since times that passed are signed.
_EXPECTED = "signed operands for '/'|signed operands for '%'|Unnecessary cast"
# Tools of version 0.17 that today's language or kernel refuses, and how.
_REFUSED = {
    # since Linux 6.15
    "runqlen.bt": r"Struct/union of type 'struct cfs_rq' does not contain a field named 'nr_running'",
    "tcpconnect.bt": r"Undefined or undeclared variable: \$[sd]addr",
    "tcpdrop.bt": r"Undefined or undeclared variable: \$[sd]addr",
    "loads.bt": r"Failed to resolve kernel symbol: avenrun",  # without CONFIG_KALLSYMS_ALL
}


class _Pretended(LiveFacts):
    """This machine, as if it had every kernel function that somebody asks for."""

    def has(self, feature: str) -> bool:
        return feature in _KPROBES or super().has(feature)

    def functions(self, module: str, pattern: str) -> list[tuple[str, str]]:
        return [(pattern.replace("*", "any"), VMLINUX)]

    def kernel_address(self, symbol: str) -> int | None:
        return super().kernel_address(symbol) or (0xFFFFFFFF81000000 if symbol != "avenrun" else None)


def _complaints(name: str, text: str) -> list[Diagnostic]:
    environment = {"BPFTRACE_MISSING_PROBES": "ignore"}  # users' libraries do without some functions
    options = CompileOptions(bpftrace=True, environment=environment)
    with Machine(facts=_Pretended()) as machine:
        try:
            found = compile_source(SourceFile(name, text), machine, options).warnings
        except CompileError as refused:
            found = refused.diagnostics
    return [each for each in found if not re.match(_EXPECTED, each.message)]


@pytest.mark.parametrize("script", _SCRIPTS, ids=[str(number) for number, _ in enumerate(_SCRIPTS)])
def test_published_script(script: str) -> None:
    assert [each.message for each in _complaints("stdin", script)] == []


@pytest.mark.skipif(not _TOOLS, reason="the package bpftrace, whose tools these are, is not installed")
@pytest.mark.parametrize("tool", _TOOLS, ids=lambda tool: str(tool.name))
def test_tool_of_the_package(tool: Path) -> None:
    known = _REFUSED.get(tool.name, "(?!)")
    assert [
        each.message for each in _complaints(tool.name, tool.read_text()) if not re.match(known, each.message)
    ] == []


@pytest.mark.parametrize(
    ("tool", "expected"),
    [
        ("execsnoop", r"TIME\(ms\) +PID +ARGS\n\d+ +\d+ +sh -c exec cat /etc/hostname\n\d+ +\d+ +cat /etc/hostname\n"),
        ("opensnoop", r"(?s).*\d+ +cat +\d+ +0 /etc/hostname\n"),
        ("syscount", r"(?s).*Top 10 syscalls IDs:\n@syscall\[\d+\]: \d+\n.*@process\[cat\]: \d+\n"),
        ("statsnoop", r"(?s).*PID +COMM +ERR PATH\n"),
        ("killsnoop", r"(?s).*TIME +PID +COMM +SIG +TPID +RESULT\n"),
        ("pidpersec", r"(?s)Tracing new processes.*"),
    ],
)
def test_tool_runs(tool: str, expected: str) -> None:
    path = Path(f"/usr/sbin/{tool}.bt")
    if not path.exists():
        pytest.skip("the package bpftrace, whose tools these are, is not installed")
    result = run(path.read_text(), command=["sh", "-c", "exec cat /etc/hostname"])
    assert re.match(expected, result.text), result.text
    assert result.errors == ""
