"""IR as text and back: ``format_program`` and ``parse_program`` are each other's inverse.

    map counts hash key 4 value 8 entries 1024 flags 0

    entry main(%0:ctx) {
      var $0 "i"
    start:
      %1 = load8 %0+16
      set $0, %1
      if ult %1, 10 then small else big @12-20
      ...
    }
    program main order 0

``@12-20`` at a line's end is the place in the source.  Constants are signed decimals.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Final

from invivo.diagnostics import SourceFile, Span
from invivo.ir import ops
from invivo.ir.layout import Layout, MapSpec, MapType
from invivo.ir.ops import Block, Function, FunctionKind, Kind, Op, Operand, Terminator, Value, Variable
from invivo.ir.program import Entry, Program
from invivo.target import Plan


def format_program(program: Program, helpers: Mapping[int, str] | None = None, *, spans: bool = False) -> str:
    """Print maps, functions and entries (not plans and layout). ``helpers`` names helper numbers."""
    parts = [format_map(spec) for spec in program.maps]
    if parts:
        parts.append("")
    for function in program.functions:
        parts.append(format_function(function, helpers, spans=spans))
    parts += [f"program {entry.function} order {entry.order}" for entry in program.entries]
    return "\n".join(parts) + "\n"


def format_map(spec: MapSpec) -> str:
    line = (
        f"map {spec.name} {spec.type.name.lower()} key {spec.key_size} value {spec.value_size}"
        f" entries {spec.max_entries} flags {spec.flags}"
    )
    if spec.frozen:
        line += " frozen"
    if spec.initial:
        line += f" initial {spec.initial.hex()}"
    return line


def format_function(function: Function, helpers: Mapping[int, str] | None = None, *, spans: bool = False) -> str:
    """Print one function; the text ends with a line break."""
    parameters = ", ".join(_define(p) for p in function.parameters)
    lines = [f"{function.kind.value} {function.name}({parameters}) {{"]
    lines += [f"  {line}" for line in _variables(function)]
    for block in function.blocks:
        lines.append(f"{block.label}:")
        for op in block.ops:
            lines.append(f"  {format_op(op, helpers)}{_place(op) if spans else ''}")
        lines.append(f"  {_format_end(block.end)}{_place(block.end) if spans else ''}")
    lines.append("}")
    return "\n".join(lines) + "\n"


def _variables(function: Function) -> list[str]:
    lines: dict[int, str] = {}
    for block in function.blocks:
        for op in block.ops:
            if isinstance(op, ops.GetVariable | ops.SetVariable):
                variable = op.variable
                name = variable.name.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")
                lines.setdefault(variable.id, f'var ${variable.id}{_kind(variable)} "{name}"')
    return list(lines.values())


def _kind(value: Value | Variable) -> str:
    return "" if value.kind is Kind.WORD else f":{value.kind.value}"


def _define(value: Value) -> str:
    return f"%{value.id}{_kind(value)}"


def _use(operand: Operand) -> str:
    if isinstance(operand, Value):
        return f"%{operand.id}"
    operand &= (1 << 64) - 1
    return str(operand - (1 << 64) if operand >> 63 else operand)


def _at(pointer: Value, offset: int) -> str:
    return f"%{pointer.id}{offset:+d}"


def _place(op: Op | Terminator) -> str:
    span: Span | None = getattr(op, "span", None)
    return f" @{span.start}-{span.end}" if span is not None else ""


def format_op(op: Op, helpers: Mapping[int, str] | None = None) -> str:
    """Print one operation."""
    body = _format_body(op, helpers or {})
    if isinstance(op, ops.Store | ops.Copy | ops.Zero | ops.SetVariable) or op.result is None:
        return body
    return f"{_define(op.result)} = {body}"


def _format_body(op: Op, helpers: Mapping[int, str]) -> str:
    match op:
        case ops.Binary(_, kind, left, right):
            return f"{kind.value} {_use(left)}, {_use(right)}"
        case ops.Compare(_, comparison, left, right):
            return f"cmp {comparison.value} {_use(left)}, {_use(right)}"
        case ops.Extend(_, value, bits, signed):
            return f"{'sext' if signed else 'zext'}{bits} {_use(value)}"
        case ops.ByteSwap(_, value, bits):
            return f"bswap{bits} {_use(value)}"
        case ops.Offset(_, pointer, amount):
            return f"offset {_use(pointer)}, {_use(amount)}"
        case ops.BoundedIndex(_, value, limit):
            return f"bounded {_use(value)}, {limit}"
        case ops.Load(_, pointer, offset, size, signed):
            return f"load{size}{'s' if signed else ''} {_at(pointer, offset)}"
        case ops.Store(pointer, offset, size, value):
            return f"store{size} {_at(pointer, offset)}, {_use(value)}"
        case ops.Atomic(_, atomic, pointer, offset, size, value):
            return f"atomic_{atomic.value}{size} {_at(pointer, offset)}, {_use(value)}"
        case ops.CompareExchange(_, pointer, offset, expected, new):
            return f"cmpxchg {_at(pointer, offset)}, {_use(expected)}, {_use(new)}"
        case ops.StackSlot(_, size):
            return f"slot {size}"
        case ops.Copy(target, to, source, start, size, align):
            return f"copy {_at(target, to)}, {_at(source, start)}, {size}, align {align}"
        case ops.Zero(target, offset, size, align):
            return f"zero {_at(target, offset)}, {size}, align {align}"
        case ops.Call(_, helper, arguments):
            return f"call {helpers.get(helper, helper)}({', '.join(map(_use, arguments))})"
        case ops.CallFunction(_, name, arguments):
            return f"run {name}({', '.join(map(_use, arguments))})"
        case ops.CallKernel(_, type_id, arguments):
            return f"kernel {type_id}({', '.join(map(_use, arguments))})"
        case ops.MapAddress(_, name):
            return f"map {name}"
        case ops.GlobalAddress(_, name, offset):
            return f"global {name}{offset:+d}"
        case ops.KernelVariable(_, type_id):
            return f"kernel_variable {type_id}"
        case ops.FunctionAddress(_, name):
            return f"function {name}"
        case ops.GetVariable(_, variable):
            return f"get ${variable.id}"
        case ops.SetVariable(variable, value):
            return f"set ${variable.id}, {_use(value)}"


def _format_end(end: Terminator) -> str:
    match end:
        case ops.Jump(target):
            return f"jump {target}"
        case ops.Branch(op, left, right, then, otherwise):
            return f"if {op.value} {_use(left)}, {_use(right)} then {then} else {otherwise}"
        case ops.Return(value):
            return f"return {_use(value)}"


class TextError(ValueError):
    """A text is not IR; the message has the line's number and its text."""


