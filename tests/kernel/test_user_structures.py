"""Reading structures of a traced program's memory, by declarations in the script."""

from __future__ import annotations

from pathlib import Path

import pytest

from running import run
from workloads import build

_DECLARATIONS = """
struct inner { int16_t low; uint16_t high; };
struct sample {
    uint8_t tiny;
    int32_t negative;
    char name[12];
    unsigned flags : 3, level : 9, : 4, signed_bits_pad : 16;
    int shift : 5;
    struct inner pair[3];
    struct sample *next;
    const char *text;
    union { uint32_t whole; uint8_t parts[4]; };
    uint64_t big;
    int *numbers;
};
"""


@pytest.fixture(scope="module")
def program(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build("structures", tmp_path_factory.mktemp("structures"))


@pytest.mark.parametrize(
    ("expression", "expected"),
    [
        ("$s->tiny", "200"),
        ("$s->negative", "-123456"),
        ("$s->name", "first"),
        ("$s->flags", "5"),
        ("$s->level", "300"),
        ("$s->shift", "-3"),
        ("$s->pair[1].low", "-2"),
        ("$s->pair[arg1].high", "3"),
        ("$s->next->name", "second"),
        ("$s->next->negative", "-9"),
        ("str($s->text)", "pointed to"),
        ("str($s->text, 4)", "poin"),
        ("$s->whole", "67305985"),
        ("$s->parts[2]", "3"),
        ("$s->big == 0xfedcba9876543210", "true"),
        ("$s->numbers[1]", "-20"),
        ("*($s->numbers + 2)", "30"),
        ("$s->text[0]", "112"),
        ("(uint8)$s->negative", "192"),
        ("*(int32 *)(arg0 + 4)", "-123456"),
        ("$s->next->next == 0", "true"),
        ("$s->pair", "[{ .low = -1, .high = 1 },{ .low = -2, .high = 2 },{ .low = -3, .high = 3 }]"),
        ("$s->next->pair[0]", "{ .low = 0, .high = 0 }"),
        ("($s->tiny, $s->name)", "(200, first)"),
        ("$s->tiny > 199 && $s->negative < 0", "true"),
        ('$s->name == "first"', "true"),
    ],
)
def test_a_member(program: Path, expression: str, expected: str) -> None:
    script = f"{_DECLARATIONS} uprobe:{program}:take {{ $s = (struct sample *)arg0; print({expression}); }}"
    result = run(script, command=[str(program)])
    assert result.text == f"{expected}\n"
    assert result.errors == ""


def test_a_return_value(program: Path) -> None:
    result = run(f'uretprobe:{program}:take {{ printf("%d %s\\n", (int64)retval, func); }}', command=[str(program)])
    assert result.text == "-246912 take\n"
