"""A reference interpreter of the typed tree: what a program should print, and what its maps should hold.

It reads `lang.check.Checked` and shares no code with lowering, the passes, code generation or the
runtime.  Where the language leaves the outcome open it raises `UnspecifiedError`.

The meaning it gives to programs, where the text alone does not say:

* Numbers have 64 bits; a value takes the width of its node's type, a variable's that of its
  declaration.  Division is towards zero and by zero gives 0 with a warning; a shift counts modulo 64.
* Operands are evaluated from left to right.  ``@m[k] = v`` evaluates the value before the key,
  ``@m[k] op= v`` the key, the old element, the value; each once.
* ``print(@m)``, ``clear``, ``zero`` and ``exit`` are requests: the session meets them in the program's
  order after all ``BEGIN`` probes have run, and again after all ``END`` probes.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import NamedTuple, TypeGuard

from invivo.ir import types as t
from invivo.ir.types import Int, Type
from invivo.lang import ast
from invivo.lang.check.model import Checked, Instance, MapInfo, Variable
from property.reference_calls import CALLS, VALUES, Surroundings
from property.reference_maps import AGGREGATIONS, Store
from property.reference_values import (
    UnspecifiedError,
    Value,
    arithmetic,
    compare,
    convert,
    equal,
    quotient,
    wrap,
    zero,
)

_COMPARISONS = frozenset(["==", "!=", "<", "<=", ">", ">="])
_MOST_TURNS = 1 << 17


class LeaveProbe(Exception):
    """``return`` and ``exit()``."""


class LeaveLoop(Exception):
    """``break``"""


class NextTurn(Exception):
    """``continue``"""


class Seen(NamedTuple):
    """Something that the session shows: ``what`` depends on ``kind``.

    ``group`` is not 0 for what a loop over a map shows: the order within a group is open.
    """

    kind: str
    what: tuple[object, ...]
    group: int = 0


class Request(NamedTuple):
    """Something that the session is to do when it gets there."""

    action: str  # "print", "clear", "zero", "exit"
    map: str = ""
    numbers: tuple[int, ...] = ()
    group: int = 0


class Outcome(NamedTuple):
    seen: list[Seen]
    maps: dict[str, list[tuple[object, object]]]
    status: int


def interpret(checked: Checked, surroundings: Surroundings) -> Outcome:
    """Run all ``BEGIN`` probes, then all ``END`` probes."""
    maps = {name: Store(info) for name, info in checked.maps.items() if info.value is not None}
    seen: list[Seen] = []
    status: int | None = None
    for provider in ("begin", "end"):
        requests: list[Seen | Request] = []
        for instance in checked.instances:
            if instance.plan.context.provider == provider:
                Interpreter(checked, instance, maps, surroundings, requests).run()
        code = _meet(requests, maps, seen)
        status = code if status is None else status
    return Outcome(seen, {name: store.shown() for name, store in maps.items()}, status or 0)


def _meet(requests: Iterable[Seen | Request], maps: dict[str, Store], seen: list[Seen]) -> int | None:
    """Do what was asked for; the code of the first ``exit``, after which nothing counts."""
    for request in requests:
        if isinstance(request, Seen):
            seen.append(request)
            continue
        match request.action:
            case "print":
                seen.append(Seen("map", (request.map, maps[request.map].shown(*request.numbers)), request.group))
            case "clear":
                maps[request.map].clear()
            case "zero":
                maps[request.map].zero()
            case _:
                return request.numbers[0]
    return None


class Interpreter:
    """Runs one probe."""

    def __init__(
        self,
        checked: Checked,
        instance: Instance,
        maps: dict[str, Store],
        surroundings: Surroundings,
        requests: list[Seen | Request],
    ) -> None:
        self.checked = checked
        self.instance = instance
        self.maps = maps
        self.surroundings = surroundings
        self.requests = requests
        self.variables: dict[Variable, Value] = {}
        self.group = 0
        self.groups = 0

    def run(self) -> None:
        probe = self.instance.probe
        try:
            if probe.predicate is None or self.truth(probe.predicate):
                self.block(probe.body)
        except LeaveProbe:
            pass

    # -- what the text determines --------------------------------------------------------------

    def constant(self, node: ast.Node) -> int | str | None:
        """The value of an expression of literals; None if it is computed when the program runs."""
        match node:
            case ast.Integer(_, value):
                return value
            case ast.Boolean(_, truth):
                return int(truth)
            case ast.StringLiteral(_, text):
                return text
            case ast.PositionalParameter(_, index):
                return self.parameter(index)
            case ast.ParameterCount():
                return len(self.checked.parameters)
            case ast.Comptime(_, operand):
                return self.constant(operand)
            case ast.Unary(_, op, operand):
                number = self.constant(operand)
                if not isinstance(number, int) or op not in "-!~":
                    return None
                result = {"-": -number, "!": int(not number), "~": ~number}[op]
                return result if -(1 << 63) <= result < 1 << 64 else None
            case ast.Binary(_, op, left, right):
                return _literal_binary(op, self.constant(left), self.constant(right))
            case ast.Ternary(_, condition, then, otherwise):
                decides = self.constant(condition)
                if decides is None:
                    return None
                chosen = self.constant((then or condition) if decides else otherwise)
                return wrap(chosen, 64, signed=True) if isinstance(chosen, int) else chosen
            case ast.Call(_, "str", _, (ast.PositionalParameter(_, index),)):
                parameters = self.checked.parameters
                return parameters[index - 1] if index <= len(parameters) else ""
            case ast.Call(_, "str", _, (ast.StringLiteral(_, text),)):
                return text
            case ast.Name() | ast.SizeOf() | ast.OffsetOf():
                return self.instance.constants.get(node)
            case _:
                return None

    def parameter(self, index: int) -> int | str:
        parameters = self.checked.parameters
        text = parameters[index - 1] if index <= len(parameters) else "0"
        return int(text) if text.removeprefix("-").isdigit() else text

    def natural(self, node: ast.Node) -> bool:
        """Whether an expression is a literal that takes the sign of what it meets."""
        value = self.constant(node)
        return isinstance(value, int) and value >= 0

    def signed(self, node: ast.Node) -> bool:
        type_ = self.type(node)
        return isinstance(type_, t.Int | t.Enumeration) and type_.signed

    # -- values --------------------------------------------------------------------------------

    def type(self, node: ast.Node) -> Type:
        return self.instance.types[node]

    def number(self, node: ast.Expr) -> int:
        value = self.value(node)
        assert isinstance(value, int), (value, node)
        return int(value)

    def truth(self, node: ast.Expr) -> bool:
        return self.number(node) != 0

    def value(self, node: ast.Expr) -> Value:
        constant = self.constant(node)
        if constant is not None:
            type_ = self.instance.types.get(node)  # literals that only the checker looked at have none
            if isinstance(constant, int) and isinstance(type_, t.String):
                return str(constant)
            return constant if type_ is None else convert(constant, type_)
        return convert(self.evaluate(node), self.type(node))

    def evaluate(self, node: ast.Expr) -> Value:
        match node:
            case ast.Name(_, name):
                return VALUES[name](self)
            case ast.Call(_, name) if name in VALUES and not node.arguments:
                return VALUES[name](self)
            case ast.ScratchVariable():
                return self.variables[self.instance.variables[node]]
            case ast.MapAccess(_, name, keys):
                return self.maps[name].read(self.key(name, keys))
            case ast.Unary(_, op, operand):
                return self.unary(op, operand)
            case ast.Increment():
                return self.increment(node)
            case ast.Binary():
                return self.binary(node)
            case ast.Ternary(_, condition, None, otherwise):
                value = self.value(condition)
                return value if value else self.value(otherwise)
            case ast.Ternary(_, condition, then, otherwise):
                assert then is not None
                return self.value(then if self.truth(condition) else otherwise)
            case ast.Member(_, object_, name):
                return self.member(node, object_, name)
            case ast.TupleIndex(_, object_, index):
                return self.element(self.value(object_), index)
            case ast.Index(_, object_, index_node):
                if isinstance(object_, ast.Cast):  # a value of its own; all else is read where it stands
                    made = self.value(object_)
                    return self.element(made, self.number(index_node))
                index = self.number(index_node)
                return self.element(self.value(object_), index)
            case ast.Cast(_, _, operand):
                return self.cast(self.value(operand), self.type(operand), self.type(node))
            case ast.TupleExpr(_, elements):
                return tuple(self.value(element) for element in elements)
            case ast.RecordExpr(_, names, elements):
                return {name: self.value(element) for name, element in zip(names, elements, strict=True)}
            case ast.Call(_, name):
                return CALLS[name](self, node)
            case ast.Comptime(_, operand):
                return self.value(operand)
            case ast.BlockExpr(_, block):
                return self.block_value(block)
            case ast.IfExpr():
                return self.chosen(node)
            case _:
                raise AssertionError(f"no meaning for {node}")

    def unary(self, op: str, operand: ast.Expr) -> Value:
        if op == "*":
            if isinstance(operand, ast.Unary) and operand.op == "&":
                return self.value(operand.operand)
            raise UnspecifiedError("memory of the kernel")
        number = self.number(operand)
        match op:
            case "-":
                return -number
            case "~":
                type_ = self.type(operand)
                narrow = isinstance(type_, Int) and not type_.signed
                return convert(~number, type_) if narrow else ~number
            case _:
                return number == 0

    def binary(self, node: ast.Binary) -> Value:
        op = node.op
        if op == "&&":
            return self.truth(node.left) and self.truth(node.right)
        if op == "||":
            return self.truth(node.left) or self.truth(node.right)
        left, right = self.value(node.left), self.value(node.right)
        if op in _COMPARISONS:
            if isinstance(left, int) and isinstance(right, int):
                return compare(op, left, right, signed=self.compares_signed(node))
            return equal(left, right) == (op == "==")
        assert isinstance(left, int) and isinstance(right, int)
        return self.computed(op, left, right, signed=self.signed(node))

    def compares_signed(self, node: ast.Binary) -> bool:
        """Signed if either side is; a literal that is not negative takes the other side's sign."""
        return any(self.signed(side) and not self.natural(side) for side in (node.left, node.right))

    def computed(self, op: str, left: int, right: int, *, signed: bool) -> int:
        if op in "/%" and right == 0:
            self.complain(
                "WARNING",
                "Divide or modulo by 0 detected. This can lead to unexpected results. 0 is being used as the result.",
            )
        return arithmetic(op, left, right, signed=signed)

    def increment(self, node: ast.Increment) -> Value:
        match node.operand:
            case ast.ScratchVariable() as target:
                variable = self.instance.variables[target]
                old = self.variables[variable]
                assert isinstance(old, int) and variable.type is not None
                new = convert(old + node.delta, variable.type)
                self.variables[variable] = new
            case ast.MapAccess(_, name, keys):
                store = self.maps[name]
                key = self.key(name, keys)
                old = store.read(key)
                assert isinstance(old, int)
                new = store.write(key, old + node.delta)
            case _:
                raise AssertionError("refused by the checker")
        return new if node.prefix else old

    def member(self, node: ast.Member, object_: ast.Expr, name: str) -> Value:
        if isinstance(self.type(object_), t.NamedTuple):
            value = self.value(object_)
            assert isinstance(value, dict)
            return value[name]
        return self.surroundings.member(node)

    def element(self, value: Value, index: int) -> Value:
        match value:
            case str():
                if not 0 <= index <= len(value):
                    raise UnspecifiedError("what is behind a string's end")
                return ord(value[index]) if index < len(value) else 0
            case tuple() | list():
                if not 0 <= index < len(value):
                    self.complain("WARNING", "Array access out of bounds. This can lead to unexpected results.")
                    return 0
                return value[index]
            case _:
                raise UnspecifiedError("memory of the kernel")

    def cast(self, value: Value, old: Type, new: Type) -> Value:
        match old, new:
            case t.Int(bits), t.Array(element, length):
                assert isinstance(value, int)
                size = bits // length
                whole = wrap(value, bits, signed=False)
                return [convert(whole >> size * number, element) for number in range(length)]
            case t.Array(element, length), t.Int(bits, signed):
                assert isinstance(value, list)
                size = 8 * t.size_bytes(element)
                parts = [wrap(part, size, signed=False) for part in value if isinstance(part, int)]
                return wrap(sum(part << size * number for number, part in enumerate(parts)), bits, signed=signed)
            case t.String(), t.Array(_, length):
                assert isinstance(value, str)
                if length > len(value) + 1:
                    raise UnspecifiedError("what is behind a string's end")
                return [ord(character) for character in (value + "\0")[:length]]
            case _:
                return value

    # -- maps ----------------------------------------------------------------------------------

    def key(self, name: str, parts: tuple[ast.Expr, ...]) -> tuple[Value, ...] | None:
        """The key that expressions name, in the map's own types; None for a scalar map."""
        info: MapInfo = self.maps[name].info
        if info.key is None or not parts:
            return None
        values = [self.value(part) for part in parts]
        if len(parts) == 1 and isinstance(values[0], tuple):
            values = list(values[0])
        return tuple(convert(value, type_) for value, type_ in zip(values, info.key, strict=True))

    # -- what is shown, and the ways out --------------------------------------------------------

    @property
    def provider(self) -> str:
        return self.instance.plan.context.provider

    def leave(self) -> None:
        raise LeaveProbe

    def show(self, kind: str, *what: object) -> None:
        self.requests.append(Seen(kind, what, self.group))

    def ask(self, action: str, map_: str = "", *numbers: int) -> None:
        self.requests.append(Request(action, map_, numbers, self.group))

    def complain(self, severity: str, message: str) -> None:
        self.show("complaint", severity, message)

    # -- blocks and statements -----------------------------------------------------------------

    def block(self, block: ast.Block) -> None:
        self.statements(block)
        if block.result is not None:
            self.discard(block.result)

    def block_value(self, block: ast.Block) -> Value:
        self.statements(block)
        return 0 if block.result is None else self.value(block.result)

    def statements(self, block: ast.Block) -> None:
        for statement in block.statements:
            self.statement(statement)

    def discard(self, node: ast.Expr) -> None:
        match node:
            case ast.IfExpr():
                self.branch(node, self.block)
            case ast.BlockExpr(_, block):
                self.block(block)
            case ast.Ternary(_, condition, then, otherwise):
                if self.truth(condition):
                    if then is not None:
                        self.discard(then)
                else:
                    self.discard(otherwise)
            case _:
                self.value(node)

    def chosen(self, node: ast.IfExpr) -> Value:
        result: Value = 0

        def take(block: ast.Block) -> None:
            nonlocal result
            result = self.block_value(block)

        self.branch(node, take)
        return result

    def branch(self, node: ast.IfExpr, run: Callable[[ast.Block], None]) -> None:
        if self.truth(node.condition):
            run(node.then)
        elif isinstance(node.otherwise, ast.IfExpr):
            self.branch(node.otherwise, run)
        elif node.otherwise is not None:
            run(node.otherwise)

    def statement(self, node: ast.Statement) -> None:
        match node:
            case ast.ExprStatement(_, expr) | ast.Discard(_, expr):
                self.discard(expr)
            case ast.Let(_, _, _, value):
                self.let(node, value)
            case ast.Assign():
                self.assign(node)
            case ast.While(_, condition, body):
                for turn in range(_MOST_TURNS + 1):
                    if turn == _MOST_TURNS:
                        raise UnspecifiedError("a loop that is cut")
                    if not self.truth(condition) or not self.turn(body):
                        break
            case ast.Unroll(_, count, body):
                for _ in range(self.number(count)):
                    if not self.turn(body):
                        break
            case ast.ForRange():
                self.for_range(node)
            case ast.ForMap():
                self.for_map(node)
            case ast.Break():
                raise LeaveLoop
            case ast.Continue():
                raise NextTurn
            case ast.Return(_, value):
                if value is not None:
                    self.value(value)
                raise LeaveProbe
            case ast.ImportStatement():
                raise AssertionError("refused by the checker")

    def turn(self, body: ast.Block) -> bool:
        """Run a loop's body once; False after ``break``."""
        try:
            self.block(body)
        except LeaveLoop:
            return False
        except NextTurn:
            pass
        return True

    def for_range(self, node: ast.ForRange) -> None:
        variable = self.instance.variables[node]
        assert isinstance(variable.type, t.Int)
        start, stop = (convert(self.number(end), variable.type) for end in (node.start, node.stop))
        assert isinstance(start, int) and isinstance(stop, int)
        if stop - start > _MOST_TURNS:
            raise UnspecifiedError("a loop that takes too long")
        for number in range(start, stop):
            self.variables[variable] = number
            if not self.turn(node.body):
                break

    def for_map(self, node: ast.ForMap) -> None:
        variable = self.instance.variables[node]
        assert isinstance(variable.type, t.Tuple)
        store = self.maps[node.map.name]
        outer = self.group
        if not outer:
            self.groups += 1
            self.group = self.groups
        try:
            for key in store.all_keys():
                part: Value = key[0] if len(key) == 1 else key
                self.variables[variable] = convert((part, store.read(key)), variable.type)
                if not self.turn(node.body):
                    break
        finally:
            self.group = outer

    def let(self, node: ast.Let, value: ast.Expr | None) -> None:
        variable = self.instance.variables[node]
        if variable.type is None:
            return
        self.variables[variable] = zero(variable.type) if value is None else convert(self.value(value), variable.type)

    def find(self, node: ast.Call) -> Value:
        for argument in node.arguments:
            if isinstance(argument, ast.ScratchVariable) and argument in self.instance.declared:
                variable = self.instance.variables[argument]
                assert variable.type is not None
                self.variables[variable] = zero(variable.type)
        return self.value(self.instance.expansions[node])

    def assign(self, node: ast.Assign) -> None:
        match node.target:
            case ast.ScratchVariable() as target:
                variable = self.instance.variables[target]
                assert variable.type is not None
                new = self.combined(node, self.variables[variable]) if node.op else self.value(node.value)
                self.variables[variable] = convert(new, variable.type)
            case ast.MapAccess(_, name, keys) as place:
                store = self.maps[name]
                call = node.value
                if isinstance(call, ast.Call) and call.name in AGGREGATIONS:
                    arguments = [self.value(argument) for argument in call.arguments[:1] if _is_expr(argument)]
                    store.aggregate(self.key(name, keys), arguments, self.argument_signed(call))
                elif node.op:
                    key = self.key(name, keys)
                    old = convert(store.read(key), self.type(place))
                    store.write(key, self.combined(node, old))
                else:
                    value = self.value(call)
                    store.write(self.key(name, keys), value)
            case _:
                raise AssertionError("refused by the checker")

    def argument_signed(self, call: ast.Call) -> bool:
        return bool(call.arguments) and self.signed(call.arguments[0])

    def combined(self, node: ast.Assign, old: Value) -> Value:
        new = self.number(node.value)
        assert isinstance(old, int)
        signed = self.signed(node.target)
        if node.op != ">>":
            signed = signed or (self.signed(node.value) and not self.natural(node.value))
        return self.computed(node.op, old, new, signed=signed)


