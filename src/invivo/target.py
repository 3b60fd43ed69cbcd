"""What a compile may ask about a machine, and what it is told: the seam between compiler and kernel.

The compile side sees a machine only through `Target`.  The real one (`probes.machine`) reads
the running kernel lazily; tests use a small frozen fixture.  Equal answers give equal images.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from invivo.diagnostics import SourceFile, Span
from invivo.enums import Enum
from invivo.ir.types import Enumeration, Field, Struct, Type
from invivo.record import Record


class ProgramType(Enum):
    """A kind of BPF program: (enum bpf_prog_type, enum bpf_attach_type), include/uapi/linux/bpf.h."""

    KPROBE = (2, 0)
    KPROBE_MULTI = (2, 42)
    UPROBE_MULTI = (2, 48)
    KPROBE_SESSION = (2, 56)
    UPROBE_SESSION = (2, 57)
    TRACEPOINT = (5, 0)
    PERF_EVENT = (7, 0)
    RAW_TRACEPOINT = (17, 0)
    TRACING_RAW_TP = (26, 23)
    TRACING_FENTRY = (26, 24)
    TRACING_FEXIT = (26, 25)
    TRACING_ITER = (26, 28)


class ContextLoad(Record):
    """A value in the program's context: a direct load at a constant offset."""

    offset: int
    size: int
    signed: bool = False


class ContextAddress(Record):
    """Memory inside the context itself (an array field of a tracepoint): copied by probe_read_kernel
    from context + offset."""

    offset: int


class ContextPointer(Record):
    """A word in memory that a BTF-typed pointer in the context points to: ``((T *)ctx[slot])->field``.

    ``slot`` and ``offset`` in bytes; loaded directly (TRACING programs), else by probe_read_kernel.
    """

    slot: int
    offset: int
    size: int
    signed: bool = False


class ContextData(Record):
    """``__data_loc``: the low 16 bits of a u32 at ``offset`` are the data's offset in the context
    (``relative``: counted from the end of the u32, ``__rel_loc``). The value is the data's address."""

    offset: int
    relative: bool = False


class UserMemory(Record):
    """A word in user memory, at the sum of a register and an offset: ``*(base + index * scale + offset)``.

    ``base`` and ``index`` are offsets of 8-byte registers in the context, None for none.
    """

    base: int | None
    offset: int
    index: int | None
    scale: int
    size: int
    signed: bool


class Known(Record):
    """A number that is known when the program is compiled."""

    value: int


class OutOfReach(Record):
    """A value that no program can read (``%xmm0``); ``text`` names it."""

    text: str


Access = ContextLoad | ContextAddress | ContextPointer | ContextData | UserMemory | Known | OutOfReach


class Argument(Record):
    """A member of ``args``."""

    name: str
    type: Type
    access: Access


class Gate(Record):
    """A program that many events reach lets only some of them pass.

    The word at ``access`` must be a key of ``table``; the value is the index into ``Plan.points``
    of the event that it is.  ``native_only``: leave out events of 32-bit tasks
    (``thread_info.status & TS_COMPAT``), whose numbers mean other calls.
    """

    access: Access
    table: tuple[tuple[int, int], ...]
    native_only: bool


class Context(Record):
    """What a program of one probe kind finds when it runs.

    ``features`` names what makes sense there: "retval", "argN", "func", "reg", "usermode", "args",
    "ctx", "stacks", "signal" ...  ``retval`` and ``registers`` say where they are (x86-64
    ``struct pt_regs`` member name -> access).  ``btf_pointers``: pointers in the context may be
    dereferenced directly.  ``scoped``: the -c/-p filter applies.  ``can_fault_user`` etc. do not
    exist: no program sleeps.
    """

    provider: str  # canonical: "tracepoint", "uprobe", ...
    program: ProgramType
    attach_btf_id: int  # 0, or the BTF type that a TRACING program attaches to
    scoped: bool
    features: frozenset[str]
    arguments: tuple[Argument, ...] = ()
    numbered: tuple[Access, ...] = ()  # arg0 ...
    retval: Argument | None = None
    registers: tuple[tuple[str, Access], ...] = ()
    instruction_pointer: Access | None = None  # "func"
    context_type: Type | None = None  # of the builtin ctx
    user_arguments: bool = False  # pointers found in args/argN point to user memory
    btf_pointers: bool = False
    nmi: bool = False  # may interrupt any other program
    gate: Gate | None = None
    object: Access | None = None  # a word that is zero when there is nothing for the program to do
    stack_skip: int = 0  # kernel frames of the tracing machinery on top of a stack
    attach_module: str = ""  # the module whose BTF attach_btf_id is of, "" for the kernel
    attach_program: int = 0  # or the number of the BPF program


class AttachPoint(Record):
    """One place a program is attached to, after wildcards. ``name`` is what ``probe`` shows."""

    provider: str
    name: str
    function: str  # what ``func`` means where the kernel does not know: the symbol, or ""
    data: Record  # the provider's own


class ProbeSpec(Record):
    """An attach point as the script has it, split at colons: ``("tracepoint", ("sched", "*"))``."""

    provider: str
    fields: tuple[str, ...]
    span: Span
    text: str


class SessionHalf(Record):
    """A program that can be one with another, at the entries and returns of the same functions.

    ``program``: what they are together; ``is_return``: BTF id of the kernel's ``bpf_session_is_return``,
    which tells one from the other.
    """

    at_return: bool
    program: ProgramType
    is_return: int


