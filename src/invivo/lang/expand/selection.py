"""Which definition of a macro a call means: by its name, the number of arguments and their kinds."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from invivo.diagnostics import Code, Diagnostics, Note
from invivo.lang import ast

Argument = ast.Expr | ast.TypeExpr
TYPES = (ast.NamedType, ast.PointerType, ast.ArrayType, ast.TypeOf)


class Macros:
    """All macros that can be called, by name: the script's and the library's.

    The script's win. What the library's own macros call is the library's.
    """

    def __init__(self, macros: Sequence[ast.Macro], library: Callable[[str], Sequence[ast.Macro]]) -> None:
        self._script: dict[str, list[ast.Macro]] = {}
        self._find_library = library
        self._library: dict[str, Sequence[ast.Macro]] = {}
        for macro in macros:
            self._script.setdefault(macro.name, []).append(macro)

    def has(self, name: str, caller: ast.Macro | None) -> bool:
        """Whether a name is that of a macro, where ``caller`` uses it (None: in the script)."""
        return bool(self._of_library(name) or (name in self._script and not self._is_library(caller)))

    def find(self, name: str, arguments: Sequence[Argument], caller: ast.Macro | None) -> ast.Macro | None:
        """Return the definition that suits best: an identifier takes everything, but less well."""
        own = () if self._is_library(caller) else self._script.get(name, ())
        return _nearest(own, arguments) or _nearest(self._of_library(name), arguments)

    def _of_library(self, name: str) -> Sequence[ast.Macro]:
        if name not in self._library:
            self._library[name] = self._find_library(name)
        return self._library[name]

    def _is_library(self, macro: ast.Macro | None) -> bool:
        return macro is not None and macro in self._library.get(macro.name, ())


def check_definitions(macros: Sequence[ast.Macro], diagnostics: Diagnostics) -> None:
    """Report macros that no call could tell apart."""
    known: dict[tuple[str, ...], ast.Macro] = {}
    for macro in macros:
        signature = (macro.name, *(kind_of(parameter) for parameter in macro.parameters))
        before = known.setdefault(signature, macro)
        if before is not macro:
            note = Note(before.span, "This is the original definition.")
            diagnostics.error(Code.BAD_MACRO, macro.span, f"Redefinition of macro: {macro.name}", notes=(note,))


def _nearest(macros: Sequence[ast.Macro], arguments: Sequence[Argument]) -> ast.Macro | None:
    best: tuple[int, ast.Macro] | None = None
    for macro in macros:
        distance = _distance(macro, arguments)
        if distance is not None and (best is None or distance < best[0]):
            best = distance, macro
    return None if best is None else best[1]


def kind_of(parameter: str) -> str:
    """``$``, ``@`` or nothing."""
    return parameter[0] if parameter[0] in "$@" else ""


def _distance(macro: ast.Macro, arguments: Sequence[Argument]) -> int | None:
    """How many arguments are less general than their parameters; None if one does not fit."""
    if len(arguments) != len(macro.parameters):
        return None
    distance = 0
    for parameter, argument in zip(macro.parameters, arguments, strict=True):
        kind = _kind_of_argument(argument)
        if kind_of(parameter) == kind:
            continue
        if kind_of(parameter):
            return None
        distance += 1
    return distance


def _kind_of_argument(argument: Argument) -> str:
    match argument:
        case ast.ScratchVariable():
            return "$"
        case ast.MapAccess(_, _, ()):
            return "@"
        case _:
            return ""
