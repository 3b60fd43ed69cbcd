"""The shapes of code that the design leans on: written as IR, compiled, loaded and run by the kernel.

Each runs as it stands and after all passes, with the same result.
"""

from __future__ import annotations

import os
import struct
import threading
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager

import pytest

from fixture_bpf import Loaded, loaded
from invivo.formats.btf import BtfKind
from invivo.kernel.cpus import possible
from invivo.kernel.ringbuf import Ring
from invivo.kernel.vmlinux import open_btf

CELLS = "map cells array key 4 value 256 entries 1 flags 1024\n"
RING = "map ring ringbuf key 0 value 0 entries 65536 flags 0\n"
HASH = "map table hash key 8 value 16 entries 64 flags 0\n"
MAIN = "program main order 0\n"

Load = Callable[[str], AbstractContextManager[Loaded]]


@pytest.fixture(params=[False, True], ids=["plain", "passes"])
def load(request: pytest.FixtureRequest) -> Iterator[Load]:
    yield lambda text: loaded(text, optimise=request.param)


def cells(programs: Loaded) -> list[int]:
    value = programs.maps["cells"].lookup(bytes(4))
    assert value is not None
    return list(struct.unpack("<32Q", value))


def records(programs: Loaded, stride: int) -> list[bytes]:
    """Return the payloads of the records in the ring, the discarded ones left out."""
    ring = Ring(programs.maps["ring"], None, stride)
    window = bytes(ring.window())
    ring.release(len(window))
    found = []
    for at in range(0, len(window), stride):
        (length,) = struct.unpack_from("<I", window, at)
        if not length & 1 << 30:
            found.append(window[at + 8 : at + 8 + (length & 0x3FFFFFFF)])
    return found


@pytest.mark.parametrize("limit", [16, 13])
def test_a_bounded_index_reaches_into_a_map_value(load: Load, limit: int) -> None:
    text = (
        CELLS
        + f"""
    entry main(%0:ctx) {{
    start:
      %1 = load8 %0+0
      %2 = bounded %1, {limit}
      %3:mapvalue = global cells+8
      %4 = mul %2, 8
      %5:mapvalue = offset %3, %4
      %6 = atomic_add8 %5+16, 1
      return %6
    }}
    """
        + MAIN
    )
    with load(text) as programs:
        assert [programs.run("main", 5) for _ in range(3)] == [0, 1, 2]
        programs.run("main", limit - 1)
        found = cells(programs)
        assert found[1 + 2 + 5] == 3
        assert found[1 + 2 + limit - 1] == 1


def test_a_bounded_index_survives_a_call_and_register_pressure(load: Load) -> None:
    """Twelve values and the index are needed after a call: most of them are in stack slots."""
    many = range(10, 22)
    text = (
        CELLS
        + "entry main(%0:ctx) {\nstart:\n"
        + "\n".join(f"%{n} = load8 %0+{8 * (n % 4)}" for n in many)
        + """
      %1 = load8 %0+0
      %2 = bounded %1, 13
      %3 = call get_smp_processor_id()
      %4:mapvalue = global cells+0
      %5:mapvalue = offset %4, %2
      store1 %5+0, 9
    """
        + "%100 = add %2, 0\n"
        + "\n".join(f"%{100 + i} = add %{99 + i}, %{n}" for i, n in enumerate(many, 1))
        + f"\nreturn %{100 + len(many)}\n}}\n"
        + MAIN
    )
    with load(text) as programs:
        assert programs.run("main", 1, 2, 3, 4) == 1 + 3 * (1 + 2 + 3 + 4)
        assert cells(programs)[0] == 9 << 8


