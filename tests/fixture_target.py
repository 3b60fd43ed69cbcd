"""A small frozen machine: what a compile can ask, answered without a kernel and always the same.

    target = FixtureTarget()
    target.expand(probe_spec("tracepoint:sched:sched_switch"))

It is `probes.machine.Machine` over frozen facts, so probes behave as on a real machine: BTF,
format files and an executable are synthetic, but read by the real readers.

Tracepoints: sched:sched_switch, sched_wakeup, sched_process_exec (``__data_loc``), sched_process_fork,
sched_process_exit, sched_process_free; raw_syscalls:sys_enter (array), sys_exit; demo:legacy (no raw
tracepoint); syscalls:sys_enter_* and sys_exit_* of open openat read write close newstat exit_group.
Executable ``/bin/demo``: functions main, readline, work_one, work_two.  Kernel functions: vfs_read,
vfs_write, do_nothing.
"""

from __future__ import annotations

from functools import cache

from fixture_btf import BtfBuilder
from fixture_elf import executable
from invivo.diagnostics import SourceFile, Span
from invivo.formats.btf import Btf
from invivo.formats.elf import Elf
from invivo.kernel.programs import BpfFunction
from invivo.probes import names
from invivo.probes.kernel_types import KernelTypes
from invivo.probes.machine import Machine
from invivo.probes.provider import VMLINUX, DebugInformation, Role
from invivo.probes.user_debug import UserDebug
from invivo.target import ProbeSpec, Scope

DEMO = "/bin/demo"

_FEATURES = frozenset({"kprobe", "kprobe_multi", "uprobe_multi", "raw_tracepoint_cookies", "fentry", "hardware"})

_ADDRESSES = {"vfs_read": 0xFFFFFFFF81400000, "vfs_write": 0xFFFFFFFF81400400, "jiffies": 0xFFFFFFFF82A05000}

# Category, event -> fields: C declaration, offset, size, signed; as the kernel writes them.
_Fields = tuple[tuple[str, int, int, int], ...]

_SWITCH: _Fields = (
    ("char prev_comm[16]", 8, 16, 0),
    ("pid_t prev_pid", 24, 4, 1),
    ("int prev_prio", 28, 4, 1),
    ("long prev_state", 32, 8, 1),
    ("char next_comm[16]", 40, 16, 0),
    ("pid_t next_pid", 56, 4, 1),
    ("int next_prio", 60, 4, 1),
)
_WAKEUP: _Fields = (
    ("char comm[16]", 8, 16, 0),
    ("pid_t pid", 24, 4, 1),
    ("int prio", 28, 4, 1),
    ("int target_cpu", 32, 4, 1),
)
_EXEC: _Fields = (
    ("__data_loc char[] filename", 8, 4, 0),
    ("pid_t pid", 12, 4, 1),
    ("pid_t old_pid", 16, 4, 1),
)
_FORK: _Fields = (
    ("__data_loc char[] parent_comm", 8, 4, 0),
    ("pid_t parent_pid", 12, 4, 1),
    ("__data_loc char[] child_comm", 16, 4, 0),
    ("pid_t child_pid", 20, 4, 1),
)
_EXIT: _Fields = (
    ("char comm[16]", 8, 16, 0),
    ("pid_t pid", 24, 4, 1),
    ("int prio", 28, 4, 1),
    ("bool group_dead", 32, 1, 0),
)
_LEGACY: _Fields = (
    ("const struct file * file", 8, 8, 0),
    ("enum pid_type kind", 16, 4, 0),
    ("u8 address[16]", 20, 16, 0),
    ("__rel_loc char[] note", 36, 4, 0),
)
_NUMBER = ("int __syscall_nr", 8, 4, 1)


def _enter(*parameters: str) -> _Fields:
    return (_NUMBER, *((parameter, 16 + 8 * index, 8, 0) for index, parameter in enumerate(parameters)))


_LEAVE: _Fields = (_NUMBER, ("long ret", 16, 8, 1))

_CALLS: dict[str, _Fields] = {
    "close": _enter("unsigned int fd"),
    "exit_group": _enter("int error_code"),
    "newstat": _enter("const char * filename", "struct stat * statbuf"),
    "open": _enter("const char * filename", "int flags", "umode_t mode"),
    "openat": _enter("int dfd", "const char * filename", "int flags", "umode_t mode"),
    "read": _enter("unsigned int fd", "char * buf", "size_t count"),
    "write": _enter("unsigned int fd", "const char * buf", "size_t count"),
}

