"""Immutable data classes that cost next to nothing at import.

A frozen ``dataclass`` costs 0.45 ms at import, because its methods are generated
as text for every class, and a compiler has hundreds of such classes.  A `Record`
class takes the code of an ``__init__`` with as many fields and puts its own names
in when its first object is made; equality, hash and representation are shared
(0.03 ms a class).

Type checkers see ``dataclass_transform(frozen_default=True)``: fields come from
annotations, assignment to a field is an error there (and only there: a check at
run time would triple the cost of building one).
"""

from __future__ import annotations

from functools import cache
from types import CodeType, FunctionType
from typing import Any, TypeVar, dataclass_transform


@cache
def _template(count: int) -> CodeType:
    """The code of an ``__init__`` with ``count`` fields, under names that are replaced."""
    names = [f"f{index}" for index in range(count)]
    body = [f" self.{name}={name}" for name in names] or [" pass"]
    scope: dict[str, FunctionType] = {}
    exec(f"def __init__(self,{','.join(names)}):\n" + "\n".join(body), scope)
    return scope["__init__"].__code__


def _init(fields: tuple[str, ...], defaults: dict[str, Any]) -> FunctionType:
    """Return an ``__init__`` that sets the fields. One compiled text serves all classes of a size."""
    with_default = [field for field in fields if field in defaults]
    if with_default and fields[-len(with_default) :] != tuple(with_default):
        raise TypeError(f"a field without a default follows {with_default[0]}")
    code = _template(len(fields)).replace(co_varnames=("self", *fields), co_names=fields)
    return FunctionType(code, {}, "__init__", tuple(defaults[field] for field in with_default))


def _first_init(self: Record, *values: Any, **named: Any) -> None:
    """Make the class's own ``__init__``, which takes this one's place: most classes have no object in a short run."""
    own = _init(type(self).__record_fields__, type(self).__record_defaults__)
    type.__setattr__(type(self), "__init__", own)
    own(self, *values, **named)


@dataclass_transform(frozen_default=True)
class RecordType(type):
    """Metaclass of `Record`: turns annotations into slots and ``__match_args__``.

    (Which is not declared here: pyright would take the declaration for the value.)
    """

    __record_fields__: tuple[str, ...]
    __record_defaults__: dict[str, Any]

    def __new__(mcs, name: str, bases: tuple[type, ...], namespace: dict[str, Any], *, eq: bool = True) -> RecordType:
        own = [field for field in namespace.get("__annotations__", {}) if not field.startswith("__")]
        fields: list[str] = []
        defaults: dict[str, Any] = {}
        for base in bases:
            if isinstance(base, RecordType):
                fields += [field for field in base.__record_fields__ if field not in fields]
                defaults |= base.__record_defaults__
        fields += [field for field in own if field not in fields]
        for field in own:
            if field in namespace:
                defaults[field] = namespace.pop(field)
        namespace["__slots__"] = tuple(own)
        namespace["__match_args__"] = namespace["__record_fields__"] = tuple(fields)
        namespace["__record_defaults__"] = defaults
        namespace["__init__"] = _first_init
        if not eq:
            namespace["__eq__"] = object.__eq__
            namespace["__hash__"] = object.__hash__
        return super().__new__(mcs, name, bases, namespace)


class Record(metaclass=RecordType):
    """Base of all frozen, slotted data classes of invivo.

    Subclasses that are compared by identity (AST nodes, IR operations) say
    ``class Node(Record, eq=False)``.  Modules that define records start with
    ``from __future__ import annotations``, which keeps annotations as text.
    """

    def __eq__(self, other: object) -> bool:
        if self is other:
            return True
        if type(self) is not type(other):
            return NotImplemented
        names = type(self).__record_fields__
        return [getattr(self, name) for name in names] == [getattr(other, name) for name in names]

    def __hash__(self) -> int:
        return hash((type(self), *[getattr(self, name) for name in type(self).__record_fields__]))

    def __repr__(self) -> str:
        fields = ", ".join(f"{name}={getattr(self, name)!r}" for name in type(self).__record_fields__)
        return f"{type(self).__name__}({fields})"

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), tuple(getattr(self, name) for name in type(self).__record_fields__)


RecordT = TypeVar("RecordT", bound=Record)


def replace(record: RecordT, /, **changes: Any) -> RecordT:
    """Return a copy of a record with some fields changed."""
    # By position: a quarter less time than by keywords, and the passes call this for every operand they change.
    names = type(record).__record_fields__
    fields = [changes.pop(name) if name in changes else getattr(record, name) for name in names]
    if changes:
        raise TypeError(f"{type(record).__name__} has no field {', '.join(changes)}")
    return type(record)(*fields)
