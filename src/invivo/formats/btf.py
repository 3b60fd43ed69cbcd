"""BTF, the kernel's description of its types, read lazily.

The format is Documentation/bpf/btf.rst and include/uapi/linux/btf.h in the kernel's tree.  A kernel
has more than 100,000 types, and a trace needs a handful: a type is found by searching the strings
for its name and the types for the name's offset.  Types have no index: the number of a type is its
place in the sequence, so the starts of types are noted while walking, and only as far as needed.
"""

from __future__ import annotations

import struct
from array import array
from bisect import bisect_left
from collections.abc import Iterator
from enum import IntEnum
from typing import Final

from invivo.errors import BadFileError
from invivo.formats.buffer import Buffer, searchable
from invivo.record import Record

_HEADER: Final = struct.Struct("<HBBIIIII")  # magic, version, flags, hdr_len, type_off/len, str_off/len
_MAGIC: Final = 0xEB9F
_WORDS: Final = struct.Struct("<III")  # struct btf_type: name_off, info, size or type
_PAIR: Final = struct.Struct("<II")  # struct btf_param
_ENUM: Final = struct.Struct("<Ii")
_ENUM64: Final = struct.Struct("<III")
_MEMBER: Final = struct.Struct("<III")  # struct btf_member: name_off, type, offset

_MAX_DEPTH: Final = 32  # of a chain of typedefs, const and volatile: the kernel's own limit
_MAX_ANONYMOUS: Final = 256  # anonymous structs in one struct; the kernel has some 30
_INFO_UNUSED: Final = 0x60FF0000  # bits of btf_type.info that are always zero


class BtfKind(IntEnum):
    """``BTF_KIND_*``."""

    INT = 1
    PTR = 2
    ARRAY = 3
    STRUCT = 4
    UNION = 5
    ENUM = 6
    FWD = 7
    TYPEDEF = 8
    VOLATILE = 9
    CONST = 10
    RESTRICT = 11
    FUNC = 12
    FUNC_PROTO = 13
    VAR = 14
    DATASEC = 15
    FLOAT = 16
    DECL_TAG = 17
    TYPE_TAG = 18
    ENUM64 = 19


_MODIFIERS: Final = frozenset({BtfKind.TYPEDEF, BtfKind.VOLATILE, BtfKind.CONST, BtfKind.RESTRICT, BtfKind.TYPE_TAG})

# Words that follow a type's first three: (always, for each of its vlen entries).
_EXTRA_WORDS: Final[dict[int, tuple[int, int]]] = {
    BtfKind.INT: (1, 0),
    BtfKind.PTR: (0, 0),
    BtfKind.ARRAY: (3, 0),
    BtfKind.STRUCT: (0, 3),
    BtfKind.UNION: (0, 3),
    BtfKind.ENUM: (0, 2),
    BtfKind.FWD: (0, 0),
    BtfKind.TYPEDEF: (0, 0),
    BtfKind.VOLATILE: (0, 0),
    BtfKind.CONST: (0, 0),
    BtfKind.RESTRICT: (0, 0),
    BtfKind.FUNC: (0, 0),
    BtfKind.FUNC_PROTO: (0, 2),
    BtfKind.VAR: (1, 0),
    BtfKind.DATASEC: (0, 3),
    BtfKind.FLOAT: (0, 0),
    BtfKind.DECL_TAG: (1, 0),
    BtfKind.TYPE_TAG: (0, 0),
    BtfKind.ENUM64: (0, 3),
}


class BtfMember(Record):
    """A field of a struct or union. ``bit_size`` is 0 unless it is a bitfield."""

    name: str
    type: int
    bit_offset: int
    bit_size: int = 0


class BtfParameter(Record):
    """A function's parameter; the last of a variadic function has no name and type 0."""

    name: str
    type: int