_MAP = re.compile(r"map (\S+) (\w+) key (\d+) value (\d+) entries (\d+) flags (\d+)( frozen)?(?: initial ([0-9a-f]*))?")
_HEAD = re.compile(r"(entry|loop|each|local) ([^\s(]+)\((.*)\) \{")
_PROGRAM = re.compile(r"program (\S+) order (-?\d+)")
_VARIABLE = re.compile(r'var \$(\d+)(?::(\S+))? "(.*)"')
_LABEL = re.compile(r"([^\s:%$]+):")
_SPAN = re.compile(r" @(\d+)-(\d+)$")
_RESULT = re.compile(r"%(\d+)(?::(\S+))? = (.*)")
_PLACE = re.compile(r"%(\d+)([+-]\d+)")
_CALL = re.compile(r"(call|run|kernel) ([^\s(]+)\((.*)\)")
_SIZED = re.compile(r"(zext|sext|bswap|load|store|atomic_[a-z]+?)(\d+)(s?)")
_BRANCH = re.compile(r"if (\w+) (.+), (.+) then (\S+) else (\S+)")
_BINARY: Final = {op.value: op for op in ops.BinaryOp}
_ATOMIC: Final = {f"atomic_{op.value}": op for op in ops.AtomicOp}


def parse_program(
    text: str,
    plan: Plan,
    layout: Layout,
    helpers: Mapping[str, int] | None = None,
    source: SourceFile | None = None,
) -> Program:
    """Parse a program. ``plan`` becomes every entry's. Raises `TextError`."""
    maps: list[MapSpec] = []
    functions: list[Function] = []
    entries: list[Entry] = []
    lines = _Lines(text)
    while (line := lines.next()) is not None:
        if match := _MAP.fullmatch(line):
            name, kind, *numbers = match.groups()[:6]
            key, value, count, flags = map(int, numbers)
            initial = bytes.fromhex(match[8] or "")
            maps.append(MapSpec(name, MapType[kind.upper()], key, value, count, flags, initial, bool(match[7])))
        elif match := _PROGRAM.fullmatch(line):
            entries.append(Entry(match[1], plan, int(match[2])))
        else:
            functions.append(_FunctionText(lines, helpers or {}, source).parse(line))
    return Program(tuple(functions), tuple(entries), tuple(maps), layout)


def parse_function(text: str, helpers: Mapping[str, int] | None = None, source: SourceFile | None = None) -> Function:
    """Parse one function. Raises `TextError`."""
    lines = _Lines(text)
    return _FunctionText(lines, helpers or {}, source).parse(lines.next() or "")


