"""Names of Rust's functions: as rustc mangles them now (v0, RFC 2603), and as it did before (legacy)."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

_DEEPEST: Final = 200
_LONGEST: Final = 8192  # characters of a result; what is longer is cut by nobody's loss
_BASIC: Final = {
    **{"a": "i8", "b": "bool", "c": "char", "d": "f64", "e": "str", "f": "f32", "h": "u8", "i": "isize"},
    **{"j": "usize", "l": "i32", "m": "u32", "n": "i128", "o": "u128", "s": "i16", "t": "u16", "u": "()"},
    **{"v": "...", "x": "i64", "y": "u64", "z": "!", "p": "_"},
}
_SIGNED: Final = frozenset("aslxni")
_UNSIGNED: Final = frozenset("htmyoj")
_LEGACY: Final = {
    **{"SP": "@", "BP": "*", "RF": "&", "LT": "<", "GT": ">", "LP": "(", "RP": ")", "C": ","},
}
_ERASED: Final = "'_"


_Read = Callable[[], str]


class _Unknown(Exception):
    """Not a name of this form."""


def demangle_rust(name: str) -> str | None:
    """Return a name as the source has it, without hashes; None if it is none of Rust's."""
    if name.startswith("_R"):
        return _current(name)
    return _legacy(name) if name.startswith("_ZN") and "17h" in name else None


def readable_rust(name: str) -> str:
    """Return a name as the source has it: also a legacy one that was taken for C++; others as they are."""
    if name.startswith(("_R", "_ZN")):
        return demangle_rust(name) or name
    head, found, digits = name.rpartition("::")
    if not found or not _is_hash(digits):
        return name
    return "::".join([_plain(part) for part in head.split("::")])


def _current(name: str) -> str | None:
    """``_RNvC5crate4main``."""
    if not name.isascii():
        return None
    body, _, suffix = name[2:].partition(".")
    try:
        reader = _Reader(body)
        path = reader.path(values=True)
        if reader.at < len(body) and body[reader.at].isupper():
            reader.skipping = True  # the crate that it was made for
            reader.path(values=False)
        if reader.at != len(body) or not path:  # a crate without a name
            return None
    except (_Unknown, IndexError, ValueError, OverflowError):
        return None
    return path if not suffix or suffix.startswith("llvm") else f"{path}.{suffix}"


def _legacy(name: str) -> str | None:
    """``_ZN5crate4main17h0123456789abcdefE``: identifiers, of which the last one is a hash."""
    parts: list[str] = []
    at = 3
    while at < len(name) and name[at].isdigit():
        end = at
        while end < len(name) and name[end].isdigit():
            end += 1
        size = int(name[at:end]) if end - at < 6 else 0
        part, at = name[end : end + size], end + size
        if len(part) != size or not size:
            return None
        parts.append(part)
    rest = name[at:]
    if len(parts) < 2 or not (rest == "E" or rest.startswith("E.")) or not _is_hash(parts.pop()):
        return None
    return "::".join([_plain(part) for part in parts])


def _is_hash(part: str) -> bool:
    return len(part) == 17 and part[0] == "h" and all(digit in "0123456789abcdef" for digit in part[1:])


def _plain(part: str) -> str:
    """``$LT$``, ``$u20$``, ``..`` of an identifier → signs."""
    text = part[1:] if part.startswith("_$") else part
    text = text.replace("..", "::")
    pieces = text.split("$")
    result = pieces[0]
    for number, piece in enumerate(pieces[1:], 1):
        if number % 2 == 0:
            result += piece
        elif piece in _LEGACY:
            result += _LEGACY[piece]
        elif piece[:1] == "u" and len(piece) < 8:
            try:
                result += chr(int(piece[1:], 16))
            except (ValueError, OverflowError):
                return part
        else:
            return part
    return result


