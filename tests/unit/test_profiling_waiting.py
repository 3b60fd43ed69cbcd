"""What /proc tells of threads that wait."""

from __future__ import annotations

import os

import pytest

from invivo.events import Frame
from invivo.profiling.waiting import Waiters, parse_kernel_stack, parse_place


def test_kernel_stacks_are_read() -> None:
    text = "[<0>] wait_on_page+0x77/0xb0\n[<0>] ext4_sync_file+0x10/0x200 [ext4]\n[<0>] 0xffffffffc0123456\n\n"
    assert parse_kernel_stack(text) == (
        Frame(0, "wait_on_page", 0x77, "[kernel]"),
        Frame(0, "ext4_sync_file", 0x10, "ext4"),
    )


@pytest.mark.parametrize(
    ("text", "place"),
    [
        ("230 0x0 0x0 0x7ffc9bbff040 0x7ffc9bbff080 0x0 0x0 0x7ffc9bbff028 0x7f5f75bc9503\n", 0x7F5F75BC9503),
        ("-1 0x7ffc9bbff028 0x7f5f75bc9503\n", 0x7F5F75BC9503),
        ("running\n", 0),
        ("", 0),
    ],
)
def test_places_are_read(text: str, place: int) -> None:
    assert parse_place(text) == place


def test_threads_that_run_or_are_gone_do_not_wait() -> None:
    waiters = Waiters((os.getpid(), 1 << 22))
    assert [each for each in waiters.still() if each.tid == os.getpid()] == []
