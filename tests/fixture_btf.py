"""A writer of BTF for tests: types are added one by one and get the next id (Documentation/bpf/btf.rst)."""

from __future__ import annotations

import struct
from collections.abc import Sequence

_MAGIC = 0xEB9F
_HEADER = struct.Struct("<HBBIIIII")
_INT, _PTR, _ARRAY, _STRUCT, _UNION, _ENUM, _FWD, _TYPEDEF, _VOLATILE, _CONST = range(1, 11)
_FUNC, _FUNC_PROTO, _VAR = 12, 13, 14
_TYPE_TAG, _ENUM64 = 18, 19


class BtfBuilder:
    """Collects types. Id 0 is void."""

    def __init__(self) -> None:
        self._types = bytearray()
        self._strings = bytearray(b"\0")
        self._starts: list[int] = []

    def data(self) -> bytes:
        """Return the whole BTF: a header, the types, the strings."""
        header = _HEADER.pack(_MAGIC, 1, 0, _HEADER.size, 0, len(self._types), len(self._types), len(self._strings))
        return header + bytes(self._types) + bytes(self._strings)

    def integer(self, name: str, size: int, *, signed: bool = False, boolean: bool = False) -> int:
        encoding = (1 if signed else 0) | (4 if boolean else 0)
        return self._add(name, _INT, 0, size, struct.pack("<I", encoding << 24 | size * 8))

    def pointer(self, target: int) -> int:
        return self._add("", _PTR, 0, target)

    def const(self, target: int) -> int:
        return self._add("", _CONST, 0, target)

    def type_tag(self, tag: str, target: int) -> int:
        return self._add(tag, _TYPE_TAG, 0, target)

    def typedef(self, name: str, target: int) -> int:
        return self._add(name, _TYPEDEF, 0, target)

    def array(self, element: int, length: int, index: int) -> int:
        return self._add("", _ARRAY, 0, 0, struct.pack("<III", element, index, length))

    def forward(self, name: str) -> int:
        return self._add(name, _FWD, 0, 0)

    def struct(self, name: str, size: int, members: Sequence[tuple[str, int, int]]) -> int:
        """Members are name, type and offset in bytes."""
        return self._compound(_STRUCT, name, size, [(member, type_id, at * 8, 0) for member, type_id, at in members])

    def union(self, name: str, size: int, members: Sequence[tuple[str, int]]) -> int:
        return self._compound(_UNION, name, size, [(member, type_id, 0, 0) for member, type_id in members])

    def bit_struct(self, name: str, size: int, members: Sequence[tuple[str, int, int, int]]) -> int:
        """Members are name, type, offset in bits, and size in bits (0: not a bitfield)."""
        return self._compound(_STRUCT, name, size, members)

    def _compound(self, kind: int, name: str, size: int, members: Sequence[tuple[str, int, int, int]]) -> int:
        bitfields = any(bits for _, _, _, bits in members)
        body = b"".join(
            struct.pack("<III", self._string(member), type_id, at | bits << 24) for member, type_id, at, bits in members
        )
        return self._add(name, kind, len(members), size, body, flag=bitfields)

    def enumeration(self, name: str, values: Sequence[tuple[str, int]], *, signed: bool = False) -> int:
        body = b"".join(struct.pack("<II", self._string(key), value & 0xFFFFFFFF) for key, value in values)
        return self._add(name, _ENUM, len(values), 4, body, flag=signed)

    def prototype(self, result: int, parameters: Sequence[tuple[str, int]]) -> int:
        body = b"".join(struct.pack("<II", self._string(name), type_id) for name, type_id in parameters)
        return self._add("", _FUNC_PROTO, len(parameters), result, body)

    def function(self, name: str, prototype: int) -> int:
        return self._add(name, _FUNC, 0, prototype)

    def variable(self, name: str, target: int) -> int:
        return self._add(name, _VAR, 0, target, struct.pack("<I", 1))

    def redirect(self, pointer: int, target: int) -> None:
        """Let a pointer, added as ``void *``, point to a type that was added after it."""
        struct.pack_into("<I", self._types, self._starts[pointer - 1] + 8, target)

    def _add(
        self, name: str, kind: int, count: int, size_or_type: int, body: bytes = b"", *, flag: bool = False
    ) -> int:
        self._starts.append(len(self._types))
        info = count | kind << 24 | int(flag) << 31
        self._types += struct.pack("<III", self._string(name), info, size_or_type) + body
        return len(self._starts)

    def _string(self, text: str) -> int:
        if not text:
            return 0
        encoded = text.encode() + b"\0"
        found = self._strings.find(b"\0" + encoded)
        if found >= 0:
            return found + 1
        self._strings += encoded
        return len(self._strings) - len(encoded)