class Plan(Record):
    """One BPF program and the points it serves; the attach cookie is the index into ``points``.

    ``attach`` is the provider's own description of how, handed back to it at run time.
    """

    points: tuple[AttachPoint, ...]
    context: Context
    attach: Record
    cookies: bool  # whether bpf_get_attach_cookie tells the points apart (if there is more than one)
    session: SessionHalf | None = None


class Scope(Enum):
    """Which processes' events count."""

    ALL = "all"
    PROCESS = "process"  # -p: one thread group
    CGROUP = "cgroup"  # the processes of a control group and of those below it
    TREE = "tree"  # -c, or -p with --follow: a set kept up to date from fork and exit


class Classic(Record):
    """The neighbour's words for a probe that cannot be had, where they are not our own.

    ``with_args``: the message if the program reads the probe's arguments. ``hint``: instead of ours; "" for none.
    """

    message: str = ""
    with_args: str = ""
    hint: str | None = None


class NoSuchProbeError(Exception):
    """A probe cannot be had; the text says why ("tracepoint:sched:nope cannot be probed ...").

    ``hint`` names the nearest ones. The compiler puts the place to it.
    """

    def __init__(
        self, message: str, hint: str | None = None, *, malformed: bool = False, classic: Classic | None = None
    ) -> None:
        super().__init__(message)
        self.message = message
        self.classic = classic or Classic()
        self.hint = hint
        self.malformed = malformed  # the attach point's form is wrong, not its target


class Target(Protocol):
    """A machine, as a compile sees it. Methods answer None where the machine has no such thing."""

    @property
    def cpus(self) -> int:
        """Possible CPUs (not online ones): the number of per-CPU slots."""
        ...

    @property
    def scope(self) -> Scope: ...

    def check(self, spec: ProbeSpec) -> None:
        """Raise a malformed `NoSuchProbeError` for an attach point that is wrong on any machine."""

    def expand(self, spec: ProbeSpec) -> Sequence[AttachPoint]:
        """Expand a probe and its wildcards. Raises `NoSuchProbeError`; never empty."""
        ...

    def take_remarks(self) -> Sequence[str]:
        """What was noticed while probes were expanded, once: a name that means several files."""
        ...

    def plan(self, points: Sequence[AttachPoint], uses: frozenset[str]) -> Sequence[Plan]:
        """Group points of one probe clause into programs.

        ``uses`` says what the body needs: "args" (and which: "args.NAME", "args.*" for the whole), "probe", "func",
        "argN", "retval", "ctx", "stacks", "reg" ... so that the cheapest program that can give it is chosen, and so
        that points whose ``args`` differ get programs of their own.
        """
        ...

    def helper_plan(self, name: str) -> Plan:
        """How invivo's own programs attach: "begin" (run once), "scope-fork", "scope-exec", "scope-free"."""
        ...

    def struct(self, keyword: str, name: str) -> Struct | None:
        """A struct or union of the kernel's BTF by name."""
        ...

    def fields(self, struct: Struct) -> tuple[Field, ...]:
        """All members; anonymous structs and unions are flattened into their parent."""
        ...

    def field(self, struct: Struct, name: str) -> Field | None:
        """One member, found without reading the others' types."""
        ...

    def typedef(self, name: str) -> Type | None:
        """What a typedef or base type name (``size_t``, ``u32``) stands for."""
        ...

    def enumeration(self, name: str) -> Enumeration | None: ...

    def enum_constant(self, name: str) -> tuple[Enumeration, int] | None:
        """A constant of any enum of the kernel."""
        ...

    def kernel_address(self, symbol: str) -> int | None:
        """From kallsyms."""
        ...

    def user_symbol(self, point: AttachPoint, symbol: str) -> tuple[int, int] | None:
        """How far behind a uprobe's or USDT point's instruction a symbol of the same file is, and its size."""
        ...

    def per_cpu_variable(self, symbol: str) -> int | None:
        """BTF id of a per-CPU variable."""
        ...

    def kernel_function(self, name: str) -> int | None:
        """BTF id of a function."""
        ...

    @property
    def pid_namespace(self) -> tuple[int, int] | None:
        """Device and inode of this process's PID namespace; None if it is the initial one."""
        ...

    def cgroup_id(self, path: str) -> int | None: ...

    def has(self, feature: str) -> bool:
        """Whether the kernel has a helper, kfunc or feature; tried on use, by BTF first."""
        ...


class ImportedFile(Record):
    """A file that a script names. ``identity`` is the same for all names of one file."""

    source: SourceFile
    identity: str


class FoundFiles(Record):
    """What a script's import means: files, or ``refused`` says why not, or neither.

    ``checked``: the paths that were looked at.
    """

    files: tuple[ImportedFile, ...] = ()
    checked: tuple[str, ...] = ()
    refused: str = ""


class ScriptFiles(Protocol):
    """The files beside a script, as a compile sees them."""

    def identity(self, name: str) -> str:
        """What tells the file of a script from all others."""
        ...

    def find(self, path: str, importer: str) -> FoundFiles:
        """Read the file or the folder that a script imports; ``importer`` is that script's name."""
        ...

    def header(self, path: str, importer: str, *, quoted: bool) -> ImportedFile | None:
        """Read a C header of the user's own: beside the script if its name is quoted, and where ``-I`` says."""
        ...


class NoFiles:
    """No files at all: what there is for a script that stands alone."""

    def identity(self, name: str) -> str:
        return name

    def find(self, path: str, importer: str) -> FoundFiles:
        return FoundFiles(checked=(path,))

    def header(self, path: str, importer: str, *, quoted: bool) -> ImportedFile | None:
        return None
