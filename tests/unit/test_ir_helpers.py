"""The helpers' numbers, written twice for two uses: by name where code is emitted, as a table where it is shown."""

from __future__ import annotations

import pytest

from invivo.bpf import helpers as table
from invivo.ir import helpers

_NUMBERS = {name: value for name, value in vars(helpers).items() if name.isupper() and not name.startswith("BPF_")}


@pytest.mark.parametrize("name", sorted(_NUMBERS))
def test_number_and_name_agree(name: str) -> None:
    assert table.name(_NUMBERS[name]) == name.lower()


def test_there_are_such_numbers() -> None:
    assert len(_NUMBERS) > 20
