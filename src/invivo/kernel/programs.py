"""Loading BPF programs, and running them once."""

from __future__ import annotations

import errno
import os
import struct
from collections.abc import Mapping, Sequence
from typing import Final

from invivo.errors import SyscallError, VerifierError
from invivo.image import FunctionInfo, ProgramImage, Relocation, RelocationKind
from invivo.kernel import abi, syscalls
from invivo.kernel.maps import Map, object_name
from invivo.kernel.verifier_log import failed_instruction, is_too_large
from invivo.record import Record, replace
from invivo.target import ProgramType

_LOAD: Final = struct.Struct("<IIQQIIQII16sIIIIQIIQIIIIQQII")  # prog_type .. log_true_size
_LOG_TRUE_SIZE: Final = 140  # its offset; written since Linux 6.4
_BTF_LOAD: Final = struct.Struct("<QQIII")  # btf, btf_log_buf, btf_size, btf_log_size, btf_log_level
_TEST_RUN: Final = struct.Struct("<IIIIQQIIIIQQIII4x")
_INFO: Final = struct.Struct("<IIQ")

_FIRST_LOG_BYTES: Final = 1 << 18
_LAST_LOG_BYTES: Final = 1 << 24
_LOG_STATS: Final = 4  # BPF_LOG_STATS, include/linux/bpf_verifier.h: counts and the error, no instructions
_ATTEMPTS: Final = 5

# A refusal by the verifier; other errnos are the system's.
_REFUSALS: Final = frozenset(
    {errno.EACCES, errno.EINVAL, errno.E2BIG, errno.EPERM, errno.EFAULT, errno.EOPNOTSUPP, errno.ENOENT}
)


class Statistics(Record):
    """What the kernel counted of a program. Times and runs only while `enable_statistics` holds."""

    run_count: int
    run_time_ns: int
    misses: int  # runs left out because the program was running on that CPU already
    verified_instructions: int
    translated_bytes: int
    native_bytes: int


class BpfFunction(Record):
    """A function of a loaded program that has types; ``type_id`` is in the program's own BTF."""

    program_id: int
    name: str
    type_id: int


class Program:
    """A loaded program; it lives as long as a descriptor or a link refers to it."""

    def __init__(self, fd: int, name: str, attach_type: int = 0, log: str = "") -> None:
        self.fd = fd
        self.name = name
        self.attach_type = attach_type  # enum bpf_attach_type, for its link
        self.log = log  # the verifier's, if one was asked for

    def run(self, context: bytes = b"") -> int:
        """Run a raw tracepoint or fentry program once in this thread (BPF_PROG_TEST_RUN).

        ``context`` are the tracepoint's arguments, 8 bytes each.  Returns the program's 32-bit
        return value.  Raises `SyscallError`.
        """
        attributes = bytearray(
            _TEST_RUN.pack(self.fd, 0, 0, 0, 0, 0, 0, 0, len(context), 0, syscalls.address(context), 0, 0, 0, 0)
        )
        syscalls.bpf(abi.PROG_TEST_RUN, attributes, f"run program {self.name}")
        value: int = struct.unpack_from("<I", attributes, 4)[0]
        return value

    def statistics(self) -> Statistics:
        """Return the kernel's counts of this program (BPF_OBJ_GET_INFO_BY_FD)."""
        info = bytearray(abi.PROG_INFO_SIZE)
        attributes = bytearray(_INFO.pack(self.fd, len(info), syscalls.address(info)))
        syscalls.bpf(abi.OBJ_GET_INFO_BY_FD, attributes, f"read the counts of program {self.name}")
        native, translated = struct.unpack_from("<II", info, abi.PROG_INFO_JITED_LEN)
        time_ns, count, misses, verified = struct.unpack_from("<QQQI", info, abi.PROG_INFO_RUN_TIME_NS)
        return Statistics(count, time_ns, misses, verified, translated, native)

    def run_count(self) -> int:
        """Return how often the program ran while `enable_statistics` held."""
        return self.statistics().run_count

    def run_time_ns(self) -> int:
        """Return how long all these runs took."""
        return self.statistics().run_time_ns

    def close(self) -> None:
        """Close the descriptor; twice does no harm."""
        fd, self.fd = self.fd, -1
        if fd >= 0:
            os.close(fd)


def enable_statistics() -> int:
    """Count and time the runs of all programs until the returned descriptor is closed (BPF_ENABLE_STATS).

    The global switch ``kernel.bpf_stats_enabled`` stays as it is.  Needs CAP_SYS_ADMIN.
    """
    attributes = bytearray(struct.pack("<I", abi.STATS_RUN_TIME))
    return syscalls.bpf(abi.ENABLE_STATS, attributes, "count the runs of programs")


def load_btf(data: bytes) -> int:
    """Give the kernel the types of programs; return a descriptor. Raises `VerifierError` with its log."""
    attributes = bytearray(_BTF_LOAD.pack(syscalls.address(data), 0, len(data), 0, 0))
    fd = syscalls.try_bpf(abi.BTF_LOAD, attributes)
    if fd >= 0:
        return fd
    log = bytearray(_FIRST_LOG_BYTES)
    attributes = bytearray(_BTF_LOAD.pack(syscalls.address(data), syscalls.address(log), len(data), len(log), 1))
    again = syscalls.try_bpf(abi.BTF_LOAD, attributes)
    if again >= 0:
        return again
    text = _log_text(log)
    if text:
        raise VerifierError("BTF", -again, text, -1)
    raise syscalls.bpf_error("load BTF", -again)


