"""The BTF reader, on types that the tests write and on bytes that are not BTF."""

from __future__ import annotations

import struct

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fixture_btf import BtfBuilder
from invivo.errors import BadFileError
from invivo.formats.btf import Btf, BtfKind, BtfMember, BtfParameter, BtfType


def sample() -> tuple[bytes, dict[str, int]]:
    """Return a small kernel's types and the numbers of some."""
    types = BtfBuilder()
    ids: dict[str, int] = {}
    ids["int"] = types.integer("int", 4, signed=True)
    ids["bool"] = types.integer("_Bool", 1, boolean=True)
    ids["char"] = types.integer("char", 1)
    ids["pid_t"] = types.typedef("pid_t", ids["int"])
    ids["const"] = types.const(types.typedef("own_pid_t", ids["pid_t"]))
    ids["comm"] = types.array(ids["char"], 16, ids["int"])
    ids["fwd"] = types.forward("opaque")
    ids["inner"] = types.struct("", 8, [("first", ids["int"], 0), ("second", ids["int"], 4)])
    ids["union"] = types.union("", 8, [("", ids["inner"]), ("whole", ids["int"])])
    ids["pointer"] = types.pointer(ids["fwd"])
    ids["task"] = types.struct(
        "task",
        40,
        [("pid", ids["pid_t"], 0), ("", ids["union"], 8), ("comm", ids["comm"], 16), ("next", ids["pointer"], 32)],
    )
    ids["bits"] = types.bit_struct(
        "bits", 4, [("low", ids["int"], 0, 3), ("high", ids["int"], 3, 29), ("", ids["inner"], 0, 0)]
    )
    ids["state"] = types.enumeration("state", [("RUNNING", 0), ("DEAD", -1)], signed=True)
    ids["flags"] = types.enumeration("flags", [("F_TOP", 0x80000000), ("F_LOW", 1)])
    ids["proto"] = types.prototype(ids["int"], [("task", ids["pointer"]), ("", 0)])
    ids["func"] = types.function("wake_up", ids["proto"])
    ids["var"] = types.variable("runqueues", ids["task"])
    ids["tag"] = types.type_tag("rcu", ids["task"])
    return types.data(), ids


DATA, IDS = sample()


def test_types_are_found_by_kind_and_name() -> None:
    btf = Btf(DATA)
    assert btf.find(BtfKind.STRUCT, "task") == IDS["task"]
    assert btf.find(BtfKind.TYPEDEF, "pid_t") == IDS["pid_t"]
    assert btf.find(BtfKind.FUNC, "wake_up") == IDS["func"]
    assert btf.find(BtfKind.VAR, "runqueues") == IDS["var"]
    assert btf.find(BtfKind.UNION, "task") is None
    assert btf.find(BtfKind.STRUCT, "tas") is None
    assert btf.find(BtfKind.STRUCT, "") is None
    assert btf.contains(BtfKind.STRUCT, "task")
    assert not btf.contains(BtfKind.FUNC, "task")


def test_the_end_of_a_longer_name_is_not_a_name() -> None:
    assert Btf(DATA).find(BtfKind.TYPEDEF, "own_pid_t") == IDS["const"] - 1
    assert Btf(DATA).find(BtfKind.TYPEDEF, "d_t") is None


def test_a_member_with_the_name_of_a_struct_is_no_struct() -> None:
    types = BtfBuilder()
    number = types.integer("int", 4)
    # The member's name, type and offset look like a struct's name, info and size.
    types.bit_struct("outer", 8, [("wanted", BtfKind.STRUCT << 24, 0, 0), ("x", number, 0, 1)])
    expected = types.struct("wanted", 4, [("x", number, 0)])
    assert Btf(types.data()).find(BtfKind.STRUCT, "wanted") == expected


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("int", BtfType(IDS["int"], BtfKind.INT, "int", size=4, bits=32, signed=True)),
        ("bool", BtfType(IDS["bool"], BtfKind.INT, "_Bool", size=1, bits=8, boolean=True)),
        ("comm", BtfType(IDS["comm"], BtfKind.ARRAY, "", target=IDS["char"], index=IDS["int"], count=16)),
        ("fwd", BtfType(IDS["fwd"], BtfKind.FWD, "opaque")),
        ("pointer", BtfType(IDS["pointer"], BtfKind.PTR, "", target=IDS["fwd"])),
        ("pid_t", BtfType(IDS["pid_t"], BtfKind.TYPEDEF, "pid_t", target=IDS["int"])),
        (
            "state",
            BtfType(IDS["state"], BtfKind.ENUM, "state", size=4, values=(("RUNNING", 0), ("DEAD", -1)), signed=True),
        ),
        ("flags", BtfType(IDS["flags"], BtfKind.ENUM, "flags", size=4, values=(("F_TOP", 0x80000000), ("F_LOW", 1)))),
        (
            "proto",
            BtfType(
                IDS["proto"],
                BtfKind.FUNC_PROTO,
                "",
                target=IDS["int"],
                parameters=(BtfParameter("task", IDS["pointer"]), BtfParameter("", 0)),
            ),
        ),
        ("func", BtfType(IDS["func"], BtfKind.FUNC, "wake_up", target=IDS["proto"])),
        ("var", BtfType(IDS["var"], BtfKind.VAR, "runqueues", target=IDS["task"], linkage=1)),
        ("tag", BtfType(IDS["tag"], BtfKind.TYPE_TAG, "rcu", target=IDS["task"])),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_each_kind_is_decoded(name: str, expected: BtfType) -> None:
    btf = Btf(DATA)
    assert btf.type(IDS[name]) == expected
    assert btf.kind(IDS[name]) is expected.kind


