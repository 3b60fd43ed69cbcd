"""How long is the code that we generate, beside clang's for the same programs in C?

``corpus/clang.c`` has a function for a script of the corpus in a section of the script's name.  Lengths are compared
here; what some of them cost when they run is asked in ``clang.py``.
"""

from __future__ import annotations

import shutil
import subprocess
import tempfile
from pathlib import Path

from elftools.elf.elffile import ELFFile

from bench import corpus
from bench.contenders import INVIVO, Bench
from bench.figures import Figures
from bench.machine import install

TITLE = "Instructions, beside clang"
_CLANG = "clang -O2"
_SOURCE = corpus.FOLDER / "clang.c"
_ALL = "all together"
_METRIC = "instructions"
_EXECUTABLE = 0x4  # SHF_EXECINSTR, elf.h


def measure(bench: Bench) -> Figures:
    """Count once: there is nothing that could differ between runs."""
    bench.note("code: compiling the corpus")
    figures = Figures()
    ours, theirs = {}, _clang_lengths()
    for name in theirs:
        ours[name] = sum(corpus.count(corpus.FOLDER / f"{name}.bt").values())
    for name, length in (*theirs.items(), (_ALL, sum(theirs.values()))):
        figures.add(name, INVIVO.name, {_METRIC: ours.get(name, sum(ours.values()))})
        figures.add(name, _CLANG, {_METRIC: length})
    return figures


def _clang_lengths() -> dict[str, int]:
    """The instructions in each section of code; a 64-bit constant counts as two, as in ours."""
    if shutil.which("clang") is None:
        install("clang")
    with tempfile.TemporaryDirectory(prefix="bench-") as folder:
        compiled = Path(folder) / "clang.o"
        options = ["-O2", "-target", "bpf", "-mcpu=v3", "-Wall"]
        subprocess.run(["clang", *options, "-c", str(_SOURCE), "-o", str(compiled)], check=True)
        with compiled.open("rb") as file:
            return {
                section.name: section["sh_size"] // 8
                for section in ELFFile(file).iter_sections()
                if section["sh_flags"] & _EXECUTABLE and section["sh_size"]
            }
