"""Objects of the kernel: paths, sockets, per-CPU variables, control groups, structures around members."""

from __future__ import annotations

from invivo.diagnostics import Code
from invivo.ir import helpers
from invivo.ir import types as t
from invivo.ir.ops import CompareOp, Kind, Operand, Value
from invivo.ir.types import Type
from invivo.library.record import Builtin, Emit, Place, Site
from invivo.library.spelling import spell, spell_kind
from invivo.library.strings import check_length

# -- paths and sockets -------------------------------------------------------------------------


def _is_struct(type_: Type, *names: str) -> bool:
    return isinstance(type_, t.Struct) and type_.name in names


def _check_kernel_pointer(site: Site, what: str, names: tuple[str, ...]) -> None:
    """The helpers take pointers whose type the verifier knows, from the probe's arguments on."""
    found = site.type(0)
    structure = found.pointee if isinstance(found, t.Pointer) else found
    if not _is_struct(structure, *names):
        site.error(Code.BAD_ARGUMENT, f"{site.name}() expects {what} ('{spell(found)}' provided)", argument=0)
    elif not site.is_kernel_pointer(0):
        site.error(
            Code.BAD_ARGUMENT,
            f"{site.name}() only takes what is reached from the probe's own arguments",
            "write the whole way: args.file.f_path",
            0,
        )


def _check_path(site: Site) -> Type:
    _check_kernel_pointer(site, "a struct path or a pointer to one", ("path",))
    limit = site.config.max_strlen
    return t.String(check_length(site, limit) if site.arity == 2 else limit)


def _lower_path(emit: Emit, place: Place | None) -> None:
    assert place is not None and isinstance(emit.result, t.String)
    b = emit.b
    b.store(place.pointer, place.offset, 1, 0)
    offset = 0
    found: Value | None
    if (member := emit.iterated_member(0)) is not None:
        found, offset = member
    else:
        found = emit.kernel_pointer(0)
    assert found is not None
    known, done = b.label("path"), b.label("path_done")
    b.branch(CompareOp.NE, found, 0, known, done)  # an iterator's pointers may be null
    b.start(known)
    target = b.offset(place.pointer, place.offset)
    emit.fault_guard(b.call(helpers.D_PATH, b.offset(found, offset), target, emit.result.capacity))
    b.start(done)


def _check_cookie(site: Site) -> Type:
    _check_kernel_pointer(site, "a struct sock *", ("sock", "sock_common", "socket", "sk_buff"))
    return t.UINT64


def _lower_cookie(emit: Emit, place: Place | None) -> Operand:
    b = emit.b
    pointer = emit.kernel_pointer(0)
    assert pointer is not None
    cookie, known, done = b.variable("cookie"), b.label("socket"), b.label("socket_done")
    b.set(cookie, 0)
    b.branch(CompareOp.NE, pointer, 0, known, done)
    b.start(known)
    b.set(cookie, b.call(helpers.GET_SOCKET_COOKIE, pointer))
    b.start(done)
    return b.get(cookie)


# -- per-CPU variables -------------------------------------------------------------------------


def _check_per_cpu(site: Site) -> Type:
    name = site.literal(0)
    if not isinstance(name, str):
        site.error(
            Code.BAD_ARGUMENT,
            f"percpu_kaddr() expects a string literal ({spell_kind(site.type(0))} provided)",
            argument=0,
        )
    elif site.target.per_cpu_variable(name) is None:
        site.error(Code.UNKNOWN_SYMBOL, f'Could not resolve variable "{name}" from BTF', argument=0)
    elif site.target.kernel_address(name) is None:
        site.error(
            Code.UNKNOWN_SYMBOL,
            f"the kernel does not tell where its variable '{name}' is",
            "that takes a kernel with CONFIG_KALLSYMS_ALL",
            0,
        )
    if site.arity == 2 and not isinstance(site.type(1), t.Int):
        site.error(
            Code.BAD_ARGUMENT, f"percpu_kaddr() expects a CPU's number ('{spell(site.type(1))}' provided)", argument=1
        )
    return t.UINT64


