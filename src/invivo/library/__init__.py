"""What a script can call: one record each, in one table by topic."""

from __future__ import annotations

from invivo.library.aggregations import AGGREGATIONS
from invivo.library.maps import MAPS
from invivo.library.output import OUTPUT
from invivo.library.probe import PROBE
from invivo.library.record import Builtin
from invivo.library.strings import STRINGS
from invivo.library.symbols import SYMBOLS
from invivo.library.values import NSECS, VALUES

LIBRARY: tuple[Builtin, ...] = (*VALUES, NSECS, *PROBE, *STRINGS, *SYMBOLS, *MAPS, *OUTPUT, *AGGREGATIONS)

# Functions and values of the language that are not there yet: no typing mistakes.
_NOT_YET_NAMES = """
    assert cgroup_path cgroupid config container_of debugf dw_ustack fail find getopt is_array is_err is_integer
    is_literal is_ptr is_scalar is_str is_unsigned_integer kfunc_allowed kfunc_exist leader_comm memcmp override path
    percpu_kaddr probetype pton signal signal_name signal_thread skboutput socket_cookie static_assert str_concat
    strcap strcontains strerror strstr syscall_name tseries uaddr unwatch write_user
"""
NOT_YET: frozenset[str] = frozenset(_NOT_YET_NAMES.split())

# Which kinds of probe have what not all have: for hints and the manual (`Context.features` decides).
_FUNCTIONS = ("kprobe", "kretprobe", "uprobe", "uretprobe")
_TIMES = ("profile", "interval", "software", "hardware", "watchpoint")
FEATURE_PROBES: dict[str, tuple[str, ...]] = {
    "args": ("tracepoint", "rawtracepoint", "fentry", "fexit"),
    "argN": ("kprobe", "uprobe", "usdt", "rawtracepoint"),
    "retval": ("kretprobe", "uretprobe", "fexit"),
    "func": (*_FUNCTIONS, "fentry", "fexit"),
    "reg": (*_FUNCTIONS, "usdt", *_TIMES),
    "ctx": (*_FUNCTIONS, "usdt", *_TIMES, "iter"),
    "usermode": _TIMES,
    "stacks": ("tracepoint", "rawtracepoint", *_FUNCTIONS, "usdt", "fentry", "fexit", *_TIMES),
}

_BY_NAME = {name: builtin for builtin in LIBRARY for name in (builtin.name, *builtin.aliases)}


def find_builtin(name: str) -> Builtin | None:
    return _BY_NAME.get(name)


def value_names() -> list[str]:
    return [builtin.name for builtin in LIBRARY if builtin.value]


def function_names() -> list[str]:
    return [builtin.name for builtin in LIBRARY if builtin.call]
