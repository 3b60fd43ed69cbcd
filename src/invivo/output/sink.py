"""What an output is: a sink of events, and the stream it writes to."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from invivo.enums import Enum
from invivo.events import Event
from invivo.record import Record

_FULL_BYTES = 1 << 16


class Dialect(Enum):
    """Whose words the text on stderr has."""

    INVIVO = "invivo"
    BPFTRACE = "bpftrace"


class Buffering(Enum):
    """When output is written: at each event, at each look at the events, or when a buffer is full."""

    NONE = "none"
    LINE = "line"
    FULL = "full"


class Header(Record):
    """What a stream says of itself first. ``sources``: (name, text) of the program."""

    version: str
    kernel: str
    sources: tuple[tuple[str, str], ...]
    arguments: tuple[str, ...]


class Stream(Protocol):
    """Something bytes can be written to: ``sys.stdout.buffer``, an open file."""

    def write(self, data: bytes | bytearray, /) -> int | None: ...

    def flush(self) -> None: ...


class ClosingStream(Stream, Protocol):
    """A stream that ends with its output."""

    def close(self) -> None: ...


class Sink(Protocol):
    """Shows events. ``events`` is `event` for each, faster; ``flush`` says that no more come for the moment."""

    def open(self) -> None: ...

    def event(self, event: Event) -> None: ...

    def events(self, events: Sequence[Event]) -> None: ...

    def flush(self) -> None: ...

    def close(self) -> None: ...


class Writer:
    """Text → bytes, collected according to a mode. What was not UTF-8 leaves as it came."""

    def __init__(self, stream: Stream, buffering: Buffering = Buffering.LINE) -> None:
        self._stream = stream
        self._buffering = buffering
        self._pieces: list[str] = []
        self._size = 0

    def write(self, text: str) -> None:
        self._pieces.append(text)
        self._size += len(text)
        if self._size >= _FULL_BYTES or self._buffering is Buffering.NONE:
            self.push()

    def write_bytes(self, data: bytes | bytearray) -> None:
        """Write what is much, and encoded."""
        self.push()
        self._stream.write(data)
        self._stream.flush()

    def flush(self) -> None:
        """The events pause: a line-buffered output is written now."""
        if self._buffering is not Buffering.FULL:
            self.push()

    def push(self) -> None:
        """Write everything. Raises OSError (BrokenPipeError if nobody reads any more)."""
        if self._pieces:
            # Forgotten before it is written: after an error nothing is written twice.
            data = "".join(self._pieces).encode("utf-8", "surrogateescape")
            self._pieces = []
            self._size = 0
            self._stream.write(data)
            self._stream.flush()
