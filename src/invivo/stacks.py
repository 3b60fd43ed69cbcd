"""Weighted stacks: what a profile is, whatever recorded it and however it is shown."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

from invivo.enums import Enum
from invivo.record import Record

_LONGEST_NAME = 4096  # characters; what is longer was made to hurt, and its beginning says enough


class FrameKind(Enum):
    """What a frame is code of. ``PROCESS``: not code, but whose stack it is; ``NOTE``: a word about the stack."""

    USER = "user"
    KERNEL = "kernel"
    INLINED = "inlined"
    JIT = "jit"
    PYTHON = "python"
    PROCESS = "process"
    WAKER = "waker"
    NOTE = "note"


class Function(Record):
    """What frames are merged by. ``module``: the path of the file it is in, "" if that is not known."""

    name: str
    kind: FrameKind
    module: str = ""


TRUNCATED = Function("[truncated]", FrameKind.NOTE)
SEPARATOR = Function("--", FrameKind.NOTE)


class Quality(Record):
    """How far a profile is to be trusted; weights as in the profile, except for ``lost``: events.

    ``truncated``: of stacks that do not reach the start of their thread. ``unnamed``: of stacks with a frame
    that has no name. None where that is not known. ``remarks``: what else there is to say.
    """

    truncated: float | None = None
    unnamed: float | None = None
    lost: int = 0
    remarks: tuple[str, ...] = ()


class Profile(Record):
    """Stacks and their weights in ``unit`` ("samples", "us", "bytes" ...).

    A stack is a tuple of indices into ``functions``, outermost first.
    """

    functions: tuple[Function, ...]
    stacks: tuple[tuple[tuple[int, ...], float], ...]
    unit: str = "samples"
    quality: Quality = Quality()

    @property
    def total(self) -> float:
        return sum(weight for _, weight in self.stacks)


class ProfileBuilder:
    """Collects stacks; equal ones are added up."""

    def __init__(self, unit: str = "samples") -> None:
        self.unit = unit
        self._functions: list[Function] = []
        self._indices: dict[tuple[str, FrameKind, str], int] = {}
        self._stacks: dict[tuple[int, ...], float] = {}

    def index(self, name: str, kind: FrameKind, module: str = "") -> int:
        """Return the index of a function, for `add`."""
        key = name, kind, module
        found = self._indices.get(key)
        if found is None:
            found = self._indices[key] = len(self._functions)
            shown = name if len(name) <= _LONGEST_NAME else f"{name[: _LONGEST_NAME - 2]}.."
            self._functions.append(Function(shown, kind, module))
        return found

    def add(self, stack: tuple[int, ...], weight: float) -> None:
        """Add a stack, outermost frame first."""
        self._stacks[stack] = self._stacks.get(stack, 0) + weight

    def build(self, quality: Quality | None = None) -> Profile:
        """Return what has been collected so far."""
        return Profile(tuple(self._functions), tuple(self._stacks.items()), self.unit, quality or Quality())


def merged(profiles: Sequence[Profile]) -> Profile:
    """Return the sum of profiles, which should have one unit: the first one's is taken."""
    if len(profiles) == 1:
        return profiles[0]
    builder = ProfileBuilder(profiles[0].unit)
    for profile in profiles:
        places = [builder.index(each.name, each.kind, each.module) for each in profile.functions]
        for stack, weight in profile.stacks:
            builder.add(tuple([places[index] for index in stack]), weight)
    qualities = [profile.quality for profile in profiles]
    return builder.build(
        Quality(
            _sum([each.truncated for each in qualities]),
            _sum([each.unnamed for each in qualities]),
            sum(each.lost for each in qualities),
            tuple(dict.fromkeys(remark for each in qualities for remark in each.remarks)),
        )
    )


def _sum(weights: Sequence[float | None]) -> float | None:
    known = [weight for weight in weights if weight is not None]
    return sum(known) if len(known) == len(weights) else None


def scaled(profile: Profile, total: float) -> Profile:
    """Return a profile whose weights have another total, their proportions kept."""
    factor = total / profile.total if profile.total else 0
    quality = profile.quality
    return Profile(
        profile.functions,
        tuple((stack, weight * factor) for stack, weight in profile.stacks),
        profile.unit,
        Quality(_times(quality.truncated, factor), _times(quality.unnamed, factor), quality.lost, quality.remarks),
    )


