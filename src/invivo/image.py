"""A compiled program: plain data, ready to be loaded, equal byte for byte for equal input."""

from __future__ import annotations

from invivo.diagnostics import Span
from invivo.enums import Enum
from invivo.ir.layout import Layout, MapSpec
from invivo.record import Record
from invivo.target import Plan


class RelocationKind(Enum):
    """What the loader writes into a 16-byte ``ld_imm64`` (enum of BPF_PSEUDO_*, uapi/linux/bpf.h)."""

    MAP = 1  # BPF_PSEUDO_MAP_FD: imm = descriptor
    MAP_VALUE = 2  # BPF_PSEUDO_MAP_VALUE: imm = descriptor, next imm = offset


class Relocation(Record):
    instruction: int  # index of the ld_imm64's first half
    kind: RelocationKind
    map: str
    offset: int = 0


class FunctionInfo(Record):
    """struct bpf_func_info: a function of a program starts at an instruction and has a BTF type."""

    instruction: int
    type_id: int
    name: str


class LineInfo(Record):
    """Instructions from ``instruction`` on (until the next entry) come from ``span``."""

    instruction: int
    span: Span | None


class ProgramImage(Record):
    """One BPF program: its entry function first, then its callbacks and subprograms."""

    name: str  # at most 15 characters of [A-Za-z0-9_.]
    code: bytes  # 8 bytes an instruction
    relocations: tuple[Relocation, ...]
    functions: tuple[FunctionInfo, ...]
    lines: tuple[LineInfo, ...]
    plan: Plan
    order: int  # place of the probe in the script; negative: invivo's own


class Image(Record):
    programs: tuple[ProgramImage, ...]
    maps: tuple[MapSpec, ...]
    btf: bytes  # the programs' own BTF: function prototypes (b"" if no program has callbacks)
    layout: Layout
    license: str = "GPL"
