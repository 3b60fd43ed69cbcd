"""The demo's traces, all five of them, as `make demo` runs them."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

_DEMO = Path(__file__).parents[2] / "demo" / "demo.py"


def test_the_demo_answers_its_questions() -> None:
    done = subprocess.run([sys.executable, _DEMO], capture_output=True, text=True, timeout=180, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    assert "(exit status" not in done.stdout
    opened, calls, latencies, typed, profile = done.stdout.split("\n# ")[1:]
    assert re.search(r"^find +/etc/", opened, re.MULTILINE)
    assert re.search(r"^@\[tracepoint:syscalls:sys_enter_newfstatat\]: \d+$", calls, re.MULTILINE)
    assert re.search(r"^@us\[cat\]:\n\[", latencies, re.MULTILINE)
    assert re.search(r"^\d+ typed: echo the answer is \$\(\(6 \* 7\)\)$", typed, re.MULTILINE)
    assert re.search(r"^@\[$\n^ +\w+\+\d+$", profile, re.MULTILINE)
    assert re.search(r"\nAll of that took \d+ seconds", profile)
