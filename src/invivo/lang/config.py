"""The script's ``config`` block and its environment variables."""

from __future__ import annotations

from collections.abc import Mapping

from invivo.diagnostics import Code, Diagnostics, Span
from invivo.ir.layout import Settings
from invivo.lang import ast
from invivo.lang.suggest import nearest
from invivo.library.record import Config
from invivo.record import Record, replace

_PREFIX = "bpftrace_"
_STACK_MODES = ("bpftrace", "perf", "raw", "build_id")
_LICENSES = (
    "GPL",
    "GPL v2",
    "GPL and additional rights",
    "Dual BSD/GPL",
    "Dual MIT/GPL",
    "Dual MPL/GPL",
)


class Option(Record, eq=False):
    """One key: the record that holds it, its field, and what it may be."""

    holder: type[Config] | type[Settings]
    field: str
    kind: type[int] | type[bool] | type[str]
    choices: tuple[str, ...] = ()


OPTIONS: dict[str, Option] = {
    "max_strlen": Option(Config, "max_strlen", int),
    "max_map_keys": Option(Config, "max_map_keys", int),
    "max_probes": Option(Config, "max_probes", int),
    "max_bpf_progs": Option(Config, "max_bpf_progs", int),
    "on_stack_limit": Option(Config, "on_stack_limit", int),
    "stack_mode": Option(Config, "stack_mode", str, _STACK_MODES),
    "missing_probes": Option(Config, "missing_probes", str, ("error", "warn", "ignore")),
    "license": Option(Config, "license", str, _LICENSES),
    "print_maps_on_exit": Option(Settings, "print_maps_on_exit", bool),
    "str_trunc_trailer": Option(Settings, "truncation_trailer", str),
    "max_cat_bytes": Option(Settings, "max_cat_bytes", int),
    "cpp_demangle": Option(Settings, "cpp_demangle", bool),
    "perf_rb_pages": Option(Settings, "ring_pages", int),
    "cache_user_symbols": Option(Settings, "cache_user_symbols", str, ("PER_PID", "PER_PROGRAM", "NONE")),
    "show_debug_info": Option(Settings, "show_debug_info", bool),
}
_WITHOUT_EFFECT = frozenset(
    {
        "lazy_symbolication",
        "log_size",
        "use_blazesym",
        "symbol_source",
        "max_type_res_iterations",
        "unstable_addr",
        "unstable_import",
        "unstable_macro",
        "unstable_map_decl",
        "unstable_tseries",
        "unstable_dw_ustack",
        "unstable_import_statement",
        "unstable_typeinfo",
    }
)
_RENAMED = {
    "strlen": "max_strlen",
    "no_cpp_demangle": "cpp_demangle",
    "cat_bytes_max": "max_cat_bytes",
    "map_keys_max": "max_map_keys",
}


def read_config(
    block: ast.Config | None, environment: Mapping[str, str], diagnostics: Diagnostics
) -> tuple[Config, Settings]:
    """Return what the compiler and what the runtime is told. The environment wins over the block."""
    values: dict[type, dict[str, int | bool | str]] = {Config: {}, Settings: {}}
    for entry in () if block is None else block.entries:
        _set(entry.key.lower().removeprefix(_PREFIX), entry.value, entry.span, values, diagnostics)
    for key in OPTIONS:
        text = environment.get((_PREFIX + key).upper())
        if text is not None:
            _set(key, text, None, values, diagnostics)
    return replace(Config(), **values[Config]), replace(Settings(), **values[Settings])


def _set(
    key: str,
    value: int | bool | str,
    span: Span | None,
    values: dict[type, dict[str, int | bool | str]],
    diagnostics: Diagnostics,
) -> None:
    if key in _RENAMED:
        new = _RENAMED[key]
        diagnostics.warning(Code.DEPRECATED, span, f"{key} has been renamed, please use {new}")
        key = new
    if key in _WITHOUT_EFFECT:
        return
    option = OPTIONS.get(key)
    if option is None:
        near = nearest(key, OPTIONS)
        diagnostics.error(
            Code.BAD_CONFIG, span, f"{key}: not a known configuration option", f"did you mean {near}?" if near else None
        )
        return
    read = _READ[option.kind](value)
    if read is None or (option.choices and read not in option.choices):
        expected = " ".join(option.choices) or {int: "a number", bool: "true or false", str: "a text"}[option.kind]
        diagnostics.error(Code.BAD_CONFIG, span, f"invalid value for {key}: {value}", f"expected {expected}")
        return
    values[option.holder][option.field] = read


def _read_int(value: int | bool | str) -> int | None:
    if isinstance(value, str):
        return int(value) if value.isdigit() else None
    return int(value) if not isinstance(value, bool) and value >= 0 else None


def _read_bool(value: int | bool | str) -> bool | None:
    if isinstance(value, str):
        return {"true": True, "1": True, "false": False, "0": False}.get(value.lower())
    return bool(value) if value in (0, 1) else None


def _read_text(value: int | bool | str) -> str:
    return str(value)


_READ = {int: _read_int, bool: _read_bool, str: _read_text}
