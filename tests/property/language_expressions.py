"""Random well-typed expressions as text: numbers, truth values, strings, tuples, records, arrays."""

from __future__ import annotations

import random
import re
from typing import NamedTuple

WIDTHS = (8, 16, 32, 64)
INTEGER_TYPES = tuple(f"{sign}int{bits}" for sign in ("", "u") for bits in WIDTHS)
EDGES = sorted({edge + delta for bits in WIDTHS for edge in (1 << bits - 1, 1 << bits) for delta in (-1, 0, 1)})
ARITHMETIC = ("+", "-", "*", "/", "%", "&", "|", "^", "<<", ">>")
COMPARISONS = ("==", "!=", "<", "<=", ">", ">=")
WORDS = (
    "",
    "a",
    "b",
    "ab",
    "abc",
    "abcd",
    "hello",
    "hello world",
    "x y",
    "tab\\there",
    'q\\"q',
    "\\x41\\102",
    "é",
    "日本",
    "0123456789",
    "a rather long text, longer than what fits on the stack",
    "%d",
    "back\\\\slash",
    "\\x01\\xff",
    "word",
)
DECLARATIONS = (
    "enum colour { RED, GREEN = 5, BLUE = -3 };\n"
    "struct inner { char a; short b; };\n"
    "struct point { char tag; int x; long y; struct inner in; short list[3]; };\n"
    "#define LIMIT 12\n"
)
ENUMERATORS = ("RED", "GREEN", "BLUE")


class Number(NamedTuple):
    """``declared``: the integer type it was declared with, "" if it grows as needed."""

    declared: str = ""


class Truth(NamedTuple):
    what: str = "truth"


class Text(NamedTuple):
    what: str = "text"


class Bytes(NamedTuple):
    what: str = "bytes"


class Tuple(NamedTuple):
    elements: tuple[Shape, ...]


class Named(NamedTuple):
    names: tuple[str, ...]
    elements: tuple[Shape, ...]


class Array(NamedTuple):
    element: str
    length: int


Shape = Number | Truth | Text | Bytes | Tuple | Named | Array


class Variable(NamedTuple):
    name: str
    shape: Shape
    writable: bool = True


class Map(NamedTuple):
    """``aggregation`` is "" for a map of values; ``keys`` is () for a scalar map."""

    name: str
    shape: Shape
    keys: tuple[Shape, ...]
    aggregation: str = ""


_ALWAYS = (
    *("(cpu < ncpus)", "(rand & 0)", "(jiffies > 0)", "(nsecs > 0)", "(nsecs(monotonic) != 0)", "(elapsed < 1h)"),
    *(
        "(cgroup > 0)",
        "(numaid < 64)",
        "(curtask != 0)",
        "(container_of(curtask, typeof(struct task_struct), comm) != 0)",
        '(kaddr("_text") != 0)',
        "has_cpid",
        "traced",
    ),
)
READABLE = ("count", "sum", "avg", "min", "max")


_CONSTANT_FORMS = re.compile(
    r'"(?:\\.|[^"\\])*"|(?:sizeof|offsetof)\([^()]*(?:\([^()]*\))?\)|\$[123#]|comptime|0x[0-9A-Fa-f]+|LIMIT'
)
_LETTERS = re.compile(r"[A-Za-z_$@]*[A-Za-z$@]")


def is_literal(text: str) -> bool:
    """Whether an expression may be known to the compiler: whether it has no name in it."""
    names = _LETTERS.findall(_CONSTANT_FORMS.sub("", text))
    return all(name in ("e", "us", "s", "ull", "true", "false", "str", *ENUMERATORS) for name in names)


def enclosed(text: str) -> str:
    """An expression as an operand. A name stays as it is: in parentheses it could be a cast."""
    return text if text.isalnum() else f"({text})"