_EVENTS: dict[tuple[str, str], _Fields] = {
    ("demo", "legacy"): _LEGACY,
    ("raw_syscalls", "sys_enter"): (("long id", 8, 8, 1), ("unsigned long args[6]", 16, 48, 0)),
    ("raw_syscalls", "sys_exit"): (("long id", 8, 8, 1), ("long ret", 16, 8, 1)),
    ("sched", "sched_process_exec"): _EXEC,
    ("sched", "sched_process_exit"): _EXIT,
    ("sched", "sched_process_fork"): _FORK,
    ("sched", "sched_process_free"): _WAKEUP[:3],
    ("sched", "sched_switch"): _SWITCH,
    ("sched", "sched_wakeup"): _WAKEUP,
}
_EVENTS |= {("syscalls", f"sys_enter_{call}"): fields for call, fields in _CALLS.items()}
_EVENTS |= {("syscalls", f"sys_exit_{call}"): _LEAVE for call in _CALLS if call != "exit_group"}

_COMMON: _Fields = (
    ("unsigned short common_type", 0, 2, 0),
    ("unsigned char common_flags", 2, 1, 0),
    ("unsigned char common_preempt_count", 3, 1, 0),
    ("int common_pid", 4, 4, 1),
)


def format_text(event: str, fields: _Fields) -> str:
    """Return the text of a format file."""

    def line(field: tuple[str, int, int, int]) -> str:
        declaration, offset, size, signed = field
        return f"\tfield:{declaration};\toffset:{offset};\tsize:{size};\tsigned:{signed};\n"

    common, own = "".join(map(line, _COMMON)), "".join(map(line, fields))
    return f'name: {event}\nID: 300\nformat:\n{common}\n{own}\nprint fmt: "%d", REC->common_pid\n'


