"""Maps on the running kernel."""

from __future__ import annotations

import errno
import struct

import pytest

from fixture_kernel import COUNTS, opened
from invivo.errors import SyscallError
from invivo.ir.layout import MapSpec, MapType
from invivo.kernel import abi, cpus
from invivo.kernel.maps import Map


def key(number: int) -> bytes:
    return struct.pack("<I", number)


HASH = MapSpec("@hash", MapType.HASH, 4, 8, 20_000)


def test_a_hash_is_written_read_and_deleted() -> None:
    with opened(HASH) as maps:
        table = maps["@hash"]
        assert table.lookup(key(1)) is None
        table.update(key(1), b"12345678")
        assert table.lookup(key(1)) == b"12345678"
        assert table.delete(key(1)) is True
        assert table.delete(key(1)) is False
        assert table.lookup(key(1)) is None


def test_update_flags_say_whether_the_key_may_exist() -> None:
    with opened(HASH) as maps:
        table = maps["@hash"]
        with pytest.raises(SyscallError) as absent:
            table.update(key(1), bytes(8), abi.EXIST)
        table.update(key(1), bytes(8), abi.NOEXIST)
        with pytest.raises(SyscallError) as present:
            table.update(key(1), bytes(8), abi.NOEXIST)
        table.update(key(1), b"a" * 8)
    assert (absent.value.errno, present.value.errno) == (errno.ENOENT, errno.EEXIST)


def test_a_full_hash_says_so() -> None:
    with opened(MapSpec("small", MapType.HASH, 4, 8, 2)) as maps:
        maps["small"].update(key(1), bytes(8))
        maps["small"].update(key(2), bytes(8))
        with pytest.raises(SyscallError) as error:
            maps["small"].update(key(3), bytes(8))
    assert error.value.errno == errno.E2BIG
    assert str(error.value).startswith("update map small: ")


def test_all_entries_are_read_in_batches_and_stay() -> None:
    # 20,000 entries of 60 bytes do not fit one batch.
    with opened(MapSpec("many", MapType.HASH, 4, 56, 20_000)) as maps:
        expected = {key(number): struct.pack("<Q48x", number * 3) for number in range(20_000)}
        for each, value in expected.items():
            maps["many"].update(each, value)
        first = maps["many"].read_all()
        assert len(first) == 20_000
        assert dict(first) == expected
        assert dict(maps["many"].read_all()) == expected


def test_taking_all_entries_empties_the_map() -> None:
    with opened(HASH) as maps:
        for number in range(5000):
            maps["@hash"].update(key(number), struct.pack("<Q", number))
        taken = maps["@hash"].take_all()
        assert sorted(struct.unpack("<Q", value)[0] for _, value in taken) == list(range(5000))
        assert list(maps["@hash"].read_all()) == []
        maps["@hash"].update(key(7), bytes(8))
        maps["@hash"].clear()
        assert list(maps["@hash"].take_all()) == []


def test_a_bucket_larger_than_the_buffer_is_read() -> None:
    # One bucket only, and values so large that the first buffer has room for few entries.
    with opened(MapSpec("wide", MapType.HASH, 4, 60_000, 40, abi.F_NO_PREALLOC)) as maps:
        for number in range(40):
            maps["wide"].update(key(number), struct.pack("<I", number).ljust(60_000, b"x"))
        assert sorted(struct.unpack("<I", value[:4])[0] for _, value in maps["wide"].read_all()) == list(range(40))


def test_a_per_cpu_hash_has_a_rounded_slot_for_each_possible_cpu() -> None:
    with opened(MapSpec("percpu", MapType.PERCPU_HASH, 8, 4, 10)) as maps:
        value = b"".join(struct.pack("<IHH", cpu + 1, 0, 0) for cpu in range(cpus.possible()))
        maps["percpu"].update(bytes(8), value)
        [(found_key, found)] = maps["percpu"].read_all()
        assert found_key == bytes(8)
        assert len(found) == 8 * cpus.possible()
        assert [slot[0] for slot in struct.iter_unpack("<I4x", found)] == list(range(1, cpus.possible() + 1))
        assert maps["percpu"].lookup(bytes(8)) == found


def test_an_lru_hash_forgets_instead_of_refusing() -> None:
    with opened(MapSpec("lru", MapType.LRU_HASH, 4, 4, 64)) as maps:
        for number in range(1000):
            maps["lru"].update(key(number), key(number))
        entries = maps["lru"].read_all()
        assert 0 < len(entries) <= 64
        assert all(each == value for each, value in entries)


def test_a_mapped_array_is_the_same_memory() -> None:
    with opened(COUNTS) as maps:
        memory = maps["counts"].memory()
        assert len(memory) == COUNTS.value_size
        memory[:8] = b"mapped!!"
        found = maps["counts"].lookup(key(0))
        assert found is not None
        assert found[:8] == b"mapped!!"
        maps["counts"].update(key(0), b"z" * COUNTS.value_size)
        assert bytes(memory) == b"z" * COUNTS.value_size
        maps["counts"].clear()
        assert bytes(memory) == bytes(COUNTS.value_size)


def test_mapped_memory_outlives_the_descriptor() -> None:
    found = Map.create(COUNTS)
    memory = found.memory()
    memory[0] = 7
    found.close()
    assert memory[0] == 7


def test_an_array_without_mapping_is_cleared_too() -> None:
    with opened(MapSpec("array", MapType.ARRAY, 4, 4, 3)) as maps:
        maps["array"].update(key(2), b"abcd")
        assert list(maps["array"].read_all()) == [(key(0), bytes(4)), (key(1), bytes(4)), (key(2), b"abcd")]
        maps["array"].clear()
        assert [value for _, value in maps["array"].read_all()] == [bytes(4)] * 3


def test_initial_content_is_padded_and_a_frozen_map_stays_as_it_is() -> None:
    spec = MapSpec("constants", MapType.ARRAY, 4, 16, 1, initial=b"hello", frozen=True)
    with opened(spec) as maps:
        assert maps["constants"].lookup(key(0)) == b"hello".ljust(16, b"\0")
        maps["constants"].update(key(0), b"load time".ljust(16))
        maps["constants"].freeze()
        with pytest.raises(SyscallError) as error:
            maps["constants"].update(key(0), bytes(16))
        assert error.value.errno == errno.EPERM
        assert maps["constants"].lookup(key(0)) == b"load time".ljust(16)


def test_wrong_sizes_are_a_mistake_of_the_caller() -> None:
    with opened(HASH) as maps:
        with pytest.raises(ValueError, match="key of 3 bytes, expected 4"):
            maps["@hash"].lookup(b"abc")
        with pytest.raises(ValueError, match="value of 1 bytes, expected 8"):
            maps["@hash"].update(key(0), b"a")


def test_a_closed_map_refuses_instead_of_using_another_file() -> None:
    found = Map.create(HASH)
    found.close()
    found.close()
    with pytest.raises(SyscallError) as error:
        found.update(key(0), bytes(8))
    assert error.value.errno == errno.EBADF
    with pytest.raises(SyscallError):
        found.read_all()
