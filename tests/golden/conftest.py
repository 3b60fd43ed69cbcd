"""Golden cases: text files of sentences, each with a program and what must come of it.

A file ``tests/golden/STAGE/*.test`` has cases of this form::

    === an unknown function is named, with the nearest one
    kprobe:vfs_read { nsec(); }
    --- diagnostics
    script.bt:1:19: error[unknown-function]: unknown function nsec()

The sections before the first ``---`` and those in `INPUTS` are given, all others expected: their
names and how they come about stand in `STAGES`.  ``pytest --bless`` rewrites them.
"""

from __future__ import annotations

import difflib
import posixpath
import shlex
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Final

import pytest

from fixture_target import FixtureTarget
from invivo.bpf.text import format_image
from invivo.cli.dump import format_stage
from invivo.diagnostics import CompileError, Diagnostic, Diagnostics, SourceFile
from invivo.ir.text import format_program
from invivo.lang.cdecl import parse_declarations
from invivo.lang.check import check
from invivo.lang.config import read_config
from invivo.lang.expand import expand
from invivo.lang.lower import lower
from invivo.lang.parse import parse
from invivo.lang.text import format_script
from invivo.pipeline import Compilation, CompileOptions, compile_source
from invivo.rendering import format_bpftrace, format_diagnostic
from invivo.target import FoundFiles, ImportedFile

Render = Callable[[str, Mapping[str, str]], str]
"""From a program and the input sections to an expected section."""

INPUTS: Final = ("parameters", "options", "files")


def _parsed(program: str, inputs: Mapping[str, str]) -> str:
    return format_script(parse(_source(program), _parameters(inputs)))


def _diagnostics(program: str, inputs: Mapping[str, str]) -> str:
    return "\n".join(map(format_diagnostic, _errors(program, inputs))) or "none"


def _bpftrace(program: str, inputs: Mapping[str, str]) -> str:
    return "\n".join(map(format_bpftrace, _errors(program, inputs))) or "none"


def _errors(program: str, inputs: Mapping[str, str]) -> Iterable[Diagnostic]:
    try:
        parse(_source(program), _parameters(inputs))
    except CompileError as error:
        return error.diagnostics
    return ()


def _c_diagnostics(program: str, inputs: Mapping[str, str]) -> str:
    diagnostics = Diagnostics()
    parse_declarations(parse(_source(program), _parameters(inputs)).c_statements, diagnostics)
    return "\n".join(map(format_diagnostic, diagnostics.found)) or "none"


def _source(program: str) -> SourceFile:
    return SourceFile("script.bt", program)


def _parameters(inputs: Mapping[str, str]) -> tuple[str, ...]:
    return tuple(shlex.split(inputs.get("parameters", "")))


def _checked(program: str, inputs: Mapping[str, str]) -> str:
    try:
        found = _compiled(program, inputs).warnings
    except CompileError as error:
        found = error.diagnostics
    return "\n".join(map(format_diagnostic, found)) or "none"


def _expanded(program: str, inputs: Mapping[str, str]) -> str:
    script = parse(_source(program), _parameters(inputs))
    return format_script(expand(script, FixtureFiles(inputs), _parameters(inputs), Diagnostics()))


def _in_bpftraces_form(program: str, inputs: Mapping[str, str]) -> str:
    options = CompileOptions(_parameters(inputs), bpftrace=True, files=FixtureFiles(inputs))
    try:
        found = compile_source(_source(program), FixtureTarget(), options).warnings
    except CompileError as error:
        found = error.diagnostics
    return "\n".join(map(format_bpftrace, found)) or "none"


class FixtureFiles:
    """The files of a case, in its section ``files``: each after a line ``>>> NAME``."""

    def __init__(self, inputs: Mapping[str, str]) -> None:
        pieces = inputs.get("files", "").split(">>> ")[1:]
        self._files = {name.strip(): text for name, _, text in (piece.partition("\n") for piece in pieces)}

    def identity(self, name: str) -> str:
        return posixpath.normpath(name)

    def find(self, path: str, importer: str) -> FoundFiles:
        place = posixpath.normpath(posixpath.join(posixpath.dirname(importer), path))
        names = [name for name in self._files if name == place or posixpath.dirname(name) == place]
        return FoundFiles(tuple(ImportedFile(SourceFile(name, self._files[name]), name) for name in names), (place,))

    def header(self, path: str, importer: str, *, quoted: bool) -> ImportedFile | None:
        return next(iter(self.find(path, importer).files), None)


def _lowered(program: str, inputs: Mapping[str, str]) -> str:
    script = parse(_source(program), _parameters(inputs))
    diagnostics = Diagnostics()
    config, settings = read_config(script.config, {}, diagnostics)
    checked = check(script, FixtureTarget(), config, diagnostics, parameters=_parameters(inputs))
    return format_program(lower(checked, settings))


def _instructions(program: str, inputs: Mapping[str, str]) -> str:
    return format_image(_compiled(program, inputs).image)


def _image(program: str, inputs: Mapping[str, str]) -> str:
    return format_stage(_compiled(program, inputs), "image")


