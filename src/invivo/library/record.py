"""What a library record is, and what it may ask of the compiler while it checks and lowers a call."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Protocol

from invivo.diagnostics import Code, Span
from invivo.ir.builder import Builder
from invivo.ir.layout import Action, LossKind, MapSpec
from invivo.ir.ops import Operand, Value
from invivo.ir.types import AddressSpace, Clock, Type
from invivo.record import Record
from invivo.target import AttachPoint, Context, Target


class Place(Record, eq=False):
    """An address in memory that the program reaches directly: pointer plus constant offset.

    ``zeroed`` says that the memory is all zero and must keep a zero tail (a map's key).
    """

    pointer: Value
    offset: int
    zeroed: bool = False

    def at(self, offset: int) -> Place:
        return Place(self.pointer, self.offset + offset, self.zeroed)


class Config(Record):
    """A script's ``config``: every key with its default (names and defaults are bpftrace's)."""

    cache_user_symbols: str = "PER_PID"
    cpp_demangle: bool = True
    lazy_symbolication: bool = True
    license: str = "GPL"
    log_size: int = 1_000_000
    max_bpf_progs: int = 1024
    max_cat_bytes: int = 10240
    max_map_keys: int = 4096
    max_probes: int = 1024
    max_strlen: int = 1024
    missing_probes: str = "error"
    on_stack_limit: int = 32
    perf_rb_pages: int = 0  # chosen by the runtime
    print_maps_on_exit: bool = True
    show_debug_info: bool = False
    stack_mode: str = "bpftrace"
    str_trunc_trailer: str = ".."
    unstable_dw_ustack: str = "warn"
    unstable_import_statement: str = "error"
    unstable_tseries: str = "warn"
    unstable_typeinfo: str = "error"
    use_blazesym: bool = False
    user_stack: str = "frame-pointer"  # invivo's own


class Site(Protocol):
    """One call while it is checked. Arguments count from 0."""

    @property
    def name(self) -> str: ...
    @property
    def arity(self) -> int: ...
    @property
    def config(self) -> Config: ...
    @property
    def context(self) -> Context: ...
    @property
    def target(self) -> Target: ...
    @property
    def points(self) -> tuple[AttachPoint, ...]:
        """The places that the program serves."""
        ...

    @property
    def discarded(self) -> bool:
        """Whether the call is a statement of its own."""
        ...

    def type(self, index: int) -> Type: ...
    def literal(self, index: int) -> int | str | None:
        """The argument's value if it is known at compile time."""
        ...

    def identifier(self, index: int) -> str | None:
        """The argument's text, if it is a bare name: ``nsecs(monotonic)``."""
        ...

    def known(self, index: int) -> bool:
        """Whether the argument's type is known already; an error in it is reported otherwise."""
        ...

    def clock(self, index: int) -> Clock:
        """The clock that a number of nanoseconds was read from, as far as the text says."""
        ...

    def text(self, index: int) -> str | None:
        """What a number, a string or a parameter of the script is as it is written, if that is known."""
        ...

    def space(self, index: int) -> AddressSpace:
        """The memory that the argument's value points into."""
        ...

    def map(self, index: int) -> str | None:
        """The map's name, if the argument is a map or an element of one."""
        ...

    def map_value(self, index: int) -> Type | None:
        """The type of the values of a map argument; None if nothing is known of it yet."""
        ...

    def map_is_scalar(self, index: int) -> bool | None: ...
    def is_kernel_pointer(self, index: int) -> bool:
        """Whether `Emit.kernel_pointer` will have a pointer for an argument."""
        ...

    def named_type(self, index: int) -> Type | None:
        """The type that an argument names: ``typeof(struct file)``. What is no type is reported."""
        ...

    def path(self, index: int) -> tuple[str, ...]:
        """The names of an argument that is written as a member is: ``f_path.dentry``; () if it is something else."""
        ...

    def has_keys(self, index: int) -> bool:
        """Whether the map argument is written with a key: ``@m[1]``."""
        ...

    def use_key(self, map_index: int, key_index: int | None) -> None:
        """Note that a map is used with the key of an argument (None: with its own brackets, or none)."""

    def mark_deleted(self, index: int) -> None:
        """Note that the script asks whether a scalar map exists."""

    @property
    def assigned_with_key(self) -> bool:
        """Whether an aggregation is assigned to an element of a map: ``@m[1] = count()``."""
        ...

    def unstable(self, feature: str) -> None:
        """Note the use of a feature that the neighbour calls unstable (`Config.unstable_tseries`)."""

    def check_find(self) -> Type:
        """Check ``find(@m, key, $v)`` as the statements that it stands for."""
        ...

    def is_literal(self, index: int) -> bool:
        """Whether the argument is a literal or a script parameter."""
        ...

    @property
    def reached(self) -> bool:
        """Whether the call is not in a branch that literals rule out."""
        ...

    @property
    def in_loop(self) -> bool:
        """Whether the call stands in a loop that runs (not in one that is unrolled)."""
        ...

    def argument_type(self, index: int) -> Type | None:
        """As `type`, also of an argument that is a type itself; None if it is not known yet."""
        ...

    def option(self, name: str, default: bool | int | str, description: str) -> bool | int | str:
        """The value of an option of the script; what is wrong with it is reported."""
        ...

    def fold(self, value: int | str) -> None:
        """Say that the call's value is known."""

    def stand_for(self, names: tuple[str, ...], values: tuple[int | str, ...]) -> Type:
        """Say that the call is a record of known values."""
        ...

    def use_map(self, index: int) -> None:
        """Note that a whole map is used: it must exist."""

    def error(
        self,
        code: Code,
        message: str,
        hint: str | None = None,
        argument: int | None = None,
        *,
        at_argument: bool = False,
    ) -> None: ...
    def warning(self, code: Code, message: str, hint: str | None = None, argument: int | None = None) -> None: ...