def test_members_have_offsets_in_bits() -> None:
    members = Btf(DATA).type(IDS["task"]).members
    assert [(member.name, member.bit_offset) for member in members] == [
        ("pid", 0),
        ("", 64),
        ("comm", 128),
        ("next", 256),
    ]


def test_bitfields_have_sizes() -> None:
    low, high, _ = Btf(DATA).type(IDS["bits"]).members
    assert low == BtfMember("low", IDS["int"], 0, 3)
    assert high == BtfMember("high", IDS["int"], 3, 29)
    assert Btf(DATA).member(IDS["bits"], "high") == high


def test_a_member_is_found_in_anonymous_structs_too() -> None:
    btf = Btf(DATA)
    assert btf.member(IDS["task"], "comm") == BtfMember("comm", IDS["comm"], 128)
    assert btf.member(IDS["task"], "second") == BtfMember("second", IDS["int"], 64 + 32)
    assert btf.member(IDS["task"], "whole") == BtfMember("whole", IDS["int"], 64)
    assert btf.member(IDS["task"], "com") is None
    assert btf.member(IDS["int"], "pid") is None


def test_typedefs_and_qualifiers_are_stripped() -> None:
    btf = Btf(DATA)
    assert btf.strip(IDS["const"]) == IDS["int"]
    assert btf.strip(IDS["tag"]) == IDS["task"]
    assert btf.strip(IDS["task"]) == IDS["task"]
    assert btf.strip(0) == 0


def test_constants_of_enums_are_found() -> None:
    btf = Btf(DATA)
    assert btf.enumerator("DEAD") == (IDS["state"], -1)
    assert btf.enumerator("F_TOP") == (IDS["flags"], 0x80000000)
    assert btf.enumerator("task") is None
    assert btf.enumerator("nothing") is None


def test_wide_enums_keep_their_sign() -> None:
    entries = struct.pack("<III", 1, 0xFFFFFFFE, 0xFFFFFFFF)
    for signed, expected in ((True, -2), (False, (1 << 64) - 2)):
        info = BtfKind.ENUM64 << 24 | 1 | (1 << 31 if signed else 0)
        types = struct.pack("<III", 3, info, 8) + entries
        strings = b"\0A\0e\0"
        header = struct.pack("<HBBIIIII", 0xEB9F, 1, 0, 24, 0, len(types), len(types), len(strings))
        btf = Btf(header + types + strings)
        assert btf.type(1).values == (("A", expected),)
        assert btf.enumerator("A") == (1, expected)


def test_names_are_listed_with_a_prefix() -> None:
    btf = Btf(DATA)
    assert btf.names(BtfKind.INT) == [("int", IDS["int"]), ("_Bool", IDS["bool"]), ("char", IDS["char"])]
    assert btf.names(BtfKind.STRUCT, "ta") == [("task", IDS["task"])]


def test_looking_near_the_start_does_not_walk_to_the_end() -> None:
    types = BtfBuilder()
    number = types.integer("int", 4)
    near = types.struct("near", 4, [("x", number, 0)])
    for each in range(1000):
        types.struct(f"s{each}", 4, [("x", number, 0)])
    data = bytearray(types.data())
    # The last type is spoilt; nobody notices who does not go there.
    at = 24 + struct.unpack_from("<I", data, 12)[0] - 20
    data[at : at + 4] = b"\xff" * 4
    btf = Btf(data)
    assert btf.find(BtfKind.STRUCT, "near") == near
    assert btf.member(near, "x") == BtfMember("x", number, 0)
    with pytest.raises(BadFileError):
        btf.names(BtfKind.STRUCT)


