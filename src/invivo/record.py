"""Immutable data classes that cost next to nothing at import.

A frozen ``dataclass`` costs 0.45 ms at import, because its methods are generated
as text for every class; a compiler has more than a hundred such classes, and a
run of ``BEGIN { exit(); }`` builds instances of perhaps forty.  A ``Record``
generates its ``__init__`` when the first instance is built, and nothing else.

Type checkers see ``dataclass_transform(frozen_default=True)``: fields come from
annotations, assignment to a field is an error there (and only there: a check at
run time would triple the cost of building one).
"""

from __future__ import annotations

from typing import Any, TypeVar, dataclass_transform


def _first_init(self: Any, *args: Any, **kwargs: Any) -> None:
    """Generate the class's ``__init__``, then be it."""
    cls = type(self)
    defaults = cls.__record_defaults__
    params = [f"{name}=_d[{name!r}]" if name in defaults else name for name in cls.__match_args__]
    body = [f" self.{name}={name}" for name in cls.__match_args__] or [" pass"]
    source = f"def __init__(self,{','.join(params)}):\n" + "\n".join(body)
    scope: dict[str, Any] = {"_d": defaults}
    exec(source, scope)
    cls.__init__ = scope["__init__"]
    cls.__init__(self, *args, **kwargs)


@dataclass_transform(frozen_default=True)
class RecordType(type):
    """Metaclass of `Record`: turns annotations into slots and ``__match_args__``."""

    __match_args__: tuple[str, ...]
    __record_defaults__: dict[str, Any]

    def __new__(mcs, name: str, bases: tuple[type, ...], namespace: dict[str, Any], *, eq: bool = True) -> RecordType:
        own = [field for field in namespace.get("__annotations__", {}) if not field.startswith("__")]
        fields: list[str] = []
        defaults: dict[str, Any] = {}
        for base in bases:
            if isinstance(base, RecordType):
                fields += [field for field in base.__match_args__ if field not in fields]
                defaults |= base.__record_defaults__
        fields += [field for field in own if field not in fields]
        for field in own:
            if field in namespace:
                defaults[field] = namespace.pop(field)
        namespace["__slots__"] = tuple(own)
        namespace["__match_args__"] = tuple(fields)
        namespace["__record_defaults__"] = defaults
        namespace["__init__"] = _first_init
        if not eq:
            namespace["__eq__"] = object.__eq__
            namespace["__hash__"] = object.__hash__
        return super().__new__(mcs, name, bases, namespace)

    def __init__(cls, name: str, bases: tuple[type, ...], namespace: dict[str, Any], **_: Any) -> None:
        super().__init__(name, bases, namespace)


class Record(metaclass=RecordType):
    """Base of all frozen, slotted data classes of invivo.

    Subclasses that are compared by identity (AST nodes, IR operations) say
    ``class Node(Record, eq=False)``.  Modules that define records start with
    ``from __future__ import annotations``, which keeps annotations as text.
    """

    def __eq__(self, other: object) -> bool:
        if type(self) is not type(other):
            return NotImplemented
        return all(getattr(self, name) == getattr(other, name) for name in type(self).__match_args__)

    def __hash__(self) -> int:
        return hash((type(self), *[getattr(self, name) for name in type(self).__match_args__]))

    def __repr__(self) -> str:
        fields = ", ".join(f"{name}={getattr(self, name)!r}" for name in type(self).__match_args__)
        return f"{type(self).__name__}({fields})"

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), tuple(getattr(self, name) for name in type(self).__match_args__)


RecordT = TypeVar("RecordT", bound=Record)


def replace(record: RecordT, /, **changes: Any) -> RecordT:
    """Return a copy of a record with some fields changed."""
    fields = {name: getattr(record, name) for name in type(record).__match_args__}
    return type(record)(**(fields | changes))
