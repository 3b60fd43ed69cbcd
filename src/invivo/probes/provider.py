"""What a kind of probe is: one record each, and what a provider may ask about a machine."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Protocol

from invivo.enums import Enum
from invivo.formats.btf import Btf
from invivo.formats.elf import Elf
from invivo.ir.types import Field, Struct
from invivo.kernel.links import Link
from invivo.kernel.programs import BpfFunction, Program
from invivo.probes import names
from invivo.probes.kernel_types import KernelTypes
from invivo.record import Record
from invivo.target import Argument, AttachPoint, Classic, NoSuchProbeError, Plan, ProbeSpec, ProgramType, SessionHalf

VMLINUX = "vmlinux"  # what the kernel itself is called where modules are named


class Role(Enum):
    """When the programs of a provider run, and who runs them."""

    BEGIN = "begin"  # the session runs them, before the events
    END = "end"  # the session runs them, after the events
    EVENT = "event"  # something happened in a process: the scope filter applies
    WATCH = "watch"  # as an event, attached to the process of -p or -c itself
    TIMER = "timer"  # time has passed: never filtered
    ITERATOR = "iterator"  # the session runs them once over what the kernel has, then it ends
    TEST = "test"  # the session runs them if it is asked for tests
    BENCH = "bench"  # or for benchmarks
    SIGNAL = "signal"  # the session runs them when it gets a signal


class DebugInformation(Protocol):
    """What the debug information of programs tells; addresses are the file's own."""

    def arguments(self, path: str, address: int, *, clone: bool) -> tuple[Argument, ...] | None:
        """Return the members of ``args`` for a function that begins at an address; None if nothing tells them.

        ``clone``: the compiler made the function of another.
        """
        ...

    def parameters(self, path: str, address: int) -> tuple[tuple[str, str], ...]:
        """Return C type and name of a function's parameters; none if nothing tells them."""
        ...

    def lines(self, path: str, file: str) -> list[tuple[int, int, int]] | None:
        """Return line, column and address of each statement of a source file; None without debug information.

        Raises `BadFileError`, `OSError`.
        """
        ...

    def fields(self, struct: Struct) -> tuple[Field, ...]:
        """Return all members of a program's struct. Raises `BadFileError`."""
        ...

    def field(self, struct: Struct, name: str) -> Field | None: ...


class Facts(Protocol):
    """A machine, as a provider sees it.

    `probes.facts.LiveFacts` reads the running kernel; a test has a small frozen one.
    """

    @property
    def pid(self) -> int | None:
        """The process of -p."""
        ...

    @property
    def unsafe(self) -> bool:
        """Whether a program may do what can harm the traced one."""
        ...

    @property
    def remarks(self) -> list[str]:
        """What a provider warns of while it expands a probe; the compiler takes it from here."""
        ...

    def possible_cpus(self) -> int: ...

    def btf(self) -> Btf | None:
        """The kernel's BTF; None if it was built without."""
        ...

    def types(self) -> KernelTypes: ...

    def events(self, category: str, event: str) -> list[tuple[str, str]]:
        """Category and name of all tracepoints that match two patterns, sorted."""
        ...

    def event_format(self, category: str, event: str) -> str:
        """The text of the file ``events/CATEGORY/EVENT/format``."""
        ...

    def module_types(self, module: str) -> KernelTypes | None:
        """The types of a module (``vmlinux`` for the kernel's own); None if it has none or is not loaded."""
        ...

    def modules(self) -> list[str]:
        """The loaded modules that have types, sorted."""
        ...

    def modules_with(self, function: str) -> list[str]:
        """The kernel (``vmlinux``) and the modules whose BTF has a function, which may be several."""
        ...

    def bpf_functions(self) -> Sequence[BpfFunction]:
        """The functions of loaded BPF programs that fentry and fexit can be attached to."""
        ...

    def program_types(self, program_id: int) -> KernelTypes | None:
        """The types that a loaded BPF program came with."""
        ...

    def argument_words(self, program_id: int, type_id: int, declared: int) -> int:
        """How many words of arguments a program at a function of a BPF program finds, if so many are declared."""
        ...

    def functions(self, module: str, pattern: str) -> list[tuple[str, str]]:
        """Kernel functions that can be traced and their module, by patterns for module (``vmlinux``) and name, sorted.

        Raises `NotSupportedError` if this kernel does not list them.
        """
        ...

    def kernel_address(self, symbol: str) -> int | None: ...

    def function_size(self, symbol: str) -> int | None:
        """Bytes from a function's start to the next symbol; None if the kernel does not tell."""
        ...

    def binaries(self, name: str) -> list[str]:
        """Paths of the executables and libraries that the target of a user-space probe means."""
        ...

    def elf(self, path: str) -> Elf:
        """Return a file's reader, with the symbols of its debug file. Raises `OSError`, `BadFileError`."""
        ...

    def pid_namespace(self) -> tuple[int, int] | None:
        """Device and inode of this process's PID namespace; None if it is the initial one."""
        ...

    def debug(self) -> DebugInformation: ...

    def cgroup_id(self, path: str) -> int | None: ...

    def has(self, feature: str) -> bool: ...

    def close(self) -> None:
        """Give back what is open."""
        ...


