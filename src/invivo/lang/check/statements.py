"""Statements: scopes, assignments, loops."""

from __future__ import annotations

from typing import assert_never

from invivo.diagnostics import Code, Note
from invivo.ir import types as t
from invivo.ir.types import Type
from invivo.lang import ast
from invivo.lang.check.calls import check_aggregation, not_assigned
from invivo.lang.check.comptime import decide
from invivo.lang.check.model import MapInfo, Variable
from invivo.lang.check.operators import check_condition, is_signed, join_branches, warn_signed_division
from invivo.lang.check.scope import Checker
from invivo.lang.check.spaces import space_of
from invivo.lang.check.typeexprs import resolve_type
from invivo.lang.check.values import check_map_key, readable_type, undefined_map
from invivo.library import find_builtin
from invivo.library.spelling import promote, promote_literals, spell


def check_block(c: Checker, block: ast.Block) -> Type | None:
    """Check a block in a scope of its own; its type is its trailing expression's, else void."""
    with c.scope():
        left: ast.Statement | None = None
        for statement in block.statements:
            if left is not None:
                c.diagnostics.warning(Code.UNREACHABLE, statement.span, "Unreachable statement.")
                left = None
            check_statement(c, statement)
            if _leaves(statement):
                left = statement
        result = t.VOID if block.result is None else c.check(block.result)
        c.warn_of_unassigned()
        return result


def _leaves(node: ast.Statement) -> bool:
    match node:
        case ast.Break() | ast.Continue() | ast.Return() | ast.ExprStatement(_, ast.Call(_, "exit")):
            return True
        case _:
            return False


def check_if(c: Checker, node: ast.IfExpr, *, comptime: bool = False) -> Type | None:
    """``comptime``: it stands behind that word, as do those after its ``else``."""
    if comptime or isinstance(node.condition, ast.Comptime):
        return _check_decided(c, node, comptime=comptime)
    check_condition(c, node.condition)
    truth = c.folder(node.condition)
    with c.unreached(truth == 0):
        then = check_block(c, node.then)
    with c.unreached(truth is not None and truth != 0):
        otherwise = _check_branch(c, node.otherwise, comptime=False)
    if node.otherwise is None:
        return t.VOID
    if then is None or otherwise is None or t.VOID in (then, otherwise):
        return t.VOID if t.VOID in (then, otherwise) else then or otherwise
    return join_branches(c, node, then, otherwise)


def _check_decided(c: Checker, node: ast.IfExpr, *, comptime: bool) -> Type | None:
    """Of the branches only the one that there is; none as long as that is not known."""
    known = node in c.instance.decided
    decided = decide(c, node)
    if decided is None:
        return None
    outer, c.deciding = c.deciding, c.deciding and known  # what stands in it may change what is known of types
    type_ = _check_branch(c, node.then if decided else node.otherwise, comptime=comptime)
    c.deciding = outer
    return type_


def _check_branch(c: Checker, branch: ast.Block | ast.IfExpr | None, *, comptime: bool) -> Type | None:
    match branch:
        case None:
            return t.VOID
        case ast.Block():
            return check_block(c, branch)
        case ast.IfExpr() if comptime:
            type_ = check_if(c, branch, comptime=True)
            if type_ is not None:
                c.instance.types[branch] = type_
            return type_
        case ast.IfExpr():
            return c.check(branch)


