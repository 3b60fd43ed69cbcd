"""Checks that IR keeps its own rules. A violation is a bug of invivo, never of a user's program."""

from __future__ import annotations

from collections.abc import Callable, Container
from typing import Final

from invivo.ir import ops
from invivo.ir.helpers import RINGBUF_DISCARD, RINGBUF_RESERVE, RINGBUF_SUBMIT
from invivo.ir.ops import Block, CompareOp, Function, FunctionKind, Kind, Op, Operand, Terminator, Value, Variable
from invivo.ir.program import Program
from invivo.ir.text import format_function, format_op
from invivo.ir.uses import operands, predecessors, result, reverse_postorder, successors

_NULLABLE: Final = {Kind.MAP_VALUE_OR_NULL: Kind.MAP_VALUE, Kind.RING_OR_NULL: Kind.RING}
_LOADABLE: Final = {Kind.CONTEXT, Kind.STACK, Kind.MAP_VALUE, Kind.RING, Kind.BTF}
_STORABLE: Final = {Kind.STACK, Kind.MAP_VALUE, Kind.RING}
_CONSTANT_OFFSETS: Final = {Kind.CONTEXT, Kind.BTF}
_PARAMETERS: Final = {FunctionKind.ENTRY: 1, FunctionKind.LOOP: 2, FunctionKind.EACH: 4}


class IRError(AssertionError):
    """The IR breaks a rule; the message has the rule, the place and the function's text."""


def verify_program(program: Program) -> None:
    """Check every function, and that what they refer to exists. Raises `IRError`."""
    functions = {function.name: function for function in program.functions}
    if len(functions) != len(program.functions):
        raise IRError("two functions have the same name")
    maps = {spec.name: spec for spec in program.maps}
    for function in program.functions:
        verify_function(function)
        for block in function.blocks:
            for op in block.ops:
                problem = _missing(op, functions, maps.keys())
                if problem:
                    raise IRError(f"{problem}: {format_op(op)}\n{format_function(function)}")
    for entry in program.entries:
        if entry.function not in functions or functions[entry.function].kind is not FunctionKind.ENTRY:
            raise IRError(f"entry {entry.function} is not an entry function")


def _missing(op: Op, functions: dict[str, Function], maps: Container[str]) -> str:
    match op:
        case ops.MapAddress(_, name) | ops.GlobalAddress(_, name) if name not in maps:
            return f"unknown map {name}"
        case ops.FunctionAddress(_, name):
            if name not in functions or functions[name].kind not in (FunctionKind.LOOP, FunctionKind.EACH):
                return f"{name} is not a callback"
        case ops.CallFunction(_, name, arguments):
            if name not in functions or functions[name].kind is not FunctionKind.LOCAL:
                return f"{name} is not a local function"
            if len(arguments) != len(functions[name].parameters):
                return f"{name} takes {len(functions[name].parameters)} arguments"
        case _:
            pass
    return ""


def verify_function(function: Function) -> None:
    """Check one function: labels, single definitions, definition before use, kinds, null checks,
    and that no ring record stays reserved at a return. Raises `IRError`."""
    _Verifier(function).run()


