"""The places in a program that an attach point means: functions by name or C++ signature, offsets, addresses."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Sequence

from invivo.errors import BadFileError
from invivo.formats.elf import Elf
from invivo.formats.elf_symbols import Symbol, readable
from invivo.formats.x86_length import is_boundary
from invivo.probes import names
from invivo.probes.provider import malformed, parse_number
from invivo.record import Record
from invivo.target import NoSuchProbeError

# What everybody writes, and what it is with the C++ library of GCC since 5.
_STRING = ("std::__cxx11::basic_string<char, std::char_traits<char>, std::allocator<char> >", "std::string")
_SHOWN = 3  # functions in a hint
_UNSAFE_HINT = "--unsafe attaches anyway; a probe inside an instruction makes the traced program crash"


class Location(Record):
    """The last part of an attach point: a function and an offset in it, an address, or a line of its source.

    ``cpp``: the function is a C++ name, with or without its parameters.
    """

    function: str
    offset: int = 0
    address: int | None = None
    cpp: bool = False
    file: str = ""  # of the source
    line: int = 0
    column: int = 0


class Found(Record):
    """A place: its function's symbol (or ""), what names it after the file, and its offset in the file."""

    symbol: str
    fields: tuple[str, ...]
    offset: int


def parse_location(provider: str, text: str, *, cpp: bool) -> Location:
    """Parse the last part of an attach point. Raises a malformed `NoSuchProbeError`."""
    if not text:
        raise malformed(f"{provider} should be attached to a function and/or address")
    if text[0].isdigit() and not cpp:
        address = parse_number(text)
        if address is None:
            raise malformed(f"Invalid address: {text}")
        return Location("", address=address)
    function, *offsets = _split_signature(text) if cpp else text.split("+")
    if len(offsets) > 1:
        raise malformed("Cannot take more than one offset")
    if not offsets:
        return Location(function, cpp=cpp)
    offset = parse_number(offsets[0])
    if offset is None:
        raise malformed(f"Invalid offset: {offsets[0]}")
    if provider == "uretprobe":
        raise malformed("uretprobes cannot be attached at function offset", classic="Offset not allowed")
    if names.is_wildcard(function):
        raise malformed("Cannot use wildcards with an offset")
    return Location(function, offset, cpp=cpp)


def parse_line(provider: str, file: str, numbers: Sequence[str]) -> Location:
    """Parse LINE[:COLUMN] after a source file. Raises a malformed `NoSuchProbeError`."""
    if provider == "uretprobe":
        raise malformed("uretprobes cannot be attached to a source location")
    if not file or not 1 <= len(numbers) <= 2:
        raise malformed(f"Invalid source location: {':'.join((file, *numbers))}", f"{provider}:FILE@SOURCE:LINE:COLUMN")
    line, column = (int(number) for number in (*numbers, "0")[:2])
    return Location("", file=file, line=line, column=column)


def line_places(elf: Elf, location: Location, rows: list[tuple[int, int, int]] | None) -> list[Found]:
    """Return where a line of source begins, once in each function that has code of it. Raises `NoSuchProbeError`."""
    shown = f"{location.file}:{location.line}" + (f":{location.column}" if location.column else "")
    if rows is None:
        raise NoSuchProbeError(
            f"Could not resolve source location: {elf.path}@{shown}", f"{elf.path} has no debug information"
        )
    exact = [row for row in rows if row[0] == location.line and location.column in (0, row[1])]
    if not exact:
        later = [row[0] for row in rows if row[0] > location.line]
        hint = f"the next line with code is {min(later)}" if later else f"the debug information has no {location.file}"
        if rows and not later:
            hint = f"the last line with code is {max(row[0] for row in rows)}"
        elif any(row[0] == location.line for row in rows):
            columns = sorted({row[1] for row in rows if row[0] == location.line})
            hint = f"the line has code at columns {', '.join(map(str, columns))}"
        raise NoSuchProbeError(f"Could not resolve source location: {elf.path}@{shown}", hint)
    numbers = (str(location.line), *([str(location.column)] if location.column else []))
    found: dict[tuple[str, int], Found] = {}
    for _, _, address in sorted(exact, key=lambda row: row[2]):
        inside, offset = elf.symbols().at(address), elf.file_offset(address)
        key = (inside.name, inside.address) if inside is not None else ("", 0)
        if offset is not None and key not in found:
            found[key] = Found(key[0], numbers, offset)
    return list(found.values())


def _split_signature(text: str) -> tuple[str, ...]:
    """A C++ name may have a + of its own: ``operator+``."""
    signature, plus, offset = text.rpartition("+")
    return (signature, offset) if plus and offset[:1].isdigit() else (text,)


