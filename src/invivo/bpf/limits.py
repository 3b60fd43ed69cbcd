"""What a BPF program may not exceed."""

from __future__ import annotations

from typing import Final

STACK_BYTES: Final = 512  # MAX_BPF_STACK: the sum over all frames of a chain of calls
FRAMES: Final = 8  # MAX_CALL_FRAMES
FRAME_ROUNDING: Final = 32  # check_max_stack_depth of Linux 6.1; newer kernels round to 16


class LimitError(Exception):
    """A program is too large for the kernel. ``function`` is the IR function's name."""

    def __init__(self, function: str, message: str) -> None:
        super().__init__(f"{function}: {message}")
        self.function = function
        self.message = message


class StackLimitError(LimitError):
    """The frames of a chain of calls need more than 512 bytes; ``size_bytes`` is what they need."""

    def __init__(self, function: str, size_bytes: int) -> None:
        super().__init__(function, f"needs {size_bytes} bytes of stack, and there are {STACK_BYTES}")
        self.size_bytes = size_bytes


class JumpLimitError(LimitError):
    """A jump is farther than 16 bits of offset reach."""

    def __init__(self, function: str) -> None:
        super().__init__(function, "a jump is too far: the program is too large")
