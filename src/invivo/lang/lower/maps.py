"""Maps: keys, reading, writing, aggregating."""

from __future__ import annotations

from collections.abc import Callable

from invivo.ir import helpers
from invivo.ir import types as t
from invivo.ir.layout import CELLS_MAP, CONSTANTS_MAP, LossKind, Storage
from invivo.ir.ops import AtomicOp, BinaryOp, CompareOp, FunctionKind, Kind, Operand, Value
from invivo.ir.types import Type
from invivo.lang import ast
from invivo.lang.check.probes import walk
from invivo.lang.lower import memory
from invivo.lang.lower.arithmetic import mean
from invivo.lang.lower.body import Body
from invivo.lang.lower.state import StoredMap
from invivo.library.access import common_alignment
from invivo.library.record import Builtin, Place

_E2BIG = 7


def stored(body: Body, name: str) -> StoredMap:
    return body.state.maps[name]


# -- keys --------------------------------------------------------------------------------------


def key_place(body: Body, name: str, parts: tuple[ast.Expr, ...]) -> Place:
    """Build a key in a temporary: every byte of it is determined."""
    key = stored(body, name).layout.key
    assert key is not None
    offsets, size = t.tuple_layout(key)
    place = body.temporary(size)
    if len(parts) == 1 and isinstance(body.type(parts[0]), t.Tuple):
        body.into(parts[0], t.Tuple(key), Place(place.pointer, place.offset, True))
        return place
    ends = [offset + t.size_bytes(part) for offset, part in zip(offsets, key, strict=True)]
    for end, start in zip(ends, (*offsets[1:], size), strict=True):
        if start > end:
            body.b.zero(place.pointer, place.offset + end, start - end, 1)
    for node, type_, offset in zip(parts, key, offsets, strict=True):
        body.into(node, type_, Place(place.pointer, place.offset + offset, True))
    return place


def lookup(body: Body, name: str, key: Place) -> Value:
    b = body.b
    handle = b.map(stored(body, name).layout.map)
    return b.call(helpers.MAP_LOOKUP_ELEM, handle, b.offset(key.pointer, key.offset), kind=Kind.MAP_VALUE_OR_NULL)


# -- cells -------------------------------------------------------------------------------------


def cell_place(body: Body, entry: StoredMap) -> Place:
    """The memory of a scalar map (of this CPU, for an aggregation)."""
    b = body.b
    layout = entry.layout
    if layout.storage is Storage.CELL:
        return Place(b.global_address(CELLS_MAP, layout.offset), 0)
    cpu = b.bounded(b.call(helpers.GET_SMP_PROCESSOR_ID), body.state.cpu_slots)
    shifted = b.shift_left(cpu, layout.stride.bit_length() - 1)
    return Place(b.offset(b.global_address(CELLS_MAP, layout.offset), shifted), 0)


def is_cell(entry: StoredMap) -> bool:
    return entry.layout.storage in (Storage.CELL, Storage.PERCPU_CELL)


def _mark_present(body: Body, entry: StoredMap) -> None:
    if entry.layout.present >= 0:
        body.b.store(body.b.global_address(CELLS_MAP, entry.layout.present), 0, 8, 1)


def delete_cell(body: Body, name: str) -> Operand:
    """Reset a scalar map; 1 if it had been written."""
    b = body.b
    layout = stored(body, name).layout
    size = stored(body, name).value_size
    if layout.storage is Storage.CELL:
        _zero_cell(body, b.global_address(CELLS_MAP, layout.offset), size)
    else:
        cpu = b.variable("cpu")
        b.set(cpu, 0)
        head, each, done = (b.label(f"reset_{part}") for part in ("head", "each", "done"))
        b.start(head)
        b.branch(CompareOp.ULT, b.get(cpu), body.target.cpus, each, done)
        b.start(each)
        shifted = b.shift_left(b.bounded(b.get(cpu), body.state.cpu_slots), layout.stride.bit_length() - 1)
        _zero_cell(body, b.offset(b.global_address(CELLS_MAP, layout.offset), shifted), size)
        b.set(cpu, b.add(b.get(cpu), 1))
        b.jump(head)
        b.start(done)
    flag = b.global_address(CELLS_MAP, layout.present)
    was = b.load(flag, 0, 8)
    b.store(flag, 0, 8, 0)
    return was


