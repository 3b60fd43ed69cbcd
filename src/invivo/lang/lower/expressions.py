"""Values: every expression either gives one machine word or is stored at a place."""

from __future__ import annotations

import re

from invivo.ir import helpers
from invivo.ir import types as t
from invivo.ir.ops import BinaryOp, CompareOp, Operand
from invivo.ir.types import Type
from invivo.lang import ast
from invivo.lang.check.operators import COMPARISONS, is_signed
from invivo.lang.check.values import is_args
from invivo.lang.lower import memory
from invivo.lang.lower.arithmetic import arithmetic, comparison
from invivo.lang.lower.body import Body
from invivo.lang.lower.calls import lower_builtin
from invivo.lang.lower.maps import increment_map, read_map, read_map_into
from invivo.lang.lower.state import NAMES_MAP
from invivo.lang.lower.statements import lower_block_value, lower_if
from invivo.library.access import common_alignment, load_access, store_text
from invivo.library.record import Place
from invivo.library.spelling import PROBE_NAME_CAPACITY
from invivo.target import ContextAddress, ContextLoad

_ARGUMENT = re.compile(r"arg(\d+)\Z")


# -- words -------------------------------------------------------------------------------------


def word(body: Body, node: ast.Expr) -> Operand:
    """Evaluate a scalar expression."""
    constant = body.folder(node)
    if isinstance(constant, int):
        return constant
    match node:
        case ast.Name() | ast.Call():
            return _name_or_call(body, node)
        case ast.ScratchVariable():
            return body.get_variable(body.instance.variables[node])
        case ast.MapAccess():
            return read_map(body, node)
        case ast.Unary():
            return _unary(body, node)
        case ast.Increment():
            return increment(body, node, used=True)
        case ast.Binary():
            return _binary(body, node)
        case ast.Ternary():
            return _choose(body, node)
        case ast.Member() if is_args(node.object):
            argument = memory.find_argument(body, node.name)
            value = load_access(body.emit(node), argument.access, argument.type, None)
            assert value is not None
            return value
        case ast.Member():
            where, bits = memory.locate_member(body, node)
            return memory.read_scalar(body, where, body.type(node), bits)
        case ast.Index() if (word := _context_element(body, node)) is not None:
            return word
        case ast.Index() | ast.TupleIndex():
            return memory.read_scalar(body, memory.locate(body, node), body.type(node))
        case ast.Cast():
            return _cast(body, node)
        case ast.BlockExpr(_, block):
            return _block_word(body, block)
        case ast.IfExpr():
            return _if_word(body, node)
        case _:
            raise AssertionError(f"not a word: {node}")


def _name_or_call(body: Body, node: ast.Name | ast.Call) -> Operand:
    match = _ARGUMENT.match(node.name)
    if match is not None and node not in body.instance.builtins:
        value = load_access(body.emit(node), body.context.numbered[int(match[1])], t.UINT64, None)
    else:
        value = lower_builtin(body, node, None)
    assert value is not None
    return value


def _unary(body: Body, node: ast.Unary) -> Operand:
    if node.op == "*":
        return memory.read_scalar(body, memory.locate(body, node), body.type(node))
    if node.op == "&":
        return _address_of(body, node.operand)
    operand = body.word(node.operand)
    match node.op:
        case "-":
            return body.b.sub(0, operand)
        case "~":
            type_ = body.type(node.operand)
            unsigned = isinstance(type_, t.Int) and not type_.signed
            return body.b.binary(BinaryOp.XOR, operand, (1 << 8 * t.size_bytes(type_)) - 1 if unsigned else -1)
        case _:
            return body.b.compare(CompareOp.EQ, operand, 0)


def _address_of(body: Body, node: ast.Expr) -> Operand:
    """The address of a variable's memory or of a map's object in the kernel, as a plain number.

    The verifier follows a pointer wherever it goes and allows little arithmetic on it, so a helper reads
    it from the stack.
    """
    b = body.b
    match node:
        case ast.ScratchVariable():
            variable = body.instance.variables[node]
            assert variable.type is not None
            scalar = t.is_scalar(variable.type)
            place = body.shared_cell(variable) if scalar else body.variable_place(variable)
            pointer = b.offset(place.pointer, place.offset)
        case ast.MapAccess(_, name):
            pointer = b.map(body.state.maps[name].layout.map)
        case _:
            raise AssertionError("refused by the checker")
    spilled, number = b.stack_slot(8), body.temporary(8)
    b.store(spilled, 0, 8, pointer)
    b.call_void(helpers.PROBE_READ_KERNEL, b.offset(number.pointer, number.offset), 8, spilled)
    return b.load(number.pointer, number.offset, 8)


