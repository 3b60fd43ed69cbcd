"""Callbacks, calls, maps and loops: written as IR, compiled, loaded and run by the kernel.

Each runs as it stands and after all passes, with the same result.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager

import pytest

from fixture_bpf import Loaded, loaded
from invivo.kernel.cpus import possible
from invivo.kernel.ringbuf import Ring

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


def test_a_loop_callback_changes_its_captures(load: Load) -> None:
    text = """
    loop body(%0, %1:stack) {
    start:
      %2 = load8 %1+0
      %3 = zext32 %0
      %4 = add %2, %3
      store8 %1+0, %4
      if uge %3, 9 then stop else more
    stop:
      return 1
    more:
      return 0
    }
    entry main(%0:ctx) {
    start:
      %1:stack = slot 16
      store8 %1+0, 100
      %2:function = function body
      %3 = load8 %0+0
      %4 = call loop(%3, %2, %1, 0)
      %5 = load8 %1+0
      %6 = mul %4, 1000
      %7 = add %6, %5
      return %7
    }
    """
    with load(text + MAIN) as programs:
        assert programs.run("main", 5) == 5000 + 100 + 0 + 1 + 2 + 3 + 4
        assert programs.run("main", 100) == 10_000 + 100 + 45, "the callback stops the loop"
        assert programs.run("main", 0) == 100


def test_loops_nest_and_reach_outer_captures(load: Load) -> None:
    text = (
        CELLS
        + """
    loop inner(%0, %1:stack) {
    start:
      %2 = load8 %1+8
      %3 = mul %2, 10
      %4 = add %3, %0
      %5:mapvalue = global cells+0
      atomic_add8 %5+0, %4
      return 0
    }
    loop outer(%0, %1:stack) {
    start:
      %2:stack = slot 16
      %3 = load8 %1+0
      store8 %2+0, %3
      store8 %2+8, %0
      %4:function = function inner
      %5 = call loop(%3, %4, %2, 0)
      %6 = load8 %1+8
      %7 = add %6, %5
      store8 %1+8, %7
      return 0
    }
    entry main(%0:ctx) {
    start:
      %1:stack = slot 16
      %2 = load8 %0+0
      store8 %1+0, %2
      store8 %1+8, 0
      %3:function = function outer
      %4 = call loop(%2, %3, %1, 0)
      %5 = load8 %1+8
      return %5
    }
    """
        + MAIN
    )
    with load(text) as programs:
        assert programs.run("main", 4) == 16
        assert cells(programs)[0] == sum(10 * i + j for i in range(4) for j in range(4))


def test_a_capture_may_be_a_pointer_to_the_callers_frame(load: Load) -> None:
    text = """
    loop body(%0, %1:stack) {
    start:
      %2:stack = load8 %1+0
      %3 = load8 %2+0
      %4 = add %3, 3
      store8 %2+0, %4
      return 0
    }
    entry main(%0:ctx) {
    start:
      %1:stack = slot 8
      %2:stack = slot 8
      store8 %1+0, 1
      store8 %2+0, %1
      %3:function = function body
      %4 = call loop(7, %3, %2, 0)
      %5 = load8 %1+0
      return %5
    }
    """
    with load(text + MAIN) as programs:
        assert programs.run() == 22


def test_every_element_of_a_map_is_visited(load: Load) -> None:
    text = (
        HASH
        + """
    each body(%0:map, %1:mapvalue, %2:mapvalue, %3:stack) {
    start:
      %4 = load8 %1+0
      %5 = load8 %2+8
      %6 = mul %4, %5
      %7 = load8 %3+0
      %8 = add %7, %6
      store8 %3+0, %8
      store8 %2+0, %6
      return 0
    }
    entry main(%0:ctx) {
    start:
      %1:stack = slot 8
      store8 %1+0, 0
      %2:map = map table
      %3:function = function body
      %4 = call for_each_map_elem(%2, %3, %1, 0)
      %5 = load8 %1+0
      %6 = shl %4, 24
      %7 = add %5, %6
      return %7
    }
    """
        + MAIN
    )
    with load(text) as programs:
        table = programs.maps["table"]
        for key in range(1, 6):
            table.update(key.to_bytes(8, "little"), struct.pack("<QQ", 0, key + 1))
        assert programs.run() == (5 << 24) + sum(k * (k + 1) for k in range(1, 6))
        assert table.lookup((3).to_bytes(8, "little")) == struct.pack("<QQ", 12, 4)


@pytest.mark.requires("raw_tracepoint_cookies")
def test_the_attach_cookie_is_asked(load: Load) -> None:
    """A test run has none."""
    text = """
    entry main(%0:ctx) {
    start:
      %1 = call get_attach_cookie(%0)
      %2 = add %1, 3
      return %2
    }
    """
    with load(text + MAIN) as programs:
        assert programs.run() == 3


def test_a_missing_key_is_made_and_then_changed_in_place(load: Load) -> None:
    text = (
        HASH
        + """
    entry main(%0:ctx) {
    start:
      %1:stack = slot 8
      %2:stack = slot 16
      %3 = load8 %0+0
      store8 %1+0, %3
      %4:map = map table
      %5:mapvalue? = call map_lookup_elem(%4, %1)
      if ne %5, 0 then old else new
    old:
      %6 = load8 %0+8
      atomic_add8 %5+0, %6
      atomic_add8 %5+8, 1
      return 1
    new:
      %7 = load8 %0+8
      store8 %2+0, %7
      store8 %2+8, 1
      %8 = call map_update_elem(%4, %1, %2, 1)
      return 0
    }
    """
        + MAIN
    )
    with load(text) as programs:
        assert [programs.run("main", 3, 10), programs.run("main", 3, 11), programs.run("main", 4, 12)] == [0, 1, 0]
        assert dict(programs.maps["table"].read_all()) == {
            struct.pack("<Q", 3): struct.pack("<QQ", 21, 2),
            struct.pack("<Q", 4): struct.pack("<QQ", 12, 1),
        }


def test_a_nullable_pointer_goes_through_a_variable(load: Load) -> None:
    text = (
        HASH
        + """
    entry main(%0:ctx) {
      var $0:mapvalue? "found"
    start:
      %1:stack = slot 8
      %3 = load8 %0+0
      store8 %1+0, %3
      %4:map = map table
      %5:mapvalue? = call map_lookup_elem(%4, %1)
      set $0, %5
      if ne %5, 0 then test else again
    again:
      store8 %1+0, 0
      %6:mapvalue? = call map_lookup_elem(%4, %1)
      set $0, %6
      jump test
    test:
      %7 = call get_smp_processor_id()
      %8:mapvalue? = get $0
      if eq %8, 0 then none else some
    none:
      return 99
    some:
      %9 = load8 %8+8
      return %9
    }
    """
        + MAIN
    )
    with load(text) as programs:
        assert programs.run("main", 5) == 99
        programs.maps["table"].update(bytes(8), struct.pack("<QQ", 0, 42))
        assert programs.run("main", 5) == 42
        programs.maps["table"].update(struct.pack("<Q", 5), struct.pack("<QQ", 0, 43))
        assert programs.run("main", 5) == 43


def test_a_local_function_is_called(load: Load) -> None:
    text = """
    local mix(%0, %1, %2) {
    start:
      %3 = mul %0, %1
      %4 = call get_smp_processor_id()
      %5 = add %3, %2
      return %5
    }
    entry main(%0:ctx) {
    start:
      %1 = load8 %0+0
      %2 = load8 %0+8
      %3 = run mix(%1, %2, 3)
      %4 = run mix(%3, %1, %2)
      %5 = add %4, %3
      return %5
    }
    """
    with load(text + MAIN) as programs:
        assert programs.run("main", 5, 6) == 33 * 5 + 6 + 33


def test_large_memory_is_zeroed_and_copied_by_a_helper(load: Load) -> None:
    text = (
        "map big array key 4 value 4096 entries 1 flags 1024\n"
        + """
    entry main(%0:ctx) {
    start:
      %1:mapvalue = global big+0
      copy %1+2001, %1+1, 1000, align 1
      zero %1+0, 1500, align 4
      return 0
    }
    """
        + MAIN
    )
    with load(text) as programs:
        before = bytes(i % 251 for i in range(4096))
        programs.maps["big"].update(bytes(4), before)
        programs.run()
        after = bytearray(before)
        after[2001:3001] = before[1:1001]
        after[:1500] = bytes(1500)
        assert programs.maps["big"].lookup(bytes(4)) == bytes(after)


def test_another_cpus_value_is_looked_up(load: Load) -> None:
    text = (
        "map counts percpu_array key 4 value 8 entries 1 flags 0\n"
        + """
    entry main(%0:ctx) {
    start:
      %1:stack = slot 8
      store4 %1+0, 0
      %2:map = map counts
      %3 = load8 %0+0
      %4:mapvalue? = call map_lookup_percpu_elem(%2, %1, %3)
      if eq %4, 0 then none else some
    none:
      return 1000
    some:
      %5 = load8 %4+0
      return %5
    }
    """
        + MAIN
    )
    with load(text) as programs:
        cpus = possible()
        programs.maps["counts"].update(bytes(4), struct.pack(f"<{cpus}Q", *range(10, 10 + cpus)))
        assert [programs.run("main", cpu) for cpu in range(cpus)] == list(range(10, 10 + cpus))
        assert programs.run("main", 100_000) == 1000


def test_frozen_constants_choose_a_branch(load: Load) -> None:
    text = (
        f"map constants array key 4 value 16 entries 1 flags 1152 frozen initial {struct.pack('<QQ', 7, 9).hex()}\n"
        + """
    entry main(%0:ctx) {
    start:
      %1:mapvalue = global constants+0
      %2 = load8 %1+0
      %3 = load8 %1+8
      if eq %2, 7 then yes else no
    yes:
      return %3
    no:
      return 1
    }
    """
        + MAIN
    )
    with load(text) as programs:
        assert programs.run() == 9


def test_a_bounded_loop_of_the_ir_is_accepted(load: Load) -> None:
    text = """
    entry main(%0:ctx) {
      var $0 "i"
      var $1 "sum"
    start:
      %1 = load8 %0+0
      set $0, 0
      set $1, 0
      jump head
    head:
      %2 = get $0
      if ult %2, 20 then body else done
    body:
      %3 = get $1
      %4 = mul %2, %1
      %5 = add %3, %4
      set $1, %5
      %6 = add %2, 1
      set $0, %6
      jump head
    done:
      %7 = get $1
      return %7
    }
    """
    with load(text + MAIN) as programs:
        assert programs.run("main", 3) == 3 * 190


def test_the_power_of_two_of_a_number_is_found_by_halves(load: Load) -> None:
    """As a histogram's bucket: comparisons whose results are shifted and added."""
    steps = []
    value, total = 1, 100
    number = 200
    for half in (32, 16, 8, 4, 2, 1):
        steps.append(
            f"""
      %{number} = cmp uge %{value}, {1 << half}
      %{number + 1} = mul %{number}, {half}
      %{number + 2} = lshr %{value}, %{number + 1}
      %{number + 3} = add %{total}, %{number + 1}
    """
        )
        value, total = number + 2, number + 3
        number += 4
    text = (
        CELLS
        + "entry main(%0:ctx) {\nstart:\n%1 = load8 %0+0\n%100 = add %1, 0\n%101 = sub %100, %1\n"
        + "".join(steps).replace("add %100,", "add %101,")
        + f"%2 = bounded %{total}, 64\n%3 = add %2, 0\nreturn %3\n}}\n"
        + MAIN
    )
    with load(text) as programs:
        for exponent in (0, 1, 5, 31, 32, 47, 63):
            assert programs.run("main", 1 << exponent) == exponent
            assert programs.run("main", (2 << exponent) - 1) == exponent


