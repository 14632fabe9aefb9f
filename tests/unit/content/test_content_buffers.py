"""Memory that is used again, and which plain parts stay for the next version."""

from __future__ import annotations

import numpy as np

from dreamlake.content.buffers import Buffers
from dreamlake.content.codecs import Base
from dreamlake.content.recent import RecentParts

SIZE = 300_000


def address(view: memoryview) -> int:
    return int(np.frombuffer(view, np.uint8).ctypes.data)


def test_memory_is_used_again_only_when_nothing_refers_to_it() -> None:
    buffers = Buffers()
    view = buffers.fresh(SIZE)
    first, words = address(view), np.frombuffer(view, np.uint8)[8:].view("<u4")
    del view
    other = buffers.fresh(SIZE)
    assert address(other) != first  # the array still looks at it
    words[:] = 7
    other[:] = bytes(SIZE)
    assert (words == 7).all()
    del words
    assert address(buffers.fresh(SIZE - 1)) == first


def test_a_slice_keeps_the_memory_too() -> None:
    buffers = Buffers()
    piece = buffers.fresh(SIZE)[10:20]
    assert len({address(buffers.fresh(SIZE)[10:]), address(piece)}) == 2


def test_trim_lets_go_and_buffers_outlive_their_source() -> None:
    buffers = Buffers()
    kept = buffers.fresh(SIZE)
    del buffers
    kept[:] = b"x" * SIZE
    assert bytes(kept) == b"x" * SIZE
    buffers = Buffers()
    del kept
    buffers.fresh(SIZE)
    assert sum(map(len, buffers._free.values())) == 1
    buffers.trim()
    assert not any(buffers._free.values())


def part(name: str, size: int = 10) -> Base:
    return Base(name, bytes(size))


def test_the_first_parts_of_a_large_file_stay_for_its_next_version() -> None:
    recent = RecentParts(30)
    for version in range(3):
        recent.begin()
        for number in range(5):
            found = recent.take(f"{version - 1}.{number}")
            assert (found is not None) == (version > 0 and number < 3)
            recent.put(part(f"{version}.{number}"))


def test_what_nobody_came_for_goes() -> None:
    recent = RecentParts(30)
    for turn in range(3):
        recent.begin()
        for number in range(3):
            recent.put(part(f"{turn}.{number}"))
    assert recent.take("0.0") is None and recent.take("1.0") is None
    assert all(recent.take(f"2.{number}") for number in range(3))


def test_without_turns_the_least_recently_used_goes() -> None:
    recent = RecentParts(30)
    for number in range(5):
        recent.put(part(str(number)))
    recent.put(part("3"))
    assert [recent.take(str(number)) is not None for number in range(5)] == [False, False, True, True, True]
