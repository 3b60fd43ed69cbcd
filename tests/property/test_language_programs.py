"""Some generated programs do on the kernel what the reference interpreter says; `make fuzz` tries many."""

from __future__ import annotations

import pytest

from property.fuzz import try_batch

_SEEDS = range(1000, 1120)
_EACH = 30


@pytest.mark.requires("bpf")
@pytest.mark.parametrize("first", range(_SEEDS.start, _SEEDS.stop, _EACH))
def test_programs_do_what_the_interpreter_says(first: int) -> None:
    counts, findings = try_batch(range(first, first + _EACH))
    assert [(finding.seed, finding.result.message, finding.program) for finding in findings] == []
    assert counts["same"] > _EACH // 2
