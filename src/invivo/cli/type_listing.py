"""The kernel's structs, unions and enums, listed by name and shown in C."""

from __future__ import annotations

from collections.abc import Iterator

from invivo.formats.btf import Btf, BtfKind, BtfMember, BtfType
from invivo.probes.kernel_types import KernelTypes
from invivo.probes.names import did_you_mean, matcher
from invivo.probes.provider import Facts

_INDENT = " " * 8
_KINDS = {
    "struct": (BtfKind.STRUCT,),
    "union": (BtfKind.UNION,),
    "enum": (BtfKind.ENUM, BtfKind.ENUM64),
}
_COMPOUND = tuple(kind for kinds in _KINDS.values() for kind in kinds)
_AROUND = (BtfKind.ARRAY, BtfKind.PTR, BtfKind.CONST, BtfKind.VOLATILE, BtfKind.RESTRICT, BtfKind.TYPE_TAG)


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


def nearest_type(keyword: str, name: str, facts: Facts) -> str | None:
    """Return the hint for a type that does not exist, if one's name is near."""
    btf = facts.btf()
    if btf is None:
        return "the kernel was built without types (CONFIG_DEBUG_INFO_BTF)"
    return did_you_mean(name, {own for kind in _KINDS[keyword] for own, _ in btf.names(kind)})


def declaration(btf: Btf, types: KernelTypes, keyword: str, type_id: int) -> str:
    """A type as C declares it, one member a line."""
    described = btf.type(type_id)
    return f"{keyword} {described.name} {_body(btf, types, described, _INDENT)};"


def _body(btf: Btf, types: KernelTypes, described: BtfType, indent: str) -> str:
    """What a type consists of, in braces; ``indent`` is that of its members."""
    if described.kind in _KINDS["enum"]:
        lines = [f"{name} = {value}," for name, value in described.values]
    else:
        lines = [_member(btf, types, member, indent) for member in described.members]
    return "\n".join(["{", *(indent + line for line in lines), indent.removesuffix(_INDENT) + "}"])


def _member(btf: Btf, types: KernelTypes, member: BtfMember, indent: str) -> str:
    width = f" : {member.bit_size}" if member.bit_size else ""
    declared = types.declaration(member.type, member.name)
    nameless = _nameless(btf, member.type)
    if nameless is not None:
        declared = declared.replace("{...}", _body(btf, types, nameless, indent + _INDENT), 1)
    return f"{declared}{width};"


def _nameless(btf: Btf, type_id: int) -> BtfType | None:
    """The struct, union or enum without a name that a member is, is an array of, or points to."""
    described = btf.type(type_id) if type_id else None
    while described is not None and described.kind in _AROUND:
        described = btf.type(described.target) if described.target else None
    is_nameless = described is not None and described.kind in _COMPOUND and not described.name
    return described if is_nameless else None
