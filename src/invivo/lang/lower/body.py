"""Lowering of one probe's body: variables, temporaries, callbacks, the way out.

An entry function runs: gate and scope tests, then the scratch slot if one is needed, then the
body; all ways out go through one exit, which gives the slot back.  What a loop's callback shares
with the function around it lives in one record on the entry's stack, the *frame*.
"""

from __future__ import annotations

from collections.abc import Generator, Sequence
from contextlib import contextmanager
from typing import Final, Protocol

from invivo.diagnostics import Span
from invivo.formats.elf_symbols import readable
from invivo.ir import helpers, ops
from invivo.ir import types as t
from invivo.ir.builder import Builder
from invivo.ir.format import Format
from invivo.ir.layout import LOSSES_MAP, Action, Complain, HelperFailed, LossKind
from invivo.ir.ops import AtomicOp, CompareOp, FunctionKind, Kind, Operand, Value
from invivo.ir.types import AddressSpace, Type
from invivo.lang import ast
from invivo.lang.check.fold import Folder
from invivo.lang.check.model import Instance, Variable
from invivo.lang.check.spaces import space_of
from invivo.lang.lower.state import BUSY_MAP, CACHE_LINE, SCRATCH_MAP, SCRATCH_SLOTS, ProgramState
from invivo.library.record import Config, Emit, FieldSource, Place
from invivo.target import Context, Target

_STACK_LARGEST = 128  # bytes of one temporary, whatever the script's on_stack_limit says
_STACK_BUDGET = 192  # bytes of temporaries; the rest of the 512 is for keys, spills and callbacks
_STACK_RESERVE = 64  # more, for single words


class Forms(Protocol):
    """The parts of lowering that call each other through `Body`: one implementation, in `forms`."""

    def word(self, body: Body, node: ast.Expr) -> Operand: ...
    def into(self, body: Body, node: ast.Expr, type_: Type, place: Place) -> None: ...
    def address(self, body: Body, node: ast.Expr) -> Place: ...
    def condition(self, body: Body, node: ast.Expr, then: str, otherwise: str) -> None: ...
    def compare_text(self, body: Body, left: ast.Expr, right: ast.Expr, length: int | None) -> Operand: ...
    def block(self, body: Body, block: ast.Block) -> None: ...
    def call(self, body: Body, node: ast.Call, place: Place | None, discarded: bool) -> None: ...
    def emit(self, body: Body, node: ast.Expr, result: Type | None, subject: str) -> CallEmit: ...
    def send(self, body: Body, action: Action, fields: Fields) -> None: ...


# The helpers that read traced memory, as they are told of.
_READERS: Final = {
    helpers.PROBE_READ_USER: "probe_read_user",
    helpers.PROBE_READ_KERNEL: "probe_read_kernel",
    helpers.PROBE_READ_USER_STR: "probe_read_user_str",
    helpers.PROBE_READ_KERNEL_STR: "probe_read_kernel_str",
    helpers.D_PATH: "d_path",
}


class CallEmit(Emit, Protocol):
    def evaluate(self) -> None:
        """Evaluate all scalar arguments now; `Emit.word` then gives what was found."""


Fields = Sequence[tuple[str, Type, FieldSource]]


class Loop:
    """Where break and continue go: labels in the same function, or a callback's return."""

    def __init__(self, on_break: str | None, on_continue: str | None) -> None:
        self.on_break = on_break
        self.on_continue = on_continue


