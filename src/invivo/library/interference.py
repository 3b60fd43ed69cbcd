"""What changes the traced system: signals, results, memory. All of it needs ``--unsafe``."""

from __future__ import annotations

from collections.abc import Callable

from invivo.diagnostics import Code
from invivo.ir import helpers
from invivo.ir import types as t
from invivo.ir.ops import CompareOp, Operand
from invivo.ir.types import Type
from invivo.library.record import Builtin, Emit, Place, Site
from invivo.library.search import load_bytes
from invivo.library.spelling import spell
from invivo.linux.signals import SIGNALS

_LAST_SIGNAL = 64  # _NSIG, arch/x86/include/asm/signal.h


def _signal_number(name: str) -> int:
    """The number of a signal by its name, ``SIGKILL`` or ``KILL``; 0 if there is none."""
    wanted = name if name.startswith("SIG") else f"SIG{name}"
    return SIGNALS.index(wanted) if wanted in SIGNALS else 0


def _check_signal(site: Site) -> Type:
    signal, type_ = site.literal(0), site.type(0)
    if isinstance(signal, str):
        if not _signal_number(signal):
            site.error(Code.BAD_ARGUMENT, f"{signal} is not a valid signal", 'a name is written "SIGTERM"', 0)
    elif isinstance(signal, int):
        if not 1 <= signal <= _LAST_SIGNAL:
            message = f"{signal} is not a valid signal, allowed range: [1,{_LAST_SIGNAL}]"
            site.error(Code.BAD_ARGUMENT, message, argument=0)
    elif not isinstance(type_, t.Int | t.Enumeration):
        site.error(
            Code.BAD_ARGUMENT,
            f"{site.name}() expects a signal's number or its name as a literal ('{spell(type_)}' provided)",
            argument=0,
        )
    return t.VOID


def _lower_signal(helper: int, name: str) -> Callable[[Emit, Place | None], None]:
    def lower(emit: Emit, place: Place | None) -> None:
        signal = emit.literal(0)
        number = _signal_number(signal) if isinstance(signal, str) else emit.word(0)
        code = emit.b.call(helper, number)
        if not emit.bpftrace:
            _report(emit, name, code)

    return lower


def _report(emit: Emit, helper: str, code: Operand) -> None:
    b = emit.b
    failed, on = b.label("refused"), b.label("done")
    b.branch(CompareOp.SLT, code, 0, failed, on)
    b.start(failed)
    emit.failed(helper, code, "")
    b.start(on)


def _check_override(site: Site) -> Type:
    type_ = site.type(0)
    if not isinstance(type_, t.Int | t.Enumeration | t.Bool):
        site.error(Code.BAD_ARGUMENT, f"override() expects an integer ('{spell(type_)}' provided)", argument=0)
    return t.VOID


def _lower_override(emit: Emit, place: Place | None) -> None:
    emit.b.call_void(helpers.OVERRIDE_RETURN, emit.context_pointer(), emit.word(0))


def _check_write(site: Site) -> Type:
    target, length = site.type(0), site.literal(2)
    site.type(1)
    if not isinstance(target, t.Int | t.Pointer):
        site.error(Code.BAD_ARGUMENT, f"write_user() expects an address ('{spell(target)}' provided)", argument=0)
    if not isinstance(site.type(2), t.Int):
        site.error(
            Code.BAD_ARGUMENT,
            f"write_user() expects an integer as length ('{spell(site.type(2))}' provided)",
            argument=2,
        )
    elif isinstance(length, int) and not 0 < length <= site.config.max_strlen:
        site.error(Code.LIMIT, f"write_user() writes 1 to {site.config.max_strlen} bytes ({length} given)", argument=2)
    return t.BOOL


def _lower_write(emit: Emit, place: Place | None) -> Operand:
    b = emit.b
    literal = emit.literal(2)
    most = literal if isinstance(literal, int) else emit.config.max_strlen
    target = emit.word(0)
    reach, size = load_bytes(emit, 1, most)
    held = reach()
    length: Operand = size if isinstance(literal, int) else emit.clamp(emit.word(2), 1, size)
    code = b.call(helpers.PROBE_WRITE_USER, target, b.offset(held.pointer, held.offset), length)
    return b.compare(CompareOp.EQ, code, 0)


INTERFERENCE: tuple[Builtin, ...] = (
    Builtin(
        "signal",
        1,
        1,
        "signal(x): send a signal, by number or by name, to the process that runs",
        _check_signal,
        _lower_signal(helpers.SEND_SIGNAL, "send_signal"),
        feature="signal",
        unsafe=True,
        macro=True,
    ),
    Builtin(
        "signal_thread",
        1,
        1,
        "signal_thread(x): send a signal, by number or by name, to the thread that runs",
        _check_signal,
        _lower_signal(helpers.SEND_SIGNAL_THREAD, "send_signal_thread"),
        feature="signal",
        unsafe=True,
        macro=True,
    ),
    Builtin(
        "override",
        1,
        1,
        "override(value): let the traced function return a value at once; for functions that the kernel allows it of",
        _check_override,
        _lower_override,
        feature="override",
        uses=frozenset({"override"}),
        unsafe=True,
        macro=True,
    ),
    Builtin(
        "write_user",
        3,
        3,
        "write_user(to, from, n): write n bytes into the memory of the process; whether that worked",
        _check_write,
        _lower_write,
        unsafe=True,
        macro=True,
    ),
)
