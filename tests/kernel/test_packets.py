"""skboutput writes packets of loopback into files that others read."""

from __future__ import annotations

import struct
import sys
import time
from pathlib import Path

from running import run

# Three UDP packets, each received before the next is sent.
_SENDER = """
import socket
a, b = (socket.socket(socket.AF_INET, socket.SOCK_DGRAM) for _ in range(2))
a.bind(("127.0.0.1", 0))
for n in range(3):
    b.sendto(b"packet %d" % n, a.getsockname())
    a.recv(100)
"""
_ETHERNET, _IP, _UDP = 14, 20, 8
_WHOLE = _ETHERNET + _IP + _UDP + len(b"packet 0")


def _read(path: Path) -> list[tuple[float, int, bytes]]:
    """The packets of a pcap file: time, length on the wire, what is there."""
    data = path.read_bytes()
    magic, major, minor, _, _, _, link = struct.unpack_from("<IHHiIII", data)
    assert (magic, major, minor, link) == (0xA1B23C4D, 2, 4, 1)
    packets, at = [], 24
    while at < len(data):
        seconds, nanoseconds, kept, length = struct.unpack_from("<IIII", data, at)
        packets.append((seconds + nanoseconds / 1e9, length, data[at + 16 : at + 16 + kept]))
        at += 16 + kept
    return packets


def _written(path: Path, length: str, offset: int) -> list[tuple[float, int, bytes]]:
    body = f'$r = skboutput("{path}", args.skb, {length}, {offset}); @[$r] = count();'
    before = time.time()
    found = run(f"rawtracepoint:net_dev_queue {{ {body} }}", command=[sys.executable, "-S", "-E", "-c", _SENDER])
    assert "@[0]: 3\n" in found.text
    packets = _read(path)
    assert len(packets) == 3
    times = [seconds for seconds, _, _ in packets]
    assert times == sorted(times) and before - 1 < times[0] and times[-1] < time.time() + 1
    return packets


def test_whole_packets_are_in_the_file(tmp_path: Path) -> None:
    for number, (_, length, data) in enumerate(_written(tmp_path / "a.pcap", "1000", 0)):
        assert length == len(data) == _WHOLE
        assert data[_ETHERNET] >> 4 == 4 and data[_ETHERNET + 9] == 17  # IPv4, UDP
        assert data[-8:] == b"packet %d" % number


def test_a_part_is_taken_and_the_rest_is_told(tmp_path: Path) -> None:
    for _, length, data in _written(tmp_path / "a.pcap", "20", _ETHERNET):
        assert (length, len(data)) == (_WHOLE - _ETHERNET, 20)
        assert data[0] >> 4 == 4
    # A length that is known only when the program runs; more than there is.
    path = tmp_path / "b.pcap"
    assert [len(data) for _, _, data in _written(path, "(uint64)args.skb->len - 1", 0)] == [_WHOLE - 1] * 3
    assert [len(data) for _, _, data in _written(path, "(uint64)args.skb->len + 9", _WHOLE)] == [0] * 3
    assert [len(data) for _, _, data in _written(path, "10", _WHOLE + 5)] == [0] * 3


def test_a_file_that_cannot_be_written_is_told(tmp_path: Path) -> None:
    program = f'rawtracepoint:net_dev_queue {{ _ = skboutput("{tmp_path}/none/a.pcap", args.skb, 10, 0); }}'
    found = run(program, command=[sys.executable, "-S", "-E", "-c", _SENDER])
    assert found.errors.count("none/a.pcap': No such file or directory") == 3


def test_each_argument_is_evaluated_once(tmp_path: Path) -> None:
    path = tmp_path / "a.pcap"
    sizes = [len(data) for _, _, data in _written(path, "(uint64)(@n++ + 10)", 0)]
    assert sizes == [10, 11, 12]
