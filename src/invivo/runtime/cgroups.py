"""Control groups: their paths by number, and the group that a user means."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from fnmatch import fnmatchcase

from invivo.errors import InvivoError
from invivo.kernel.files import read_text

_SHORTEST_ID = 4  # of a container, as people shorten it


def find_cgroup(path: str) -> tuple[int, int]:
    """Return number and depth of a group of the unified hierarchy (version 2).

    ``path`` is a folder, or a path inside the hierarchy.  Raises `InvivoError`.
    """
    root, folder = _unified(), cgroup_folder(path)
    below = os.path.relpath(os.path.realpath(folder), root)
    if below.startswith("..") or not os.path.isdir(folder):
        raise InvivoError(f"no cgroup '{path}'", f"it is a folder below {root}")
    return os.stat(folder).st_ino, 0 if below == "." else len(below.split("/"))


def cgroup_folder(path: str) -> str:
    """Return the folder that is meant by a folder or a path inside the unified hierarchy. Raises `InvivoError`."""
    return path if os.path.isabs(path) and os.path.isdir(path) else os.path.join(_unified(), path.lstrip("/"))


def members(path: str) -> tuple[int, ...]:
    """Return the processes that are in a group now, or in one below it. Raises `InvivoError`."""
    found: list[int] = []
    for directory, _, _ in os.walk(cgroup_folder(path)):
        try:
            found += map(int, read_text(f"{directory}/cgroup.procs").split())
        except OSError:
            continue  # gone since, or a group of threads: its processes are told above
    return tuple(found)


def find_container(name: str) -> str:
    """Return the folder of the cgroup whose name has a container's id in it. Raises `InvivoError`."""
    root = _unified()
    if len(name) < _SHORTEST_ID:
        raise InvivoError(f"'{name}' is too short for the id of a container", f"at least {_SHORTEST_ID} characters")
    found = [directory for directory, _, _ in os.walk(root) if _is_container(os.path.basename(directory), name)]
    # A runtime may make groups of its own inside: the outermost is the container.
    outermost = [each for each in found if not any(each.startswith(other + "/") for other in found)]
    if len(outermost) != 1:
        problem = "no cgroup is" if not outermost else f"{len(outermost)} cgroups are"
        raise InvivoError(f"{problem} that of a container '{name}'", "--cgroup takes the path of a cgroup")
    return outermost[0]


def _is_container(folder: str, name: str) -> bool:
    """Names of the field's runtimes: ``ID``, ``docker-ID.scope``, ``cri-containerd-ID.scope``, ``lxc.payload.ID``."""
    own = folder.removesuffix(".scope").removesuffix(".service")
    return any(part.startswith(name) for part in (own, own.rpartition("-")[2], own.removeprefix("lxc.payload.")))


def _unified() -> str:
    for hierarchy, root in _hierarchies():
        if hierarchy == "unified":
            return root
    raise InvivoError("the unified cgroup hierarchy (version 2) is not mounted")


class Cgroups:
    """Paths of cgroups by id. The id of a cgroup is the inode number of its directory."""

    def __init__(self) -> None:
        self._paths: dict[int, list[tuple[str, str]]] = {}
        self._read_at = float("-inf")

    def path(self, cgroup: int, pattern: str) -> str:
        """Return ``hierarchy:path``, several with commas; "" if there is none that matches."""
        found = self._paths.get(cgroup)
        if found is None and time.monotonic() - self._read_at > 1:
            self._read()
            found = self._paths.get(cgroup)
        return ",".join(
            f"{hierarchy}:{path}" for hierarchy, path in found or () if not pattern or fnmatchcase(hierarchy, pattern)
        )

    def _read(self) -> None:
        self._paths = {}
        self._read_at = time.monotonic()
        for hierarchy, root in _hierarchies():
            for directory, _, _ in os.walk(root):
                try:
                    inode = os.stat(directory).st_ino
                except OSError:
                    continue
                self._paths.setdefault(inode, []).append((hierarchy, directory[len(root) :] or "/"))


def _hierarchies() -> Iterator[tuple[str, str]]:
    """Names and mount points of the cgroup hierarchies; version 2 is called "unified"."""
    for line in read_text("/proc/self/mountinfo").splitlines():
        # 29 23 0:26 / /sys/fs/cgroup rw,nosuid shared:4 - cgroup2 cgroup2 rw
        before, _, after = line.partition(" - ")
        mounted = before.split()[4]
        kind = after.split()[0]
        if kind == "cgroup2":
            yield "unified", mounted
        elif kind == "cgroup":
            yield os.path.basename(mounted), mounted
