"""The kernel's structs, unions and enums, listed by name and shown in C."""

from __future__ import annotations

from collections.abc import Iterator

from invivo.formats.btf import Btf, BtfKind, BtfType
from invivo.probes.kernel_types import KernelTypes
from invivo.probes.names import matcher
from invivo.probes.provider import Facts

_KINDS = {
    "struct": (BtfKind.STRUCT,),
    "union": (BtfKind.UNION,),
    "enum": (BtfKind.ENUM, BtfKind.ENUM64),
}


def list_types(keyword: str, pattern: str, facts: Facts, *, verbose: bool) -> Iterator[str]:
    """Yield the types of a keyword that match a pattern, sorted; with ``verbose`` as C declares them."""
    btf = facts.btf()
    if btf is None:
        return
    matches = matcher(pattern)
    prefix = pattern.partition("*")[0]
    found = sorted({pair for kind in _KINDS[keyword] for pair in btf.names(kind, prefix) if matches(pair[0])})
    for name, type_id in found:
        yield declaration(btf, facts.types(), keyword, type_id) if verbose else f"{keyword} {name}"


def declaration(btf: Btf, types: KernelTypes, keyword: str, type_id: int) -> str:
    """A type as C declares it, one member a line."""
    described = btf.type(type_id)
    lines = [f"{keyword} {described.name} {{"]
    if keyword == "enum":
        lines += [f"        {name} = {value}," for name, value in described.values]
    else:
        lines += _members(btf, types, described)
    return "\n".join([*lines, "};"])


def _members(btf: Btf, types: KernelTypes, described: BtfType) -> Iterator[str]:
    for member in described.members:
        width = f" : {member.bit_size}" if member.bit_size else ""
        yield f"        {types.declaration(member.type, member.name)}{width};"
