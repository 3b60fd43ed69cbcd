"""The config block and the environment."""

from __future__ import annotations

from collections.abc import Mapping

import pytest

from invivo.diagnostics import Code, Diagnostics, Severity, SourceFile
from invivo.ir.layout import Settings
from invivo.lang.config import OPTIONS, read_config
from invivo.lang.parse import parse
from invivo.library.record import Config


def _read(block: str, environment: Mapping[str, str] | None = None) -> tuple[Config, Settings, Diagnostics]:
    text = f"config = {{ {block} }} begin {{ }}" if block else "begin { }"
    diagnostics = Diagnostics()
    config, settings = read_config(parse(SourceFile("script.bt", text)).config, environment or {}, diagnostics)
    return config, settings, diagnostics


def test_defaults() -> None:
    config, settings, diagnostics = _read("")
    assert (config, settings) == (Config(), Settings())
    assert diagnostics.found == []


def test_values_of_all_kinds() -> None:
    config, settings, diagnostics = _read(
        'max_strlen = 64; print_maps_on_exit = false; str_trunc_trailer = "~"; missing_probes = warn; perf_rb_pages = 8'
    )
    assert diagnostics.found == []
    assert (config.max_strlen, config.missing_probes) == (64, "warn")
    assert (settings.print_maps_on_exit, settings.truncation_trailer, settings.ring_pages) == (False, "~", 8)


@pytest.mark.parametrize("key", ["max_strlen", "MAX_STRLEN", "BPFTRACE_MAX_STRLEN", "bpftrace_max_strlen"])
def test_spellings_of_a_key(key: str) -> None:
    assert _read(f"{key} = 80")[0].max_strlen == 80


def test_the_environment_wins() -> None:
    config, _, _ = _read("max_strlen = 64", {"BPFTRACE_MAX_STRLEN": "32", "MAX_STRLEN": "16"})
    assert config.max_strlen == 32


def test_old_names_of_the_environment_are_not_read() -> None:
    assert _read("", {"BPFTRACE_STRLEN": "32"})[0] == Config()


@pytest.mark.parametrize(
    ("text", "value"), [("1", True), ("0", False), ("true", True), ("FALSE", False), ("yes", None), ("2", None)]
)
def test_truth_in_the_environment(text: str, value: bool | None) -> None:
    _, settings, diagnostics = _read("", {"BPFTRACE_PRINT_MAPS_ON_EXIT": text})
    if value is None:
        assert [found.code for found in diagnostics.found] == [Code.BAD_CONFIG]
    else:
        assert settings.print_maps_on_exit is value


@pytest.mark.parametrize(
    "block",
    [
        "max_strlen = true",
        "max_strlen = abc",
        "max_strlen = 0",
        "max_map_keys = 4294967296",
        "print_maps_on_exit = 2",
        "missing_probes = never",
        "stack_mode = dwarf",
        'license = "MIT"',
        "no_such_key = 1",
    ],
)
def test_mistakes_leave_the_default(block: str) -> None:
    config, settings, diagnostics = _read(block)
    assert (config, settings) == (Config(), Settings())
    assert [(found.code, found.severity) for found in diagnostics.found] == [(Code.BAD_CONFIG, Severity.ERROR)]
    span = diagnostics.found[0].span
    assert span is not None and span.text == block


def test_a_renamed_key_is_read_and_warned_of() -> None:
    config, _, diagnostics = _read("map_keys_max = 9")
    assert config.max_map_keys == 9
    assert [(found.code, found.severity) for found in diagnostics.found] == [(Code.DEPRECATED, Severity.WARNING)]


@pytest.mark.parametrize("key", ["log_size", "use_blazesym", "unstable_macro"])
def test_keys_without_effect_are_accepted(key: str) -> None:
    config, settings, diagnostics = _read(f"{key} = 1")
    assert (config, settings) == (Config(), Settings())
    assert diagnostics.found == []


@pytest.mark.parametrize("key", OPTIONS)
def test_every_option_names_a_field_and_has_a_valid_default(key: str) -> None:
    option = OPTIONS[key]
    default = getattr(option.holder(), option.field)
    assert type(default) is option.kind
    assert not option.choices or default in (*option.choices, "")  # "": the runtime chooses
