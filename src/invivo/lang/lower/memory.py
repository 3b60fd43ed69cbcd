"""Where things are: members, elements, dereferences; reading them in one place."""

from __future__ import annotations

from invivo.ir import helpers, ops
from invivo.ir import types as t
from invivo.ir.ops import BinaryOp, CompareOp, Kind, Operand, Value
from invivo.ir.types import AddressSpace, Type
from invivo.lang import ast
from invivo.lang.check.model import Variable
from invivo.lang.check.values import is_args
from invivo.lang.lower.body import Body
from invivo.library import find_builtin
from invivo.library.access import common_alignment, guard_string, read_helper, read_string_helper
from invivo.library.record import Place
from invivo.library.spelling import PROBE_NAME_CAPACITY
from invivo.record import Record
from invivo.target import Argument, ContextLoad


class Remote(Record, eq=False):
    """Memory of the kernel or a traced process, read by helpers.

    ``direct`` is the same place as a BTF pointer and an offset, where the verifier knows one.
    """

    space: AddressSpace
    address: Operand
    offset: int
    direct: Value | None = None

    def at(self, offset: int) -> Remote:
        return Remote(self.space, self.address, self.offset + offset, self.direct)


Located = Place | Remote


class Bits(Record):
    """A bitfield's place within the word it is read from."""

    offset: int
    size: int


# -- finding -----------------------------------------------------------------------------------


def locate(body: Body, node: ast.Expr) -> Located:
    """Return where the value of an expression that lives in memory is."""
    match node:
        case ast.Unary(_, "*", operand):
            return Remote(body.space(operand), body.word(operand), 0)
        case ast.Member() if not is_args(node.object):
            return locate_member(body, node)[0]
        case ast.Index():
            return _locate_index(body, node)
        case ast.TupleIndex(_, object_, index):
            object_type = body.type(object_)
            assert isinstance(object_type, t.Tuple)
            return body.address(object_).at(t.tuple_layout(object_type.elements)[0][index])
        case ast.Cast(_, _, operand) if not t.is_scalar(body.type(operand)):
            return locate(body, operand)
        case _:
            return body.address(node)


def locate_member(body: Body, node: ast.Member) -> tuple[Located, Bits | None]:
    """Return where a member is; a bitfield's bits besides."""
    owner = body.type(node.object)
    if isinstance(owner, t.NamedTuple):
        index = owner.names.index(node.name)
        return body.address(node.object).at(t.tuple_layout(owner.elements)[0][index]), None
    struct: Type = owner
    while isinstance(struct, t.Pointer):
        struct = struct.pointee
    assert isinstance(struct, t.Struct)
    field = body.target.field(struct, node.name)
    assert field is not None
    bits = Bits(field.bit_offset, field.bit_size) if field.bit_size else None
    if isinstance(owner, t.Pointer):
        base: Located = _pointed(body, node.object, owner)
    else:
        base = locate(body, node.object)
    return base.at(field.offset), bits


def _pointed(body: Body, node: ast.Expr, owner: t.Pointer) -> Remote:
    """What a pointer expression points to, through all its levels."""
    direct = btf_pointer(body, node)
    if direct is not None:
        return Remote(AddressSpace.KERNEL, direct, 0, direct)
    space = body.space(node)
    address = body.word(node)
    inner = owner.pointee
    while isinstance(inner, t.Pointer):
        address = read_word(body, Remote(space, address, 0), 8, signed=False)
        inner = inner.pointee
    return Remote(space, address, 0)


def btf_pointer(body: Body, node: ast.Expr) -> Value | None:
    """A pointer whose BTF type the verifier knows, so that fields are loaded without a helper."""
    type_ = body.type(node)
    if not isinstance(type_, t.Pointer) or not _kernel_struct(type_.pointee):
        return None
    match node:
        case ast.Name(_, "curtask"):
            return body.b.call(helpers.GET_CURRENT_TASK_BTF, kind=Kind.BTF)
        case ast.Member() if is_args(node.object):
            argument = find_argument(body, node.name)
            if body.context.btf_pointers and isinstance(argument.access, ContextLoad):
                return body.b.load(body.context_pointer(), argument.access.offset, 8, kind=Kind.BTF)
            return None
        case ast.Member(_, object_, name):
            return _btf_member(body, object_, name)
        case _:
            return None


