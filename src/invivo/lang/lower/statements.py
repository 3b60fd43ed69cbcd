"""Statements: scopes, assignments, branches, loops."""

from __future__ import annotations

from collections.abc import Callable
from typing import assert_never

from invivo.ir import helpers
from invivo.ir import types as t
from invivo.ir.layout import LossKind
from invivo.ir.ops import CompareOp, FunctionKind, Kind, Operand, Value
from invivo.lang import ast
from invivo.lang.check.operators import is_signed
from invivo.lang.check.probes import children, walk
from invivo.lang.lower import memory
from invivo.lang.lower.arithmetic import arithmetic
from invivo.lang.lower.body import Body, Loop
from invivo.lang.lower.maps import aggregate, assign_map, change_element, increment_map, read_aggregation, stored
from invivo.library import find_builtin
from invivo.library.record import Place

_MAX_LOOPS = 1 << 23  # BPF_MAX_LOOPS, kernel/bpf/verifier.c
_MAX_WHILE = 1 << 17  # a program that loops longer than this hurts the machine it traces


def lower_block(body: Body, block: ast.Block) -> None:
    """Run a block for its effects."""

    def use(result: ast.Expr) -> None:
        with body.statement(result.span):
            _discard(body, result)

    lower_block_value(body, block, use)


def lower_block_value(body: Body, block: ast.Block, use: Callable[[ast.Expr], None]) -> None:
    """Run a block and hand its trailing expression, if it has one, to ``use``."""
    for statement in block.statements:
        if not body.b.open:
            return
        with body.statement(statement.span):
            _lower_statement(body, statement)
    if block.result is not None and body.b.open:
        use(block.result)


def _lower_statement(body: Body, node: ast.Statement) -> None:
    if body.instance.expansions:
        _zero_found(body, node)
    match node:
        case ast.ExprStatement(_, expr) | ast.Discard(_, expr):
            _discard(body, expr)
        case ast.Let():
            _lower_let(body, node)
        case ast.Assign():
            _lower_assign(body, node)
        case ast.While():
            _lower_while(body, node)
        case ast.Unroll():
            _lower_unroll(body, node)
        case ast.ForRange():
            _lower_range(body, node)
        case ast.ForMap():
            _lower_for_map(body, node)
        case ast.Break():
            _leave_loop(body, body.loops[-1].on_break, 1)
        case ast.Continue():
            _leave_loop(body, body.loops[-1].on_continue, 0)
        case ast.Return(_, value):
            if value is not None and "result" in body.context.features:
                body.store_shared("result", body.word(value))
            body.leave()
        case ast.ImportStatement():
            pass  # the library's functions are always there
        case _:
            assert_never(node)


def _zero_found(body: Body, node: ast.Node) -> None:
    """Make variables that ``find()`` declares zero, whether or not it is reached: ``@a && find(@m, 1, $v)``."""
    for part in children(node):
        if not isinstance(part, ast.Block):
            _zero_found(body, part)
    if node in body.instance.expansions and isinstance(node, ast.Call):
        for argument in node.arguments:
            if argument in body.instance.declared:
                memory.zero_variable(body, body.instance.variables[argument])


def _discard(body: Body, node: ast.Expr) -> None:
    """Run an expression for its effects."""
    if body.folder(node) is not None:
        return
    node = body.meant(node)
    match node:
        case ast.IfExpr():
            lower_if(body, node, lambda value: _discard(body, value))
        case ast.BlockExpr(_, block):
            body.block(block)
        case ast.Increment(_, ast.MapAccess() as target, delta, prefix):
            type_ = body.type(node)
            step = delta * (t.size_bytes(type_.pointee) if isinstance(type_, t.Pointer) else 1)
            increment_map(body, target, step, used=False, prefix=prefix)
        case ast.Call():
            type_ = body.type(node)
            place = None if t.is_scalar(type_) or isinstance(type_, t.Void) else body.temporary(t.size_bytes(type_))
            body.call(node, place, discarded=True)
        case ast.Ternary(_, test, then, otherwise):
            yes, no, done = (body.b.label(part) for part in ("then", "else", "chosen"))
            body.condition(test, yes, no)
            body.b.start(yes)
            if then is not None:
                _discard(body, then)
            body.b.jump(done)
            body.b.start(no)
            _discard(body, otherwise)
            body.b.start(done)
        case _ if t.is_scalar(body.type(node)):
            body.word(node)
        case _:
            body.address(node)


