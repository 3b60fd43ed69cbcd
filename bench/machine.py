"""The machine that is measured on: what it is, and what has to be there before anything runs."""

from __future__ import annotations

import os
import platform
import re
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from invivo.version import VERSION

# What bench/load.c does besides its lseek calls.
OPENS = 3
PARENTS = 5

# Not in anybody's home: PostgreSQL runs as nobody.
_FETCHED = Path("/var/cache/invivo-bench")
_TRACEFS = "/sys/kernel/tracing"


class BenchError(Exception):
    """Nothing can be measured, and why."""


def prepare() -> None:
    """Become root's process that can run every contender, or raise `BenchError`.

    bpftrace finds tracepoints only where tracefs is mounted.  Where it is not, the bench starts itself again in
    a mount namespace of its own and mounts it there: the machine's mounts stay as they are, and it ends with us.
    """
    if os.geteuid() != 0:
        raise BenchError("the bench traces the kernel, so it has to be run by root")
    need("bpftrace", "bpftrace")
    if not any(os.path.isdir(f"{root}/events") for root in (_TRACEFS, "/sys/kernel/debug/tracing")):
        again = [sys.executable, "-m", "bench", *sys.argv[1:]]
        mount = f'mount -t tracefs tracefs {_TRACEFS} && exec "$@"'
        os.execvp("unshare", ["unshare", "--mount", "--propagation", "private", "sh", "-c", mount, "sh", *again])


def need(tool: str, package: str) -> None:
    """Install a contender if it is not here, or raise `BenchError`."""
    if shutil.which(tool) is None:
        install(package)


def install(package: str) -> None:
    """Install a Debian package that a contender needs, or raise `BenchError`."""
    command = ["apt-get", "install", "--yes", "--no-install-recommends", package]
    if subprocess.run(command, check=False, stdout=subprocess.DEVNULL).returncode != 0:
        raise BenchError(f"{package} is not here, and `{' '.join(command)}` failed")


def fetch(name: str, *packages: str) -> Path:
    """Return a folder with the files of Debian packages, which are only unpacked, once. Everybody can read it."""
    folder = _FETCHED / name
    if not folder.exists():
        _FETCHED.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=_FETCHED) as temporary:
            download = Path(temporary)
            command = ["apt-get", "--quiet=2", "download", *packages]
            if subprocess.run(command, cwd=download, check=False, stderr=subprocess.DEVNULL).returncode != 0:
                raise BenchError(f"`{' '.join(command)}` failed")
            for archive in download.glob("*.deb"):
                subprocess.run(["dpkg-deb", "--extract", str(archive), str(download / "files")], check=True)
            (download / "files").rename(folder)
    return folder


def newest(pattern: str) -> str:
    """The last package by name that matches a pattern, or `BenchError`."""
    command = ["apt-cache", "search", "--names-only", f"^{pattern}$"]
    found = subprocess.run(command, check=True, capture_output=True, text=True).stdout.splitlines()
    if not found:
        raise BenchError(f"the package sources have no {pattern} (apt-get update?)")
    return max((line.split()[0] for line in found), key=lambda name: [int(n) for n in re.findall(r"\d+", name)])


def build(name: str, folder: Path) -> Path:
    """Compile one of the bench's own programs in C into a folder; return the program's path."""
    program = folder / name
    source = Path(__file__).with_name(f"{name}.c")
    subprocess.run(["gcc", "-O2", "-Wall", "-o", str(program), str(source)], check=True)
    return program


def libc_path() -> str:
    """The C library that programs of this machine use."""
    for line in Path("/proc/self/maps").read_text().splitlines():
        path = line.split(maxsplit=5)[-1]
        if Path(path).name.startswith("libc.so"):
            return path
    raise BenchError("this Python does not use a shared C library")


def describe() -> dict[str, str]:
    """What a reader of the figures has to know of the machine."""
    model = next(
        (line.split(":", 1)[1].strip() for line in _lines("/proc/cpuinfo") if line.startswith("model name")), ""
    )
    memory_kib = int(next(line.split()[1] for line in _lines("/proc/meminfo") if line.startswith("MemTotal")))
    return {
        "date": time.strftime("%Y-%m-%d"),
        "kernel": platform.release(),
        "processor": model,
        "processors": str(os.cpu_count()),
        "memory": f"{memory_kib / (1 << 20):.0f} GiB",
        "load average at the start": f"{os.getloadavg()[0]:.2f}",
        "python": platform.python_version(),
        "invivo": VERSION,
        "bpftrace": _version("bpftrace", "--version"),
        "perf": _version("perf", "--version"),
        "strace": _version("strace", "--version"),
        "clang": _version("clang", "--version"),
    }


def _version(*command: str) -> str:
    """The first number of a version that a command says."""
    if shutil.which(command[0]) is None:
        return "not installed"
    said = subprocess.run(command, capture_output=True, text=True, check=False).stdout
    found = re.search(r"\d+\.\d[\w.]*", said)
    return found[0] if found else said.strip()


def _lines(path: str) -> list[str]:
    return Path(path).read_text().splitlines()
