"""Operators on numbers."""

from __future__ import annotations

from invivo.ir.ops import BinaryOp, CompareOp, Operand
from invivo.lang.lower.body import Body

_PLAIN = {
    "+": BinaryOp.ADD,
    "-": BinaryOp.SUB,
    "*": BinaryOp.MUL,
    "&": BinaryOp.AND,
    "|": BinaryOp.OR,
    "^": BinaryOp.XOR,
    "<<": BinaryOp.SHL,
}
_UNSIGNED = {
    "==": CompareOp.EQ,
    "!=": CompareOp.NE,
    "<": CompareOp.ULT,
    "<=": CompareOp.ULE,
    ">": CompareOp.UGT,
    ">=": CompareOp.UGE,
}
_SIGNED = {"<": CompareOp.SLT, "<=": CompareOp.SLE, ">": CompareOp.SGT, ">=": CompareOp.SGE}


def comparison(op: str, *, signed: bool) -> CompareOp:
    return _SIGNED.get(op, _UNSIGNED[op]) if signed else _UNSIGNED[op]


def arithmetic(body: Body, op: str, left: Operand, right: Operand, *, signed: bool) -> Operand:
    """Compute ``left op right`` on 64 bits. The neighbour shifts zeros into negative numbers."""
    if op == ">>":
        signed = signed and not body.state.checked.bpftrace
        return body.b.binary(BinaryOp.ASHR if signed else BinaryOp.LSHR, left, right)
    if op in ("/", "%"):
        return _divide(body, op, left, right, signed=signed)
    return body.b.binary(_PLAIN[op], left, right)


def _divide(body: Body, op: str, left: Operand, right: Operand, *, signed: bool) -> Operand:
    """Divide. By zero gives 0 and is reported (1 for the neighbour's face); BPF itself gives 0 and
    leaves the dividend as remainder. The neighbour divides signed numbers as if they were unsigned."""
    divide = _signed_division if signed and not body.state.checked.bpftrace else _unsigned_division
    if isinstance(right, int) and right != 0:
        return divide(body, op, left, right)
    b = body.b
    result = b.variable("quotient")
    zero, fine, done = b.label("by_zero"), b.label("divide"), b.label("divided")
    b.branch(CompareOp.EQ, right, 0, zero, fine)
    b.start(zero)
    body.complain(
        "Divide or modulo by 0 detected. This can lead to unexpected results. "
        f"{int(body.state.checked.bpftrace)} is being used as the result."
    )
    b.set(result, int(body.state.checked.bpftrace))
    b.jump(done)
    b.start(fine)
    b.set(result, divide(body, op, left, right))
    b.start(done)
    return b.get(result)


def mean(body: Body, total: Operand, count: Operand, *, signed: bool) -> Operand:
    """Divide an avg()'s total by its count, which is not zero: signed with both faces."""
    return (_signed_division if signed else _unsigned_division)(body, "/", total, count)


def _unsigned_division(body: Body, op: str, left: Operand, right: Operand) -> Operand:
    return body.b.binary(BinaryOp.DIV if op == "/" else BinaryOp.MOD, left, right)


def _signed_division(body: Body, op: str, left: Operand, right: Operand) -> Operand:
    """Divide magnitudes and put the sign back: towards zero, as in C. (BPF's own SDIV needs 6.6.)"""
    b = body.b
    left_sign, right_sign = _sign_mask(body, left), _sign_mask(body, right)
    magnitude = _unsigned_division(body, op, _with_sign(body, left, left_sign), _with_sign(body, right, right_sign))
    sign = b.binary(BinaryOp.XOR, left_sign, right_sign) if op == "/" else left_sign
    return _with_sign(body, magnitude, sign)


def _sign_mask(body: Body, value: Operand) -> Operand:
    if isinstance(value, int):
        return -1 if value >> 63 & 1 else 0
    return body.b.binary(BinaryOp.ASHR, value, 63)


def _with_sign(body: Body, value: Operand, mask: Operand) -> Operand:
    """Negate where the mask is all ones."""
    b = body.b
    return b.sub(b.binary(BinaryOp.XOR, value, mask), mask)