# -- assignment --------------------------------------------------------------------------------


def _lower_let(body: Body, node: ast.Let) -> None:
    variable = body.instance.variables[node]
    if variable.type is None:
        return
    if node.value is None:
        memory.zero_variable(body, variable)
    else:
        _set(body, node, node.value)


def _set(body: Body, node: ast.Node, value: ast.Expr) -> None:
    variable = body.instance.variables[node]
    assert variable.type is not None
    if not t.is_scalar(variable.type):
        place = body.variable_place(variable)
        if _mentions(body, value, node):  # $s = f($s): build it elsewhere first
            built = body.temporary(t.size_bytes(variable.type))
            body.into(value, variable.type, built)
            memory.read_into(body, built, place, t.size_bytes(variable.type))
        else:
            body.into(value, variable.type, place)
        return
    body.set_variable(variable, _fitted(body, node, body.word(value)))


def _mentions(body: Body, value: ast.Expr, node: ast.Node) -> bool:
    from_ = body.instance.variables[node]
    return any(body.instance.variables.get(used) is from_ for used in walk(value))


def _fitted(body: Body, node: ast.Node, value: Operand) -> Operand:
    """Cut a number to the width that the variable was declared with."""
    type_ = body.instance.variables[node].type
    return body.b.extend(value, type_.bits, type_.signed) if isinstance(type_, t.Int) else value


def _lower_assign(body: Body, node: ast.Assign) -> None:
    value = node.value
    match node.target:
        case ast.MapAccess() as target:
            builtin = find_builtin(value.name) if isinstance(value, ast.Call) else None
            if isinstance(value, ast.Call) and builtin is not None and builtin.update is not None:
                aggregate(body, target, value, builtin)
            elif node.op:
                change_element(body, target, lambda old: _combined(body, node, old))
            else:
                assign_map(body, target, value)
        case ast.ScratchVariable() as target:
            if node.op:
                combined = _fitted(body, target, _combined(body, node, body.word(target)))
                body.set_variable(body.instance.variables[target], combined)
            else:
                _set(body, target, value)
        case _:
            raise AssertionError("refused by the checker")


def _combined(body: Body, node: ast.Assign, old: Operand) -> Operand:
    """The value of ``target op value``."""
    new = body.word(node.value)
    type_ = body.type(node.target)
    if isinstance(type_, t.Pointer):
        new = memory.scaled(body, new, t.size_bytes(type_.pointee))
    constant = body.folder(node.value)
    natural = isinstance(constant, int) and constant >= 0
    signed = is_signed(type_) or (is_signed(body.type(node.value)) and not natural)
    if node.op in ("<<", ">>"):
        signed = is_signed(type_)
    return arithmetic(body, node.op, old, new, signed=signed)


# -- branches ----------------------------------------------------------------------------------


def lower_if(body: Body, node: ast.IfExpr, use: Callable[[ast.Expr], None]) -> None:
    b = body.b
    decided = body.instance.decided.get(node)
    if decided is not None:
        _lower_branch(body, node.then if decided else node.otherwise, use)
        return
    then, otherwise, done = b.label("then"), b.label("else"), b.label("endif")
    body.condition(node.condition, then, otherwise if node.otherwise is not None else done)
    b.start(then)
    lower_block_value(body, node.then, use)
    b.jump(done)
    if node.otherwise is not None:
        b.start(otherwise)
        _lower_branch(body, node.otherwise, use)
    b.start(done)


def _lower_branch(body: Body, branch: ast.Block | ast.IfExpr | None, use: Callable[[ast.Expr], None]) -> None:
    match branch:
        case ast.Block():
            lower_block_value(body, branch, use)
        case ast.IfExpr():
            lower_if(body, branch, use)
        case None:
            pass


# -- loops -------------------------------------------------------------------------------------


def _leave_loop(body: Body, label: str | None, result: int) -> None:
    if label is None:
        body.b.ret(result)
    else:
        body.b.jump(label)


