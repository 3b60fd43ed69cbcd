"""``iter``: runs once over all objects of a kind that the kernel keeps: tasks, their files, their mappings, maps."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from invivo.kernel import links
from invivo.kernel.links import Link
from invivo.kernel.programs import Program
from invivo.probes import names
from invivo.probes.perf_events import context_pointer
from invivo.probes.provider import Facts, Listed, Provider, Role, canonical, malformed, unavailable, wrong_number
from invivo.record import Record
from invivo.target import AttachPoint, Classic, Context, ContextLoad, Plan, ProbeSpec, ProgramType

# A kind of iterator NAME is a function bpf_iter_NAME in the kernel's BTF, whose argument is a struct bpf_iter__NAME.
_FUNCTION = "bpf_iter_"
_CONTEXT = "bpf_iter__"


class Iterated(Record):
    """An attach point's data: the kind of objects, and a name under ``/sys/fs/bpf`` to pin to."""

    kind: str
    pin: str


class Iterate(Record):
    """Attach description: the program knows by its BTF id where it belongs."""

    pin: str


def _check(spec: ProbeSpec) -> None:
    kind, *pin = spec.fields or ("",)
    if not kind:
        raise malformed("iter should specify an iterator", "iter:task")
    if len(pin) > 1:
        raise wrong_number("iter", "1 or 2", len(spec.fields))
    if names.is_wildcard(kind):
        hint = "`invivo list 'iter:*'` shows what there is"
        raise malformed("iter probes do not take wildcards", hint, "iter probe type does not support wildcards")


def _expand(spec: ProbeSpec, facts: Facts) -> Sequence[AttachPoint]:
    kind, pin = spec.fields[0], spec.fields[1] if len(spec.fields) == 2 else ""
    if not _is_there(kind, facts):
        probe = canonical("iter", spec.fields)
        hint = names.did_you_mean(kind, _kinds(facts))
        said = f"iter {kind} not available for your kernel version."
        raise unavailable(probe, said, hint, Classic(said))
    return (AttachPoint("iter", canonical("iter", (kind,)), "", Iterated(kind, pin)),)


def _is_there(kind: str, facts: Facts) -> bool:
    types = facts.types()
    return types.has_function(_FUNCTION + kind) and types.struct("struct", _CONTEXT + kind) is not None


def _kinds(facts: Facts) -> list[str]:
    found = (name.removeprefix(_FUNCTION) for name in facts.types().function_names(_FUNCTION))
    return sorted(kind for kind in found if _is_there(kind, facts))


def _plan(points: Sequence[AttachPoint], uses: frozenset[str], facts: Facts) -> Sequence[Plan]:
    return [_plan_of(point, facts) for point in points]


def _plan_of(point: AttachPoint, facts: Facts) -> Plan:
    assert isinstance(point.data, Iterated)
    kind = point.data.kind
    attach_id = facts.types().function_id(_FUNCTION + kind)
    assert attach_id is not None
    context = Context(
        "iter",
        ProgramType.TRACING_ITER,
        attach_id,
        scoped=False,  # it runs in invivo's own process
        features=frozenset({"ctx", "iter", "path", "tracing"} | ({"pinned"} if point.data.pin else set())),
        context_type=context_pointer(_CONTEXT + kind, facts),
        btf_pointers=True,
        # Behind `meta`. The last call is without an object, so that a program could write a summary.
        object=ContextLoad(8, 8),
    )
    return Plan((point,), context, Iterate(point.data.pin), cookies=False)


def _attach(plan: Plan, program: Program, pid: int | None) -> list[Link]:
    assert isinstance(plan.attach, Iterate)
    link = links.iterator(program)
    if plan.attach.pin:
        try:
            links.pin(link, place_of(plan.attach.pin))
        except BaseException:
            link.close()
            raise
    return [link]


def place_of(pin: str) -> str:
    """Return the path to which an iterator is pinned: under ``/sys/fs/bpf`` unless it is absolute."""
    return pin if pin.startswith("/") else f"/sys/fs/bpf/{pin}"


def pinned(plan: Plan) -> str:
    """Return the path to which the program of a plan is pinned, empty if it is not."""
    return place_of(plan.attach.pin) if isinstance(plan.attach, Iterate) and plan.attach.pin else ""


def _listing(pattern: tuple[str, ...], facts: Facts, verbose: bool) -> Iterator[Listed]:
    name, *others = pattern
    if others:
        return
    for kind in filter(names.matcher(name), _kinds(facts)):
        yield Listed(canonical("iter", (kind,)), _parameters(kind, facts) if verbose else ())


def _parameters(kind: str, facts: Facts) -> tuple[tuple[str, str], ...]:
    """Return what is in the context; ``meta``, which all have, is left out."""
    types = facts.types()
    prototype = types.function(_FUNCTION + kind)
    parameters = () if prototype is None else prototype.parameters
    return tuple((types.spelling(type_id), name) for name, type_id in parameters if name != "meta")


ITER = Provider(
    name="iter",
    aliases=("it",),
    role=Role.ITERATOR,
    doc="Runs once for each object of a kind that the kernel keeps; with a name, whenever the file of this name under "
    "/sys/fs/bpf is read, which stays until it is removed.",
    syntax=("iter:KIND", "iter:KIND:PIN"),
    needs=("CAP_PERFMON", "BTF"),
    check=_check,
    expand=_expand,
    plan=_plan,
    attach=_attach,
    listing=_listing,
)