@cache
def btf_data() -> bytes:
    """Return the BTF of the frozen kernel."""
    b = BtfBuilder()
    char = b.integer("char", 1, signed=True)
    u8 = b.integer("unsigned char", 1)
    ushort = b.integer("unsigned short", 2)
    boolean = b.integer("_Bool", 1, boolean=True)
    integer = b.integer("int", 4, signed=True)
    uint = b.integer("unsigned int", 4)
    long = b.integer("long int", 8, signed=True)
    ulong = b.integer("long unsigned int", 8)
    llong = b.integer("long long int", 8, signed=True)
    ullong = b.integer("long long unsigned int", 8)
    void_pointer = b.pointer(0)
    const_string = b.pointer(b.const(char))
    name16 = b.array(char, 16, uint)
    for name, target in (
        ("u8", u8), ("u16", ushort), ("u32", uint), ("u64", ullong), ("s32", integer), ("s64", llong),
        ("bool", boolean), ("umode_t", ushort), ("gfp_t", uint), ("dev_t", uint), ("uid_t", uint), ("gid_t", uint),
    ):  # fmt: skip
        b.typedef(name, target)
    pid_t = b.typedef("pid_t", integer)
    size_t = b.typedef("size_t", ulong)
    ssize_t = b.typedef("ssize_t", long)
    loff_t = b.typedef("loff_t", llong)
    kuid = b.typedef("kuid_t", b.struct("", 4, [("val", uint, 0)]))
    kgid = b.typedef("kgid_t", b.struct("", 4, [("val", uint, 0)]))
    b.enumeration("pid_type", [("PIDTYPE_PID", 0), ("PIDTYPE_TGID", 1), ("PIDTYPE_PGID", 2), ("PIDTYPE_SID", 3)])
    b.enumeration("", [("TASK_COMM_LEN", 16)])
    b.enumeration("demo_sign", [("DEMO_MINUS", -1), ("DEMO_PLUS", 1)], signed=True)

    # The members that programs read on their own account have the places they have in Linux 6.18.
    registers = "r15 r14 r13 r12 bp bx r11 r10 r9 r8 ax cx dx si di orig_ax ip cs flags sp ss".split()  # noqa: SIM905 (a table of words)
    regs = b.struct("pt_regs", 168, [(name, ulong, 8 * index) for index, name in enumerate(registers)])
    regs_t = b.typedef("bpf_user_pt_regs_t", regs)
    b.struct("bpf_perf_event_data", 184, [("regs", regs_t, 0), ("sample_period", ullong, 168), ("addr", ullong, 176)])
    thread_info = b.struct(
        "thread_info", 24, [("flags", ulong, 0), ("syscall_work", ulong, 8), ("status", uint, 16), ("cpu", uint, 20)]
    )
    cred = b.struct("cred", 176, [("uid", kuid, 8), ("gid", kgid, 12), ("euid", kuid, 24), ("egid", kgid, 28)])
    qstr_length = b.struct("", 8, [("hash", uint, 0), ("len", uint, 4)])
    qstr_head = b.union("", 8, [("", qstr_length), ("hash_len", ullong)])
    qstr = b.struct("qstr", 16, [("", qstr_head, 0), ("name", b.pointer(b.const(u8)), 8)])
    dentry = b.struct("dentry", 192, [("d_flags", uint, 0), ("d_name", qstr, 32), ("d_iname", name16, 56)])
    path = b.struct("path", 16, [("mnt", void_pointer, 0), ("dentry", b.pointer(dentry), 8)])
    file = b.struct("file", 184, [("f_mode", uint, 4), ("f_path", path, 64), ("f_pos", loff_t, 104)])
    mm = b.struct(
        "mm_struct", 1024, [("", b.struct("", 1000, [("start_code", ulong, 296), ("arg_start", ulong, 328)]), 0)]
    )
    b.struct("stat", 144, [("st_dev", ulong, 0), ("st_ino", ulong, 8), ("st_size", long, 48)])
    b.struct("sockaddr", 16, [("sa_family", ushort, 0), ("sa_data", b.array(char, 14, uint), 2)])
    # task_struct points to itself: its id is that of the pointer to come, plus one.
    task_pointer = b.pointer(0)
    tagged = b.pointer(b.type_tag("user", char))
    task = b.bit_struct(
        "task_struct",
        9536,
        [
            ("thread_info", thread_info, 0, 0),
            ("__state", uint, 24 * 8, 0),
            ("flags", uint, 44 * 8, 0),
            ("prio", integer, 140 * 8, 0),
            ("sched_reset_on_fork", uint, 1500 * 8, 1),
            ("in_execve", uint, 1500 * 8 + 1, 1),
            ("jobctl_kind", uint, 1500 * 8 + 2, 5),
            ("mm", b.pointer(mm), 1568 * 8, 0),
            ("exit_code", integer, 1600 * 8, 0),
            ("pid", pid_t, 1696 * 8, 0),
            ("tgid", pid_t, 1700 * 8, 0),
            ("real_parent", task_pointer, 1712 * 8, 0),
            ("parent", task_pointer, 1720 * 8, 0),
            ("group_leader", task_pointer, 1760 * 8, 0),
            ("set_child_tid", tagged, 1888 * 8, 0),
            ("start_time", ullong, 1960 * 8, 0),
            ("cred", b.pointer(b.const(cred)), 2160 * 8, 0),
            ("comm", name16, 2176 * 8, 0),
            ("handler", b.pointer(b.prototype(0, [("", integer)])), 2200 * 8, 0),
            ("cpus_mask", b.array(ulong, 4, uint), 2208 * 8, 0),
            ("counters", b.pointer(b.type_tag("percpu", ulong)), 2264 * 8, 0),
            ("next_rcu", b.pointer(b.type_tag("rcu", ulong)), 2272 * 8, 0),
        ],
    )
    b.redirect(task_pointer, task)
    bprm = b.struct("linux_binprm", 400, [("filename", const_string, 96), ("argc", integer, 80)])
    data = ("__data", void_pointer)
    tracepoints: dict[str, list[tuple[str, int]]] = {
        "sched_process_exec": [("p", task_pointer), ("old_pid", pid_t), ("bprm", b.pointer(bprm))],
        "sched_process_exit": [("p", task_pointer), ("group_dead", boolean)],
        "sched_process_fork": [("parent", task_pointer), ("child", task_pointer)],
        "sched_process_free": [("p", task_pointer)],
        "sched_switch": [
            ("preempt", boolean), ("prev", task_pointer), ("next", task_pointer), ("prev_state", uint),
        ],
        "sched_wakeup": [("p", task_pointer)],
        "sys_enter": [("regs", b.pointer(regs)), ("id", long)],
        "sys_exit": [("regs", b.pointer(regs)), ("ret", long)],
    }  # fmt: skip
    for event, parameters in tracepoints.items():
        unnamed = [("", type_id) for _, type_id in (data, *parameters)]
        b.typedef(f"btf_trace_{event}", b.pointer(b.prototype(0, unnamed)))
        b.function(f"__probestub_{event}", b.prototype(0, [data, *parameters]))
    buffer = b.pointer(char)
    position = b.pointer(loff_t)
    reading = [("file", b.pointer(file)), ("buf", buffer), ("count", size_t), ("pos", position)]
    b.function("vfs_read", b.prototype(ssize_t, reading))
    b.function("vfs_write", b.prototype(ssize_t, [reading[0], ("buf", const_string), *reading[2:]]))
    b.function("do_nothing", b.prototype(0, [("path", path), ("flag", integer)]))
    meta = b.struct("bpf_iter_meta", 24, [("seq", void_pointer, 0), ("session_id", ullong, 8), ("seq_num", ullong, 16)])
    b.struct("bpf_iter__task", 16, [("meta", b.pointer(meta), 0), ("task", task_pointer, 8)])
    b.function("bpf_iter_task", b.prototype(integer, [("meta", b.pointer(meta)), ("task", task_pointer)]))
    b.variable("runqueues", ulong)
    return b.data()


