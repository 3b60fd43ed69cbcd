"""Tables for unwinding that are kept on disk: the same as those that are read, or not taken at all."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from invivo.formats.elf import Elf
from invivo.formats.unwinding.reading import read_unwind_table
from invivo.formats.unwinding.table import UnwindTable
from invivo.kernel.files import read_text
from invivo.runtime.symbols import parse_maps
from invivo.runtime.unwinding import cache as module
from invivo.runtime.unwinding.cache import Cache, cache_folder

_LIBRARY = next(each.path for each in parse_maps(read_text("/proc/self/maps")) if "/libc." in each.path)


def _elf() -> Elf:
    return Elf(Path(_LIBRARY).read_bytes(), _LIBRARY)


def _parts(table: UnwindTable | None) -> tuple[object, ...]:
    assert table is not None
    return table.base, table.starts, table.indexes, table.words


@pytest.fixture
def reads(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The files whose .eh_frame has been read."""
    paths: list[str] = []

    def read(elf: Elf) -> UnwindTable | None:
        paths.append(elf.path)
        return read_unwind_table(elf)

    monkeypatch.setattr(module, "read_unwind_table", read)
    return paths


def test_a_table_is_read_once(tmp_path: Path, reads: list[str]) -> None:
    folder = tmp_path / "new" / "cache"
    first, second = Cache(str(folder)).table(_elf()), Cache(str(folder)).table(_elf())
    assert len(reads) == 1
    assert _parts(first) == _parts(second)
    assert folder.stat().st_mode & 0o777 == 0o700
    assert len(list(folder.iterdir())) == 1


_DAMAGE: dict[str, Callable[[bytes], bytes]] = {
    "empty": lambda data: b"",
    "half": lambda data: data[: len(data) // 2],
    "another version": lambda data: b"unwind\x00\n" + data[8:],
    "one bit": lambda data: data[:5000] + bytes([data[5000] ^ 1]) + data[5001:],
    "a byte more": lambda data: data + b"\0",
}


@pytest.mark.parametrize("damage", _DAMAGE.values(), ids=_DAMAGE)
def test_a_damaged_file_is_written_again(tmp_path: Path, reads: list[str], damage: Callable[[bytes], bytes]) -> None:
    whole = Cache(str(tmp_path)).table(_elf())
    (kept,) = tmp_path.iterdir()
    good = kept.read_bytes()
    kept.write_bytes(damage(good))
    assert _parts(Cache(str(tmp_path)).table(_elf())) == _parts(whole)
    assert len(reads) == 2
    assert kept.read_bytes() == good


def test_what_others_may_write_to_is_left_alone(tmp_path: Path, reads: list[str]) -> None:
    tmp_path.chmod(0o777)
    link = tmp_path / "link"
    link.symlink_to(tmp_path)
    for folder in (tmp_path, link, Path("/proc/nowhere"), Path(_LIBRARY)):
        assert Cache(str(folder)).table(_elf()) is not None
    assert [each.name for each in tmp_path.iterdir()] == ["link"]
    assert len(reads) == 4


def test_no_folder_is_no_cache(reads: list[str]) -> None:
    for _ in range(2):
        assert Cache("").table(_elf()) is not None
    assert len(reads) == 2


def test_the_oldest_make_room(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for age in range(4):
        (tmp_path / f"{age}").write_bytes(bytes(1000))
        os.utime(tmp_path / f"{age}", (age, age))
    tmp_path.chmod(0o700)
    assert Cache(str(tmp_path)).table(_elf()) is not None
    size = max(each.stat().st_size for each in tmp_path.iterdir())
    for each in tmp_path.iterdir():
        if each.stat().st_size == size:
            each.unlink()
    monkeypatch.setattr(module, "_MOST_BYTES", size + 2500)
    assert Cache(str(tmp_path)).table(_elf()) is not None
    assert sorted(each.name for each in tmp_path.iterdir() if len(each.name) == 1) == ["2", "3"]


def test_where_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("INVIVO_CACHE", "/else")
    assert cache_folder() == "/else"
    monkeypatch.delenv("INVIVO_CACHE")
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    assert cache_folder() == "/var/cache/invivo"
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    monkeypatch.setenv("HOME", "/home/someone")
    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    assert cache_folder() == "/home/someone/.cache/invivo"
    monkeypatch.setenv("XDG_CACHE_HOME", "/caches")
    assert cache_folder() == "/caches/invivo"
    monkeypatch.setenv("XDG_CACHE_HOME", "relative")
    assert cache_folder() == ""
