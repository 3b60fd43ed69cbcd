"""Names and addresses of the kernel's functions and variables."""

from __future__ import annotations

import errno
import struct
from bisect import bisect_right
from collections.abc import Sequence
from itertools import islice
from typing import Final

from invivo.errors import InvivoError, PermissionDeniedError
from invivo.image import Relocation, RelocationKind
from invivo.ir.layout import MapSpec, MapType
from invivo.kernel import abi
from invivo.kernel.maps import Map
from invivo.kernel.programs import Program, load_code, relocated

_PATH: Final = "/proc/kallsyms"

# The naming program's array: u64 count, u64 addresses[_BATCH], char texts[_BATCH][_TEXT_BYTES].
_BATCH: Final = 64
_TEXT_BYTES: Final = 256
_TEXTS: Final = 8 + 8 * _BATCH

Name = tuple[str, int, str]
"""Symbol, offset into it, module; an unknown address has the symbol ``""`` and itself as the offset."""


class Kallsyms:
    """The kernel's symbols; nothing is read or loaded before the first question."""

    def __init__(self, path: str = _PATH) -> None:
        self._path = path
        self._namer: Namer | None = None
        self._namer_failed = path != _PATH
        self._table: Table | None = None
        self._known: dict[int, Name] = {}

    def address(self, name: str) -> int | None:
        """Return the address of a function or variable, None if there is none.

        Reads the list up to it: some 50 ms.  Raises `PermissionDeniedError` if the kernel hides addresses.
        """
        wanted = name.encode()
        with open(self._path, "rb", buffering=1 << 20) as lines:
            for line in lines:
                if wanted in line:
                    fields = line.split()
                    if fields[2] == wanted:
                        return _visible(int(fields[0], 16))
        return None

    def size(self, name: str) -> int | None:
        """Return how many bytes there are from a symbol's address to the next one's. Raises as `address` does."""
        start = self.address(name)
        if start is None:
            return None
        with open(self._path, "rb", buffering=1 << 20) as lines:
            following = (int(line.split(b" ", 1)[0], 16) for line in lines)
            end = min((address for address in following if address > start), default=None)
        return end - start if end is not None else None

    def names(self, addresses: Sequence[int]) -> list[Name]:
        """Return the name of each address.

        The kernel itself is asked in batches (1 to 2 µs each, once for an address); where that fails
        the list in /proc is read and sorted once.
        """
        known = self._known
        unknown = list(dict.fromkeys(each for each in addresses if each not in known))
        if unknown:
            known.update(zip(unknown, self._resolve(unknown), strict=True))
        return [known[each] for each in addresses]

    def close(self) -> None:
        """Unload the naming program."""
        namer, self._namer = self._namer, None
        if namer is not None:
            namer.close()

    def _resolve(self, addresses: Sequence[int]) -> list[Name]:
        if not self._namer_failed:
            try:
                if self._namer is None:
                    self._namer = Namer()
                return self._namer.names(addresses)
            except InvivoError:
                # A kernel or a user without it: the list has the same answer.
                self._namer_failed = True
        if self._table is None:
            self._table = Table(self._path)
        return [self._table.name(each) for each in addresses]


class Namer:
    """A BPF program that has the kernel print addresses with ``%pS``."""

    def __init__(self) -> None:
        text = b"%pS\0"
        self._maps: list[Map] = []
        self._program: Program | None = None
        try:
            size = _TEXTS + _BATCH * _TEXT_BYTES
            state = self._create(MapSpec("ksym_state", MapType.ARRAY, 4, size, 1, abi.F_MMAPABLE))
            text_spec = MapSpec("ksym_format", MapType.ARRAY, 4, len(text), 1, initial=text, frozen=True)
            format_map = self._create(text_spec)
            format_map.freeze()
            code, relocations = _naming_program()
            maps = {"state": state, "format": format_map}
            self._program = load_code("ksym", relocated(code, relocations, maps))
            self._memory = state.memory()
        except BaseException:
            self.close()
            raise

    def names(self, addresses: Sequence[int]) -> list[Name]:
        """Return the name of each address."""
        assert self._program is not None
        names: list[Name] = []
        remaining = iter(addresses)
        while batch := list(islice(remaining, _BATCH)):
            struct.pack_into(f"<Q{len(batch)}Q", self._memory, 0, len(batch), *batch)
            self._program.run()
            for index, address in enumerate(batch):
                start = _TEXTS + index * _TEXT_BYTES
                text = bytes(self._memory[start : start + _TEXT_BYTES]).partition(b"\0")[0]
                names.append(parse_name(text.decode(errors="replace"), address))
        return names

    def close(self) -> None:
        """Unload the program and its maps."""
        if self._program is not None:
            self._program.close()
        for each in self._maps:
            each.close()

    def _create(self, spec: MapSpec) -> Map:
        self._maps.append(Map.create(spec))
        return self._maps[-1]


