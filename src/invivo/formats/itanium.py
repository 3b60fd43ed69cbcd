"""Names of C++ functions as people write them, from the names that linkers see (``_ZN3foo3barEi``: ``foo::bar(int)``).

The mangling is that of the Itanium C++ ABI, chapter 5; the spelling follows c++filt(1).  A name is taken apart by
recursive descent; every part that the ABI calls substitutable is kept, since later parts refer to it by number.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from invivo.formats.itanium_codes import (
    BUILTIN,
    BUILTIN_D,
    LITERALS,
    OPERATORS,
    SPECIAL,
    STANDARD,
    STANDARD_WHOLE,
    UNARY,
)
from invivo.formats.itanium_cursor import Cursor, MalformedError, Part


def demangle(name: str) -> str | None:
    """Return a C++ name as it is written in a program; None if it is no mangled name."""
    if not name.startswith("_Z"):
        return None
    core, dot, clone = name.partition(".")
    try:
        parser = _Parser(core, 2)
        text = parser.encoding()
        if parser.at != len(core):
            return None
    except (MalformedError, RecursionError, IndexError, ValueError):
        return None
    return text + (f" [clone .{clone}]" if dot else "")


class _Parser(Cursor):
    """One method for each part of the grammar."""

    # -- the whole -----------------------------------------------------------------------------

    def encoding(self, *, shows_result: bool = True) -> str:
        special = self.special_name()
        if special is not None:
            return special
        name = self.nested(self.name)
        if self.at >= len(self.text) or self.peek() in "E.":
            return name.text()
        return self.function(name, shows_result=shows_result)

    def function(self, name: Part, *, shows_result: bool) -> str:
        """A function's name with its parameters, and its result if the name is a template's."""
        result = self.type() if name.template and not name.special else None
        parameters = self.parameters()
        head, _, qualifiers = name.left.partition("\0")
        text = f"{head}({parameters}){qualifiers}"
        if result is None or not shows_result:
            return text
        joint = "" if result.left.endswith(("(", "*", "&")) and result.wraps else " "
        return f"{result.left}{joint}{text}{result.right}"

    def parameters(self) -> str:
        found: list[str] = []
        while self.at < len(self.text) and self.peek() not in "E.":
            found += self.expanded(self.type())
        if found == ["void"]:
            return ""
        return ", ".join(found)

    def expanded(self, part: Part) -> list[str]:
        if part.pack is None:
            return [part.text()]
        return [text for each in part.pack for text in self.expanded(each)]

    def special_name(self) -> str | None:
        code = self.peek(2)
        if code in SPECIAL:
            self.at += 2
            if code in ("TV", "TT", "TI", "TS"):
                return SPECIAL[code] + self.type().text()
            return SPECIAL[code] + self.name().left.partition("\0")[0]
        if code in ("Th", "Tv"):
            self.at += 1
            self.call_offset()
            return ("non-virtual" if code == "Th" else "virtual") + " thunk to " + self.encoding()
        if code == "Tc":
            self.at += 2
            self.call_offset()
            self.call_offset()
            return "covariant return thunk to " + self.encoding()
        if code == "TC":
            self.at += 2
            derived = self.type().text()
            self.number()
            self.expect("_")
            return f"construction vtable for {self.type().text()}-in-{derived}"
        if code == "GR":
            self.at += 2
            name = self.name().text()
            return f"reference temporary #{self.sequence()} for {name}"
        if code == "GT":
            self.at += 3
            kind = self.text[self.at - 1]
            return ("non-transaction clone for " if kind == "n" else "transaction clone for ") + self.encoding()
        return None

    def call_offset(self) -> None:
        virtual = self.take("v")
        if not virtual:
            self.expect("h")
        self.number()
        self.expect("_")
        if virtual:
            self.number()
            self.expect("_")

    # -- names ---------------------------------------------------------------------------------

    def name(self) -> Part:
        if self.take("N"):
            return self.nested_name()
        if self.take("Z"):
            return self.local_name()
        if self.peek() == "S" and self.peek(2) != "St":
            part = self.substitution()
        else:
            standard = self.take("St")
            part = self.unqualified(Part(""))
            if standard:
                part = Part("std::" + part.left, plain=part.plain, special=part.special)
            if self.peek() == "I":
                self.keep(part)
        if self.peek() == "I":
            return self.with_arguments(part)
        return part

    def nested_name(self) -> Part:
        qualifiers = self.qualifiers()
        if self.take("R"):
            qualifiers += " &"
        elif self.take("O"):
            qualifiers += " &&"
        part = Part("")
        while not self.take("E"):
            if self.peek() == "I":
                part = self.keep(self.with_arguments(part))
                continue
            if self.peek() == "S" and self.peek(2) != "St":
                part = self.substitution(before_constructor=True)
                continue
            if self.take("St"):
                part = Part("std", plain="std")
                continue
            if self.peek() == "T":
                part = self.keep(self.template_parameter())
                continue
            if self.peek(2) in ("Dt", "DT"):
                part = self.keep(self.decltype())
                continue
            if self.take("M"):
                continue  # the initializer of a data member
            own = self.unqualified(part)
            joined = f"{part.left}::{own.left}" if part.left else own.left
            part = self.keep(Part(joined, plain=own.plain, special=own.special))
        if self.seen and self.seen[-1] is part:
            self.seen.pop()  # the whole name is no substitution, unless as a type
        return Part(
            part.left + ("\0" + qualifiers if qualifiers else ""),
            template=part.template,
            plain=part.plain,
            special=part.special,
        )

    def local_name(self) -> Part:
        scope = self.encoding(shows_result=False)
        self.expect("E")
        if self.take("s"):
            self.discriminator()
            return Part(f"{scope}::string literal")
        if self.take("d"):
            index = 0 if self.take("_") else self.number() + 1
            if index:
                self.expect("_")
            scope = f"{scope}::{{default arg#{index + 1}}}"
            name = self.name()
        else:
            name = self.name()
            self.discriminator()
        return Part(f"{scope}::{name.left}", name.right, name.template, name.plain, name.special)

    def discriminator(self) -> None:
        if self.take("__"):
            self.number()
            self.expect("_")
        elif self.peek() == "_" and self.peek(2)[1:].isdigit():
            self.at += 2

    def unqualified(self, scope: Part) -> Part:
        self.take("L")  # internal linkage
        character = self.peek()
        if character.isdigit():
            part = self.source_name()
        elif character == "C":
            self.at += 1
            if self.take("I"):
                self.at += 1
                self.type()
            else:
                self.at += 1
            part = Part(scope.plain, plain=scope.plain, special=True)
        elif character == "D" and self.peek(2)[1:] in "0123456":
            self.at += 2
            part = Part("~" + scope.plain, plain=scope.plain, special=True)
        elif self.take("DC"):
            names = [self.source_name().left]
            while not self.take("E"):
                names.append(self.source_name().left)
            part = Part(f"[{', '.join(names)}]")
        elif self.take("Ut"):
            part = Part(f"{{unnamed type#{self.sequence() + 1}}}")
        elif self.take("Ul"):
            parameters = self.parameters()
            self.expect("E")
            part = Part(f"{{lambda({parameters})#{self.sequence() + 1}}}")
        else:
            part = self.operator_name()
        while self.take("B"):
            part = Part(f"{part.left}[abi:{self.source_name().left}]", plain=part.plain, special=part.special)
        return part

    def source_name(self) -> Part:
        length = self.number()
        if length <= 0 or self.at + length > len(self.text):
            raise MalformedError
        name = self.text[self.at : self.at + length]
        self.at += length
        if name.startswith(("_GLOBAL__N", "_GLOBAL_.N", "_GLOBAL_$N")):
            name = "(anonymous namespace)"
        return Part(name, plain=name)

    def operator_name(self) -> Part:
        code = self.peek(2)
        self.at += 2
        if code == "cv":
            # A conversion to a template's parameter names what follows: its arguments come behind.
            return Part("operator " + self.type().text(), special=True)
        if code == "li":
            return Part('operator"" ' + self.source_name().left)
        if code[:1] == "v" and code[1:].isdigit():
            return Part("operator " + self.source_name().left)
        spelled = OPERATORS.get(code)
        if spelled is None:
            raise MalformedError
        return Part("operator" + (" " if spelled[0].isalpha() else "") + spelled)

    def with_arguments(self, part: Part) -> Part:
        listed = self.template_arguments()
        texts = [text for each in listed for text in self.expanded(each)]
        inner = ", ".join(texts)
        # c++filt separates two closing brackets, but for one that only an empty pack follows.
        last_is_empty = bool(listed) and listed[-1].pack == ()
        space = " " if inner.endswith(">") and not last_is_empty else ""
        head = part.left + (" " if part.left.endswith("<") else "")
        return Part(f"{head}<{inner}{space}>", template=True, plain=part.plain, special=part.special)

    def template_arguments(self) -> list[Part]:
        self.expect("I")
        found: list[Part] = []
        outer = self.arguments
        while not self.take("E"):
            found.append(self.nested(self.template_argument))
        # What follows may name these by number; the arguments themselves were read with the outer ones.
        self.arguments = found if found else outer
        return found

    def template_argument(self) -> Part:
        if self.take("X"):
            part = self.expression()
            self.expect("E")
            return part
        if self.peek() == "L":
            return self.literal()
        if self.take("J"):
            parts: list[Part] = []
            while not self.take("E"):
                parts.append(self.nested(self.template_argument))
            return Part("", pack=tuple(parts))
        return self.type()

    def template_parameter(self) -> Part:
        self.expect("T")
        index = self.sequence()
        if index < len(self.arguments):
            return self.arguments[index]
        # In a lambda's own parameters: `auto`.
        return Part(f"auto:{index + 1}")

    def substitution(self, *, before_constructor: bool = False) -> Part:
        self.expect("S")
        character = self.peek()
        if character in STANDARD:
            self.at += 1
            name, plain = STANDARD[character]
            if before_constructor and self.peek() in ("C", "D") and character in STANDARD_WHOLE:
                return Part(STANDARD_WHOLE[character], template=True, plain=plain)
            part = Part(name, plain=plain)
            if self.peek() == "B":
                tagged = name
                while self.take("B"):
                    tagged += f"[abi:{self.source_name().left}]"
                part = self.keep(Part(tagged, plain=plain))
            return part
        start = self.at
        while self.peek().isdigit() or self.peek().isupper():
            self.at += 1
        digits = self.text[start : self.at]
        self.expect("_")
        return self.seen[int(digits, 36) + 1 if digits else 0]

    # -- types ---------------------------------------------------------------------------------

    def qualifiers(self) -> str:
        found = ""
        for character, spelled in (("r", " restrict"), ("V", " volatile"), ("K", " const")):
            if self.take(character):
                found = spelled + found
        return found

    def type(self) -> Part:
        return self.nested(self.any_type)

    def any_type(self) -> Part:
        character = self.peek()
        if character in BUILTIN:
            self.at += 1
            return Part(BUILTIN[character])
        if character in ("r", "V", "K"):
            qualifiers = self.qualifiers()
            inner = self.type()
            if inner.wraps and inner.right:
                return self.keep(Part(inner.left, inner.right + qualifiers, wraps=True))
            return self.keep(Part(inner.left + qualifiers, inner.right, inner.template, inner.plain))
        if character in ("P", "R", "O"):
            self.at += 1
            return self.keep(self.pointer(self.type(), {"P": "*", "R": "&", "O": "&&"}[character]))
        if character == "D":
            return self.d_type()
        if character == "F":
            return self.keep(self.function_type())
        if character == "A":
            return self.keep(self.array())
        if character == "M":
            return self.keep(self.member_pointer())
        if character == "T" and self.peek(2)[1:] not in "sue":
            return self.parameter_type()
        if character == "S" and self.peek(2) != "St":
            part = self.substitution()
            return self.keep(self.with_arguments(part)) if self.peek() == "I" else part
        if character in ("C", "G"):
            self.at += 1
            inner = self.type()
            return self.keep(Part(f"{inner.left} _{'Complex' if character == 'C' else 'Imaginary'}"))
        if character == "U":
            self.at += 1
            extension = self.source_name()
            arguments = self.with_arguments(extension) if self.peek() == "I" else extension
            return self.keep(Part(f"{self.type().text()} {arguments.left}"))
        if self.take("u"):
            return self.keep(self.source_name())
        if character == "T":
            self.at += 2
        outer = self.arguments
        named = self.name()
        self.arguments = outer
        return self.keep(Part(named.left.replace("\0", ""), named.right, named.template, named.plain))

    def parameter_type(self) -> Part:
        part = self.keep(self.template_parameter())
        if self.peek() == "I":
            return self.keep(self.with_arguments(part))
        return part

    def pointer(self, inner: Part, mark: str) -> Part:
        if inner.pack is not None:
            return Part("", pack=tuple(self.pointer(each, mark) for each in inner.pack))
        if inner.wraps:
            if inner.left.endswith("("):  # a function or array
                return Part(inner.left + mark, inner.right, wraps=True)
            return Part(f"{inner.left}{mark}", inner.right, wraps=True)
        if mark != "*" and inner.left.endswith("&"):
            # A reference to a reference: the one that binds to lvalues wins.
            both = inner.left.endswith("&&") and mark == "&&"
            return Part(inner.left.rstrip("&") + ("&&" if both else "&"), inner.right)
        return Part(inner.left + mark, inner.right)

    def function_type(self, suffix: str = "") -> Part:
        self.expect("F")
        self.take("Y")
        result = self.type()
        parameters: list[str] = []
        reference = ""
        while not self.take("E"):
            if self.peek(2) in ("RE", "OE"):
                reference = " &" if self.take("R") else " &&" if self.take("O") else ""
                continue
            parameters += self.expanded(self.type())
        listed = "" if parameters == ["void"] else ", ".join(parameters)
        space = "" if result.wraps and result.left.endswith(("*", "&")) else " "
        return Part(f"{result.left}{space}(", f")({listed}){reference}{suffix}{result.right}", wraps=True)

    def array(self) -> Part:
        self.expect("A")
        size = ""
        if self.peek().isdigit():
            size = str(self.number())
        elif self.peek() != "_":
            size = self.expression().text()
        self.expect("_")
        inner = self.type()
        if inner.wraps and inner.right.startswith(") ["):
            return Part(inner.left, f") [{size}]{inner.right[2:]}", wraps=True)
        return Part(f"{inner.left} (", f") [{size}]{inner.right}", wraps=True)

    def member_pointer(self) -> Part:
        self.expect("M")
        owner = self.type().text()
        member = self.type()
        if member.wraps:
            return Part(f"{member.left}{owner}::*", member.right, wraps=True)
        return Part(f"{member.left} {owner}::*", member.right)

    def d_type(self) -> Part:
        kind = self.peek(2)[1:]
        if kind in BUILTIN_D:
            self.at += 2
            return Part(BUILTIN_D[kind])
        if kind in ("t", "T"):
            return self.keep(self.decltype())
        if kind == "p":
            self.at += 2
            part = self.type()
            return self.keep(part if part.pack is not None else Part(part.left + part.right + "..."))
        if kind == "o":
            self.at += 2
            return self.keep(self.function_type(" noexcept"))
        if kind == "v":
            self.at += 2
            size = str(self.number()) if self.peek().isdigit() else self.expression().text()
            self.expect("_")
            return self.keep(Part(f"{self.type().text()} __vector({size})"))
        if kind == "F":
            self.at += 2
            bits = self.number()
            ending = "x" if self.take("x") else "b" if self.take("b") else ""
            if not ending:
                self.expect("_")
            return Part("std::bfloat16_t" if ending == "b" and bits == 16 else f"_Float{bits}{ending}")
        raise MalformedError

    def decltype(self) -> Part:
        self.at += 2
        inner = self.expression().text()
        self.expect("E")
        return Part(f"decltype ({inner})")

    # -- expressions ---------------------------------------------------------------------------

    def literal(self) -> Part:
        self.expect("L")
        if self.take("_Z"):
            text = self.encoding()
            self.expect("E")
            return Part(text)
        code = self.peek()
        type_ = self.type().text()
        if self.take("E"):
            return Part("nullptr" if type_ == "decltype(nullptr)" else f"({type_})0")
        start = self.at
        while self.peek() != "E":
            if not self.peek():
                raise MalformedError
            self.at += 1
        value = self.text[start : self.at].replace("n", "-")
        self.expect("E")
        if code == "b":
            return Part({"0": "false", "1": "true"}.get(value, f"(bool){value}"))
        if code == "i":
            return Part(value)
        if code in LITERALS:
            return Part(value + LITERALS[code])
        if code in ("f", "d", "e"):
            return Part(f"({type_})[{value}]")
        return Part(f"({type_}){value}")

    def expression(self) -> Part:
        return self.nested(self.any_expression)

    def any_expression(self) -> Part:
        character, code = self.peek(), self.peek(2)
        if character == "L":
            return self.literal()
        if character == "T":
            return self.template_parameter()
        if code in ("fp", "fL"):
            return self.function_parameter()
        if character.isdigit() or code in ("on", "dn", "sr", "gs") or character == "N":
            return self.unresolved_name()
        self.at += 2
        special = _EXPRESSIONS.get(code)
        if special is not None:
            return special(self)
        spelled = OPERATORS.get(code)
        if spelled is None:
            raise MalformedError
        return self.operation(code, spelled)

    def operation(self, code: str, spelled: str) -> Part:
        if code in UNARY:
            return Part(f"{spelled}({self.expression().text()})")
        if code in ("pp", "mm"):
            before = self.take("_")
            inner = self.expression().text()
            return Part(f"{spelled}({inner})" if before else f"({inner}){spelled}")
        left = self.expression().text()
        if code == "qu":
            middle = self.expression().text()
            return Part(f"({left})?({middle}) : ({self.expression().text()})")
        right = self.expression().text()
        if code == "ix":
            return Part(f"({left})[{right}]")
        if code in ("pt", "dt"):
            return Part(f"({left}){spelled}{right}")
        whole = f"({left}){spelled}({right})"
        return Part(f"({whole})" if code == "gt" else whole)

    def function_parameter(self) -> Part:
        if self.take("fpT"):
            return Part("this")
        if self.take("fL"):
            self.number()
            self.expect("p")
        else:
            self.expect("fp")
        self.qualifiers()
        return Part(f"{{parm#{self.sequence() + 1}}}")

    def unresolved_name(self) -> Part:
        root = "::" if self.take("gs") else ""
        if self.take("sr"):
            return Part(f"{root}{self.scope()}::{self.simple_name().left}")
        return Part(root + self.simple_name().left)

    def scope(self) -> str:
        """A type, or names up to an end; old compilers write the first name as a type."""
        start, kept = self.at, len(self.seen)
        if self.take("N"):
            return "::".join([self.type().text(), *self.levels()])
        if self.peek().isdigit():
            levels = self.levels()
            if self.peek().isdigit() or self.peek(2) in ("on", "dn"):
                return "::".join(levels)
            self.at = start
            del self.seen[kept:]
        return self.type().text()

    def levels(self) -> list[str]:
        found: list[str] = []
        while not self.take("E"):
            found.append(self.simple_name().left)
        return found

    def simple_name(self) -> Part:
        if self.take("dn"):
            inner = self.type() if not self.peek().isdigit() else self.source_name()
            return Part("~" + inner.text())
        self.take("on")
        part = self.source_name() if self.peek().isdigit() else self.operator_name()
        return self.with_arguments(part) if self.peek() == "I" else part

    def until_end(self) -> str:
        found: list[str] = []
        while not self.take("E"):
            found += self.expanded(self.expression())
        return ", ".join(found)

    def conversion(self) -> Part:
        target = self.type().text()
        if self.take("_"):
            return Part(f"({target})({self.until_end()})")
        return Part(f"({target})({self.expression().text()})")

    def call(self) -> Part:
        callee = self.expression().text()
        return Part(f"{callee}({self.until_end()})")

    def member(self, mark: str) -> Part:
        left = self.expression().text()
        return Part(f"({left}){mark}{self.unresolved_name().text()}")

    def of_type(self, word: str) -> Part:
        return Part(f"{word} ({self.type().text()})")

    def of_expression(self, word: str) -> Part:
        return Part(f"{word} ({self.expression().text()})")

    def braces(self) -> Part:
        type_ = self.type().text()
        return Part(f"{type_}{{{self.until_end()}}}")

    def pack_size(self) -> Part:
        part = self.template_parameter() if self.peek() == "T" else self.function_parameter()
        return Part(str(len(part.pack))) if part.pack is not None else Part(f"sizeof...({part.text()})")


_EXPRESSIONS: Final[dict[str, Callable[[_Parser], Part]]] = {
    "cl": _Parser.call,
    "cv": _Parser.conversion,
    "dt": lambda parser: parser.member("."),
    "pt": lambda parser: parser.member("->"),
    "st": lambda parser: parser.of_type("sizeof"),
    "sz": lambda parser: parser.of_expression("sizeof"),
    "at": lambda parser: parser.of_type("alignof"),
    "az": lambda parser: parser.of_expression("alignof"),
    "nx": lambda parser: parser.of_expression("noexcept"),
    "ti": lambda parser: parser.of_type("typeid"),
    "te": lambda parser: parser.of_expression("typeid"),
    "tl": _Parser.braces,
    "il": lambda parser: Part(f"{{{parser.until_end()}}}"),
    "sZ": _Parser.pack_size,
    "sp": lambda parser: Part(parser.expression().text() + "..."),
    "tw": lambda parser: parser.of_expression("throw"),
    "tr": lambda parser: Part("throw"),
}