def _lower_unroll(body: Body, node: ast.Unroll) -> None:
    end = body.b.label("unrolled")
    count = body.instance.constants[node]
    assert isinstance(count, int)
    for _ in range(count):
        again = body.b.label("unroll")
        body.loops.append(Loop(end, again))
        body.block(node.body)
        body.loops.pop()
        body.b.start(again)
    body.b.start(end)


def _lower_while(body: Body, node: ast.While) -> None:
    """A callback that tests, runs the body, and is called until it says stop."""
    with body.callback(FunctionKind.LOOP, (Kind.WORD, Kind.STACK)) as inner:
        stop, go = inner.label("stop"), inner.label("go")
        body.condition(node.condition, go, stop)
        inner.start(stop)
        inner.ret(1)
        inner.start(go)
        body.loops.append(Loop(None, None))
        body.block(node.body)
        body.loops.pop()
    b = body.b
    done = b.call(helpers.LOOP, _MAX_WHILE, b.function(body.state.functions[-1].name), body.frame_here, 0)
    capped, on = b.label("capped"), b.label("looped")
    b.branch(CompareOp.SGE, done, _MAX_WHILE, capped, on)
    b.start(capped)
    body.lose(LossKind.LOOP_CAPPED)
    b.start(on)
    body.after_loop()


def _lower_range(body: Body, node: ast.ForRange) -> None:
    b = body.b
    variable = body.instance.variables[node]
    start, stop = body.word(node.start), body.word(node.stop)
    body.store_shared(("start", node), start)
    count = b.variable("count")
    some, cut, run, skip = b.label("range"), b.label("range_cut"), b.label("range_run"), b.label("range_done")
    b.set(count, b.sub(stop, start))
    b.branch(CompareOp.SGT if is_signed(variable.type or t.INT64) else CompareOp.UGT, stop, start, some, skip)
    b.start(some)
    b.branch(CompareOp.UGT, b.get(count), _MAX_LOOPS, cut, run)
    b.start(cut)
    body.lose(LossKind.LOOP_CAPPED)
    b.set(count, _MAX_LOOPS)
    b.start(run)
    with body.callback(FunctionKind.LOOP, (Kind.WORD, Kind.STACK)) as inner:
        base = body.load_shared(("start", node))
        body.set_variable(variable, inner.add(base, inner.parameters[0]))
        body.loops.append(Loop(None, None))
        body.block(node.body)
        body.loops.pop()
    b.call_void(helpers.LOOP, b.get(count), b.function(body.state.functions[-1].name), body.frame_here, 0)
    body.after_loop()
    b.start(skip)


_EACH = (Kind.MAP, Kind.MAP_VALUE, Kind.MAP_VALUE, Kind.STACK)


def _lower_for_map(body: Body, node: ast.ForMap) -> None:
    entry = stored(body, node.map.name)
    variable = body.instance.variables[node]
    with body.callback(FunctionKind.EACH, _EACH) as inner:
        _, key, value, _ = inner.parameters
        _load_element(body, node, key, value)
        body.loops.append(Loop(None, None))
        body.block(node.body)
        body.loops.pop()
    assert variable.type is not None
    b = body.b
    function = b.function(body.state.functions[-1].name)
    b.call_void(helpers.FOR_EACH_MAP_ELEM, b.map(entry.layout.map), function, body.frame_here, 0)
    body.after_loop()


def _load_element(body: Body, node: ast.ForMap, key: Value, value: Value) -> None:
    """Set the loop's variable to the pair of the visited element's key and value."""
    entry = stored(body, node.map.name)
    variable = body.instance.variables[node]
    assert isinstance(variable.type, t.Tuple)
    place = body.variable_place(variable)
    offsets, size = t.tuple_layout(variable.type.elements)
    b = body.b
    b.zero(place.pointer, place.offset, size, 1 if size % 8 else 8)
    memory.read_into(body, Place(key, 0), place.at(offsets[0]), entry.key_size)
    target = place.at(offsets[1])
    type_ = entry.layout.value
    if t.is_aggregation(type_):
        held = body.temporary(entry.key_size)
        memory.read_into(body, Place(key, 0), held, entry.key_size)
        b.store(target.pointer, target.offset, 8, read_aggregation(body, entry, held))
        return
    memory.read_into(body, Place(value, 0), target, t.size_bytes(type_))
