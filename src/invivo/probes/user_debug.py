"""What the debug information of traced programs tells: arguments, members of their structs, lines of their source."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from invivo.errors import BadFileError
from invivo.formats.dwarf import Dwarf
from invivo.formats.elf import Elf
from invivo.ir.types import Field, Struct
from invivo.probes import user_arguments
from invivo.probes.debug_files import debug_information, supplement
from invivo.probes.user_types import UserTypes
from invivo.target import Argument


class UserDebug:
    """Debug information by the paths of programs; each file's is opened once. `probes.provider.DebugInformation`."""

    def __init__(self, elf: Callable[[str], Elf], directories: Sequence[str]) -> None:
        self._elf = elf
        self._directories = directories
        self._files: dict[str, Dwarf | None] = {}
        self._types = UserTypes()

    def dwarf(self, path: str) -> Dwarf | None:
        """Return a file's debug information, None if there is none. Raises `OSError`, `BadFileError`."""
        if path not in self._files:
            found = debug_information(self._elf(path), self._directories)
            rest = supplement(found, self._directories) if found is not None else None
            self._files[path] = Dwarf(found, rest) if found is not None else None
        return self._files[path]

    def arguments(self, path: str, address: int, *, clone: bool) -> tuple[Argument, ...] | None:
        try:
            dwarf = self.dwarf(path)
            function = dwarf.function(address) if dwarf is not None else None
            if dwarf is None or function is None:
                return None
            return user_arguments.arguments(dwarf, function, self._types, clone=clone)
        except (BadFileError, OSError):
            return None

    def parameters(self, path: str, address: int) -> tuple[tuple[str, str], ...]:
        try:
            dwarf = self.dwarf(path)
            function = dwarf.function(address) if dwarf is not None else None
            if dwarf is None or function is None:
                return ()
            return tuple((dwarf.spelling(each.type), each.name) for each in function.parameters)
        except (BadFileError, OSError):
            return ()

    def lines(self, path: str, file: str) -> list[tuple[int, int, int]] | None:
        dwarf = self.dwarf(path)
        return None if dwarf is None else [(row.line, row.column, row.address) for row in dwarf.lines(file)]

    def fields(self, struct: Struct) -> tuple[Field, ...]:
        return self._types.fields(struct)

    def field(self, struct: Struct, name: str) -> Field | None:
        return self._types.field(struct, name)
