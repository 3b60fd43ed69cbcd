"""Numbers of the kernel's interfaces, under the names of the headers they come from.

Headers are those of ``include/uapi`` in the kernel's tree; a name is the header's own without
its ``BPF_`` or ``PERF_`` where that leaves it clear.
"""

from __future__ import annotations

from typing import Final

PAGE_SIZE: Final = 4096

# arch/x86/entry/syscalls/syscall_64.tbl
SYS_IOCTL: Final = 16
SYS_PERF_EVENT_OPEN: Final = 298
SYS_BPF: Final = 321
SYS_FSOPEN: Final = 430
SYS_FSCONFIG: Final = 431
SYS_FSMOUNT: Final = 432

# enum bpf_cmd, linux/bpf.h
MAP_CREATE: Final = 0
MAP_LOOKUP_ELEM: Final = 1
MAP_UPDATE_ELEM: Final = 2
MAP_DELETE_ELEM: Final = 3
MAP_GET_NEXT_KEY: Final = 4
PROG_LOAD: Final = 5
OBJ_PIN: Final = 6
PROG_TEST_RUN: Final = 10
PROG_GET_NEXT_ID: Final = 11
PROG_GET_FD_BY_ID: Final = 13
OBJ_GET_INFO_BY_FD: Final = 15
RAW_TRACEPOINT_OPEN: Final = 17
BTF_LOAD: Final = 18
MAP_FREEZE: Final = 22
BTF_GET_FD_BY_ID: Final = 19
BTF_GET_NEXT_ID: Final = 23
MAP_LOOKUP_BATCH: Final = 24
MAP_LOOKUP_AND_DELETE_BATCH: Final = 25
MAP_UPDATE_BATCH: Final = 26
LINK_CREATE: Final = 28
ENABLE_STATS: Final = 32
ITER_CREATE: Final = 33

COMMAND_NAMES: Final = {
    MAP_CREATE: "BPF_MAP_CREATE",
    MAP_LOOKUP_ELEM: "BPF_MAP_LOOKUP_ELEM",
    MAP_UPDATE_ELEM: "BPF_MAP_UPDATE_ELEM",
    MAP_DELETE_ELEM: "BPF_MAP_DELETE_ELEM",
    MAP_GET_NEXT_KEY: "BPF_MAP_GET_NEXT_KEY",
    PROG_LOAD: "BPF_PROG_LOAD",
    OBJ_PIN: "BPF_OBJ_PIN",
    PROG_TEST_RUN: "BPF_PROG_TEST_RUN",
    PROG_GET_NEXT_ID: "BPF_PROG_GET_NEXT_ID",
    PROG_GET_FD_BY_ID: "BPF_PROG_GET_FD_BY_ID",
    OBJ_GET_INFO_BY_FD: "BPF_OBJ_GET_INFO_BY_FD",
    RAW_TRACEPOINT_OPEN: "BPF_RAW_TRACEPOINT_OPEN",
    BTF_LOAD: "BPF_BTF_LOAD",
    BTF_GET_FD_BY_ID: "BPF_BTF_GET_FD_BY_ID",
    BTF_GET_NEXT_ID: "BPF_BTF_GET_NEXT_ID",
    MAP_FREEZE: "BPF_MAP_FREEZE",
    MAP_LOOKUP_BATCH: "BPF_MAP_LOOKUP_BATCH",
    MAP_LOOKUP_AND_DELETE_BATCH: "BPF_MAP_LOOKUP_AND_DELETE_BATCH",
    MAP_UPDATE_BATCH: "BPF_MAP_UPDATE_BATCH",
    LINK_CREATE: "BPF_LINK_CREATE",
    ENABLE_STATS: "BPF_ENABLE_STATS",
    ITER_CREATE: "BPF_ITER_CREATE",
}

# Flags of BPF_MAP_CREATE, linux/bpf.h
F_NO_PREALLOC: Final = 1 << 0
F_RDONLY_PROG: Final = 1 << 7
F_MMAPABLE: Final = 1 << 10

# Flags of BPF_MAP_UPDATE_ELEM
ANY: Final = 0
NOEXIST: Final = 1
EXIST: Final = 2

OBJ_NAME_LEN: Final = 16  # with its zero byte

# Values of src_reg in a 16-byte load, BPF_PSEUDO_*
PSEUDO_MAP_FD: Final = 1
PSEUDO_MAP_VALUE: Final = 2
LD_IMM64: Final = 0x18  # BPF_LD | BPF_IMM | BPF_DW

# enum bpf_attach_type
TRACE_ITER: Final = 28
PERF_EVENT: Final = 41

F_KPROBE_MULTI_RETURN: Final = 1
F_UPROBE_MULTI_RETURN: Final = 1
F_TEST_RUN_ON_CPU: Final = 1

# enum bpf_stats_type
STATS_RUN_TIME: Final = 0

# struct bpf_prog_info: offsets
PROG_INFO_SIZE: Final = 232
PROG_INFO_ID: Final = 4
PROG_INFO_JITED_LEN: Final = 16
PROG_INFO_XLATED_LEN: Final = 20
PROG_INFO_RUN_TIME_NS: Final = 192
PROG_INFO_RUN_CNT: Final = 200
PROG_INFO_RECURSION_MISSES: Final = 208
PROG_INFO_VERIFIED_INSNS: Final = 216

# Ring buffer records, linux/bpf.h
RINGBUF_BUSY_BIT: Final = 1 << 31
RINGBUF_DISCARD_BIT: Final = 1 << 30
RINGBUF_HDR_SZ: Final = 8
RB_NO_WAKEUP: Final = 1 << 0
RB_FORCE_WAKEUP: Final = 1 << 1

# enum perf_type_id, linux/perf_event.h
TYPE_HARDWARE: Final = 0
TYPE_SOFTWARE: Final = 1
TYPE_TRACEPOINT: Final = 2
TYPE_HW_CACHE: Final = 3
TYPE_RAW: Final = 4
TYPE_BREAKPOINT: Final = 5

# struct perf_event_attr
PERF_ATTR_SIZE_VER5: Final = 112
PERF_ATTR_DISABLED: Final = 1 << 0
PERF_ATTR_INHERIT: Final = 1 << 1
PERF_ATTR_FREQ: Final = 1 << 10
PERF_FLAG_FD_CLOEXEC: Final = 1 << 3
PERF_EVENT_IOC_ENABLE: Final = 0x2400

# linux/mount.h
FSOPEN_CLOEXEC: Final = 1
FSCONFIG_CMD_CREATE: Final = 6
FSMOUNT_CLOEXEC: Final = 1
MOUNT_ATTR_RDONLY: Final = 1
MOUNT_ATTR_NOSUID: Final = 2
MOUNT_ATTR_NODEV: Final = 4
MOUNT_ATTR_NOEXEC: Final = 8
