"""How the process of a command begins and ends, so that a short trace stays short.

Measured on the whole run of ``BEGIN { exit(); }`` (106 ms): without garbage collections while loading and
compiling, which find nothing, 8 ms less; without the interpreter's taking itself apart at the end, 15 ms less.
"""

from __future__ import annotations

import gc
import os
import sys
from collections.abc import Callable
from typing import NoReturn


def run_process(command: Callable[[], int]) -> NoReturn:
    """Run a command as all that this process does, and end the process with its status."""
    gc.disable()
    _open_standard_streams()
    status = command()
    for stream in (sys.stdout, sys.stderr):
        try:
            stream.flush()
        except OSError:
            continue  # nobody reads any more
    os._exit(status & 0xFF)


def _open_standard_streams() -> None:
    """What the caller has closed is taken by nothing else: results never go into a map's or a program's descriptor.

    Writing to a standard output that was closed stays an error.
    """
    for fd, name in enumerate(("stdin", "stdout", "stderr")):
        if getattr(sys, name) is None:
            os.open(os.devnull, os.O_RDONLY if name == "stdout" else os.O_RDWR)  # the lowest number that is free
            setattr(sys, name, os.fdopen(fd, "r" if name == "stdin" else "w", closefd=False))


def collect_from_now() -> None:
    """A trace may run for days: what was loaded is left alone, what comes is collected as usual."""
    gc.freeze()
    gc.enable()
