"""Lists of what JIT compilers made: only those that can be trusted, whatever stands in them."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from invivo.runtime.perf_map import open_map_file, parse_perf_map


def _map(path: Path, text: str, mode: int = 0o644) -> Path:
    path.write_text(text)
    path.chmod(mode)
    return path


def test_names_by_address(tmp_path: Path) -> None:
    path = _map(tmp_path / "perf-1.map", "1000 20 f one\n1040 10 LazyCompile:~g x.js:1\n")
    found = open_map_file(str(path), "/tmp/perf-1.map", os.geteuid())
    assert found is not None
    assert [found.name(address) for address in (0xFFF, 0x1000, 0x101F, 0x1020, 0x1045)] == [
        ("", 0),
        ("f one", 0),
        ("f one", 0x1F),
        ("", 0),
        ("LazyCompile:~g x.js:1", 5),
    ]
    with path.open("a") as file:
        file.write("2000 8 later\n1000 20 instead\n")
    assert found.name(0x2001) == ("later", 1)
    assert found.name(0x1000) == ("instead", 0)
    found.close()
    found.close()


@pytest.mark.parametrize(
    ("line", "entries"),
    [
        (b"1000 20 f\n", {0x1000: (0x1020, "f")}),
        (b"0x1000 0x20 f", {0x1000: (0x1020, "f")}),
        (b"1000 0 f\n1000\nxyz 1 f\n1000 20\n-5 3 f\n1000 -3 f\n1000 ffffffffffffffff f\n", {}),
        (b"1000 20 \xff\x1b[2J\n", {0x1000: (0x1020, "\ufffd\x1b[2J")}),
    ],
)
def test_lines(line: bytes, entries: dict[int, tuple[int, str]]) -> None:
    assert parse_perf_map(line) == entries


def test_a_name_of_what_cannot_be_seen_stays() -> None:
    assert parse_perf_map(b"1000 20 \x1c\n") == {0x1000: (0x1020, "\x1c")}


def test_long_names_are_cut() -> None:
    ((_, name),) = parse_perf_map(b"1000 20 " + b"x" * (1 << 20)).values()
    assert len(name) == 4096


def test_a_map_that_others_may_write_or_own_is_not_read(tmp_path: Path) -> None:
    path = str(_map(tmp_path / "perf-1.map", "1000 20 f\n"))
    assert open_map_file(path, "x", os.geteuid()) is not None
    for mode in (0o664, 0o646):
        os.chmod(path, mode)
        assert open_map_file(path, "x", os.geteuid()) is None
    os.chmod(path, 0o600)
    if os.geteuid() == 0:
        os.chown(path, 12345, 12345)
        assert open_map_file(path, "x", 0) is None
        assert open_map_file(path, "x", 12345) is not None


def test_a_link_or_a_fifo_is_not_followed(tmp_path: Path) -> None:
    _map(tmp_path / "real", "1000 20 f\n")
    (tmp_path / "link").symlink_to(tmp_path / "real")
    os.mkfifo(tmp_path / "fifo", 0o600)
    for name in ("link", "fifo", "none"):
        assert open_map_file(str(tmp_path / name), "x", os.geteuid()) is None
