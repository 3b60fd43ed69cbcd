"""Sending a record: reserve, fill in place, submit. There is no way out in between."""

from __future__ import annotations

from invivo.ir import helpers, ops
from invivo.ir import types as t
from invivo.ir.layout import RING_MAP, WAKE_MAP, Action, LossKind
from invivo.ir.ops import CompareOp, Function, Kind
from invivo.ir.uses import with_blocks, with_ops
from invivo.lang.lower.body import Body, Fields
from invivo.library.record import Place
from invivo.record import replace


def send(body: Body, action: Action, fields: Fields) -> None:
    """Write a record of ``fields`` to the ring.

    Scalar fields were evaluated before; values in memory are built in the record itself.
    A failed read of either sets the record's flag.
    """
    b = body.b
    layout = body.state.record(action, [(name, type_) for name, type_, _ in fields], b.span)
    failures = body.fault
    if failures is None:
        failures = b.variable("fault")
        b.set(failures, 0)
    outer, body.fault = body.fault, failures
    ring = b.map(RING_MAP)
    # The real size is the same for all records and known at the end: `set_stride`.
    record = b.call(helpers.RINGBUF_RESERVE, ring, 0, 0, kind=Kind.RING_OR_NULL)
    full, fill, done = b.label("ring_full"), b.label("record"), b.label("sent")
    b.branch(CompareOp.EQ, record, 0, full, fill)
    b.start(full)
    body.lose(LossKind.RING_FULL)
    b.jump(done)
    b.start(fill)
    for field, (_, type_, source) in zip(layout.fields, fields, strict=True):
        if callable(source):
            source(Place(record, field.offset))
        else:
            b.store(record, field.offset, t.size_bytes(type_), source)
    b.store(record, 0, 4, layout.id)
    b.store(record, 4, 4, b.get(failures))
    _submit(body, record)
    b.start(done)
    body.fault = outer


def _submit(body: Body, record: ops.Value) -> None:
    """Submit without waking the consumer, unless it asked to be woken (once)."""
    b = body.b
    wake = b.global_address(WAKE_MAP, 0)
    flags = b.variable("wakeup")
    asked, go = b.label("wake"), b.label("submit")
    b.set(flags, helpers.BPF_RB_NO_WAKEUP)
    b.branch(CompareOp.NE, b.load(wake, 0, 8), 0, asked, go)
    b.start(asked)
    b.store(wake, 0, 8, 0)
    b.set(flags, helpers.BPF_RB_FORCE_WAKEUP)
    b.start(go)
    b.call_void(helpers.RINGBUF_SUBMIT, record, b.get(flags))


def set_stride(function: Function, stride: int) -> Function:
    """Give every reservation the one size that all records of the program have."""
    blocks: list[ops.Block] = []
    for block in function.blocks:
        sized = [_sized(op, stride) if type(op) is ops.Call else op for op in block.ops]
        blocks.append(with_ops(block, sized, block.end))
    return with_blocks(function, tuple(blocks))


def _sized(op: ops.Call, stride: int) -> ops.Call:
    if op.helper == helpers.RINGBUF_RESERVE:
        return replace(op, arguments=(op.arguments[0], stride - 8, 0))
    return op
