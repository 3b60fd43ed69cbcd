"""Enumerations that cost next to nothing at import.

The standard library takes 0.3 ms to make one, and a short trace needs twenty of them.  Type checkers read the stub
beside this module: to them `Enum` is ``enum.Enum``.  Here are the parts of it that invivo uses: members are single
objects with a ``name`` and a ``value``, found by either (``Kind("word")``, ``Kind["WORD"]``), in the order of the
class body, compared by identity; the class may have methods and properties.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any


class EnumType(type):
    """Metaclass of `Enum`: turns the names of a class body that are no methods into members."""

    _by_name: dict[str, Any]
    _by_value: dict[Any, Any]

    def __new__(mcs, name: str, bases: tuple[type, ...], namespace: dict[str, Any]) -> EnumType:
        values = {key: value for key, value in namespace.items() if _is_member(key, value)}
        made = super().__new__(mcs, name, bases, {key: namespace[key] for key in namespace if key not in values})
        made._by_name = {key: _member(made, key, value) for key, value in values.items()}
        made._by_value = {member.value: member for member in made._by_name.values()}
        for key, member in made._by_name.items():
            setattr(made, key, member)
        return made

    def __call__(cls, value: object) -> Any:
        try:
            return cls._by_value[value]
        except KeyError:
            raise ValueError(f"{value!r} is not a valid {cls.__name__}") from None

    def __getitem__(cls, name: str) -> Any:
        return cls._by_name[name]

    def __iter__(cls) -> Iterator[Any]:
        return iter(cls._by_name.values())

    def __len__(cls) -> int:
        return len(cls._by_name)


def _is_member(key: str, value: object) -> bool:
    return not key.startswith("_") and not hasattr(value, "__get__")


def _member(made: EnumType, name: str, value: object) -> Any:
    member: Any = object.__new__(made)
    member.name, member.value = name, value
    return member


class Enum(metaclass=EnumType):
    def __repr__(self) -> str:
        return f"{type(self).__name__}.{vars(self)['name']}"

    def __reduce__(self) -> Any:
        return type(self), (vars(self)["value"],)
