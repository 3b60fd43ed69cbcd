"""IR → eBPF."""

from invivo.bpf.generate import generate
from invivo.bpf.limits import LimitError

__all__ = ["LimitError", "generate"]
