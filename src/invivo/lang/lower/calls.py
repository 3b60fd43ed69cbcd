"""Calls of the library: what a record may ask for while it is lowered (`library.record.Emit`)."""

from __future__ import annotations

import struct
from collections.abc import Callable

from invivo.diagnostics import Span
from invivo.ir import helpers
from invivo.ir import types as t
from invivo.ir.builder import Builder
from invivo.ir.layout import CONSTANTS_MAP, Action, LossKind, MapSpec
from invivo.ir.ops import CompareOp, FunctionKind, Kind, Operand, Value
from invivo.ir.types import AddressSpace, Type
from invivo.lang import ast
from invivo.lang.check.calls import member_path
from invivo.lang.check.probes import walk
from invivo.lang.lower import maps, memory
from invivo.lang.lower.body import Body, Fields
from invivo.library.record import Config, FieldSource, Place
from invivo.target import AttachPoint, Context, Target


def lower_builtin(
    body: Body, node: ast.Name | ast.Call, place: Place | None, *, discarded: bool = False
) -> Operand | None:
    """Lower a call; a result in memory goes to ``place``."""
    builtin = body.instance.builtins[node]
    assert builtin.lower is not None, f"{builtin.name} is not a value"
    return builtin.lower(CallLowering(body, node, None, "", discarded), place)


def _has_effects(argument: ast.Node) -> bool:
    """Whether evaluating an expression changes, reports or leaves something."""
    return any(map(_is_effect, walk(argument)))


def _is_effect(node: ast.Node) -> bool:
    match node:
        case ast.Increment() | ast.BlockExpr() | ast.IfExpr() | ast.Call(_, "delete" | "find"):
            return True
        case ast.Binary(_, "/" | "%", _, right):
            return not isinstance(right, ast.Integer)
        case ast.Index(_, _, index):
            return not isinstance(index, ast.Integer)
        case _:
            return False