def load_program(
    program: ProgramImage, maps: Mapping[str, Map], btf_fd: int, license: str, log_level: int = 0
) -> Program:
    """Load a program with its maps; ``btf_fd`` is `load_btf`'s, -1 if it has no BTF.

    The first attempt asks for no log, which is much cheaper; a refusal is repeated with one.
    ``log_level`` (1: each instruction, 2: each state, 4: counts; a mask) asks for it at once.
    Raises `VerifierError` with the log, `SyscallError`.
    """
    context = program.plan.context
    described = program.functions if btf_fd >= 0 else ()
    load = Load(
        program.name,
        context.program,
        relocated(program.code, program.relocations, maps),
        license,
        btf_fd if described else 0,
        described,
        context.attach_btf_id,
    )
    if context.attach_module or context.attach_program:
        from invivo.kernel import objects

        with objects.target(context.attach_module, context.attach_program) as fd:
            return replace(load, attach_fd=fd).run(log_level)
    return load.run(log_level)


def load_code(name: str, code: bytes, kind: ProgramType = ProgramType.RAW_TRACEPOINT, *, log_level: int = 0) -> Program:
    """Load ready instructions, without relocations or BTF. Raises as `load_program` does."""
    return Load(name, kind, code, "GPL").run(log_level)


class Load(Record):
    """Everything that BPF_PROG_LOAD is told about a program."""

    name: str
    kind: ProgramType
    code: bytes
    license: str
    btf_fd: int = 0
    functions: Sequence[FunctionInfo] = ()
    attach_btf_id: int = 0
    attach_fd: int = 0  # whose BTF that is: a module's, or a program's; 0: the kernel's

    def run(self, log_level: int) -> Program:
        """Load; see `load_program`."""
        code = 0
        if not log_level:
            fd, _, _ = self._attempt(0, 0)
            if fd >= 0:
                return Program(fd, self.name, self.kind.value[1])
            code = -fd
            if code not in _REFUSALS:
                raise syscalls.bpf_error(f"load program {self.name}", code)
        # A log of each instruction of a program that is too large would be some 100 MB.
        fd, log = self._logged(_LOG_STATS if code == errno.E2BIG else log_level or 1)
        if fd >= 0:
            return Program(fd, self.name, self.kind.value[1], log)
        if fd != -errno.ENOSPC:
            code = -fd
        if not log and code != errno.E2BIG:
            raise syscalls.bpf_error(f"load program {self.name}", code)
        raise VerifierError(
            self.name, code, log, failed_instruction(log), too_large=is_too_large(code, log)
        ) from SyscallError(f"load program {self.name}", code)

    def _logged(self, log_level: int) -> tuple[int, str]:
        """Load with a log; return the descriptor or negative errno, and the log, whole if it can be had."""
        size = _FIRST_LOG_BYTES
        while True:
            fd, log, wanted = self._attempt(log_level, size)
            if fd != -errno.ENOSPC:
                return fd, log
            if size >= _LAST_LOG_BYTES:
                break
            # The log did not fit. Newer kernels say how long it is.
            size = min(max(size * 4, wanted + 1), _LAST_LOG_BYTES)
        # Without the instructions what is wrong is said all the same.
        fd, log, _ = self._attempt(_LOG_STATS, _FIRST_LOG_BYTES)
        return fd, log

    def _attempt(self, log_level: int, log_bytes: int) -> tuple[int, str, int]:
        """Return the descriptor or the negative errno, the log, and how long it would have been."""
        log = bytearray(log_bytes)
        functions = b"".join(struct.pack("<II", each.instruction, each.type_id) for each in self.functions)
        license = self.license.encode() + b"\0"
        program_type, attach_type = self.kind.value
        attributes = bytearray(
            _LOAD.pack(
                program_type,
                len(self.code) // 8,
                syscalls.address(self.code),
                syscalls.address(license),
                log_level,
                log_bytes,
                syscalls.address(log),
                0,
                0,
                object_name(self.name),
                0,
                attach_type,
                self.btf_fd,
                8 if functions else 0,
                syscalls.address(functions),
                len(self.functions),
                *(0,) * 3,
                self.attach_btf_id,
                self.attach_fd,
                *(0,) * 5,
            )
        )
        fd = syscalls.try_bpf(abi.PROG_LOAD, attributes)
        for _ in range(_ATTEMPTS):
            # The verifier gives up when a signal is pending.
            if fd != -errno.EAGAIN:
                break
            fd = syscalls.try_bpf(abi.PROG_LOAD, attributes)
        wanted: int = struct.unpack_from("<I", attributes, _LOG_TRUE_SIZE)[0]
        return fd, _log_text(log), wanted


def relocated(code: bytes, relocations: Sequence[Relocation], maps: Mapping[str, Map]) -> bytes:
    """Return the instructions with the maps' descriptors written into their 16-byte loads."""
    patched = bytearray(code)
    for relocation in relocations:
        at = relocation.instruction * 8
        assert patched[at] == abi.LD_IMM64, f"instruction {relocation.instruction} is not a 16-byte load"
        match relocation.kind:
            case RelocationKind.MAP:
                source, offset = abi.PSEUDO_MAP_FD, 0
            case RelocationKind.MAP_VALUE:
                source, offset = abi.PSEUDO_MAP_VALUE, relocation.offset
        patched[at + 1] = patched[at + 1] & 0x0F | source << 4
        struct.pack_into("<i", patched, at + 4, maps[relocation.map].fd)
        struct.pack_into("<I", patched, at + 12, offset)
    return bytes(patched)


def _log_text(log: bytearray) -> str:
    end = log.find(0)
    return log[: end if end >= 0 else len(log)].decode(errors="replace").strip()
