"""What ``perf script`` prints: a line for each sample, its frames below, innermost first, an empty line."""

from __future__ import annotations

import re
from typing import Final

from invivo.errors import BadFileError
from invivo.stacks import FrameKind, Profile, ProfileBuilder, Quality

# server 1234/1235 [002] 5678.901234:    1010101 cpu-clock:u:  55d0c0001234 main+0x10 (/bin/server)
_HEADER: Final = re.compile(r"(?P<comm>\S.*?)\s+(?P<pid>-?\d+)(?:/-?\d+)?\s+(?:\[\d+\]\s+)?(?P<rest>\S.*)")
_EVENT: Final = re.compile(r"(?:[\d.]+:\s+)?(?:\d+\s+)?(?P<event>[^\s].*?):(?:\s+(?P<frame>.*))?$")
_FRAME: Final = re.compile(
    r"\s*(?P<address>[0-9a-f]+)\s+(?P<symbol>.+?)(?:\s+\((?P<module>[^()]*(?:\([^()]*\))?)\))?\s*$"
)
_OFFSET: Final = re.compile(r"\+0x[0-9a-f]+$")
_FIRST_KERNEL_ADDRESS: Final = 1 << 63
_NO_NAME: Final = "[unknown]"


def parse_perf_script(data: bytes, path: str) -> Profile:
    """Return the stacks of the first event in the text, each sample counting 1.

    Raises `BadFileError` with the offset of a line that is neither a sample nor a frame of one.
    """
    return _Reader(path).read(data)


def is_perf_script(line: str) -> bool:
    """Whether a line looks like the first one of a sample."""
    return _event_of(line) is not None


class _Reader:
    def __init__(self, path: str) -> None:
        self._path = path
        self._builder = ProfileBuilder()
        self._known: dict[str, tuple[int, bool]] = {}
        self._event: str | None = None
        self._left_out: dict[str, int] = {}
        self._unnamed = 0
        self._process = -1
        self._frames: list[tuple[int, bool]] = []
        self._is_counted = False

    def read(self, data: bytes) -> Profile:
        offset = 0
        known = self._known
        for line in data.split(b"\n"):
            text = line.decode("utf-8", "surrogateescape").rstrip()
            if not text:
                self._end()
            elif text[0] in " \t" and self._process >= 0:
                # The same few lines come again and again.
                self._frames.append(known.get(text) or self._frame(text, offset))
            elif text[0] != "#":
                self._end()
                self._begin(text, offset)
            offset += len(line) + 1
        self._end()
        remarks = [f"{count:,} samples of {event} left out" for event, count in self._left_out.items()]
        return self._builder.build(Quality(unnamed=self._unnamed, remarks=tuple(remarks)))

    def _begin(self, text: str, offset: int) -> None:
        found = _event_of(text)
        if found is None:
            raise BadFileError(self._path, f"no sample of perf script: '{text[:60]}'", offset)
        comm, event, frame = found
        self._event = self._event or event
        self._is_counted = event == self._event
        if not self._is_counted:
            self._left_out[event] = self._left_out.get(event, 0) + 1
        self._process = self._builder.index(comm, FrameKind.PROCESS)
        if frame:
            self._frames.append(known if (known := self._known.get(frame)) else self._frame(frame, offset))

    def _end(self) -> None:
        if self._process >= 0 and self._is_counted:
            stack = [index for index, _ in reversed(self._frames)]
            self._builder.add((self._process, *stack), 1)
            self._unnamed += any(nameless for _, nameless in self._frames)
        self._process = -1
        self._frames = []

    def _frame(self, text: str, offset: int) -> tuple[int, bool]:
        found = _FRAME.match(text)
        if found is None:
            raise BadFileError(self._path, f"no frame of perf script: '{text.strip()[:60]}'", offset)
        symbol, module = _OFFSET.sub("", found["symbol"]).partition("@@")[0], found["module"] or ""
        kind = FrameKind.USER
        if module == "inlined":
            kind, module = FrameKind.INLINED, ""
        elif len(found["address"]) == 16 and int(found["address"], 16) >= _FIRST_KERNEL_ADDRESS:
            kind = FrameKind.KERNEL
        elif module.endswith(".map") and "/perf-" in module:
            kind = FrameKind.JIT
        nameless = symbol == _NO_NAME
        if nameless and module and module != _NO_NAME:
            symbol = f"[{module.rpartition('/')[2].strip('[]')}]"
        entry = self._known[text] = self._builder.index(symbol, kind, module), nameless
        return entry


def _event_of(text: str) -> tuple[str, str, str] | None:
    """Name of the process, event, and the frame on the same line (without call chains)."""
    head = _HEADER.match(text)
    if head is None:
        return None
    event = _EVENT.match(head["rest"])
    if event is None:
        return None
    return head["comm"], event["event"], event["frame"] or ""