class Expressions:
    """Writes expressions from the choices of a random source and from what is visible.

    ``quiet`` is above 0 where an expression may have no effects; ``only`` names the variables that
    it may read, None: all (in a loop over a map the order is open).
    """

    def __init__(self, choose: random.Random, *, declarations: bool) -> None:
        self.choose = choose
        self.declarations = declarations
        self.scopes: list[list[Variable]] = [[]]
        self.maps: list[Map] = []
        self.quiet = 0
        self.nesting = 0  # of keys within keys
        self.only: Variable | None = None
        self.names = 0

    def chance(self, percent: int) -> bool:
        return self.choose.randrange(100) < percent

    def name(self, prefix: str) -> str:
        self.names += 1
        return f"{prefix}{self.names}"

    # -- what is visible -----------------------------------------------------------------------

    def variables(self, kind: type[Shape], *, writable: bool = False) -> list[Variable]:
        if self.only is not None:
            return []
        return [
            variable
            for scope in self.scopes
            for variable in scope
            if isinstance(variable.shape, kind) and (variable.writable or not writable)
        ]

    def of_shape(self, shape: Shape) -> str | None:
        """A variable or a map's element that has exactly a shape."""
        if self.only is not None:
            return None
        places: list[Variable | Map] = [v for scope in self.scopes for v in scope if v.shape == shape]
        if self.nesting < 2:
            places += [m for m in self.maps if m.shape == shape and not m.aggregation]
        if not places:
            return None
        place = self.choose.choice(places)
        return self.access(place) if isinstance(place, Map) else f"${place.name}"

    def access(self, map_: Map) -> str:
        if not map_.keys:
            return map_.name
        self.nesting += 1
        keys = ", ".join(self.small(shape) for shape in map_.keys)
        self.nesting -= 1
        return f"{map_.name}[{keys}]"

    def small(self, shape: Shape) -> str:
        """A value of few different ones, so that keys meet again."""
        if isinstance(shape, Number) and (self.nesting > 1 or self.chance(70)):
            return self.choose.choice(("0", "1", "2", "3", "-1", "(uint8)1", "(int64)2", "(uint64)3"))
        if isinstance(shape, Text) and (self.nesting > 1 or self.chance(70)):
            there = self.variables(Text)
            if there and self.chance(40):
                return f"${self.choose.choice(there).name}"
            return self.choose.choice(('""', '"a"', '"ab"', '"abc"'))
        return self.expression(shape, 1)

    # -- any shape -----------------------------------------------------------------------------

    def expression(self, shape: Shape, depth: int) -> str:
        match shape:
            case Number():
                return self.number(depth)
            case Truth():
                return self.truth(depth)
            case Text():
                return self.text(depth)
            case Bytes():
                return self.buffer(depth)
            case _:
                return self.compound(shape, depth)

    def compound(self, shape: Tuple | Named | Array, depth: int) -> str:
        """A value in memory: written out, or one that is there."""
        if self.chance(40) and (there := self.of_shape(shape)) is not None:
            return there
        if depth > 0 and self.chance(15):
            return f"({self.truth(depth - 1)} ? {self.compound(shape, depth - 1)} : {self.compound(shape, depth - 1)})"
        match shape:
            case Tuple(elements):
                parts = [self.expression(element, depth - 1) for element in elements]
                return f"({', '.join(parts)}{',' if len(parts) == 1 else ''})"
            case Named(names, elements):
                pairs = list(zip(names, elements, strict=True))
                if self.chance(30):  # the order is that of the first record that a variable or map gets
                    self.choose.shuffle(pairs)
                return f"({', '.join(f'{name} = {self.expression(element, depth - 1)}' for name, element in pairs)})"
            case Array(element, length):
                bits = int(element.lstrip("uint")) * length
                written = f"{element}[{length}]" if self.chance(80) else f"{element}[]"
                return f"({written})(uint{bits})({self.number(depth - 1)} + 0)"

    def part(self, kind: type[Shape]) -> str | None:
        """An element of a tuple or a record that is there."""
        places = [(f"${v.name}", v.shape) for v in self.variables(Tuple) + self.variables(Named)]
        if self.only is not None:
            places = [(f"${self.only.name}", self.only.shape)]
        found = []
        while places:
            text, shape = places.pop()
            match shape:
                case Tuple(elements):
                    places += [(f"{text}.{index}", element) for index, element in enumerate(elements)]
                case Named(names, elements):
                    places += [(f"{text}.{name}", element) for name, element in zip(names, elements, strict=True)]
                case _:
                    if isinstance(shape, kind):
                        found.append(text)
        return self.choose.choice(found) if found else None

    def block(self, shape: Shape, depth: int) -> str:
        """A block or an ``if`` as a value."""
        if self.chance(50):
            then, otherwise = self.expression(shape, depth - 1), self.expression(shape, depth - 1)
            nested = f"if ({self.truth(0)}) {{ {self.expression(shape, 0)} }} else " if self.chance(20) else ""
            return f"(if ({self.truth(depth - 1)}) {{ {then} }} else {nested}{{ {otherwise} }})"
        name = self.name("t")
        inner = self.expression(shape, depth - 1)
        self.scopes.append([Variable(name, shape if not isinstance(shape, Number) else Number(), False)])
        value = self.expression(shape, depth - 1)
        self.scopes.pop()
        return f"({{ ${name} = {inner}; {value} }})"

    # -- numbers -------------------------------------------------------------------------------

    def literal(self) -> str:
        kind = self.choose.randrange(10)
        if kind < 5:
            return str(self.choose.randrange(10))
        if kind < 8:
            value = self.choose.choice(EDGES) & ((1 << 64) - 1)
            return hex(value) if self.chance(40) else str(value)
        if kind < 9:
            return f"-{self.choose.choice(EDGES) & ((1 << 63) - 1)}"
        return self.choose.choice(("1_000", "1e3", "017", "5us", "0xFF", "3ull", "2s"))

    def opaque(self) -> str:
        """A number that only the reader knows: the passes can not compute with it."""
        value = self.choose.choice(EDGES) & ((1 << 64) - 1)
        return f"({value} {self.choose.choice('+-^|')} (cpu > ncpus))"

    def number(self, depth: int) -> str:
        if depth <= 0:
            return self.number_leaf()
        kind = self.choose.randrange(20)
        if kind < 3:
            return self.number_leaf()
        if kind < 10:
            return self.arithmetic(depth)
        if kind < 13:
            return f"({self.choose.choice(INTEGER_TYPES)}){self.operand(depth)}"
        if kind == 13:
            operand = self.operand(depth)
            # The negative of a literal may not fit in 64 bits, which the compiler refuses.
            return f"{self.choose.choice('~' if is_literal(operand) else '-~')}{operand}"
        if kind == 14:
            middle = f"? {self.number(depth - 1)} :" if self.chance(75) else "?:"
            condition = self.truth(depth - 1) if self.chance(50) else self.number(depth - 1)
            return f"({condition} {middle} {self.number(depth - 1)})"
        if kind == 15:
            return f"({self.choose.choice(INTEGER_TYPES)}){self.truth(depth - 1)}"
        if kind == 16 and not self.quiet:
            return self.effect()
        if kind == 17:
            return self.block(Number(), depth)
        return self.number_call(depth)

    def operand(self, depth: int) -> str:
        return enclosed(self.number(depth - 1))

    def sides(self, depth: int) -> tuple[str, str]:
        """Two operands: half of them of a type that is chosen from all."""
        return self.side(depth), self.side(depth)

    def side(self, depth: int) -> str:
        if self.chance(40):
            return self.number(depth - 1)
        if self.chance(20):
            return self.truth(depth - 1)
        return f"({self.choose.choice(INTEGER_TYPES)}){enclosed(self.number_leaf())}"

    def arithmetic(self, depth: int) -> str:
        op = self.choose.choice(ARITHMETIC)
        left, right = self.sides(depth)
        if is_literal(right) and (op in ("/", "%", "<<", ">>") or is_literal(left)):
            # The checker refuses what literals alone show to be wrong.
            right = str(self.choose.randrange(1, 64))
            if is_literal(left) and op in ("*", "<<", "+", "-"):
                left = f"({self.choose.choice(INTEGER_TYPES)}){enclosed(left)}"
        elif op in ("<<", ">>") and not is_literal(left) and self.chance(10):
            right = self.truth(0)
        elif op in ("<<", ">>") and ("?" in right or self.chance(70)):
            right = f"({self.choose.choice(INTEGER_TYPES)})({enclosed(right)} & 63)"
        if op in ("/", "%", "<<", ">>"):
            return f"({enclosed(left)} {op} {enclosed(right)})"
        text = f"{left} {op} {right}"
        return f"({text})" if self.chance(70) else text

    def number_leaf(self) -> str:
        part = self.part(Number)
        variables = self.variables(Number)
        kind = self.choose.randrange(20)
        if kind < 8 and variables:
            name = self.choose.choice(variables).name
            return f"(*&${name})" if self.chance(5) else f"${name}"
        if kind < 10 and part is not None:
            return part
        if self.only is None:
            maps = [m for m in self.maps if isinstance(m.shape, Number) and not m.aggregation]
            counted = [m for m in self.maps if m.aggregation in READABLE]
            if self.nesting > 1:
                return self.literal()
            if kind < 13 and maps:
                return self.access(self.choose.choice(maps))
            if kind == 13 and counted:
                return f"({self.choose.choice(INTEGER_TYPES)}){self.access(self.choose.choice(counted))}"
            if kind == 14 and counted:
                return f"({self.access(self.choose.choice(counted))} + 1)"
        if kind == 15:
            return self.fixed_number()
        if kind in (14, 16) and self.only is None:
            return self.opaque()
        if kind < 18:
            return f"({self.choose.choice(INTEGER_TYPES)}){self.choose.choice((self.literal().lstrip('-'), '1', '7'))}"
        return self.literal()

    def fixed_number(self) -> str:
        """What is known when the program is compiled or loaded, or always so."""
        if self.chance(30):
            return f"(int8){self.choose.choice(_ALWAYS)}"
        found = [
            "$1",
            "$#",
            "$3",
            "comptime (3 + 4)",
            "ncpus",
            "pid",
            "tid",
            "uid",
            "gid",
            "ppid",
            "leader_tid",
            "cpid",
        ]
        found += [
            "sizeof((1, 2))",
            "sizeof(uint8 *)",
            f"sizeof({self.choose.choice(INTEGER_TYPES)})",
            "curtask->tgid",
            "curtask.pid",
            "pid()",
        ]
        found += ["curtask->real_parent->tgid", "(uint8)has_cpid"]
        if self.declarations:
            found += [
                *ENUMERATORS,
                "LIMIT",
                "sizeof(struct point)",
                "offsetof(struct point, y)",
                "offsetof(struct point, in.b)",
                "sizeof(struct inner)",
                "(enum colour)5",
                "sizeof(enum colour)",
            ]
        return self.choose.choice(found)

    def effect(self) -> str:
        """An expression that changes something."""
        variables = self.variables(Number, writable=True)
        if not variables or self.only is not None:
            return self.literal()
        name = f"${self.choose.choice(variables).name}"
        maps = [m for m in self.maps if isinstance(m.shape, Number) and not m.aggregation]
        if maps and self.chance(30):
            name = self.access(self.choose.choice(maps))
        return self.choose.choice((f"{name}++", f"{name}--", f"++{name}", f"--{name}"))

    def number_call(self, depth: int) -> str:
        kind = self.choose.randrange(11)
        keyed = [m for m in self.maps if m.keys] if self.only is None else []
        if kind == 0:
            return f"strlen({self.text(depth - 1)})"
        if kind == 1:
            return f"strncmp({self.text(depth - 1)}, {self.text(depth - 1)}, {self.choose.randrange(9)})"
        if kind == 2 and keyed:
            return f"len({self.choose.choice(keyed).name})"
        if kind == 3:
            return f"bswap(({self.choose.choice(INTEGER_TYPES)}){self.operand(depth)})"
        if kind == 4:
            return f"{self.choose.choice(('kptr', 'uptr'))}(({self.choose.choice(INTEGER_TYPES)}){self.operand(depth)})"
        if kind == 5:
            word = self.choose.choice(("abc", "hello", "x"))
            return f'"{word}"[{self.choose.randrange(len(word) + 1)}]'
        if kind == 6:
            texts = self.variables(Text)
            return f"${self.choose.choice(texts).name}[0]" if texts else self.literal()
        if kind == 7:
            return f"strstr({self.text(depth - 1)}, {self.text(0)})"
        if kind == 8:
            count = self.choose.choice(("0", "1", "2", "(1 + (cpu > ncpus))"))
            return f"memcmp({self.text(depth - 1)}, {self.text(0)}, {count})"
        if kind == 9:
            return f"strcap({self.text(depth - 1)})"
        return self.array_element(depth)

    def array_element(self, depth: int) -> str:
        arrays = self.variables(Array)
        if arrays and self.chance(60):
            variable = self.choose.choice(arrays)
            shape, text = variable.shape, f"${variable.name}"
        else:
            shape = self.array_shape()
            text = f"({self.compound(shape, 0)})"
        assert isinstance(shape, Array)
        index = str(self.choose.randrange(shape.length))
        if self.chance(40):
            index = f"({self.number(depth - 1)} & {shape.length - 1})"
        elif self.chance(20) and self.only is None:  # beyond the end, too
            index = f"({self.opaque()} & {2 * shape.length - 1})"
        return f"{text}[{index}]"

    def array_shape(self) -> Array:
        bits = self.choose.choice((16, 32, 64))
        element = self.choose.choice([width for width in WIDTHS if width < bits])
        return Array(f"{self.choose.choice(('', 'u'))}int{element}", bits // element)

    # -- truth values --------------------------------------------------------------------------

    def truth(self, depth: int) -> str:
        variables = self.variables(Truth)
        if depth <= 0:
            kind = self.choose.randrange(6)
            if kind < 3 and variables:
                return f"${self.choose.choice(variables).name}"
            if kind < 4:
                return self.choose.choice(("true", "false"))
            left, right = self.sides(1)
            return f"({left} {self.choose.choice((*COMPARISONS, '&&', '||'))} {right})"
        kind = self.choose.randrange(14)
        left, right = self.sides(depth)
        if kind < 6:
            return f"({left} {self.choose.choice(COMPARISONS)} {right})"
        if kind < 8:
            return f"({self.truth(depth - 1)} {self.choose.choice(('&&', '||'))} {self.truth(depth - 1)})"
        if kind == 8:
            return f"!{self.choose.choice((self.truth(0), self.operand(1)))}"
        if kind == 9:
            return f"({self.text(depth - 1)} {self.choose.choice(('==', '!='))} {self.text(depth - 1)})"
        if kind == 10:
            return f"({left} {self.choose.choice(('&&', '||'))} {right})"
        if kind == 11:
            return self.map_question()
        if kind == 12:
            return f"(bool){enclosed(left)}"
        if self.chance(60):
            return self.memory_question(depth)
        if self.chance(50):
            return f"strcontains({self.text(depth - 1)}, {self.text(0)})"
        return f"is_err((uint64){self.operand(depth)})"

    def map_question(self) -> str:
        keyed = [m for m in self.maps if m.keys] if self.only is None else []
        if not keyed:
            return "true"
        map_ = self.choose.choice(keyed)
        call = self.choose.choice(("has_key", "has_key", "delete")) if not self.quiet else "has_key"
        return f"{call}({self.map_and_key(map_) if self.chance(70) else self.access(map_)})"

    def map_and_key(self, map_: Map) -> str:
        name, keys = self.access(map_).split("[", 1)
        keys = keys.removesuffix("]")
        return f"{name}, {keys}" if len(map_.keys) == 1 else f"{name}, ({keys})"

    def memory_question(self, depth: int) -> str:
        """Two tuples or records, compared."""
        shapes = [v.shape for v in self.variables(Tuple) + self.variables(Named)]
        shape = self.choose.choice(shapes) if shapes and self.chance(70) else Tuple((Number(), Text()))
        return f"({self.expression(shape, 1)} {self.choose.choice(('==', '!='))} {self.expression(shape, 1)})"

    # -- strings -------------------------------------------------------------------------------

    def word(self) -> str:
        if self.chance(3):
            return '"' + "long " * self.choose.randrange(20, 60) + '"'
        return f'"{self.choose.choice(WORDS)}"'

    def text(self, depth: int) -> str:
        kind = self.choose.randrange(14)
        if kind < 4 and (there := self.of_shape(Text())) is not None:
            return there
        if kind == 4 and (part := self.part(Text)) is not None:
            return part
        if depth > 0:
            if kind == 5:
                return f"({self.truth(depth - 1)} ? {self.text(depth - 1)} : {self.text(depth - 1)})"
            if kind == 6:
                return f"str({self.text(depth - 1)})"
            if kind == 7:
                return f"str({self.text(depth - 1)}, {self.choose.randrange(12)})"
            if kind == 8 and not self.quiet:
                return self.block(Text(), depth)
            if kind == 10:
                return f"str_concat({self.text(depth - 1)}, {self.text(0)})"
            if kind == 11:
                return f"{self.choose.choice(('strerror', 'signal_name', 'syscall_name'))}({self.number(depth - 1)})"
        if kind == 9:
            return self.choose.choice(
                ("comm", "pcomm", "leader_comm", "str($2)", "$2", "str($3)", "str($1)", "probe", "curtask->comm")
            )
        return self.word()

    def buffer(self, depth: int) -> str:
        if self.chance(40) and (there := self.of_shape(Bytes())) is not None:
            return there
        if depth > 0 and self.chance(15):
            return f"({self.truth(depth - 1)} ? {self.buffer(depth - 1)} : {self.buffer(depth - 1)})"
        word = self.choose.choice(("ab", "hello", "a longer text of some 30 bytes"))
        return self.choose.choice(
            (f'buf("{word}", {self.choose.randrange(len(word) + 2)})', 'buf("abc")', 'buf("x\\x01y")')
        )
