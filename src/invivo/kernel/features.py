"""What this kernel can do, found out by trying on use: its BTF first, which is free, then a small attempt."""

from __future__ import annotations

import errno
import struct
from collections.abc import Callable
from typing import Final

from invivo.errors import InvivoError, VerifierError
from invivo.formats.btf import Btf, BtfKind
from invivo.ir.layout import MapSpec, MapType
from invivo.kernel import abi, files, links, syscalls, vmlinux
from invivo.kernel.kallsyms import Kallsyms
from invivo.kernel.maps import Map
from invivo.kernel.programs import Load, load_code
from invivo.kernel.tracefs import Tracefs
from invivo.record import Record
from invivo.target import ProgramType

_RETURN_0: Final = struct.pack("<BBhiBBhi", 0xB7, 0, 0, 0, 0x95, 0, 0, 0)


class Feature(Record):
    """``since``: the first kernel release with it; only for messages, never compared."""

    name: str
    since: str
    doc: str
    present: Callable[[Features], bool]


class Features:
    """The answers, each found once, when it is asked for."""

    def __init__(self, btf: Callable[[], Btf | None] = vmlinux.open_btf) -> None:
        self._open_btf = btf
        self._btf: Btf | None = None
        self._opened = False
        self._answers: dict[str, bool] = {}

    def has(self, name: str) -> bool:
        """Whether the kernel has a feature: a name of `FEATURES`, or

        ``helper:NAME`` (``helper:get_current_task_btf``), ``helper:NAME:RAW_TRACEPOINT`` with a
        `ProgramType`, ``kfunc:NAME``, ``iterator:NAME`` (``iterator:task``).
        Raises `KeyError` for any other name.
        """
        answer = self._answers.get(name)
        if answer is None:
            answer = self._answers[name] = self._find_out(name)
        return answer

    def btf(self) -> Btf | None:
        """Return the kernel's types, None if it has none."""
        if not self._opened:
            self._btf = self._open_btf()
            self._opened = True
        return self._btf

    def _find_out(self, name: str) -> bool:
        kind, colon, subject = name.partition(":")
        if not colon:
            return _BY_NAME[name].present(self)
        match kind:
            case "helper":
                helper, _, program = subject.partition(":")
                return _has_helper(self, helper, ProgramType[program or "RAW_TRACEPOINT"])
            case "kfunc":
                return _in_btf(BtfKind.FUNC, subject)(self)
            case "iterator":
                return _in_btf(BtfKind.STRUCT, f"bpf_iter__{subject}")(self)
            case _:
                raise KeyError(name)


def _has_helper(features: Features, helper: str, program: ProgramType) -> bool:
    """Whether a program of a type may call a helper: the verifier is asked with ``call N; exit``.

    The number comes from the kernel's own enum, so a helper that is newer than invivo is found too.
    """
    btf = features.btf()
    found = btf.enumerator(f"BPF_FUNC_{helper}") if btf is not None else None
    if found is None:
        return False
    code = struct.pack("<BBhi", 0x85, 0, 0, found[1]) + struct.pack("<BBhi", 0x95, 0, 0, 0)
    try:
        load_code("feature", code, program).close()
    except VerifierError as error:
        # It complains of the missing arguments only if there is such a helper.
        refused = ("invalid func", "unknown func", "cannot use helper", "helper call is not allowed")
        return not any(text in error.log for text in refused)
    return True


def _in_btf(kind: BtfKind, name: str) -> Callable[[Features], bool]:
    def present(features: Features) -> bool:
        btf = features.btf()
        return btf is not None and btf.contains(kind, name)

    return present


def _event_source(name: str) -> Callable[[Features], bool]:
    return lambda _: files.exists(f"/sys/bus/event_source/devices/{name}/type")


def _can_load(_: Features) -> bool:
    try:
        load_code("feature", _RETURN_0).close()
    except InvivoError:
        return False
    return True


def _can_map(spec: MapSpec) -> Callable[[Features], bool]:
    def present(_: Features) -> bool:
        try:
            Map.create(spec).close()
        except InvivoError:
            return False
        return True

    return present


