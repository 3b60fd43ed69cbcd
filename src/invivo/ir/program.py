"""A whole program in the intermediate representation: what a language's front end hands over."""

from __future__ import annotations

from invivo.ir.layout import Layout, MapSpec
from invivo.ir.ops import Function
from invivo.record import Record
from invivo.target import Plan


class Entry(Record):
    """A function that is a BPF program, and what it is attached to.

    ``plan`` is what `Target.plan` gave; ``order`` is the place in the script.
    """

    function: str
    plan: Plan
    order: int


class Program(Record):
    """``callbacks`` of an entry are found by the functions it refers to."""

    functions: tuple[Function, ...]
    entries: tuple[Entry, ...]
    maps: tuple[MapSpec, ...]
    layout: Layout
    license: str = "GPL"