FieldSource = Operand | Callable[[Place], None]


class Emit(Protocol):
    """One call while it is lowered."""

    @property
    def arity(self) -> int: ...
    @property
    def b(self) -> Builder: ...
    @property
    def config(self) -> Config: ...
    @property
    def context(self) -> Context: ...
    @property
    def target(self) -> Target: ...
    @property
    def points(self) -> tuple[AttachPoint, ...]: ...
    @property
    def result(self) -> Type: ...
    @property
    def discarded(self) -> bool: ...
    @property
    def bpftrace(self) -> bool:
        """Whether the neighbour's meaning is asked for where it differs from ours."""
        ...

    def type(self, index: int) -> Type: ...
    def literal(self, index: int) -> int | str | None: ...
    def text(self, index: int) -> str | None: ...
    def identifier(self, index: int) -> str | None: ...
    def path(self, index: int) -> tuple[str, ...]: ...
    def kernel_pointer(self, index: int) -> Value | None:
        """An argument that points to a kernel structure or is one, as a pointer that the verifier knows; None if it
        knows none."""
        ...

    def iterated_member(self, index: int) -> tuple[Value, int] | None:
        """An argument that is a structure in an iterator's object: the object, null perhaps, and the offset there."""
        ...

    def space(self, index: int) -> AddressSpace: ...
    def word(self, index: int) -> Operand:
        """Evaluate a scalar argument."""
        ...

    def map_value(self, index: int) -> Type:
        """The type of a map argument's values."""
        ...

    def has_keys(self, index: int) -> bool: ...
    def address(self, index: int) -> Place:
        """Evaluate an argument that lives in memory; the place must not be written to."""
        ...

    def into(self, index: int, place: Place) -> None:
        """Evaluate an argument and store it at a place, in its type's layout."""

    def source(self, index: int) -> FieldSource:
        """The argument as a record's field: evaluated now if scalar, written in place if not."""
        ...

    def temporary(self, size: int) -> Place:
        """Memory of this program for the rest of the statement; undefined content."""
        ...

    def scratch(self, size: int) -> Callable[[], Place]:
        """Memory for the rest of the statement that the body of a `repeat` reaches too; each asks where it is."""
        ...

    def repeat(self, count: Operand, body: Callable[[Operand], None]) -> None:
        """Run IR that ``body`` emits up to ``count`` times, with the number of the turn.

        The body is a function of its own: of what is outside it reaches `scratch` memory only, and
        returning 1 ends the loop.  The verifier looks at it once, however large the count.
        """

    def data(self, data: bytes) -> Value:
        """The address of read-only bytes, 8-byte aligned."""
        ...

    def context_pointer(self) -> Value:
        """The program's context, to be loaded from or handed to a helper."""
        ...

    def pointer_word(self, pointer: Value) -> Operand:
        """A pointer as a number that may be computed with and stored."""
        ...

    def context_word(self) -> Operand:
        """The context's address as a number."""
        ...

    def probe_index(self) -> Operand:
        """The index of the probe that fired (`types.ProbeName`)."""
        ...

    def position(self) -> Operand:
        """Which of the program's `points` fired."""
        ...

    def map(self, index: int) -> str: ...
    def key(self, map_index: int, key_index: int | None) -> Place:
        """The key of an element, in the map's layout (see `Site.use_key`)."""
        ...

    @property
    def span(self) -> Span | None: ...
    @property
    def subject(self) -> str:
        """The map that is being updated."""
        ...

    def is_map(self, index: int) -> bool:
        """Whether an argument is a map as a whole (a scalar map counts)."""
        ...

    def element(self, index: int) -> tuple[tuple[Type, FieldSource], tuple[Type, FieldSource]]:
        """The key and the value of an element that is an argument, as a record's fields."""
        ...

    def function_index(self) -> Operand:
        """The index of the traced function's name, in the same table as `probe_index`."""
        ...

    def is_cell(self, index: int) -> bool:
        """Whether a map argument is a scalar map, which lives in a cell and not in a hash."""
        ...

    def delete_cell(self, index: int) -> Operand:
        """Reset a scalar map; 1 if it had been written."""
        ...

    def need_map(self, spec: MapSpec) -> None:
        """See to it that the program has a map of the library's own."""

    def map_handle(self, name: str) -> Value:
        """The kernel map that stores a map of the script, as a helper's argument."""
        ...

    def lookup(self, name: str, key: Place) -> Value:
        """Look up an element of a keyed map: its value's address or null."""
        ...

    def count_elements(self, name: str) -> Operand: ...
    def argument_type(self, index: int) -> Type | None:
        """An argument's type, or None for a map as a whole."""
        ...

    def into_string(self, index: int, place: Place, capacity: int) -> None:
        """Copy a string argument, cut to a capacity and terminated."""

    def compare_strings(self, left: int, right: int, length: int) -> Operand:
        """0 if the first ``length`` characters of two string arguments are equal, else 1."""
        ...

    def clamp(self, value: Operand, low: int, high: int) -> Operand:
        """The value, kept within bounds in a way that the verifier sees."""
        ...

    def send(self, action: Action, fields: Sequence[tuple[str, Type, FieldSource]]) -> None:
        """Send a record: its action and fields."""

    def lose(self, kind: LossKind, subject: str = "") -> None:
        """Count a loss."""

    def failed(self, helper: str, code: Operand, message: str) -> None:
        """Report a helper's failure at this place of the source."""

    def warn(self, message: str) -> None:
        """Warn at run time, with the place in the source."""

    def read_failed(self, code: Operand) -> None:
        """Count a failed read of traced memory and mark the record being built, if any.

        ``code`` is the result of the helper that was called last, for who asked to be told.
        """

    def fault_guard(self, code: Operand) -> None:
        """`read_failed` if ``code`` (a helper's result) is negative."""

    def expansion(self) -> Operand:
        """Evaluate what the call stands for (`Site.check_find`)."""
        ...

    def exit_program(self) -> None:
        """Leave the program, from callbacks too."""


