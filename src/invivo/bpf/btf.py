"""BTF of our own programs: the prototypes that callbacks need to be accepted (``func_info``).

Layout: include/uapi/linux/btf.h and Documentation/bpf/btf.rst.

    header | types: name_off, info = kind << 24 | vlen, size or type, then by kind | strings
"""

from __future__ import annotations

import re
import struct
from typing import Final

from invivo.ir.ops import Function, FunctionKind, Kind

_INT: Final = 1
_PTR: Final = 2
_FUNC: Final = 12
_FUNC_PROTO: Final = 13
_STATIC: Final = 0  # BTF_FUNC_STATIC: the verifier follows calls; callbacks must be static
_GLOBAL: Final = 1
_MAGIC: Final = 0xEB9F
_SIGNED: Final = 1 << 24  # BTF_INT_SIGNED


class BtfBuilder:
    """Collects types; equal ones are written once, in the order of their first use."""

    def __init__(self) -> None:
        self._types = bytearray()
        self._strings = bytearray(b"\0")
        self._names: dict[str, int] = {"": 0}
        self._ids: dict[bytes, int] = {}

    def function(self, function: Function) -> int:
        """Add a function and its prototype; return the FUNC's type id."""
        names = _PARAMETER_NAMES.get(function.kind, "abcde")
        parameters = [
            (name, self._pointer() if value.kind is not Kind.WORD else self._integer("u64", 8, 0))
            for name, value in zip(names, function.parameters, strict=False)
        ]
        if function.kind is FunctionKind.LOOP:
            parameters[0] = ("i", self._integer("u32", 4, 0))
        packed = b"".join(struct.pack("<II", self._name(name), type_id) for name, type_id in parameters)
        returned = self._integer("long", 8, _SIGNED)
        proto = self._add("", _FUNC_PROTO, len(parameters), returned, packed)
        linkage = _GLOBAL if function.kind is FunctionKind.ENTRY else _STATIC
        return self._add(identifier(function.name), _FUNC, linkage, proto)

    def build(self) -> bytes:
        """Return the whole of it, to be loaded with BPF_BTF_LOAD; b"" if nothing was added."""
        if not self._types:
            return b""
        header = struct.pack("<HBBIIIII", _MAGIC, 1, 0, 24, 0, len(self._types), len(self._types), len(self._strings))
        return header + bytes(self._types) + bytes(self._strings)

    def _name(self, name: str) -> int:
        if name not in self._names:
            self._names[name] = len(self._strings)
            self._strings += name.encode() + b"\0"
        return self._names[name]

    def _add(self, name: str, kind: int, length: int, size_or_type: int, more: bytes = b"") -> int:
        entry = struct.pack("<III", self._name(name), kind << 24 | length, size_or_type) + more
        if entry not in self._ids:
            self._ids[entry] = len(self._ids) + 1
            self._types += entry
        return self._ids[entry]

    def _integer(self, name: str, size: int, encoding: int) -> int:
        return self._add(name, _INT, 0, size, struct.pack("<I", encoding | size * 8))

    def _pointer(self) -> int:
        return self._add("", _PTR, 0, 0)


_PARAMETER_NAMES: Final = {
    FunctionKind.ENTRY: ("ctx",),
    FunctionKind.LOOP: ("i", "captures"),
    FunctionKind.EACH: ("map", "key", "value", "captures"),
}


def identifier(name: str) -> str:
    """Return a name as the kernel takes it for a function: a C identifier."""
    plain = re.sub(r"\W", "_", name, flags=re.ASCII)
    return plain if plain[:1].isalpha() or plain[:1] == "_" else f"_{plain}"