def increment(body: Body, node: ast.Increment, *, used: bool) -> Operand:
    type_ = body.type(node)
    step = node.delta * (t.size_bytes(type_.pointee) if isinstance(type_, t.Pointer) else 1)
    if isinstance(node.operand, ast.MapAccess):
        return increment_map(body, node.operand, step, used=used, prefix=node.prefix)
    assert isinstance(node.operand, ast.ScratchVariable)
    variable = body.instance.variables[node.operand]
    old = body.get_variable(variable)
    new = body.b.add(old, step)
    if isinstance(variable.type, t.Int):
        new = body.b.extend(new, variable.type.bits, variable.type.signed)
    body.set_variable(variable, new)
    return new if node.prefix else old


def _binary(body: Body, node: ast.Binary) -> Operand:
    if node.op in ("&&", "||") or node.op in COMPARISONS:
        if node.op in COMPARISONS and t.is_scalar(body.type(node.left)) and not _is_text(body, node):
            return _compare_words(body, node)
        return _condition_word(body, node)
    left_type, right_type = body.type(node.left), body.type(node.right)
    left, right = body.word(node.left), body.word(node.right)
    if isinstance(left_type, t.Pointer):
        right = memory.scaled(body, right, t.size_bytes(left_type.pointee))
    elif isinstance(right_type, t.Pointer):
        left = memory.scaled(body, left, t.size_bytes(right_type.pointee))
    return arithmetic(body, node.op, left, right, signed=is_signed(body.type(node)))


def _is_text(body: Body, node: ast.Binary) -> bool:
    return any(isinstance(body.type(side), t.String | t.ProbeName) for side in (node.left, node.right))


def _compare_words(body: Body, node: ast.Binary) -> Operand:
    op = comparison(node.op, signed=comparison_signed(body, node))
    return body.b.compare(op, body.word(node.left), body.word(node.right))


def comparison_signed(body: Body, node: ast.Binary) -> bool:
    """Signed if either side is, unless it is a literal that fits the other side."""
    sides = [is_signed(body.type(side)) and not _is_natural(body, side) for side in (node.left, node.right)]
    both_literal = _is_natural(body, node.left) and _is_natural(body, node.right)
    return any(sides) and not both_literal


def _is_natural(body: Body, node: ast.Expr) -> bool:
    value = body.folder(node)
    return isinstance(value, int) and value >= 0


def _condition_word(body: Body, node: ast.Expr) -> Operand:
    b = body.b
    result = b.variable("truth")
    yes, no, done = b.label("true"), b.label("false"), b.label("truth")
    body.condition(node, yes, no)
    b.start(yes)
    b.set(result, 1)
    b.jump(done)
    b.start(no)
    b.set(result, 0)
    b.start(done)
    return b.get(result)


def _choose(body: Body, node: ast.Ternary) -> Operand:
    b = body.b
    result = b.variable("choice")
    yes, no, done = b.label("then"), b.label("else"), b.label("chosen")
    if node.then is None:
        value = body.word(node.condition)
        b.set(result, value)
        b.branch(CompareOp.NE, value, 0, done, no)
    else:
        body.condition(node.condition, yes, no)
        b.start(yes)
        b.set(result, body.word(node.then))
        b.jump(done)
    b.start(no)
    b.set(result, body.word(node.otherwise))
    b.start(done)
    return b.get(result)


def _block_word(body: Body, block: ast.Block) -> Operand:
    result: Operand = 0

    def use(node: ast.Expr) -> None:
        nonlocal result
        result = body.word(node)

    lower_block_value(body, block, use)
    return result


def _if_word(body: Body, node: ast.IfExpr) -> Operand:
    result = body.b.variable("value")
    body.b.set(result, 0)
    lower_if(body, node, lambda value: body.b.set(result, body.word(value)))
    return body.b.get(result)


def _cast(body: Body, node: ast.Cast) -> Operand:
    old, new = body.type(node.operand), body.type(node)
    if isinstance(old, t.Array):
        place = body.address(node.operand)
        cell = body.temporary(8)
        size = t.size_bytes(old)
        body.b.copy(cell.pointer, cell.offset, place.pointer, place.offset, size, 1)
        value: Operand = body.b.load(cell.pointer, cell.offset, size)
    else:
        value = body.word(node.operand)
    match new:
        case t.Int(bits, signed) | t.Enumeration(_, bits, signed):
            return body.b.extend(value, bits, signed)
        case t.Bool():
            return body.b.compare(CompareOp.NE, value, 0)
        case _:
            return value


