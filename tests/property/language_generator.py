"""Random well-typed programs in the bpftrace language that `BEGIN` and `END` can run.

`generate(seed)` gives the text of a program.  `COVERED`, `FUNCTIONS` and the `EXCLUDED_...` tables say
which forms and which records of the library it writes; tests/property/test_language_coverage.py holds
it to that.
"""

from __future__ import annotations

import random

from property.language_expressions import (
    ARITHMETIC,
    DECLARATIONS,
    INTEGER_TYPES,
    READABLE,
    Bytes,
    Expressions,
    Map,
    Named,
    Number,
    Shape,
    Text,
    Truth,
    Tuple,
    Variable,
)

_NUMBER_DIRECTIVES = (
    *("%d", "%d", "%d", "%i", "%u", "%x", "%X", "%o", "%c", "%p", "%s"),
    *("%ld", "%lu", "%lx", "%llu", "%hd", "%hhd", "%hhx", "%hu"),
    *("%5d", "%-5d|", "%05d", "%+d", "%#x", "%8x", "%-8x|", "%08x", "%#o", "%-4c|"),
)
AGGREGATIONS = ("count", "sum", "avg", "stats", "min", "max", "hist", "lhist", "tseries")

# Forms of the syntax that no generated program has, and why.
EXCLUDED_FORMS = {
    "ImportStatement": "nothing comes of it",
    "TypeInfo": "it is known when the program is compiled",
    "Import": "a generated program stands alone",
    "Macro": "it is expanded before anything is checked; tests/golden/expand has what comes of it",
    "Subprogram": "its calls are expanded before anything is checked",
    "Parameter": "it is part of a Subprogram",
}

# Records of the library that no generated program calls, and why.
_NO_CONTEXT = "begin and end probes have no such context"
_MEMORY = "it reads traced memory, which differs from machine to machine"
_COMPILED = "it is known when the program is compiled"
EXCLUDED_FUNCTIONS = {
    "getopt": "its values come from the command line",
    "func": _NO_CONTEXT,
    "retval": _NO_CONTEXT,
    "reg": _NO_CONTEXT,
    "usermode": _NO_CONTEXT,
    "ctx": _NO_CONTEXT,
    "kstack": _NO_CONTEXT,
    "ustack": _NO_CONTEXT,
    "dw_ustack": _NO_CONTEXT,
    "pystack": _NO_CONTEXT,
    "join": _MEMORY,
    "signal": _NO_CONTEXT,
    "signal_thread": _NO_CONTEXT,
    "override": _NO_CONTEXT,
    "path": _NO_CONTEXT,
    "socket_cookie": _NO_CONTEXT,
    "skboutput": _NO_CONTEXT,
    "uaddr": _NO_CONTEXT,
    "write_user": _MEMORY,
    "unwatch": _NO_CONTEXT,
    "percpu_kaddr": "not every kernel tells where its variables are",
    "cgroupid": "control groups differ from machine to machine",
    "cgroup_path": "control groups differ from machine to machine",
    "debugf": "it writes into a buffer of the whole machine",
    "macaddr": _MEMORY,
    **dict.fromkeys(("is_str", "is_ptr", "is_array", "is_integer", "is_unsigned_integer"), _COMPILED),
    **dict.fromkeys(("is_literal", "is_scalar", "probetype", "config"), _COMPILED),
    **dict.fromkeys(("kfunc_exist", "kfunc_allowed"), "what the kernel has differs from machine to machine"),
    **dict.fromkeys(("fail", "assert", "static_assert"), "it ends the program, or is nothing"),
}


