"""Records of the ring → values: walking a window whose records occupy whole strides."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from struct import Struct as Packed

from invivo.events import Value
from invivo.ir import types
from invivo.ir.layout import Layout, RecordLayout
from invivo.runtime.decode import Decoder, Names, fields_decoder, shape_of

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


class Columns:
    """Reads many records of one kind at once: one column a field, each different value decoded once.

    Only for records of one stride.  ``shows`` turn decoded values into what is shown of them; None:
    the value itself.
    """

    def __init__(
        self, record: RecordLayout, stride: int, shows: Sequence[Callable[..., object] | None], names: Names
    ) -> None:
        shapes = [shape_of(field.type, names) for field in record.fields]
        code = "<12xI"  # the flags are the first column
        for field, shape in zip(record.fields, shapes, strict=True):
            code += f"{field.offset + HEADER_BYTES - Packed(code).size}x{shape.code}"
        self._unpack = Packed(f"{code}{stride - Packed(code).size}x").iter_unpack
        self._steps = [(shape.convert, show) for shape, show in zip(shapes, shows, strict=True)]

    def read(self, window: memoryview) -> tuple[Sequence[tuple[Value, ...]], Sequence[tuple[object, ...]]] | None:
        """Return rows of values and rows of what is shown; None if a record has flags."""
        flags, *columns = zip(*self._unpack(window), strict=True)
        if any(flags):
            return None
        values: list[Sequence[Value]] = []
        shown: list[Sequence[object]] = []
        for column, (convert, show) in zip(columns, self._steps, strict=True):
            known = None if convert is None else {raw: convert(raw) for raw in set(column)}
            decoded = column if known is None else tuple(map(known.__getitem__, column))
            values.append(decoded)
            if show is None:
                shown.append(decoded)
                continue
            # By what was read, not by what it means: a `Text` is equal to a string that was not cut.
            if known is None:
                known = {raw: raw for raw in set(column)}
            texts = {raw: show(value) for raw, value in known.items()}
            is_same = all(texts[raw] is value for raw, value in known.items())
            shown.append(decoded if is_same else tuple(map(texts.__getitem__, column)))
        rows = list(zip(*values, strict=True))
        is_same = all(text is value for text, value in zip(shown, values, strict=True))
        return rows, rows if is_same else list(zip(*shown, strict=True))
