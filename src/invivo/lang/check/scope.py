"""The checker's state: one script, its probes, and what is known so far."""

from __future__ import annotations

from collections.abc import Callable, Generator
from contextlib import contextmanager

from invivo.diagnostics import Code, Diagnostics, Note, Span
from invivo.ir.types import Histogram, Type
from invivo.lang import ast
from invivo.lang.check.fold import Folder
from invivo.lang.check.model import Instance, MapInfo, Variable
from invivo.lang.check.options import ScriptOptions
from invivo.library.record import Config
from invivo.library.spelling import promote, promote_literals, spell
from invivo.target import Context, Target


class Checker:
    """Walks all probes again and again until no type changes any more.

    Types only grow (`names.promote`), so this ends. Diagnostics of the last round count.
    """

    def __init__(
        self,
        target: Target,
        config: Config,
        parameters: tuple[str, ...],
        check: Callable[[Checker, ast.Expr], Type | None],
    ) -> None:
        self.target = target
        self.config = config
        self.parameters = parameters
        self.options = ScriptOptions()
        self.maps: dict[str, MapInfo] = {}
        self.diagnostics = Diagnostics()
        self.defines: dict[str, ast.Expr | None] = {}  # of the script's C
        self.header_constant: Callable[[str], int | None] = lambda name: None  # of headers that it includes
        self.expanding: list[str] = []  # definitions that are being looked into
        self.changed = False
        self.final = False
        self.deciding = False  # types are known well enough for branches to be left out
        self.undecided = False  # there are such branches
        self.unknown = False  # there are expressions whose type is not known
        self.ruled_out = 0  # branches around that literals rule out
        self.unsafe = False
        self.bpftrace = False
        self.left_out: frozenset[str] = frozenset()  # maps in probes that this machine has not
        self.instance: Instance
        self.folder = Folder(parameters, {}, {})
        self.scopes: list[dict[str, Variable]] = []
        self.depth = 0  # loop callbacks around
        self.loops = 0  # loops around, unrolled ones too
        self.for_loops = 0  # those of them that are `for`
        self.copies = 1  # how often unrolled loops write out what is checked now
        self._check = check

    def enter(self, instance: Instance) -> None:
        self.instance = instance
        self.folder = Folder(self.parameters, instance.constants, instance.decided)
        self.scopes = [{}]
        self.depth = self.loops = self.for_loops = 0
        self.copies = 1

    @property
    def context(self) -> Context:
        return self.instance.plan.context

    def check(self, node: ast.Expr) -> Type | None:
        """Return an expression's type; None: not known (yet), or wrong and reported."""
        found = self._check(self, node)
        if found is not None:
            self.instance.types[node] = found
            return found
        self.unknown = True
        if self.final and not self.diagnostics.has_errors and not self.left_out:
            self.error(
                Code.UNKNOWN_TYPE, node, "the type of this cannot be found out", "give a variable a type: let $x : T"
            )
        return found

    def error(
        self, code: Code, node: ast.Node, message: str, hint: str | None = None, notes: tuple[Note, ...] = ()
    ) -> None:
        self.diagnostics.error(code, node.span, message, hint, notes)

    @contextmanager
    def scope(self) -> Generator[None]:
        self.scopes.append({})
        yield
        self.scopes.pop()

    @contextmanager
    def unreached(self, ruled_out: bool) -> Generator[None]:
        """Check what cannot be reached if ``ruled_out``: it must be right, but nothing comes of it."""
        self.ruled_out += ruled_out
        yield
        self.ruled_out -= ruled_out

    @contextmanager
    def loop(self, *, callback: bool, is_for: bool = False) -> Generator[None]:
        self.loops += 1
        self.depth += callback
        self.for_loops += is_for
        yield
        self.loops -= 1
        self.depth -= callback
        self.for_loops -= is_for

    # -- variables -----------------------------------------------------------------------------

    def declare(self, node: ast.Node, name: str) -> Variable:
        """Open a variable in the current scope; the same object in every round."""
        variable = self.instance.declared.get(node)
        if variable is None:
            variable = self.instance.declared[node] = Variable(name, node.span, self.depth)
        self.scopes[-1][name] = variable
        self.instance.variables[node] = variable
        return variable

    def lookup(self, name: str) -> Variable | None:
        for scope in reversed(self.scopes):
            if name in scope:
                return scope[name]
        return None

    def warn_of_unassigned(self) -> None:
        """At the end of a scope: variables that were declared in it for nothing."""
        for variable in self.scopes[-1].values():
            if not variable.assigned:
                self.diagnostics.warning(
                    Code.UNKNOWN_VARIABLE, variable.span, f"Variable ${variable.name} was never assigned to."
                )

    def use(self, node: ast.ScratchVariable) -> Variable | None:
        variable = self.lookup(node.name)
        if variable is not None:
            self.instance.variables[node] = variable
            if variable.depth != self.depth:
                variable.captured = True
        return variable

    def grow_variable(self, variable: Variable, new: Type, node: ast.Node, *, literal: bool) -> None:
        """Make room in a variable for values of a type."""
        grown = self._grown(variable.type, new, variable.flexible, literal)
        if grown is None:
            assert variable.type is not None
            self.error(
                Code.TYPE_MISMATCH,
                node,
                f"Type mismatch for ${variable.name}: trying to assign value of type '{spell(new)}' "
                f"when variable already has a type '{spell(variable.type)}'",
                notes=self._first_use(variable.span, node.span),
            )
            return
        if not variable.fixed and grown != variable.type:
            variable.type = grown
            self.changed = True
        variable.flexible = variable.flexible and literal

    def use_unstable(self, node: ast.Node, feature: str) -> None:
        """Tell once that a feature is used which the neighbour calls unstable; with us it is not.

        What the neighbour refuses unless it is asked for is only refused in its face.
        """
        message = f"Script is using an unstable feature: {feature}."
        if any(message in found.message for found in self.diagnostics.found):
            return
        settings = {
            "tseries": (self.config.unstable_tseries, True),
            "dw_ustack": (self.config.unstable_dw_ustack, True),
            "typeinfo": (self.config.unstable_typeinfo, self.bpftrace),
            "import_statement": (self.config.unstable_import_statement, self.bpftrace),
        }
        setting, refused = settings[feature]
        hint = f"you must explicitly enable it in the config e.g. unstable_{feature}=enable"
        if setting == "error" and refused:
            self.error(Code.NOT_SUPPORTED, node, f"{message} To use this feature {hint}")
        elif setting == "warn" and self.bpftrace:
            self.diagnostics.warning(Code.DEPRECATED, node.span, f"{message} To prevent this warning {hint}")

    def refuse_in_for(self, node: ast.Node, name: str) -> None:
        """The neighbour's `for` loops have no context."""
        if self.for_loops and self.bpftrace:
            self.error(Code.NOT_HERE, node, f"'{name}' builtin is not allowed in a for-loop")

    def grow_map(self, info: MapInfo, new: Type, span: Span, *, literal: bool) -> None:
        """Make room in a map for values of a type."""
        grown = self._grown(info.value, new, info.flexible, literal)
        if grown is None:
            assert info.value is not None
            if isinstance(info.value, Histogram) and isinstance(new, Histogram):
                self.diagnostics.error(
                    Code.TYPE_MISMATCH,
                    span,
                    "Different bits in a single hist unsupported",
                    notes=self._first_use(info.first_value, span),
                )
                return
            self.diagnostics.error(
                Code.TYPE_MISMATCH,
                span,
                f"Type mismatch for {info.name}: trying to assign value of type '{spell(new)}' "
                f"when map already has a type '{spell(info.value)}'",
                notes=self._first_use(info.first_value, span),
            )
            return
        if grown != info.value:
            info.value = grown
            info.first_value = info.first_value or span
            self.changed = True
        info.flexible = info.flexible and literal

    @staticmethod
    def _grown(old: Type | None, new: Type, flexible: bool, literal: bool) -> Type | None:
        if old is None:
            return new
        if flexible or literal:  # a non-negative literal has no sign of its own
            merged = promote_literals(old, new, old_is_literal=flexible, new_is_literal=literal)
            if merged is not None:
                return merged
        return promote(old, new)

    # -- maps ----------------------------------------------------------------------------------

    def map(self, name: str) -> MapInfo:
        if name not in self.maps:
            self.maps[name] = MapInfo(name)
        return self.maps[name]

    def use_key(self, name: str, key: tuple[Type, ...] | None, span: Span, parts: tuple[ast.Expr, ...] = ()) -> None:
        """Note that a map is used with a key of these types (None: without a key), which are those of ``parts``."""
        info = self.map(name)
        if info.scalar is not None and info.scalar != (key is None):
            with_key, without = "with an explicit key (non-scalar map)", "without an explicit key (scalar map)"
            now, before = (without, with_key) if key is None else (with_key, without)
            self.diagnostics.error(
                Code.KEY_MISMATCH,
                span,
                f"{name} used as a map {now}, previously used {before}",
                notes=self._first_use(info.first_key, span),
            )
            return
        info.scalar = key is None
        info.first_key = info.first_key or span
        if key is not None:
            if len(parts) == 1 and isinstance(parts[0], ast.TupleExpr):
                parts = parts[0].elements
            values = [self.folder(part) for part in parts]
            natural = tuple(isinstance(value, int) and value >= 0 for value in values)
            self._grow_key(info, key, span, natural if len(natural) == len(key) else (False,) * len(key))

    def _grow_key(self, info: MapInfo, key: tuple[Type, ...], span: Span, literal: tuple[bool, ...]) -> None:
        if info.key is None:
            info.key, info.flexible_key = key, literal
            self.changed = True
            return
        flexible = info.flexible_key
        merged = [self._grown(*part) for part in zip(info.key, key, flexible, literal, strict=False)]
        if len(flexible) == len(literal):
            info.flexible_key = tuple(map(min, flexible, literal))
        grown = tuple(part for part in merged if part is not None)
        if len(info.key) != len(key) or len(grown) != len(key):
            self.diagnostics.error(
                Code.KEY_MISMATCH,
                span,
                f"Argument mismatch for {info.name}: trying to access with arguments: '{_spell_key(key)}' "
                f"when map expects arguments: '{_spell_key(info.key)}'",
                notes=self._first_use(info.first_key, span),
            )
        elif grown != info.key:
            info.key = grown
            self.changed = True

    def _first_use(self, first: Span | None, here: Span) -> tuple[Note, ...]:
        """A note on the place that decided, unless it is the one that is complained about. (The neighbour has none.)"""
        known = first is not None and first.start != here.start and not self.bpftrace
        return (Note(first, "first used here"),) if first is not None and known else ()


def _spell_key(key: tuple[Type, ...]) -> str:
    return spell(key[0]) if len(key) == 1 else f"({','.join(spell(part) for part in key)})"
