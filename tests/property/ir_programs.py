"""Random IR programs: arithmetic, memory, atomics, calls, branches and short loops."""

from __future__ import annotations

import random

from fixture_bpf import LAYOUT, PLAN
from invivo.ir.builder import Builder
from invivo.ir.helpers import GET_SMP_PROCESSOR_ID
from invivo.ir.layout import MapSpec, MapType
from invivo.ir.ops import AtomicOp, BinaryOp, CompareOp, FunctionKind, Kind, Operand, Value, Variable
from invivo.ir.program import Entry, Program

CELLS = MapSpec("cells", MapType.ARRAY, 4, 256, 1)
ARGUMENTS = 4
INTERESTING = (0, 1, 2, 3, 7, 8, 31, 32, 63, 64, 255, 256, 4096, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFF, 1 << 32, 1 << 63)


class ProgramWriter:
    """Writes one program from the choices of a random source."""

    def __init__(self, choose: random.Random, size: int) -> None:
        self.choose = choose
        self.left = size
        self.b = Builder("main", FunctionKind.ENTRY, (Kind.CONTEXT,))
        self.values: list[Value] = []
        self.variables: list[Variable] = []
        self.loops = 0

    def program(self) -> Program:
        b = self.b
        context = b.parameters[0]
        self.stack = b.stack_slot(64)
        b.zero(self.stack, 0, 64)
        for number in range(ARGUMENTS):
            self.values.append(b.load(context, 8 * number, 8))
        for number in range(5):
            variable = b.variable(f"v{number}")
            b.set(variable, self.operand())
            self.variables.append(variable)
        while self.left > 0:
            self.statements(0)
        total: Operand = 0
        for number, variable in enumerate(self.variables):
            value = b.get(variable)
            b.store(b.global_address("cells", 128), 8 * number, 8, value)
            total = b.binary(BinaryOp.XOR, b.binary(BinaryOp.ADD, total, value), b.binary(BinaryOp.LSHR, value, 32))
        b.copy(b.global_address("cells", 192), 0, self.stack, 0, 64)
        b.ret(total)
        return Program((b.finish(),), (Entry("main", PLAN, 0),), (CELLS,), LAYOUT)

    def operand(self) -> Operand:
        kind = self.choose.randrange(10)
        if kind < 5 or not self.variables:
            return self.choose.choice(self.values)
        if kind < 8:
            return self.b.get(self.choose.choice(self.variables))
        if kind < 9:
            value = self.choose.choice(INTERESTING)
            return value if self.choose.randrange(2) else (-value) & ((1 << 64) - 1)
        return self.choose.getrandbits(64)

    def value(self) -> Value:
        operand = self.operand()
        return operand if isinstance(operand, Value) else self.choose.choice(self.values)

    def statements(self, depth: int) -> None:
        for _ in range(self.choose.randrange(1, 8)):
            if self.left <= 0:
                return
            self.left -= 1
            kind = self.choose.randrange(12)
            if kind == 0 and depth < 3:
                self.branch(depth)
            elif kind == 1 and depth < 2 and self.loops < 2:
                self.loop(depth)
            else:
                self.simple()

    def branch(self, depth: int) -> None:
        b = self.b
        then, otherwise, after = b.label("then"), b.label("else"), b.label("after")
        op = self.choose.choice(list(CompareOp))
        if self.choose.randrange(2):
            b.branch(op, self.operand(), self.operand(), then, otherwise)
        else:
            b.branch(CompareOp.NE, b.compare(op, self.operand(), self.operand()), 0, then, otherwise)
        known = list(self.values)
        b.start(then)
        self.statements(depth + 1)
        if self.choose.randrange(6) == 0:
            b.ret(self.choose.randrange(100))
        else:
            b.jump(after)
        self.values = list(known)
        b.start(otherwise)
        if self.choose.randrange(2):
            self.statements(depth + 1)
        b.start(after)
        self.values = known

    def loop(self, depth: int) -> None:
        b = self.b
        self.loops += 1
        counter = b.variable("counter")
        b.set(counter, 0)
        head, body, after = b.label("head"), b.label("body"), b.label("done")
        b.start(head)
        b.branch(CompareOp.ULT, b.get(counter), self.choose.randrange(4), body, after)
        b.start(body)
        known = list(self.values)
        self.statements(depth + 1)
        b.set(counter, b.add(b.get(counter), 1))
        b.jump(head)
        b.start(after)
        self.values = known

    def simple(self) -> None:
        kind = self.choose.randrange(16)
        b, choose = self.b, self.choose
        if kind < 5:
            self.keep(b.binary(choose.choice(list(BinaryOp)), self.operand(), self.operand()))
        elif kind < 7:
            b.set(choose.choice(self.variables), self.operand())
        elif kind == 7:
            self.keep(b.compare(choose.choice(list(CompareOp)), self.operand(), self.operand()))
        elif kind == 8:
            self.keep(b.extend(self.operand(), choose.choice((8, 16, 32)), choose.random() < 0.5))
        elif kind == 9:
            self.keep(b.byte_swap(self.operand(), choose.choice((16, 32, 64))))
        elif kind == 10:
            size = choose.choice((1, 2, 4, 8))
            b.store(self.pointer(), size * choose.randrange(64 // size), size, self.operand())
        elif kind == 11:
            size = choose.choice((1, 2, 4, 8))
            self.keep(b.load(self.pointer(), size * choose.randrange(64 // size), size, choose.random() < 0.5))
        elif kind == 12:
            self.indexed()
        elif kind == 13:
            self.atomic()
        elif kind == 14:
            b.call_void(GET_SMP_PROCESSOR_ID)
        else:
            self.block()

    def pointer(self) -> Value:
        return self.stack if self.choose.randrange(2) else self.b.global_address("cells", 0)

    def indexed(self) -> None:
        b = self.b
        limit = self.choose.choice((1, 3, 7, 8, 5, 16))
        index = b.bounded(self.operand(), limit)
        at = b.offset(b.global_address("cells", 0), b.binary(BinaryOp.MUL, index, 8) if limit <= 8 else index)
        if self.choose.randrange(2):
            b.store(at, 0, 8 if limit <= 8 else 1, self.operand())
        else:
            self.keep(b.load(at, 0, 8 if limit <= 8 else 1))

    def atomic(self) -> None:
        b, choose = self.b, self.choose
        size = choose.choice((4, 8))
        offset = size * choose.randrange(64 // size)
        if choose.randrange(3) == 0:
            self.keep(b.compare_exchange(self.pointer(), offset & ~7, self.operand(), self.operand()))
        elif choose.randrange(2):
            self.keep(b.atomic_fetch(choose.choice(list(AtomicOp)), self.pointer(), offset, self.operand(), size))
        else:
            b.atomic(choose.choice(list(AtomicOp)), self.pointer(), offset, self.operand(), size)

    def block(self) -> None:
        size = self.choose.randrange(1, 33)
        align = self.choose.choice((1, 2, 4, 8))
        if self.choose.randrange(2):
            self.b.zero(self.pointer(), 8 * self.choose.randrange(4), size, align)
        else:
            self.b.copy(self.b.global_address("cells", 32), 0, self.stack, 32, size, align)

    def keep(self, operand: Operand) -> None:
        if isinstance(operand, Value):
            self.values.append(operand)


def random_program(seed: int, size: int) -> Program:
    return ProgramWriter(random.Random(seed), size).program()
