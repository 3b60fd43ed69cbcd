"""Records of the ring → values: walking a window whose records occupy whole strides."""

from __future__ import annotations

from collections.abc import Iterator
from struct import Struct as Packed

from invivo.events import Text, Value
from invivo.ir import types
from invivo.ir.layout import Layout, RecordLayout
from invivo.runtime.decode import Decoder, Names, fields_decoder

# struct bpf_ringbuf_hdr: u32 length and bits, u32 page offset; then our payload: u32 id, u32 flags.
HEADER = Packed("<I4xII")
HEADER_BYTES = 8
DISCARDED = 1 << 30  # BPF_RINGBUF_DISCARD_BIT
LENGTH = (1 << 30) - 1


def whole_payload(window: memoryview, position: int, strides: int, stride: int) -> bytes:
    """Return the payload of a record of several strides, without the word at the start of each stride."""
    return b"".join(
        window[start + HEADER_BYTES : start + stride] for start in range(position, position + strides * stride, stride)
    )


def record_positions(window: memoryview) -> Iterator[tuple[int, int]]:
    """Yield position and id of the records of a window, discarded ones left out."""
    position, end = 0, len(window)
    while position < end:
        word, record, _ = HEADER.unpack_from(window, position)
        if not word & DISCARDED:
            yield position, record
        position += (word & LENGTH) + 15 & ~7


def record_decoders(layout: Layout, names: Names) -> tuple[Decoder, ...]:
    """Return for each record id a function (window, position of the header) → values of its fields."""
    return tuple(_record_decoder(record, layout.stride, names) for record in layout.records)


def _record_decoder(record: RecordLayout, stride: int, names: Names) -> Decoder:
    decode = fields_decoder(record.fields, names)
    strides = record.strides
    if strides > 1:
        return lambda window, position: decode(_cut(window, position, strides, stride), 0)
    # The fields' offsets count from the payload, the record's position is that of its header.
    moved = tuple(
        types.Field(field.name, field.type, field.offset + HEADER_BYTES, field.bit_offset, field.bit_size)
        for field in record.fields
    )
    return fields_decoder(moved, names)


def _cut(window: bytes | memoryview, position: int, strides: int, stride: int) -> bytes:
    return whole_payload(memoryview(window), position, strides, stride)


def mark_cut(record: RecordLayout, values: list[Value]) -> None:
    """Make `Text` of the strings of a record in which the program noted that a string was cut.

    The note does not say which one: it is those that fill the largest capacity.
    """
    longest = max((field.type.capacity for field in record.fields if isinstance(field.type, types.String)), default=0)
    for index, field in enumerate(record.fields):
        value = values[index]
        if field.type == types.String(longest) and type(value) is str:
            size = len(value.encode("utf-8", "surrogateescape"))
            if size >= longest - 1:
                values[index] = Text(value)
