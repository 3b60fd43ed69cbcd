"""Source lines and inlined functions of recorded frames, from the debug information of their files."""

from __future__ import annotations

import mmap
import os

from invivo.errors import BadFileError
from invivo.events import Frame
from invivo.formats.dwarf import Dwarf
from invivo.formats.elf import Elf
from invivo.formats.inlining import Inlining
from invivo.probes.debug_files import debug_information


class Sources:
    """Opens each file once; one without debug information tells nothing."""

    def __init__(self) -> None:
        self._files: dict[str, tuple[Elf, Inlining] | None] = {}

    def frames(self, frame: Frame, innermost: bool) -> list[tuple[str, str, int]]:
        """Return name, file and line of a frame's function and of what is inlined there, innermost last.

        [] if nothing is known.  A caller's address is that after its call: the call itself is meant.
        """
        if not frame.in_file or not frame.module.startswith("/"):
            return []
        if frame.module not in self._files:
            self._files[frame.module] = _opened(frame.module)
        known = self._files[frame.module]
        try:
            address = None if known is None else known[0].address(frame.in_file)
            if known is None or address is None:
                return []
            found = known[1].frames(address if innermost else address - 1)
            return [(each.name, each.path, each.line) for each in found]
        except BadFileError:
            self._files[frame.module] = None
            return []


def _opened(path: str) -> tuple[Elf, Inlining] | None:
    try:
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
    except OSError:
        return None
    try:
        elf = Elf(mmap.mmap(fd, 0, prot=mmap.PROT_READ), path)
        found = debug_information(elf)
        return (elf, Inlining(Dwarf(found))) if found is not None else None
    except (OSError, ValueError, BadFileError):
        return None
    finally:
        os.close(fd)
