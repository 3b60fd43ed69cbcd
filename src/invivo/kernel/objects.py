"""What the kernel holds for everybody: BPF programs and types, found by number."""

from __future__ import annotations

import errno
import os
import struct
from collections.abc import Generator, Iterator
from contextlib import contextmanager
from typing import Final

from invivo.errors import InvivoError, NotSupportedError, SyscallError
from invivo.formats.btf import Btf, BtfKind
from invivo.kernel import abi, syscalls
from invivo.kernel.programs import BpfFunction, Load
from invivo.target import ProgramType

_INFO: Final = struct.Struct("<IIQ")
_BTF_INFO: Final = struct.Struct("<QIIQII")  # struct bpf_btf_info: btf, btf_size, id, name, name_len, kernel_btf
_NAME_BYTES: Final = 64
_MOST_ARGUMENTS: Final = 5  # MAX_BPF_FUNC_REG_ARGS, include/linux/bpf.h

# Offsets in struct bpf_prog_info, include/uapi/linux/bpf.h.
_PROGRAM_TYPE: Final = 0
_BTF_ID: Final = 128
_FUNC_INFO_REC_SIZE: Final = 132
_FUNC_INFO: Final = 136
_NR_FUNC_INFO: Final = 144
_PROG_INFO_BYTES: Final = 224
_NO_TARGETS: Final = frozenset({26, 28})  # BPF_PROG_TYPE_TRACING and EXT: no program is attached to its like


@contextmanager
def target(module: str, program_id: int) -> Generator[int]:
    """Open what a program is attached to: the BTF of a module, or a BPF program; it is closed at the end.

    Raises `SyscallError` (CAP_SYS_ADMIN is needed), `NotSupportedError` for a module without BTF.
    """
    fd = _program(program_id) if program_id else _module(module)
    try:
        yield fd
    finally:
        os.close(fd)


def _module(module: str) -> int:
    for number in _numbers(abi.BTF_GET_NEXT_ID):
        fd = _open(abi.BTF_GET_FD_BY_ID, number)
        if fd < 0:
            continue  # unloaded meanwhile
        if _btf_name(fd) == module:
            return fd
        os.close(fd)
    raise NotSupportedError(f"types of the module '{module}'")


def _program(number: int) -> int:
    attributes = bytearray(struct.pack("<III", number, 0, 0))
    return syscalls.bpf(abi.PROG_GET_FD_BY_ID, attributes, f"open BPF program {number}")


def bpf_functions() -> Iterator[BpfFunction]:
    """Yield the functions of all loaded programs that others can be attached to, by program number.

    Raises `PermissionDeniedError` (CAP_SYS_ADMIN is needed).
    """
    for number in _numbers(abi.PROG_GET_NEXT_ID):
        fd = _open(abi.PROG_GET_FD_BY_ID, number)
        if fd < 0:
            continue
        try:
            yield from _functions(number, fd)
        finally:
            os.close(fd)


def program_types(program_id: int) -> Btf | None:
    """Return the types that a program was loaded with. Raises `SyscallError`, `BadFileError`."""
    with target("", program_id) as fd:
        btf_id = _u32(_program_info(fd), _BTF_ID)
    return _btf(btf_id) if btf_id else None


def argument_words(program_id: int, type_id: int, declared: int) -> int:
    """Return how many words of arguments the kernel keeps for programs at a BPF function's entry and return.

    As many as are declared; 5 if the kernel does not trust the declaration, which only a try can tell.
    """
    # *(u64 *)(ctx + 8 * (declared + 1)) is behind the result if there are as many as declared.
    code = struct.pack("<BBhiBBhiBBhi", 0x79, 0x10, 8 * (declared + 1), 0, 0xB7, 0, 0, 0, 0x95, 0, 0, 0)
    with target("", program_id) as fd:
        load = Load("words", ProgramType.TRACING_FEXIT, code, "GPL", attach_btf_id=type_id, attach_fd=fd)
        try:
            load.run(0).close()
        except InvivoError:
            return declared
    return _MOST_ARGUMENTS


def _functions(number: int, fd: int) -> Iterator[BpfFunction]:
    info = _program_info(fd)
    btf_id, count = _u32(info, _BTF_ID), _u32(info, _NR_FUNC_INFO)
    if not btf_id or not count or _u32(info, _PROGRAM_TYPE) in _NO_TARGETS:
        return
    size = _u32(info, _FUNC_INFO_REC_SIZE)
    table = bytearray(count * size)
    asked = bytearray(_PROG_INFO_BYTES)
    struct.pack_into("<IQI", asked, _FUNC_INFO_REC_SIZE, size, syscalls.address(table), count)
    _ask(fd, asked)
    types = _btf(btf_id)
    for at in range(0, len(table), size):
        type_id = _u32(table, at + 4)
        if types is not None and type_id and types.kind(type_id) is BtfKind.FUNC:
            yield BpfFunction(number, types.type(type_id).name, type_id)


def _program_info(fd: int) -> bytearray:
    return _ask(fd, bytearray(_PROG_INFO_BYTES))


def _btf(number: int) -> Btf | None:
    fd = _open(abi.BTF_GET_FD_BY_ID, number)
    if fd < 0:
        return None
    try:
        size = _BTF_INFO.unpack(_ask(fd, bytearray(_BTF_INFO.size)))[1]
        content = bytearray(size)
        _ask(fd, bytearray(_BTF_INFO.pack(syscalls.address(content), size, 0, 0, 0, 0)))
        return Btf(bytes(content), f"BTF {number}")
    finally:
        os.close(fd)


def _btf_name(fd: int) -> str:
    text = bytearray(_NAME_BYTES)
    _ask(fd, bytearray(_BTF_INFO.pack(0, 0, 0, syscalls.address(text), len(text), 0)))
    return bytes(text).partition(b"\0")[0].decode()


def _ask(fd: int, info: bytearray) -> bytearray:
    attributes = bytearray(_INFO.pack(fd, len(info), syscalls.address(info)))
    syscalls.bpf(abi.OBJ_GET_INFO_BY_FD, attributes, "ask about a BPF object")
    return info


def _numbers(command: int) -> Iterator[int]:
    number = 0
    while True:
        attributes = bytearray(struct.pack("<III", number, 0, 0))
        try:
            syscalls.bpf(command, attributes, "list the kernel's BPF objects")
        except SyscallError as error:
            if error.errno == errno.ENOENT:  # that was the last
                return
            raise
        number = _u32(attributes, 4)
        yield number


def _open(command: int, number: int) -> int:
    return syscalls.try_bpf(command, bytearray(struct.pack("<III", number, 0, 0)))


def _u32(data: bytearray, offset: int) -> int:
    value: int = struct.unpack_from("<I", data, offset)[0]
    return value
