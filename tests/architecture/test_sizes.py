"""Sizes at which a person has to decide: 700 lines a file, 60 a function, 16 modules a package."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PACKAGE = ROOT / "src" / "invivo"
FILES = sorted([*PACKAGE.rglob("*.py"), *(ROOT / "demo").rglob("*.py")])

MOST_LINES_OF_A_FILE = 700
MOST_LINES_OF_A_FUNCTION = 60
MOST_MODULES_OF_A_PACKAGE = 16

# Tables of like things, one module each, and the root, which the design lists.
LONGER_PACKAGES = {
    "invivo/kernel": 18,
    "invivo/library": 24,
    "invivo/probes": 40,
    "invivo/tools": 200,
    "invivo": 16,
    "invivo/runtime": 28,
}


def _name(path: Path) -> str:
    return str(path.relative_to(ROOT))


@pytest.mark.parametrize("path", FILES, ids=_name)
def test_file(path: Path) -> None:
    text = path.read_text()
    assert text.count("\n") <= MOST_LINES_OF_A_FILE
    long = {
        node.name: node.end_lineno - node.lineno + 1
        for node in ast.walk(ast.parse(text))
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
        and node.end_lineno is not None
        and node.end_lineno - node.lineno >= MOST_LINES_OF_A_FUNCTION
    }
    assert long == {}


@pytest.mark.parametrize("path", [path for path in FILES if PACKAGE in path.parents], ids=_name)
def test_module_says_what_it_is_for(path: Path) -> None:
    assert ast.get_docstring(ast.parse(path.read_text())), "a module begins with one line that says what it is for"


def test_packages() -> None:
    counts: dict[str, int] = {}
    for path in PACKAGE.rglob("*.py"):
        package = str(path.parent.relative_to(PACKAGE.parent))
        counts[package] = counts.get(package, 0) + (path.name != "__init__.py")
    allowed = {package: LONGER_PACKAGES.get(package, MOST_MODULES_OF_A_PACKAGE) for package in counts}
    assert {package: count for package, count in counts.items() if count > allowed[package]} == {}


def test_the_version_is_the_same_everywhere() -> None:
    from invivo.version import VERSION

    assert f'version = "{VERSION}"' in (ROOT / "pyproject.toml").read_text()
    assert VERSION in (ROOT / "CHANGELOG.md").read_text()