Check = Callable[[Site], Type]
Lower = Callable[[Emit, Place | None], Operand | None]
Update = Callable[[Emit, Place], None]


class Builtin(Record, eq=False):
    """A function, builtin value or aggregation of the language.

    ``check`` gives the result's type (`types.VOID` for none) and reports what is wrong.
    ``lower`` emits IR: a scalar result is returned; a result in memory is written to the place
    given.  An aggregation has ``update`` instead, which changes one element's value in place.
    ``value``: usable without parentheses.  ``feature``: what `Context.features` must have.
    ``uses``: what the probe's program must be able to give (`Target.plan`).
    ``lifts_scope``: a probe that uses it gets the events of processes that are not traced, too.
    ``macro``: the neighbour has it in its standard library, and says so when it is called wrongly.
    ``pads``: without arguments it writes all of its type's bytes, zeros behind a string's end.
    """

    name: str
    minimum: int
    maximum: int
    doc: str
    check: Check
    lower: Lower | None = None
    update: Update | None = None
    value: bool = False
    call: bool = True  # usable with parentheses
    feature: str = ""
    uses: frozenset[str] = frozenset()
    unsafe: bool = False
    in_loops: bool = True
    macro: bool = False
    pads: bool = False
    lifts_scope: bool = False
    aliases: tuple[str, ...] = ()
    text: str = ""  # its definitions in the language itself: the calls are expanded
