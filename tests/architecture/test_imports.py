"""Imports go one way, at the top of a module, and nothing is hidden from the run time."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PACKAGE = ROOT / "src" / "invivo"
MODULES = sorted(PACKAGE.rglob("*.py"))

# Imports inside functions: what only some runs need, and its cost at start-up is measured in
# milliseconds. In cli/ any command loads only itself.
LAZY = {
    "bpf.generate": {"invivo.bpf"},  # entry and return by one program
    "__init__": {"importlib"},  # the public names
    "formats.unwinding.reading": {"invivo.formats.unwinding"},  # the reader for thousands of functions, by numpy
    "formats.elf": {"io"},  # debug information
    "formats.elf_symbols": {"invivo.formats.itanium"},  # names of C++
    "lang.check": {
        "invivo.lang.cdecl",
        "invivo.lang.cdecl.headers",
        "invivo.lang.declared",
    },  # scripts with C declarations
    "lang.check.values": {"invivo.lang.copying"},  # defines
    "lang.expand": {"invivo.lang.expand.imports", "invivo.lang.parse"},  # imports; macros of the library
    # --include; macros, imports, functions; scopes of old scripts
    "pipeline": {"invivo.lang.cdecl.header_text", "invivo.lang.expand", "invivo.lang.hoist"},
    "lang.lower": {"invivo.lang.lower"},  # user stacks without frame pointers, and the session's part of it
    "library.symbols": {"invivo.library.unwind"},
    # at high rates; user stacks without frame pointers, frames of interpreters
    "runtime.session": {
        "invivo.runtime.backlog",
        "invivo.runtime.interpreted",
        "invivo.runtime.unwinding.following",
    },
    "runtime.unwinding.tables": {"numpy"},  # large tables
    "library.strings": {"socket"},  # network addresses
    "kernel.programs": {"invivo.kernel"},  # probes in modules and in BPF programs
    # probes in user space, and in BPF programs
    "probes.facts": {"invivo.kernel", "invivo.probes.debug_files", "invivo.probes.user_debug"},
    "probes.binaries": {"glob"},  # wildcards in paths
    "runtime.symbols": {"invivo.formats.go_functions", "invivo.probes.debug_files"},  # Go; stripped programs
    "probes.debug_files": {"lzma", "zlib"},  # symbols packed into a stripped program; files without a build id
    "api": {"invivo.lang.labels", "invivo.output.parquet"},  # pyarrow, for tables
    "output.json_lines": {"time"},  # time series
    # the other outputs
    "output.outputs": {"invivo.output.json_lines", "invivo.output.ndjson", "invivo.output.parquet"},
    "output.ndjson": {"binascii", "time"},  # buffers; the header
    # few write packets; numpy, at high rates or for tables
    "runtime.actions": {
        "invivo.runtime.packets",
        "invivo.runtime.vector.columns",
        "invivo.runtime.vector.events",
        "invivo.runtime.vector.text",
    },
    "runtime.decode": {"socket"},  # network addresses
    "profiling.recorder": {"invivo.profiling.sources"},  # --inlined, --lines
    "runtime.mapread": {"array", "invivo.runtime.large"},  # only sorting needs arrays; maps of many keys
    "runtime.machine": {"invivo.runtime.mappings"},  # stacks of user space
    "runtime.names": {"invivo.runtime.mappings", "pwd"},  # stacks of user space; user names
    "values": {"time"},  # time series
}


def test_contracts() -> None:
    """The contracts in .importlinter hold."""
    done = subprocess.run(
        [Path(sys.executable).with_name("lint-imports"), "--no-cache"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout


def _name(path: Path) -> str:
    parts = path.relative_to(PACKAGE).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" and len(parts) > 1 else parts)


def _imports_in_functions(tree: ast.Module) -> Iterator[str]:
    for function in ast.walk(tree):
        if isinstance(function, ast.FunctionDef | ast.AsyncFunctionDef):
            for node in ast.walk(function):
                if isinstance(node, ast.Import):
                    yield from (alias.name for alias in node.names)
                elif isinstance(node, ast.ImportFrom):
                    yield node.module or ""


@pytest.mark.parametrize("path", MODULES, ids=_name)
def test_imports_inside_functions_are_listed(path: Path) -> None:
    name = _name(path)
    if name.startswith("cli."):
        return
    found = set(_imports_in_functions(ast.parse(path.read_text())))
    assert found <= LAZY.get(name, set()), f"{name} imports inside a function; list it here with its reason, or move it"


def test_the_list_of_lazy_imports_has_nothing_superfluous() -> None:
    used = {_name(path): set(_imports_in_functions(ast.parse(path.read_text()))) for path in MODULES}
    assert {name: imports for name, imports in LAZY.items() if used.get(name) != imports} == {}


def test_no_import_is_hidden_from_the_run_time() -> None:
    """TYPE_CHECKING blocks hide cycles."""
    assert [_name(path) for path in MODULES if "TYPE_CHECKING" in path.read_text()] == []


def test_nothing_is_left_for_later() -> None:
    words = ("TODO", "FIXME", "NotImplementedError", "type: ignore")
    assert [(_name(path), word) for path in MODULES for word in words if word in path.read_text()] == []