class CallLowering:
    """One call (or value of the context) while it is lowered."""

    def __init__(self, body: Body, node: ast.Expr, result: Type | None, subject: str, discarded: bool) -> None:
        self._body = body
        self._node = node
        self._arguments = node.arguments if isinstance(node, ast.Call) else ()
        self._words: dict[int, Operand] = {}
        self._result = result
        self._subject = subject
        self._discarded = discarded

    def _argument(self, index: int) -> ast.Expr:
        argument = self._arguments[index]
        assert not isinstance(argument, ast.NamedType | ast.PointerType | ast.ArrayType | ast.TypeOf)
        return argument

    def evaluate(self) -> None:
        for index in range(self.arity):
            type_ = self.argument_type(index)  # literals that only the checker looked at have none
            if type_ is not None and t.is_scalar(type_):
                self._words[index] = self._body.word(self._argument(index))

    # -- what is known -------------------------------------------------------------------------

    @property
    def arity(self) -> int:
        return len(self._arguments)

    @property
    def b(self) -> Builder:
        return self._body.b

    @property
    def config(self) -> Config:
        return self._body.config

    @property
    def context(self) -> Context:
        return self._body.context

    @property
    def target(self) -> Target:
        return self._body.target

    @property
    def points(self) -> tuple[AttachPoint, ...]:
        return self._body.instance.plan.points

    @property
    def result(self) -> Type:
        return self._body.type(self._node) if self._result is None else self._result

    @property
    def discarded(self) -> bool:
        return self._discarded

    @property
    def bpftrace(self) -> bool:
        return self._body.state.checked.bpftrace

    @property
    def span(self) -> Span | None:
        return self._node.span

    @property
    def subject(self) -> str:
        return self._subject

    def type(self, index: int) -> Type:
        return self._body.type(self._argument(index))

    def argument_type(self, index: int) -> Type | None:
        return self._body.instance.types.get(self._argument(index))

    def literal(self, index: int) -> int | str | None:
        return self._body.folder(self._arguments[index])

    def text(self, index: int) -> str | None:
        return self._body.folder.text(self._arguments[index])

    def identifier(self, index: int) -> str | None:
        argument = self._arguments[index]
        return argument.name if isinstance(argument, ast.Name) else None

    def path(self, index: int) -> tuple[str, ...]:
        return member_path(self._arguments[index])

    def kernel_pointer(self, index: int) -> Value | None:
        return memory.kernel_pointer(self._body, self._argument(index))

    def iterated_member(self, index: int) -> tuple[Value, int] | None:
        return memory.iterated_member(self._body, self._argument(index))

    def space(self, index: int) -> AddressSpace:
        return self._body.space(self._argument(index))

    # -- arguments -----------------------------------------------------------------------------

    def word(self, index: int) -> Operand:
        if index in self._words:
            return self._words[index]
        return self._body.word(self._argument(index))

    def address(self, index: int) -> Place:
        return self._body.address(self._argument(index))

    def into(self, index: int, place: Place) -> None:
        self._body.into(self._argument(index), self.type(index), place)

    def into_string(self, index: int, place: Place, capacity: int) -> None:
        self._body.into(self._argument(index), t.String(capacity), place)

    def source(self, index: int) -> FieldSource:
        return self._source(self._argument(index), self.type(index))

    def _source(self, node: ast.Expr, type_: Type) -> FieldSource:
        """Values in memory are built in the record, after all others: unless that makes a difference."""
        if t.is_scalar(type_):
            return self._body.word(node)
        if any(map(_has_effects, self._arguments)):
            size = t.size_bytes(type_)
            built = self._body.temporary(size)
            self._body.into(node, type_, built)
            return lambda place: memory.read_into(self._body, built, place, size)
        return lambda place: self._body.into(node, type_, place)

    def compare_strings(self, left: int, right: int, length: int) -> Operand:
        return self._body.compare_text(self._argument(left), self._argument(right), length)

    def clamp(self, value: Operand, low: int, high: int) -> Operand:
        """The verifier needs to see both bounds on the register that is used."""
        b = self.b
        result = b.variable("clamped")
        above, below, fits, done = (b.label(f"clamp_{part}") for part in ("above", "below", "fits", "done"))
        check = b.label("clamp_check")
        b.branch(CompareOp.UGT, value, high, above, check)
        b.start(above)
        b.set(result, high)
        b.jump(done)
        b.start(check)
        b.branch(CompareOp.ULT, value, low, below, fits)
        b.start(below)
        b.set(result, low)
        b.jump(done)
        b.start(fits)
        b.set(result, value)
        b.start(done)
        return b.bounded(b.get(result), high + 1)

    def temporary(self, size: int) -> Place:
        return self._body.temporary(size)

    def scratch(self, size: int) -> Callable[[], Place]:
        offset = self._body.shared_bytes(size)
        return lambda: Place(self._body.scratch_pointer(), offset)

    def repeat(self, count: Operand, body: Callable[[Operand], None]) -> None:
        outer, b = self._body, self.b
        # The verifier does not look at the body of a loop that it knows to run no time, and takes it away; a
        # kernel then misses it ("No program to jit").
        if count == 0:
            return
        run, skip = b.label("repeat"), b.label("repeated")
        b.branch(CompareOp.NE, count, 0, run, skip)
        b.start(run)
        with outer.callback(FunctionKind.LOOP, (Kind.WORD, Kind.STACK)) as inner:
            body(inner.parameters[0])
        b.call_void(helpers.LOOP, count, b.function(outer.state.functions[-1].name), outer.frame_here, 0)
        b.jump(skip)
        b.start(skip)

    def data(self, data: bytes) -> Value:
        return self.b.global_address(CONSTANTS_MAP, self._body.state.constant(data))

    # -- the context ---------------------------------------------------------------------------

    def context_pointer(self) -> Value:
        return self._body.context_pointer()

    def context_word(self) -> Operand:
        return self.pointer_word(self._body.context_pointer())

    def pointer_word(self, pointer: Value) -> Operand:
        """A pointer becomes a number by a detour through memory that holds numbers."""
        b = self.b
        cell = self._body.cell("pointer_word")
        b.store(self._body.frame_here, cell, 8, pointer)
        place = self._body.temporary(8)
        b.store(place.pointer, place.offset, 8, 0)
        b.call_void(
            helpers.PROBE_READ_KERNEL, b.offset(place.pointer, place.offset), 8, b.offset(self._body.frame_here, cell)
        )
        return b.load(place.pointer, place.offset, 8)

    def position(self) -> Operand:
        body = self._body
        if len(body.instance.plan.points) == 1:
            return 0
        if body.gate_position is not None:
            return body.get_position()
        return self.b.call(helpers.GET_ATTACH_COOKIE, self.context_pointer())

    def probe_index(self) -> Operand:
        return self._name_of(self._body.probe_names())

    def function_index(self) -> Operand:
        return self._name_of(self._body.function_names())

    def _name_of(self, names: tuple[int, ...]) -> Operand:
        """The name, by its index, of the point that fired."""
        body, b = self._body, self.b
        if len(set(names)) == 1:
            return names[0]
        position = self.position()
        if names == tuple(range(names[0], names[0] + len(names))):
            return b.add(position, names[0])
        limit = 1 << (len(names) - 1).bit_length()
        table = b.global_address(
            CONSTANTS_MAP, body.state.constant(struct.pack(f"<{limit}I", *names, *bytes(limit - len(names))))
        )
        return b.load(b.offset(table, b.shift_left(b.bounded(position, limit), 2)), 0, 4)

    # -- maps ----------------------------------------------------------------------------------

    def map(self, index: int) -> str:
        argument = self._arguments[index]
        assert isinstance(argument, ast.MapAccess)
        return argument.name

    def map_value(self, index: int) -> Type:
        return maps.stored(self._body, self.map(index)).layout.value

    def has_keys(self, index: int) -> bool:
        argument = self._arguments[index]
        return isinstance(argument, ast.MapAccess) and bool(argument.keys)

    def is_map(self, index: int) -> bool:
        argument = self._arguments[index]
        return isinstance(argument, ast.MapAccess) and not argument.keys

    def is_cell(self, index: int) -> bool:
        return maps.is_cell(maps.stored(self._body, self.map(index)))

    def key(self, map_index: int, key_index: int | None) -> Place:
        argument = self._arguments[map_index]
        assert isinstance(argument, ast.MapAccess)
        parts = argument.keys if key_index is None else (self._argument(key_index),)
        return maps.key_place(self._body, argument.name, parts)

    def element(self, index: int) -> tuple[tuple[Type, FieldSource], tuple[Type, FieldSource]]:
        argument = self._arguments[index]
        assert isinstance(argument, ast.MapAccess)
        body = self._body
        parts = maps.stored(body, argument.name).layout.key
        assert parts is not None
        built = maps.key_place(body, argument.name, argument.keys)
        key_type = parts[0] if len(parts) == 1 else t.Tuple(parts)
        size, type_ = t.size_bytes(key_type), self.type(index)
        if t.is_scalar(type_):
            value: FieldSource = maps.read_map(body, argument, built)
        else:
            value = lambda place: maps.read_map_into(body, argument, type_, place, built)  # noqa: E731
        return (key_type, lambda place: memory.read_into(body, built, place, size)), (type_, value)

    def need_map(self, spec: MapSpec) -> None:
        self._body.state.need_map(spec)

    def map_handle(self, name: str) -> Value:
        return self.b.map(maps.stored(self._body, name).layout.map)

    def lookup(self, name: str, key: Place) -> Value:
        return maps.lookup(self._body, name, key)

    def delete_cell(self, index: int) -> Operand:
        return maps.delete_cell(self._body, self.map(index))

    def count_elements(self, name: str) -> Operand:
        return maps.count_elements(self._body, name)

    # -- effects -------------------------------------------------------------------------------

    def send(self, action: Action, fields: Fields) -> None:
        self._body.send(action, fields)

    def lose(self, kind: LossKind, subject: str = "") -> None:
        self._body.lose(kind, subject)

    def failed(self, helper: str, code: Operand, message: str) -> None:
        self._body.failed(helper, code, message)

    def warn(self, message: str) -> None:
        self._body.complain(message)

    def read_failed(self, code: Operand) -> None:
        self._body.read_failed(code)

    def fault_guard(self, code: Operand) -> None:
        self._body.fault_guard(code)

    def expansion(self) -> Operand:
        for argument in self._arguments:
            if isinstance(argument, ast.ScratchVariable) and argument in self._body.instance.declared:
                memory.zero_variable(self._body, self._body.instance.variables[argument])
        return self._body.word(self._body.instance.expansions[self._node])

    def exit_program(self) -> None:
        self._body.leave()
