"""The syntax tree of the C-like tracing languages: what the text says, before any meaning.

Nodes compare by identity, so later stages keep what they find out (types, resolved names)
in tables keyed by node.  Every node has the span of its text.
"""

from __future__ import annotations

from invivo.diagnostics import SourceFile, Span
from invivo.record import Record


class Node(Record, eq=False):
    span: Span


# -- expressions -------------------------------------------------------------------------------


class Integer(Node, eq=False):
    """``value`` is non-negative; a minus sign is a `Unary`. ``duration``: the literal had a time suffix."""

    value: int
    duration: bool = False


class StringLiteral(Node, eq=False):
    """Escapes are already replaced. One character stands for one byte (latin-1) of UTF-8 text.

    ``written`` in the script, whose limits it has to keep then; others the compiler has made.
    """

    value: str
    written: bool = True


class Boolean(Node, eq=False):
    value: bool


class Name(Node, eq=False):
    """A bare identifier: builtin value, macro, enum constant, macro parameter ..."""

    name: str


class ScratchVariable(Node, eq=False):
    """``$x``; ``name`` has no dollar sign."""

    name: str


class PositionalParameter(Node, eq=False):
    """``$1``; ``index`` counts from 1."""

    index: int


class ParameterCount(Node, eq=False):
    """``$#``"""


class MapAccess(Node, eq=False):
    """``@x``, ``@x[k]``, ``@x[a, b]``: ``keys`` is () without brackets. ``name`` has its ``@``."""

    name: str
    keys: tuple[Expr, ...]


class Unary(Node, eq=False):
    """``op`` is one of - ! ~ * & (prefix)."""

    op: str
    operand: Expr


class Increment(Node, eq=False):
    """``++x``, ``x--`` ...: ``delta`` is 1 or -1; ``prefix`` says which value the expression has."""

    operand: Expr
    delta: int
    prefix: bool


class Binary(Node, eq=False):
    op: str  # || && | ^ & == != < <= > >= << >> + - * / %
    left: Expr
    right: Expr


class Ternary(Node, eq=False):
    """``a ? b : c``; ``a ?: c`` has ``then`` None and evaluates ``a`` once."""

    condition: Expr
    then: Expr | None
    otherwise: Expr


class Member(Node, eq=False):
    """``x.name``, ``x->name``"""

    object: Expr
    name: str
    name_span: Span
    arrow: bool


class TupleIndex(Node, eq=False):
    """``x.0``"""

    object: Expr
    index: int


class Index(Node, eq=False):
    """``x[i]``"""

    object: Expr
    index: Expr


class Cast(Node, eq=False):
    type: TypeExpr
    operand: Expr


class TupleExpr(Node, eq=False):
    """``(a, b)``, ``(a,)``, ``()``"""

    elements: tuple[Expr, ...]


class RecordExpr(Node, eq=False):
    """``(a=1, b=2)``"""

    names: tuple[str, ...]
    elements: tuple[Expr, ...]


class Call(Node, eq=False):
    """``f(a, b)``. An argument is an expression, or a type where the text has ``typeof(...)``."""

    name: str
    name_span: Span
    arguments: tuple[Expr | TypeExpr, ...]


class SizeOf(Node, eq=False):
    operand: Expr | TypeExpr


class OffsetOf(Node, eq=False):
    operand: Expr | TypeExpr
    path: tuple[str, ...]


class TypeInfo(Node, eq=False):
    operand: Expr | TypeExpr


class Comptime(Node, eq=False):
    operand: Expr


class BlockExpr(Node, eq=False):
    """``{ stmts; expr }``"""

    block: Block


class IfExpr(Node, eq=False):
    """``if`` as statement or expression; ``otherwise`` is a block, another `IfExpr` or None."""

    condition: Expr
    then: Block
    otherwise: Block | IfExpr | None


Expr = (
    Integer
    | StringLiteral
    | Boolean
    | Name
    | ScratchVariable
    | PositionalParameter
    | ParameterCount
    | MapAccess
    | Unary
    | Increment
    | Binary
    | Ternary
    | Member
    | TupleIndex
    | Index
    | Cast
    | TupleExpr
    | RecordExpr
    | Call
    | SizeOf
    | OffsetOf
    | TypeInfo
    | Comptime
    | BlockExpr
    | IfExpr
)

