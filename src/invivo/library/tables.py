"""Names of numbers that the kernel defines: errors, signals, system calls."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from invivo.diagnostics import Code
from invivo.ir import types as t
from invivo.ir.ops import BinaryOp
from invivo.ir.types import Type
from invivo.library.access import common_alignment
from invivo.library.record import Builtin, Emit, Place, Site
from invivo.library.spelling import spell
from invivo.linux.errors import ERRORS
from invivo.linux.signals import SIGNALS
from invivo.linux.syscalls import syscall_names

_CAPACITY = 64


def _check(site: Site) -> Type:
    source = site.type(0)
    if not isinstance(source, t.Int | t.Enumeration):
        site.error(Code.BAD_ARGUMENT, f"{site.name}() expects an integer ('{spell(source)}' provided)", argument=0)
    return t.String(_CAPACITY)


def _syscalls() -> list[str]:
    names = syscall_names()
    return [names.get(number, "") for number in range(max(names) + 1)]


def _lower(texts: Callable[[], Sequence[str]], unknown: str) -> Callable[[Emit, Place | None], None]:
    """Copy a row of a table in read-only memory; what is not in the table is in its last row."""

    def lower(emit: Emit, place: Place | None) -> None:
        assert place is not None
        b = emit.b
        rows = [text or unknown for text in texts()] + [unknown]
        width = -(-(max(map(len, rows)) + 1) // 8) * 8
        table = emit.data(b"".join(text.encode().ljust(width, b"\0") for text in rows))
        last = len(rows) - 1
        # Callers have numbers of 32 bits at most; a larger one is in no table.
        index = b.binary(BinaryOp.MUL, b.bounded(emit.clamp(emit.word(0), 0, last), len(rows)), width)
        b.copy(place.pointer, place.offset, b.offset(table, index), 0, width, common_alignment(place.offset))

    return lower


def _table(name: str, doc: str, texts: Callable[[], Sequence[str]], unknown: str) -> Builtin:
    return Builtin(name, 1, 1, doc, _check, _lower(texts, unknown), macro=True)


TABLES: tuple[Builtin, ...] = (
    _table("strerror", "strerror(e): the text of an error number", lambda: ERRORS, "Unknown error"),
    _table("signal_name", "signal_name(n): the name of a signal", lambda: SIGNALS, "unknown"),
    _table("syscall_name", "syscall_name(n): the name of a system call", _syscalls, "unknown"),
)