class BtfType(Record):
    """A type; which fields count depends on its kind.

    ``size`` in bytes: INT, FLOAT, STRUCT, UNION, ENUM, ENUM64, DATASEC.  ``target`` is the type that
    is pointed to, aliased, qualified, an element, a result, or a variable's.  Type 0 is void.
    """

    id: int
    kind: BtfKind
    name: str
    size: int = 0
    target: int = 0
    members: tuple[BtfMember, ...] = ()  # STRUCT, UNION
    parameters: tuple[BtfParameter, ...] = ()  # FUNC_PROTO
    values: tuple[tuple[str, int], ...] = ()  # ENUM, ENUM64
    count: int = 0  # ARRAY: elements
    index: int = 0  # ARRAY: type of the index
    bits: int = 0  # INT
    signed: bool = False  # INT, ENUM, ENUM64
    boolean: bool = False  # INT
    flag: bool = False  # kind_flag: a FWD of a union
    linkage: int = 0  # FUNC: BTF_FUNC_*; VAR: BTF_VAR_*
    component: int = -1  # DECL_TAG: index of the member or parameter, -1 the type itself


class _Sizes(dict[int, int]):
    """btf_type.info -> how many words the type takes; a kernel has some 700 different ones."""

    def __missing__(self, info: int) -> int:
        extra = _EXTRA_WORDS.get(info >> 24 & 31)
        if extra is None or info & _INFO_UNUSED:
            raise _MalformedError
        size = self[info] = 3 + extra[0] + extra[1] * (info & 0xFFFF)
        return size


class _MalformedError(Exception):
    """A word that cannot be a btf_type.info."""