def _is_expr(node: ast.Expr | ast.TypeExpr) -> TypeGuard[ast.Expr]:
    return not isinstance(node, ast.NamedType | ast.PointerType | ast.ArrayType | ast.TypeOf)


def _literal_binary(op: str, left: int | str | None, right: int | str | None) -> int | None:
    if isinstance(left, str) and isinstance(right, str) and op in ("==", "!="):
        return int((left == right) == (op == "=="))
    if not isinstance(left, int) or not isinstance(right, int):
        return None
    if op in ("&&", "||"):
        return int(bool(left and right) if op == "&&" else bool(left or right))
    if op in _COMPARISONS:
        order = {"==": left == right, "!=": left != right, "<": left < right, "<=": left <= right, ">": left > right}
        return int(order.get(op, left >= right))
    if (op in "/%" and right == 0) or (op in ("<<", ">>") and not 0 <= right < 64):
        return None
    exact: dict[str, Callable[[int, int], int]] = {
        "+": lambda a, b: a + b,
        "-": lambda a, b: a - b,
        "*": lambda a, b: a * b,
        "/": quotient,
        "%": lambda a, b: a - b * quotient(a, b),
        "&": lambda a, b: a & b,
        "|": lambda a, b: a | b,
        "^": lambda a, b: a ^ b,
        "<<": lambda a, b: a << b,
        ">>": lambda a, b: a >> b,
    }
    result = exact[op](left, right)
    return result if -(1 << 63) <= result < 1 << 64 else None
