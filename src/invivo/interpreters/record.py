"""What an interpreter's record has to say: how its processes are recognised, how its frames are found and named.

A process is told to programs in a map: thread group -> `HEADER` (the address of the interpreter's
state in the process; device and inode of the PID namespace that its thread ids are of, zero for the
initial one), then a table of the interpreter's own.  A walk leaves a word for each frame in the
stack, and what the word means in another map, under (word without `ENTRY`, thread group).
"""

from __future__ import annotations

import struct
from collections.abc import Callable
from importlib import import_module
from typing import Final, Protocol

from invivo.events import Frame
from invivo.formats.elf import Elf
from invivo.interpreters import MODULES
from invivo.ir.builder import Builder
from invivo.ir.layout import LossKind, MapSpec
from invivo.ir.ops import Operand, Value
from invivo.record import Record
from invivo.stacks import FrameKind

HEADER: Final = struct.Struct("<QQQ")
CODE_KEY: Final = struct.Struct("<QQ")
ENTRY: Final = 1  # bit of a word: C code called the interpreter, which began with this frame


class Memory(Protocol):
    """A place in memory that the program reaches."""

    @property
    def pointer(self) -> Value: ...
    @property
    def offset(self) -> int: ...


class Site(Protocol):
    """What a walk needs of the program that it is written into (`library.record.Emit`)."""

    @property
    def b(self) -> Builder: ...
    def need_map(self, spec: MapSpec) -> None: ...
    def scratch(self, size: int) -> Callable[[], Memory]: ...
    def repeat(self, count: Operand, body: Callable[[Operand], None]) -> None: ...
    def lose(self, kind: LossKind, subject: str = "") -> None: ...


class Recognised(Record):
    """An interpreter in a file: the address of its state as the file has it, and its table for the walk."""

    address: int
    table: bytes


class Interpreter(Record, eq=False):
    """``doc``: of the builtin value.  ``recognise`` raises `BadFileError`; None: another file or version.

    ``walk(site, target, limit)`` stores the current thread's frames as a `types.Stack`, innermost first.
    ``is_loop``: whether a native function, by its name, is the one that runs interpreted code: it has the place of
    frames up to one that is an entry.  ``frame(word, value)`` names a frame, with None where nothing is known.
    """

    doc: str
    kind: FrameKind
    processes: MapSpec
    codes: MapSpec
    is_candidate: Callable[[str], bool]  # by a file's path: others are not opened
    recognise: Callable[[Elf], Recognised | None]
    walk: Callable[[Site, Memory, int], None]
    is_loop: Callable[[str], bool]
    frame: Callable[[int, bytes | None], Frame]


def find_interpreter(builtin: str) -> Interpreter:
    """Return the record of the interpreter whose frames a builtin value gives."""
    found: Interpreter = import_module(f"invivo.interpreters.{MODULES[builtin]}").INTERPRETER
    return found
