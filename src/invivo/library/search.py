"""Looking into strings and bytes: lengths, searches, comparisons, joining."""

from __future__ import annotations

from collections.abc import Callable

from invivo.diagnostics import Code
from invivo.ir import helpers
from invivo.ir import types as t
from invivo.ir.ops import BinaryOp, CompareOp, Operand
from invivo.ir.types import Type
from invivo.library.access import read_helper, read_string_helper
from invivo.library.record import Builtin, Emit, Place, Site
from invivo.library.spelling import PROBE_NAME_CAPACITY, spell

_JOINED_CAPACITY = 1024

Reach = Callable[[], Place]


# -- strings -----------------------------------------------------------------------------------


def _is_text(type_: Type) -> bool:
    match type_:
        case t.String() | t.ProbeName() | t.Array(t.Int(8)) | t.Pointer(t.Int(8)):
            return True
        case _:
            return False


def _check_texts(site: Site) -> None:
    for index in range(site.arity):
        type_ = site.type(index)
        if site.known(index) and not _is_text(type_):
            site.error(
                Code.BAD_ARGUMENT,
                f"{site.name}() expects a string ('{spell(type_)}' provided)",
                "str() makes one of an address" if isinstance(type_, t.Int | t.Pointer) else None,
                index,
            )


def _gives(type_: Type) -> Callable[[Site], Type]:
    def check(site: Site) -> Type:
        _check_texts(site)
        return type_

    return check


def _capacity(type_: Type, longest: int) -> int:
    """How many characters a string-like value can have, a terminator counted if there must be one."""
    match type_:
        case t.ProbeName():
            return PROBE_NAME_CAPACITY
        case t.Pointer():
            return longest
        case _:
            return t.size_bytes(type_)


def _load_text(emit: Emit, index: int) -> tuple[Reach, int, Operand]:
    """Copy a string to memory that loops reach; return where it is, the room there, and its length.

    The room is a power of two, so that an index is kept in it by a mask.
    """
    b = emit.b
    type_ = emit.type(index)
    capacity = _capacity(type_, emit.config.max_strlen)
    room = 1 << capacity.bit_length()
    reach = emit.scratch(room)
    if isinstance(type_, t.ProbeName):
        held = emit.temporary(capacity)
        emit.into_string(index, held, capacity)
        source: Operand = b.offset(held.pointer, held.offset)
    elif isinstance(type_, t.Pointer):
        source = emit.word(index)
    else:
        held = emit.address(index)
        source = b.offset(held.pointer, held.offset)
    place = reach()
    helper = read_string_helper(emit.space(index)) if isinstance(type_, t.Pointer) else helpers.PROBE_READ_KERNEL_STR
    # One byte more than there can be characters: what has no terminator is read whole.
    code = b.call(helper, b.offset(place.pointer, place.offset), capacity + 1, source)
    length, empty, done = b.variable("length"), b.label("text_empty"), b.label("text_loaded")
    some = b.label("text_some")
    b.branch(CompareOp.SGT, code, 0, some, empty)
    b.start(empty)
    b.set(length, 0)
    b.store(place.pointer, place.offset, 1, 0)
    if isinstance(type_, t.Pointer):
        emit.fault_guard(code)
    b.jump(done)
    b.start(some)
    b.set(length, b.sub(code, 1))
    b.start(done)
    return reach, room, emit.clamp(b.get(length), 0, capacity)


def _lower_length(emit: Emit, place: Place | None) -> Operand:
    return _load_text(emit, 0)[2]


def _lower_capacity(emit: Emit, place: Place | None) -> Operand:
    return _capacity(emit.type(0), emit.config.max_strlen)


def _byte(emit: Emit, place: Place, room: int, index: Operand) -> Operand:
    b = emit.b
    return b.load(b.offset(b.offset(place.pointer, place.offset), b.bounded(index, room)), 0, 1)


_AT, _MATCHED, _FOUND, _LAST = 0, 8, 16, 24  # cells of a search: u64 each
_NEEDLE = 32


