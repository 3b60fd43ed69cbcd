"""What `invivo-bpftrace` writes where, and its exit status: command lines in files, run in this process.

A case is the words of a command line as a shell reads them, and what comes of it: ``stdout`` and
``stderr`` (the whole text without line breaks around it; "" if there is no such section),
or ``stdout matches`` and ``stderr matches`` (a regular expression for the whole of it),
and ``status``. ``environment`` and ``file`` are given: the text of the file that ``FILE`` stands for.
"""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import pytest

from case_files import Case, read_cases
from invivo.cli.bpftrace import run_words

_FOLDER = Path(__file__).parent / "bpftrace"
_CASES = [(path.stem, case) for path in sorted(_FOLDER.glob("*.test")) for case in read_cases(path)]
_KNOWN = {"stdout", "stderr", "stdout matches", "stderr matches", "status", "environment", "file"}


@pytest.mark.parametrize("case", [case for _, case in _CASES], ids=[f"{stem}: {c.sentence}" for stem, c in _CASES])
def test_bpftrace(
    case: Case, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    assert set(case.sections) <= _KNOWN
    monkeypatch.chdir(tmp_path)
    if "file" in case.sections:
        Path("script.bt").write_text(case.sections["file"])
    for line in case.sections.get("environment", "").splitlines():
        monkeypatch.setenv(*line.split("=", 1))
    status = run_words(shlex.split(case.program))
    written = capfd.readouterr()
    for name, text in (("stdout", written.out), ("stderr", written.err)):
        if f"{name} matches" in case.sections:
            assert re.fullmatch(case.sections[f"{name} matches"].strip("\n"), text.strip("\n")), text
        else:
            assert text.strip("\n") == case.sections.get(name, "").strip("\n")
    assert status == int(case.sections.get("status", "0"))


def test_the_cases_are_found() -> None:
    assert {stem for stem, _ in _CASES} == {"command_line", "config", "listing", "messages", "output", "probes"}
