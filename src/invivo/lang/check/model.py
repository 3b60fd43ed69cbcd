"""What the checker finds out about a script: types of nodes, variables, maps."""

from __future__ import annotations

from invivo.diagnostics import Span
from invivo.ir.types import AddressSpace, Type
from invivo.lang import ast
from invivo.library.record import Builtin, Config
from invivo.record import Record
from invivo.target import Plan, Target


class Variable:
    """One declaration of a scratch variable in one instance of a probe.

    ``depth`` counts the loop callbacks around the declaration; ``captured``: it is used at
    another depth, so it must live in memory.
    """

    def __init__(self, name: str, span: Span, depth: int) -> None:
        self.name = name
        self.span = span
        self.depth = depth
        self.type: Type | None = None
        self.fixed = False  # declared with a type
        self.flexible = True  # only non-negative literals so far: may still become unsigned
        self.captured = False
        self.assigned = False  # so far, in the order of the text
        self.space: AddressSpace | None = None  # that its pointer points into
        self.first_space: AddressSpace | None = None


class MapInfo:
    """What is known of a map of the script, all probes together."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.key: tuple[Type, ...] | None = None
        self.flexible_key: tuple[bool, ...] = ()  # as ``flexible``, of the key's parts
        self.scalar: bool | None = None  # None: not used yet
        self.value: Type | None = None
        self.flexible = True
        self.first_key: Span | None = None
        self.first_value: Span | None = None
        self.declaration: ast.MapDeclaration | None = None
        self.deleted = False  # whether the script asks if the scalar exists
        self.space: AddressSpace | None = None  # that its pointer points into
        self.first_space: AddressSpace | None = None


class Instance:
    """One compilation of a probe's body: the probe, the plan it runs under, and its tables."""

    def __init__(self, probe: ast.Probe, plan: Plan) -> None:
        self.probe = probe
        self.plan = plan
        self.types: dict[ast.Node, Type] = {}
        self.variables: dict[ast.Node, Variable] = {}  # uses and declarations
        self.declared: dict[ast.Node, Variable] = {}  # by declaring node, kept from round to round
        self.builtins: dict[ast.Node, Builtin] = {}
        self.expansions: dict[ast.Node, ast.Expr] = {}  # calls that stand for something longer
        self.constants: dict[ast.Node, int | str] = {}  # names and operators whose value is known
        self.decided: dict[ast.Node, bool] = {}  # `if comptime`: whether its condition holds
        self.stands_for: dict[ast.Node, ast.Expr] = {}  # what is compiled in the place of a node


class Checked(Record):
    """``target`` is the machine with the script's own types before its."""

    script: ast.Script
    target: Target
    instances: tuple[Instance, ...]
    maps: dict[str, MapInfo]
    config: Config
    parameters: tuple[str, ...]
    bpftrace: bool
    warnings: bool = False  # programs report lookups that find nothing, and other failures