def test_ring_records_are_reserved_and_submitted_or_discarded(load: Load) -> None:
    text = (
        RING
        + """
    entry main(%0:ctx) {
    start:
      %1 = load8 %0+0
      %2:map = map ring
      %3:ring? = call ringbuf_reserve(%2, 24, 0)
      if eq %3, 0 then full else got
    full:
      return 1
    got:
      store4 %3+0, 7
      store4 %3+4, 0
      store8 %3+8, %1
      %4 = load8 %0+8
      store8 %3+16, %4
      if ugt %1, 100 then drop else keep
    drop:
      call ringbuf_discard(%3, 1)
      return 2
    keep:
      call ringbuf_submit(%3, 1)
      return 0
    }
    """
        + MAIN
    )
    with load(text) as programs:
        assert programs.run("main", 5, 50) == 0
        assert programs.run("main", 500, 50) == 2
        assert programs.run("main", 6, 60) == 0
        assert records(programs, 32) == [struct.pack("<IIQQ", 7, 0, n, 10 * n) for n in (5, 6)]
        for _ in range(65536 // 32):
            programs.run("main", 1, 1)
        assert programs.run("main", 1, 1) == 1, "a full ring is noticed"


def test_the_wake_flag_chooses_how_a_record_is_submitted(load: Load) -> None:
    text = (
        RING
        + CELLS
        + """
    entry main(%0:ctx) {
    start:
      %2:map = map ring
      %3:ring? = call ringbuf_reserve(%2, 8, 0)
      if eq %3, 0 then full else got
    full:
      return 1
    got:
      store8 %3+0, 1
      %4:mapvalue = global cells+0
      %5 = load8 %4+0
      if ne %5, 0 then wake else quiet
    wake:
      store8 %4+0, 0
      call ringbuf_submit(%3, 2)
      return 2
    quiet:
      call ringbuf_submit(%3, 1)
      return 0
    }
    """
        + MAIN
    )
    with load(text) as programs:
        assert programs.run() == 0
        programs.maps["cells"].update(bytes(4), (1).to_bytes(256, "little"))
        assert [programs.run(), programs.run()] == [2, 0]
        assert len(records(programs, 16)) == 3


def test_a_kibibyte_string_is_read_into_a_ring_record(load: Load) -> None:
    text = (
        RING
        + """
    entry main(%0:ctx) {
    start:
      %1:map = map ring
      %2:ring? = call ringbuf_reserve(%1, 1048, 0)
      if eq %2, 0 then full else got
    full:
      return 1
    got:
      zero %2+0, 16, align 8
      %3 = load8 %0+0
      %4:ring = offset %2, 24
      %5 = call probe_read_user_str(%4, 1024, %3)
      store8 %2+16, %5
      if slt %5, 0 then failed else good
    failed:
      store4 %2+4, 1
      store1 %2+24, 0
      jump send
    good:
      jump send
    send:
      call ringbuf_submit(%2, 1)
      return 0
    }
    """
        + MAIN
    )
    import ctypes

    short = ctypes.create_string_buffer(b"hello")
    long = ctypes.create_string_buffer(b"x" * 3000)
    with load(text) as programs:
        for address in (ctypes.addressof(short), ctypes.addressof(long), 8):
            assert programs.run("main", address) == 0
        first, second, third = records(programs, 1056)
        assert first[16:30] == struct.pack("<Q", 6) + b"hello\0"
        assert struct.unpack_from("<Q", second, 16) == (1024,)
        assert second[24:1048] == b"x" * 1023 + b"\0"
        flags, length, start = struct.unpack_from("<4xI8xqB", third)
        assert (flags, start) == (1, 0)
        assert length < 0


def test_task_fields_are_read_through_btf(load: Load) -> None:
    btf = open_btf()
    assert btf is not None
    task = btf.find(BtfKind.STRUCT, "task_struct")
    assert task is not None
    offsets = {}
    for name in ("pid", "tgid", "real_parent", "comm"):
        member = btf.member(task, name)
        assert member is not None
        offsets[name] = member.bit_offset // 8
    text = (
        CELLS
        + f"""
    entry main(%0:ctx) {{
    start:
      %1:btf = call get_current_task_btf()
      %2 = load4 %1+{offsets["pid"]}
      %3 = load4 %1+{offsets["tgid"]}
      %4:btf = load8 %1+{offsets["real_parent"]}
      %5 = load4 %4+{offsets["tgid"]}
      %6:mapvalue = global cells+0
      store8 %6+0, %2
      store8 %6+8, %3
      store8 %6+16, %5
      copy %6+24, %1+{offsets["comm"]}, 16, align 8
      %7:btf = offset %1, {offsets["comm"]}
      %8:mapvalue = offset %6, 40
      %9 = call probe_read_kernel_str(%8, 16, %7)
      return %9
    }}
    """
        + MAIN
    )
    with load(text) as programs, open("/proc/self/comm", "rb") as file:
        comm = file.read().rstrip(b"\n")
        assert programs.run() == len(comm) + 1
        found = cells(programs)
        assert found[:3] == [threading.get_native_id(), os.getpid(), os.getppid()]
        assert struct.pack("<2Q", *found[3:5]).split(b"\0")[0] == comm
        assert struct.pack("<2Q", *found[5:7]).split(b"\0")[0] == comm


SCRATCH = (
    CELLS
    + "map scratch array key 4 value 4096 entries 1 flags 1024\n"
    + """
    entry main(%0:ctx) {
    start:
      %1:mapvalue = global cells+0
      %2 = load8 %0+0
      %3 = and %2, 3
      %4 = shl 1, %3
      %5 = atomic_or8 %1+0, %4
      %6 = and %5, %4
      if ne %6, 0 then busy else free
    busy:
      atomic_add8 %1+8, 1
      return 0
    free:
      %7 = bounded %3, 4
      %8 = shl %7, 10
      %9:mapvalue = global scratch+0
      %10:mapvalue = offset %9, %8
      zero %10+0, 1024, align 8
      store8 %10+1016, %2
      %11 = load8 %10+1016
      %12 = xor %4, -1
      atomic_and8 %1+0, %12
      return %11
    }
    """
    + MAIN
)


def test_a_scratch_slot_is_taken_by_an_atomic_bit(load: Load) -> None:
    with load(SCRATCH) as programs:
        assert programs.run("main", 6) == 6
        assert cells(programs)[:2] == [0, 0], "the bit is given back"
        programs.maps["cells"].update(bytes(4), (1 << 2).to_bytes(256, "little"))
        assert programs.run("main", 6) == 0
        assert cells(programs)[:2] == [4, 1], "a slot in use is a counted loss"


def test_a_counter_has_a_slot_for_each_cpu(load: Load) -> None:
    cpus = possible()
    text = (
        f"map slots array key 4 value {64 * cpus} entries 1 flags 1024\n"
        + f"""
    entry main(%0:ctx) {{
    start:
      %1 = call get_smp_processor_id()
      %2 = bounded %1, {cpus}
      %3 = shl %2, 6
      %4:mapvalue = global slots+8
      %5:mapvalue = offset %4, %3
      atomic_add8 %5+0, 5
      return %1
    }}
    """
        + MAIN
    )
    with load(text) as programs:
        expected = [0] * cpus
        for _ in range(20):
            expected[programs.run()] += 5
        value = programs.maps["slots"].lookup(bytes(4))
        assert value is not None
        assert [struct.unpack_from("<Q", value, 64 * cpu + 8)[0] for cpu in range(cpus)] == expected


def test_compare_exchange_takes_a_free_cell_once(load: Load) -> None:
    text = (
        CELLS
        + """
    entry main(%0:ctx) {
    start:
      %1:mapvalue = global cells+0
      %2 = load8 %0+0
      %3 = cmpxchg %1+64, 0, %2
      if eq %3, 0 then mine else taken
    mine:
      return 1
    taken:
      %4 = load8 %0+8
      %5 = cmpxchg %1+64, %4, 0
      return %5
    }
    """
        + MAIN
    )
    with load(text) as programs:
        assert programs.run("main", 77, 0) == 1
        assert programs.run("main", 88, 1) == 77
        assert cells(programs)[8] == 77
        assert programs.run("main", 88, 77) == 77
        assert cells(programs)[8] == 0


def test_a_kernel_stack_is_read_into_a_ring_record(load: Load) -> None:
    text = (
        RING
        + """
    entry main(%0:ctx) {
    start:
      %1:map = map ring
      %2:ring? = call ringbuf_reserve(%1, 1032, 0)
      if eq %2, 0 then full else got
    full:
      return 1
    got:
      %3:ring = offset %2, 8
      %4 = call get_stack(%0, %3, 1024, 0)
      store8 %2+0, %4
      call ringbuf_submit(%2, 1)
      return 0
    }
    """
        + MAIN
    )
    with load(text) as programs:
        assert programs.run() == 0
        (record,) = records(programs, 1040)
        size, first = struct.unpack_from("<qQ", record)
        assert size > 0
        assert size % 8 == 0
        assert first >> 48 == 0xFFFF, "a kernel address"
