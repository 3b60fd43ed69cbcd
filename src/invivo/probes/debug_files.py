"""Where the symbols and debug information are that were stripped from a program."""

from __future__ import annotations

import mmap
from collections.abc import Sequence
from typing import Final

from invivo.errors import BadFileError
from invivo.formats.elf import DEBUG_DIRECTORIES, SHT_NOBITS, Elf

_MOST_BYTES: Final = 64 << 20  # of symbols that are packed into a program itself


def map_file(path: str) -> mmap.mmap | bytes:
    """Map a file read-only; its pages are read as they are touched. Raises `OSError`."""
    with open(path, "rb") as file:
        try:
            return mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
        except (ValueError, OSError):
            return file.read()  # an empty file, or one of a file system that cannot map


def debug_file(elf: Elf, directories: Sequence[str] = DEBUG_DIRECTORIES) -> Elf | None:
    """Return the file with the debug information of ``elf``, None if there is none that belongs to it.

    It belongs to it if both have the same build id; without one, if its CRC-32 is the one that was noted.
    """
    try:
        places = elf.debug_paths(directories)
        build_id, link = elf.build_id, elf.debug_link
    except BadFileError:
        return None
    for place in places:
        try:
            found = Elf(map_file(place), place)
            if place != elf.path and _belongs(found, build_id, link):
                return found
        except (OSError, BadFileError):
            continue
    return None


def _belongs(found: Elf, build_id: str | None, link: tuple[str, int] | None) -> bool:
    if build_id is not None:
        return found.build_id == build_id
    from zlib import crc32  # only for files without a build id

    return link is not None and crc32(found.whole()) == link[1]


def symbol_file(elf: Elf, directories: Sequence[str] = DEBUG_DIRECTORIES) -> Elf | None:
    """Return a file with the symbols that were stripped from ``elf``: its debug file, or one packed into itself."""
    found = debug_file(elf, directories)
    if found is not None and not found.is_stripped:
        return found
    try:
        packed = elf.section(".gnu_debugdata")
        content = elf.content(packed) if packed is not None else b""
    except BadFileError:
        return None
    return _unpacked(bytes(content), elf.path) if content else None


def _unpacked(packed: bytes, path: str) -> Elf | None:
    import lzma  # few files have such a section

    try:
        unpacked = lzma.LZMADecompressor(memlimit=4 * _MOST_BYTES).decompress(packed, _MOST_BYTES)
        return Elf(unpacked, f"{path} (.gnu_debugdata)")
    except (lzma.LZMAError, EOFError, BadFileError):
        return None


def supplement(elf: Elf, directories: Sequence[str] = DEBUG_DIRECTORIES) -> Elf | None:
    """Return the file with what ``dwz`` took out of the debug information of ``elf``; None if there is none.

    Raises `BadFileError` if it is needed and missing.
    """
    link = elf.alternate_link
    if link is None:
        return None
    name, build_id = link
    places = [name if name.startswith("/") else f"{elf.path.rpartition('/')[0]}/{name}"]
    places += [f"{each}/.build-id/{build_id[:2]}/{build_id[2:]}.debug" for each in directories if each.startswith("/")]
    for place in places:
        try:
            found = Elf(map_file(place), place)
            if found.build_id == build_id:
                return found
        except (OSError, BadFileError):
            continue
    raise BadFileError(elf.path, f"the rest of its debug information, which dwz took out, is missing: {name}")


def debug_information(elf: Elf, directories: Sequence[str] = DEBUG_DIRECTORIES) -> Elf | None:
    """Return the file that has the DWARF of ``elf``: itself or its debug file; None if there is none."""
    for found in (elf, debug_file(elf, directories)):
        section = found.section(".debug_info") if found is not None else None
        if found is not None and section is not None and section.type != SHT_NOBITS:
            return found
    return None