class FixtureFacts:
    """The frozen machine, as providers see it."""

    def __init__(self, pid: int | None = None, features: frozenset[str] = _FEATURES, *, btf: bool = True) -> None:
        self.pid = pid
        self.unsafe = False
        self.remarks: list[str] = []
        self.features = features
        self._btf = Btf(btf_data(), "fixture") if btf else None
        self._types = KernelTypes(self._btf)
        functions = [("main", 0, 64), ("readline", 64, 32), ("work_one", 96, 16), ("work_two", 112, 16)]
        self._elf = Elf(executable(functions, (("demo", "mark", 8, "-4@%edi 8@$3"),)), DEMO)

    def possible_cpus(self) -> int:
        return 4

    def btf(self) -> Btf | None:
        return self._btf

    def types(self) -> KernelTypes:
        return self._types

    def events(self, category: str, event: str) -> list[tuple[str, str]]:
        in_category, named = names.matcher(category), names.matcher(event)
        return sorted(pair for pair in _EVENTS if in_category(pair[0]) and named(pair[1]))

    def event_format(self, category: str, event: str) -> str:
        return format_text(event, _EVENTS[category, event])

    def module_types(self, module: str) -> KernelTypes | None:
        return self._types if module == VMLINUX else None

    def modules(self) -> list[str]:
        return []

    def modules_with(self, function: str) -> list[str]:
        return [VMLINUX] if self._types.has_function(function) else []

    def bpf_functions(self) -> list[BpfFunction]:
        return []

    def program_types(self, program_id: int) -> KernelTypes | None:
        return None

    def argument_words(self, program_id: int, type_id: int, declared: int) -> int:
        return declared

    def functions(self, module: str, pattern: str) -> list[tuple[str, str]]:
        found = names.select(pattern, ("do_nothing", "vfs_read", "vfs_write"))
        return [(name, VMLINUX) for name in found] if names.matcher(module)(VMLINUX) else []

    def kernel_address(self, symbol: str) -> int | None:
        return _ADDRESSES.get(symbol)

    def function_size(self, symbol: str) -> int | None:
        return 0x100 if symbol in _ADDRESSES else None

    def binaries(self, name: str) -> list[str]:
        return [DEMO] if name in (DEMO, "demo", "/bin/*") else []

    def elf(self, path: str) -> Elf:
        assert path == DEMO
        return self._elf

    def pid_namespace(self) -> tuple[int, int] | None:
        return None

    def debug(self) -> DebugInformation:
        return UserDebug(self.elf, ())

    def cgroup_id(self, path: str) -> int | None:
        return 4242 if path == "/sys/fs/cgroup/demo" else None

    def has(self, feature: str) -> bool:
        return feature in self.features

    def close(self) -> None:
        """Nothing is open."""


class FixtureTarget(Machine):
    """The frozen machine, as a compile sees it."""

    def __init__(
        self,
        scope: Scope = Scope.ALL,
        pid: int | None = None,
        features: frozenset[str] = _FEATURES,
        *,
        btf: bool = True,
        trial: Role | None = None,
    ) -> None:
        super().__init__(scope, pid, FixtureFacts(pid, features, btf=btf), trial=trial)


def probe_spec(text: str) -> ProbeSpec:
    """Return what a parser makes of an attach point without quotes."""
    source = SourceFile("script.bt", text)
    provider, *fields = text.split(":")
    return ProbeSpec(provider, tuple(fields), Span(source, 0, len(text)), text)