def check_statement(c: Checker, node: ast.Statement) -> None:
    if isinstance(node, ast.While | ast.ForRange | ast.ForMap) and c.depth == _MAX_LOOPS:
        c.error(Code.LIMIT, node, f"loops can be nested {_MAX_LOOPS} levels deep")
        return
    match node:
        case ast.ExprStatement(_, expr):
            _check_discarded(c, expr)
        case ast.Discard(_, expr):
            c.check(expr)
        case ast.Let():
            _check_let(c, node)
        case ast.Assign():
            _check_assign(c, node)
        case ast.While(_, condition, body):
            if c.bpftrace:
                c.diagnostics.warning(
                    Code.DEPRECATED,
                    node.span,
                    "While loops are deprecated and may be removed in the future.",
                    "use a for loop over a range: for $i : 0..100 { if (...) { break; } }",
                )
            with c.loop(callback=True):
                check_condition(c, condition)
                check_block(c, body)
        case ast.Unroll():
            _check_unroll(c, node)
        case ast.ForRange():
            _check_range(c, node)
        case ast.ForMap():
            _check_for_map(c, node)
        case ast.Break() | ast.Continue():
            if not c.loops:
                word = "break" if isinstance(node, ast.Break) else "continue"
                c.error(
                    Code.NOT_HERE,
                    node,
                    f"'{word}' statement is not allowed in a probe outside of a loop",
                    "return leaves the probe" if word == "break" else None,
                )
        case ast.Return(_, value):
            if value is not None:
                _check_return(c, value)
        case ast.ImportStatement(_, path):
            _check_import(c, node, path)
        case _:
            assert_never(node)


def _check_import(c: Checker, node: ast.ImportStatement, path: str) -> None:
    """In a block only the neighbour's own library is imported, and what it has is always there."""
    if path == "stdlib" or path.startswith("stdlib/"):
        return
    before = len(c.diagnostics.found)
    c.use_unstable(node, "import_statement")
    if len(c.diagnostics.found) == before or not c.diagnostics.has_errors:
        c.error(Code.BAD_IMPORT, node, f"'{path}' cannot be imported in a block", "import it before the first probe")


def _check_return(c: Checker, value: ast.Expr) -> None:
    type_ = c.check(value)
    if type_ is not None and not isinstance(type_, t.Int | t.Bool | t.Enumeration):
        c.error(Code.BAD_OPERAND, value, f"Probe return values can only be integers. Found {spell(type_)}")


def _check_discarded(c: Checker, expr: ast.Expr) -> None:
    type_ = c.check(expr)
    quiet = isinstance(expr, ast.Increment | ast.IfExpr | ast.BlockExpr)
    known = isinstance(expr, ast.Call) and expr.name == "delete"
    if type_ is not None and not isinstance(type_, t.Void) and not quiet and not known:
        c.diagnostics.warning(Code.DISCARDED, expr.span, "Return value discarded.", "_ = ... says that it is meant")


def _check_let(c: Checker, node: ast.Let) -> None:
    name = node.variable.name
    value = None if node.value is None else _check_value(c, node, node.value)
    if c.lookup(name) is not None:
        _shadowed(c, node.variable)
        return
    variable = c.declare(node, name)
    variable.assigned = node.value is not None
    c.instance.variables[node.variable] = variable
    if isinstance(node.type, ast.NamedType) and node.type.name in _NOT_DECLARABLE:
        c.error(Code.UNKNOWN_TYPE, node.type, f"Invalid variable declaration type: {node.type.name}")
        return
    if node.type is not None:
        fixed = resolve_type(c, node.type)
        if fixed is None:
            return
        if t.is_aggregation(fixed) or isinstance(fixed, t.Void):
            c.error(Code.UNKNOWN_TYPE, node.type, f"Invalid variable declaration type: {spell(fixed)}")
            return
        variable.type, variable.fixed = fixed, True
        if value is not None and node.value is not None:
            _check_fits(c, node.value, f"${name}", fixed, value)
        return
    if value is not None and node.value is not None:
        c.grow_variable(variable, value, node, literal=_is_natural(c, node.value))
        _note_space(c, variable, value, node.value)


def _note_space(c: Checker, holder: Variable | MapInfo, type_: Type, value: ast.Expr) -> None:
    """Remember which memory a stored pointer points into."""
    holder.space = space_of(c.instance, value)
    if not isinstance(type_, t.Pointer):
        return
    if holder.first_space is None:
        holder.first_space = holder.space
    elif holder.first_space is not holder.space:
        c.diagnostics.warning(Code.TYPE_MISMATCH, value.span, "Addrspace mismatch")


_NOT_DECLARABLE = frozenset(
    (
        *("count_t", "sum_t", "usum_t", "min_t", "umin_t", "max_t", "umax_t", "avg_t", "uavg_t", "stats_t", "ustats_t"),
        *("hist_t", "lhist_t", "tseries_t", "kstack_t", "ustack_t"),
    )
)