def test_two_programs_share_a_callback_and_maps(load: Load) -> None:
    text = (
        CELLS
        + """
    loop body(%0, %1:stack) {
    start:
      %2:mapvalue = global cells+0
      atomic_add8 %2+0, 1
      return 0
    }
    entry main(%0:ctx) {
    start:
      %1:stack = slot 8
      store8 %1+0, 0
      %2:function = function body
      call loop(3, %2, %1, 0)
      return 0
    }
    entry other(%0:ctx) {
    start:
      %1:stack = slot 8
      store8 %1+0, 0
      %2:function = function body
      call loop(5, %2, %1, 0)
      return 0
    }
    program other order 1
    """
        + MAIN
    )
    with load(text) as programs:
        programs.run("main")
        programs.run("other")
        assert cells(programs)[0] == 8


def test_a_string_key_has_a_zero_tail(load: Load) -> None:
    text = (
        "map names hash key 16 value 8 entries 16 flags 0\n"
        + """
    entry main(%0:ctx) {
    start:
      %1:stack = slot 16
      zero %1+0, 16, align 8
      %2 = call get_current_comm(%1, 16)
      %3:stack = slot 8
      store8 %3+0, 1
      %4:map = map names
      %5 = call map_update_elem(%4, %1, %3, 0)
      return %5
    }
    """
        + MAIN
    )
    with load(text) as programs, open("/proc/self/comm", "rb") as file:
        assert programs.run() == 0
        comm = file.read().rstrip(b"\n")
        assert programs.maps["names"].lookup(comm.ljust(16, b"\0")) == struct.pack("<Q", 1)