def iterated_member(body: Body, node: ast.Expr) -> tuple[Value, int] | None:
    """A pointer that an iterator's context has, null perhaps, and the offset of the structure in what it points to."""
    match node:
        case ast.Member(_, ast.Member(_, ast.Name(_, "ctx")) as held, name):
            owner = body.type(held)
            struct = owner.pointee if isinstance(owner, t.Pointer) else None
            field = body.target.field(struct, name) if isinstance(struct, t.Struct) else None
            pointer = _object_pointer(body, held)
            return None if field is None or pointer is None else (pointer, field.offset)
        case _:
            return None


def _object_pointer(body: Body, node: ast.Expr) -> Value | None:
    match node:
        case ast.Member(_, ast.Name(_, "ctx") as context, name) if "iter" in body.context.features:
            owner = body.type(context)
            struct = owner.pointee if isinstance(owner, t.Pointer) else None
            field = body.target.field(struct, name) if isinstance(struct, t.Struct) else None
            return None if field is None else body.b.load(body.context_pointer(), field.offset, 8, kind=Kind.BTF)
        case _:
            return None


def kernel_pointer(body: Body, node: ast.Expr) -> Value | None:
    """The address of a kernel structure as a pointer whose type the verifier knows: of what a pointer points to, or of
    a structure that is a member (``args.file.f_path``)."""
    if isinstance(body.type(node), t.Pointer):
        return _object_pointer(body, node) or btf_pointer(body, node)
    where = locate(body, node) if isinstance(node, ast.Member | ast.Unary) and not is_args(node) else None
    if not isinstance(where, Remote) or where.direct is None:
        return None
    return body.b.offset(where.direct, where.offset)


def _btf_member(body: Body, object_: ast.Expr, name: str) -> Value | None:
    owner = body.type(object_)
    if not isinstance(owner, t.Pointer) or not isinstance(owner.pointee, t.Struct):
        return None
    field = body.target.field(owner.pointee, name)
    if field is None or field.bit_size or field.overlaid or field.tag not in (None, "rcu"):
        return None
    base = btf_pointer(body, object_)
    return None if base is None else body.b.load(base, field.offset, 8, kind=Kind.BTF)


def _kernel_struct(type_: Type) -> bool:
    return isinstance(type_, t.Struct) and type_.type_id != 0 and type_.keyword == "struct"


def find_argument(body: Body, name: str) -> Argument:
    return next(argument for argument in body.context.arguments if argument.name == name)


def _locate_index(body: Body, node: ast.Index) -> Located:
    owner = body.type(node.object)
    constant = body.folder(node.index)
    if isinstance(owner, t.Tuple):
        assert isinstance(constant, int)
        return body.address(node.object).at(t.tuple_layout(owner.elements)[0][constant])
    if isinstance(owner, t.Pointer):
        element = owner.pointee.element if isinstance(owner.pointee, t.Array) else owner.pointee
        index = constant if isinstance(constant, int) else body.word(node.index)
        moved = body.b.add(body.word(node.object), scaled(body, index, t.size_bytes(element)))
        return Remote(body.space(node.object), moved, 0)
    length, size = _elements(owner)
    base = _name_in_memory(body, node.object) if isinstance(owner, t.ProbeName) else locate(body, node.object)
    if isinstance(constant, int):
        return base.at(constant * size)
    index = body.word(node.index)
    if length == 0:  # a flexible array member: nothing says where it ends
        assert isinstance(base, Remote)
        return Remote(base.space, body.b.add(base.address, scaled(body, index, size)), base.offset)
    return _checked_element(body, base, index, length, size)


def _checked_element(body: Body, base: Located, index: Operand, length: int, size: int) -> Place:
    """Copy an array's element; one that is out of bounds is zero, and warned of."""
    b = body.b
    element = body.temporary(size)
    inside, outside, done = b.label("inside"), b.label("outside"), b.label("indexed")
    b.branch(CompareOp.ULT, index, length, inside, outside)
    b.start(outside)
    body.complain("Array access out of bounds. This can lead to unexpected results.")
    b.zero(element.pointer, element.offset, size, common_alignment(element.offset, size))
    b.jump(done)
    b.start(inside)
    if isinstance(base, Remote):
        where: Located = Remote(base.space, b.add(base.address, scaled(body, index, size)), base.offset)
    else:
        amount = scaled(body, b.bounded(index, length), size)
        where = Place(b.offset(b.offset(base.pointer, base.offset), amount), 0)
    read_into(body, where, element, size)
    b.start(done)
    return element


def _name_in_memory(body: Body, node: ast.Expr) -> Place:
    place = body.temporary(PROBE_NAME_CAPACITY)
    body.into(node, t.String(PROBE_NAME_CAPACITY), place)
    return place


