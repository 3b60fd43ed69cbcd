"""Names for addresses that another tool recorded: from the files it recorded, as far as they are here and the same."""

from __future__ import annotations

import mmap
import os

from invivo.errors import BadFileError, InvivoError
from invivo.formats.elf_symbols import readable
from invivo.formats.rust_names import readable_rust
from invivo.formats.stacks.folded import is_python
from invivo.formats.stacks.perf_data import PerfMapping
from invivo.kernel.kallsyms import Kallsyms
from invivo.runtime.perf_map import PerfMap, open_map_file
from invivo.runtime.symbols import Binary, own_vdso
from invivo.stacks import FrameKind, Function


class RecordedNames:
    """`formats.stacks.perf_data.Resolver`: a file with another build id than was recorded names nothing."""

    def __init__(self) -> None:
        self._binaries: dict[tuple[str, str], Binary | None] = {}
        self._kallsyms: Kallsyms | None = None
        self._shift: int | None = 0
        self._known: dict[tuple[str, int, bool], Function] = {}
        self._maps: dict[int, PerfMap | None] = {}

    def close(self) -> None:
        """Let go of the files."""
        self._binaries.clear()
        for perf_map in self._maps.values():
            if perf_map is not None:
                perf_map.close()
        if self._kallsyms is not None:
            self._kallsyms.close()

    def user(self, pid: int, mapping: PerfMapping | None, address: int, *, is_caller: bool) -> Function:
        if mapping is None:
            return Function("[unknown]", FrameKind.USER)
        if not mapping.path:
            return self._made(pid, address - is_caller)
        offset = address - mapping.start + mapping.offset
        key = mapping.path, offset, is_caller
        found = self._known.get(key)
        if found is None:
            found = self._known[key] = self._named(mapping, offset, is_caller)
        return found

    def _made(self, pid: int, address: int) -> Function:
        """What is at an address that showed no file: code that was made at run time."""
        if pid not in self._maps:
            path = f"/tmp/perf-{pid}.map"
            self._maps[pid] = open_map_file(path, path, os.geteuid())
        perf_map = self._maps[pid]
        name = perf_map.name(address)[0] if perf_map is not None else ""
        if not name or perf_map is None:
            return Function("[unknown]", FrameKind.USER)
        return Function(name, FrameKind.PYTHON if is_python(name) else FrameKind.JIT, perf_map.path)

    def _named(self, mapping: PerfMapping, offset: int, is_caller: bool) -> Function:
        key = mapping.path, mapping.build_id
        if key not in self._binaries:
            self._binaries[key] = _opened(mapping)
        binary = self._binaries[key]
        symbol = ""
        if binary is not None:
            symbol, _ = binary.caller(offset) if is_caller else binary.symbol(offset)
        if symbol:
            return Function(readable_rust(readable(symbol)), FrameKind.USER, mapping.path)
        if mapping.path.startswith("/") and not mapping.path.startswith("//"):
            return Function(f"[{mapping.path.rpartition('/')[2]}+{offset:#x}]", FrameKind.USER, mapping.path)
        return Function(f"[{mapping.path.strip('[]') or 'unknown'}]", FrameKind.USER)

    def kernel(self, address: int, text: int, release: str, *, is_caller: bool) -> Function:
        if self._kallsyms is None:
            self._kallsyms = Kallsyms()
            self._shift = self._shift_of(text, release)
        if self._shift is not None:
            symbol, _, module = self._kallsyms.names([address + self._shift - is_caller])[0]
            if symbol:
                return Function(symbol, FrameKind.KERNEL, module or "[kernel]")
        return Function(f"[{address:#x}]", FrameKind.KERNEL)

    def _shift_of(self, text: int, release: str) -> int | None:
        """How far the running kernel is from where the recorded one was; None: it is another one."""
        assert self._kallsyms is not None
        if release and release != os.uname().release:
            return None
        try:
            here = self._kallsyms.address("_text") if text else None
        except (InvivoError, OSError):
            return None
        return here - text if here is not None else 0


def _opened(mapping: PerfMapping) -> Binary | None:
    """Open a file, if it is still the one that was mapped."""
    if mapping.path == "[vdso]":
        return Binary(own_vdso(), mapping.path)
    if not mapping.path.startswith("/"):
        return None
    try:
        fd = os.open(mapping.path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
    except OSError:
        return None
    try:
        binary = Binary(mmap.mmap(fd, 0, prot=mmap.PROT_READ), mapping.path)
        known = binary.build_id()
    except (OSError, ValueError, BadFileError):
        return None
    finally:
        os.close(fd)
    return binary if not mapping.build_id or known == mapping.build_id else None