def _shadowed(c: Checker, written: ast.ScratchVariable) -> None:
    before = c.lookup(written.name)
    c.error(
        Code.SHADOWED_VARIABLE,
        written,
        f"Variable ${written.name} was already declared. Variable shadowing is not allowed.",
        "use another name",
        notes=() if before is None else (Note(before.span, "declared here"),),
    )


def _check_fits(c: Checker, node: ast.Expr, what: str, fixed: Type, value: Type) -> None:
    constant = c.folder(node)
    if isinstance(fixed, t.Int) and isinstance(value, t.Int | t.Bool | t.Enumeration):
        low, high = (-(1 << (fixed.bits - 1)), 1 << (fixed.bits - 1)) if fixed.signed else (0, 1 << fixed.bits)
        if isinstance(constant, int) and not c.bpftrace and not low <= constant < high:
            c.error(Code.TYPE_MISMATCH, node, f"Type mismatch for {what}: {constant} does not fit '{spell(fixed)}'")
        if not c.bpftrace or (low <= constant < high if isinstance(constant, int) else _width(value) <= fixed.bits):
            return  # a wider number is cut, which the neighbour refuses
        _does_not_fit(c, node, what, fixed, value)
        return
    merged = promote(fixed, value)
    if merged is None or (not isinstance(fixed, t.Int) and merged != fixed):
        _does_not_fit(c, node, what, fixed, value)


def _width(type_: Type) -> int:
    return 8 * t.size_bytes(type_)


def _does_not_fit(c: Checker, node: ast.Expr, what: str, fixed: Type, value: Type) -> None:
    c.error(
        Code.TYPE_MISMATCH,
        node,
        f"Type mismatch for {what}: trying to assign value of type '{spell(value)}' "
        f"when variable already has a type '{spell(fixed)}'",
    )


def _check_value(c: Checker, assignment: ast.Node, node: ast.Expr, target: str = "a scratch variable") -> Type | None:
    """An assigned value: not void, not an aggregation."""
    if isinstance(node, ast.MapAccess) and readable_type(held := c.map(node.name).value or t.INT64) is None:
        c.error(Code.AGGREGATION, assignment, f"Value '{spell(held)}' cannot be assigned to {target}.")
        return None
    if isinstance(node, ast.Call) and (builtin := find_builtin(node.name)) is not None and builtin.update:
        not_assigned(c, node)
        return None
    type_ = c.check(node)
    if isinstance(type_, t.Void):
        c.error(Code.BAD_ASSIGNMENT, assignment, f"Value 'void' cannot be assigned to {target}.", _no_value_hint(node))
        return None
    return type_


def _no_value_hint(node: ast.Expr) -> str | None:
    match node:
        case ast.IfExpr(otherwise=None):
            return "a value needs an else branch, too"
        case ast.IfExpr() | ast.BlockExpr():
            return "a block's value is its last expression, without a semicolon"
        case _:
            return None


def _is_natural(c: Checker, node: ast.Expr) -> bool:
    value = c.folder(node)
    return isinstance(value, int) and value >= 0


def _check_assign(c: Checker, node: ast.Assign) -> None:
    match node.target:
        case ast.MapAccess() as target:
            _assign_map(c, node, target)
        case ast.ScratchVariable() as target:
            _assign_variable(c, node, target)
        case ast.TupleIndex() | ast.Member():
            c.error(
                Code.BAD_ASSIGNMENT,
                node.target,
                "Tuples and records are immutable once created. Consider creating a new one and assigning it instead.",
            )
        case _:
            c.error(Code.BAD_ASSIGNMENT, node.target, "invalid assignment target", "assign to $variable or @map")