_ZEROED_INLINE = 128  # bytes


def _zero_cell(body: Body, pointer: Value, size: int) -> None:
    if size <= _ZEROED_INLINE:
        body.b.zero(pointer, 0, size)
        return
    zeros = body.b.global_address(CONSTANTS_MAP, body.state.zero_bytes(size))
    body.b.call_void(helpers.PROBE_READ_KERNEL, pointer, size, zeros)


# -- reading -----------------------------------------------------------------------------------


def read_map(body: Body, node: ast.MapAccess, key: Place | None = None) -> Operand:
    """Read a scalar value; 0 if there is none. ``key``: the element's, if it was evaluated already."""
    entry = stored(body, node.name)
    type_ = entry.layout.value
    if is_cell(entry):
        if t.is_aggregation(type_):
            return read_aggregation(body, entry, None)
        place = cell_place(body, entry)
        return memory.read_scalar(body, place, type_)
    key = key or key_place(body, node.name, node.keys)
    if t.is_aggregation(type_):
        return read_aggregation(body, entry, key)
    return _read_element(body, node.name, key)


def _read_element(body: Body, name: str, key: Place) -> Operand:
    b = body.b
    type_ = stored(body, name).layout.value
    value = lookup(body, name, key)
    result = b.variable("element")
    there, absent, done = b.label("there"), b.label("absent"), b.label("read_map")
    b.set(result, 0)
    b.branch(CompareOp.NE, value, 0, there, absent)
    b.start(absent)
    _report_absent(body)
    b.jump(done)
    b.start(there)
    b.set(result, memory.read_scalar(body, Place(value, 0), type_))
    b.start(done)
    return b.get(result)


def _report_absent(body: Body) -> None:
    if body.state.checked.warnings:
        body.failed("map_lookup_elem", 0, "Can't lookup map element because it does not exist.")


def read_map_into(body: Body, node: ast.MapAccess, type_: Type, place: Place, key: Place | None = None) -> None:
    """Copy a value in memory; zeros if there is none."""
    b = body.b
    entry = stored(body, node.name)
    size = t.size_bytes(entry.layout.value)
    if is_cell(entry):
        memory.read_into(body, cell_place(body, entry), place, size)
        return
    value = lookup(body, node.name, key or key_place(body, node.name, node.keys))
    there, absent, done = b.label("there"), b.label("absent"), b.label("read_map")
    b.branch(CompareOp.EQ, value, 0, absent, there)
    b.start(absent)
    _report_absent(body)
    if isinstance(type_, t.String):
        b.store(place.pointer, place.offset, 1, 0)
    else:
        b.zero(place.pointer, place.offset, size, common_alignment(place.offset, size))
    b.jump(done)
    b.start(there)
    memory.read_into(body, Place(value, 0), place, size)
    b.start(done)


def read_aggregation(body: Body, entry: StoredMap, key: Place | None) -> Operand:
    """Reduce a count, sum, average, minimum or maximum over all CPUs."""
    b = body.b
    type_ = entry.layout.value
    first, second, cpu = b.variable("reduced"), b.variable("count"), b.variable("cpu")
    for variable in (first, second, cpu):
        b.set(variable, 0)
    head, visit, add, more, done = (b.label(f"reduce_{part}") for part in ("head", "visit", "add", "next", "done"))
    b.start(head)
    b.branch(CompareOp.ULT, b.get(cpu), body.target.cpus, visit, done)
    b.start(visit)
    if key is None:
        layout = entry.layout
        index = b.bounded(b.get(cpu), body.state.cpu_slots)
        shifted = b.shift_left(index, layout.stride.bit_length() - 1)
        slot = b.offset(b.global_address(CELLS_MAP, layout.offset), shifted)
        b.jump(add)
    else:
        handle = b.map(entry.layout.map)
        pointer = b.offset(key.pointer, key.offset)
        slot = b.call(helpers.MAP_LOOKUP_PERCPU_ELEM, handle, pointer, b.get(cpu), kind=Kind.MAP_VALUE_OR_NULL)
        b.branch(CompareOp.NE, slot, 0, add, done)
    b.start(add)
    value = b.load(slot, 0, 8)
    if isinstance(type_, t.Minimum | t.Maximum):
        larger = b.label("reduce_larger")
        b.set(second, b.binary(BinaryOp.OR, b.get(second), b.load(slot, 8, 8)))
        b.branch(CompareOp.UGT, value, b.get(first), larger, more)
        b.start(larger)
        b.set(first, value)
    else:
        b.set(first, b.add(b.get(first), value))
        if isinstance(type_, t.Average):
            b.set(second, b.add(b.get(second), b.load(slot, 8, 8)))
    b.start(more)
    b.set(cpu, b.add(b.get(cpu), 1))
    b.jump(head)
    b.start(done)
    return _reduced(body, type_, b.get(first), b.get(second))