class Table:
    """The whole list, sorted by address: 100 ms and some tens of megabytes, once."""

    def __init__(self, path: str) -> None:
        with open(path, "rb") as file:
            self._lines = sorted(file.read().splitlines())
        if self._lines:
            _visible(int(self._lines[-1].split(b" ", 1)[0], 16))

    def name(self, address: int) -> Name:
        """Return the name of one address."""
        # Lines begin with 16 hexadecimal digits, so they sort as addresses do.
        place = bisect_right(self._lines, b"%016x~" % address) - 1
        if place < 0:
            return "", address, ""
        start, _, rest = self._lines[place].split(b" ", 2)
        # Of several names for an address the first is shown, as the kernel does.
        while place > 0 and self._lines[place - 1].startswith(start):
            place -= 1
            rest = self._lines[place].split(b" ", 2)[2]
        symbol, _, module = rest.decode(errors="replace").partition("\t")
        return symbol, address - int(start, 16), module.strip("[]")


def parse_name(text: str, address: int) -> Name:
    """Return what the kernel's ``%pS`` says: ``vfs_read+0x10/0x2b0 [module]``, or ``0xffff...``."""
    symbol, plus, rest = text.partition("+0x")
    if not plus:
        return "", address, ""
    offset, _, tail = rest.partition("/")
    _, _, module = tail.partition(" [")
    try:
        return symbol, int(offset, 16), module.partition("]")[0].partition(" ")[0]
    except ValueError:
        return "", address, ""


def _visible(address: int) -> int:
    if not address:
        hint = "run as root (missing: CAP_SYSLOG), or see /proc/sys/kernel/kptr_restrict"
        raise PermissionDeniedError("read the kernel's addresses", errno.EPERM, hint)
    return address


def _naming_program() -> tuple[bytes, Sequence[Relocation]]:
    """Return a program that prints the array's addresses into its texts, and where its maps are named."""

    def instruction(opcode: int, target: int = 0, source: int = 0, offset: int = 0, value: int = 0) -> bytes:
        return struct.pack("<BBhi", opcode, target | source << 4, offset, value)

    def move(target: int, source: int) -> bytes:
        return instruction(0xBF, target, source)

    load = instruction(abi.LD_IMM64, 6) + instruction(0)
    begin = load + b"".join(
        [
            instruction(0x79, 8, 6),  # r8 = count
            instruction(0xB7, 7),  # r7 = 0
        ]
    )
    body = b"".join(
        [
            move(1, 7),
            instruction(0x27, 1, value=_TEXT_BYTES),  # r1 = r7 * _TEXT_BYTES
            instruction(0x0F, 1, 6),
            instruction(0x07, 1, value=_TEXTS),  # r1 = &texts[r7]
            instruction(0xB7, 2, value=_TEXT_BYTES),
            instruction(abi.LD_IMM64, 3) + instruction(0),  # r3 = format
            move(4, 7),
            instruction(0x67, 4, value=3),
            instruction(0x0F, 4, 6),
            instruction(0x07, 4, value=8),  # r4 = &addresses[r7]
            instruction(0xB7, 5, value=8),
            instruction(0x85, value=_SNPRINTF),
            instruction(0x07, 7, value=1),
        ]
    )
    length = len(body) // 8
    loop = b"".join(
        [
            instruction(0x3D, 7, 8, offset=length + 1),  # if r7 >= r8 goto end
            body,
            instruction(0xA5, 7, offset=-length - 2, value=_BATCH),  # if r7 < _BATCH goto loop
        ]
    )
    end = instruction(0xB7, 0) + instruction(0x95)
    format_at = len(begin) // 8 + 1 + 5
    relocations = (
        Relocation(0, RelocationKind.MAP_VALUE, "state"),
        Relocation(format_at, RelocationKind.MAP_VALUE, "format"),
    )
    return begin + loop + end, relocations


_SNPRINTF: Final = 165  # BPF_FUNC_snprintf, linux/bpf.h (since 5.13)
