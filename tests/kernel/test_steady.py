"""A trace that runs for long takes no more memory and no more descriptors than at its beginning.

``INVIVO_STEADY_MINUTES`` says how long (`make soak`: an hour).
"""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Final, NamedTuple

from workloads import build

MINUTES: Final = float(os.environ.get("INVIVO_STEADY_MINUTES", "0.1"))
_WARM: Final = 0.25  # of the time; until then caches fill
_GROWTH_KB: Final = 2048

# Values, strings, stacks, keys that come and go, and a map that is printed and cleared: all that a reader keeps.
_PROGRAM: Final = """
    uprobe:%(program)s:hit {
        @counts[arg0 %% 1000] = count(); @last[tid] = str(arg2); @stacks[ustack(4)] = count();
        @started[arg0] = nsecs;
        if (arg0 %% 100 == 0) { printf("%%d %%s\\n", arg0, str(arg2)); print(@last); clear(@counts); }
        delete(@started, arg0);
    }
    interval:ms:100 { print(@counts, 5); }
"""


class Used(NamedTuple):
    """What a process has; memory in KiB."""

    memory: int
    descriptors: int


def used(pid: int) -> Used:
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    (resident,) = (int(line.split()[1]) for line in lines if line.startswith("VmRSS:"))
    return Used(resident, len(os.listdir(f"/proc/{pid}/fd")))


def test_memory_and_descriptors_stay(tmp_path: Path) -> None:
    """The workload starts again and again, at a few thousand hits a second."""
    program = build("hits", tmp_path)
    script = tmp_path / "steady.bt"
    script.write_text(_PROGRAM % {"program": program})
    again = f"while {program} 500 1; do sleep 0.1; done"
    words = [sys.executable, "-m", "invivo", "run", "-q", "-c", f"sh -c '{again}'", str(script)]
    with (tmp_path / "output").open("wb") as output, subprocess.Popen(words, stdout=output, stderr=output) as tracer:
        try:
            begin = time.monotonic()
            seen: list[tuple[float, Used]] = []
            while (elapsed := time.monotonic() - begin) < MINUTES * 60:
                time.sleep(min(0.5, MINUTES * 3))
                assert tracer.poll() is None, (tmp_path / "output").read_text()[-2000:]
                seen.append((elapsed / (MINUTES * 60), used(tracer.pid)))
                output.truncate(0)
        finally:
            tracer.send_signal(2)
    warm = [each for part, each in seen if part >= _WARM]
    assert len(warm) > 3
    assert len({each.descriptors for each in warm}) == 1, warm
    early, late = warm[: len(warm) // 3], warm[-len(warm) // 3 :]
    growth = min(each.memory for each in late) - max(each.memory for each in early)
    assert growth < _GROWTH_KB, warm
    assert tracer.returncode == 0