def _assign_map(c: Checker, node: ast.Assign, target: ast.MapAccess) -> None:
    check_map_key(c, target)
    info = c.map(target.name)
    value = node.value
    if isinstance(value, ast.Call) and (builtin := find_builtin(value.name)) is not None and builtin.update:
        if node.op:
            hint = f"write {target.span.text} = {value.name}(...): it adds to what is there"
            c.error(Code.AGGREGATION, node, f"{value.name}() must be assigned with =", hint)
            return
        aggregation = check_aggregation(c, value, builtin, target)
        if aggregation is not None:
            c.grow_map(info, aggregation, node.span, literal=False)
        return
    if isinstance(value, ast.MapAccess) and t.is_aggregation(c.map(value.name).value or t.VOID):
        check_map_key(c, value)
        _aggregation_copied(c, node, target.name, value.name)
        return
    type_ = _check_value(c, node, value, "a map")
    if type_ is None:
        return
    if info.value is not None and t.is_aggregation(info.value):
        c.error(
            Code.AGGREGATION,
            node,
            f"Type mismatch for {target.name}: trying to assign value of type '{spell(type_)}' "
            f"when map already has a type '{spell(info.value)}'",
            f"clear({target.name}) resets it; another name keeps both",
        )
        return
    if node.op:
        if info.value is not None:
            c.check(target)  # it is read, too
        type_ = _compound_type(c, node, info.value, type_)
    if type_ is not None:
        c.grow_map(info, type_, node.span, literal=not node.op and _is_natural(c, value))
        _note_space(c, info, type_, value)


# Of the neighbour's examples.
_AGGREGATION_ARGUMENTS = {"count": "", "lhist": "rand %10, 0, 10, 1", "tseries": "rand %10, 10s, 1", "stats": "arg2"}


def _aggregation_copied(c: Checker, node: ast.Assign, target: str, source: str) -> None:
    type_ = c.map(source).value or t.VOID
    name = spell(type_).removesuffix("_t")
    call = f"{name}({_AGGREGATION_ARGUMENTS.get(name, 'retval')})"
    c.error(
        Code.AGGREGATION,
        node,
        f"Map value '{spell(type_)}' cannot be assigned from one map to another. "
        f"The function that returns this type must be called directly e.g. `{target} = {call};`.",
        None
        if readable_type(type_) is None
        else f"Add a cast to integer if you want the value of the aggregate, e.g. `{target} = (int64){source};`.",
    )


def _assign_variable(c: Checker, node: ast.Assign, target: ast.ScratchVariable) -> None:
    type_ = _check_value(c, node, node.value)
    variable = c.use(target)
    if variable is None:
        if node.op:
            c.error(Code.UNKNOWN_VARIABLE, target, f"Undefined or undeclared variable: ${target.name}")
            return
        variable = c.declare(target, target.name)
    if node.op:
        c.check(target)
    variable.assigned = True
    if type_ is None:
        return
    if node.op:
        type_ = _compound_type(c, node, variable.type, type_)
        if type_ is None:
            return
    if variable.fixed and variable.type is not None:
        _check_fits(c, node.value, f"${target.name}", variable.type, type_)
        return
    if isinstance(node.value, ast.Unary) and node.value.op == "&":
        _follow(c, variable, type_)
    c.grow_variable(variable, type_, node, literal=not node.op and _is_natural(c, node.value))
    _note_space(c, variable, type_, node.value)


def _follow(c: Checker, variable: Variable, type_: Type) -> None:
    """A pointer to a variable points to more if that variable has grown since the last round."""
    old = variable.type
    if not isinstance(old, t.Pointer) or not isinstance(type_, t.Pointer) or old == type_:
        return
    if promote(old.pointee, type_.pointee) == type_.pointee:
        variable.type = type_
        c.changed = True


def _compound_type(c: Checker, node: ast.Assign, old: Type | None, value: Type) -> Type | None:
    """The type of ``target op value``."""
    if old is None:
        return value
    if isinstance(old, t.Pointer) and node.op in "+-":
        return old
    numbers = (t.Int, t.Bool, t.Enumeration)
    if not isinstance(old, numbers) or not isinstance(value, numbers):
        c.error(Code.BAD_OPERAND, node, f"Type mismatch for '{node.op}': comparing {spell(old)} with {spell(value)}")
        return None
    if node.op == "-":
        return t.INT64
    if c.bpftrace and node.op in "/%" and (is_signed(old) or (is_signed(value) and not _is_natural(c, node.value))):
        warn_signed_division(c, node, node.op)
    if node.op in ("<<", ">>") or _is_natural(c, node.value):
        return t.Int(64, is_signed(old))
    return t.Int(64, is_signed(old) or is_signed(value))