class Body:
    """The state while one instance is lowered."""

    def __init__(self, state: ProgramState, instance: Instance, name: str, forms: Forms) -> None:
        self.state = state
        self._forms = forms
        self.instance = instance
        self.name = name
        self.folder = Folder(state.checked.parameters, instance.constants, instance.decided)
        self.b = Builder(name, FunctionKind.ENTRY, (Kind.CONTEXT,))
        self.entry = self.b
        self.frame = self.b.reserve_slot()
        self.frame_here = self.frame
        self.frame_size = 0
        self.cells: dict[str, int] = {}  # of the frame: pointers
        self.shared: dict[object, int] = {}  # of the scratch slot: numbers
        self.registers: dict[Variable, ops.Variable] = {}
        self.places: dict[Variable, int] = {}  # offset in the scratch slot
        self.scratch = self.b.variable("scratch", Kind.MAP_VALUE)
        self.scratch_used = 0
        self.free: dict[tuple[object, int], list[Place]] = {}
        self.in_use: list[tuple[tuple[object, int], Place]] = []
        self.stack_used = 0
        self.loops: list[Loop] = []
        self.fault: ops.Variable | None = None
        self.callbacks = 0
        self.gate_position: ops.Variable | None = None  # index into the plan's points
        self._probe_names: tuple[int, ...] = ()
        self._function_names: tuple[int, ...] = ()
        self.exit_label = self.b.label("exit")

    # -- forms ---------------------------------------------------------------------------------

    def meant(self, node: ast.Expr) -> ast.Expr:
        """Return what is compiled in the place of an expression."""
        while True:
            if isinstance(node, ast.Comptime):
                node = node.operand
            elif node in self.instance.stands_for:
                node = self.instance.stands_for[node]
            else:
                return node

    def word(self, node: ast.Expr) -> Operand:
        """Evaluate a scalar expression."""
        node = self.meant(node)
        outer, self.b.span = self.b.span, node.span
        value = self._forms.word(self, node)
        self.b.span = outer
        return value

    def into(self, node: ast.Expr, type_: Type, place: Place) -> None:
        """Evaluate an expression and store it at a place as a value of a type."""
        node = self.meant(node)
        outer, self.b.span = self.b.span, node.span
        self._forms.into(self, node, type_, place)
        self.b.span = outer

    def address(self, node: ast.Expr) -> Place:
        """Return the place of an expression that lives in memory; not to be written to."""
        return self._forms.address(self, self.meant(node))

    def condition(self, node: ast.Expr, then: str, otherwise: str) -> None:
        """Go to one label if the expression is true, else to the other."""
        self._forms.condition(self, self.meant(node), then, otherwise)

    def compare_text(self, left: ast.Expr, right: ast.Expr, length: int | None) -> Operand:
        """1 if two strings differ (in their first ``length`` characters), else 0."""
        return self._forms.compare_text(self, left, right, length)

    def block(self, block: ast.Block) -> None:
        """Run a block for its effects."""
        self._forms.block(self, block)

    def call(self, node: ast.Call, place: Place | None, *, discarded: bool) -> None:
        """Call a function for its effects."""
        self._forms.call(self, node, place, discarded)

    def emit(self, node: ast.Expr, result: Type | None = None, subject: str = "") -> CallEmit:
        """Return what the library sees of a call or of a value of the context."""
        return self._forms.emit(self, node, result, subject)

    def bare_emit(self) -> CallEmit:
        """As `emit`, for what belongs to no expression."""
        return self.emit(ast.Boolean(self.instance.probe.span, True))

    def get_position(self) -> Operand:
        """The index of the event that fired into the plan's points, as the gate found it."""
        assert self.gate_position is not None
        if self.in_callback:
            return self.b.load(self.frame_here, self.cell("position"), 8)
        return self.b.get(self.gate_position)

    def send(self, action: Action, fields: Fields) -> None:
        """Send a record."""
        self._forms.send(self, action, fields)

    def failed(self, helper: str, code: Operand, message: str) -> None:
        """Report that a helper failed here, if that was asked for. (The neighbour's face always
        does.) What is missing from the result is counted in any case."""
        if self.state.checked.bpftrace or self.state.checked.warnings:
            site = self.state.site(self.b.span, helper, message)
            self.send(HelperFailed(), (("site", t.UINT64, site), ("code", t.INT64, code)))

    def complain(self, message: str) -> None:
        """Warn at run time about what the program just did."""
        self.send(Complain(Format((message,)), self.b.span, "WARNING", True), ())

    def probe_names(self) -> tuple[int, ...]:
        """The names of this program's probes, as indexes, in the order of its points."""
        if not self._probe_names:
            self._probe_names = self.state.name_indexes(point.name for point in self.instance.plan.points)
        return self._probe_names

    def function_names(self) -> tuple[int, ...]:
        """The names of the traced functions, likewise."""
        if not self._function_names:
            functions = [point.function for point in self.instance.plan.points]
            if self.state.demangles:
                functions = [readable(function) for function in functions]
            self._function_names = self.state.name_indexes(functions)
        return self._function_names

    @property
    def context(self) -> Context:
        return self.instance.plan.context

    @property
    def target(self) -> Target:
        return self.state.target

    @property
    def config(self) -> Config:
        return self.state.checked.config

    def type(self, node: ast.Node) -> Type:
        return self.instance.types[node]

    def space(self, node: ast.Node) -> AddressSpace:
        return space_of(self.instance, node)

    @property
    def in_callback(self) -> bool:
        return self.b is not self.entry

    # -- the frame -----------------------------------------------------------------------------

    def cell(self, what: str) -> int:
        """The offset of an 8-byte cell of the frame, for a pointer that callbacks need."""
        if what not in self.cells:
            self.cells[what] = self.frame_size
            self.frame_size += 8
        return self.cells[what]

    def shared_cell(self, what: object) -> Place:
        """A number that a loop's callback shares with the function around it.

        It lives in map memory: the verifier follows numbers on the stack through every turn of a
        loop, and one that differs in each turn keeps it from ever coming to an end.
        """
        if what not in self.shared:
            self.shared[what] = self._scratch_bytes(8)
        return Place(self.scratch_pointer(), self.shared[what])

    def load_shared(self, what: object) -> Value:
        place = self.shared_cell(what)
        return self.b.load(place.pointer, place.offset, 8)

    def store_shared(self, what: object, value: Operand) -> None:
        place = self.shared_cell(what)
        self.b.store(place.pointer, place.offset, 8, value)

    def context_pointer(self) -> Value:
        if not self.in_callback:
            return self.b.parameters[0]
        return self.b.load(self.frame_here, self.cell("context"), 8, kind=Kind.CONTEXT)

    def scratch_pointer(self) -> Value:
        if not self.in_callback:
            return self.b.get(self.scratch)
        return self.b.load(self.frame_here, self.cell("scratch"), 8, kind=Kind.MAP_VALUE)

    # -- memory --------------------------------------------------------------------------------

    def temporary(self, size: int) -> Place:
        """Memory until the end of the statement: on the stack if small, else in the scratch slot."""
        size = -(-size // 8) * 8
        limit = max(8, min(self.config.on_stack_limit, _STACK_LARGEST))
        budget = _STACK_BUDGET + (_STACK_RESERVE if size == 8 else 0)
        on_stack = size <= limit and self.stack_used < budget
        pool = (self.b if on_stack else "scratch", size)
        free = self.free.get(pool)
        if free:
            place = free.pop()
        elif on_stack:
            self.stack_used += size
            place = Place(self.b.stack_slot(size), 0)
        else:
            place = Place(self.b.parameters[0], self._scratch_bytes(size))
        self.in_use.append((pool, place))
        return place if on_stack else Place(self.scratch_pointer(), place.offset)

    def shared_bytes(self, size: int) -> int:
        """The offset in the scratch slot of memory until the end of the statement, which callbacks reach too."""
        size = -(-size // 8) * 8
        pool = ("scratch", size)
        free = self.free.get(pool)
        place = free.pop() if free else Place(self.b.parameters[0], self._scratch_bytes(size))
        self.in_use.append((pool, place))
        return place.offset

    def _scratch_bytes(self, size: int) -> int:
        offset = self.scratch_used
        self.scratch_used += size
        return offset

    @contextmanager
    def statement(self, span: Span) -> Generator[None]:
        """Temporaries that are taken inside are free again afterwards."""
        mark = len(self.in_use)
        outer, self.b.span = self.b.span, span
        yield
        self.b.span = outer
        while len(self.in_use) > mark:
            pool, place = self.in_use.pop()
            self.free.setdefault(pool, []).append(place)

    # -- variables -----------------------------------------------------------------------------

    def variable_place(self, variable: Variable) -> Place:
        """Where a variable that lives in memory is."""
        assert variable.type is not None
        if variable not in self.places:
            self.places[variable] = self._scratch_bytes(-(-t.size_bytes(variable.type) // 8) * 8)
        return Place(self.scratch_pointer(), self.places[variable])

    def get_variable(self, variable: Variable) -> Operand:
        if variable.captured:
            return self.load_shared(variable)
        return self.b.get(self._register(variable))

    def set_variable(self, variable: Variable, value: Operand) -> None:
        if variable.captured:
            self.store_shared(variable, value)
        else:
            self.b.set(self._register(variable), value)

    def _register(self, variable: Variable) -> ops.Variable:
        if variable not in self.registers:
            self.registers[variable] = self.b.variable(variable.name)
        return self.registers[variable]

    # -- the way out ---------------------------------------------------------------------------

    def leave(self) -> None:
        """Leave the program from here: through the exit, or by ending the loop around first."""
        if self.in_callback:
            self.store_shared("returned", 1)
            self.b.ret(1)
        else:
            self.b.jump(self.exit_label)

    @contextmanager
    def callback(self, kind: FunctionKind, parameters: tuple[Kind, ...]) -> Generator[Builder]:
        """Emit into a new function until the end of the block; its last parameter is the frame."""
        name = f"{self.name}_{self.callbacks}"
        self.callbacks += 1
        outer, outer_frame, outer_fault = self.b, self.frame_here, self.fault
        self.b = Builder(name, kind, parameters)
        self.b.span = outer.span
        self.frame_here = self.b.parameters[-1]
        self.fault = None
        inner = self.b
        yield inner
        inner.ret(0)
        self.state.functions.append(inner.finish())
        self.b, self.frame_here, self.fault = outer, outer_frame, outer_fault

    def after_loop(self) -> None:
        """Go on leaving, if the loop's body left the program."""
        if "returned" not in self.shared:
            return
        left, on = self.b.label("left"), self.b.label("after_loop")
        self.b.branch(CompareOp.NE, self.load_shared("returned"), 0, left, on)
        self.b.start(left)
        if self.in_callback:
            self.b.ret(1)
        else:
            self.b.jump(self.exit_label)
        self.b.start(on)

    # -- losses and faults ---------------------------------------------------------------------

    def lose(self, kind: LossKind, subject: str = "") -> None:
        self.b.atomic(AtomicOp.ADD, self.loss_counter(kind, subject), 0, 1)

    def loss_counter(self, kind: LossKind, subject: str = "") -> Value:
        """The address of the number that counts such losses."""
        return self.b.global_address(LOSSES_MAP, self.state.loss(kind, subject).offset)

    def read_failed(self, code: Operand) -> None:
        self.lose(LossKind.READ_FAILED)
        if self.state.checked.warnings:
            self.failed(_READERS[self.b.called], code, "")
        if self.fault is not None:
            self.b.set(self.fault, 1)

    def fault_guard(self, code: Operand) -> None:
        failed, on = self.b.label("fault"), self.b.label("read")
        self.b.branch(CompareOp.SLT, code, 0, failed, on)
        self.b.start(failed)
        self.read_failed(code)
        self.b.start(on)

    # -- entry and exit ------------------------------------------------------------------------

    def finish(self, acquire: str, body: str) -> None:
        """Emit what only now is known: the frame's size, and whether a scratch slot is needed.

        ``acquire`` is the label that the entry jumps to before ``body``.
        """
        b = self.b
        b.jump(self.exit_label)
        b.span = None
        slot = b.variable("slot")
        b.start(acquire)
        if self.scratch_used:
            self._acquire(slot)
        if "scratch" in self.cells:
            b.store(self.frame, self.cell("scratch"), 8, b.get(self.scratch))
        if "position" in self.cells and self.gate_position is not None:
            b.store(self.frame, self.cell("position"), 8, b.get(self.gate_position))
        if "context" in self.cells:
            b.store(self.frame, self.cell("context"), 8, b.parameters[0])
        for name in ("returned", "result"):
            if name in self.shared:
                self.store_shared(name, 0)
        b.jump(body)
        b.start(self.exit_label)
        result: Operand = self.load_shared("result") if "result" in self.shared else 0
        if self.scratch_used:
            self._release(slot)
        b.ret(result)
        if self.frame_size or self.callbacks:  # a callback is given the frame even if it needs nothing of it
            b.size_slot(self.frame, max(8, self.frame_size))
        self.state.scratch_size = max(self.state.scratch_size, self.scratch_used)
        self.state.functions.append(b.finish())

    def _busy_word(self) -> Value:
        """The address of this CPU's bitmap of taken scratch slots."""
        b = self.b
        cpu = b.bounded(b.call(helpers.GET_SMP_PROCESSOR_ID), self.state.cpu_slots)
        line = b.shift_left(cpu, CACHE_LINE.bit_length() - 1)
        return b.offset(b.global_address(BUSY_MAP, 0), line)

    def _acquire(self, slot: ops.Variable) -> None:
        """Take a slot by setting its bit; programs that interrupt this one find it taken."""
        b = self.b
        busy = self._busy_word()
        got, none, absent, ready = b.label("slot"), b.label("no_slot"), b.label("slot_absent"), b.label("scratch")
        for number in range(SCRATCH_SLOTS):
            taken = b.label("taken")
            b.set(slot, number)
            before = b.atomic_fetch(AtomicOp.OR, busy, 0, 1 << number)
            b.branch(CompareOp.EQ, b.mask(before, 1 << number), 0, got, taken)
            b.start(taken)
        b.jump(none)
        b.start(none)
        self.lose(LossKind.SCRATCH_BUSY)
        b.ret(0)
        b.start(got)
        cpu = b.call(helpers.GET_SMP_PROCESSOR_ID)
        key = b.stack_slot(8)
        number_ = b.add(b.shift_left(cpu, SCRATCH_SLOTS.bit_length() - 1), b.get(slot))
        b.store(key, 0, 4, number_)
        pointer = b.call(helpers.MAP_LOOKUP_ELEM, b.map(SCRATCH_MAP), key, kind=Kind.MAP_VALUE_OR_NULL)
        b.branch(CompareOp.EQ, pointer, 0, absent, ready)
        b.start(absent)
        b.ret(0)
        b.start(ready)
        b.set(self.scratch, pointer)

    def _release(self, slot: ops.Variable) -> None:
        b = self.b
        bit = b.shift_left(1, b.get(slot))
        b.atomic(AtomicOp.AND, self._busy_word(), 0, b.binary(ops.BinaryOp.XOR, bit, -1))
