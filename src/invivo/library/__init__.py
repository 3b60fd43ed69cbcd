"""What a script can call: one record each, in one table by topic."""

from __future__ import annotations

from importlib import import_module

from invivo.library.aggregations import AGGREGATIONS
from invivo.library.maps import MAPS
from invivo.library.output import OUTPUT
from invivo.library.probe import PROBE
from invivo.library.record import Builtin
from invivo.library.strings import STRINGS
from invivo.library.symbols import SYMBOLS
from invivo.library.values import NSECS, VALUES

_ALWAYS: tuple[Builtin, ...] = (*VALUES, NSECS, *PROBE, *STRINGS, *SYMBOLS, *MAPS, *OUTPUT, *AGGREGATIONS)

# Functions that few programs call, by the module that has their records (a tuple under its name in upper case): it is
# loaded when one of them is called.
_ROOMS: dict[str, str] = {
    "meta": (
        "is_str is_ptr is_array is_integer is_unsigned_integer is_literal is_scalar probetype kfunc_exist kfunc_allowed"
        " config fail assert static_assert"
    ),
    "search": "strlen strcap strstr strcontains str_concat memcmp is_err",
    "options": "getopt",
    "tables": "strerror signal_name syscall_name",
    "series": "tseries",
    "debug": "debugf",
    "user": "uaddr unwatch",
    "interference": "signal signal_thread override write_user",
    "unwind": "dw_ustack",
    "packets": "skboutput",
    "kernel": "path socket_cookie percpu_kaddr cgroupid cgroup_path container_of",
}
_ROOM_OF = {name: room for room, names in _ROOMS.items() for name in names.split()}

# Which kinds of probe have what not all have: for hints and the manual (`Context.features` decides).
_FUNCTIONS = ("kprobe", "kretprobe", "uprobe", "uretprobe")
_SAMPLES = ("profile", "software", "hardware", "watchpoint")
_TIMES = ("profile", "interval", "software", "hardware", "watchpoint")
FEATURE_PROBES: dict[str, tuple[str, ...]] = {
    "args": ("tracepoint", "rawtracepoint", "kprobe", "fentry", "fexit"),
    "argN": ("kprobe", "uprobe", "usdt", "rawtracepoint"),
    "retval": ("kretprobe", "uretprobe", "fexit"),
    "func": (*_FUNCTIONS, "fentry", "fexit"),
    "reg": (*_FUNCTIONS, "usdt", *_TIMES),
    "ctx": (*_FUNCTIONS, "usdt", *_TIMES, "iter"),
    "usermode": _TIMES,
    "signal": ("tracepoint", "rawtracepoint", *_FUNCTIONS, "usdt", "fentry", "fexit", *_SAMPLES),
    "override": ("kprobe",),
    "path": ("fentry", "fexit", "iter"),
    "tracing": ("rawtracepoint", "fentry", "fexit", "iter"),
    "uaddr": ("uprobe", "uretprobe", "usdt"),
    "stacks": (
        "tracepoint",
        "rawtracepoint",
        *_FUNCTIONS,
        "usdt",
        "fentry",
        "fexit",
        *_TIMES,
        "begin",
        "end",
        "self",
        "test",
        "bench",
    ),
}

_BY_NAME = {name: builtin for builtin in _ALWAYS for name in (builtin.name, *builtin.aliases)}


def find_builtin(name: str) -> Builtin | None:
    room = _ROOM_OF.get(name)
    if room is None:
        return _BY_NAME.get(name) or _interpreted(name)
    return next(builtin for builtin in records(room) if builtin.name == name)


def _interpreted(name: str) -> Builtin | None:
    """The frames of an interpreter: `invivo.interpreters` has the names, one for each."""
    if name not in import_module("invivo.interpreters").MODULES:
        return None
    return next(builtin for builtin in records("interpreted") if builtin.name == name)


def records(room: str) -> tuple[Builtin, ...]:
    """Return the records of a module that is loaded on demand."""
    found: tuple[Builtin, ...] = getattr(import_module(f"invivo.library.{room}"), room.upper())
    return found


def library() -> tuple[Builtin, ...]:
    """Return all records: for the manual and for tests."""
    return (*_ALWAYS, *(builtin for room in (*_ROOMS, "interpreted") for builtin in records(room)))


def value_names() -> list[str]:
    return [builtin.name for builtin in library() if builtin.value]


def function_names() -> list[str]:
    return [builtin.name for builtin in library() if builtin.call]