def _reduced(body: Body, type_: Type, first: Operand, second: Operand) -> Operand:
    b = body.b
    result = b.variable("value")
    some, done = b.label("some"), b.label("value")
    match type_:
        case t.Average(signed):
            b.set(result, 0)
            b.branch(CompareOp.NE, second, 0, some, done)
            b.start(some)
            b.set(result, mean(body, first, second, signed=signed))
        case t.Minimum() | t.Maximum():
            b.set(result, 0)
            b.branch(CompareOp.NE, second, 0, some, done)
            b.start(some)
            b.set(result, b.binary(BinaryOp.XOR, first, t.extreme_bias(type_)))
        case _:
            return first
    b.start(done)
    return b.get(result)


# -- writing -----------------------------------------------------------------------------------


def assign_map(body: Body, node: ast.MapAccess, value: ast.Expr) -> None:
    entry = stored(body, node.name)
    type_ = entry.layout.value
    if is_cell(entry):
        if t.is_scalar(type_):
            word = body.word(value)
            place = cell_place(body, entry)
            body.b.store(place.pointer, place.offset, t.size_bytes(type_), word)
        elif any(isinstance(used, ast.MapAccess) and used.name == node.name for used in walk(value)):
            built = body.temporary(t.size_bytes(type_))  # @x = f(@x): build it elsewhere first
            body.into(value, type_, built)
            memory.read_into(body, built, cell_place(body, entry), t.size_bytes(type_))
        else:
            body.into(value, type_, cell_place(body, entry))
        _mark_present(body, entry)
        return
    held = body.temporary(entry.value_size)
    body.into(value, type_, held)
    key = key_place(body, node.name, node.keys)
    update_element(body, node.name, key, held)


def change_element(body: Body, node: ast.MapAccess, change: Callable[[Operand], Operand]) -> None:
    """Replace a number by one that is computed from it; the key is evaluated once, before all else."""
    entry = stored(body, node.name)
    size = t.size_bytes(entry.layout.value)
    if is_cell(entry):
        word = change(read_map(body, node))
        place = cell_place(body, entry)
        body.b.store(place.pointer, place.offset, size, word)
        _mark_present(body, entry)
        return
    key = key_place(body, node.name, node.keys)
    word = change(_read_element(body, node.name, key))
    held = body.temporary(entry.value_size)
    body.b.store(held.pointer, held.offset, 8, 0)
    body.b.store(held.pointer, held.offset, size, word)
    update_element(body, node.name, key, held)


def update_element(body: Body, name: str, key: Place, value: Place, flags: int = 0) -> None:
    b = body.b
    handle = b.map(stored(body, name).layout.map)
    key_pointer, value_pointer = b.offset(key.pointer, key.offset), b.offset(value.pointer, value.offset)
    code = b.call(helpers.MAP_UPDATE_ELEM, handle, key_pointer, value_pointer, flags)
    failed, done = b.label("update_failed"), b.label("updated")
    b.branch(CompareOp.NE, code, 0, failed, done)
    b.start(failed)
    count_failed_update(body, name, code)
    b.start(done)


_FULL = (
    "Map full; can't update element. Try increasing max_map_keys config or manually setting the max entries in a "
    "map declaration e.g. `let @a = hash(5000)`"
)