def _has_raw_tracepoint_cookies(_: Features) -> bool:
    # An older kernel refuses the unknown field before it looks at the descriptor.
    attributes = bytearray(struct.pack("<QiIQ", 0, -1, 0, 1))
    return syscalls.try_bpf(abi.RAW_TRACEPOINT_OPEN, attributes) == -errno.EBADF


def _can_session(program: ProgramType) -> Callable[[Features], bool]:
    """Load a program that asks whether it runs at a return: the kernel lets only those of sessions do so."""

    def present(features: Features) -> bool:
        btf = features.btf()
        asked = btf.find(BtfKind.FUNC, "bpf_session_is_return") if btf is not None else None
        if asked is None:
            return False
        code = struct.pack("<BBhi", 0x85, 2 << 4, 0, asked) + _RETURN_0
        try:
            load_code("feature", code, program).close()
        except InvivoError:
            return False
        return True

    return present


def _can_fentry(features: Features) -> bool:
    """Attach to a function that the kernel has for tests of fentry only, and that nothing calls."""
    btf = features.btf()
    function = btf.find(BtfKind.FUNC, "bpf_fentry_test1") if btf is not None else None
    if function is None:
        return False
    load = Load("feature", ProgramType.TRACING_FENTRY, _RETURN_0, "GPL", attach_btf_id=function)
    try:
        program = load.run(0)
    except InvivoError:
        return False
    try:
        links.tracing(program).close()
    except InvivoError:
        return False
    finally:
        program.close()
    return True


def _has_function_tracer(_: Features) -> bool:
    tracefs = Tracefs()
    try:
        return bool(tracefs.functions())
    except InvivoError:
        return False
    finally:
        tracefs.close()


def _has_hardware_counters(_: Features) -> bool:
    return files.exists("/sys/bus/event_source/devices/cpu/type")


def _has_data_symbols(_: Features) -> bool:
    kallsyms = Kallsyms()
    try:
        return kallsyms.address("runqueues") is not None
    finally:
        kallsyms.close()


FEATURES: Final = (
    Feature("btf", "5.2", "the kernel's types", lambda features: features.btf() is not None),
    Feature("bpf", "4.4", "loading programs", _can_load),
    Feature("ringbuf", "5.8", "the ring buffer", _can_map(MapSpec("feature", MapType.RINGBUF, 0, 0, abi.PAGE_SIZE))),
    Feature(
        "mmapable",
        "5.5",
        "mapped arrays",
        _can_map(MapSpec("feature", MapType.ARRAY, 4, 8, 1, abi.F_MMAPABLE)),
    ),
    Feature("kprobe", "2.6", "probes at kernel functions", _event_source("kprobe")),
    Feature("uprobe", "3.5", "probes in user programs", _event_source("uprobe")),
    Feature("tracepoint", "2.6", "tracepoints", _event_source("tracepoint")),
    Feature("hardware", "2.6", "hardware counters", _has_hardware_counters),
    Feature(
        "kprobe_multi",
        "5.18",
        "many kernel functions with one link",
        _in_btf(BtfKind.STRUCT, "bpf_kprobe_multi_link"),
    ),
    Feature(
        "uprobe_multi",
        "6.6",
        "many user functions with one link",
        _in_btf(BtfKind.STRUCT, "bpf_uprobe_multi_link"),
    ),
    Feature(
        "kprobe_session",
        "6.10",
        "entry and return of a kernel function in one program",
        lambda features: features.has("kprobe_multi") and _can_session(ProgramType.KPROBE_SESSION)(features),
    ),
    Feature(
        "uprobe_session",
        "6.13",
        "entry and return of a user function in one program",
        _can_session(ProgramType.UPROBE_SESSION),
    ),
    Feature("raw_tracepoint_cookies", "6.10", "cookies of raw tracepoints", _has_raw_tracepoint_cookies),
    Feature("fentry", "5.5", "fast probes at kernel functions", _can_fentry),
    Feature("data_symbols", "2.6", "addresses of the kernel's variables", _has_data_symbols),
    Feature("function_tracer", "2.6", "the list of functions that can be probed", _has_function_tracer),
)

_BY_NAME: Final = {feature.name: feature for feature in FEATURES}


def has(name: str) -> bool:
    """Whether the kernel has a feature, found out anew; who asks often keeps a `Features`."""
    return Features().has(name)
