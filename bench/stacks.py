"""How long it takes to make a flame graph of many samples: ``python -m bench.stacks [SAMPLES ...]``.

A recording of ``perf record -g`` of commands that the bench starts itself is repeated until it has as many samples
(100,000 and 1,000,000).  ``invivo flame`` reads the file, names the addresses, folds and draws; beside it stands
``perf script`` alone, which only prints what others then would have to fold and draw.
"""

from __future__ import annotations

import resource
import shutil
import struct
import subprocess
import sys
import tempfile
import time
from pathlib import Path

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


def timed(words: list[str], output: Path) -> tuple[float, int]:
    """Run a command with its output in a file; return seconds and the peak of its memory in MiB."""
    before = time.monotonic()
    with output.open("wb") as file, subprocess.Popen(words, stdout=file, stderr=subprocess.DEVNULL) as running:
        running.wait()
    seconds = time.monotonic() - before
    assert running.returncode == 0, words
    return seconds, resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss >> 10


def main() -> int:
    perf = shutil.which("perf")
    if perf is None:
        sys.stderr.write("bench: perf is not installed (linux-perf)\n")
        return 1
    with tempfile.TemporaryDirectory(prefix="bench-") as name:
        folder = Path(name)
        record = [perf, "record", "-q", "-F", "4999", "-g", "-o", str(folder / "once"), "sh", "-c", _COMMAND]
        subprocess.run(record, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        for wanted in map(int, sys.argv[1:] or ("100000", "1000000")):
            data, count = repeated((folder / "once").read_bytes(), wanted)
            (folder / "many").write_bytes(data)
            flame = [sys.executable, "-m", "invivo", "flame", str(folder / "many"), "-o", str(folder / "many.svg")]
            seconds, memory = timed(flame, folder / "out")
            sys.stdout.write(f"{count:,} samples: invivo flame {seconds:.2f} s, at most {memory} MiB\n")
            seconds, _ = timed([perf, "script", "-i", str(folder / "many")], folder / "out")
            sys.stdout.write(f"{count:,} samples: perf script alone {seconds:.2f} s\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
