"""``begin`` and ``end``: probes that the session itself runs, before the first event and after the last."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from invivo.kernel.links import Link
from invivo.kernel.programs import Program
from invivo.probes import names
from invivo.probes.provider import Facts, Listed, Provider, Role, canonical, malformed, wrong_number
from invivo.record import Record, replace
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


def _check_signal(spec: ProbeSpec) -> None:
    if len(spec.fields) != 2:
        raise wrong_number("self", "2", len(spec.fields))
    trigger, name = spec.fields
    if trigger != "signal":
        raise malformed(f"{trigger} is not a supported trigger", "self:signal:SIGUSR1")
    if name != "SIGUSR1":
        raise malformed(f"{name} is not a supported signal", "self:signal:SIGUSR1")


def _expand_signal(spec: ProbeSpec, facts: Facts) -> Sequence[AttachPoint]:
    return (AttachPoint("self", canonical("self", spec.fields), "", RunBySession()),)


def _plan_signal(points: Sequence[AttachPoint], uses: frozenset[str], facts: Facts) -> Sequence[Plan]:
    return [replace(plan_of("self"), points=(point,)) for point in points]


def _list_signal(pattern: tuple[str, ...], facts: Facts, verbose: bool) -> Iterator[Listed]:
    name = "signal:SIGUSR1"
    if names.matcher(":".join(pattern))(name) or names.matcher(pattern[-1])(name):
        yield Listed(canonical("self", (name,)))


SELF = Provider(
    name="self",
    aliases=(),
    role=Role.SIGNAL,
    doc="Runs when the tracer itself gets a signal.",
    syntax=("self:signal:SIGUSR1",),
    needs=(),
    check=_check_signal,
    expand=_expand_signal,
    plan=_plan_signal,
    attach=_attach,
    listing=_list_signal,
)


def _check_named(spec: ProbeSpec) -> None:
    if len(spec.fields) != 1 or not spec.fields[0]:
        raise wrong_number(spec.provider, "1", len(spec.fields))


def _plan_named(points: Sequence[AttachPoint], uses: frozenset[str], facts: Facts) -> Sequence[Plan]:
    context = Context("", ProgramType.RAW_TRACEPOINT, 0, scoped=False, features=frozenset({"result", "stacks"}))
    return [
        Plan((point,), replace(context, provider=point.provider), RunBySession(), cookies=False) for point in points
    ]


def _expand_named(spec: ProbeSpec, facts: Facts) -> Sequence[AttachPoint]:
    return (AttachPoint(spec.provider, canonical(spec.provider, spec.fields), "", RunBySession()),)


TEST = Provider(
    name="test",
    aliases=(),
    role=Role.TEST,
    doc="Runs once under --test; what it returns or exits with says whether the test has passed.",
    syntax=("test:NAME",),
    needs=(),
    check=_check_named,
    expand=_expand_named,
    plan=_plan_named,
    attach=_attach,
)

BENCH = Provider(
    name="bench",
    aliases=(),
    role=Role.BENCH,
    doc="Runs many times under --bench, to measure how long that takes.",
    syntax=("bench:NAME",),
    needs=(),
    check=_check_named,
    expand=_expand_named,
    plan=_plan_named,
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
