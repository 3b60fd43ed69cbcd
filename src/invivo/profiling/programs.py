"""Programs in the language that record stacks. Their map ``@stacks`` is what `profiling.recorder` reads."""

from __future__ import annotations

from invivo.record import Record

MAP = "@stacks"
_MOST_STACKS = 65536  # different ones between two looks; memory is taken as they come


BEGAN, COMM, PID, KERNEL, USER, WAKER, WAKER_KERNEL, WAKER_USER = (
    "@began", "@comm", "@pid", "@kernel", "@user", "@waker", "@waker_kernel", "@waker_user"
)  # fmt: skip
# What a thread that does not run is called in the event's prev_state: TASK_REPORT of include/linux/sched.h. A dead one
# (X, Z) does not come back.
STATES = {"S": 0x01, "D": 0x02, "T": 0x04, "t": 0x08, "P": 0x40, "I": 0x80}
_REPORTED = 0xFF


def kept(builtin: str) -> str:
    """Return the map that keeps the frames of interpreted code of threads that wait."""
    return f"@{builtin}"


class Stacks(Record):
    """What is recorded of a stack, and when it is looked at.

    ``by``: "comm", "pid" or "tid": what stacks are told apart by. ``seconds``: how long, 0 for no end.
    ``unwind``: how callers in user space are found, a value of the configuration's ``user_stack``.
    ``interpreted``: the builtin values that have the frames of interpreted code.
    ``interval_ms``: how often what has been collected is taken out of the kernel: names are looked up then.
    """

    by: str = "comm"
    kernel: bool = True
    user: bool = True
    seconds: float = 0
    unwind: str = "dwarf"
    interpreted: tuple[str, ...] = ()
    interval_ms: int = 1000


def key_parts(stacks: Stacks) -> tuple[str, ...]:
    """Return what a key of the map consists of, in order."""
    parts = {"comm": ("comm",), "pid": ("comm", "pid"), "tid": ("comm", "pid", "tid")}[stacks.by]
    user = ("ustack", *stacks.interpreted) if stacks.user else ()
    return (*parts, *(("kstack",) if stacks.kernel else ()), *user)


def event_program(probe: str, weight: str, stacks: Stacks, *, condition: str = "") -> str:
    """Return a program that adds up the stacks in which a probe fires. ``weight``: an expression, "" to count."""
    predicate = f" /{condition}/" if condition else ""
    value = f"sum({weight})" if weight else "count()"
    key = ", ".join(key_parts(stacks))
    return f"{_head(stacks)}{probe}{predicate} {{ {MAP}[{key}] = {value}; }}\n{_tail(stacks)}"


class Waits(Record):
    """Which waits count. ``states``: letters as of ps(1), R for those that could run and were not let."""

    states: str = "".join(STATES)
    least_ns: int = 1000
    most_ns: int = 0
    waker: bool = False


def wait_key(stacks: Stacks, waits: Waits) -> tuple[str, ...]:
    """Return what a key of the map of waits consists of, in order: as `key_parts`, and the waker's."""
    if not waits.waker:
        return key_parts(stacks)
    return (
        *key_parts(stacks),
        "waker",
        *(("waker_kstack",) if stacks.kernel else ()),
        *(("waker_ustack",) if stacks.user else ()),
    )


def wait_program(stacks: Stacks, waits: Waits) -> str:
    """Return a program that adds up, in nanoseconds, how long threads are off the processor, by stack.

    A thread's stack is taken when it leaves the processor.  When it comes back another one is current, perhaps of a
    process that is not traced: so the probe is not filtered itself.
    """
    own = {COMM: "comm", KERNEL: "kstack", USER: "ustack", PID: "pid"}
    own |= {kept(builtin): builtin for builtin in stacks.interpreted}
    parts = [name for name, value in own.items() if value in key_parts(stacks)]
    keys = {"comm": COMM, "pid": PID, "kstack": KERNEL, "ustack": USER}
    keys |= {builtin: kept(builtin) for builtin in stacks.interpreted}
    keys |= {"waker": WAKER, "waker_kstack": WAKER_KERNEL, "waker_ustack": WAKER_USER}
    key = ", ".join("$next" if part == "tid" else f"{keys[part]}[$next]" for part in wait_key(stacks, waits))
    wakers = [WAKER, *([WAKER_KERNEL] if stacks.kernel else []), *([WAKER_USER] if stacks.user else [])]
    every = [BEGAN, *parts, *(wakers if waits.waker else [])]
    limit = f"$ns >= {waits.least_ns}" + (f" && $ns <= {waits.most_ns}" if waits.most_ns else "")
    lines = [
        _head(stacks) + "tracepoint:sched:sched_switch {",
        f"    $state = args.prev_state & {_REPORTED:#x};",
        f"    if (traced && {_condition(waits.states)} && args.prev_pid != 0) {{",
        "        $prev = (uint32)args.prev_pid;",
        *[f"        {name}[$prev] = {own[name]};" for name in parts],
        f"        {BEGAN}[$prev] = nsecs;",
        "    }",
        "    $next = (uint32)args.next_pid;",
        f"    if ({BEGAN}[$next] != 0) {{",
        f"        $ns = nsecs - {BEGAN}[$next];",
        f"        if ({limit}) {{ {MAP}[{key}] = sum($ns); }}",
        *[f"        delete({name}, $next);" for name in every],
        "    }",
        "}",
    ]
    if waits.waker:
        values = {WAKER: "comm", WAKER_KERNEL: "kstack", WAKER_USER: "ustack"}
        lines += [
            "tracepoint:sched:sched_waking {",
            "    $woken = (uint32)args.pid;",
            f"    if (traced || {BEGAN}[$woken] != 0) {{",
            f"        if ({BEGAN}[$woken] != 0) {{",
            *[f"            {name}[$woken] = {values[name]};" for name in wakers if name != WAKER_USER],
            # Other processes' own code is none of our business.
            *([f"            if (traced) {{ {WAKER_USER}[$woken] = ustack; }}"] if stacks.user else []),
            "        }",
            "    }",
            "}",
        ]
    return "\n".join(lines) + "\n" + _tail(stacks)


def _condition(states: str) -> str:
    mask = sum(STATES[letter] for letter in set(states) - {"R"})
    parts = [f"($state & {mask:#x}) != 0"] if mask else []
    return f"({' || '.join([*parts, *(['$state == 0'] if 'R' in states else [])])})"


def _head(stacks: Stacks) -> str:
    unwind = f' user_stack = "{stacks.unwind}";' if stacks.user else ""
    return f"config = {{ max_map_keys = {_MOST_STACKS};{unwind} }}\n"


def _tail(stacks: Stacks) -> str:
    """Collect at intervals, so that names are asked for while processes live, and end in time."""
    # Taken out and emptied in one: what is counted between the two statements would be lost.
    text = f"interval:ms:{stacks.interval_ms} {{ print({MAP}); clear({MAP}); }}\n"
    if stacks.seconds:
        text += f"interval:us:{round(stacks.seconds * 1e6)} {{ exit(); }}\n"
    return text