# -- conditions --------------------------------------------------------------------------------


def condition(body: Body, node: ast.Expr, then: str, otherwise: str) -> None:
    """Branch on an expression without making a number of it first."""
    b = body.b
    match node:
        case ast.Unary(_, "!", operand):
            body.condition(operand, otherwise, then)
        case ast.Binary(_, "&&", left, right):
            middle = b.label("and")
            body.condition(left, middle, otherwise)
            b.start(middle)
            body.condition(right, then, otherwise)
        case ast.Binary(_, "||", left, right):
            middle = b.label("or")
            body.condition(left, then, middle)
            b.start(middle)
            body.condition(right, then, otherwise)
        case ast.Binary(_, op) if op in COMPARISONS and body.folder(node) is None:
            _compare_and_branch(body, node, then, otherwise)
        case _:
            b.branch(CompareOp.NE, body.word(node), 0, then, otherwise)


def _compare_and_branch(body: Body, node: ast.Binary, then: str, otherwise: str) -> None:
    left_type = body.type(node.left)
    if t.is_scalar(left_type) and t.is_scalar(body.type(node.right)) and not _is_text(body, node):
        op = comparison(node.op, signed=comparison_signed(body, node))
        left, right = body.word(node.left), body.word(node.right)
        body.b.branch(op, left, right, then, otherwise)
        return
    differs = _compare_text(body, node) if _is_text(body, node) else _compare_values(body, node)
    body.b.branch(CompareOp.NE if node.op == "!=" else CompareOp.EQ, differs, 0, then, otherwise)


def _compare_values(body: Body, node: ast.Binary) -> Operand:
    left, right = body.address(node.left), body.address(node.right)
    return memory.compare_values(body, left, body.type(node.left), right, body.type(node.right))


def _compare_text(body: Body, node: ast.Binary) -> Operand:
    return compare_text(body, node.left, node.right, None)


def compare_text(body: Body, left: ast.Expr, right: ast.Expr, length: int | None) -> Operand:
    """1 if two strings differ (in their first ``length`` characters)."""
    left_text, right_text = body.folder(left), body.folder(right)
    if isinstance(left_text, str) and isinstance(right_text, str):
        return int(left_text[:length] != right_text[:length])
    if isinstance(left_text, str):
        left, right, left_text, right_text = right, left, right_text, left_text
    place, capacity = _text_place(body, left)
    if isinstance(right_text, str):
        return memory.compare_literal(body, place, capacity, right_text, length)
    other, other_capacity = _text_place(body, right)
    limit = min(capacity, other_capacity)
    return memory.compare_strings(body, place, other, limit if length is None else min(limit, length))


def _text_place(body: Body, node: ast.Expr) -> tuple[Place, int]:
    type_ = body.type(node)
    if isinstance(type_, t.ProbeName):
        place = body.temporary(PROBE_NAME_CAPACITY)
        body.into(node, t.String(PROBE_NAME_CAPACITY), place)
        return place, PROBE_NAME_CAPACITY
    return body.address(node), t.size_bytes(type_)


# -- values in memory --------------------------------------------------------------------------


def address(body: Body, node: ast.Expr) -> Place:
    """Return where a value in memory is; values that are nowhere yet are made in a temporary."""
    type_ = body.type(node)
    match node:
        case ast.ScratchVariable():
            return body.variable_place(body.instance.variables[node])
        case ast.TupleIndex() | ast.Index() | ast.Member() if not _is_argument(node):
            where = memory.locate(body, node)
            if isinstance(where, Place):
                return where
        case _:
            pass
    place = body.temporary(t.size_bytes(type_))
    body.into(node, type_, place)
    return place


def _context_element(body: Body, node: ast.Index) -> Operand | None:
    """An element of an array in the context itself (``args.args[1]``): loaded from there, the array is not copied."""
    constant = body.folder(node.index)
    if not isinstance(constant, int) or not isinstance(node.object, ast.Member) or not is_args(node.object.object):
        return None
    argument = memory.find_argument(body, node.object.name)
    if not isinstance(argument.access, ContextAddress) or not isinstance(argument.type, t.Array):
        return None
    element = argument.type.element
    size = t.size_bytes(element)
    offset = argument.access.offset + constant * size
    if not isinstance(element, t.Int) or not 0 <= constant < argument.type.length or offset % size:
        return None
    return load_access(body.emit(node), ContextLoad(offset, size, element.signed), element, None)


def _is_argument(node: ast.Expr) -> bool:
    return isinstance(node, ast.Member) and is_args(node.object)