class _Lines:
    """A cursor over the lines that are neither empty nor comments (``#``)."""

    def __init__(self, text: str) -> None:
        self.lines = text.splitlines()
        self.number = 0

    def next(self) -> str | None:
        while self.number < len(self.lines):
            line = self.lines[self.number].strip()
            self.number += 1
            if line and not line.startswith("#"):
                return line
        return None

    def error(self, what: str) -> TextError:
        text = self.lines[self.number - 1].strip() if self.lines else ""
        return TextError(f"line {self.number}: {what}: {text!r}")


class _FunctionText:
    """Reads one function; values and variables are made at their first mention."""

    def __init__(self, lines: _Lines, helpers: Mapping[str, int], source: SourceFile | None) -> None:
        self.lines = lines
        self.helpers = helpers
        self.source = source
        self.values: dict[int, Value] = {}
        self.variables: dict[int, Variable] = {}

    def parse(self, head: str) -> Function:
        match = _HEAD.fullmatch(head)
        if match is None:
            raise self.lines.error("expected a function")
        parameters = tuple(self.define(*self.split_value(p)) for p in match[3].split(", ") if p)
        blocks: list[Block] = []
        label = ""
        body: list[Op] = []
        while (line := self.lines.next()) != "}":
            if line is None:
                raise self.lines.error("the function does not end")
            if found := _VARIABLE.fullmatch(line):
                self.declare(int(found[1]), found[2], found[3])
            elif found := _LABEL.fullmatch(line):
                label = found[1]
            else:
                item = self.statement(line)
                if isinstance(item, ops.Jump | ops.Branch | ops.Return):
                    blocks.append(Block(label, tuple(body), item))
                    body = []
                else:
                    body.append(item)
        if body or not blocks:
            raise self.lines.error("the last block has no terminator")
        return Function(match[2], FunctionKind(match[1]), parameters, tuple(blocks))

    def split_value(self, text: str) -> tuple[int, str | None]:
        number, _, kind = text.removeprefix("%").partition(":")
        return int(number), kind or None

    def define(self, number: int, kind: str | None) -> Value:
        if number in self.values:
            raise self.lines.error(f"%{number} is defined twice, or used before")
        value = self.values[number] = Value(number, self.kind(kind))
        return value

    def kind(self, text: str | None) -> Kind:
        try:
            return Kind(text) if text else Kind.WORD
        except ValueError:
            raise self.lines.error(f"unknown kind {text}") from None

    def declare(self, number: int, kind: str | None, name: str) -> None:
        plain = re.sub(r"\\(.)", lambda m: "\n" if m[1] == "n" else m[1], name)
        self.variables[number] = Variable(number, self.kind(kind), plain)

    def variable(self, text: str) -> Variable:
        number = int(text.removeprefix("$"))
        return self.variables.setdefault(number, Variable(number))

    def operand(self, text: str) -> Operand:
        return self.value(text) if text.startswith("%") else int(text, 0)

    def value(self, text: str) -> Value:
        try:
            return self.values[int(text.removeprefix("%"))]
        except (KeyError, ValueError):
            raise self.lines.error(f"{text} is not defined before") from None

    def place(self, text: str) -> tuple[Value, int]:
        match = _PLACE.fullmatch(text)
        if match is None:
            raise self.lines.error(f"expected %value+offset, found {text}")
        return self.value(match[1]), int(match[2])

    def statement(self, line: str) -> Op | Terminator:
        span: Span | None = None
        if match := _SPAN.search(line):
            line = line[: match.start()]
            if self.source is not None:
                span = Span(self.source, int(match[1]), int(match[2]))
        try:
            return self.end(line, span) or self.op(line, span)
        except TextError:
            raise
        except (ValueError, KeyError, IndexError) as error:
            raise self.lines.error(f"not an operation ({error})") from None

    def end(self, line: str, span: Span | None) -> Terminator | None:
        word, _, rest = line.partition(" ")
        if word == "jump":
            return ops.Jump(rest)
        if word == "return":
            return ops.Return(self.operand(rest))
        if match := _BRANCH.fullmatch(line):
            op, left, right, then, otherwise = match.groups()
            return ops.Branch(ops.CompareOp(op), self.operand(left), self.operand(right), then, otherwise, span)
        return None

    def op(self, line: str, span: Span | None) -> Op:
        if match := _RESULT.fullmatch(line):
            body = self.body(match[3], span, int(match[1]), match[2])
        else:
            body = self.body(line, span, None, None)
        return body

    def body(self, line: str, span: Span | None, number: int | None, kind: str | None) -> Op:
        """Parse an operation. Operands are read first: a result is not defined in its own operation."""
        if match := _CALL.fullmatch(line):
            return self.call(match, span, number, kind)
        word, _, rest = line.partition(" ")
        parts = rest.split(", ")
        if number is None:
            return self.effect(word, parts, span)
        maker = self.with_result(word, parts, span)
        return maker(self.define(number, kind))

    def call(self, match: re.Match[str], span: Span | None, number: int | None, kind: str | None) -> Op:
        arguments = tuple(self.operand(a) for a in match[3].split(", ") if a)
        result = None if number is None else self.define(number, kind)
        if match[1] == "run":
            return ops.CallFunction(result, match[2], arguments, span)
        name = match[2]
        if match[1] == "kernel":
            return ops.CallKernel(result, int(name), arguments, span)
        return ops.Call(result, int(name) if name.isdigit() else self.helpers[name], arguments, span)

    def effect(self, word: str, parts: list[str], span: Span | None) -> Op:
        match word:
            case "set":
                return ops.SetVariable(self.variable(parts[0]), self.operand(parts[1]))
            case "copy":
                target, to = self.place(parts[0])
                source, start = self.place(parts[1])
                align = int(parts[3].removeprefix("align "))
                return ops.Copy(target, to, source, start, int(parts[2]), align, span)
            case "zero":
                target, to = self.place(parts[0])
                return ops.Zero(target, to, int(parts[1]), int(parts[2].removeprefix("align ")), span)
            case _:
                pass
        sized = _SIZED.fullmatch(word)
        pointer, offset = self.place(parts[0])
        if sized is not None and sized[1] == "store":
            return ops.Store(pointer, offset, int(sized[2]), self.operand(parts[1]), span)
        if sized is not None and sized[1] in _ATOMIC:
            kind = _ATOMIC[sized[1]]
            return ops.Atomic(None, kind, pointer, offset, int(sized[2]), self.operand(parts[1]), span)
        raise self.lines.error(f"unknown operation {word}")

    def with_result(self, word: str, parts: list[str], span: Span | None) -> Callable[[Value], Op]:
        first = parts[0]
        if word in _BINARY:
            left, right = self.operand(first), self.operand(parts[1])
            return lambda r: ops.Binary(r, _BINARY[word], left, right, span)
        match word:
            case "cmp":
                kind, _, text = first.partition(" ")
                left, right = self.operand(text), self.operand(parts[1])
                return lambda r: ops.Compare(r, ops.CompareOp(kind), left, right, span)
            case "offset":
                pointer, amount = self.value(first), self.operand(parts[1])
                return lambda r: ops.Offset(r, pointer, amount, span)
            case "bounded":
                index = self.operand(first)
                return lambda r: ops.BoundedIndex(r, index, int(parts[1]), span)
            case "cmpxchg":
                pointer, offset = self.place(first)
                expected, new = self.operand(parts[1]), self.operand(parts[2])
                return lambda r: ops.CompareExchange(r, pointer, offset, expected, new, span)
            case "slot":
                return lambda r: ops.StackSlot(r, int(first), span)
            case "map":
                return lambda r: ops.MapAddress(r, first)
            case "global":
                name, sign, offset_text = re.split(r"([+-])(?=\d+$)", first)
                return lambda r: ops.GlobalAddress(r, name, int(sign + offset_text))
            case "kernel_variable":
                return lambda r: ops.KernelVariable(r, int(first))
            case "function":
                return lambda r: ops.FunctionAddress(r, first)
            case "get":
                variable = self.variable(first)
                return lambda r: ops.GetVariable(r, variable)
            case _:
                return self.sized(word, parts, span)

    def sized(self, word: str, parts: list[str], span: Span | None) -> Callable[[Value], Op]:
        match = _SIZED.fullmatch(word)
        if match is None:
            raise self.lines.error(f"unknown operation {word}")
        name, size = match[1], int(match[2])
        if name in ("zext", "sext"):
            value = self.operand(parts[0])
            return lambda r: ops.Extend(r, value, size, name == "sext", span)
        if name == "bswap":
            value = self.operand(parts[0])
            return lambda r: ops.ByteSwap(r, value, size, span)
        pointer, offset = self.place(parts[0])
        if name == "load":
            return lambda r: ops.Load(r, pointer, offset, size, bool(match[3]), span)
        kind = _ATOMIC[name]
        operand = self.operand(parts[1])
        return lambda r: ops.Atomic(r, kind, pointer, offset, size, operand, span)