class _Reader:
    """Reads a name from left to right; what has been read already may be meant again."""

    def __init__(self, text: str) -> None:
        self.text = text
        self.at = 0
        self.skipping = False
        self._depth = 0
        self._length = 0
        self._lifetimes = 0

    # -- paths ---------------------------------------------------------------------------------

    def path(self, *, values: bool) -> str:
        """``values``: generic arguments are written ``f::<T>``, as in expressions."""
        self._enter()
        letter = self._next()
        match letter:
            case "C":
                self._disambiguator()
                result = self._identifier()
            case "M":
                self._disambiguator()
                self.path(values=False)
                result = f"<{self.type()}>"
            case "X":
                self._disambiguator()
                self.path(values=False)
                result = f"<{self.type()} as {self.path(values=False)}>"
            case "Y":
                result = f"<{self.type()} as {self.path(values=False)}>"
            case "N":
                result = self._nested(values)
            case "I":
                inner = self.path(values=values)
                arguments = ", ".join(self._until_end(self._generic))
                result = f"{inner}{'::' if values else ''}<{arguments}>"
            case "B":
                result = self._again(lambda: self.path(values=values))
            case _:
                raise _Unknown
        return self._leave(result)

    def _nested(self, values: bool) -> str:
        namespace = self._next()
        inner = self.path(values=values)
        number = self._disambiguator()
        name = self._identifier()
        if namespace.islower():
            return f"{inner}::{name}" if name else inner
        if not namespace.isupper():
            raise _Unknown
        kind = {"C": "closure", "S": "shim"}.get(namespace, namespace)
        return f"{inner}::{{{kind}{':' + name if name else ''}#{number}}}"

    def _identifier(self) -> str:
        is_punycode = self._take("u")
        size = self._decimal()
        self._take("_")
        if self.at + size > len(self.text):
            raise _Unknown
        name = self.text[self.at : self.at + size]
        self.at += size
        if not is_punycode:
            return name
        head, _, tail = name.rpartition("_")
        return (f"{head}-{tail}" if head else tail).encode().decode("punycode")

    # -- types ---------------------------------------------------------------------------------

    def type(self) -> str:
        self._enter()
        letter = self._next()
        match letter:
            case _ if letter in _BASIC:
                result = _BASIC[letter]
            case "A":
                result = f"[{self.type()}; {self._constant()}]"
            case "S":
                result = f"[{self.type()}]"
            case "T":
                parts = list(self._until_end(self.type))
                result = f"({', '.join(parts)}{',' if len(parts) == 1 else ''})"
            case "R" | "Q":
                lifetime = self._lifetime() if self._take("L") else _ERASED
                shown = "" if lifetime == _ERASED else f"{lifetime} "
                result = f"&{shown}{'mut ' if letter == 'Q' else ''}{self.type()}"
            case "P" | "O":
                result = f"*{'const' if letter == 'P' else 'mut'} {self.type()}"
            case "F":
                result = self._in_binder(self._function)
            case "D":
                result = self._dynamic()
            case "B":
                result = self._again(self.type)
            case _:
                self.at -= 1
                result = self.path(values=False)
        return self._leave(result)

    def _function(self) -> str:
        unsafe = "unsafe " if self._take("U") else ""
        abi = ""
        if self._take("K"):
            name = "C" if self._take("C") else self._identifier().replace("_", "-")
            abi = f'extern "{name}" '
        parameters = ", ".join(self._until_end(self.type))
        result = self.type()
        return f"{unsafe}{abi}fn({parameters}){'' if result == '()' else f' -> {result}'}"

    def _dynamic(self) -> str:
        bounds = self._in_binder(lambda: " + ".join(self._until_end(self._bound)))
        if not self._take("L"):
            raise _Unknown
        lifetime = self._lifetime()
        return f"dyn {bounds}" if lifetime == _ERASED else f"dyn {bounds} + {lifetime}"

    def _bound(self) -> str:
        path = self.path(values=False)
        bindings: list[str] = []
        while self._take("p"):
            name = self._identifier()
            bindings.append(f"{name} = {self.type()}")
        if not bindings:
            return path
        joined = ", ".join(bindings)
        return f"{path[:-1]}, {joined}>" if path.endswith(">") else f"{path}<{joined}>"

    def _generic(self) -> str:
        if self._take("L"):
            return self._lifetime()
        return self._constant() if self._take("K") else self.type()

    def _constant(self) -> str:
        self._enter()
        letter = self._next()
        if letter == "p":
            return self._leave("_")
        if letter == "B":
            return self._leave(self._again(self._constant))
        minus = "-" if letter in _SIGNED and self._take("n") else ""
        end = self.text.index("_", self.at)
        digits = self.text[self.at : end]
        self.at = end + 1
        value = int(digits or "0", 16)
        if letter in _SIGNED or letter in _UNSIGNED:
            return self._leave(f"{minus}{value}")
        if letter == "b" and value < 2:
            return self._leave("true" if value else "false")
        if letter == "c":
            return self._leave(repr(chr(value)))
        raise _Unknown

    def _lifetime(self) -> str:
        number = self._base62()
        if not number:
            return _ERASED
        place = self._lifetimes - number
        if place < 0:
            raise _Unknown
        return f"'{chr(ord('a') + place)}" if place < 26 else f"'_{place}"

    # -- pieces --------------------------------------------------------------------------------

    def _in_binder(self, read: _Read) -> str:
        count = self._base62() + 1 if self._take("G") else 0
        if count > _DEEPEST:
            raise _Unknown
        names = [f"'{chr(ord('a') + self._lifetimes + each)}" for each in range(count) if self._lifetimes + each < 26]
        self._lifetimes += count
        result = read()
        self._lifetimes -= count
        return f"for<{', '.join(names)}> {result}" if names else result

    def _again(self, read: _Read) -> str:
        start = self.at - 1
        place = self._base62()
        if place >= start:
            raise _Unknown
        if self.skipping:
            return ""
        after, self.at = self.at, place
        result = read()
        self.at = after
        return result

    def _until_end(self, read: _Read) -> list[str]:
        found: list[str] = []
        while not self._take("E"):
            found.append(read())
        return found

    def _disambiguator(self) -> int:
        return self._base62() + 1 if self._take("s") else 0

    def _base62(self) -> int:
        if self._take("_"):
            return 0
        value = 0
        while (letter := self._next()) != "_":
            if letter.isdigit():
                digit = ord(letter) - ord("0")
            elif letter.islower():
                digit = ord(letter) - ord("a") + 10
            elif letter.isupper():
                digit = ord(letter) - ord("A") + 36
            else:
                raise _Unknown
            value = value * 62 + digit
            if value > 1 << 80:
                raise _Unknown
        return value + 1

    def _decimal(self) -> int:
        start = self.at
        while self.at < len(self.text) and self.text[self.at].isdigit():
            self.at += 1
            if self.text[start] == "0":
                break
        if self.at == start or self.at - start > 9:
            raise _Unknown
        return int(self.text[start : self.at])

    def _next(self) -> str:
        letter = self.text[self.at]
        self.at += 1
        return letter

    def _take(self, letter: str) -> bool:
        if self.at < len(self.text) and self.text[self.at] == letter:
            self.at += 1
            return True
        return False

    def _enter(self) -> None:
        self._depth += 1
        if self._depth > _DEEPEST:
            raise _Unknown

    def _leave(self, result: str) -> str:
        self._depth -= 1
        self._length += len(result)
        if len(result) > _LONGEST or self._length > 64 * _LONGEST:  # what is meant again and again grows without end
            raise _Unknown
        return result
