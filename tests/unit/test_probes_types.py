"""The kernel's types as the compiler sees them: members, places, enums, and their spelling in C."""

from __future__ import annotations

import struct

import pytest

from fixture_btf import BtfBuilder
from fixture_target import FixtureTarget
from invivo.formats.btf import Btf, BtfKind
from invivo.ir.types import (
    BOOL,
    INT8,
    INT32,
    INT64,
    UINT8,
    UINT16,
    UINT32,
    UINT64,
    VOID,
    AddressSpace,
    Array,
    Enumeration,
    Field,
    Pointer,
    String,
    Struct,
    Type,
)
from invivo.probes import x86_64
from invivo.probes.kernel_types import KernelTypes


def member(struct: str, name: str) -> Field:
    target = FixtureTarget()
    outer = target.struct("struct", struct)
    assert outer is not None
    found = target.field(outer, name)
    assert found is not None
    return found


def test_members_have_their_types_and_places() -> None:
    assert member("task_struct", "pid") == Field("pid", INT32, 1696)
    assert member("task_struct", "comm") == Field("comm", String(16), 2176)
    assert member("task_struct", "start_time") == Field("start_time", UINT64, 1960)
    assert member("task_struct", "cpus_mask") == Field("cpus_mask", Array(UINT64, 4), 2208)
    # A pointer to code points to nothing that is read.
    assert member("task_struct", "handler") == Field("handler", Pointer(VOID), 2200)


def test_structs_refer_to_each_other_without_being_read() -> None:
    parent = member("task_struct", "real_parent").type
    assert isinstance(parent, Pointer)
    assert isinstance(parent.pointee, Struct)
    assert (parent.pointee.name, parent.pointee.size, parent.pointee.layout) == ("task_struct", 9536, None)


def test_bitfields_are_bits_of_the_word_they_were_declared_in() -> None:
    assert member("task_struct", "sched_reset_on_fork") == Field("sched_reset_on_fork", UINT32, 1500, 0, 1)
    assert member("task_struct", "in_execve") == Field("in_execve", UINT32, 1500, 1, 1)
    assert member("task_struct", "jobctl_kind") == Field("jobctl_kind", UINT32, 1500, 2, 5)


def test_a_tag_says_that_a_pointer_is_the_programs() -> None:
    assert member("task_struct", "set_child_tid") == Field(
        "set_child_tid", Pointer(INT8, AddressSpace.USER), 1888, tag="user"
    )


def test_members_of_anonymous_ones_belong_to_the_outer_and_may_share_a_place() -> None:
    assert member("qstr", "len") == Field("len", UINT32, 4, overlaid=True)
    assert member("qstr", "hash_len") == Field("hash_len", UINT64, 0, overlaid=True)
    assert member("qstr", "name") == Field("name", Pointer(UINT8), 8)
    assert member("mm_struct", "arg_start") == Field("arg_start", UINT64, 328)


def test_all_members_are_the_single_ones_together() -> None:
    target = FixtureTarget()
    for name in ("task_struct", "qstr", "mm_struct", "file"):
        struct = target.struct("struct", name)
        assert struct is not None
        fields = target.fields(struct)
        assert fields
        assert list(fields) == [target.field(struct, each.name) for each in fields]


def test_an_anonymous_struct_has_its_id_for_a_name() -> None:
    uid = member("cred", "uid").type
    assert isinstance(uid, Struct)
    assert (uid.name, uid.size) == ("", 4)
    assert FixtureTarget().field(uid, "val") == Field("val", UINT32, 0)


def test_what_is_not_there_is_none() -> None:
    target = FixtureTarget()
    task = target.struct("struct", "task_struct")
    assert task is not None
    assert target.field(task, "nope") is None
    assert target.struct("union", "task_struct") is None
    assert target.typedef("nope_t") is None
    assert target.enumeration("nope") is None
    assert target.enum_constant("NOPE") is None


def test_enums_by_name_and_by_constant() -> None:
    target = FixtureTarget()
    kinds = target.enumeration("pid_type")
    assert isinstance(kinds, Enumeration)
    assert kinds.variants[-1] == ("PIDTYPE_SID", 3)
    assert target.enum_constant("PIDTYPE_TGID") == (kinds, 1)
    found = target.enum_constant("DEMO_MINUS")
    assert found is not None
    assert (found[0].name, found[0].signed, found[1]) == ("demo_sign", True, -1)
    anonymous = target.enum_constant("TASK_COMM_LEN")
    assert anonymous is not None
    assert (anonymous[0].name, anonymous[1]) == ("", 16)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("int", INT32),
        ("unsigned", UINT32),
        ("unsigned long", UINT64),
        ("long unsigned int", UINT64),
        ("long long", INT64),
        ("const char *", Pointer(INT8)),
        ("const char *const *", Pointer(Pointer(INT8))),
        ("char __user *", Pointer(INT8)),
        ("umode_t", UINT16),
        ("bool", BOOL),
        ("void *", Pointer(VOID)),
        ("struct nobody *", Pointer(VOID)),
        ("struct nobody", None),
        ("nobody_t", None),
        ("nobody_t*", Pointer(VOID)),
    ],
)
def test_types_are_found_by_their_text(text: str, expected: Type | None) -> None:
    assert FixtureTarget().facts.types().from_text(text) == expected


