"""Files with stacks, as other tools write them; perf.data is put together byte by byte."""

from __future__ import annotations

import struct

_IP, _TID, _TIME, _READ, _CALLCHAIN, _PERIOD, _IDENTIFIER = 1, 2, 4, 16, 32, 256, 1 << 16
_KERNEL, _USER = (1 << 64) - 128, (1 << 64) - 512
KERNEL_TEXT = 0xFFFFFFFF81000000

PERF_SCRIPT = """\
# captured on: today
busy prog 101/102 [001] 29199.988974:    2004008 cpu-clock:pppH:
\tffffffff81000130 do_syscall_64+0x5b ([kernel.kallsyms])
\t            11a2 mix+0x16 (/tmp/my bin/shares)
\t            126e std::vector<int>::push_back(int const&) (inlined)
\t           2724a [unknown] (/usr/lib/libc.so.6)
\t    7f0000001000 LazyCompile:~f x.js:1 (/tmp/perf-101.map)

swapper     0 [000]   5.000001:          1 cpu-clock:
\tffffffff81000200 default_idle+0x10 ([kernel.kallsyms])

busy prog 101/102 [001] 29200.5: page-faults:  11a2 mix+0x16 (/tmp/my bin/shares)
"""

FOLDED = "busy;main;often;mix 75\nbusy;main;f_[i];sys_read_[k] 2.5\n"

PROFILE_JSON = """\
{"type": "profile", "unit": "us", "total": 3, "truncated": 0, "unnamed": null, "lost": 1, "remarks": ["a"],
"frames": [{"name": "f", "kind": "user"}, {"name": "g", "kind": "kernel", "module": "[kernel]"}],
"stacks": [{"frames": [0, 1], "weight": 2}, {"frames": [1], "weight": 1}]}
"""


def _record(kind: int, body: bytes, misc: int = 0) -> bytes:
    return struct.pack("<IHH", kind, misc, 8 + len(body)) + body


def _name(text: str) -> bytes:
    data = text.encode() + b"\0"
    return data + bytes(-len(data) % 8)


class PerfDataWriter:
    """Writes the records of one perf.data file; ``identified``: each begins or ends with the number of its event."""

    def __init__(self, *, counts: bool = False, identified: bool = False) -> None:
        self.records: list[bytes] = []
        self.counts = counts
        self.identified = identified

    def _trailer(self, time: int, pid: int) -> bytes:
        return struct.pack("<IIQ", pid, pid, time) + (struct.pack("<Q", 7) if self.identified else b"")

    def mmap(self, time: int, pid: int, start: int, length: int, offset: int, path: str, build_id: bytes = b"") -> None:
        identity = bytes([len(build_id), 0, 0, 0]) + build_id.ljust(20, b"\0")
        body = struct.pack("<IIQQQ", pid, pid, start, length, offset) + identity + bytes(8) + _name(path)
        self.records.append(_record(10, body + self._trailer(time, pid), (1 << 14) if build_id else 0))

    def comm(self, time: int, pid: int, name: str, *, executed: bool = False) -> None:
        body = struct.pack("<II", pid, pid) + _name(name) + self._trailer(time, pid)
        self.records.append(_record(3, body, (1 << 13) if executed else 0))

    def fork(self, time: int, pid: int, parent: int) -> None:
        body = struct.pack("<IIIIQ", pid, parent, pid, parent, time) + self._trailer(time, pid)
        self.records.append(_record(7, body))

    def lost(self, time: int, count: int) -> None:
        self.records.append(_record(2, struct.pack("<QQ", 0, count) + self._trailer(time, 0)))

    def sample(self, time: int, pid: int, user: list[int], kernel: list[int] | None = None, event: int = 7) -> None:
        chain = [*([_KERNEL, *kernel] if kernel else []), *([_USER, *user] if user else [])]
        body = struct.pack("<Q", event) if self.identified else b""
        body += struct.pack("<QIIQQ", (kernel or user)[0], pid, pid, time, 1)
        if self.counts:
            body += struct.pack("<QQQQQ", 2, 5, 7, 6, 8)  # a group of two: number, then value and id of each
        body += struct.pack(f"<Q{len(chain)}Q", len(chain), *chain)
        self.records.append(_record(9, body))

    def file(self, *, events: int = 1, release: str = "6.1.0-x", start_of_text: int = KERNEL_TEXT) -> bytes:
        sample_type = _IP | _TID | _TIME | _CALLCHAIN | _PERIOD
        sample_type |= (_READ if self.counts else 0) | (_IDENTIFIER if self.identified else 0)
        read_format = (1 << 3 | 1 << 2) if self.counts else 0
        kernel = struct.pack("<IIQQQ", 0xFFFFFFFF, 0, start_of_text, 1 << 24, start_of_text)
        first = _record(1, kernel + _name("[kernel.kallsyms]_text") + self._trailer(0, 0))
        data = first + b"".join(self.records)
        attr_size, at = 136 + 16, 104
        ids_at = at + events * attr_size
        ids = b"".join(struct.pack("<Q", 7 + number) for number in range(events))
        attributes = b""
        for number in range(events):
            attribute = struct.pack("<IIQQQQQ", 1, 136, 0, 1, sample_type, read_format, 1 << 18)
            attributes += attribute.ljust(136, b"\0") + struct.pack("<QQ", ids_at + 8 * number, 8)
        data_at = ids_at + len(ids)
        text = _name(release)
        feature = struct.pack("<I", len(text)) + text
        table = struct.pack("<QQ", data_at + len(data) + 16, len(feature))
        header = struct.pack(
            "<8sQQQQQQQQ4Q",
            b"PERFILE2",
            104,
            attr_size,
            at,
            events * attr_size,
            data_at,
            len(data),
            0,
            0,
            1 << 4,
            0,
            0,
            0,
        )
        return header + attributes + ids + data + table + feature


def perf_data_file(*, counts: bool = False, events: int = 1) -> bytes:
    """A file with two processes, a fork, another program executed, and records that are not in the order of time."""
    writer = PerfDataWriter(counts=counts, identified=events > 1)
    writer.comm(1, 10, "sh")
    writer.mmap(2, 10, 0x1000, 0x1000, 0, "/bin/sh")
    writer.sample(5, 10, [0x1100, 0x1200], [KERNEL_TEXT + 0x30])
    writer.sample(4, 10, [0x1100, 0x1200])
    writer.sample(9, 11, [0x1300])
    writer.fork(6, 11, 10)
    writer.sample(7, 11, [0x1100, 0x1200])
    writer.comm(8, 11, "ls", executed=True)
    writer.mmap(8, 11, 0x1000, 0x1000, 0x4000, "/bin/ls", bytes(range(20)))
    writer.lost(10, 3)
    if events > 1:
        writer.sample(11, 10, [0x1100], event=8)
    return writer.file(events=events)