class Listed(Record):
    """A line of a listing. ``parameters`` are type and name in C's spelling, if they were asked for."""

    name: str
    parameters: tuple[tuple[str, str], ...] = ()


class Provider(Record):
    """Everything about a kind of probe.

    ``name`` is written in any case, ``aliases`` only as they are.  ``check`` raises a malformed
    `NoSuchProbeError` if the parts after the first colon cannot be right on any machine;
    ``expand`` and ``listing`` get a specification that passed.  ``listing`` answers what would
    be listed for a pattern, with parameters if ``verbose``; None: never listed.
    ``user_space``: listed only if asked for by name.  ``needs`` are the kernel's features and
    this process's capabilities without which nothing of the kind can be attached.
    """

    name: str
    aliases: tuple[str, ...]
    role: Role
    doc: str
    syntax: tuple[str, ...]
    needs: tuple[str, ...]
    check: Callable[[ProbeSpec], None]
    expand: Callable[[ProbeSpec, Facts], Sequence[AttachPoint]]
    plan: Callable[[Sequence[AttachPoint], frozenset[str], Facts], Sequence[Plan]]
    attach: Callable[[Plan, Program, int | None], list[Link]]
    listing: Callable[[tuple[str, ...], Facts, bool], Iterator[Listed]] | None = None
    user_space: bool = False


def module_and_name(fields: tuple[str, ...]) -> tuple[str, str]:
    """Return the parts ``[MODULE:]NAME``; ``*`` for a module that is not given, ``""`` for a missing name."""
    *modules, name = fields or ("",)
    return modules[0] if modules else "*", name


def malformed(message: str, hint: str | None = None, classic: str = "") -> NoSuchProbeError:
    """Return the error for an attach point that is wrong whatever the machine has."""
    return NoSuchProbeError(message, hint, malformed=True, classic=Classic(classic))


def unavailable(
    probe: str, reason: str, hint: str | None = None, classic: Classic | None = None, where: str = " on this kernel"
) -> NoSuchProbeError:
    """Return the error for a probe that this machine does not have; ``classic`` is what the neighbour says."""
    return NoSuchProbeError(f"{probe} cannot be probed{where}: {reason}", hint, classic=classic)


def no_match(probe: str, reason: str, hint: str | None = None, where: str = " on this kernel") -> NoSuchProbeError:
    """Return the error for a name or a pattern that is none of this machine's."""
    # The neighbour has no hints for patterns.
    classic = Classic(f"No matches for {probe.replace(':', ' ', 1)}.", hint="" if names.is_wildcard(probe) else None)
    return unavailable(probe, reason, hint, classic, where)


def canonical(provider: str, fields: Sequence[str]) -> str:
    """Return the full name of a probe, as ``probe`` shows it."""
    return ":".join((provider, *fields))


def wrong_number(provider: str, expected: str, found: int, hint: str | None = None) -> NoSuchProbeError:
    """Return the error for too many or too few parts; ``expected`` is like ``1 or 2``."""
    plural = "" if expected == "1" else "s"
    return malformed(f"{provider} probe type requires {expected} argument{plural}, found {found}", hint)


def parse_number(text: str) -> int | None:
    """Return a decimal or ``0x`` number without sign; None if it is none."""
    digits = text.replace("_", "")
    try:
        value = int(digits, 16) if digits[:2] in ("0x", "0X") else int(digits)
    except ValueError:
        return None
    return value if digits[:1].isdigit() else None


def session_half(at_return: bool, program: ProgramType, facts: Facts) -> SessionHalf | None:
    """Return what lets a program at entries or returns be one with its counterpart; None if the kernel cannot."""
    if not facts.has(program.name.lower()):
        return None
    is_return = facts.types().function_id("bpf_session_is_return")
    return SessionHalf(at_return, program, is_return) if is_return is not None else None


def grouped(points: Sequence[AttachPoint], key: Callable[[AttachPoint], object]) -> list[tuple[AttachPoint, ...]]:
    """Return the points that share a key together, in the order of each group's first point."""
    groups: dict[object, list[AttachPoint]] = {}
    for point in points:
        groups.setdefault(key(point), []).append(point)
    return [tuple(group) for group in groups.values()]


def rounds(points: Sequence[AttachPoint]) -> list[tuple[AttachPoint, ...]]:
    """Return the points such that no round has a point twice: the kernel refuses to attach one
    program to one event twice, but a script may name an event twice."""
    seen: dict[str, int] = {}
    result: list[list[AttachPoint]] = []
    for point in points:
        turn = seen.get(point.name, 0)
        seen[point.name] = turn + 1
        if turn == len(result):
            result.append([])
        result[turn].append(point)
    return [tuple(turn) for turn in result]


def single(points: Sequence[AttachPoint]) -> list[tuple[AttachPoint, ...]]:
    """Return each point in a group of its own."""
    return [(point,) for point in points]
