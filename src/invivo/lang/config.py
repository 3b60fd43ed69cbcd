"""The script's ``config`` block and its environment variables."""

from __future__ import annotations

from collections.abc import Mapping

from invivo.diagnostics import Code, Diagnostics, Span
from invivo.ir.layout import Settings
from invivo.lang import ast
from invivo.lang.parse.literals import BadLiteralError, parse_integer
from invivo.lang.suggest import nearest
from invivo.library.record import Config
from invivo.record import Record, replace

_LONGEST_STRING = 1 << 20  # what a map of the kernel takes as a value, with room to spare
_LARGEST_RING = 1 << 18  # pages, 1 GiB; twice that in address space
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
    """One key of `Config`: what it is for, and what it may be."""

    kind: type[int] | type[bool] | type[str]
    doc: str
    choices: tuple[str, ...] = ()
    least: int = 0
    most: int = (1 << 32) - 1


_STABILITIES = ("enable", "warn", "error")
OPTIONS: dict[str, Option] = {
    "max_strlen": Option(
        int,
        "bytes of a string, its terminator counted: what str() and buf() read at most",
        least=1,
        most=_LONGEST_STRING,
    ),
    "max_map_keys": Option(int, "elements of a map that is not declared with a size", least=1),
    "max_probes": Option(int, "attach points of a script, wildcards expanded"),
    "max_bpf_progs": Option(int, "programs of a script: invivo needs few"),
    "on_stack_limit": Option(int, "bytes up to which a value is kept on the program's stack; at most 128 count"),
    "stack_mode": Option(str, "how stacks are shown", _STACK_MODES),
    "user_stack": Option(
        str, "how ustack finds callers: by frame pointers, or as dw_ustack does", ("frame-pointer", "dwarf")
    ),
    "unstable_tseries": Option(
        str,
        "whether tseries() is used without a word, with a warning (of invivo-bpftrace), or not at all",
        _STABILITIES,
    ),
    "unstable_typeinfo": Option(str, "the same for typeinfo(); only invivo-bpftrace refuses it", _STABILITIES),
    "unstable_import_statement": Option(str, "the same for `import` in a probe's body", _STABILITIES),
    "unstable_dw_ustack": Option(str, "the same for dw_ustack", _STABILITIES),
    "missing_probes": Option(
        str, "what to do about a probe that this kernel does not have", ("error", "warn", "ignore")
    ),
    "license": Option(str, "the licence that the programs declare to the kernel", _LICENSES),
    "print_maps_on_exit": Option(bool, "show all maps at the end"),
    "str_trunc_trailer": Option(str, "what follows a string that was cut"),
    "max_cat_bytes": Option(int, "bytes of a file that cat() shows"),
    "cpp_demangle": Option(bool, "show C++ names as in the source"),
    "perf_rb_pages": Option(
        int, "pages of the ring buffer, rounded up to a power of two; 0: chosen by invivo", most=_LARGEST_RING
    ),
    "cache_user_symbols": Option(
        str, "accepted: how long symbols of processes are remembered", ("PER_PID", "PER_PROGRAM", "NONE")
    ),
    "show_debug_info": Option(bool, "accepted: places in source files in stacks"),
    "lazy_symbolication": Option(bool, "accepted: symbols are always looked up when they are shown"),
    "log_size": Option(int, "accepted: the verifier's log is as long as it needs to be"),
    "use_blazesym": Option(bool, "accepted: invivo reads symbols itself"),
}
_WITHOUT_EFFECT = frozenset(
    {
        "symbol_source",
        "max_type_res_iterations",
        "unstable_addr",
        "unstable_import",
        "unstable_macro",
        "unstable_map_decl",
    }
)
_ENVIRONMENT_ONLY = frozenset(
    {"btf", "color", "debug_output", "dummy_ts_map", "kernel_build", "kernel_source", "vmlinux", "verify_llvm_ir"}
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
    values: dict[str, int | bool | str] = {}
    for entry in () if block is None else block.entries:
        _set(entry.key.lower().removeprefix(_PREFIX), entry.value, entry.span, values, diagnostics)
    for key, option in OPTIONS.items():
        text = environment.get((_PREFIX + key).upper())
        if text or (text is not None and option.kind is str and not option.choices):
            _set(key, text, None, values, diagnostics)
    config = replace(Config(), **values)
    return config, Settings(
        print_maps_on_exit=config.print_maps_on_exit,
        truncation_trailer=config.str_trunc_trailer,
        max_cat_bytes=config.max_cat_bytes,
        cpp_demangle=config.cpp_demangle,
        ring_pages=config.perf_rb_pages,
        max_strlen=config.max_strlen,
    )


def _set(
    key: str,
    value: int | bool | str,
    span: Span | None,
    values: dict[str, int | bool | str],
    diagnostics: Diagnostics,
) -> None:
    if key in _RENAMED:
        new = _RENAMED[key]
        diagnostics.warning(Code.DEPRECATED, span, f"{key} has been renamed, please use {new}")
        key = new
    if key in _WITHOUT_EFFECT:
        diagnostics.warning(Code.DEPRECATED, span, f"{key} is deprecated and has no effect")
        return
    if key in _ENVIRONMENT_ONLY:
        diagnostics.error(Code.BAD_CONFIG, span, f"{key}: can only be set as an environment variable")
        return
    option = OPTIONS.get(key)
    if option is None:
        near = nearest(key, OPTIONS)
        diagnostics.error(
            Code.BAD_CONFIG, span, f"{key}: not a known configuration option", f"did you mean {near}?" if near else None
        )
        return
    if key == "cache_user_symbols" and (number := _read_int(value)) is not None:
        if number:
            return  # it was a switch once: 0 is off, the rest is as if it were not there
        value = "NONE"
    read = _READ[option.kind](value)
    if read is None or (option.choices and read not in option.choices):
        expected = ", ".join(option.choices) or {int: "a number", bool: "true or false", str: "a text"}[option.kind]
        diagnostics.error(Code.BAD_CONFIG, span, f"invalid value for {key}: {_spelled(value)}", f"expected {expected}")
        return
    if isinstance(read, int) and option.kind is int and not option.least <= read <= option.most:
        expected = f"expected {option.least} to {option.most}"
        diagnostics.error(Code.BAD_CONFIG, span, f"{key} is out of range: {value}", expected)
        return
    values[key] = read


def _spelled(value: int | bool | str) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)


def _read_int(value: int | bool | str) -> int | None:
    if isinstance(value, str):
        return _read_digits(value) if value[:1].isdigit() else None
    return int(value) if not isinstance(value, bool) and value >= 0 else None


def _read_digits(text: str) -> int | None:
    try:
        return parse_integer(text)[0]
    except BadLiteralError:
        return None


def _read_bool(value: int | bool | str) -> bool | None:
    if isinstance(value, str):
        return {"true": True, "1": True, "false": False, "0": False}.get(value.lower())
    return bool(value) if value in (0, 1) else None


def _read_text(value: int | bool | str) -> str:
    return str(value)


_READ = {int: _read_int, bool: _read_bool, str: _read_text}