@pytest.mark.parametrize(
    ("function", "declared"),
    [
        ("vfs_read", ["struct file *file", "char *buf", "size_t count", "loff_t *pos"]),
        ("vfs_write", ["struct file *file", "const char *buf", "size_t count", "loff_t *pos"]),
        ("do_nothing", ["struct path path", "int flag"]),
    ],
)
def test_types_are_spelled_as_c_does(function: str, declared: list[str]) -> None:
    types = FixtureTarget().facts.types()
    prototype = types.function(function)
    assert prototype is not None
    assert [types.declaration(type_id, name) for name, type_id in prototype.parameters] == declared


def test_declarators_turn_inside_out_as_c_has_them() -> None:
    b = BtfBuilder()
    char = b.integer("char", 1)
    integer = b.integer("int", 4, signed=True)
    texts = b.array(b.pointer(b.const(char)), 3, integer)
    handler = b.pointer(b.prototype(integer, [("what", b.pointer(char)), ("", integer)]))
    const_pointer = b.const(b.pointer(char))
    matrix = b.array(b.array(integer, 3, integer), 2, integer)
    row = b.pointer(b.array(integer, 4, integer))
    unknown = b.pointer(b.forward("hidden"))
    const_void = b.pointer(b.const(0))
    types = KernelTypes(Btf(b.data()))
    assert types.spelling(const_void) == "const void *"
    assert types.of(const_void) == Pointer(VOID)
    assert types.declaration(texts, "names") == "const char *names[3]"
    assert types.declaration(handler, "call") == "int (*call)(char *, int)"
    assert types.declaration(const_pointer, "at") == "char *const at"
    assert types.declaration(matrix, "m") == "int m[2][3]"
    assert types.declaration(row, "r") == "int (*r)[4]"
    assert types.spelling(unknown) == "struct hidden *"
    assert types.of(unknown) == Pointer(Struct("struct", "hidden", 0))
    assert types.of(matrix) == Array(Array(INT32, 3), 2)


def test_a_bitfield_across_its_word_starts_at_a_byte() -> None:
    b = BtfBuilder()
    word = b.integer("unsigned int", 4)
    packed = b.bit_struct("packed", 8, [("first", word, 0, 28), ("second", word, 28, 8)])
    types = KernelTypes(Btf(b.data()))
    struct = types.of(packed)
    assert isinstance(struct, Struct)
    assert types.field(struct, "second") == Field("second", UINT32, 3, 4, 8)


def test_registers_are_where_the_kernels_own_struct_has_them() -> None:
    target = FixtureTarget()
    regs = target.struct("struct", "pt_regs")
    assert regs is not None
    assert regs.size == x86_64.PT_REGS_SIZE
    assert {field.name: field.offset for field in target.fields(regs)} == x86_64.OFFSETS
    assert dict(x86_64.registers())["pc"] == dict(x86_64.registers())["ip"]


def test_reserved_names_of_kinds_are_those_of_the_format() -> None:
    assert KernelTypes(None).of(BtfKind.INT) == VOID
    assert KernelTypes(None).typedef("u64") == UINT64
    assert KernelTypes(None).struct("struct", "task_struct") is None
    assert KernelTypes(None).typedef_names("btf_trace_") == []


def test_structs_of_modules_keep_their_reader_and_share_the_kernels() -> None:
    """Two modules give their first struct the same number; both refer to one struct of the kernel."""
    kernel = KernelTypes(Btf(_kernel_types(), "vmlinux"))
    readers = {name: kernel.upon(_module_types(name)) for name in ("first", "second")}
    found = {name: reader.struct("struct", f"{name}_device") for name, reader in readers.items()}
    assert len({each.type_id for each in found.values() if each is not None}) == 2
    for name, device in found.items():
        assert device is not None
        assert [field.name for field in kernel.fields(device)] == [name, "owner"]
        owner = kernel.field(device, "owner")
        assert owner is not None
        assert owner.type == kernel.struct("struct", "owner")
        assert kernel.struct("struct", f"{name}_device") == device
        assert readers["first"].fields(device) == kernel.fields(device)
    assert [found is not None for found in map(readers["first"].own_function_id, ("probe", "common"))] == [True, False]


def _kernel_types() -> bytes:
    b = BtfBuilder()
    number = b.integer("int", 4, signed=True)
    b.struct("owner", 4, [("pid", number, 0)])
    b.function("common", b.prototype(number, []))
    return b.data()


def _module_types(name: str) -> Btf:
    """A split BTF: a struct of the module's own with a member of the kernel's, and a function."""
    base = Btf(_kernel_types(), "vmlinux")
    first, start = base.count(), base.strings_end
    strings = f"\0{name}_device\0{name}\0owner\0probe\0".encode()
    places = {
        text: start + strings.index(f"\0{text}\0".encode()) + 1 for text in (f"{name}_device", name, "owner", "probe")
    }
    number, owner = base.find(BtfKind.INT, "int"), base.find(BtfKind.STRUCT, "owner")
    members = struct.pack("<III", places[name], number, 0) + struct.pack("<III", places["owner"], owner, 32)
    types = struct.pack("<III", places[f"{name}_device"], BtfKind.STRUCT << 24 | 2, 8) + members
    types += struct.pack("<III", 0, BtfKind.FUNC_PROTO << 24, number)
    types += struct.pack("<III", places["probe"], BtfKind.FUNC << 24, first + 1)
    header = struct.pack("<HBBIIIII", 0xEB9F, 1, 0, 24, 0, len(types), len(types), len(strings))
    return Btf(header + types + strings, name, base)
