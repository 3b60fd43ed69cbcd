"""What ``perf script`` prints: a line for each sample, its frames below, innermost first, an empty line."""

from __future__ import annotations

import re
from typing import Final

from invivo.errors import BadFileError
from invivo.stacks import FrameKind, Profile, ProfileBuilder, Quality

# server 1234/1235 [002] 5678.901234:    1010101 cpu-clock:u:  55d0c0001234 main+0x10 (/bin/server)
_HEADER: Final = re.compile(r"(?P<comm>\S.*?)\s+(?P<pid>-?\d+)(?:/-?\d+)?\s+(?:\[\d+\]\s+)?(?P<rest>\S.*)")
_EVENT: Final = re.compile(r"(?:[\d.]+:\s+)?(?:\d+\s+)?(?P<event>[^\s].*?):(?:\s+(?P<frame>.*))?$")
_PREFIX: Final = re.compile(rb"[^\s#].*?\s+-?\d+(?:/-?\d+)?\s+(?:\[\d+\]\s+)?")  # of a header, up to the time
_MOST_KNOWN: Final = 1 << 16
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
        self._heads: dict[tuple[bytes, bytes], tuple[int, str]] = {}  # process and event; without the time
        self._bodies: dict[bytes, tuple[tuple[int, ...], bool]] = {}  # stack, and whether a frame has no name
        self._is_plain = False  # the last header has no frame
        self._event: str | None = None
        self._left_out: dict[str, int] = {}
        self._unnamed = 0
        self._process = -1
        self._frames: list[tuple[int, bool]] = []
        self._is_counted = False

    def read(self, data: bytes) -> Profile:
        at = 0
        while at < len(data):
            end = data.find(b"\n\n", at)
            end = end if end >= 0 else len(data)
            block = data[at:end]
            if not self._repeat(block):
                self._lines(block, at)
            at = end + 2
        remarks = [f"{count:,} samples of {event} left out" for event, count in self._left_out.items()]
        return self._builder.build(Quality(unnamed=self._unnamed, remarks=tuple(remarks)))

    def _repeat(self, block: bytes) -> bool:
        """Count a sample whose frames have all been read together before; False if it is another one."""
        head, _, body = block.partition(b"\n")
        known = self._bodies.get(body)
        sample = self._head(head) if known is not None else None
        if known is None or sample is None:
            return False
        process, event = sample
        if self._is_of_interest(event):
            stack, nameless = known
            self._builder.add((process, *stack), 1)
            self._unnamed += nameless
        return True

    def _head(self, line: bytes) -> tuple[int, str] | None:
        """Process and event of a header that has the usual form, and no frame; looked at without its time."""
        at = line.find(b": ")
        start = line.rfind(b" ", 0, max(at, 0)) + 1
        if not line[start : max(at, 0)].replace(b".", b"").isdigit():
            return None
        key = line[:start], line[at:]
        known = self._heads.get(key)
        if known is None and _PREFIX.fullmatch(key[0]):
            found = _event_of(line.decode("utf-8", "surrogateescape").rstrip())
            if found is not None and not found[2]:
                if len(self._heads) >= _MOST_KNOWN:
                    self._heads.clear()
                known = self._heads[key] = self._builder.index(found[0], FrameKind.PROCESS), found[1]
        return known

    def _lines(self, block: bytes, offset: int) -> None:
        known = self._known
        begun = 0
        lines = block.split(b"\n")
        for line in lines:
            text = line.decode("utf-8", "surrogateescape").rstrip()
            if not text:
                self._end()
            elif text[0] in " \t" and self._process >= 0:
                # The same few lines come again and again.
                self._frames.append(known.get(text) or self._frame(text, offset))
            elif text[0] != "#":
                self._end()
                self._begin(text, offset)
                begun += 1
            offset += len(line) + 1
        if begun == 1 and self._is_plain and self._process >= 0 and 0 < len(self._frames) == len(lines) - 1:
            if len(self._bodies) >= _MOST_KNOWN:
                self._bodies.clear()
            body = block.partition(b"\n")[2]
            self._bodies[body] = self._stack(), any(nameless for _, nameless in self._frames)
        self._end()

    def _is_of_interest(self, event: str) -> bool:
        """Whether it is the first one; others are counted."""
        self._event = self._event or event
        if event != self._event:
            self._left_out[event] = self._left_out.get(event, 0) + 1
        return event == self._event

    def _stack(self) -> tuple[int, ...]:
        return tuple([index for index, _ in reversed(self._frames)])

    def _begin(self, text: str, offset: int) -> None:
        found = _event_of(text)
        if found is None:
            raise BadFileError(self._path, f"no sample of perf script: '{text[:60]}'", offset)
        comm, event, frame = found
        self._is_counted = self._is_of_interest(event)
        self._is_plain = not frame
        self._process = self._builder.index(comm, FrameKind.PROCESS)
        if frame:
            self._frames.append(known if (known := self._known.get(frame)) else self._frame(frame, offset))

    def _end(self) -> None:
        if self._process >= 0 and self._is_counted:
            self._builder.add((self._process, *self._stack()), 1)
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