def into(body: Body, node: ast.Expr, type_: Type, place: Place) -> None:
    """Store an expression's value at a place, as a value of ``type_`` (its own or a wider one)."""
    own = body.type(node)
    match type_:
        case t.String(capacity):
            _string_into(body, node, capacity, place)
        case t.Tuple() | t.NamedTuple():
            _tuple_into(body, node, type_, place)
        case _ if t.is_scalar(type_):
            body.b.store(place.pointer, place.offset, t.size_bytes(type_), body.word(node))
        case t.Buffer(capacity) if place.zeroed:
            _buffer_key_into(body, node, capacity, place)
        case t.Stack(limit=limit) if isinstance(own, t.Stack) and own.limit < limit:
            body.b.zero(place.pointer, place.offset, t.size_bytes(type_))
            _memory_into(body, node, own, place)
        case _:
            _memory_into(body, node, own, place)


def _memory_into(body: Body, node: ast.Expr, type_: Type, place: Place) -> None:
    match node:
        case ast.Name() | ast.Call():
            lower_builtin(body, node, place)
        case ast.MapAccess():
            read_map_into(body, node, type_, place)
        case ast.Ternary() | ast.IfExpr() | ast.BlockExpr():
            _branches_into(body, node, type_, place)
        case ast.Member() if is_args(node.object):
            argument = memory.find_argument(body, node.name)
            load_access(body.emit(node), argument.access, argument.type, place)
        case ast.Cast(_, _, operand) if t.is_scalar(body.type(operand)):
            body.b.store(place.pointer, place.offset, t.size_bytes(type_), body.word(operand))
        case ast.Cast(_, _, operand):
            source = body.address(operand)
            memory.read_into(body, source, place, min(t.size_bytes(type_), t.size_bytes(body.type(operand))))
        case _:
            memory.read_into(body, memory.locate(body, node), place, t.size_bytes(type_))


def _branches_into(body: Body, node: ast.Ternary | ast.IfExpr | ast.BlockExpr, type_: Type, place: Place) -> None:
    b = body.b
    match node:
        case ast.BlockExpr(_, block):
            lower_block_value(body, block, lambda value: body.into(value, type_, place))
        case ast.IfExpr():
            lower_if(body, node, lambda value: body.into(value, type_, place))
        case ast.Ternary(_, test, then, otherwise):
            yes, no, done = b.label("then"), b.label("else"), b.label("chosen")
            body.condition(test, yes, no)
            b.start(yes)
            body.into(test if then is None else then, type_, place)
            b.jump(done)
            b.start(no)
            body.into(otherwise, type_, place)
            b.start(done)


def _tuple_into(body: Body, node: ast.Expr, type_: t.Tuple | t.NamedTuple, place: Place) -> None:
    own = body.type(node)
    assert isinstance(own, t.Tuple | t.NamedTuple)
    if isinstance(node, ast.TupleExpr | ast.RecordExpr):
        _fill_gaps(body, type_.elements, *t.tuple_layout(type_.elements), place)
        for element, (element_type, offset) in zip(node.elements, memory.tuple_parts(type_, own), strict=True):
            body.into(element, element_type, place.at(offset))
        return
    if own == type_ and not (place.zeroed and _has_tail(own)):
        _memory_into(body, node, own, place)
        return
    convert_tuple(body, body.address(node), own, type_, place)


def _has_tail(type_: Type) -> bool:
    """Whether there are bytes in a value that are not part of it: behind a string's end."""
    match type_:
        case t.Tuple(elements) | t.NamedTuple(_, elements):
            return any(map(_has_tail, elements))
        case _:
            return isinstance(type_, t.String | t.Buffer)


def _buffer_key_into(body: Body, node: ast.Expr, capacity: int, place: Place) -> None:
    """Copy a buffer as part of a key: behind its end there are zeros."""
    match node:
        case ast.Ternary() | ast.IfExpr() | ast.BlockExpr():
            _branches_into(body, node, t.Buffer(capacity), place)
        case ast.Name() | ast.Call():
            body.b.zero(place.pointer, place.offset, 4 + capacity, common_alignment(place.offset, 4))
            lower_builtin(body, node, place)
        case _:
            memory.copy_buffer(body, body.address(node), place, capacity)


def convert_tuple(
    body: Body, source: Place, old: t.Tuple | t.NamedTuple, new: t.Tuple | t.NamedTuple, place: Place
) -> None:
    """Copy a tuple element by element into one of wider elements, or a record into one of another order."""
    _fill_gaps(body, new.elements, *t.tuple_layout(new.elements), place)
    for (old_type, a), (new_type, b) in zip(memory.tuple_parts(old, new), memory.tuple_parts(new, new), strict=True):
        convert(body, source.at(a), old_type, place.at(b), new_type)


