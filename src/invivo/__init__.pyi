from invivo import errors as errors
from invivo import events as events
from invivo.api import compile_text as compile
from invivo.api import trace as trace
from invivo.api import trace_table as trace_table
from invivo.diagnostics import CompileError as CompileError
from invivo.errors import InvivoError as InvivoError
from invivo.runtime.session import Session as Session

__version__: str
__all__ = [
    "CompileError",
    "InvivoError",
    "Session",
    "__version__",
    "compile",
    "errors",
    "events",
    "trace",
    "trace_table",
]
