"""Strings, buffers and bytes of the traced memory."""

from __future__ import annotations

from invivo.diagnostics import Code
from invivo.ir import types as t
from invivo.ir.ops import CompareOp, Operand
from invivo.ir.types import Type
from invivo.library.access import common_alignment, guard_string, read_helper, read_string_helper
from invivo.library.record import Builtin, Emit, Place, Site
from invivo.library.spelling import spell, spell_kind


def _is_address(type_: Type) -> bool:
    return isinstance(type_, t.Int | t.Pointer)


# -- str ---------------------------------------------------------------------------------------


def _check_str(site: Site) -> Type:
    source = site.type(0)
    limit = site.config.max_strlen
    if site.arity == 2:
        limit = check_length(site, limit)
    if isinstance(source, t.String | t.ProbeName):
        return t.String(min(source.capacity, limit)) if isinstance(source, t.String) else t.String(limit)
    text = site.text(0)
    if text is not None and _is_address(source):
        return t.String(min(len(text) + 1, limit))  # str($1), whatever number that is
    if not _is_address(source):
        if isinstance(source, t.Array) and t.size_bytes(source.element) == 1:
            return t.String(min(source.length + 1, limit))
        site.error(
            Code.BAD_ARGUMENT,
            f"str() expects a string, integer or a pointer type as first argument ({spell(source)} provided)",
            argument=0,
        )
    return t.String(limit)


def check_length(site: Site, limit: int) -> int:
    """The capacity that a length argument asks for: one more than the characters wanted."""
    length = site.literal(1)
    if not isinstance(site.type(1), t.Int):
        site.error(
            Code.BAD_ARGUMENT,
            f"{site.name}() only supports int arguments ({spell_kind(site.type(1))} provided)",
            argument=1,
        )
    if isinstance(length, int):
        if length < 0:
            site.error(Code.BAD_ARGUMENT, f"{site.name}() cannot use negative length ({length})", argument=1)
            return limit
        if length >= limit:
            site.warning(
                Code.LIMIT,
                f"length param ({length}) is too long and will be shortened to {limit} bytes (see BPFTRACE_MAX_STRLEN)",
                "raise config max_strlen",
                argument=1,
            )
        return min(limit, length + 1)
    return limit


def _lower_str(emit: Emit, place: Place | None) -> None:
    assert place is not None and isinstance(emit.result, t.String)
    source = emit.type(0)
    if isinstance(source, t.String | t.ProbeName) or emit.text(0) is not None:
        emit.into_string(0, place, emit.result.capacity)
        return
    if isinstance(source, t.Array):
        held = emit.address(0)
        size = min(source.length, emit.result.capacity - 1)
        emit.b.copy(place.pointer, place.offset, held.pointer, held.offset, size, 1)
        emit.b.store(place.pointer, place.offset + size, 1, 0)
        return
    capacity: Operand = emit.result.capacity
    if emit.arity == 2 and emit.literal(1) is None:
        # One byte more for the terminator; at most the whole capacity.
        capacity = emit.clamp(emit.b.add(emit.word(1), 1), 1, emit.result.capacity)
    target = emit.b.offset(place.pointer, place.offset)
    code = emit.b.call(read_string_helper(emit.space(0)), target, capacity, emit.word(0))
    guard_string(emit, code, place, emit.result.capacity)


# -- buf ---------------------------------------------------------------------------------------


def _check_buf(site: Site) -> Type:
    source = site.type(0)
    limit = max(1, site.config.max_strlen - 4)
    in_memory = isinstance(source, t.Array | t.String)
    if not in_memory and not _is_address(source):
        site.error(
            Code.BAD_ARGUMENT,
            f"buf() expects an integer, string, or array argument but saw {spell_kind(source)}",
            argument=0,
        )
    elif site.arity == 2:
        return t.Buffer(_check_size(site, limit))
    elif in_memory:
        return t.Buffer(t.size_bytes(source))
    else:
        what = f"buf() expects a length argument for non-array type {spell_kind(source)}"
        site.error(Code.BAD_ARGUMENT, what, "buf(address, length)")
    return t.Buffer(limit)