def _lower_find(emit: Emit, place: Place | None) -> Operand:
    """Compare character by character: at a difference go on one place behind where the try began."""
    b = emit.b
    hay, hay_room, hay_length = _load_text(emit, 0)
    needle, needle_room, needle_length = _load_text(emit, 1)
    cells = emit.scratch(40)
    state = cells()
    result, done = b.variable("found"), b.label("search_done")
    search, fits, empty = b.label("search"), b.label("search_fits"), b.label("search_empty")
    b.set(result, 0)
    b.branch(CompareOp.EQ, needle_length, 0, done, search)
    b.start(search)
    b.set(result, -1)
    b.branch(CompareOp.UGT, needle_length, hay_length, done, fits)
    b.start(fits)
    last = b.sub(hay_length, needle_length)
    for offset, value in ((_AT, 0), (_MATCHED, 0), (_FOUND, -1), (_LAST, last), (_NEEDLE, needle_length)):
        b.store(state.pointer, state.offset + offset, 8, value)
    turns = b.binary(BinaryOp.MUL, b.add(last, 1), needle_length)
    emit.repeat(turns, lambda _: _search_turn(emit, cells, (hay, hay_room), (needle, needle_room)))
    b.set(result, b.load(state.pointer, state.offset + _FOUND, 8))
    b.start(empty)
    b.start(done)
    return b.get(result)


def _search_turn(emit: Emit, cells: Reach, hay: tuple[Reach, int], needle: tuple[Reach, int]) -> None:
    b = emit.b
    state = cells()

    def cell(offset: int) -> Operand:
        return b.load(state.pointer, state.offset + offset, 8)

    def write(offset: int, value: Operand) -> None:
        b.store(state.pointer, state.offset + offset, 8, value)

    at, matched = cell(_AT), cell(_MATCHED)
    theirs = _byte(emit, hay[0](), hay[1], b.add(at, matched))
    wanted = _byte(emit, needle[0](), needle[1], matched)
    same, other, whole, go_on, over = (b.label(f"turn_{part}") for part in ("same", "other", "whole", "go_on", "over"))
    b.branch(CompareOp.EQ, theirs, wanted, same, other)
    b.start(same)
    now = b.add(matched, 1)
    write(_MATCHED, now)
    b.branch(CompareOp.EQ, now, cell(_NEEDLE), whole, go_on)
    b.start(whole)
    write(_FOUND, at)
    b.ret(1)
    b.start(other)
    write(_MATCHED, 0)
    following = b.add(at, 1)
    write(_AT, following)
    b.branch(CompareOp.UGT, following, cell(_LAST), over, go_on)
    b.start(over)
    b.ret(1)
    b.start(go_on)


def _lower_contains(emit: Emit, place: Place | None) -> Operand:
    return emit.b.compare(CompareOp.SGE, _lower_find(emit, None), 0)


def _lower_concat(emit: Emit, place: Place | None) -> None:
    """The second string is copied behind the first; then both are cut to the result's capacity."""
    assert place is not None
    b = emit.b
    first, _, length = _load_text(emit, 0)
    second, second_room, _ = _load_text(emit, 1)
    room = min(second_room, _JOINED_CAPACITY)
    joined = emit.scratch(_JOINED_CAPACITY + room)()
    source, target = first(), b.offset(joined.pointer, joined.offset)
    capacity = min(_JOINED_CAPACITY, _capacity(emit.type(0), emit.config.max_strlen) + 1)
    b.call_void(helpers.PROBE_READ_KERNEL_STR, target, capacity, b.offset(source.pointer, source.offset))
    source = second()
    behind = b.offset(target, b.bounded(emit.clamp(length, 0, _JOINED_CAPACITY - 1), _JOINED_CAPACITY))
    b.call_void(helpers.PROBE_READ_KERNEL_STR, behind, room, b.offset(source.pointer, source.offset))
    result = b.offset(place.pointer, place.offset)
    b.call_void(helpers.PROBE_READ_KERNEL_STR, result, _JOINED_CAPACITY, target)


# -- bytes -------------------------------------------------------------------------------------


def _check_memcmp(site: Site) -> Type:
    for index in range(2):
        site.type(index)
    count = site.literal(2)
    if not isinstance(site.type(2), t.Int):
        site.error(
            Code.BAD_ARGUMENT, f"memcmp() expects an integer as length ('{spell(site.type(2))}' provided)", argument=2
        )
    elif isinstance(count, int) and count < 0:
        site.error(Code.BAD_ARGUMENT, f"memcmp() cannot use negative length ({count})", argument=2)
    return t.INT32


