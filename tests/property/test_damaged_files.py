"""Readers of files do not crash, hang or fill the memory, whatever the files say; `make fuzz-formats` reads more."""

from __future__ import annotations

import pytest

from property.damaged_files import Reader, samples, survive

_COUNTS = {
    "elf": 300,
    "usdt": 300,
    "dwarf": 150,
    "frames": 300,
    "call_frames": 60,
    "btf": 300,
    "code": 300,
    "perf_data": 1500,
    "stacks": 1500,
    "perf_map": 300,
}


@pytest.fixture(scope="module")
def wholes(tmp_path_factory: pytest.TempPathFactory) -> dict[str, tuple[Reader, list[bytes]]]:
    return samples(tmp_path_factory.mktemp("samples"))


@pytest.mark.parametrize("name", _COUNTS)
def test_damaged_files(wholes: dict[str, tuple[Reader, list[bytes]]], name: str) -> None:
    reader, files = wholes[name]
    for file in files:
        reader(file)
    assert survive(reader, files, _COUNTS[name], seed=1) < _COUNTS[name]