class Finder:
    """Finds places in one file for one provider. Raises `NoSuchProbeError`, `BadFileError`."""

    def __init__(self, provider: str, elf: Elf, *, unsafe: bool, remark: Callable[[str], None]) -> None:
        """``unsafe``: attach inside instructions too, and only ``remark`` it."""
        self._provider = provider
        self._elf = elf
        self._unsafe = unsafe
        self._remark = remark

    def find(self, location: Location) -> list[Found]:
        if location.address is not None:
            return self._at_address(location.address)
        places: dict[tuple[tuple[str, ...], int], Found] = {}
        for symbol, fields in self._named(location):
            if location.offset:
                self._check_offset(symbol, location.offset)
                fields = (*fields[:-1], f"{fields[-1]}+{location.offset}")
            offset = self._elf.file_offset(symbol.address + location.offset)
            if offset is not None:
                # Names of constructors that share their code are one place.
                places[fields, offset] = Found(symbol.name, fields, offset)
        return list(places.values())

    def _named(self, location: Location) -> Iterator[tuple[Symbol, tuple[str, ...]]]:
        symbols = self._elf.symbols()
        wanted = location.function
        if location.cpp:
            yield from cpp_functions(self._elf, wanted)
        elif names.is_wildcard(wanted):
            matches = names.matcher(wanted)
            for symbol in symbols.functions():
                shown = readable(symbol.name)
                if matches(symbol.name) or (shown != symbol.name and matches(shown)):
                    yield symbol, name_fields(symbol.name, shown)
        else:
            found = symbols.find(wanted)
            if found is not None and found.is_function:
                yield found, (wanted,)

    def _check_offset(self, symbol: Symbol, offset: int) -> None:
        where = f"{self._elf.path}:{symbol.name}+{offset}"
        if not symbol.size:
            if not self._unsafe:
                raise malformed(f"Could not determine boundary for {symbol.name} (symbol has size 0)", _UNSAFE_HINT)
            return
        if offset >= symbol.size:
            raise malformed(f"Offset outside the function bounds ('{symbol.name}' size is {symbol.size})")
        if is_boundary(self._code(symbol), offset):
            return
        if not self._unsafe:
            raise malformed(f"Could not add {self._provider} into middle of instruction: {where}", _UNSAFE_HINT)
        self._remark(f"Unsafe {self._provider} in the middle of the instruction: {where}")

    def _code(self, symbol: Symbol) -> memoryview:
        start = self._elf.file_offset(symbol.address)
        if start is None:
            raise BadFileError(self._elf.path, f"the code of {symbol.name} is not in the file")
        return self._elf.whole()[start : start + symbol.size]

    def _at_address(self, address: int) -> list[Found]:
        offset = self._elf.file_offset(address)
        if offset is None:
            return []
        inside = self._elf.symbols().at(address)
        distance = address - inside.address if inside is not None else 0
        if inside is not None and self._provider == "uretprobe" and distance:
            raise malformed(
                "uretprobes cannot be attached at function offset."
                f" (address resolved to: {readable(inside.name)}+{distance})"
            )
        if inside is not None and distance:
            self._check_offset(inside, distance)
        if inside is None and not self._unsafe:
            raise malformed(
                f"Could not determine instruction boundary for {self._provider}:{self._elf.path}:0x{address:x}"
                " (binary appears stripped)",
                _UNSAFE_HINT,
            )
        return [Found(inside.name if inside is not None else "", (f"0x{address:x}",), offset)]


def cpp_functions(elf: Elf, wanted: str) -> Iterator[tuple[Symbol, tuple[str, ...]]]:
    """Yield the functions that a C++ signature means: all of a name if it has no parameters, or a pattern."""
    wildcard = names.is_wildcard(wanted)
    matches = names.matcher(wanted)
    plain = wanted.replace(" ", "")
    for symbol in elf.symbols().functions():
        if not symbol.name.startswith("_Z"):
            continue
        shown = readable(symbol.name)
        if shown == symbol.name:
            continue
        if wildcard:
            chosen = matches(shown) or matches(function_name(shown))
        else:
            forms = (shown, _without_result(shown), _without_result(shown).replace(*_STRING), function_name(shown))
            chosen = plain in (form.replace(" ", "") for form in forms)
        if chosen:
            yield symbol, name_fields(symbol.name, shown)


def near_signatures(wanted: str, known: Collection[str]) -> str | None:
    """Return the hint for a C++ function that is not there: those that have its name, or a name that is near."""
    name = wanted.partition("(")[0].strip()
    same = [each for each in known if f"::{function_name(each)}".endswith(f"::{name}")]
    if not same:
        return names.did_you_mean(name, map(function_name, known))
    shown = sorted(same, key=lambda each: (len(each), each))[:_SHOWN]
    more = f" (and {len(same) - _SHOWN} more)" if len(same) > _SHOWN else ""
    return f"there is {' and '.join(shown)}{more}"


def name_fields(symbol: str, shown: str) -> tuple[str, ...]:
    """Return what names a function in a probe's name, after the file."""
    return (symbol,) if shown == symbol else ("cpp", f'"{shown}"')


def function_name(signature: str) -> str:
    """Return a C++ function's qualified name: ``ns::f`` of ``int ns::f(int) const``."""
    if signature.endswith("]"):  # a clone is another function
        return signature
    end = signature.rfind(")")
    depth = 0
    for at in range(end, -1, -1):
        depth += (signature[at] == ")") - (signature[at] == "(")
        if not depth:
            return _without_result(signature[:at])
    return signature


def _without_result(signature: str) -> str:
    """Return a signature without the type in front of it, which those of templates have."""
    depth = 0
    begin = 0
    for at, character in enumerate(signature):
        if character in "(<":
            if depth == 0 and character == "(" and at > begin:
                break
            depth += 1
        elif character in ")>":
            depth = max(depth - 1, 0)
        elif character == " " and not depth:
            if signature[begin:at].endswith("operator"):
                break
            begin = at + 1
    return signature[begin:]
