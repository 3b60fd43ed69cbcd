"""After ``kill -9`` of a tracer, whenever it comes, nothing is left: no process, program, map, link or type data."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from enum import Enum
from pathlib import Path
from typing import Final, NamedTuple

from leftovers import is_running, objects, remaining

_INVIVO: Final = str(Path(sys.executable).parent / "invivo")
_PROGRAM: Final = """
uprobe:libc:getppid { @calls = count(); }
profile:hz:99 { @samples[kstack] = count(); }
t:syscalls:sys_enter_get* { @[probe] = count(); printf("%s\\n", probe); }
END { print(@calls); }
"""
# One works for a tenth of a second and ends, and so does the trace; one has to be ended.
_ENDING: Final = f'{sys.executable} -S -E -c "import os, time; [(os.getppid(), time.sleep(0.002)) for _ in range(50)]"'
_ENDLESS: Final = "sleep 1000"
_MOMENTS: Final = 4 * int(os.environ.get("INVIVO_REPEAT", "50"))
_LANES: Final = 4
_SEED: Final = 20_251
_PATIENCE_SECONDS: Final = 30.0


class Since(Enum):
    """What the random time is counted from: a busy machine must not move all moments into one phase."""

    START = 0.6  # seconds at most
    FIRST_OBJECT = 0.03
    ATTACHED = 0.2


class Kill(NamedTuple):
    since: Since
    delay_s: float
    command: str
    stopped: bool  # looked at while it is stopped, so that the look misses nothing


class Found(NamedTuple):
    """What a tracer had when it was killed."""

    pid: int  # and of its session of processes
    objects: frozenset[tuple[str, int]]


def _moments() -> list[Kill]:
    chance = random.Random(_SEED)
    wanted = [*[Since.START] * 2, Since.FIRST_OBJECT, Since.ATTACHED]
    return [
        Kill(since, chance.uniform(0, since.value), chance.choice((_ENDING, _ENDLESS)), chance.random() < 0.5)
        for since in wanted * (_MOMENTS // len(wanted))
    ]


def _kill(moment: Kill) -> Found:
    command = [_INVIVO, "run", "-e", _PROGRAM, "-c", moment.command]
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, start_new_session=True) as tracer:
        assert tracer.stderr is not None
        match moment.since:
            case Since.FIRST_OBJECT:
                deadline = time.monotonic() + _PATIENCE_SECONDS
                while not objects(tracer.pid) and time.monotonic() < deadline:
                    time.sleep(0.003)
            case Since.ATTACHED:
                assert tracer.stderr.readline().startswith(b"Attached "), moment
            case Since.START:
                pass
        time.sleep(moment.delay_s)
        if moment.stopped:
            # Not Popen.send_signal: it would reap a tracer that has ended, and there would be none to wait for.
            os.kill(tracer.pid, signal.SIGSTOP)
            os.waitid(os.P_PID, tracer.pid, os.WSTOPPED | os.WEXITED | os.WNOWAIT)
        held = objects(tracer.pid)
        tracer.send_signal(signal.SIGKILL)
    return Found(tracer.pid, frozenset(held))


def _running(sessions: set[int]) -> list[int]:
    """Return the processes of these sessions that run."""
    found: list[int] = []
    for pid in map(int, filter(str.isdigit, os.listdir("/proc"))):
        try:
            if os.getsid(pid) in sessions and is_running(pid):
                found.append(pid)
        except ProcessLookupError:
            continue
    return found


def _phase(found: Found) -> str:
    kinds = {kind for kind, _ in found.objects}
    return "nothing" if not kinds else "attached" if "link_id" in kinds else "loading"


def test_nothing_is_left() -> None:
    with ThreadPoolExecutor(_LANES) as lanes:
        every = list(lanes.map(_kill, _moments()))
    phases = Counter(map(_phase, every))
    assert min(phases[phase] for phase in ("nothing", "loading", "attached")) > 0, (_SEED, phases)
    seen = {each for found in every for each in found.objects}
    assert {"prog_id", "map_id", "link_id"} <= {kind for kind, _ in seen}
    assert not remaining(seen), _SEED
    assert not _running({found.pid for found in every}), _SEED
