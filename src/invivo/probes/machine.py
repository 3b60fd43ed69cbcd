"""The running machine as the compiler's target: every question is answered when it is asked, not before."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence

from invivo import probes
from invivo.formats.elf import DEBUG_DIRECTORIES
from invivo.ir.types import Enumeration, Field, Struct, Type
from invivo.probes.facts import LiveFacts
from invivo.probes.provider import Facts, Role
from invivo.probes.rawtracepoint import raw_plan
from invivo.probes.special import plan_of
from invivo.probes.user_code import symbol_of
from invivo.target import AttachPoint, Plan, ProbeSpec, Scope


class Machine:
    """A `target.Target` made of facts: those of the running kernel, or a test's frozen ones."""

    def __init__(
        self,
        scope: Scope = Scope.ALL,
        pid: int | None = None,
        facts: Facts | None = None,
        *,
        unsafe: bool = False,
        debug_directories: Sequence[str] = DEBUG_DIRECTORIES,
        wanted: Callable[[str], object] | None = None,
        trial: Role | None = None,
        without: Collection[str] = (),
        functions_file: str = "",
        btf_path: str = "",
    ) -> None:
        """``wanted``: whether an event of a name is to be attached; what the session runs itself always is.

        ``without``, ``functions_file`` and ``btf_path``: see `LiveFacts`.
        ``trial``: only tests, or only benchmarks; otherwise there are none of them.
        """
        self._trial = trial
        self.scope = scope
        self._wanted = wanted
        self.facts = facts or LiveFacts(
            pid,
            unsafe=unsafe,
            debug_directories=debug_directories,
            without=without,
            functions_file=functions_file,
            btf_path=btf_path,
        )

    def close(self) -> None:
        """Give back what was opened for answers; later questions open it again."""
        self.facts.close()

    def __enter__(self) -> Machine:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @property
    def cpus(self) -> int:
        return self.facts.possible_cpus()

    def check(self, spec: ProbeSpec) -> None:
        probes.check(spec)

    def expand(self, spec: ProbeSpec) -> Sequence[AttachPoint]:
        points = probes.expand(spec, self.facts)
        wanted = self._wanted
        role = probes.provider_of(points[0]).role
        if self._trial is not role and (self._trial is not None or role in (Role.TEST, Role.BENCH)):
            return ()
        if wanted is None or role in (Role.BEGIN, Role.END, Role.SIGNAL, Role.TEST, Role.BENCH):
            return points
        return [point for point in points if wanted(point.name)]

    def take_remarks(self) -> Sequence[str]:
        said = tuple(self.facts.remarks)
        self.facts.remarks.clear()
        return said

    def plan(self, points: Sequence[AttachPoint], uses: frozenset[str]) -> Sequence[Plan]:
        return probes.plan(points, uses, self.facts)

    def helper_plan(self, name: str) -> Plan:
        match name:
            case "begin":
                return plan_of("begin")
            case "scope-fork":
                # TP_PROTO(struct task_struct *parent, struct task_struct *child), include/trace/events/sched.h
                return raw_plan("sched_process_fork", 2, self.facts)
            case "scope-exec":
                # TP_PROTO(struct task_struct *p, pid_t old_pid, struct linux_binprm *bprm)
                return raw_plan("sched_process_exec", 3, self.facts)
            case "scope-free":
                # TP_PROTO(struct task_struct *p): the last reference to a thread is gone.
                return raw_plan("sched_process_free", 1, self.facts)
            case _:
                raise AssertionError(f"no program of invivo's own is called {name}")

    def struct(self, keyword: str, name: str) -> Struct | None:
        return self.facts.types().struct(keyword, name)

    def fields(self, struct: Struct) -> tuple[Field, ...]:
        # A traced program's structs have negative numbers.
        return self.facts.debug().fields(struct) if struct.type_id < 0 else self.facts.types().fields(struct)

    def field(self, struct: Struct, name: str) -> Field | None:
        if struct.type_id < 0:
            return self.facts.debug().field(struct, name)
        return self.facts.types().field(struct, name)

    def typedef(self, name: str) -> Type | None:
        return self.facts.types().typedef(name)

    def enumeration(self, name: str) -> Enumeration | None:
        return self.facts.types().enumeration(name)

    def enum_constant(self, name: str) -> tuple[Enumeration, int] | None:
        return self.facts.types().enum_constant(name)

    def kernel_address(self, symbol: str) -> int | None:
        return self.facts.kernel_address(symbol)

    def user_symbol(self, point: AttachPoint, symbol: str) -> tuple[int, int] | None:
        return symbol_of(point, symbol, self.facts)

    def per_cpu_variable(self, symbol: str) -> int | None:
        return self.facts.types().variable_id(symbol)

    def kernel_function(self, name: str) -> int | None:
        return self.facts.types().function_id(name)

    @property
    def pid_namespace(self) -> tuple[int, int] | None:
        return self.facts.pid_namespace()

    def cgroup_id(self, path: str) -> int | None:
        return self.facts.cgroup_id(path)

    def has(self, feature: str) -> bool:
        return self.facts.has(feature)
