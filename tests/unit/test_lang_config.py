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


@pytest.mark.parametrize("key", ["log_size", "use_blazesym", "lazy_symbolication"])
def test_keys_that_only_have_to_be_right(key: str) -> None:
    config, settings, diagnostics = _read(f"{key} = 1")
    assert getattr(config, key) == 1
    assert settings == Settings()
    assert diagnostics.found == []


@pytest.mark.parametrize("key", ["symbol_source", "unstable_macro"])
def test_keys_without_effect_are_accepted_and_warned_of(key: str) -> None:
    config, settings, diagnostics = _read(f"{key} = 1")
    assert (config, settings) == (Config(), Settings())
    assert [(found.severity, found.message) for found in diagnostics.found] == [
        (Severity.WARNING, f"{key} is deprecated and has no effect")
    ]


def test_keys_of_the_environment_only() -> None:
    diagnostics = _read('BPFTRACE_BTF = "/tmp"')[2]
    assert [found.message for found in diagnostics.found] == ["btf: can only be set as an environment variable"]


@pytest.mark.parametrize(("value", "mode"), [("0", "NONE"), ("1", "PER_PID"), ("NONE", "NONE"), ("PER_PID", "PER_PID")])
def test_user_symbols_were_a_switch_once(value: str, mode: str) -> None:
    assert _read(f"cache_user_symbols = {value}")[0].cache_user_symbols == mode
    assert _read("", {"BPFTRACE_CACHE_USER_SYMBOLS": value})[0].cache_user_symbols == mode


def test_an_empty_variable_is_none() -> None:
    assert _read("", {"BPFTRACE_MAX_STRLEN": "", "BPFTRACE_STR_TRUNC_TRAILER": ""})[1] == Settings(
        truncation_trailer=""
    )


@pytest.mark.parametrize("key", OPTIONS)
def test_every_option_names_a_field_and_has_a_valid_default(key: str) -> None:
    option = OPTIONS[key]
    default = getattr(Config(), key)
    assert type(default) is option.kind
    assert not option.choices or default in option.choices


def test_every_field_is_an_option() -> None:
    assert set(Config.__record_fields__) == set(OPTIONS)
    assert list(Config.__record_fields__) == sorted(OPTIONS)  # as bpftrace's `config` shows them