def convert(body: Body, source: Place, old: Type, place: Place, new: Type) -> None:
    """Copy one value in memory to another place, widening it."""
    if t.is_scalar(new) and t.is_scalar(old):
        signed = isinstance(old, t.Int | t.Enumeration) and old.signed
        value = body.b.load(source.pointer, source.offset, t.size_bytes(old), signed)
        body.b.store(place.pointer, place.offset, t.size_bytes(new), value)
        return
    match old, new:
        case (t.String(a), t.String(b)):
            if place.zeroed:
                body.b.zero(place.pointer, place.offset, b, common_alignment(place.offset))
            memory.read_string(body, source, place, b, a)
        case (t.Buffer(), t.Buffer(b)) if place.zeroed:
            memory.copy_buffer(body, source, place, b)
        case (t.Tuple() | t.NamedTuple(), t.Tuple() | t.NamedTuple()):
            convert_tuple(body, source, old, new, place)
        case _:
            memory.read_into(body, source, place, min(t.size_bytes(old), t.size_bytes(new)))


def _fill_gaps(body: Body, elements: tuple[Type, ...], offsets: tuple[int, ...], size: int, place: Place) -> None:
    """Zero the padding between elements: keys are compared byte by byte."""
    if not elements:
        return
    ends = [offset + t.size_bytes(element) for offset, element in zip(offsets, elements, strict=True)]
    for end, start in zip(ends, (*offsets[1:], size), strict=True):
        if start > end:
            body.b.zero(place.pointer, place.offset + end, start - end, 1)


def _string_into(body: Body, node: ast.Expr, capacity: int, place: Place) -> None:
    text = body.folder(node)
    b = body.b
    if isinstance(text, int):
        text = body.folder.text(node)
    if place.zeroed and not _pads(body, node, capacity):
        b.zero(place.pointer, place.offset, capacity, common_alignment(place.offset))
    if isinstance(text, str):
        store_text(body.b, text, capacity, place)
        return
    own = body.type(node)
    if isinstance(own, t.ProbeName):
        _probe_name_into(body, node, capacity, place)
        return
    assert isinstance(own, t.String | t.Array)
    source_capacity = t.size_bytes(own)
    match node:
        case ast.Name() | ast.Call() if source_capacity <= capacity:
            lower_builtin(body, node, place)
        case ast.MapAccess() if source_capacity <= capacity and not place.zeroed:
            read_map_into(body, node, own, place)
        case ast.Ternary() | ast.IfExpr() | ast.BlockExpr():
            _branches_into(body, node, t.String(capacity), place)
        case ast.Cast(_, _, operand) if isinstance(body.type(operand), t.String):
            _string_into(body, operand, capacity, place)
        case ast.MapAccess() | ast.ScratchVariable():
            memory.read_string(body, body.address(node), place, capacity, source_capacity, may_be_full=True)
        case ast.Name() | ast.Call() | ast.Cast():
            memory.read_string(body, body.address(node), place, capacity, source_capacity)
        case ast.Member() if is_args(node.object) and not place.zeroed:
            argument = memory.find_argument(body, node.name)
            load_access(body.emit(node), argument.access, argument.type, place)
        case _ if not place.zeroed and source_capacity <= capacity:
            memory.read_characters(body, memory.locate(body, node), place, capacity, source_capacity)
        case _:
            memory.read_string(body, memory.locate(body, node), place, capacity, source_capacity, may_be_full=True)


def _pads(body: Body, node: ast.Expr, capacity: int) -> bool:
    """Whether a builtin value fills the place, with zeros behind the string's end."""
    if not isinstance(node, ast.Name) or not isinstance(own := body.type(node), t.String):
        return False
    return body.instance.builtins[node].pads and own.capacity == capacity


def _probe_name_into(body: Body, node: ast.Expr, capacity: int, place: Place) -> None:
    """Copy a probe's name from the table of all names."""
    size = min(capacity, PROBE_NAME_CAPACITY)
    b = body.b
    index = b.bounded(body.word(node), body.state.use_names())
    row = b.offset(b.global_address(NAMES_MAP, 0), b.shift_left(index, PROBE_NAME_CAPACITY.bit_length() - 1))
    b.copy(place.pointer, place.offset, row, 0, size, common_alignment(place.offset))
    if size < PROBE_NAME_CAPACITY:
        b.store(place.pointer, place.offset + size - 1, 1, 0)
