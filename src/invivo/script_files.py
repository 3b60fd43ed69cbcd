"""The files that a script imports or includes."""

from __future__ import annotations

import os
import stat
from collections.abc import Sequence

from invivo.diagnostics import SourceFile
from invivo.target import FoundFiles, ImportedFile

_IMPORTABLE = (".bt", ".h", ".bpf.c")
_WORLD_WRITABLE = "cowardly refusing to import from a directory with global write permissions"


class DiskFiles:
    """A `target.ScriptFiles`: names are relative to the script that uses them.

    ``include_folders`` are searched for headers (``-I``). Bytes that are not UTF-8 become
    surrogates, as in scripts.
    """

    def __init__(self, include_folders: Sequence[str] = ()) -> None:
        self._include_folders = tuple(include_folders)

    def identity(self, name: str) -> str:
        return os.path.realpath(name)

    def find(self, path: str, importer: str) -> FoundFiles:
        """Read the file or all importable files of the folder ``path``, in order of their names."""
        place = os.path.join(os.path.dirname(importer), path)
        if os.path.isdir(place):
            if _all_may_write(place):
                return FoundFiles(checked=(place,), refused=_WORLD_WRITABLE)
            names = sorted(name for name in os.listdir(place) if name.endswith(_IMPORTABLE))
            return FoundFiles(tuple(_read(os.path.join(place, name)) for name in names), (place,))
        if not os.path.isfile(place):
            return FoundFiles(checked=(place,))
        folder = os.path.dirname(place) or "."
        if _all_may_write(folder) and not os.stat(folder).st_mode & stat.S_ISVTX:
            return FoundFiles(checked=(place,), refused=_WORLD_WRITABLE)
        return FoundFiles((_read(place),), (place,))

    def header(self, path: str, importer: str, *, quoted: bool) -> ImportedFile | None:
        beside = [os.path.dirname(importer)] if quoted else []
        for folder in (*beside, *self._include_folders):
            place = os.path.join(folder, path)
            if os.path.isfile(place):
                return _read(place)
        return None


def _all_may_write(folder: str) -> bool:
    return bool(os.stat(folder).st_mode & stat.S_IWOTH)


def _read(path: str) -> ImportedFile:
    """Read a file. Raises `OSError`."""
    with open(path, encoding="utf-8", errors="surrogateescape") as file:
        return ImportedFile(SourceFile(path, file.read()), os.path.realpath(path))
