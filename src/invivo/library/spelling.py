"""Types spelled as scripts write them, and the rules by which two types become one."""

from __future__ import annotations

from invivo.ir import types as t
from invivo.ir.types import Type
from invivo.record import replace


def spell(type_: Type) -> str:
    """Return the name of a type for messages: ``uint64``, ``string[16]``, ``struct file *``."""
    match type_:
        case t.Int(bits, signed):
            return f"{'' if signed else 'u'}int{bits}"
        case t.Enumeration(name):
            return f"enum {name}"
        case t.Pointer(pointee):
            return f"{spell(pointee)} *"
        case t.String(capacity):
            return f"string[{capacity}]"
        case t.Buffer(capacity):
            return f"buffer[{capacity}]"
        case t.Array(element, length):
            return f"{spell(element)}[{length}]"
        case t.Struct(keyword, name):
            return f"{keyword} {name}" if name else keyword
        case t.Tuple(elements):
            return f"({','.join(spell(element) for element in elements)})"
        case t.NamedTuple(names, elements):
            return f"record {{ {', '.join(f'.{n} = {spell(e)}' for n, e in zip(names, elements, strict=True))} }}"
        case t.Stack(interpreter=name) if name:
            return f"{name}_t"
        case t.Stack(kernel):
            return "kstack_t" if kernel else "ustack_t"
        case _:
            return _SIMPLE.get(type(type_), type(type_).__name__.lower())


def spell_kind(type_: Type) -> str:
    """Return the name of a type's kind, as bpftrace's messages and ``typeinfo`` have it: ``int``, ``pointer``."""
    match type_:
        case t.Int() | t.Enumeration():
            return "int"
        case t.Struct():
            return "c_struct"
        case t.NamedTuple():
            return "record"
        case t.String() | t.ProbeName():
            return "string"
        case t.Stack(interpreter=name) if name:
            return name
        case t.Stack(kernel):
            return "kstack" if kernel else "ustack"
        case _:
            return _KINDS.get(type(type_)) or _SIMPLE.get(type(type_), type(type_).__name__.lower())


_KINDS: dict[type, str] = {
    t.Pointer: "pointer",
    t.Array: "array",
    t.Tuple: "tuple",
    t.Buffer: "buffer",
    t.MacAddress: "mac_address",
}

_SIMPLE: dict[type, str] = {
    t.Void: "void",
    t.Bool: "bool",
    t.KernelSymbol: "ksym_t",
    t.UserSymbol: "usym_t",
    t.ProbeName: "string",
    t.Inet: "inet",
    t.MacAddress: "macaddr_t",
    t.Username: "username_t",
    t.CgroupPath: "cgroup_path_t",
    t.Timestamp: "timestamp",
    t.Count: "count_t",
    t.Sum: "sum_t",
    t.Average: "avg_t",
    t.Minimum: "min_t",
    t.Maximum: "max_t",
    t.Stats: "stats_t",
    t.Histogram: "hist_t",
    t.LinearHistogram: "lhist_t",
    t.TimeSeries: "tseries_t",
}

PROBE_NAME_CAPACITY = 128


def promote(old: Type, new: Type) -> Type | None:
    """Return the type that holds values of both, or None if there is none.

    Integers take the larger width; of a signed and an unsigned one the signed type that holds both, up
    to 64 bits. Strings take the larger capacity; tuples go element by element, records field by field in
    the order of ``old``.
    """
    if old == new:
        return old
    match old, new:
        case (t.Int() | t.Enumeration() | t.Bool(), t.Int() | t.Enumeration() | t.Bool()):
            return _promote_numbers(_as_integer(old), _as_integer(new))
        case (t.String(a), t.String(b)):
            return t.String(max(a, b))
        case (t.String(a), t.ProbeName()) | (t.ProbeName(), t.String(a)):
            return t.String(max(a, PROBE_NAME_CAPACITY))
        case (t.Buffer(a), t.Buffer(b)):
            return t.Buffer(max(a, b))
        case (t.Pointer(a), t.Pointer(b, space)):
            return _promote_pointers(a, b, space, old)
        case (t.Stack(kernel, mode, a, name), t.Stack(other_kernel, other_mode, b, other_name)):
            same = (kernel, mode, name) == (other_kernel, other_mode, other_name)
            return t.Stack(kernel, mode, max(a, b), name) if same else None
        case (t.Tuple(a), t.Tuple(b)):
            elements = _promote_all(a, b)
            return None if elements is None else t.Tuple(elements)
        case (t.NamedTuple(names, a), t.NamedTuple(other_names, b)):
            if len(names) != len(other_names) or set(names) != set(other_names):
                return None
            elements = _promote_all(a, tuple(b[other_names.index(name)] for name in names))
            return None if elements is None else t.NamedTuple(names, elements)
        case (t.Average(a), t.Average(b)):
            return t.Average(a or b)
        case (t.Sum(a), t.Sum(b)):
            return t.Sum(a or b)
        case (t.Stats(a), t.Stats(b)):
            return t.Stats(a or b)
        case (t.Minimum(a), t.Minimum(b)):
            return t.Minimum(a or b)
        case (t.Maximum(a), t.Maximum(b)):
            return t.Maximum(a or b)
        case (t.TimeSeries(a), t.TimeSeries(b)):
            signed = a or b
            return replace(old, signed=signed) if replace(old, signed=signed) == replace(new, signed=signed) else None
        case _:
            return None


def _as_integer(type_: t.Int | t.Enumeration | t.Bool) -> t.Int:
    return t.UINT8 if isinstance(type_, t.Bool) else t.Int(type_.bits, type_.signed)


def _promote_numbers(a: t.Int, b: t.Int) -> t.Int:
    if a.signed == b.signed:
        return t.Int(max(a.bits, b.bits), a.signed)
    signed, unsigned = (a.bits, b.bits) if a.signed else (b.bits, a.bits)
    return t.Int(signed if signed > unsigned else min(64, 2 * unsigned), True)


def _promote_pointers(a: Type, b: Type, space: t.AddressSpace, old: Type) -> Type | None:
    if a == b or isinstance(b, t.Void):
        return old
    if isinstance(a, t.Void):
        return t.Pointer(b, space)
    return None


def _promote_all(a: tuple[Type, ...], b: tuple[Type, ...]) -> tuple[Type, ...] | None:
    if len(a) != len(b):
        return None
    promoted = [promote(x, y) for x, y in zip(a, b, strict=True)]
    return None if any(p is None for p in promoted) else tuple(p for p in promoted if p is not None)


def promote_literals(old: Type, new: Type, *, old_is_literal: bool, new_is_literal: bool) -> Type | None:
    """As `promote` for integers of which one or both are non-negative literals: these take the other's sign.

    None if the two are no integers.
    """
    if not isinstance(old, t.Int) or not isinstance(new, t.Int):
        return None
    if old_is_literal and new_is_literal:
        return t.Int(max(old.bits, new.bits), old.signed and new.signed)
    other = new if old_is_literal else old
    return t.Int(max(old.bits, new.bits), other.signed)


def whole(type_: t.Int) -> t.Int:
    """The type of arithmetic on an integer: 64 bits."""
    return t.Int(64, type_.signed)


def literal_type(value: int) -> t.Int:
    """The smallest signed type that holds a literal; above 2**63-1 it is unsigned."""
    if value > (1 << 63) - 1:
        return t.UINT64
    return next(t.Int(bits, True) for bits in (8, 16, 32, 64) if -(1 << (bits - 1)) <= value < 1 << (bits - 1))
