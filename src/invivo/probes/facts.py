"""What the running kernel and the files of this machine say, read when it is first asked for."""

from __future__ import annotations

import os
from collections.abc import Collection, Sequence
from typing import Final

from invivo.errors import InvivoError, NotSupportedError, PermissionDeniedError
from invivo.formats.btf import Btf
from invivo.formats.elf import DEBUG_DIRECTORIES, Elf
from invivo.kernel import cpus, processes, vmlinux
from invivo.kernel.features import Features
from invivo.kernel.kallsyms import Kallsyms
from invivo.kernel.programs import BpfFunction
from invivo.kernel.tracefs import Tracefs
from invivo.kernel.vmlinux import open_btf
from invivo.probes import binaries, names
from invivo.probes.kernel_types import KernelTypes
from invivo.probes.provider import VMLINUX, DebugInformation

_CGROUPS: Final = "/sys/fs/cgroup"


class LiveFacts:
    """The running kernel, as providers ask about it (`probes.provider.Facts`)."""

    def __init__(
        self,
        pid: int | None = None,
        *,
        unsafe: bool = False,
        debug_directories: Sequence[str] = DEBUG_DIRECTORIES,
        without: Collection[str] = (),
        functions_file: str = "",
        btf_path: str = "",
    ) -> None:
        """``debug_directories``: where files of debug information are looked for.

        ``without``: features that are not to be used.  ``functions_file``: lists the traceable functions
        instead of the kernel's own list.  ``btf_path``: of a file with the kernel's types instead of its own.
        """
        self._btf_path = btf_path
        self._without = without
        self._functions_file = functions_file
        self.pid = pid
        self.unsafe = unsafe
        self.remarks: list[str] = []
        self._debug_directories = debug_directories
        self._types: KernelTypes | None = None
        self._btf: Btf | None = None
        self._modules: dict[str, KernelTypes | None] = {}
        self._tracefs: Tracefs | None = None
        self._kallsyms: Kallsyms | None = None
        self._elfs: dict[str, Elf] = {}
        self._debug: DebugInformation | None = None
        self._features: Features | None = None

    def close(self) -> None:
        """Give back the mount of tracefs; what is asked afterwards opens it again."""
        if self._tracefs is not None:
            self._tracefs.close()

    def possible_cpus(self) -> int:
        return cpus.possible()

    def btf(self) -> Btf | None:
        """Return the kernel's BTF, None if it has none (CONFIG_DEBUG_INFO_BTF is not set)."""
        self.types()
        return self._btf

    def types(self) -> KernelTypes:
        if self._types is None:
            self._btf = open_btf(path=self._btf_path)
            self._types = KernelTypes(self._btf)
        return self._types

    def tracefs(self) -> Tracefs:
        if self._tracefs is None:
            self._tracefs = Tracefs()
        return self._tracefs

    def events(self, category: str, event: str) -> list[tuple[str, str]]:
        return self.tracefs().events(category, event)

    def event_format(self, category: str, event: str) -> str:
        return self.tracefs().format_text(category, event)

    def module_types(self, module: str) -> KernelTypes | None:
        if module == VMLINUX:
            return self.types()
        if module not in self._modules:
            self.types()
            btf = open_btf(module, self._btf) if self._btf is not None else None
            self._modules[module] = self.types().upon(btf) if btf is not None else None
        return self._modules[module]

    def modules(self) -> list[str]:
        return vmlinux.modules()

    def modules_with(self, function: str) -> list[str]:
        found = [VMLINUX] if self.types().has_function(function) else []
        for module in vmlinux.modules_naming(function) if self._btf is not None else ():
            types = self.module_types(module)
            if types is not None and types.own_function_id(function) is not None:
                found.append(module)
        return found

    def bpf_functions(self) -> Sequence[BpfFunction]:
        from invivo.kernel import objects

        return list(objects.bpf_functions())

    def argument_words(self, program_id: int, type_id: int, declared: int) -> int:
        from invivo.kernel import objects

        return objects.argument_words(program_id, type_id, declared)

    def program_types(self, program_id: int) -> KernelTypes | None:
        name = f"program {program_id}"
        if name not in self._modules:
            from invivo.kernel import objects

            btf = objects.program_types(program_id)
            self._modules[name] = self.types().upon(btf, standalone=True) if btf is not None else None
        return self._modules[name]

    def functions(self, module: str, pattern: str) -> list[tuple[str, str]]:
        """Return the functions that the kernel's tracer lists: ``NAME`` or ``NAME [MODULE]`` on a line."""
        try:
            lines = self._function_list().splitlines()
        except (OSError, InvivoError) as error:
            raise NotSupportedError("a list of traceable functions is", hint=str(error)) from error
        in_module, named = names.matcher(module), names.matcher(pattern)
        # Those of the kernel itself, 50,000, have lines of their names alone: these are sorted, and nothing else.
        found: list[tuple[str, str]] = []
        if in_module(VMLINUX):
            found += [(line, VMLINUX) for line in sorted(set(lines)) if named(line) and " " not in line]
        of_modules: set[tuple[str, str]] = set()
        for line in lines:
            if " " in line:
                name, _, bracketed = line.partition(" ")
                if named(name) and in_module(home := bracketed.strip("\t []") or VMLINUX):
                    of_modules.add((name, home))
        return sorted([*found, *of_modules]) if of_modules else found

    def _function_list(self) -> str:
        if self._functions_file:
            with open(self._functions_file, encoding="utf-8", errors="surrogateescape") as file:
                return file.read()
        return self.tracefs().functions()

    def kernel_address(self, symbol: str) -> int | None:
        return self._symbols().address(symbol)

    def function_size(self, symbol: str) -> int | None:
        try:
            return self._symbols().size(symbol)
        except PermissionDeniedError:
            return None

    def _symbols(self) -> Kallsyms:
        if self._kallsyms is None:
            self._kallsyms = Kallsyms()
        return self._kallsyms

    def binaries(self, name: str) -> list[str]:
        return binaries.resolve(name, self.pid)

    def elf(self, path: str) -> Elf:
        """Return a file's symbols and segments. Raises `OSError`, `BadFileError`."""
        found = self._elfs.get(path)
        if found is None:
            from invivo.probes.debug_files import map_file, symbol_file

            found = Elf(map_file(path), path)
            if found.is_stripped:
                companion = symbol_file(found, self._debug_directories)
                if companion is not None:
                    found.complete(companion)
            self._elfs[path] = found
        return found

    def debug(self) -> DebugInformation:
        if self._debug is None:
            from invivo.probes.user_debug import UserDebug

            self._debug = UserDebug(self.elf, self._debug_directories)
        return self._debug

    def cgroup_id(self, path: str) -> int | None:
        """Return the id of a control group of the unified hierarchy: its directory's inode number."""
        directory = path if path.startswith(_CGROUPS) else f"{_CGROUPS}/{path.lstrip('/')}"
        try:
            return os.stat(directory).st_ino
        except OSError:
            return None

    def pid_namespace(self) -> tuple[int, int] | None:
        """Return device and inode of this process's PID namespace; None if it is the initial one."""
        return processes.pid_namespace()

    def has(self, feature: str) -> bool:
        if feature in self._without:
            return False
        if self._features is None:
            # They look at the types that are read already (and are handed no reference to this object).
            btf = self.btf()
            self._features = Features(lambda: btf)
        return self._features.has(feature)
