"""The files beside a script: where they are looked for, and which folders are not trusted."""

from __future__ import annotations

from pathlib import Path

import pytest

from invivo.script_files import DiskFiles


def test_a_file_is_found_beside_the_script_that_names_it(tmp_path: Path) -> None:
    (tmp_path / "lib").mkdir()
    (tmp_path / "lib" / "a.bt").write_text("begin { }")
    found = DiskFiles().find("lib/a.bt", str(tmp_path / "main.bt"))
    assert [file.source.name for file in found.files] == [str(tmp_path / "lib" / "a.bt")]
    assert found.files[0].source.text == "begin { }"
    assert found.files[0].identity == DiskFiles().identity(f"{tmp_path}/lib/../lib/a.bt")


def test_what_is_not_there_says_where_it_was_looked_for(tmp_path: Path) -> None:
    found = DiskFiles().find("a.bt", str(tmp_path / "main.bt"))
    assert (found.files, found.checked, found.refused) == ((), (str(tmp_path / "a.bt"),), "")


def test_a_folder_is_its_importable_files_in_order_and_no_folder_in_it(tmp_path: Path) -> None:
    for name in ("b.bt", "a.bt", "c.h", "notes.txt"):
        (tmp_path / name).write_text("")
    (tmp_path / "deep").mkdir()
    (tmp_path / "deep" / "d.bt").write_text("")
    found = DiskFiles().find(".", str(tmp_path / "main.bt"))
    assert [file.source.name.rpartition("/")[2] for file in found.files] == ["a.bt", "b.bt", "c.h"]


@pytest.mark.parametrize(
    ("path", "mode", "refused"),
    [
        pytest.param("lib", 0o777, True, id="folder"),
        pytest.param("lib", 0o1777, True, id="sticky folder"),
        pytest.param("lib/a.bt", 0o777, True, id="file in it"),
        pytest.param("lib/a.bt", 0o1777, False, id="file in a sticky folder"),
        pytest.param("lib", 0o775, False, id="the group may write"),
    ],
)
def test_folders_that_all_may_write_are_refused(tmp_path: Path, path: str, mode: int, refused: bool) -> None:
    (tmp_path / "lib").mkdir()
    (tmp_path / "lib" / "a.bt").write_text("")
    (tmp_path / "lib").chmod(mode)
    found = DiskFiles().find(path, str(tmp_path / "main.bt"))
    reason = "cowardly refusing to import from a directory with global write permissions"
    assert found.refused == (reason if refused else "")
    assert bool(found.files) is not refused


def test_headers_stand_beside_the_script_or_where_asked(tmp_path: Path) -> None:
    (tmp_path / "include").mkdir()
    (tmp_path / "include" / "x.h").write_text("1")
    (tmp_path / "y.h").write_text("2")
    files, script = DiskFiles((str(tmp_path / "include"),)), str(tmp_path / "main.bt")
    found = files.header("x.h", script, quoted=False)
    assert found is not None and found.source.text == "1"
    assert files.header("y.h", script, quoted=False) is None
    found = files.header("y.h", script, quoted=True)
    assert found is not None and found.source.text == "2"