class _Verifier:
    """The facts that hold at a place are bits of one integer: a value or variable is defined,
    a nullable value is known not to be null, a reserved record is still open."""

    def __init__(self, function: Function) -> None:
        self.function = function
        self.bits: dict[object, int] = {}
        self.roots: dict[object, int] = {}  # value or variable -> bits of the reservations it may be
        self.place: Op | Terminator | None = None

    def run(self) -> None:
        self.check_shape()
        self.find_roots()
        order = reverse_postorder(self.function)
        entering = self.flow(order, must=True, transfer=self.transfer_facts)
        for block in order:
            self.check_block(block, entering[block.label])
        opened = self.flow(order, must=False, transfer=self.transfer_open)
        for block in order:
            state = opened[block.label]
            for op in block.ops:
                state = self.open_after(op, state)
            self.place = block.end
            if isinstance(block.end, ops.Return) and state:
                self.fail("a ring record is still reserved at a return")

    def fail(self, rule: str) -> None:
        where = ""
        if isinstance(self.place, ops.Jump | ops.Branch | ops.Return):
            where = f" at {type(self.place).__name__.lower()}"
        elif self.place is not None:
            where = f": {format_op(self.place)}"
        raise IRError(f"{self.function.name}: {rule}{where}\n{format_function(self.function)}")

    def bit(self, what: object) -> int:
        """Return the bit of "this value or variable is defined"; the next one is "not null"."""
        found = self.bits.get(what)
        if found is None:
            found = self.bits[what] = 1 << (2 * len(self.bits))
        return found

    # -- shape ---------------------------------------------------------------------------------

    def check_shape(self) -> None:
        function = self.function
        labels = {block.label for block in function.blocks}
        if not function.blocks or len(labels) != len(function.blocks):
            self.fail("blocks need labels of their own")
        wanted = _PARAMETERS.get(function.kind)
        if wanted is not None and len(function.parameters) != wanted:
            self.fail(f"a function of kind {function.kind.value} has {wanted} parameters")
        if len(function.parameters) > 5:
            self.fail("at most five parameters")
        ids: set[int] = set()
        variables: dict[int, Variable] = {}
        for value in function.parameters:
            self.check_new(value, ids)
        for block in function.blocks:
            for op in block.ops:
                self.place = op
                if (value_defined := result(op)) is not None:
                    self.check_new(value_defined, ids)
                if isinstance(op, ops.GetVariable | ops.SetVariable):
                    known = variables.setdefault(op.variable.id, op.variable)
                    if known is not op.variable:
                        self.fail("two variables have the same number")
            self.place = block.end
            for label in successors(block.end):
                if label not in labels:
                    self.fail(f"no block {label}")
                if label == function.blocks[0].label:
                    self.fail("the entry block cannot be jumped to")

    def check_new(self, value: Value, ids: set[int]) -> None:
        if value.id in ids:
            self.fail(f"%{value.id} is defined twice")
        ids.add(value.id)

    # -- flow ----------------------------------------------------------------------------------

    def flow(self, order: list[Block], *, must: bool, transfer: Callable[[Block, int, str], int]) -> dict[str, int]:
        """Return the facts at each block's start, joined over all paths (and for must, or for may)."""
        before = predecessors(self.function)
        reachable = {block.label: block for block in order}
        entering: dict[str, int] = {order[0].label: sum(self.bit(p) for p in self.function.parameters) if must else 0}
        changed = True
        while changed:
            changed = False
            for block in order[1:]:
                joined: int | None = None
                for source in before[block.label]:
                    if source not in reachable or source not in entering:
                        continue
                    facts = transfer(reachable[source], entering[source], block.label)
                    joined = facts if joined is None else joined & facts if must else joined | facts
                assert joined is not None
                if entering.get(block.label) != joined:
                    entering[block.label] = joined
                    changed = True
        return entering

    def transfer_facts(self, block: Block, facts: int, target: str) -> int:
        for op in block.ops:
            facts = self.facts_after(op, facts)
        value = self.null_test(block.end, target, holds_null=False)
        if value is not None:
            facts |= self.bit(value) << 1
        return facts

    def facts_after(self, op: Op, facts: int) -> int:
        if isinstance(op, ops.SetVariable):
            return facts | self.bit(op.variable)
        value = result(op)
        if value is None:
            return facts
        bit = self.bit(value)
        if isinstance(op, ops.Offset):
            return facts | bit | bit << 1
        return (facts | bit) & ~(bit << 1)  # in a loop, last time's null check does not count

    def null_test(self, end: Terminator, target: str, *, holds_null: bool) -> Value | None:
        """Return the nullable value that is known to be null (or not to be) on the way to ``target``."""
        if not isinstance(end, ops.Branch) or end.then == end.otherwise:
            return None
        value, zero = (end.left, end.right) if isinstance(end.left, Value) else (end.right, end.left)
        if not isinstance(value, Value) or zero != 0 or value.kind not in _NULLABLE:
            return None
        if end.op not in (CompareOp.EQ, CompareOp.NE):
            return None
        null_side = end.then if end.op is CompareOp.EQ else end.otherwise
        return value if (target == null_side) == holds_null else None

    # -- reservations --------------------------------------------------------------------------

    def find_roots(self) -> None:
        """Find which reservations a value may be, through offsets and variables."""
        number = 0
        for block in self.function.blocks:
            for op in block.ops:
                if isinstance(op, ops.Call) and op.helper == RINGBUF_RESERVE and op.result is not None:
                    self.roots[op.result] = 1 << number
                    number += 1
        changed = number > 0
        while changed:
            changed = False
            for block in self.function.blocks:
                for op in block.ops:
                    target: object
                    source: object
                    match op:
                        case ops.Offset(target, source, _):
                            pass
                        case ops.GetVariable(target, source):
                            pass
                        case ops.SetVariable(target, source):
                            pass
                        case _:
                            continue
                    old = self.roots.get(target, 0)
                    new = old | self.roots.get(source, 0)
                    if new != old:
                        self.roots[target] = new
                        changed = True

    def open_after(self, op: Op, state: int) -> int:
        if isinstance(op, ops.Call):
            if op.helper == RINGBUF_RESERVE and op.result is not None:
                return state | self.roots[op.result]
            if op.helper in (RINGBUF_SUBMIT, RINGBUF_DISCARD):
                return state & ~self.roots.get(op.arguments[0], 0)
        return state

    def transfer_open(self, block: Block, state: int, target: str) -> int:
        for op in block.ops:
            state = self.open_after(op, state)
        value = self.null_test(block.end, target, holds_null=True)
        return state & ~self.roots.get(value, 0) if value is not None else state

    # -- one block -----------------------------------------------------------------------------

    def check_block(self, block: Block, facts: int) -> None:
        for op in block.ops:
            self.place = op
            for operand in operands(op):
                self.check_defined(operand, facts)
            if isinstance(op, ops.GetVariable) and not facts & self.bit(op.variable):
                self.fail(f"${op.variable.id} is not set on every way here")
            self.check_kinds(op, facts)
            facts = self.facts_after(op, facts)
        self.place = block.end
        for operand in operands(block.end):
            self.check_defined(operand, facts)
        if isinstance(block.end, ops.Branch):
            self.check_comparison(block.end.op, block.end.left, block.end.right)
        elif isinstance(block.end, ops.Return):
            self.check_word(block.end.value)

    def check_defined(self, operand: Operand, facts: int) -> None:
        if isinstance(operand, Value) and not facts & self.bit(operand):
            self.fail(f"%{operand.id} is not defined on every way here")

    def check_word(self, *given: Operand) -> None:
        for operand in given:
            if isinstance(operand, Value) and operand.kind is not Kind.WORD:
                self.fail(f"%{operand.id} is a pointer ({operand.kind.value}), not a number")

    def check_comparison(self, op: CompareOp, left: Operand, right: Operand) -> None:
        if op not in (CompareOp.EQ, CompareOp.NE):
            self.check_word(left, right)

    def usable(self, pointer: Value, facts: int) -> Kind:
        """Return the kind of a pointer that is about to be used; it must not be null."""
        if pointer.kind not in _NULLABLE:
            return pointer.kind
        if not facts & self.bit(pointer) << 1:
            self.fail(f"%{pointer.id} may be null here")
        return _NULLABLE[pointer.kind]

    def check_access(self, pointer: Operand, kinds: set[Kind], facts: int) -> None:
        if not isinstance(pointer, Value):
            self.fail("a constant is not a pointer")
        elif self.usable(pointer, facts) not in kinds:
            self.fail(f"memory of kind {pointer.kind.value} cannot be accessed so")

    def check_size(self, size: int, allowed: tuple[int, ...]) -> None:
        if size not in allowed:
            self.fail(f"size {size} is not one of {allowed}")

    def check_kinds(self, op: Op, facts: int) -> None:
        match op:
            case ops.Binary(_, _, left, right):
                self.check_word(left, right)
            case ops.Compare(_, comparison, left, right):
                self.check_comparison(comparison, left, right)
            case ops.Extend(_, value, bits, _):
                self.check_word(value)
                self.check_size(bits, (8, 16, 32))
            case ops.ByteSwap(_, value, bits):
                self.check_word(value)
                self.check_size(bits, (16, 32, 64))
            case ops.Offset(_, pointer, amount):
                self.check_offset(pointer, amount, facts)
            case ops.BoundedIndex(_, value, limit):
                self.check_word(value)
                if not 0 < limit < 1 << 31:
                    self.fail("a bound is positive and has 31 bits")
            case ops.Load(_, pointer, _, size, _):
                self.check_access(pointer, _LOADABLE, facts)
                self.check_size(size, (1, 2, 4, 8))
            case ops.Store(pointer, _, size, value):
                self.check_access(pointer, _STORABLE, facts)
                self.check_size(size, (1, 2, 4, 8))
                if size != 8:
                    self.check_word(value)
            case ops.Atomic(_, _, pointer, _, size, value):
                self.check_access(pointer, _STORABLE, facts)
                self.check_size(size, (4, 8))
                self.check_word(value)
            case ops.CompareExchange(_, pointer, _, expected, new):
                self.check_access(pointer, _STORABLE, facts)
                self.check_word(expected, new)
            case ops.Copy(target, _, source, _, size, align):
                self.check_access(target, _STORABLE, facts)
                self.check_access(source, _LOADABLE, facts)
                self.check_size(align, (1, 2, 4, 8))
            case ops.Zero(target, _, size, align):
                self.check_access(target, _STORABLE, facts)
                self.check_size(align, (1, 2, 4, 8))
            case ops.Call(_, _, arguments) | ops.CallFunction(_, _, arguments) | ops.CallKernel(_, _, arguments):
                if len(arguments) > 5:
                    self.fail("at most five arguments")
            case ops.SetVariable(variable, value):
                self.check_set(variable, value, facts)
            case _:
                pass

    def check_offset(self, pointer: Value, amount: Operand, facts: int) -> None:
        kind = self.usable(pointer, facts)
        if kind not in _LOADABLE:
            self.fail(f"%{pointer.id} is not a pointer to memory")
        if isinstance(amount, Value):
            self.check_word(amount)
            if kind in _CONSTANT_OFFSETS:
                self.fail(f"a {kind.value} pointer moves only by constants")

    def check_set(self, variable: Variable, value: Operand, facts: int) -> None:
        if not isinstance(value, Value):
            if variable.kind not in (Kind.WORD, *_NULLABLE):
                self.fail(f"${variable.id} holds pointers ({variable.kind.value}), not numbers")
        elif variable.kind is not value.kind and variable.kind not in (
            _NULLABLE.get(value.kind),
            Kind.WORD,  # an address as a number
        ):
            if _NULLABLE.get(variable.kind) is not value.kind:
                self.fail(f"${variable.id} holds {variable.kind.value}, not {value.kind.value}")
        elif value.kind in _NULLABLE and variable.kind is _NULLABLE[value.kind]:
            self.usable(value, facts)
