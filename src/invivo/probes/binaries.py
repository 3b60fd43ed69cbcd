"""Which files the target of a user-space probe means: a path, a name in ``$PATH``, a library, a pattern."""

from __future__ import annotations

import os
import struct
from collections.abc import Iterator
from fnmatch import fnmatchcase
from typing import Final

from invivo.kernel.files import read_bytes, read_text

LD_CACHE: Final = "/etc/ld.so.cache"

# struct cache_file_new and struct file_entry_new, sysdeps/generic/dl-cache.h of glibc.
_CACHE_MAGIC: Final = b"glibc-ld.so.cache1.1"
_CACHE_HEADER: Final = struct.Struct("<20sII20x")  # magic, number of libraries, length of the strings
_CACHE_ENTRY: Final = struct.Struct("<iIIIQ")  # flags, name, path, OS version, hardware capabilities
_FLAGS_X86_64: Final = 0x0303  # FLAG_ELF_LIBC6 | FLAG_X8664_LIB64

# Where libraries are if there is no cache (musl, a container's root).
_LIBRARY_DIRECTORIES: Final = ("lib", "lib64", "usr/lib", "usr/lib64", "usr/local/lib", "lib/x86_64-linux-gnu")


def resolve(name: str, pid: int | None) -> list[str]:
    """Return the paths of existing regular files that ``name`` means, none if there is none.

    A name without a slash is an executable in ``$PATH`` (all that have the name, the shell's first),
    else a library (``libc``, ``libc.so.6``).  With a process, a path means the file that the process sees under it.
    """
    root = f"/proc/{pid}/root" if pid is not None else ""
    if "/" not in name:
        if "*" in name:
            return sorted(set(_mapped_files(pid, name)))
        return _in_search_path(name) or _library(name, root)
    if "*" in name:
        return sorted(filter(os.path.isfile, _matching(os.path.abspath(name))))
    return [path for path in (_seen_by(root, os.path.abspath(name)),) if os.path.isfile(path)]


def of_process(pid: int) -> str:
    """Return the executable of a process, as a path that other processes can open."""
    link = f"/proc/{pid}/exe"
    try:
        path = os.readlink(link)
    except OSError:
        return link
    return _seen_by(f"/proc/{pid}/root", path) if not path.endswith(" (deleted)") else link


def _seen_by(root: str, path: str) -> str:
    """Return the path, or the one through the process's root if that is another file."""
    if not root or not path.startswith("/") or path.startswith("/proc/"):
        return path
    try:
        if os.path.samefile(path, root + path):
            return path
    except OSError:
        pass
    return root + path if os.path.exists(root + path) else path


def _in_search_path(name: str) -> list[str]:
    directories = os.environ.get("PATH", os.defpath).split(os.pathsep)
    paths = [os.path.join(directory or ".", name) for directory in directories]
    return [path for path in dict.fromkeys(paths) if os.path.isfile(path) and os.access(path, os.X_OK)]


def _library(name: str, root: str) -> list[str]:
    """Find ``libc``, ``libc.so`` or ``libc.so.6``: by the loader's cache, then where libraries usually are."""
    if not name.startswith("lib"):
        return []
    try:
        cached = parse_ld_cache(read_bytes(root + LD_CACHE), name)
    except OSError:
        cached = ()
    candidates = [path for soname, path in cached if _names_library(soname, name)]
    if not candidates:
        for directory in _LIBRARY_DIRECTORIES:
            found = _matching(os.path.join(root or "/", directory, name + "*"))
            candidates += sorted(path for path in found if _names_library(os.path.basename(path), name))
    for path in candidates:
        seen = _seen_by(root, path)
        if os.path.isfile(seen):
            return [seen]
    return []


def _matching(pattern: str) -> list[str]:
    """Return the paths that a pattern matches, as the shell's ``*`` does."""
    from glob import glob  # 1 ms, for what most scripts do not have

    return glob(pattern)


def _names_library(soname: str, name: str) -> bool:
    """``libc`` and ``libc.so`` mean any version; ``libc.so.6`` that one (and ``libc.so.6.1``)."""
    whole = name if ".so" in name else name + ".so"
    return soname == whole or soname.startswith(whole + ".")


def parse_ld_cache(data: bytes, prefix: str = "") -> tuple[tuple[str, str], ...]:
    """Return soname and path of each x86-64 library of glibc's ``/etc/ld.so.cache`` that begins so, best first.

    A cache of another form, or a damaged one, has none.
    """
    start = data.find(_CACHE_MAGIC)
    if start < 0 or len(data) < start + _CACHE_HEADER.size:
        return ()
    _, count, _ = _CACHE_HEADER.unpack_from(data, start)
    table = start + _CACHE_HEADER.size
    if len(data) < table + count * _CACHE_ENTRY.size:
        return ()
    begin = prefix.encode("utf-8", "surrogateescape")
    return tuple(
        (_text(data, start + name), _text(data, start + path))
        for flags, name, path, _, capabilities in _CACHE_ENTRY.iter_unpack(
            data[table : table + count * _CACHE_ENTRY.size]
        )
        if flags == _FLAGS_X86_64 and not capabilities and data.startswith(begin, start + name)
    )


def _text(data: bytes, offset: int) -> str:
    end = data.find(b"\0", offset)
    return data[offset : end if end >= 0 else len(data)].decode("utf-8", "surrogateescape")


def _mapped_files(pid: int | None, pattern: str) -> Iterator[str]:
    """Yield the files with code that a process has mapped and whose name matches."""
    if pid is None:
        return
    for line in read_text(f"/proc/{pid}/maps").splitlines():
        columns = line.split(maxsplit=5)
        if len(columns) == 6 and "x" in columns[1] and columns[5].startswith("/"):
            path = _seen_by(f"/proc/{pid}/root", columns[5])
            if fnmatchcase(os.path.basename(path), pattern) and os.path.isfile(path):
                yield path
