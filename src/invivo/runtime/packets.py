"""Packets into pcap files (https://www.ietf.org/archive/id/draft-ietf-opsawg-pcap-03.html)."""

from __future__ import annotations

from struct import Struct

from invivo.ir.types import Clock
from invivo.runtime.clocks import wall_offset_ns

_FILE = Struct("<IHHiIII")  # magic, version, time zone, accuracy, longest packet, kind of link
_PACKET = Struct("<IIII")  # seconds, nanoseconds, bytes here, bytes there were
_NANOSECONDS = 0xA1B23C4D  # the magic of files whose times are so exact
_ETHERNET = 1  # LINKTYPE_ETHERNET


def write_packet(path: str, begun: set[str], time_ns: int, length: int, data: bytes) -> None:
    """Add a packet of ``length`` bytes of which ``data`` is the start, seen at a time of the boot clock.

    ``begun``: files that have packets of this session; others are made anew, and added.  Raises `OSError`.
    """
    seconds, rest_ns = divmod(time_ns + wall_offset_ns(Clock.BOOT), 10**9)
    with open(path, "ab" if path in begun else "wb") as file:
        if path not in begun:
            file.write(_FILE.pack(_NANOSECONDS, 2, 4, 0, 0, 65535, _ETHERNET))
            begun.add(path)
        file.write(_PACKET.pack(seconds, rest_ns, len(data), length) + data)