def _elements(owner: Type) -> tuple[int, int]:
    match owner:
        case t.Array(element, length):
            return length, t.size_bytes(element)
        case t.String(capacity):
            return capacity, 1
        case t.ProbeName():
            return PROBE_NAME_CAPACITY, 1
        case _:
            raise AssertionError(f"no elements in {owner}")


def scaled(body: Body, index: Operand, size: int) -> Operand:
    if isinstance(index, int):
        return index * size
    return index if size == 1 else body.b.binary(BinaryOp.MUL, index, size)


# -- reading -----------------------------------------------------------------------------------


def read_scalar(body: Body, where: Located, type_: Type, bits: Bits | None = None) -> Operand:
    """Read one number or pointer."""
    size = t.size_bytes(type_)
    signed = isinstance(type_, t.Int | t.Enumeration) and type_.signed
    if bits is not None:
        size = size if bits.offset + bits.size <= 8 * size else 8  # packed ones cross their unit
        raw = _read(body, where, size, signed=False, pointer=False)
        return _extract(body, raw, bits, signed)
    return _read(body, where, size, signed=signed, pointer=isinstance(type_, t.Pointer))


def _extract(body: Body, raw: Operand, bits: Bits, signed: bool) -> Operand:
    b = body.b
    up = b.shift_left(raw, 64 - bits.offset - bits.size)
    return b.binary(BinaryOp.ASHR if signed else BinaryOp.LSHR, up, 64 - bits.size)


def _read(body: Body, where: Located, size: int, *, signed: bool, pointer: bool) -> Operand:
    if isinstance(where, Place):
        return body.b.load(where.pointer, where.offset, size, signed)
    if where.direct is not None and not pointer:
        return body.b.load(where.direct, where.offset, size, signed)
    return read_word(body, where, size, signed=signed)


def read_word(body: Body, where: Remote, size: int, *, signed: bool) -> Operand:
    cell = body.temporary(8)
    read_into(body, where, cell, size)
    return body.b.load(cell.pointer, cell.offset, size, signed)


def read_into(body: Body, where: Located, place: Place, size: int) -> None:
    """Copy bytes from anywhere to a place of the program."""
    b = body.b
    if isinstance(where, Place):
        align = common_alignment(where.offset, place.offset, size)
        if size <= _INLINE_COPY:
            b.copy(place.pointer, place.offset, where.pointer, where.offset, size, align)
            return
        source: Operand = b.offset(where.pointer, where.offset)
        space = AddressSpace.KERNEL
    else:
        source = remote_address(body, where)
        space = where.space
    target = b.offset(place.pointer, place.offset)
    code = b.call(read_helper(space), target, size, source)
    if isinstance(where, Remote):
        body.fault_guard(code)


_INLINE_COPY = 256


def remote_address(body: Body, where: Remote) -> Operand:
    if isinstance(where.address, Value) and where.address.kind is Kind.BTF:
        return body.b.offset(where.address, where.offset)
    return body.b.add(where.address, where.offset)


def read_string(
    body: Body, where: Located, place: Place, capacity: int, source_capacity: int, *, may_be_full: bool = False
) -> None:
    """Copy a string: everything up to its terminator, at most ``capacity - 1`` characters.

    ``may_be_full``: the source may be an array of characters without room for a terminator; then all are copied
    if there is room for them, and nothing but zeros follows them.
    """
    b = body.b
    target = b.offset(place.pointer, place.offset)
    size = min(capacity, source_capacity)
    if isinstance(where, Place):
        source: Operand = b.offset(where.pointer, where.offset)
        code = b.call(helpers.PROBE_READ_KERNEL_STR, target, size, source)
    else:
        code = b.call(read_string_helper(where.space), target, size, remote_address(body, where))
        guard_string(body.bare_emit(), code, place, capacity)
    if may_be_full and source_capacity <= capacity:
        last, done = b.label("last_character"), b.label("string_copied")
        b.branch(CompareOp.EQ, code, size, last, done)
        b.start(last)
        tail = Place(place.pointer, place.offset + size - 1, place.zeroed)
        if isinstance(where, Place):
            b.store(tail.pointer, tail.offset, 1, b.load(where.pointer, where.offset + size - 1, 1))
        else:
            end = b.add(remote_address(body, where), size - 1)
            b.call_void(read_helper(where.space), b.offset(tail.pointer, tail.offset), 1, end)
        b.start(done)