def count_failed_update(body: Body, name: str, code: Operand) -> None:
    """Tell a full map from an update that failed for another reason.

    Before Linux 6.4 the functions of maps return an int, whose upper half is not in the register.
    """
    b = body.b
    code = b.extend(code, 32, signed=True)
    full, other, known = b.label("map_full"), b.label("map_failed"), b.label("loss_known")
    counter = b.variable("loss", Kind.MAP_VALUE)
    b.branch(CompareOp.EQ, code, -_E2BIG, full, other)
    b.start(full)
    body.failed("map_update_elem", code, _FULL)
    b.set(counter, body.loss_counter(LossKind.MAP_FULL, name))
    b.jump(known)
    b.start(other)
    body.failed("map_update_elem", code, "")
    b.set(counter, body.loss_counter(LossKind.MAP_UPDATE, name))
    b.start(known)
    b.atomic(AtomicOp.ADD, b.get(counter), 0, 1)


def element_slot(body: Body, node: ast.MapAccess, lost: str) -> Value:
    """The address of an element's value, created with zeros if need be; else go to ``lost``."""
    b = body.b
    entry = stored(body, node.name)
    key = key_place(body, node.name, node.keys)
    slot = b.variable("slot", Kind.MAP_VALUE)
    absent, found, ready = b.label("absent"), b.label("found"), b.label("slot")
    first = lookup(body, node.name, key)
    b.branch(CompareOp.EQ, first, 0, absent, found)
    b.start(absent)
    zeros = b.global_address(CONSTANTS_MAP, body.state.zero_bytes(entry.value_size))
    handle = b.map(entry.layout.map)
    pointer = b.offset(key.pointer, key.offset)
    code = b.call(helpers.MAP_UPDATE_ELEM, handle, pointer, zeros, helpers.BPF_NOEXIST)
    second = lookup(body, node.name, key)
    missing, created = b.label("missing"), b.label("created")
    b.branch(CompareOp.EQ, second, 0, missing, created)
    b.start(missing)
    count_failed_update(body, node.name, code)
    b.jump(lost)
    b.start(created)
    b.set(slot, second)
    b.jump(ready)
    b.start(found)
    b.set(slot, first)
    b.start(ready)
    return b.get(slot)


def aggregate(body: Body, node: ast.MapAccess, call: ast.Call, builtin: Builtin) -> None:
    """``@x[key] = count()``: one lookup, one update in place."""
    assert builtin.update is not None
    entry = stored(body, node.name)
    emit = body.emit(call, result=entry.layout.value, subject=node.name)
    emit.evaluate()  # before the slot is looked up: a value may itself read the map
    if is_cell(entry):
        place = cell_place(body, entry)
        builtin.update(emit, place)
        _mark_present(body, entry)
        return
    lost = body.b.label("lost")
    slot = element_slot(body, node, lost)
    builtin.update(emit, Place(slot, 0))
    body.b.start(lost)


def increment_map(body: Body, node: ast.MapAccess, step: int, *, used: bool, prefix: bool) -> Operand:
    """Count an element up or down, atomically; missing ones start at 0."""
    b = body.b
    entry = stored(body, node.name)
    if is_cell(entry):
        place = cell_place(body, entry)
        old = _add_in_place(body, place, step, used=used)
        _mark_present(body, entry)
        return b.add(old, step) if used and prefix else old
    result = b.variable("counted")
    b.set(result, 0)
    lost = b.label("lost")
    slot = element_slot(body, node, lost)
    old = _add_in_place(body, Place(slot, 0), step, used=used)
    if used:
        b.set(result, b.add(old, step) if prefix else old)
    b.start(lost)
    return b.get(result) if used else 0


def _add_in_place(body: Body, place: Place, step: int, *, used: bool) -> Operand:
    if used:
        return body.b.atomic_fetch(AtomicOp.ADD, place.pointer, place.offset, step)
    body.b.atomic(AtomicOp.ADD, place.pointer, place.offset, step)
    return 0


def count_elements(body: Body, name: str) -> Operand:
    """The number of elements, by visiting each."""
    b = body.b
    counter = ("elements", name)
    body.store_shared(counter, 0)
    with body.callback(FunctionKind.EACH, (Kind.MAP, Kind.MAP_VALUE, Kind.MAP_VALUE, Kind.STACK)) as inner:
        body.store_shared(counter, inner.add(body.load_shared(counter), 1))
    handle = b.map(stored(body, name).layout.map)
    b.call_void(helpers.FOR_EACH_MAP_ELEM, handle, b.function(body.state.functions[-1].name), body.frame_here, 0)
    return body.load_shared(counter)
