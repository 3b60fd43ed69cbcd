"""The library as the reference interpreter understands it: functions and builtin values."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import NamedTuple, Protocol

from invivo.ir import types as t
from invivo.ir.types import Type
from invivo.lang import ast
from invivo.library.spelling import PROBE_NAME_CAPACITY
from invivo.linux.errors import ERRORS
from invivo.linux.signals import SIGNALS
from invivo.linux.syscalls import syscall_names
from property.reference_maps import Store
from property.reference_values import UnspecifiedError, Value, formatted, frozen, readable


class Surroundings(NamedTuple):
    """What a program may find out about the machine and the process that runs it."""

    pid: int
    tid: int
    uid: int
    gid: int
    username: str
    comm: str
    cpus: int
    parent: int
    parent_comm: str

    def member(self, node: ast.Member) -> Value:
        """A field of the current task, ``curtask->...``."""
        path = []
        place: ast.Expr = node
        while isinstance(place, ast.Member):
            path.append(place.name)
            place = place.object
        if not isinstance(place, ast.Name) or place.name != "curtask":
            raise UnspecifiedError("memory of the kernel")
        known: dict[str, Value] = {
            "tgid": self.pid,
            "pid": self.tid,
            "comm": self.comm,
            "real_parent.tgid": self.parent,
            "group_leader.pid": self.pid,
            "group_leader.tgid": self.pid,
        }
        return known[".".join(reversed(path))]


class Runs(Protocol):
    """What calls ask of the interpreter."""

    @property
    def surroundings(self) -> Surroundings: ...
    @property
    def provider(self) -> str: ...
    @property
    def maps(self) -> dict[str, Store]: ...
    def type(self, node: ast.Node) -> Type: ...
    def constant(self, node: ast.Node) -> int | str | None: ...
    def value(self, node: ast.Expr) -> Value: ...
    def number(self, node: ast.Expr) -> int: ...
    def key(self, name: str, parts: tuple[ast.Expr, ...]) -> tuple[Value, ...] | None: ...
    def show(self, kind: str, *what: object) -> None: ...
    def ask(self, action: str, map_: str = "", *numbers: int) -> None: ...
    def complain(self, severity: str, message: str) -> None: ...
    def find(self, node: ast.Call) -> Value: ...
    def leave(self) -> None: ...


def _expr(node: ast.Call, index: int) -> ast.Expr:
    argument = node.arguments[index]
    assert not isinstance(argument, ast.NamedType | ast.PointerType | ast.ArrayType | ast.TypeOf)
    return argument


def _map(node: ast.Call) -> ast.MapAccess:
    argument = node.arguments[0]
    assert isinstance(argument, ast.MapAccess)
    return argument


def _text(runs: Runs, node: ast.Call, index: int = 0) -> str:
    value = runs.value(_expr(node, index))
    assert isinstance(value, str)
    return value


# -- output ------------------------------------------------------------------------------------


def _format(runs: Runs, node: ast.Call) -> str:
    arguments = [_expr(node, index) for index in range(1, len(node.arguments))]
    form = runs.constant(_expr(node, 0))
    assert isinstance(form, str)
    return formatted(form, [runs.value(argument) for argument in arguments], [runs.type(a) for a in arguments])


def _printf(runs: Runs, node: ast.Call) -> Value:
    runs.show("printf", _format(runs, node))
    return 0


def _complain(severity: str) -> Callable[[Runs, ast.Call], Value]:
    def complain(runs: Runs, node: ast.Call) -> Value:
        runs.complain(severity, _format(runs, node))
        return 0

    return complain


def _print(runs: Runs, node: ast.Call) -> Value:
    argument = _expr(node, 0)
    if not isinstance(argument, ast.MapAccess):
        runs.show("value", frozen(shown(runs.value(argument), runs.type(argument))))
    elif argument.keys:
        key = runs.key(argument.name, argument.keys)
        value = shown(runs.maps[argument.name].read(key), runs.type(argument))
        runs.show("element", argument.name, frozen(key or ()), frozen(value))
    else:
        numbers = [runs.constant(_expr(node, index)) for index in range(1, len(node.arguments))]
        runs.ask("print", argument.name, *(number for number in numbers if isinstance(number, int)))
    return 0


def shown(value: Value, type_: Type) -> Value:
    """A value as an event has it."""
    match type_, value:
        case t.KernelSymbol() | t.UserSymbol(), int():
            return hex(value)
        case t.Tuple(elements), tuple():
            return tuple(shown(part, element) for part, element in zip(value, elements, strict=True))
        case t.NamedTuple(_, elements), dict():
            pairs = zip(value.items(), elements, strict=True)
            return {name: shown(part, element) for (name, part), element in pairs}
        case _:
            return value


def _cat(runs: Runs, node: ast.Call) -> Value:
    with open(_format(runs, node), encoding="utf-8", errors="surrogateescape") as file:
        runs.show("output", "cat", file.read())
    return 0


def _system(runs: Runs, node: ast.Call) -> Value:
    command = re.fullmatch(r"echo (\w*)", _format(runs, node))
    assert command is not None, "the generator knows one command"
    runs.show("output", "system", f"{command[1]}\n")
    return 0


def _time(runs: Runs, node: ast.Call) -> Value:
    form = runs.constant(_expr(node, 0))
    if not isinstance(form, str) or "%" in form:
        raise UnspecifiedError("the time")
    runs.show("output", "time", readable(form))
    return 0


def _strftime(runs: Runs, node: ast.Call) -> Value:
    form = runs.constant(_expr(node, 0))
    if not isinstance(form, str) or "%" in form:
        raise UnspecifiedError("the time")
    runs.value(_expr(node, 1))
    return form


def _exit(runs: Runs, node: ast.Call) -> Value:
    runs.ask("exit", "", runs.number(_expr(node, 0)) if node.arguments else 0)
    runs.leave()
    return 0


# -- maps --------------------------------------------------------------------------------------


def _clear(runs: Runs, node: ast.Call) -> Value:
    runs.ask("clear", _map(node).name)
    return 0


def _zero(runs: Runs, node: ast.Call) -> Value:
    runs.ask("zero", _map(node).name)
    return 0


def _key(runs: Runs, node: ast.Call) -> tuple[Value, ...] | None:
    access = _map(node)
    return runs.key(access.name, access.keys if len(node.arguments) == 1 else (_expr(node, 1),))


def _delete(runs: Runs, node: ast.Call) -> Value:
    return runs.maps[_map(node).name].delete(_key(runs, node))


def _has_key(runs: Runs, node: ast.Call) -> Value:
    return runs.maps[_map(node).name].has(_key(runs, node))


def _find(runs: Runs, node: ast.Call) -> Value:
    return runs.find(node)


def _len(runs: Runs, node: ast.Call) -> Value:
    return len(runs.maps[_map(node).name].all_keys())


# -- values ------------------------------------------------------------------------------------


def _str(runs: Runs, node: ast.Call) -> Value:
    source = _expr(node, 0)
    value = runs.value(source)
    if isinstance(value, list):
        text = bytes(part & 255 for part in value if isinstance(part, int)).decode("latin-1").partition("\0")[0]
    elif isinstance(value, str):
        text = value
    else:
        raise UnspecifiedError("memory of the kernel")
    if len(node.arguments) > 1:
        length = runs.number(_expr(node, 1))
        if isinstance(runs.constant(_expr(node, 1)), int):
            text = text[:length]
        elif length < len(text):
            raise UnspecifiedError("a length that is computed, of a string that the program has")
    return text


def _buf(runs: Runs, node: ast.Call) -> Value:
    value = runs.value(_expr(node, 0))
    if isinstance(value, list):
        data = bytes(part & 255 for part in value if isinstance(part, int))
    else:
        assert isinstance(value, str)
        data = value.encode("latin-1") + b"\0"
    type_ = runs.type(node)
    assert isinstance(type_, t.Buffer)
    length = runs.number(_expr(node, 1)) if len(node.arguments) > 1 else type_.capacity
    if not 0 <= length <= len(data):
        raise UnspecifiedError("what is behind a string's end")
    return data[:length]


def _strncmp(runs: Runs, node: ast.Call) -> Value:
    left, right, length = _text(runs, node), _text(runs, node, 1), runs.number(_expr(node, 2))
    return int(left[:length] != right[:length])


def _strlen(runs: Runs, node: ast.Call) -> Value:
    return len(_text(runs, node).partition("\0")[0])


def _strstr(runs: Runs, node: ast.Call) -> Value:
    return _text(runs, node).partition("\0")[0].find(_text(runs, node, 1).partition("\0")[0])


def _strcontains(runs: Runs, node: ast.Call) -> Value:
    found = _strstr(runs, node)
    assert isinstance(found, int)
    return found >= 0


def _strcap(runs: Runs, node: ast.Call) -> Value:
    """As sizeof: only the type counts, and nothing is evaluated."""
    type_ = runs.type(_expr(node, 0))
    return PROBE_NAME_CAPACITY if isinstance(type_, t.ProbeName) else t.size_bytes(type_)


def _str_concat(runs: Runs, node: ast.Call) -> Value:
    return (_text(runs, node).partition("\0")[0] + _text(runs, node, 1).partition("\0")[0])[:1023]


def _memcmp(runs: Runs, node: ast.Call) -> Value:
    left, right, count = _text(runs, node) + "\0", _text(runs, node, 1) + "\0", runs.number(_expr(node, 2))
    for mine, theirs in zip(left[:count], right[:count], strict=False):
        if mine != theirs:
            return ord(mine) - ord(theirs)
    if count > min(len(left), len(right)):
        raise UnspecifiedError("what is behind a string's end")
    return 0


def _is_err(runs: Runs, node: ast.Call) -> Value:
    return runs.number(_expr(node, 0)) & (1 << 64) - 1 >= (1 << 64) - 4095


def _table(names: Callable[[], dict[int, str]], unknown: str) -> Callable[[Runs, ast.Call], Value]:
    return lambda runs, node: names().get(runs.number(_expr(node, 0))) or unknown


def _bswap(runs: Runs, node: ast.Call) -> Value:
    type_ = runs.type(node)
    assert isinstance(type_, t.Int)
    number = runs.number(_expr(node, 0)) & ((1 << type_.bits) - 1)
    return int.from_bytes(number.to_bytes(type_.bits // 8, "little"), "big")


def _ntop(runs: Runs, node: ast.Call) -> Value:
    family = runs.number(_expr(node, 0)) if len(node.arguments) > 1 else 2
    number = runs.value(_expr(node, len(node.arguments) - 1))
    if isinstance(number, list) and len(number) == 4:
        return ".".join(map(str, number))
    if family == 10 or not isinstance(number, int):
        raise UnspecifiedError("an address of the wrong size")
    return ".".join(str(number >> shift & 255) for shift in (0, 8, 16, 24))


def _pton(runs: Runs, node: ast.Call) -> Value:
    text = runs.constant(_expr(node, 0))
    assert isinstance(text, str)
    return [int(part) for part in text.split(".")]


def _same(runs: Runs, node: ast.Call) -> Value:
    return runs.value(_expr(node, 0))


CALLS: dict[str, Callable[[Runs, ast.Call], Value]] = {
    "printf": _printf,
    "errorf": _complain("ERROR"),
    "warnf": _complain("WARNING"),
    "print": _print,
    "cat": _cat,
    "system": _system,
    "time": _time,
    "strftime": _strftime,
    "exit": _exit,
    "clear": _clear,
    "zero": _zero,
    "delete": _delete,
    "has_key": _has_key,
    "find": _find,
    "len": _len,
    "str": _str,
    "buf": _buf,
    "strncmp": _strncmp,
    "strlen": _strlen,
    "strstr": _strstr,
    "strcontains": _strcontains,
    "strcap": _strcap,
    "str_concat": _str_concat,
    "memcmp": _memcmp,
    "is_err": _is_err,
    "strerror": _table(lambda: dict(enumerate(ERRORS)), "Unknown error"),
    "signal_name": _table(lambda: dict(enumerate(SIGNALS)), "unknown"),
    "syscall_name": _table(lambda: dict(syscall_names()), "unknown"),
    "bswap": _bswap,
    "ntop": _ntop,
    "pton": _pton,
    "container_of": lambda runs, node: 1 << 63,
    "ksym": _same,
    "usym": _same,
    "kptr": _same,
    "uptr": _same,
    "kaddr": lambda runs, node: 0xFFFFFFFF81000000,  # only that it is not 0 may be asked
    "nsecs": lambda runs, node: 10**12,  # the same
}

# Of values that differ from run to run the program may only ask what is always so.
VALUES: dict[str, Callable[[Runs], Value]] = {
    "pid": lambda runs: runs.surroundings.pid,
    "tid": lambda runs: runs.surroundings.tid,
    "uid": lambda runs: runs.surroundings.uid,
    "gid": lambda runs: runs.surroundings.gid,
    "username": lambda runs: runs.surroundings.username,
    "comm": lambda runs: runs.surroundings.comm,
    "ncpus": lambda runs: runs.surroundings.cpus,
    "ppid": lambda runs: runs.surroundings.parent,
    "leader_tid": lambda runs: runs.surroundings.pid,
    "pcomm": lambda runs: runs.surroundings.parent_comm,
    "leader_comm": lambda runs: runs.surroundings.comm,
    "cpid": lambda runs: 0,
    "has_cpid": lambda runs: False,
    "traced": lambda runs: True,
    "probe": lambda runs: runs.provider,
    "cpu": lambda runs: 0,
    "numaid": lambda runs: 0,
    "cgroup": lambda runs: 1,
    "jiffies": lambda runs: 1 << 32,
    "rand": lambda runs: 1,
    "curtask": lambda runs: 1 << 63,
    "elapsed": lambda runs: 1,
    "nsecs": lambda runs: 10**12,
}
