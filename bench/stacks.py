"""How long from recorded samples to a flame graph, and how much memory: 100,000 and 1,000,000 of them.

A recording of ``perf record -g`` of commands that the bench starts itself is repeated until it has as many samples.
``invivo flame`` reads perf.data, or the text of ``perf script``, names the addresses, folds and draws.  Beside it
stand ``perf script`` alone, which only prints what others then have to fold and draw; perf's own stackcollapse.py,
which folds and draws nothing; stackvis, FlameGraph's two scripts in JavaScript, which npm installs; and FlameGraph
itself where it is (no registry has a package of it).

``python -m bench.stacks [SAMPLES ...]`` asks with other numbers of samples.
"""

from __future__ import annotations

import os
import re
import shlex
import shutil
import struct
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

from bench.contenders import INVIVO, Bench, Launcher
from bench.figures import LOST, Figures, format_table
from bench.machine import BenchError, build

TITLE = "From recorded samples to a flame graph"
SAMPLES = (100_000, 1_000_000)
_MOST_RUNS = 3
_MOST_SLOW_RUNS = 1  # with a million samples

_COMMAND = (
    "find /usr/share/doc -type f | sort | gzip > /dev/null; python3 -c 'import json; json.dumps([*range(400000)])'"
)
_HEADER = struct.Struct("<8sQQQQQQQQ4Q")  # as in formats/stacks/perf_data.py
_SAMPLE, _FINISHED_ROUND = 9, 68


