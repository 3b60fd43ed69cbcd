"""Packets of the network, written to files that tcpdump and Wireshark read."""

from __future__ import annotations

from invivo.diagnostics import Code
from invivo.ir import helpers
from invivo.ir import types as t
from invivo.ir.builder import Builder
from invivo.ir.layout import WritePacket
from invivo.ir.ops import CompareOp, Operand
from invivo.ir.types import Type
from invivo.library.access import read_helper, read_word
from invivo.library.record import Builtin, Emit, FieldSource, Place, Site
from invivo.library.spelling import spell, spell_kind

_MOST_BYTES = 4096  # of a packet; every record of the program has room for as many as its calls ask for
_UNKNOWN_BYTES = 1518  # a whole Ethernet frame, where the length is no literal


def _check(site: Site) -> Type:
    if not isinstance(site.literal(0), str):
        what = f"skboutput() expects a string literal ({spell_kind(site.type(0))} provided)"
        site.error(Code.BAD_ARGUMENT, what, "the name of the file", 0)
    packet = site.type(1)
    if not (
        isinstance(packet, t.Pointer) and isinstance(packet.pointee, t.Struct) and packet.pointee.name == "sk_buff"
    ):
        what = f"skboutput() expects a struct sk_buff * ('{spell(packet)}' provided)"
        site.error(Code.BAD_ARGUMENT, what, argument=1)
    for index in (2, 3):
        if not isinstance(site.type(index), t.Int):
            what = f"skboutput() only supports int arguments ({spell_kind(site.type(index))} provided)"
            site.error(Code.BAD_ARGUMENT, what, argument=index)
    return t.UINT32


def _lower(emit: Emit, place: Place | None) -> Operand:
    """Send what lies in the packet's first piece, from ``data`` + offset on; fragments behind it are left out.

    (``bpf_skb_output``, which reads fragments too, writes to perf buffers only: its events would come in an order of
    their own.)
    """
    b = emit.b
    literal = emit.literal(2)
    capacity = max(1, min(literal, _MOST_BYTES)) if isinstance(literal, int) else _UNKNOWN_BYTES
    packet, most, offset = emit.word(1), emit.word(2), emit.word(3)
    whole = _member(emit, packet, "len")
    wanted = b.sub(b.sub(whole, _member(emit, packet, "data_len")), offset)  # what the first piece has
    if not isinstance(literal, int):
        wanted = _choose(b, CompareOp.SLT, wanted, most, wanted, most)
    length = emit.clamp(_choose(b, CompareOp.SLT, wanted, 0, 0, wanted), 0, capacity)
    start = b.add(_member(emit, packet, "data"), offset)

    def write(place: Place) -> None:
        b.store(place.pointer, place.offset, 4, length)
        target = b.offset(place.pointer, place.offset + 4)
        emit.fault_guard(b.call(read_helper(t.AddressSpace.KERNEL), target, length, start))

    path = emit.literal(0)
    assert isinstance(path, str)
    now = b.call(helpers.KTIME_GET_BOOT_NS)
    fields: list[tuple[str, Type, FieldSource]] = [
        ("time_ns", t.UINT64, now),
        ("length", t.UINT32, b.sub(whole, offset)),
        ("data", t.Buffer(capacity), write),
    ]
    emit.send(WritePacket(path), fields)
    return 0


def _choose(b: Builder, op: CompareOp, left: Operand, right: Operand, then: Operand, otherwise: Operand) -> Operand:
    chosen, yes, done = b.variable("chosen"), b.label("yes"), b.label("chosen")
    b.set(chosen, otherwise)
    b.branch(op, left, right, yes, done)
    b.start(yes)
    b.set(chosen, then)
    b.start(done)
    return b.get(chosen)


def _member(emit: Emit, packet: Operand, name: str) -> Operand:
    struct = emit.target.struct("struct", "sk_buff")
    field = None if struct is None else emit.target.field(struct, name)
    assert field is not None
    address = emit.b.add(packet, field.offset)
    return read_word(emit, t.AddressSpace.KERNEL, address, t.size_bytes(field.type), signed=False)


PACKETS: tuple[Builtin, ...] = (
    Builtin(
        "skboutput",
        4,
        4,
        'skboutput("file", skb, n, offset): add n bytes of a packet (4,096 at most), from an offset on, to a pcap '
        "file; 0. Only the packet's first piece is read, which is all of it but for large ones of TCP",
        _check,
        _lower,
        feature="tracing",
    ),
)