def _compiled(program: str, inputs: Mapping[str, str]) -> Compilation:
    """Compile for the frozen machine; the section ``options`` has ``unsafe`` or settings such as ``A=1``."""
    words = shlex.split(inputs.get("options", ""))
    environment = dict(word.split("=", 1) for word in words if "=" in word)
    options = CompileOptions(
        _parameters(inputs), unsafe="unsafe" in words, environment=environment, files=FixtureFiles(inputs)
    )
    return compile_source(_source(program), FixtureTarget(), options)


STAGES: Final[dict[str, dict[str, Render]]] = {
    "parse": {"ast": _parsed, "diagnostics": _diagnostics, "bpftrace": _bpftrace},
    "cdecl": {"diagnostics": _c_diagnostics},
    "expand": {"ast": _expanded, "diagnostics": _checked, "bpftrace": _in_bpftraces_form},
    "check": {"diagnostics": _checked},
    "lower": {"ir": _lowered},
    "bpf": {"bpf": _instructions, "image": _image},
}


class Case:
    """One case: its sentence, its program, and its sections in the order of the file."""

    def __init__(self, sentence: str, line: int) -> None:
        self.sentence = sentence
        self.line = line
        self.sections: dict[str, str] = {"": ""}

    @property
    def program(self) -> str:
        return self.sections[""]

    @property
    def inputs(self) -> dict[str, str]:
        return {name: text for name, text in self.sections.items() if name in INPUTS}

    @property
    def expected(self) -> dict[str, str]:
        return {name: text for name, text in self.sections.items() if name and name not in INPUTS}


def read_cases(text: str, names: Iterable[str]) -> list[Case]:
    """Read the cases of a file; ``names`` are the sections that it may have."""
    known = (*INPUTS, *names)
    cases: list[Case] = []
    section = ""
    for number, line in enumerate(text.splitlines(), 1):
        if line.startswith("=== "):
            cases.append(Case(line[4:].strip(), number))
            section = ""
        elif not cases:
            if line.strip():
                raise ValueError(f"line {number}: a case begins with ===")
        elif line.startswith("--- "):
            section = line[4:].strip()
            if section not in known or section in cases[-1].sections:
                raise ValueError(f"line {number}: section {section!r} is unknown or there twice")
            cases[-1].sections[section] = ""
        else:
            cases[-1].sections[section] += line + "\n"
    for case in cases:
        case.sections = {name: body.rstrip("\n") for name, body in case.sections.items()}
        if not case.expected:
            raise ValueError(f"line {case.line}: the case expects nothing")
    return cases


def write_cases(cases: Iterable[Case]) -> str:
    """Return the text of a file of cases."""
    return "\n".join(
        f"=== {case.sentence}\n"
        + "".join(
            (f"--- {name}\n" if name else "") + (f"{body}\n" if body else "") for name, body in case.sections.items()
        )
        for case in cases
    )


class GoldenFile(pytest.File):
    def collect(self) -> Iterable[GoldenItem]:
        stage = STAGES[self.path.parent.name]
        try:
            cases = read_cases(self.path.read_text(encoding="utf-8"), stage)
        except ValueError as error:
            raise self.CollectError(f"{self.path}: {error}") from error
        sentences = [case.sentence for case in cases]
        if twice := {sentence for sentence in sentences if sentences.count(sentence) > 1}:
            raise self.CollectError(f"{self.path}: there twice: {', '.join(sorted(twice))}")
        return [GoldenItem.from_parent(self, name=case.sentence, case=case, stage=stage) for case in cases]


class GoldenMismatchError(Exception):
    """What came of a program is not what the case says."""


class GoldenItem(pytest.Item):
    def __init__(self, *, case: Case, stage: dict[str, Render], name: str, parent: GoldenFile) -> None:
        super().__init__(name, parent)
        self.case = case
        self.stage = stage

    def runtest(self) -> None:
        for section, expected in self.case.expected.items():
            actual = self.stage[section](self.case.program, self.case.inputs).rstrip("\n")
            if actual == expected:
                continue
            if self.config.getoption("--bless"):
                self._bless(section, actual)
                continue
            difference = difflib.unified_diff(
                expected.split("\n"), actual.split("\n"), "expected", "actual", lineterm=""
            )
            raise GoldenMismatchError(f"{section}:\n" + "\n".join(difference))

    def _bless(self, section: str, actual: str) -> None:
        cases = read_cases(self.path.read_text(encoding="utf-8"), self.stage)
        next(case for case in cases if case.sentence == self.case.sentence).sections[section] = actual
        self.path.write_text(write_cases(cases), encoding="utf-8")

    def repr_failure(self, excinfo: pytest.ExceptionInfo[BaseException], style: object = None) -> str:
        if isinstance(excinfo.value, GoldenMismatchError):
            return f"{self.case.sentence}\n{self.case.program}\n--- {excinfo.value}"
        return str(super().repr_failure(excinfo))

    def reportinfo(self) -> tuple[Path, int, str]:
        return self.path, self.case.line - 1, self.case.sentence


def pytest_collect_file(file_path: Path, parent: pytest.Collector) -> GoldenFile | None:
    if file_path.suffix == ".test" and file_path.parent.name in STAGES:
        return GoldenFile.from_parent(parent, path=file_path)
    return None
