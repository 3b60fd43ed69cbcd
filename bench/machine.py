"""The machine that is measured on: what it is, and what has to be there before anything runs."""

from __future__ import annotations

import os
import platform
import shutil
import subprocess
import sys
import time
from pathlib import Path

from invivo.version import VERSION

# What bench/load.c does besides its lseek calls.
OPENS = 3
PARENTS = 5

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
    if shutil.which("bpftrace") is None:
        install("bpftrace")
    if not any(os.path.isdir(f"{root}/events") for root in (_TRACEFS, "/sys/kernel/debug/tracing")):
        again = [sys.executable, "-m", "bench", *sys.argv[1:]]
        mount = f'mount -t tracefs tracefs {_TRACEFS} && exec "$@"'
        os.execvp("unshare", ["unshare", "--mount", "--propagation", "private", "sh", "-c", mount, "sh", *again])


def install(package: str) -> None:
    """Install a Debian package that a contender needs, or raise `BenchError`."""
    command = ["apt-get", "install", "--yes", "--no-install-recommends", package]
    if subprocess.run(command, check=False, stdout=subprocess.DEVNULL).returncode != 0:
        raise BenchError(f"{package} is not here, and `{' '.join(command)}` failed")


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
    version = subprocess.run(["bpftrace", "--version"], capture_output=True, text=True, check=False).stdout.strip()
    return {
        "date": time.strftime("%Y-%m-%d"),
        "kernel": platform.release(),
        "processor": model,
        "processors": str(os.cpu_count()),
        "memory": f"{memory_kib / (1 << 20):.0f} GiB",
        "load average at the start": f"{os.getloadavg()[0]:.2f}",
        "python": platform.python_version(),
        "invivo": VERSION,
        "bpftrace": version,
    }


def _lines(path: str) -> list[str]:
    return Path(path).read_text().splitlines()