class Btf:
    """The types in a BTF blob. ``base``: the kernel's, if this is a module's.

    The buffer has to stay as it is while the reader is used.
    """

    def __init__(self, data: Buffer, path: str = "", base: Btf | None = None) -> None:
        """Raises `BadFileError`, as every method does on data that is not BTF."""
        self.path = path
        self._base = base
        self._data = searchable(data)
        if len(self._data) < _HEADER.size:
            raise BadFileError(path, f"{len(self._data)} bytes are too few for BTF")
        magic, version, _, header, types, types_size, strings, strings_size = _HEADER.unpack_from(self._data)
        if magic != _MAGIC:
            raise BadFileError(path, f"magic number is {magic:#06x}, expected {_MAGIC:#06x}")
        if version != 1:
            raise BadFileError(path, f"BTF version is {version}, expected 1", 2)
        if header < _HEADER.size:
            raise BadFileError(path, f"header of {header} bytes is too short", 4)
        self._types = header + types
        self._types_end = self._types + types_size
        self._strings = header + strings
        self._strings_end = self._strings + strings_size
        if max(self._types_end, self._strings_end) > len(self._data) or self._types % 4 or types_size % 4:
            raise BadFileError(path, "sections do not lie inside the file", 8)
        if strings_size and self._data[self._strings_end - 1]:
            raise BadFileError(path, "last string has no end", self._strings_end - 1)
        self._words = memoryview(self._data)[self._types : self._types_end].cast("I")
        # Strings and types of a module continue those of the kernel.
        self._first_string = base.strings_end if base is not None else 0
        self._first_id = base.count() if base is not None else 1
        # Word index of each type from _first_id on, as far as walked; _walked is the next one's.
        self._starts = array("I")
        self._walked = 0
        self._sizes = _Sizes()

    @property
    def strings_end(self) -> int:
        """The string offset at which the strings of a module that builds upon this begin."""
        size: int = self._strings_end - self._strings
        return self._first_string + size

    def count(self) -> int:
        """Return the number after the last type's. Walks through all types."""
        self._walk_to(len(self._words))
        return self._first_id + len(self._starts)

    def find(self, kind: BtfKind, name: str) -> int | None:
        """Return the number of the first type of a kind and name; None if there is none.

        Searches for bytes and walks from the start to the type: under 1 ms for most.
        """
        for at in self._candidates(kind, name):
            found = self._id_at(at)
            if found is not None:
                return found
        return self._base.find(kind, name) if self._base is not None else None

    def contains(self, kind: BtfKind, name: str) -> bool:
        """Whether there seems to be a type of a kind and name, without walking to it.

        The same bytes inside another type could deceive it, which no kernel was seen to do.
        """
        found = next(self._candidates(kind, name), None) is not None
        return found or (self._base is not None and self._base.contains(kind, name))

    def has_name(self, name: str) -> bool:
        """Whether anything has a name, of whatever kind: a search of the strings alone, half the time of `contains`."""
        return bool(self._string_offsets(name))

    def names(self, kind: BtfKind, prefix: str = "") -> list[tuple[str, int]]:
        """Return names and numbers of all types of a kind, in the order of numbers; anonymous ones left out."""
        found = self._base.names(kind, prefix) if self._base is not None else []
        self._walk_to(len(self._words))
        words = self._words
        for number, at in enumerate(self._starts, self._first_id):
            if words[at + 1] >> 24 & 31 == kind and words[at]:
                name = self._string(words[at])
                if name.startswith(prefix):
                    found.append((name, number))
        return found

    def kind(self, type_id: int) -> BtfKind:
        """Return a type's kind, without reading the rest of it."""
        if self._base is not None and type_id < self._first_id:
            return self._base.kind(type_id)
        return BtfKind(self._words[self._start(type_id) + 1] >> 24 & 31)

    def type(self, type_id: int) -> BtfType:
        """Return a type by number; type 0, void, is none."""
        if self._base is not None and type_id < self._first_id:
            return self._base.type(type_id)
        at = self._start(type_id)
        name_offset, info, third = self._words[at], self._words[at + 1], self._words[at + 2]
        return self._decode(type_id, at + 3, self._string(name_offset), info, third)

    def strip(self, type_id: int) -> int:
        """Return the type beneath typedefs, const, volatile, restrict and type tags."""
        for _ in range(_MAX_DEPTH):
            if type_id == 0 or self.kind(type_id) not in _MODIFIERS:
                return type_id
            type_id = self.target(type_id)
        raise BadFileError(self.path, f"type {type_id} is an endless chain of typedefs")

    def target(self, type_id: int) -> int:
        """Return what a PTR, TYPEDEF, CONST ... refers to, without reading the rest."""
        if self._base is not None and type_id < self._first_id:
            return self._base.target(type_id)
        return self._words[self._start(type_id) + 2]

    def size(self, type_id: int) -> int:
        """Return the bytes of a STRUCT, UNION, INT, ENUM ..., without reading the rest."""
        return self.target(type_id)  # one word with two meanings, as the kernel's `struct btf_type` has it

    def member(self, type_id: int, name: str) -> BtfMember | None:
        """Return a field of a struct or union by name, also out of anonymous ones inside it.

        ``bit_offset`` counts from the start of the outer struct.  Reads no other member's type.
        """
        return self._member(type_id, name.encode() + b"\0", 0, set())

    def enumerator(self, name: str) -> tuple[int, int] | None:
        """Return the number of the enum that has a constant of this name, and its value."""
        for offset in self._string_offsets(name):
            for at in self._matching_words(offset):
                self._walk_to(at + 1)
                place = bisect_left(self._starts, at + 1) - 1
                if place < 0:
                    continue
                start = self._starts[place]
                kind = self._words[start + 1] >> 24 & 31
                step = {BtfKind.ENUM: 2, BtfKind.ENUM64: 3}.get(BtfKind(kind))
                if step and at >= start + 3 and (at - start - 3) % step == 0:
                    number = self._first_id + place
                    return number, self.type(number).values[(at - start - 3) // step][1]
        return self._base.enumerator(name) if self._base is not None else None

    def _member(self, type_id: int, wanted: bytes, base_bits: int, searched: set[int]) -> BtfMember | None:
        """``searched``: the structs that were looked into, or are being so."""
        if self._base is not None and type_id < self._first_id:
            return self._base._member(type_id, wanted, base_bits, searched)
        at = self._start(type_id)
        info = self._words[at + 1]
        if info >> 24 & 31 not in (BtfKind.STRUCT, BtfKind.UNION) or type_id in searched:
            return None
        searched.add(type_id)
        if len(searched) > _MAX_ANONYMOUS:
            raise BadFileError(self.path, f"type {type_id} is nested too deeply")
        entries = self._entries(at + 3, info & 0xFFFF, 3)
        for name_offset, member_type, place in _MEMBER.iter_unpack(entries):
            bits = place & 0xFFFFFF if info >> 31 else place
            if not name_offset:
                inner = self._member(self.strip(member_type), wanted, base_bits + bits, searched)
                if inner is not None:
                    return inner
            elif self._string_is(name_offset, wanted):
                size = place >> 24 if info >> 31 else 0
                return BtfMember(wanted[:-1].decode(), member_type, base_bits + bits, size)
        return None

    def _decode(self, type_id: int, at: int, name: str, info: int, third: int) -> BtfType:
        kind, vlen, flag = BtfKind(info >> 24 & 31), info & 0xFFFF, bool(info >> 31)
        match kind:
            case BtfKind.STRUCT | BtfKind.UNION:
                members = self._members(at, vlen, flag)
                return BtfType(type_id, kind, name, size=third, members=members)
            case BtfKind.INT:
                word = self._words[at]
                encoding = word >> 24 & 15
                return BtfType(
                    type_id,
                    kind,
                    name,
                    size=third,
                    bits=word & 0xFF,
                    signed=bool(encoding & 1),
                    boolean=bool(encoding & 4),
                )
            case BtfKind.ARRAY:
                element, index, count = self._words[at : at + 3].tolist()
                return BtfType(type_id, kind, name, target=element, index=index, count=count)
            case BtfKind.ENUM | BtfKind.ENUM64:
                values = self._values(at, vlen, wide=kind is BtfKind.ENUM64, signed=flag)
                return BtfType(type_id, kind, name, size=third, values=values, signed=flag)
            case BtfKind.FUNC_PROTO:
                pairs = _PAIR.iter_unpack(self._entries(at, vlen, 2))
                parameters = tuple(BtfParameter(self._string(offset), each) for offset, each in pairs)
                return BtfType(type_id, kind, name, target=third, parameters=parameters)
            case BtfKind.FUNC:
                return BtfType(type_id, kind, name, target=third, linkage=vlen)
            case BtfKind.VAR:
                return BtfType(type_id, kind, name, target=third, linkage=self._words[at])
            case BtfKind.DECL_TAG:
                component = self._words[at]
                component = component - (1 << 32) if component >> 31 else component
                return BtfType(type_id, kind, name, target=third, component=component)
            case BtfKind.FLOAT | BtfKind.DATASEC:
                return BtfType(type_id, kind, name, size=third)
            case BtfKind.FWD:
                return BtfType(type_id, kind, name, flag=flag)
            case _:
                return BtfType(type_id, kind, name, target=third)

    def _members(self, at: int, count: int, bitfields: bool) -> tuple[BtfMember, ...]:
        entries = _MEMBER.iter_unpack(self._entries(at, count, 3))
        string = self._string
        if bitfields:
            return tuple(
                BtfMember(string(offset), each, place & 0xFFFFFF, place >> 24) for offset, each, place in entries
            )
        return tuple(BtfMember(string(offset), each, place) for offset, each, place in entries)

    def _values(self, at: int, count: int, *, wide: bool, signed: bool) -> tuple[tuple[str, int], ...]:
        string = self._string
        if not wide:
            mask = -1 if signed else 0xFFFFFFFF
            pairs = _ENUM.iter_unpack(self._entries(at, count, 2))
            return tuple((string(offset), value & mask) for offset, value in pairs)
        top = 1 << 63 if signed else 0
        entries = _ENUM64.iter_unpack(self._entries(at, count, 3))
        # The xor and the subtraction extend the sign.
        return tuple((string(offset), ((high << 32 | low) ^ top) - top) for offset, low, high in entries)

    def _entries(self, at: int, count: int, words: int) -> memoryview:
        """Return the bytes of a type's entries, which `_walk_to` has found to be inside the section."""
        start = self._types + at * 4
        return memoryview(self._data)[start : start + count * words * 4]

    def _string(self, offset: int) -> str:
        if offset < self._first_string and self._base is not None:
            return self._base._string(offset)
        start = self._strings + offset - self._first_string
        if not self._strings <= start < self._strings_end:
            raise BadFileError(self.path, f"string offset {offset} is beyond the strings")
        return self._data[start : self._data.find(b"\0", start)].decode(errors="replace")

    def _string_is(self, offset: int, wanted: bytes) -> bool:
        """Whether a string is this one (with its zero byte)."""
        if offset < self._first_string and self._base is not None:
            return self._base._string_is(offset, wanted)
        start = self._strings + offset - self._first_string
        return start >= self._strings and self._data[start : start + len(wanted)] == wanted

    def _string_offsets(self, name: str) -> list[int]:
        """Return where a string is, in this file's strings and in its base's; no string is there twice."""
        found = self._base._string_offsets(name) if self._base is not None else []
        at = self._data.find(b"\0" + name.encode() + b"\0", self._strings, self._strings_end)
        if at >= 0 and name:
            found.append(self._first_string + at + 1 - self._strings)
        return found

    def _matching_words(self, value: int) -> Iterator[int]:
        """Return the indices of the words in the type section that have a value."""
        pattern = struct.pack("<I", value)
        at = self._data.find(pattern, self._types, self._types_end)
        while at >= 0:
            if (at - self._types) % 4 == 0:
                yield (at - self._types) // 4
            at = self._data.find(pattern, at + 1, self._types_end)

    def _candidates(self, kind: BtfKind, name: str) -> Iterator[int]:
        """Return the word indices at which a type of a kind and name may start."""
        for offset in self._string_offsets(name):
            for at in self._matching_words(offset):
                if at + 2 < len(self._words):
                    info = self._words[at + 1]
                    if info >> 24 & 31 == kind and not info & _INFO_UNUSED:
                        yield at

    def _id_at(self, at: int) -> int | None:
        """Return the number of the type that starts at a word; None if none does."""
        self._walk_to(at + 1)
        place = bisect_left(self._starts, at)
        if place < len(self._starts) and self._starts[place] == at:
            return self._first_id + place
        return None

    def _start(self, type_id: int) -> int:
        """Return the word index of a type."""
        place = type_id - self._first_id
        if place >= len(self._starts):
            self._walk_count(place + 1)
        if not 0 <= place < len(self._starts):
            raise BadFileError(self.path, f"there is no type {type_id}")
        return self._starts[place]

    def _walk_to(self, end: int) -> None:
        """Note the starts of all types that begin before a word."""
        at, words, sizes, note = self._walked, self._words, self._sizes, self._starts.append
        try:
            while at < end:
                following = at + sizes[words[at + 1]]
                note(at)
                at = following
        except (IndexError, _MalformedError):
            raise self._malformed(at) from None
        finally:
            self._walked = at
        self._check_end()

    def _walk_count(self, count: int) -> None:
        """Note the starts of the first so many types, or of all if there are fewer."""
        at, words, sizes, note = self._walked, self._words, self._sizes, self._starts.append
        end = len(words)
        try:
            for _ in range(count - len(self._starts)):
                if at >= end:
                    break
                following = at + sizes[words[at + 1]]
                note(at)
                at = following
        except (IndexError, _MalformedError):
            raise self._malformed(at) from None
        finally:
            self._walked = at
        self._check_end()

    def _check_end(self) -> None:
        if self._walked > len(self._words):
            # The last type's entries would lie outside.
            self._walked = self._starts.pop()
            raise self._malformed(self._walked)

    def _malformed(self, at: int) -> BadFileError:
        number = self._first_id + len(self._starts)
        return BadFileError(self.path, f"type {number} is malformed", self._types + at * 4)
