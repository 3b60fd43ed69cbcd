"""Question 3: how long is the code that we generate for 50 small programs, and did it get longer?

Compiled for this machine, loaded nowhere.  The counts are kept in ``corpus/instructions.json``: a change of the
compiler shows there as a difference to be reviewed.  They depend on the machine's kernel too (offsets of fields,
features), which stands beside them.
"""

from __future__ import annotations

import json
import platform
import sys
from pathlib import Path

from bench.machine import BenchError
from invivo.diagnostics import SourceFile
from invivo.pipeline import compile_source
from invivo.probes.machine import Machine

FOLDER = Path(__file__).with_name("corpus")
KEPT = FOLDER / "instructions.json"


def count(path: Path) -> dict[str, int]:
    """The instructions of each BPF program that a script becomes; an ``ld_imm64`` counts as two."""
    with Machine() as machine:
        image = compile_source(SourceFile(path.name, path.read_text()), machine).image
    counts: dict[str, int] = {}
    for program in image.programs:
        counts[program.name] = counts.get(program.name, 0) + len(program.code) // 8
    return counts


def count_all() -> dict[str, dict[str, int]]:
    """The counts of all programs of the corpus, by name."""
    return {path.stem: count(path) for path in sorted(FOLDER.glob("*.bt"))}


def record() -> int:
    """Keep today's counts; say what changed."""
    old, new = (read_kept()[1] if KEPT.exists() else {}), count_all()
    # One line for a script: a difference is read at a glance.
    lines = ",\n".join(f"  {json.dumps(name)}: {json.dumps(counts, sort_keys=True)}" for name, counts in new.items())
    KEPT.write_text(f'{{\n "kernel": {json.dumps(platform.release())},\n "instructions": {{\n{lines}\n }}\n}}\n')
    _compare(old, new)
    return 0


def check() -> int:
    """Say what changed since the counts were kept; 1 if anything got longer, is new, or is gone."""
    if not KEPT.exists():
        raise BenchError("no counts are kept yet: `python -m bench corpus` writes them")
    kernel, old = read_kept()
    if kernel != platform.release():
        sys.stdout.write(f"kept on kernel {kernel}, this is {platform.release()}: differences may be the kernels'\n")
    new = count_all()
    longer = _compare(old, new)
    return 1 if longer or old.keys() != new.keys() else 0


def read_kept() -> tuple[str, dict[str, dict[str, int]]]:
    """The kernel that the counts were kept on, and the counts."""
    kept = json.loads(KEPT.read_text())
    return kept["kernel"], kept["instructions"]


def _compare(old: dict[str, dict[str, int]], new: dict[str, dict[str, int]]) -> int:
    """Print each script whose count changed; return how many got longer."""
    longer = 0
    for name in sorted(old.keys() | new.keys()):
        before, after = sum(old.get(name, {}).values()), sum(new.get(name, {}).values())
        longer += name in old and after > before
        if name not in old or name not in new:
            sys.stdout.write(f"{name}: {'new' if name in new else 'gone'}, {after or before} instructions\n")
        elif old[name] != new[name]:
            word = "longer" if after > before else "shorter" if after < before else "changed"
            sys.stdout.write(f"{name}: {word}, {before} → {after} instructions\n")
    sys.stdout.write(f"{len(new)} programs, {sum(sum(counts.values()) for counts in new.values())} instructions\n")
    return longer