def load_bytes(emit: Emit, index: int, count: int) -> tuple[Reach, int]:
    """Copy up to ``count`` bytes of a value, or of what a pointer points to; return where, and how many there are."""
    b = emit.b
    type_ = emit.type(index)
    room = 1 << max(3, count - 1).bit_length()
    reach = emit.scratch(room)
    if isinstance(type_, t.Pointer):
        address, place = emit.word(index), reach()
        target = b.offset(place.pointer, place.offset)
        emit.fault_guard(b.call(read_helper(emit.space(index)), target, count, address))
        return reach, count
    size = min(count, PROBE_NAME_CAPACITY if isinstance(type_, t.ProbeName) else t.size_bytes(type_))
    if t.is_scalar(type_) and not isinstance(type_, t.ProbeName):
        value, place = emit.word(index), reach()
        b.store(place.pointer, place.offset, 8, value)
        return reach, size
    if isinstance(type_, t.ProbeName):
        held = emit.temporary(PROBE_NAME_CAPACITY)
        emit.into_string(index, held, PROBE_NAME_CAPACITY)
    else:
        held = emit.address(index)
    place = reach()
    target = b.offset(place.pointer, place.offset)
    b.call_void(helpers.PROBE_READ_KERNEL, target, size, b.offset(held.pointer, held.offset))
    return reach, size


def _lower_memcmp(emit: Emit, place: Place | None) -> Operand:
    b = emit.b
    literal = emit.literal(2)
    # Nothing to compare is no reason not to evaluate: one byte is read then.
    most = min(max(literal, 1), emit.config.max_strlen) if isinstance(literal, int) else emit.config.max_strlen
    left, left_size = load_bytes(emit, 0, most)
    right, right_size = load_bytes(emit, 1, most)
    size = min(left_size, right_size)
    count: Operand = min(size, literal) if isinstance(literal, int) else emit.clamp(emit.word(2), 0, size)
    cells = emit.scratch(8)
    state = cells()
    b.store(state.pointer, state.offset, 8, 0)

    def turn(index: Operand) -> None:
        inner = emit.b
        room = 1 << max(3, most - 1).bit_length()
        difference = inner.sub(_byte(emit, left(), room, index), _byte(emit, right(), room, index))
        differ, same = inner.label("differ"), inner.label("same")
        inner.branch(CompareOp.NE, difference, 0, differ, same)
        inner.start(differ)
        found = cells()
        inner.store(found.pointer, found.offset, 8, difference)
        inner.ret(1)
        inner.start(same)

    emit.repeat(count, turn)
    return b.load(state.pointer, state.offset, 8)


# -- pointers ----------------------------------------------------------------------------------

_MAX_ERRNO = 4095  # include/linux/err.h


def _check_is_error(site: Site) -> Type:
    source = site.type(0)
    if not isinstance(source, t.Int | t.Pointer):
        site.error(Code.BAD_ARGUMENT, f"is_err() expects a pointer ('{spell(source)}' provided)", argument=0)
    return t.BOOL


def _lower_is_error(emit: Emit, place: Place | None) -> Operand:
    return emit.b.compare(CompareOp.UGE, emit.word(0), -_MAX_ERRNO)


SEARCH: tuple[Builtin, ...] = (
    Builtin(
        "strlen",
        1,
        1,
        "strlen(s): the number of characters before the terminator",
        _gives(t.UINT64),
        _lower_length,
        macro=True,
    ),
    Builtin(
        "strcap",
        1,
        1,
        "strcap(s): the number of bytes that there is room for in a string",
        _gives(t.INT64),
        _lower_capacity,
        macro=True,
    ),
    Builtin(
        "strstr",
        2,
        2,
        "strstr(s, part): the place at which a string is in another for the first time, counted from 0, or -1",
        _gives(t.INT64),
        _lower_find,
        macro=True,
    ),
    Builtin(
        "strcontains",
        2,
        2,
        "strcontains(s, part): whether a string is in another",
        _gives(t.BOOL),
        _lower_contains,
        macro=True,
    ),
    Builtin(
        "str_concat",
        2,
        2,
        "str_concat(a, b): one string behind the other, 1023 characters at most",
        _gives(t.String(_JOINED_CAPACITY)),
        _lower_concat,
        macro=True,
    ),
    Builtin(
        "memcmp",
        3,
        3,
        "memcmp(a, b, n): 0 if the first n bytes are equal, else the difference of the first two that are not",
        _check_memcmp,
        _lower_memcmp,
        macro=True,
    ),
    Builtin(
        "is_err",
        1,
        1,
        "is_err(p): whether a pointer that the kernel returned stands for an error",
        _check_is_error,
        _lower_is_error,
        macro=True,
    ),
)