def module() -> tuple[Btf, int]:
    """Return a module's types upon the sample, and the number of its struct."""
    base = Btf(DATA)
    first = base.count()
    strings = b"\0mod_task\0task_of\0"
    start = base.strings_end
    member = struct.pack("<III", start + 10, IDS["task"], 0)
    types = struct.pack("<III", start + 1, BtfKind.STRUCT << 24 | 1, 40) + member
    types += struct.pack("<III", 0, BtfKind.PTR << 24, first)
    header = struct.pack("<HBBIIIII", 0xEB9F, 1, 0, 24, 0, len(types), len(types), len(strings))
    return Btf(header + types + strings, "module", base), first


def test_a_module_continues_the_kernels_numbers_and_strings() -> None:
    btf, first = module()
    assert first == max(IDS.values()) + 1
    assert btf.find(BtfKind.STRUCT, "mod_task") == first
    assert btf.type(first).members == (BtfMember("task_of", IDS["task"], 0),)
    assert btf.type(first + 1).target == first
    assert btf.find(BtfKind.STRUCT, "task") == IDS["task"]
    assert btf.type(IDS["task"]).name == "task"
    assert btf.member(IDS["task"], "comm") == BtfMember("comm", IDS["comm"], 128)
    assert btf.strip(IDS["const"]) == IDS["int"]
    assert btf.enumerator("DEAD") == (IDS["state"], -1)
    assert [name for name, _ in btf.names(BtfKind.STRUCT)] == ["task", "bits", "mod_task"]
    assert btf.count() == first + 2


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        pytest.param(b"", "too few", id="empty"),
        pytest.param(b"\x9f\xeb", "too few", id="short"),
        pytest.param(b"\xeb\x9f" + DATA[2:], "magic number", id="big-endian"),
        pytest.param(DATA[:2] + b"\x02" + DATA[3:], "version", id="version"),
        pytest.param(DATA[:-1], "inside the file", id="cut"),
        pytest.param(DATA[:-1] + b"x", "no end", id="last string"),
    ],
)
def test_what_is_not_btf_is_refused(data: bytes, reason: str) -> None:
    with pytest.raises(BadFileError, match=reason):
        Btf(data, "file")


def test_numbers_that_no_type_has_are_refused() -> None:
    btf = Btf(DATA)
    for number in (0, -1, btf.count(), 1 << 40):
        with pytest.raises(BadFileError, match="there is no type"):
            btf.type(number)


def test_a_chain_without_end_is_refused() -> None:
    types = BtfBuilder()
    types.typedef("a", 2)
    types.typedef("b", 1)
    loop = types.struct("", 4, [("", 3, 0)])
    btf = Btf(types.data())
    with pytest.raises(BadFileError, match="endless"):
        btf.strip(1)
    assert btf.member(loop, "x") is None


def test_anonymous_structs_in_each_other_are_searched_once_each() -> None:
    types = BtfBuilder()
    inner = types.struct("", 4, [("x", types.integer("int", 4), 0)])
    for _ in range(100):
        inner = types.struct("", 4, [("", inner, 0), ("", inner, 0)])
    assert Btf(types.data()).member(inner, "y") is None
    for _ in range(300):
        inner = types.struct("", 4, [("", inner, 0)])
    with pytest.raises(BadFileError, match="nested too deeply"):
        Btf(types.data()).member(inner, "y")


def ask_everything(btf: Btf) -> None:
    """Ask a reader whatever it can be asked."""
    for kind in BtfKind:
        btf.find(kind, "task")
        btf.contains(kind, "pid")
        btf.names(kind)
    for number in range(1, min(btf.count(), 60)):
        btf.type(number)
        btf.strip(number)
        btf.member(number, "second")
    btf.enumerator("DEAD")


def exercise(data: bytes, base: Btf | None = None) -> None:
    try:
        btf = Btf(data, "fuzzed", base)
    except BadFileError:
        return
    for question in (
        lambda: ask_everything(btf),
        lambda: btf.find(BtfKind.STRUCT, "task"),
        lambda: btf.member(IDS["task"], "second"),
        lambda: btf.type(5),
        lambda: btf.enumerator("F_LOW"),
    ):
        try:
            question()
        except BadFileError as error:
            assert error.path == "fuzzed"


MUTATIONS = st.lists(st.tuples(st.integers(0, len(DATA) - 1), st.integers(0, 255)), min_size=1, max_size=12)


@given(st.binary(max_size=200))
def test_random_bytes_never_crash_the_reader(data: bytes) -> None:
    exercise(data)
    exercise(DATA[:24] + data)


@settings(max_examples=300)
@given(MUTATIONS, st.integers(0, len(DATA)))
def test_spoilt_btf_never_crashes_the_reader(changes: list[tuple[int, int]], end: int) -> None:
    data = bytearray(DATA)
    for at, value in changes:
        data[at] = value
    exercise(bytes(data))
    exercise(bytes(data[:end]))
    exercise(bytes(data), Btf(DATA, "fuzzed"))