# -- loops -------------------------------------------------------------------------------------

_MAX_UNROLL = 100
_MAX_COPIES = 4096
_MAX_LOOPS = 7  # in each other: a callback each, beneath the program, and the kernel allows 8 frames


def _check_unroll(c: Checker, node: ast.Unroll) -> None:
    c.check(node.count)
    count = c.folder(node.count)
    if not isinstance(count, int):
        c.error(Code.BAD_ARGUMENT, node.count, "invalid unroll value", "it must be known when the script is compiled")
    elif count < 1:
        c.error(Code.LIMIT, node.count, "unroll minimum value is 1")
    elif count > _MAX_UNROLL:
        c.error(Code.LIMIT, node.count, f"unroll maximum value is {_MAX_UNROLL}")
    elif c.copies * count > _MAX_COPIES:
        what = f"unrolled loops would write this out {c.copies * count} times, more than {_MAX_COPIES}"
        c.error(Code.LIMIT, node.count, what, "for $i : 0..N is a loop at run time")
    else:
        c.instance.constants[node] = count
        c.copies *= count
        with c.loop(callback=False):
            check_block(c, node.body)
        c.copies //= count


def _check_range(c: Checker, node: ast.ForRange) -> None:
    start, stop = c.check(node.start), c.check(node.stop)
    for side, type_ in ((node.start, start), (node.stop, stop)):
        if type_ is not None and not isinstance(type_, t.Int):
            end = "start" if side is node.start else "end"
            c.error(Code.BAD_OPERAND, side, f"Loop range requires an integer for the {end} value")
    range_type: Type = t.INT64
    if isinstance(start, t.Int) and isinstance(stop, t.Int):
        literals = (_is_natural(c, node.start), _is_natural(c, node.stop))
        range_type = _range_type(start, stop, literals)
    with c.loop(callback=True, is_for=True), c.scope():
        _declare_loop_variable(c, node, node.variable, range_type)
        check_block(c, node.body)


def _range_type(start: t.Int, stop: t.Int, literals: tuple[bool, bool]) -> Type:
    """The type that holds both ends of a range."""
    if any(literals):
        merged = promote_literals(start, stop, old_is_literal=literals[0], new_is_literal=literals[1])
    else:
        merged = promote(start, stop)
    assert merged is not None, "integers always have a common type"
    return merged


def _check_for_map(c: Checker, node: ast.ForMap) -> None:
    info = c.map(node.map.name)
    if node.map.keys:
        c.error(Code.BAD_OPERAND, node.map, "a loop goes over a whole map", f"write {node.map.name} without a key")
    if info.scalar:
        c.error(
            Code.KEY_MISMATCH,
            node.map,
            f"{info.name} has no explicit keys (scalar map), and cannot be used for iteration",
            f"{info.name} is one value: read it without a loop",
        )
        return
    with c.loop(callback=True, is_for=True), c.scope():
        if info.key is None or info.value is None:
            if c.final:
                undefined_map(c, node.map)
            variable = c.declare(node, node.variable.name)
            variable.assigned = True
            c.instance.variables[node.variable] = variable
            check_block(c, node.body)
            return
        value = readable_type(info.value)
        if value is None:
            c.error(
                Code.AGGREGATION,
                node.map,
                f"Loop expression does not support type: {spell(info.value)}",
                f"print({info.name}) shows it",
            )
            return
        key = info.key[0] if len(info.key) == 1 else t.Tuple(info.key)
        _declare_loop_variable(c, node, node.variable, t.Tuple((key, value)))
        check_block(c, node.body)


def _declare_loop_variable(c: Checker, node: ast.Node, written: ast.ScratchVariable, type_: Type) -> None:
    if c.lookup(written.name) is not None:
        _shadowed(c, written)
    variable = c.declare(node, written.name)
    variable.assigned = True
    c.instance.variables[written] = variable
    if variable.type != type_:
        variable.type = type_
        c.changed = True
