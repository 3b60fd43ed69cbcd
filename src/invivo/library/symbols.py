"""Addresses and their names, stacks, and pointers between address spaces."""

from __future__ import annotations

from invivo.diagnostics import Code
from invivo.ir import helpers
from invivo.ir import types as t
from invivo.ir.layout import LossKind
from invivo.ir.ops import CompareOp, Operand
from invivo.ir.types import StackMode, Type
from invivo.library.probe import store_user_symbol
from invivo.library.record import Builtin, Emit, Lower, Place, Site
from invivo.library.spelling import spell_kind

DEFAULT_FRAMES = 127  # PERF_MAX_STACK_DEPTH, include/uapi/linux/perf_event.h
_MAX_FRAMES = 1024
_EFAULT = 14


def _check_address(site: Site) -> None:
    source = site.type(0)
    if not isinstance(source, t.Int | t.Pointer):
        message = f"{site.name}() expects an integer or pointer argument"
        site.error(Code.BAD_ARGUMENT, message, argument=0)


def _check_ksym(site: Site) -> Type:
    _check_address(site)
    return t.KernelSymbol()


def _check_usym(site: Site) -> Type:
    _check_address(site)
    return t.UserSymbol()


def _lower_word(emit: Emit, place: Place | None) -> Operand:
    return emit.word(0)


def _lower_usym(emit: Emit, place: Place | None) -> None:
    assert place is not None
    store_user_symbol(emit, emit.word(0), place)


# -- stacks ------------------------------------------------------------------------------------


def stack_type(kernel: bool, site: Site) -> Type:
    mode, limit = StackMode(site.config.stack_mode), DEFAULT_FRAMES
    for index in range(site.arity):
        name, number = site.identifier(index), site.literal(index)
        if isinstance(number, int) and (index == 1 or site.arity == 1):
            limit = number
        elif index == 0 and name in {m.value for m in StackMode}:
            mode = StackMode(name)
        else:
            modes = ", ".join(m.value for m in StackMode)
            what = f"{site.name}: invalid limit value"
            if name and index == 0:
                what = "Error parsing stack mode: Invalid value for stack_mode: valid values are " + modes
            elif site.arity == 2 and index == 0:
                what = "Expected stack mode as first argument"
            hint = f"one of {modes}, or a number of frames"
            site.error(Code.BAD_ARGUMENT, what, hint, index, at_argument=bool(name))
    if not 0 < limit <= _MAX_FRAMES:
        site.error(
            Code.LIMIT,
            f"{site.name}([int limit]): limit shouldn't exceed {_MAX_FRAMES}, {limit} given"
            if limit > 0
            else f"{site.name}(): the limit must be at least 1 ({limit} given)",
        )
        limit = DEFAULT_FRAMES
    if kernel and mode is StackMode.BUILD_ID:
        site.error(Code.BAD_ARGUMENT, "'build_id' stack mode can only be used for ustack")
    return t.Stack(kernel, mode, limit)


def _lower_stack(kernel: bool) -> Lower:
    flags = 0 if kernel else helpers.BPF_F_USER_STACK

    def lower(emit: Emit, place: Place | None) -> None:
        assert place is not None and isinstance(emit.result, t.Stack)
        if not kernel and emit.config.user_stack == "dwarf":
            from invivo.library.unwind import walk

            walk(emit, place, emit.result.limit, by_frame_pointers=True)
            return
        b = emit.b
        size = 8 * emit.result.limit
        skip = min(emit.context.stack_skip, 255) if kernel else 0
        target = b.offset(place.pointer, place.offset + 16)
        got = b.call(helpers.GET_STACK, emit.context_pointer(), target, size, flags | skip)
        # The kernel's addresses mean the same in every process: equal stacks of different ones are one key.
        tgid: Operand = 0 if kernel else b.shift_right(b.call(helpers.GET_CURRENT_PID_TGID), 32)
        b.store(place.pointer, place.offset + 4, 4, tgid)
        b.store(place.pointer, place.offset + 8, 8, 0)
        frames = b.variable("frames")
        b.set(frames, 0)
        some, none, after = b.label("stack"), b.label("no_stack"), b.label("after_stack")
        b.branch(CompareOp.SGT, got, 0, some, none)
        b.start(none)
        # The helper has zeroed the memory. 0 and EFAULT say that there is no frame: a sample of user
        # code has no kernel stack, a kernel thread no user stack. All else is a loss.
        negative, failed = b.label("stack_negative"), b.label("stack_failed")
        b.branch(CompareOp.EQ, got, 0, after, negative)
        b.start(negative)
        b.branch(CompareOp.EQ, got, -_EFAULT, after, failed)
        b.start(failed)
        emit.lose(LossKind.STACK_FAILED)
        b.jump(after)
        b.start(some)
        b.set(frames, b.shift_right(got, 3))
        b.start(after)
        b.store(place.pointer, place.offset, 4, b.get(frames))

    return lower


# -- known at compile time ---------------------------------------------------------------------


def _check_kaddr(site: Site) -> Type:
    name = site.literal(0)
    if not isinstance(name, str):
        site.error(
            Code.BAD_ARGUMENT, f"kaddr() expects a string literal ({spell_kind(site.type(0))} provided)", argument=0
        )
    elif site.target.kernel_address(name) is None:
        site.error(
            Code.UNKNOWN_SYMBOL,
            f"Failed to resolve kernel symbol: {name}",
            "/proc/kallsyms lists the kernel's symbols",
            0,
        )
    return t.UINT64


def _lower_kaddr(emit: Emit, place: Place | None) -> Operand:
    return emit.target.kernel_address(str(emit.literal(0))) or 0


def _check_space(space: t.AddressSpace, site: Site) -> Type:
    source = site.type(0)
    if isinstance(source, t.Pointer):
        return t.Pointer(source.pointee, space)
    if not isinstance(source, t.Int):
        what = f"{site.name}() only supports integer or pointer arguments ({spell_kind(source)} provided)"
        site.error(Code.BAD_ARGUMENT, what, argument=0)
    return source


SYMBOLS: tuple[Builtin, ...] = (
    Builtin("ksym", 1, 1, "ksym(a): the kernel symbol at an address", _check_ksym, _lower_word),
    Builtin("usym", 1, 1, "usym(a): the symbol at an address of the current process", _check_usym, _lower_usym),
    Builtin(
        "kstack",
        0,
        2,
        "the kernel stack: kstack, kstack(mode), kstack(limit), kstack(mode, limit)",
        lambda site: stack_type(True, site),
        _lower_stack(True),
        value=True,
        feature="stacks",
        uses=frozenset({"stacks"}),
        in_loops=False,
    ),
    Builtin(
        "ustack",
        0,
        2,
        "the user stack, with the same arguments as kstack; by frame pointers, unless config user_stack says otherwise",
        lambda site: stack_type(False, site),
        _lower_stack(False),
        value=True,
        feature="stacks",
        uses=frozenset({"stacks"}),
        in_loops=False,
    ),
    Builtin("kaddr", 1, 1, 'kaddr("symbol"): the address of a kernel symbol', _check_kaddr, _lower_kaddr),
    Builtin(
        "kptr",
        1,
        1,
        "kptr(p): the same address, in kernel memory",
        lambda site: _check_space(t.AddressSpace.KERNEL, site),
        _lower_word,
    ),
    Builtin(
        "uptr",
        1,
        1,
        "uptr(p): the same address, in user memory",
        lambda site: _check_space(t.AddressSpace.USER, site),
        _lower_word,
    ),
)
