"""Dynamic tracing for Linux: `trace` runs a program in the kernel and gives its results as typed events.

The names load what they need when they are first used: ``import invivo`` costs nothing.
"""

from __future__ import annotations

_PLACES = {
    "CompileError": ("invivo.diagnostics", "CompileError"),
    "InvivoError": ("invivo.errors", "InvivoError"),
    "Session": ("invivo.runtime.session", "Session"),
    "__version__": ("invivo.version", "VERSION"),
    "compile": ("invivo.api", "compile_text"),
    "errors": ("invivo.errors", ""),
    "events": ("invivo.events", ""),
    "trace": ("invivo.api", "trace"),
    "trace_table": ("invivo.api", "trace_table"),
}


def __getattr__(name: str) -> object:
    if name == "__all__":
        return list(_PLACES)
    place = _PLACES.get(name)
    if place is None:
        raise AttributeError(f"module 'invivo' has no attribute '{name}'")
    from importlib import import_module

    module_name, attribute = place
    module = import_module(module_name)
    found: object = getattr(module, attribute) if attribute else module
    globals()[name] = found
    return found


def __dir__() -> list[str]:
    return list(_PLACES)