def read_characters(body: Body, where: Located, place: Place, capacity: int, source_capacity: int) -> None:
    """Copy an array of characters, which may be full and so have no terminator."""
    b = body.b
    if isinstance(where, Place):
        read_into(body, where, place, source_capacity)
    else:
        target = b.offset(place.pointer, place.offset)
        code = b.call(read_helper(where.space), target, source_capacity, remote_address(body, where))
        guard_string(body.bare_emit(), code, place, capacity)
    if source_capacity < capacity:
        b.store(place.pointer, place.offset + source_capacity, 1, 0)


def copy_buffer(body: Body, source: Place, place: Place, capacity: int) -> None:
    """Copy a buffer's length and as many bytes; the rest of the place becomes zero."""
    b = body.b
    b.zero(place.pointer, place.offset, 4 + capacity, common_alignment(place.offset, 4))
    length = b.bounded(b.load(source.pointer, source.offset, 4), capacity + 1)
    b.store(place.pointer, place.offset, 4, length)
    target, data = b.offset(place.pointer, place.offset + 4), b.offset(source.pointer, source.offset + 4)
    b.call_void(helpers.PROBE_READ_KERNEL, target, length, data)


def tuple_parts(type_: t.Tuple | t.NamedTuple, like: t.Tuple | t.NamedTuple) -> list[tuple[Type, int]]:
    """Type and offset of each element, those of a record in the order that another has them in."""
    parts = list(zip(type_.elements, t.tuple_layout(type_.elements)[0], strict=True))
    if isinstance(type_, t.NamedTuple) and isinstance(like, t.NamedTuple):
        return [parts[type_.names.index(name)] for name in like.names]
    return parts


# -- comparing ---------------------------------------------------------------------------------


def compare_literal(body: Body, place: Place, capacity: int, text: str, length: int | None) -> Operand:
    """1 if the string at a place differs from a literal (in its first ``length`` characters)."""
    data = text.encode("latin-1")
    wanted = data + b"\0" if length is None or length > len(data) else data[:length]
    if len(wanted) > capacity:
        return 1
    b = body.b
    result = b.variable("differs")
    b.set(result, 1)
    done = b.label("compared")
    position = 0
    while position < len(wanted):
        size = common_alignment(place.offset + position)
        while position + size > len(wanted):
            size //= 2
        chunk = int.from_bytes(wanted[position : position + size], "little")
        same = b.label("same")
        b.branch(CompareOp.EQ, b.load(place.pointer, place.offset + position, size), chunk, same, done)
        b.start(same)
        position += size
    b.set(result, 0)
    b.start(done)
    return b.get(result)


def compare_memory(body: Body, left: Place, right: Place, size: int) -> Operand:
    """1 if ``size`` bytes at two places differ."""
    b = body.b
    result = b.variable("differs")
    b.set(result, 1)
    done = b.label("compared")
    align = common_alignment(left.offset, right.offset)
    position = 0
    while position < size:
        step = align
        while position + step > size:
            step //= 2
        same = b.label("same")
        mine = b.load(left.pointer, left.offset + position, step)
        theirs = b.load(right.pointer, right.offset + position, step)
        b.branch(CompareOp.EQ, mine, theirs, same, done)
        b.start(same)
        position += step
    b.set(result, 0)
    b.start(done)
    return b.get(result)


def compare_values(body: Body, left: Place, left_type: Type, right: Place, right_type: Type) -> Operand:
    """1 if two values in memory differ, which need not be laid out alike: part by part."""
    match left_type, right_type:
        case (t.Tuple() | t.NamedTuple(), t.Tuple() | t.NamedTuple()):
            parts = list(zip(tuple_parts(left_type, left_type), tuple_parts(right_type, left_type), strict=True))
        case (t.String(a_size), t.String(b_size)):
            return compare_strings(body, left, right, min(a_size, b_size))
        case (t.Buffer(a_size), t.Buffer(b_size)):
            size = max(a_size, b_size)
            one, other = body.temporary(4 + size), body.temporary(4 + size)
            copy_buffer(body, left, one, size)
            copy_buffer(body, right, other, size)
            return compare_memory(body, one, other, 4 + size)
        case _ if t.is_scalar(left_type) and t.is_scalar(right_type):
            return body.b.compare(
                CompareOp.NE, read_scalar(body, left, left_type), read_scalar(body, right, right_type)
            )
        case _:
            return compare_memory(body, left, right, min(t.size_bytes(left_type), t.size_bytes(right_type)))
    b = body.b
    result = b.variable("differs")
    b.set(result, 1)
    done = b.label("compared")
    for (mine_type, mine_at), (their_type, their_at) in parts:
        same = b.label("same")
        differs = compare_values(body, left.at(mine_at), mine_type, right.at(their_at), their_type)
        b.branch(CompareOp.EQ, differs, 0, same, done)
        b.start(same)
    b.set(result, 0)
    b.start(done)
    return b.get(result)