def _times(weight: float | None, factor: float) -> float | None:
    return None if weight is None else weight * factor


class Span(Record):
    """A box of a flame graph: ``depth`` frames above the root, from ``start`` on, as wide as its weight.

    ``function`` is None for the root. ``before``: the same frames' weight in the profile that is compared with.
    """

    function: Function | None
    depth: int
    start: float
    weight: float
    before: float


def spans(profile: Profile, before: Profile | None = None, least: float = 0) -> list[Span]:
    """Return the boxes of a flame graph, neighbours in the order of names; those narrower than ``least`` are left out.

    ``before``: a profile to be compared with; what only that one has takes no space.
    """
    functions, stacks = _ranked(profile, before)
    found: list[Span] = []
    path: list[int] = []
    starts: list[float] = []
    olds: list[float] = []
    at: float = 0
    old_at: float = 0

    def close(depth: int) -> None:
        while len(path) > depth:
            rank, start, old = path.pop(), starts.pop(), olds.pop()
            if at - start > 0 and at - start >= least:
                found.append(Span(functions[rank], len(path) + 1, start, at - start, old_at - old))

    for stack, (weight, old_weight) in stacks:
        common = 0
        for rank, other in zip(path, stack, strict=False):
            if rank != other:
                break
            common += 1
        close(common)
        for rank in stack[common:]:
            path.append(rank)
            starts.append(at)
            olds.append(old_at)
        at += weight
        old_at += old_weight
    close(0)
    found.append(Span(None, 0, 0, at, old_at))
    found.reverse()
    return found


def _ranked(
    profile: Profile, before: Profile | None
) -> tuple[list[Function], list[tuple[tuple[int, ...], tuple[float, float]]]]:
    """Functions in the order of names, and the stacks as ranks, sorted: what begins alike stands together."""
    both = [profile] if before is None else [profile, before]
    known = {(each.name, each.kind): each for one in reversed(both) for each in reversed(one.functions)}
    functions = [known[key] for key in sorted(known, key=lambda key: (key[0], key[1].value))]
    ranks = {(each.name, each.kind): rank for rank, each in enumerate(functions)}
    weights: dict[tuple[int, ...], tuple[float, float]] = {}
    for number, one in enumerate(both):
        places = [ranks[each.name, each.kind] for each in one.functions]
        for stack, weight in one.stacks:
            key = tuple([places[index] for index in stack])
            new, old = weights.get(key, (0, 0))
            weights[key] = (new, old + weight) if number else (new + weight, old)
    return functions, sorted(weights.items())


# kernel/sched/core.c, kernel/time/sleep_timeout.c
_SCHEDULER = frozenset(
    {"__schedule", "schedule", "schedule_timeout", "schedule_preempt_disabled", "schedule_idle", "io_schedule"}
    | {"io_schedule_timeout", "preempt_schedule", "preempt_schedule_common", "preempt_schedule_irq"}
    | {"schedule_hrtimeout_range", "schedule_hrtimeout_range_clock", "schedule_hrtimeout", "__cond_resched"}
)


def self_and_total(profile: Profile) -> list[tuple[Function, float, float]]:
    """Return (function, weight where it is innermost, weight where it is in the stack at all), the heaviest first.

    Processes and notes are left out: they are no code. Of time off the processor the scheduler's own functions, too:
    all of it ends there, and what has called them is what waits.
    """
    own: dict[int, float] = {}
    total: dict[int, float] = {}
    skipped = {
        index
        for index, each in enumerate(profile.functions)
        if each.kind in (FrameKind.PROCESS, FrameKind.NOTE)
        or (profile.unit == "us" and each.kind is FrameKind.KERNEL and each.name in _SCHEDULER)
    }
    for stack, weight in profile.stacks:
        for index in set(stack):
            total[index] = total.get(index, 0) + weight
        last = next((index for index in reversed(stack) if index not in skipped), None)
        if last is not None:
            own[last] = own.get(last, 0) + weight
    rows = [
        (profile.functions[index], own.get(index, 0), whole) for index, whole in total.items() if index not in skipped
    ]
    return sorted(rows, key=lambda row: (-row[1], -row[2], row[0].name))


def named(profile: Profile, stack: Iterable[int]) -> Iterator[Function]:
    """Yield the functions of a stack."""
    return map(profile.functions.__getitem__, stack)
