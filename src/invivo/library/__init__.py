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

_BY_NAME = {name: builtin for builtin in LIBRARY for name in (builtin.name, *builtin.aliases)}


def find_builtin(name: str) -> Builtin | None:
    return _BY_NAME.get(name)


def value_names() -> list[str]:
    return [builtin.name for builtin in LIBRARY if builtin.value]


def function_names() -> list[str]:
    return [builtin.name for builtin in LIBRARY if builtin.call]