def compare_strings(body: Body, left: Place, right: Place, limit: int) -> Operand:
    """1 if two strings differ before ``limit`` characters or their end."""
    if limit > _LONG_STRING:  # the verifier counts the turns of a loop
        left, right = _aligned_string(body, left, limit), _aligned_string(body, right, limit)
    b = body.b
    step = common_alignment(left.offset, right.offset)
    index, result = b.variable("index"), b.variable("differs")
    different, ends = b.variable("different"), b.variable("ends")
    b.set(index, 0)
    b.set(result, 0)
    head, some, more, tail, stop, done = (b.label(f"strings_{part}") for part in _LOOP_PARTS)
    left_base, right_base = b.offset(left.pointer, left.offset), b.offset(right.pointer, right.offset)
    turns = limit // step
    if turns:
        b.start(head)
        b.branch(CompareOp.ULT, b.get(index), turns, some, tail)
        b.start(some)
        at = b.shift_left(b.bounded(b.get(index), turns), step.bit_length() - 1)
        mine, theirs = b.load(b.offset(left_base, at), 0, step), b.load(b.offset(right_base, at), 0, step)
        _compare_characters(body, mine, theirs, step, different, ends)
        b.branch(CompareOp.EQ, b.binary(BinaryOp.OR, b.get(different), b.get(ends)), 0, more, stop)
        b.start(more)
        b.set(index, b.add(b.get(index), 1))
        b.jump(head)
        b.start(tail)
    position = turns * step
    while position < limit:
        size = 1 << ((limit - position).bit_length() - 1)
        mine, theirs = b.load(left_base, position, size), b.load(right_base, position, size)
        _compare_characters(body, mine, theirs, size, different, ends)
        on = b.label("strings_on")
        b.branch(CompareOp.EQ, b.binary(BinaryOp.OR, b.get(different), b.get(ends)), 0, on, stop)
        b.start(on)
        position += size
    b.jump(done)
    b.start(stop)
    first_end = b.binary(BinaryOp.AND, b.get(ends), b.sub(0, b.get(ends)))
    until_end = b.sub(b.shift_left(first_end, 1), 1)
    b.set(result, b.compare(CompareOp.NE, b.binary(BinaryOp.AND, b.get(different), until_end), 0))
    b.start(done)
    return b.get(result)


_LOOP_PARTS = ("head", "some", "more", "tail", "stop", "done")
_LONG_STRING = 512
_ONES = 0x0101010101010101
_HIGHS = 0x8080808080808080


def _compare_characters(
    body: Body, mine: Value, theirs: Value, size: int, different: ops.Variable, ends: ops.Variable
) -> None:
    """Several characters at once: which bits differ, and the high bit of each character that is zero.

    Only the lowest of the latter is to be trusted: https://graphics.stanford.edu/~seander/bithacks.html#ZeroInWord
    """
    b = body.b
    b.set(different, b.binary(BinaryOp.XOR, mine, theirs))
    beyond = (1 << 64) - (1 << 8 * size)
    filled = b.binary(BinaryOp.OR, mine, beyond) if beyond else mine
    rest = b.binary(BinaryOp.AND, b.sub(filled, _ONES), b.binary(BinaryOp.XOR, filled, -1))
    b.set(ends, b.binary(BinaryOp.AND, rest, _HIGHS))


def _aligned_string(body: Body, place: Place, limit: int) -> Place:
    """The string, or a copy of it where 8 characters can be loaded at once."""
    if place.offset % 8 == 0:
        return place
    copy = body.temporary(limit)
    read_string(body, place, copy, limit, limit)
    return copy


def zero_variable(body: Body, variable: Variable) -> None:
    """Give a declared variable its initial value."""
    assert variable.type is not None
    if t.is_scalar(variable.type):
        body.set_variable(variable, 0)
    else:
        place = body.variable_place(variable)
        body.b.zero(place.pointer, place.offset, -(-t.size_bytes(variable.type) // 8) * 8)


def is_builtin(node: ast.Expr) -> bool:
    return isinstance(node, ast.Name | ast.Call) and find_builtin(node.name) is not None