class ProgramWriter(Expressions):
    """Writes one program; ``left`` statements may still come."""

    def __init__(self, choose: random.Random, size: int) -> None:
        super().__init__(choose, declarations=choose.randrange(3) == 0)
        self.left = size
        self.loops = 0  # around the current statement
        self.callbacks = 0  # those of them that are not unrolled

    # -- the whole -----------------------------------------------------------------------------

    def program(self) -> str:
        head = DECLARATIONS if self.declarations else ""
        if self.chance(15):
            head += f"config = {{ on_stack_limit = {self.choose.choice((0, 8, 16, 64))}; max_map_keys = 700 }}\n"
        self.make_maps()
        for map_ in self.maps:
            if map_.keys and self.chance(20):
                head += f"let {map_.name} = {self.choose.choice(('hash', 'lruhash'))}(512);\n"
        probes = [self.probe("BEGIN", first=True)]
        if self.chance(20):
            probes.append(self.probe("BEGIN"))
        if self.chance(20):
            probes.append(self.probe("END"))
        return head + "".join(probes)

    def probe(self, provider: str, *, first: bool = False) -> str:
        self.scopes = [[]]
        predicate = "" if first or self.chance(70) else f" / {self.truth(2)} /"
        lines = []
        for _ in range(self.choose.randrange(1, 5)):
            name, value = self.name("v"), self.opaque()
            lines.append(f"${name} = {value};")
            self.scopes[0].append(Variable(name, Number()))
        if first:  # each map's type comes from those before it
            maps, self.maps = self.maps, []
            for map_ in maps:
                lines.append(self.assignment(map_))
                self.maps.append(map_)
        lines += self.statements(self.left if provider == "END" or self.chance(70) else self.left // 2)
        lines += [self.show(v) for v in self.scopes[0]]
        body = "".join(f"  {line}\n" for line in lines)
        return f"{provider}{predicate} {{\n{body}}}\n"

    def make_maps(self) -> None:
        for _ in range(self.choose.randrange(1, 6)):
            keys = tuple(self.key_shape() for _ in range(self.choose.choice((0, 1, 1, 2, 3))))
            if self.chance(40):
                self.maps.append(Map(self.name("@a"), Number(), keys, self.choose.choice(AGGREGATIONS)))
            else:
                self.maps.append(Map(self.name("@m"), self.value_shape(2), keys))

    def key_shape(self) -> Shape:
        kind = self.choose.randrange(8)
        if kind < 4:
            return Number()
        if kind < 6:
            return Text()
        if kind == 6:
            return Truth() if self.chance(60) else Bytes()
        return self.choose.choice((Named(("p", "q"), (Number(), Text())), Tuple((Text(), Number()))))

    def value_shape(self, depth: int) -> Shape:
        kind = self.choose.randrange(12)
        if kind < 5 or depth == 0:
            return Number()
        if kind < 8:
            return Text()
        if kind == 8:
            return Truth() if self.chance(60) else Bytes()
        elements = tuple(self.value_shape(depth - 1) for _ in range(self.choose.randrange(1, 4)))
        if kind == 9:
            return Named(tuple(f"f{index}" for index in range(len(elements))), elements)
        return Tuple(elements)

    # -- statements ----------------------------------------------------------------------------

    def statements(self, count: int) -> list[str]:
        lines = []
        for _ in range(count):
            if self.left <= 0:
                break
            self.left -= 1
            lines.append(self.statement())
        return lines

    def body(self, extra: tuple[Variable, ...] = (), before: str = "") -> str:
        """A block of a few statements."""
        self.scopes.append(list(extra))
        lines = self.statements(self.choose.randrange(1, 5))
        if self.loops and self.chance(15):
            lines.append(f"if ({self.truth(1)}) {{ {self.choose.choice(('break', 'continue'))}; }}")
            lines += self.statements(1)
        if self.chance(2):
            lines.append(f"if ({self.truth(2)}) {{ return; }}")
        self.scopes.pop()
        return "{ " + before + " ".join(lines) + " }"

    def statement(self) -> str:
        kind = self.choose.randrange(30)
        nested = len(self.scopes) < 4
        if kind < 4:
            return self.new_variable()
        if kind < 8:
            return self.set_variable()
        if kind < 13:
            return self.assignment(self.choose.choice(self.maps))
        if kind < 17:
            return self.output()
        if kind < 20 and nested:
            return self.conditional()
        if kind < 24 and nested:
            return self.loop()
        if kind == 24:
            return self.map_request()
        if kind == 25:
            return f"_ = {self.expression(self.value_shape(1), 2)};"
        if kind == 26 and not self.callbacks and self.chance(10):
            return f"if ({self.truth(2)}) {{ exit({self.choose.choice(('', '3', '$1'))}); }}"
        if kind == 27:
            return f"{self.map_question()};"
        if kind == 28:
            return self.printed()
        return f"{self.effect()};"

    def new_variable(self) -> str:
        name = self.name("v")
        kind = self.choose.randrange(10)
        if kind < 3:
            type_ = self.choose.choice(INTEGER_TYPES)
            value = f" = {self.fitting(type_)}" if self.chance(80) else ""
            self.scopes[-1].append(Variable(name, Number(type_)))
            return f"let ${name} : {type_}{value};"
        if kind == 3:
            initial = self.choose.choice(('""', '"abc"', '"seven!!"'))
            self.scopes[-1].append(Variable(name, Text(), False))
            return f"let ${name} : string[{self.choose.choice((8, 16, 40, 64))}] = {initial};"
        if kind == 4 and (numbers := self.variables(Number)):
            type_ = f"typeof(${self.choose.choice(numbers).name})"
            text = f"let ${name} : {type_} = {self.cast_of(type_)};"
            self.scopes[-1].append(Variable(name, Number("typeof"), False))
            return text
        if kind == 5 and (
            found := [m for m in self.maps if m.keys and (not m.aggregation or m.aggregation in READABLE)]
        ):
            map_ = self.choose.choice(found)
            text = f"_ = find({self.map_and_key(map_)}, ${name});"
            self.scopes[-1].append(Variable(name, map_.shape))
            return text
        shape: Shape = self.array_shape() if self.chance(10) else self.value_shape(2)
        value = self.expression(shape, 3)
        self.scopes[-1].append(Variable(name, shape))
        return f"{'let ' if self.chance(40) else ''}${name} = {value};"

    def cast_of(self, type_: str) -> str:
        return f"({type_})({self.number(2)})"

    def fitting(self, type_: str) -> str:
        """A number for a variable of a declared type: literals must fit, all else is cut."""
        if self.chance(40):
            return str(self.choose.randrange(128))
        if self.chance(50) and (numbers := self.variables(Number)):
            return f"(${self.choose.choice(numbers).name} {self.choose.choice('+-*&|^')} {self.operand(2)})"
        return self.cast_of(type_ if self.chance(50) else self.choose.choice(INTEGER_TYPES))

    def set_variable(self) -> str:
        found = [v for scope in self.scopes for v in scope if v.writable]
        if not found:
            return self.new_variable()
        variable = self.choose.choice(found)
        name = f"${variable.name}"
        match variable.shape:
            case Number(declared):
                if self.chance(40):
                    op = self.choose.choice(ARITHMETIC)
                    value = str(self.choose.randrange(1, 64)) if op in ("<<", ">>") else self.loose(declared)
                    return f"{name} {op}= {value};"
                return f"{name} = {self.loose(declared)};"
            case shape:
                return f"{name} = {self.expression(shape, 2)};"

    def loose(self, declared: str) -> str:
        return self.fitting(declared) if declared else self.number(3)

    # -- maps ----------------------------------------------------------------------------------

    def assignment(self, map_: Map) -> str:
        self.quiet += self.chance(70)
        text = self.map_assignment(map_)
        self.quiet = 0
        return text

    def map_assignment(self, map_: Map) -> str:
        access = self.access(map_)
        match map_.aggregation:
            case "":
                if isinstance(map_.shape, Number):
                    kind = self.choose.randrange(8)
                    if kind < 2:
                        return self.choose.choice((f"{access}++;", f"--{access};"))
                    if kind < 5:
                        return f"{access} {self.choose.choice(ARITHMETIC)}= {self.number(2)};"
                return f"{access} = {self.expression(map_.shape, 2)};"
            case "count":
                return f"{access} = count();"
            case "hist":
                bits = self.histogram_bits(map_)
                return f"{access} = hist({self.number(2)}{bits});"
            case "lhist":
                return f"{access} = lhist({self.number(2)}, 0, 100, {10 if len(map_.name) % 2 else 7});"
            case "tseries":
                # So long an interval that a program does not see it end.
                reduce = ("", ', "avg"', ', "max"', ', "min"', ', "sum"')[int(map_.name[2:]) % 5]
                return f"{access} = tseries({self.number(2)}, 10000d, {1 + len(map_.name)}{reduce});"
            case other:
                return f"{access} = {other}({self.number(2)});"

    def histogram_bits(self, map_: Map) -> str:
        number = int(map_.name[2:]) % 5
        return f", {number}" if number else ""

    def map_request(self) -> str:
        map_ = self.choose.choice(self.maps)
        if map_.keys and self.chance(30):
            top = f", {self.choose.randrange(1, 4)}" + (f", {self.choose.randrange(1, 9)}" if self.chance(50) else "")
            return f"print({map_.name}{top});"
        if not map_.keys and self.chance(20):
            return f"{self.choose.choice(('_ = ', ''))}delete({map_.name});"
        return f"{self.choose.choice(('print', 'print', 'clear', 'zero'))}({map_.name});"

    # -- branches and loops --------------------------------------------------------------------

    def conditional(self) -> str:
        text = f"if ({self.truth(3)}) {self.body()}"
        if self.chance(30):
            text += f" else if ({self.number(2)}) {self.body()}"
        return text + (f" else {self.body()}" if self.chance(50) else "")

    def loop(self) -> str:
        if self.loops >= 2:
            return self.output()
        kind = self.choose.randrange(4)
        self.loops += 1
        self.callbacks += kind > 0
        if kind == 0:
            text = f"unroll ({self.choose.randrange(1, 4)}) {self.body()}"
        elif kind == 1:
            turns = self.name("w")
            self.scopes[-1].append(Variable(turns, Number(), False))
            end = self.choose.randrange(1, 5)
            text = f"${turns} = 0; while (${turns} < {end}) {self.body((), f'${turns}++; ')}"
        elif kind == 2:
            counter = Variable(self.name("i"), Number(), False)
            low = self.choose.choice((0, 0, 1, -2))
            ends = f"({low})..({low + self.choose.randrange(0, 5)})"
            if low >= 0 and self.chance(30) and not self.quiet:
                ends = f"{low}..({self.number(1)} & 3)"
            text = f"for ${counter.name} : {ends} {self.body((counter,))}"
        else:
            text = self.map_loop()
        self.callbacks -= kind > 0
        self.loops -= 1
        return text

    def map_loop(self) -> str:
        """A loop whose result does not depend on the order of the elements."""
        sources = [m for m in self.maps if m.keys and m.aggregation in ("", *READABLE)]
        if not sources:
            return self.output()
        source = self.choose.choice(sources)
        key: Shape = source.keys[0] if len(source.keys) == 1 else Tuple(source.keys)
        element = Variable(self.name("e"), Tuple((key, source.shape)), False)
        sums = [
            v for v in self.variables(Number, writable=True) if not isinstance(v.shape, Number) or not v.shape.declared
        ]
        targets = [m for m in self.maps if m.aggregation not in ("", "tseries") and m is not source]
        self.only = element
        self.quiet += 1
        lines = []
        ops = self.choose.choice(("+-", "^"))  # in any order they come to the same, but not mixed
        for _ in range(self.choose.randrange(1, 4)):
            kind = self.choose.randrange(3)
            if kind == 0 and sums:
                lines.append(f"${self.choose.choice(sums).name} {self.choose.choice(ops)}= {self.number(2)};")
            elif kind == 1 and targets:
                lines.append(self.map_assignment(self.choose.choice(targets)))
            else:
                lines.append(self.printed())
        self.only = None
        self.quiet -= 1
        return f"for ${element.name} : {source.name} {{ {' '.join(lines)} }}"

    # -- output --------------------------------------------------------------------------------

    def output(self) -> str:
        kind = self.choose.randrange(24)
        if kind < 16:
            return self.printed()
        if kind < 20:
            return f"print({self.choose.choice((self.expression(self.value_shape(2), 3), self.element()))});"
        if kind == 20:
            return f'{self.choose.choice(("errorf", "warnf"))}("at %d", {self.number(1)});'
        if kind == 21:
            return self.choose.choice(('time("now\\n");', 'cat("/proc/sys/kernel/ostype");', "print(username);"))
        if kind == 22 and self.chance(20) and not self.callbacks:
            return 'system("echo %d", (uint8)' + self.operand(1) + ");"
        return self.choose.choice(
            (
                f"print(ntop({self.number(1)}));",
                f"print(ntop(2, {self.number(1)}));",
                "print(ksym((uint64)3));",
                'print(ntop(pton("10.0.0.7")));',
                "print(usym((uint64)5));",
                f'print(strftime("then", (uint64){self.operand(1)}));',
                'printf("%r %rx %rh\\n", buf("abc", 2), buf("x\\x01y"), buf((uint8[8])(uint64)77, 3));',
            )
        )

    def element(self) -> str:
        maps = [m for m in self.maps if m.aggregation in ("", *READABLE)]
        return self.access(self.choose.choice(maps)) if maps else "1"

    def printed(self) -> str:
        shapes: list[Shape] = [self.value_shape(1) for _ in range(self.choose.randrange(0, 5))]
        if self.chance(12):  # more numbers at once than there are registers
            shapes = [Number()] * self.choose.randrange(8, 13)
        arguments = [self.expression(shape, 3 if len(shapes) < 6 else 1) for shape in shapes]
        form = self.choose.choice(("", "é ", "a\\t", "100%% ")) + " ".join(self.directive(shape) for shape in shapes)
        return f'printf("{form}\\n"{"".join(f", {argument}" for argument in arguments)});'

    def directive(self, shape: Shape) -> str:
        match shape:
            case Number():
                return self.choose.choice(_NUMBER_DIRECTIVES)
            case Truth():
                return self.choose.choice(("%d", "%s", "%5s"))
            case Text():
                return self.choose.choice(("%s", "%10s", "%-10s|", "[%s]"))
            case Bytes():
                return self.choose.choice(("%r", "%rx", "%rh", "%s"))
            case _:
                return "%s"

    def show(self, variable: Variable) -> str:
        return f'printf("{variable.name} = %s\\n", ${variable.name});'


def generate(seed: int, size: int = 14) -> str:
    """Return the program of a seed."""
    return ProgramWriter(random.Random(seed), size).program()