def repeated(data: bytes, samples: int) -> tuple[bytes, int]:
    """Return a perf.data file whose samples have been repeated until there are as many, and how many there are."""
    fields = list(_HEADER.unpack_from(data))
    start, size, features = fields[5], fields[6], fields[9:]
    kept, found, count, at = [], [], 0, start
    while at < start + size:
        kind, _, length = struct.unpack_from("<IHH", data, at)
        record = data[at : at + length]
        if kind == _SAMPLE:
            found.append(record)
        elif kind != _FINISHED_ROUND:
            kept.append(record)
        at += length
    times = -(-samples // len(found))
    count = times * len(found)
    body = b"".join(kept) + b"".join(found) * times
    moved = len(body) - size
    table = bytearray(data[start + size :])
    for number in range(sum(word.bit_count() for word in features)):
        place, length = struct.unpack_from("<QQ", table, 16 * number)
        struct.pack_into("<QQ", table, 16 * number, place + moved, length)
    fields[6] = len(body)
    return _HEADER.pack(*fields) + data[_HEADER.size : start] + body + bytes(table), count


class _Files:
    """What is read: perf.data and the text of it."""

    def __init__(self, folder: Path, samples: int) -> None:
        self.is_large = samples > SAMPLES[0]
        recorded = folder / "once"
        if not recorded.exists():
            perf = ["perf", "record", "-q", "-F", "4999", "-g", "-o", str(recorded), "sh", "-c", _COMMAND]
            subprocess.run(perf, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        data, self.samples = repeated(recorded.read_bytes(), samples)
        self.folder, self.data, self.text = folder, folder / "many", folder / "many.txt"
        self.data.write_bytes(data)
        # perf prints what was recorded in seconds, and its repetitions in minutes: the text is repeated here.
        script = ["perf", "script", "-i", str(recorded)]
        printed = subprocess.run(script, check=True, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL).stdout
        _, once = repeated(recorded.read_bytes(), 1)
        with self.text.open("wb") as file:
            for _ in range(self.samples // once):
                file.write(printed)


def _stackvis(folder: Path) -> Path | None:
    """Install stackvis into a folder, and return that of its programs; None without npm or a registry."""
    programs = folder / "node_modules" / ".bin"
    if not programs.exists() and shutil.which("npm"):
        words = [
            "npm",
            "install",
            "stackvis@0.5.0",
            "--ignore-scripts",
            "--no-audit",
            "--no-fund",
            "--prefix",
            str(folder),
        ]
        subprocess.run(words, check=False, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    return programs if (programs / "stackcollapse-perf").exists() else None


def _contenders(files: _Files) -> list[tuple[str, str, str, Path | None]]:
    """What is read, who reads it, the shell's command, and the picture whose samples are counted."""
    data, text = shlex.quote(str(files.data)), shlex.quote(str(files.text))
    drawn, out = files.folder / "drawn.svg", shlex.quote(str(files.folder / "out"))
    invivo = f"{shlex.quote(sys.executable)} -m invivo flame"
    found: list[tuple[str, str, str, Path | None]] = [
        ("perf.data", INVIVO.name, f"{invivo} {data} -o {shlex.quote(str(drawn))}", drawn),
        ("perf.data", "perf script alone", f"perf script -i {data} > {out}", None),
        ("text of perf script", INVIVO.name, f"{invivo} {text} -o {shlex.quote(str(drawn))}", drawn),
    ]
    collapse = _perf_folder() / "scripts" / "python" / "stackcollapse.py"
    if collapse.exists() and not files.is_large:
        command = f"perf script -i {data} -s {shlex.quote(str(collapse))} > {out}"
        found.append(("perf.data", "perf, stackcollapse.py", command, None))
    stackvis = _stackvis(files.folder)
    if stackvis is not None:
        draw = f"{stackvis}/stackcollapse-perf 2>/dev/null | {stackvis}/flamegraph > {out}"
        found.append(("perf.data", "perf, stackvis", f"perf script -i {data} | {draw}", None))
        found.append(("text of perf script", "perf, stackvis", f"cat {text} | {draw}", None))
    if shutil.which("stackcollapse-perf.pl") and shutil.which("flamegraph.pl"):
        draw = f"stackcollapse-perf.pl | flamegraph.pl > {out}"
        found.append(("perf.data", "perf, FlameGraph", f"perf script -i {data} | {draw}", None))
        found.append(("text of perf script", "perf, FlameGraph", f"cat {text} | {draw}", None))
    return found


def _perf_folder() -> Path:
    done = subprocess.run(["perf", "--exec-path"], capture_output=True, text=True, check=True)
    return Path(done.stdout.strip())


def measure(bench: Bench) -> Figures:
    """Run each contender in turn, for each number of samples."""
    return ask(bench.launcher, SAMPLES, bench.runs, bench.note)


def ask(launcher: Launcher, numbers: tuple[int, ...], runs: int, note: Callable[[str], None]) -> Figures:
    """Raises `BenchError` without perf."""
    if shutil.which("perf") is None:
        raise BenchError("perf is not installed (linux-perf)")
    figures = Figures()
    with tempfile.TemporaryDirectory(prefix="bench-") as name:
        for wanted in numbers:
            files = _Files(Path(name), wanted)
            for number in range(min(runs, _MOST_SLOW_RUNS if files.is_large else _MOST_RUNS)):
                note(f"stacks, run {number + 1}: {wanted:,} samples")
                for source, contender, command, picture in _contenders(files):
                    run = launcher.run(["sh", "-c", f"{command} 2>{os.devnull}"])
                    values = {"s": run.wall_s, "peak memory, MiB": run.peak_kib / 1024}
                    if picture is not None:
                        values[LOST] = files.samples - _drawn(picture)
                    figures.add(f"{wanted:,} samples, {source}", contender, values)
    return figures


def _drawn(picture: Path) -> int:
    """How many samples are in a flame graph."""
    found = re.search(r"<title>all \(([0-9,]+) samples", picture.read_text())
    return int(found[1].replace(",", "")) if found else 0


def main() -> int:
    numbers = tuple(map(int, sys.argv[1:])) or SAMPLES
    with tempfile.TemporaryDirectory(prefix="bench-") as folder:
        launcher = Launcher(build("launch", Path(folder)))
        try:
            figures = ask(launcher, numbers, 1, lambda text: None)
        except BenchError as problem:
            sys.stderr.write(f"bench: {problem}\n")
            return 1
    sys.stdout.write(f"{format_table(figures.all())}\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
