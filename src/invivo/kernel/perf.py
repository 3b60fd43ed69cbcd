"""Opening events with perf_event_open(2): tracepoints, clocks and counters, probes in user code and kernel.

Every event is opened stopped (`links.perf_event` starts it once a program is attached) and every
descriptor is close-on-exec.
"""

from __future__ import annotations

import os
import struct
from typing import Final

from invivo.errors import NotSupportedError
from invivo.kernel import abi, files, syscalls

# struct perf_event_attr up to PERF_ATTR_SIZE_VER5, include/uapi/linux/perf_event.h: type, size,
# config, sample_period or sample_freq, sample_type, read_format, flags, wakeup_events, bp_type,
# config1, config2, and 40 bytes that stay zero.
_ATTRIBUTES: Final = struct.Struct("<IIQQQQQIIQQ40x")
_DEVICES: Final = "/sys/bus/event_source/devices"


def open_tracepoint(event_id: int, pid: int = -1, cpu: int = 0) -> int:
    """Open a tracepoint by the number in its ``id`` file.

    One event is enough for all CPUs and processes: a BPF program at a tracepoint runs wherever it is
    hit, whatever ``pid`` and ``cpu`` are.  The program has to filter.
    """
    return _open(abi.TYPE_TRACEPOINT, event_id, pid, cpu, f"open tracepoint {event_id}", period=1)


def open_counter(
    config: int, *, kind: int = abi.TYPE_SOFTWARE, period: int = 0, frequency: int = 0, pid: int = -1, cpu: int
) -> int:
    """Open a counter: one of the kernel's own (``enum perf_sw_ids``), or of another ``enum perf_type_id``.

    It interrupts every ``period`` counts, or ``frequency`` times a second.
    """
    return _open(
        kind,
        config,
        pid,
        cpu,
        f"open {'software event' if kind == abi.TYPE_SOFTWARE else f'event of type {kind},'} {config:#x}",
        period=frequency or period,
        flags=abi.PERF_ATTR_FREQ if frequency else 0,
    )


def open_breakpoint(address: int, length: int, access: int, *, pid: int = -1, cpu: int = -1) -> int:
    """Open a hardware breakpoint: ``access`` is a sum of HW_BREAKPOINT_R, _W, _X (linux/hw_breakpoint.h).

    ``pid`` is a thread; those that it creates are watched, too.
    """
    return _open(
        abi.TYPE_BREAKPOINT,
        0,
        pid,
        cpu,
        f"watch {length} bytes at {address:#x}",
        period=1,
        flags=abi.PERF_ATTR_INHERIT if pid >= 0 else 0,
        config1=address,
        config2=length,
        breakpoint=access,
    )


def open_uprobe(path: str, offset: int, *, pid: int = -1, retprobe: bool = False, ref_ctr_offset: int = 0) -> int:
    """Open a probe at a file offset of a binary.

    With a ``pid`` the breakpoint is set in that process only.  ``ref_ctr_offset`` is that of a
    USDT semaphore.  Needs CAP_SYS_ADMIN on kernels with the fix of CVE-2025-38466.
    """
    kind = _device_number("uprobe", "uprobes")
    config = ref_ctr_offset << _shift("uprobe", "ref_ctr_offset") if ref_ctr_offset else 0
    if retprobe:
        config |= 1 << _shift("uprobe", "retprobe")
    name = os.fsencode(path) + b"\0"
    what = f"open uprobe {path}+{offset:#x}"
    needs = ("CAP_PERFMON", "CAP_SYS_ADMIN")
    return _open(kind, config, pid, _cpu_for(pid), what, config1=syscalls.address(name), config2=offset, needs=needs)


def open_kprobe(symbol: str, offset: int = 0, *, retprobe: bool = False, address: int = 0) -> int:
    """Open a probe in a kernel function (``MODULE:FUNCTION`` for a module's), at an offset, or at an ``address``."""
    kind = _device_number("kprobe", "kprobes")
    config = 1 << _shift("kprobe", "retprobe") if retprobe else 0
    name = symbol.encode() + b"\0"
    if address:
        return _open(kind, config, -1, 0, f"open kprobe {address:#x}", config2=address)
    what = f"open kprobe {symbol}+{offset:#x}"
    return _open(kind, config, -1, 0, what, config1=syscalls.address(name), config2=offset)


def _open(
    kind: int,
    config: int,
    pid: int,
    cpu: int,
    what: str,
    *,
    period: int = 0,
    flags: int = 0,
    config1: int = 0,
    config2: int = 0,
    breakpoint: int = 0,
    needs: tuple[str, ...] = ("CAP_PERFMON",),
) -> int:
    attributes = bytearray(
        _ATTRIBUTES.pack(
            kind,
            abi.PERF_ATTR_SIZE_VER5,
            config,
            period,
            0,
            0,
            flags | abi.PERF_ATTR_DISABLED,
            0,
            breakpoint,
            config1,
            config2,
        )
    )
    return syscalls.perf_event_open(attributes, pid, cpu, what, needs)


def _cpu_for(pid: int) -> int:
    # An event of a process may follow it over all CPUs; one of all processes needs a CPU. For
    # probes, any will do: the program runs on all.
    return -1 if pid >= 0 else 0


def _device_number(device: str, feature: str) -> int:
    """Return the number of a dynamic event source. Raises `NotSupportedError` if it is not there."""
    try:
        return int(files.read_text(f"{_DEVICES}/{device}/type"))
    except OSError as error:
        raise NotSupportedError(feature) from error


def _shift(device: str, field: str) -> int:
    """Return where a field begins in ``config``; its format file says ``config:32-63``."""
    try:
        text = files.read_text(f"{_DEVICES}/{device}/format/{field}")
    except OSError as error:
        raise NotSupportedError(f"{field} of {device} events") from error
    return int(text.strip().partition(":")[2].partition("-")[0])
