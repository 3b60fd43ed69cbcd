"""Boots a kernel in QEMU on this machine's own files, which it sees but cannot change.

No virtualisation is needed: the processor is emulated. The files of `/` are exported by virtiofsd
from a mount namespace where they are read-only; what the guest writes stays in its memory. The
guest has two serial ports: the first is the console, kept in a file; what the guest's command
writes to the second, ``/dev/ttyS1``, are the lines of `Guest.lines`.
"""

from __future__ import annotations

import queue
import shlex
import shutil
import socket
import subprocess
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from types import TracebackType

from guest.packages import Kernel, virtiofsd

_HERE = Path(__file__).parent
_MEMORY = "3G"
_CPUS = 2
_COMMAND_LINE = (
    "console=ttyS0 quiet loglevel=5 panic=-1 mitigations=off tsc=reliable nokaslr "
    # What only costs time here: zeroed pages, grace periods after each detach, audits.
    "init_on_alloc=0 rcupdate.rcu_expedited=1 apparmor=0 audit=0"
)
# Whatever becomes of the tests, QEMU and virtiofsd end with them.
_WITH_PARENT = ("setpriv", "--pdeathsig", "KILL")


class HungError(Exception):
    """A guest was silent for too long."""


class Guest:
    """A guest that runs one command and powers itself off. Use as a context manager."""

    def __init__(
        self,
        kernel: Kernel,
        command: Sequence[str],
        folder: Path,
        workdir: Path,
        environment: Mapping[str, str],
        command_line: str = "",
    ) -> None:
        """Boot; ``folder`` is for the guest's console and other files, ``workdir`` is where the command runs.

        ``command_line`` is added to the kernel's.  Call it in a thread that lives as long as the guest:
        its processes are told to end with the thread that started them.
        """
        self._console = folder / "console"
        self._lines: queue.SimpleQueue[str | None] = queue.SimpleQueue()
        initramfs = _build_initramfs(kernel, _script(command, workdir, environment), folder)
        self.files = _export(folder)
        self.machine = subprocess.Popen(
            [*_WITH_PARENT, *_qemu(kernel, initramfs, folder, f"{_COMMAND_LINE} {command_line}")],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="replace",
        )
        threading.Thread(target=self._read, daemon=True).start()

    def _read(self) -> None:
        assert self.machine.stdout is not None
        for line in self.machine.stdout:
            self._lines.put(line.rstrip("\r\n"))
        self._lines.put(None)

    def lines(self, silence_s: float) -> Iterator[str]:
        """Yield the lines until the guest ends. Raises `HungError` if none comes for so long."""
        while True:
            try:
                line = self._lines.get(timeout=silence_s)
            except queue.Empty:
                raise HungError(f"the guest said nothing for {silence_s:.0f} seconds") from None
            if line is None:
                return
            yield line

    def console(self) -> str:
        return self._console.read_text(errors="replace") if self._console.exists() else ""

    def __enter__(self) -> Guest:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def stop(self) -> None:
        """End the guest, from any thread; its lines end, too."""
        for process in (self.machine, self.files):
            with suppress(ProcessLookupError):
                process.kill()
            process.wait()


def _export(folder: Path) -> subprocess.Popen[bytes]:
    """Start virtiofsd for `/`, read-only."""
    with socket.socket(socket.AF_UNIX) as listening, (folder / "virtiofsd").open("wb") as log:
        listening.bind(str(folder / "files.sock"))
        listening.listen(1)
        export = [virtiofsd(), f"--fd={listening.fileno()}", "-o", "source=/", "-o", "sandbox=chroot"]
        export += ["-o", "cache=always", "-o", "log_level=err"]
        private = ["unshare", "--mount", "sh", "-c", f"mount -o remount,bind,ro / && exec {shlex.join(export)}"]
        return subprocess.Popen(
            [*_WITH_PARENT, *private],
            pass_fds=[listening.fileno()],
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
        )


def _qemu(kernel: Kernel, initramfs: Path, folder: Path, command_line: str) -> list[str]:
    return [
        *("qemu-system-x86_64", "-nodefaults", "-no-user-config", "-display", "none", "-no-reboot"),
        *("-machine", "q35", "-accel", "tcg,thread=single", "-cpu", "Nehalem", "-smp", str(_CPUS), "-m", _MEMORY),
        *("-object", f"memory-backend-memfd,id=memory,size={_MEMORY},share=on", "-numa", "node,memdev=memory"),
        *("-chardev", f"socket,id=files,path={folder / 'files.sock'}"),
        *("-device", "vhost-user-fs-pci,queue-size=1024,chardev=files,tag=files"),
        *("-kernel", str(kernel.image), "-initrd", str(initramfs), "-append", command_line),
        *("-serial", f"file:{folder / 'console'}", "-serial", "stdio"),
    ]


def _script(command: Sequence[str], workdir: Path, environment: Mapping[str, str]) -> str:
    exports = "".join(f"export {name}={shlex.quote(value)}\n" for name, value in environment.items())
    return f"{exports}cd {shlex.quote(str(workdir))} && {shlex.join(command)}\n"


def _build_initramfs(kernel: Kernel, script: str, folder: Path) -> Path:
    """Pack what leads to the host's files: busybox, modules, `init`, and the command as a script."""
    root = folder / "initramfs"
    (root / "bin").mkdir(parents=True)
    busybox = shutil.which("busybox")
    assert busybox is not None
    shutil.copy2(busybox, root / "bin/busybox")
    shutil.copy2(_HERE / "init", root / "init")
    (root / "init").chmod(0o755)
    shutil.copy2(_HERE / "guest.sh", root / "guest.sh")
    (root / "command.sh").write_text(script)
    (root / "modules").mkdir()
    for number, (name, code) in enumerate(kernel.needed_modules()):
        (root / "modules" / f"{number}-{name}.ko").write_bytes(code)
    packed = folder / "initramfs.cpio"
    with packed.open("wb") as file:
        subprocess.run(
            "find . | busybox cpio -o -H newc", shell=True, cwd=root, stdout=file, stderr=subprocess.PIPE, check=True
        )
    return packed
