"""``begin`` and ``end``: probes that the session itself runs, before the first event and after the last."""

from __future__ import annotations

from collections.abc import Sequence

from invivo.kernel.links import Link
from invivo.kernel.programs import Program
from invivo.probes.provider import Facts, Provider, Role, malformed
from invivo.record import Record
from invivo.target import AttachPoint, Context, Plan, ProbeSpec, ProgramType


class RunBySession(Record):
    """Data and attach description of these probes: nothing to say."""


def _check(spec: ProbeSpec) -> None:
    if spec.fields not in ((), ("*",), ("",)):
        raise malformed("begin/end probes should not have a target")


def _expand(spec: ProbeSpec, facts: Facts) -> Sequence[AttachPoint]:
    return (AttachPoint(spec.provider, spec.provider, "", RunBySession()),)


def plan_of(provider: str) -> Plan:
    """Return how a program of ours is run once by BPF_PROG_TEST_RUN: a raw tracepoint that is never attached.

    Raw tracepoint programs can be run so since Linux 5.10.
    """
    context = Context(provider, ProgramType.RAW_TRACEPOINT, 0, scoped=False, features=frozenset({"stacks"}))
    return Plan((AttachPoint(provider, provider, "", RunBySession()),), context, RunBySession(), cookies=False)


def _plan(points: Sequence[AttachPoint], uses: frozenset[str], facts: Facts) -> Sequence[Plan]:
    return [plan_of(point.provider) for point in points]


def _attach(plan: Plan, program: Program, pid: int | None) -> list[Link]:
    return []


BEGIN = Provider(
    name="begin",
    aliases=(),
    role=Role.BEGIN,
    doc="Runs once, when everything is attached and before the first event is shown.",
    syntax=("begin",),
    needs=(),
    check=_check,
    expand=_expand,
    plan=_plan,
    attach=_attach,
)

END = Provider(
    name="end",
    aliases=(),
    role=Role.END,
    doc="Runs once, when everything has been detached.",
    syntax=("end",),
    needs=(),
    check=_check,
    expand=_expand,
    plan=_plan,
    attach=_attach,
)
