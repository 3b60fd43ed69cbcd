"""What a guest is made of, from the machine's own Debian package sources: QEMU installed, kernels only unpacked."""

from __future__ import annotations

import lzma
import os
import re
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

RELEASES = ("6.1", "6.12")

# Where Debian 12 (qemu-system-common) and Debian 13 (virtiofsd) keep the daemon that exports a folder.
_VIRTIOFSD = ("/usr/lib/qemu/virtiofsd", "/usr/libexec/virtiofsd")
_PROGRAMS = {"qemu-system-x86_64": "qemu-system-x86", "busybox": "busybox-static"}

# In the order in which they need each other. Debian's 6.1 has them all as modules, 6.12 only the last.
_MODULES = (
    "virtio_ring",
    "virtio",
    "virtio_pci_legacy_dev",
    "virtio_pci_modern_dev",
    "virtio_pci",
    "fuse",
    "virtiofs",
    "overlay",
)


class MissingError(Exception):
    """The machine cannot get something that guests need; the message says what."""


class Kernel(NamedTuple):
    """A kernel that was unpacked: its full release (``6.1.0-56-cloud-amd64``), image and folder of modules."""

    release: str
    image: Path
    modules: Path

    def needed_modules(self) -> Iterator[tuple[str, bytes]]:
        """Yield name and object code of each module without which the guest has no files, in order."""
        for name in _MODULES:
            for path in self.modules.rglob(f"{name}.ko*"):
                code = path.read_bytes()
                yield name, lzma.decompress(code) if path.suffix == ".xz" else code


def cache() -> Path:
    base = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(base) / "invivo-guests"


def virtiofsd() -> str:
    """Return the path of the daemon. Raises `MissingError`."""
    for path in _VIRTIOFSD:
        if os.access(path, os.X_OK):
            return path
    raise MissingError(f"virtiofsd is not at {' or '.join(_VIRTIOFSD)}")


def install_tools() -> None:
    """Install QEMU and busybox if they are missing. Raises `MissingError`."""
    packages = [package for program, package in _PROGRAMS.items() if shutil.which(program) is None]
    if packages:
        _apt("install", "--yes", "--no-install-recommends", *packages)
    virtiofsd()


def fetch_kernel(release: str) -> Kernel:
    """Return the newest cloud kernel of a release (``6.1``), downloaded and unpacked once. Raises `MissingError`."""
    folder = fetch_package(_newest(release))
    (image,) = folder.glob("boot/vmlinuz-*")
    name = image.name.removeprefix("vmlinuz-")
    (modules,) = (path for path in (folder / "lib/modules" / name, folder / "usr/lib/modules" / name) if path.exists())
    return Kernel(name, image, modules)


def fetch_package(package: str) -> Path:
    """Return the folder of a Debian package's files, downloaded and unpacked once. Raises `MissingError`."""
    return _unpacked(package, [package])


def fetch_with_dependencies(package: str) -> Path:
    """Return a folder with the files of a package and of what this machine lacks for it. Raises `MissingError`."""
    folder = cache() / f"{package}+"
    if folder.exists():
        return folder
    try:
        plan = _run(["apt-get", "--simulate", "install", "--reinstall", "--no-install-recommends", package])
    except (FileNotFoundError, subprocess.CalledProcessError) as error:
        raise MissingError(f"{package}: {getattr(error, 'stderr', '') or error}") from error
    return _unpacked(folder.name, re.findall(r"^Inst (\S+)", plan, re.MULTILINE))


def _unpacked(name: str, packages: list[str]) -> Path:
    folder = cache() / name
    if not folder.exists():
        cache().mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=cache()) as temporary:
            download = Path(temporary)
            _apt("download", *packages, folder=download)
            for archive in download.glob("*.deb"):
                _run(["dpkg-deb", "--extract", str(archive), str(download / "unpacked")])
            # Renamed when all is there, so that what was broken off is never taken for the whole.
            (download / "unpacked").rename(folder)
    return folder


def _newest(release: str) -> str:
    """Return the name of the package with the highest version: ``linux-image-6.1.0-56-cloud-amd64``."""
    pattern = rf"^linux-image-{re.escape(release)}[.][0-9.+~deb-]*-cloud-amd64$"
    try:
        listed = _run(["apt-cache", "search", "--names-only", pattern]).splitlines()
    except FileNotFoundError as error:
        raise MissingError(f"no Linux {release} for a guest: this machine has no apt") from error
    names = [line.split()[0] for line in listed]
    if not names:
        raise MissingError(f"no Linux {release} for a guest: the package sources have no {pattern} (apt-get update?)")
    return max(names, key=lambda name: [int(number) for number in re.findall(r"\d+", name)])


def _apt(*words: str, folder: Path | None = None) -> None:
    try:
        _run(["apt-get", "--quiet=2", *words], folder)
    except (FileNotFoundError, subprocess.CalledProcessError) as error:
        details = getattr(error, "stderr", "") or str(error)
        raise MissingError(f"apt-get {' '.join(words)}: {details.strip()}") from error


def _run(words: list[str], folder: Path | None = None) -> str:
    environment = os.environ | {"DEBIAN_FRONTEND": "noninteractive"}
    return subprocess.run(words, check=True, capture_output=True, text=True, cwd=folder, env=environment).stdout