def _check_size(site: Site, limit: int) -> int:
    """The capacity that a number of bytes asks for."""
    size = site.literal(1)
    if not isinstance(site.type(1), t.Int):
        site.error(
            Code.BAD_ARGUMENT, f"buf() only supports int arguments ({spell_kind(site.type(1))} provided)", argument=1
        )
    if not isinstance(size, int):
        return limit
    if size < 0:
        site.error(Code.BAD_ARGUMENT, f"buf() cannot use negative length ({size})", argument=1)
    if size > limit:
        site.warning(
            Code.LIMIT,
            f"length param ({size}) is too long and will be shortened to {limit} bytes (see BPFTRACE_MAX_STRLEN)",
            "raise config max_strlen",
            argument=1,
        )
    return max(0, min(limit, size))


def _lower_buf(emit: Emit, place: Place | None) -> None:
    assert place is not None and isinstance(emit.result, t.Buffer)
    capacity = emit.result.capacity
    length: Operand = capacity
    if emit.arity == 2 and emit.literal(1) is None:
        length = emit.clamp(emit.word(1), 0, capacity)
    source = emit.type(0)
    emit.b.store(place.pointer, place.offset, 4, length)
    if isinstance(source, t.Array | t.String):
        held = emit.address(0)
        size = min(capacity, t.size_bytes(source))
        emit.b.copy(place.pointer, place.offset + 4, held.pointer, held.offset, size, 1)
        return
    target = emit.b.offset(place.pointer, place.offset + 4)
    emit.fault_guard(emit.b.call(read_helper(emit.space(0)), target, length, emit.word(0)))


# -- comparison and length ---------------------------------------------------------------------


def _check_text(site: Site, index: int) -> None:
    if not isinstance(site.type(index), t.String | t.Array | t.ProbeName):
        found = site.type(index)
        site.error(
            Code.BAD_ARGUMENT,
            f"{site.name}() expects a string ('{spell(found)}' provided)",
            "str() makes one of an address" if _is_address(found) else None,
            index,
        )


def _check_strncmp(site: Site) -> Type:
    _check_text(site, 0)
    _check_text(site, 1)
    length = site.literal(2)
    if not isinstance(length, int) or length < 0:
        site.error(Code.BAD_ARGUMENT, "Builtin strncmp requires a non-negative literal", argument=2)
    return t.UINT64


def _lower_strncmp(emit: Emit, place: Place | None) -> Operand:
    length = emit.literal(2)
    assert isinstance(length, int)
    return emit.compare_strings(0, 1, length)


# -- bytes -------------------------------------------------------------------------------------

_MAC_BYTES = 6


def _check_mac(site: Site) -> Type:
    source = site.type(0)
    if isinstance(site.literal(0), str):
        site.error(Code.BAD_ARGUMENT, "macaddr() does not support literal string arguments", argument=0)
    elif isinstance(source, t.Array | t.String):
        if t.size_bytes(source) < _MAC_BYTES:
            site.error(Code.BAD_ARGUMENT, "macaddr() argument must be at least 6 bytes in size", argument=0)
    elif not _is_address(source):
        what = f"macaddr() only supports array or pointer arguments ({spell_kind(source)} provided)"
        site.error(Code.BAD_ARGUMENT, what, argument=0)
    return t.MacAddress()


def _lower_mac(emit: Emit, place: Place | None) -> None:
    assert place is not None
    if isinstance(emit.type(0), t.Array | t.String):
        held = emit.address(0)
        emit.b.copy(place.pointer, place.offset, held.pointer, held.offset, _MAC_BYTES, 1)
        return
    target = emit.b.offset(place.pointer, place.offset)
    emit.fault_guard(emit.b.call(read_helper(emit.space(0)), target, _MAC_BYTES, emit.word(0)))


_AF_INET, _AF_INET6 = 2, 10  # include/linux/socket.h


def _check_ntop(site: Site) -> Type:
    address = site.arity - 1
    source = site.type(address)
    size = t.size_bytes(source) if isinstance(source, t.Array | t.String) else 0
    if isinstance(source, t.Array | t.String):
        if size not in (4, 16):
            site.error(Code.BAD_ARGUMENT, "ntop() argument must be 4 or 16 bytes in size", argument=address)
    elif not isinstance(source, t.Int | t.Enumeration):
        what = f"ntop() expects an integer or array argument, got {spell_kind(source)}"
        site.error(Code.BAD_ARGUMENT, what, argument=address)
    if address and not isinstance(site.type(0), t.Int):
        site.error(
            Code.BAD_ARGUMENT,
            f"ntop() only supports int arguments ({spell_kind(site.type(0))} provided)",
            "AF_INET is 2, AF_INET6 is 10",
            0,
        )
    return t.Inet()


