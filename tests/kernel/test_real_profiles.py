"""Profiles of programs as they are shipped, in Rust and in Go: their functions' names, and stacks to where they begin.

What is not installed is fetched from the machine's Debian package sources, and only unpacked.
"""

from __future__ import annotations

import importlib.util
import subprocess
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

from guest.packages import fetch_package
from invivo.formats.elf import Elf
from invivo.formats.elf_symbols import readable
from invivo.formats.rust_names import readable_rust
from invivo.formats.stacks.profile_json import parse_profile_json
from invivo.stacks import Profile, named
from shipped_programs import fetched

_GO_STARTS = ("runtime.goexit", "runtime.mcall", "runtime.mstart")


def profiled(words: Sequence[str], out: Path) -> Profile:
    """Sample a command's user stacks."""
    command = (sys.executable, "-m", "invivo", "profile", "-U", "-q", "-F", "499", "-o", str(out))
    quoted = " ".join(f"'{word}'" for word in words)
    subprocess.run([*command, "-c", quoted], check=True, capture_output=True, timeout=120)
    return parse_profile_json(out.read_bytes(), str(out))


def stacks_of(profile: Profile, process: str) -> Iterator[tuple[list[str], int]]:
    """The names of the stacks of a process, outermost first, and their samples."""
    for stack, weight in profile.stacks:
        first, *names = (each.name for each in named(profile, stack))
        if first == process:
            yield names, round(weight)


def is_inside(wanted: Sequence[str], names: Sequence[str]) -> bool:
    """Whether some names are among others, in this order."""
    rest = iter(names)
    return all(any(name == each for each in rest) for name in wanted)


# -- Go ------------------------------------------------------------------------------------------


def test_go(tmp_path: Path) -> None:
    """fzf has no symbols; its own table has the names. Goroutines have stacks of their own, and whole ones."""
    fzf = fetched(fetch_package, "fzf") / "usr/bin/fzf"
    assert Elf(fzf.read_bytes(), str(fzf)).is_stripped
    lines = tmp_path / "lines"
    lines.write_text("\n".join(map(str, range(1_000_000))))
    script = tmp_path / "search.sh"
    script.write_text(f"for each in 1 2 3; do {fzf} -f 98765$each < {lines} > /dev/null; done\n")
    found = list(stacks_of(profiled(("sh", str(script)), tmp_path / "go.json"), "fzf"))
    every = sum(count for _, count in found)
    matching = "github.com/junegunn/fzf/src.(*Matcher).scan.func3"
    search = (matching, "github.com/junegunn/fzf/src.(*Pattern).matchChunk")
    assert every > 50
    assert sum(count for names, count in found if is_inside(("runtime.goexit", *search), names)) > 0
    assert sum(count for names, count in found if matching in names and names[0] != "runtime.goexit") == 0
    starts = sum(count for names, count in found if names[0].startswith(_GO_STARTS))
    assert starts > every / 2  # the rest: the runtime's own work on the stacks of its threads
    unknown = sum(count for names, count in found if any(name.startswith(("[fzf", "[unknown")) for name in names))
    assert unknown < every / 10


# -- Rust ----------------------------------------------------------------------------------------

_PARSE = """
import sys, time, ast_serialize
def parse_all():
    until = time.monotonic() + 2
    while time.monotonic() < until:
        ast_serialize.parse(sys.argv[1])
parse_all()
"""


def test_rust(tmp_path: Path) -> None:
    """A library of Rust in Python, built as usual: mangled names of 2021 (v0), generic ones, and all that calls it."""
    script, source = tmp_path / "parse.py", tmp_path / "source.py"
    script.write_text(_PARSE)
    source.write_text("".join(f"def f{number}(a, b):\n    return [a + b * {number}, 'x']\n" for number in range(3000)))
    profile = profiled((sys.executable, str(script), str(source)), tmp_path / "rust.json")
    found = list(stacks_of(profile, Path(sys.executable).name[:15]))
    assert not any(name.startswith(("_R", "_ZN")) for names, _ in found for name in names)
    every = sum(count for names, count in found if "ast_serialize::parse" in names)
    callers = ("_start", "Py_BytesMain", "parse_all (parse.py:3)", "ast_serialize::__pyfunction_parse")
    parsing = (*callers, "ast_serialize::parse", "<ruff_python_parser::parser::Parser>::parse_statement")
    assert sum(count for names, count in found if is_inside(callers, names)) > every / 2 > 10
    assert any(is_inside(parsing, names) for names, _ in found)


@pytest.mark.parametrize("library", ["hypothesis._native", "ast_serialize.ast_serialize", "grimp._rustgrimp"])
def test_all_names_of_a_rust_library(library: str) -> None:
    """None stays as the linker has it."""
    found = importlib.util.find_spec(library)
    assert found is not None and found.origin is not None
    symbols = Elf(Path(found.origin).read_bytes(), found.origin).symbols()
    names = [each.name for each in symbols if each.is_function and each.name.startswith("_R")]
    assert len(names) > 200
    shown = [readable_rust(readable(name)) for name in names]
    assert [name for name in shown if name.startswith("_R")] == []
    assert sum("::" in name for name in shown) == len(names)


def test_a_stripped_rust_program(tmp_path: Path) -> None:
    """ripgrep has no names, yet whole stacks, of its threads too."""
    rg = fetched(fetch_package, "ripgrep") / "usr/bin/rg"
    assert Elf(rg.read_bytes(), str(rg)).is_stripped
    (tmp_path / "text").mkdir()
    for number in range(8):
        (tmp_path / "text" / f"{number}").write_text("\n".join(map(str, range(300_000))))
    out = tmp_path / "rg.json"
    words = (str(rg), "-c", "-j", "3", "[0-9]+7(1|2|a.*b)9[0-9]?8", str(tmp_path / "text"))
    found = list(stacks_of(profiled(words, out), "rg"))
    every = sum(count for _, count in found)
    assert every > 20
    assert sum(count for names, count in found if names[0] != "[truncated]") >= 0.9 * every
    assert any(len(names) > 10 for names, _ in found)
