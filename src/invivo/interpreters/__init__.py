"""Interpreters whose frames are found in other processes: one module and one row of the table each."""

from __future__ import annotations

from typing import Final

from invivo.ir.layout import INTERPRETER_MAPS

# The builtin value of the language that gives the frames, and the module that has the interpreter's record. Modules
# are loaded when a program asks for frames.
MODULES: Final = {"pystack": "cpython"}


def processes_map(builtin: str) -> str:
    """Return the name of the map that tells programs which processes run an interpreter."""
    return f"{INTERPRETER_MAPS}{MODULES[builtin]}_p"


def codes_map(builtin: str) -> str:
    """Return the name of the map in which programs leave the names of what they have found."""
    return f"{INTERPRETER_MAPS}{MODULES[builtin]}_c"