def _lower_ntop(emit: Emit, place: Place | None) -> None:
    assert place is not None
    b = emit.b
    address = emit.arity - 1
    source = emit.type(address)
    size = t.size_bytes(source) if isinstance(source, t.Array | t.String) else 4
    b.zero(place.pointer, place.offset, 20, 4)
    if isinstance(source, t.Array | t.String):
        held = emit.address(address)
        b.copy(place.pointer, place.offset + 4, held.pointer, held.offset, size, 1)
    else:
        b.store(place.pointer, place.offset + 4, 4, emit.word(address))
    family: Operand = 6 if size == 16 else 4
    if emit.arity == 2:
        is_six = b.compare(CompareOp.EQ, emit.word(0), _AF_INET6)
        family = b.add(b.shift_left(is_six, 1), 4)
    b.store(place.pointer, place.offset, 4, family)


def _address_bytes(text: str) -> bytes | None:
    """The bytes of an IPv4 or IPv6 address; None if it is none."""
    from socket import AF_INET, AF_INET6, inet_pton  # 2 ms that only programs with addresses need

    try:
        return inet_pton(AF_INET if "." in text and ":" not in text else AF_INET6, text)
    except (OSError, ValueError):
        return None


def _check_pton(site: Site) -> Type:
    text = site.literal(0)
    if not isinstance(text, str):
        site.error(Code.BAD_ARGUMENT, "pton() expects an string literal at the first argument", argument=0)
        return t.Array(t.UINT8, 4)
    packed = _address_bytes(text)
    if "." not in text and ":" not in text:
        what = f"pton() expects an string argument of an IPv4/IPv6 address, got {text}"
        site.error(Code.BAD_ARGUMENT, what, argument=0)
        return t.Array(t.UINT8, 4)
    if packed is None:
        site.error(Code.BAD_ARGUMENT, f"pton() expects a valid IPv4/IPv6 address, got {text}", argument=0)
        return t.Array(t.UINT8, 16 if ":" in text else 4)
    return t.Array(t.UINT8, len(packed))


def _lower_pton(emit: Emit, place: Place | None) -> None:
    assert place is not None
    packed = _address_bytes(str(emit.literal(0)))
    assert packed is not None
    emit.b.copy(place.pointer, place.offset, emit.data(packed), 0, len(packed), common_alignment(place.offset, 4))


def _check_bswap(site: Site) -> Type:
    source = site.type(0)
    if not isinstance(source, t.Int):
        site.error(
            Code.BAD_ARGUMENT, f"bswap() only supports integer arguments ({spell_kind(source)} provided)", argument=0
        )
        return t.UINT64
    return t.Int(source.bits, False)


def _lower_bswap(emit: Emit, place: Place | None) -> Operand:
    source = emit.type(0)
    assert isinstance(source, t.Int)
    if source.bits == 8:
        return emit.b.extend(emit.word(0), 8, False)
    return emit.b.byte_swap(emit.word(0), source.bits)


STRINGS: tuple[Builtin, ...] = (
    Builtin(
        "str",
        1,
        2,
        "str(p [, n]): the zero-terminated string at an address, n characters at most",
        _check_str,
        _lower_str,
    ),
    Builtin("buf", 1, 2, "buf(p [, n]): n bytes at an address, shown with escapes", _check_buf, _lower_buf),
    Builtin("strncmp", 3, 3, "strncmp(a, b, n): 0 if the first n characters are equal", _check_strncmp, _lower_strncmp),
    Builtin("macaddr", 1, 1, "macaddr(p): a hardware address", _check_mac, _lower_mac),
    Builtin("ntop", 1, 2, "ntop([family,] a): an IPv4 or IPv6 address", _check_ntop, _lower_ntop),
    Builtin("pton", 1, 1, 'pton("address"): the 4 or 16 bytes of an IPv4 or IPv6 address', _check_pton, _lower_pton),
    Builtin("bswap", 1, 1, "bswap(n): the bytes of an integer in reverse order", _check_bswap, _lower_bswap),
)