# -- types -------------------------------------------------------------------------------------


class NamedType(Node, eq=False):
    """``uint64``, ``struct task_struct``, ``string``: ``keyword`` is "struct", "union", "enum" or ""."""

    keyword: str
    name: str


class PointerType(Node, eq=False):
    target: TypeExpr


class ArrayType(Node, eq=False):
    """``int[4]``, ``string[64]``, ``uint8[]`` (``length`` None)."""

    element: TypeExpr
    length: int | None


class TypeOf(Node, eq=False):
    operand: Expr | TypeExpr


TypeExpr = NamedType | PointerType | ArrayType | TypeOf

# -- statements --------------------------------------------------------------------------------


class Block(Node, eq=False):
    """``result`` is the trailing expression without a semicolon, the block's value."""

    statements: tuple[Statement, ...]
    result: Expr | None


class ExprStatement(Node, eq=False):
    expr: Expr


class Discard(Node, eq=False):
    """``_ = expr;``"""

    expr: Expr


class Let(Node, eq=False):
    """``let $x: type = value;``"""

    variable: ScratchVariable
    type: TypeExpr | None
    value: Expr | None


class Assign(Node, eq=False):
    """``target = value``; ``op`` is "" or the operator of ``op=``.

    The parser accepts any expression as target; the checker names the ones that are none.
    """

    target: Expr
    op: str
    value: Expr


class While(Node, eq=False):
    condition: Expr
    body: Block


class Unroll(Node, eq=False):
    count: Expr
    body: Block


class ForRange(Node, eq=False):
    """``for $i : a..b { }``"""

    variable: ScratchVariable
    start: Expr
    stop: Expr
    body: Block


class ForMap(Node, eq=False):
    """``for $kv : @m { }``"""

    variable: ScratchVariable
    map: MapAccess
    body: Block


class Break(Node, eq=False):
    pass


class Continue(Node, eq=False):
    pass


class Return(Node, eq=False):
    value: Expr | None


class ImportStatement(Node, eq=False):
    path: str


Statement = (
    ExprStatement
    | Discard
    | Let
    | Assign
    | While
    | Unroll
    | ForRange
    | ForMap
    | Break
    | Continue
    | Return
    | ImportStatement
)

# -- the whole ---------------------------------------------------------------------------------


class AttachPoint(Node, eq=False):
    """``tracepoint:sched:*``: raw text and its parts; quotes are removed from parts.

    ``label`` is the user's ``name=`` before it.  ``alternatives``: what stands after ``or``, for
    machines that do not have it.
    """

    text: str
    provider: str
    fields: tuple[str, ...]
    label: str = ""
    alternatives: tuple[AttachPoint, ...] = ()


class Probe(Node, eq=False):
    attach_points: tuple[AttachPoint, ...]
    predicate: Expr | None
    body: Block


class ConfigEntry(Node, eq=False):
    key: str
    value: str | int | bool


class Config(Node, eq=False):
    entries: tuple[ConfigEntry, ...]


class Import(Node, eq=False):
    path: str


class CStatement(Node, eq=False):
    """A preprocessor line or a struct, union or enum definition, as text."""

    text: str


class MapDeclaration(Node, eq=False):
    """``let @m = lruhash(100);``"""

    name: str
    kind: str
    max_entries: int


class Macro(Node, eq=False):
    """``parameters`` are names with their sigil: ``$v``, ``@m`` or plain."""

    name: str
    parameters: tuple[str, ...]
    body: Block


class Parameter(Node, eq=False):
    name: str
    type: TypeExpr


class Subprogram(Node, eq=False):
    name: str
    parameters: tuple[Parameter, ...]
    result: TypeExpr
    body: Block


class Script(Node, eq=False):
    source: SourceFile
    c_statements: tuple[CStatement, ...]
    config: Config | None
    imports: tuple[Import, ...]
    map_declarations: tuple[MapDeclaration, ...]
    macros: tuple[Macro, ...]
    subprograms: tuple[Subprogram, ...]
    probes: tuple[Probe, ...]