def _lower_per_cpu(emit: Emit, place: Place | None) -> Operand:
    number = emit.target.per_cpu_variable(str(emit.literal(0)))
    assert number is not None
    b = emit.b
    cpu = emit.word(1) if emit.arity == 2 else 0
    variable = b.kernel_variable(number)
    if emit.arity == 2:
        found = b.call(helpers.PER_CPU_PTR, variable, cpu, kind=Kind.BTF)
    else:
        found = b.call(helpers.THIS_CPU_PTR, variable, kind=Kind.BTF)
    return emit.pointer_word(found)


# -- control groups ----------------------------------------------------------------------------


def _check_group(site: Site) -> Type:
    path = site.literal(0)
    if not isinstance(path, str):
        site.error(
            Code.BAD_ARGUMENT, f"cgroupid() expects a string literal ({spell_kind(site.type(0))} provided)", argument=0
        )
    elif site.target.cgroup_id(path) is None:
        site.error(Code.BAD_ARGUMENT, f'Failed to get `cgroupid` for path: "{path}"', "a path below /sys/fs/cgroup", 0)
    return t.UINT64


def _lower_group(emit: Emit, place: Place | None) -> Operand:
    return emit.target.cgroup_id(str(emit.literal(0))) or 0


def _check_group_path(site: Site) -> Type:
    if not isinstance(site.type(0), t.Int):
        found = spell_kind(site.type(0))
        site.error(Code.BAD_ARGUMENT, f"cgroup_path() only supports int arguments ({found} provided)", argument=0)
    if site.arity == 1:
        return t.CgroupPath()
    wanted = site.literal(1)
    if not isinstance(wanted, str):
        site.error(Code.BAD_ARGUMENT, "cgroup_path() expects a string literal as filter", argument=1)
        return t.CgroupPath()
    return t.CgroupPath(wanted)


# -- structures --------------------------------------------------------------------------------


def _member_offset(site: Site | Emit, type_: Type, path: tuple[str, ...]) -> int | None:
    offset = 0
    for name in path:
        field = site.target.field(type_, name) if isinstance(type_, t.Struct) else None
        if field is None:
            return None
        offset += field.offset
        type_ = field.type
    return offset


def _check_container(site: Site) -> Type:
    pointer, container, path = site.type(0), site.named_type(1), site.path(2)
    if not isinstance(pointer, t.Int | t.Pointer):
        site.error(Code.BAD_ARGUMENT, f"container_of() expects a pointer ('{spell(pointer)}' provided)", argument=0)
    if container is None:
        return t.UINT64
    if not path:
        site.error(Code.BAD_ARGUMENT, "container_of() expects a member's name as third argument", argument=2)
    elif _member_offset(site, container, path) is None:
        name = ".".join(path)
        site.error(Code.UNKNOWN_FIELD, f"{spell(container)} does not contain a field named '{name}'", argument=2)
    return t.Pointer(container, site.space(0))


def _lower_container(emit: Emit, place: Place | None) -> Operand:
    assert isinstance(emit.result, t.Pointer)
    return emit.b.sub(emit.word(0), _member_offset(emit, emit.result.pointee, emit.path(2)) or 0)


KERNEL: tuple[Builtin, ...] = (
    Builtin(
        "path",
        1,
        2,
        "path(p [, n]): the whole path of a struct path, in functions that the kernel allows it in",
        _check_path,
        _lower_path,
        feature="path",
    ),
    Builtin(
        "socket_cookie",
        1,
        1,
        "socket_cookie(sk): the number that the kernel gives a socket for its life",
        _check_cookie,
        _lower_cookie,
        feature="tracing",
    ),
    Builtin(
        "percpu_kaddr",
        1,
        2,
        'percpu_kaddr("name" [, cpu]): the address of a per-CPU variable of the kernel; 0 if there is no such CPU',
        _check_per_cpu,
        _lower_per_cpu,
    ),
    Builtin(
        "cgroupid",
        1,
        1,
        'cgroupid("path"): the id of a control group (v2)',
        _check_group,
        _lower_group,
    ),
    Builtin(
        "cgroup_path",
        1,
        2,
        'cgroup_path(id [, "filter"]): a control group by its id, as hierarchy:path, looked up when shown',
        _check_group_path,
        lambda emit, place: emit.word(0),
    ),
    Builtin(
        "container_of",
        3,
        3,
        "container_of(p, typeof(T), member): the structure of type T that has its member at an address",
        _check_container,
        _lower_container,
        macro=True,
    ),
)
