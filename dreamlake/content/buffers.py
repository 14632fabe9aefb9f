"""Large buffers that are used again: touching fresh memory for the first time costs about as much as hashing it."""

from __future__ import annotations

import weakref
from collections import defaultdict
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Memory = NDArray[np.uint8]

__all__ = ["Buffers", "Fresh", "new_buffer"]

Fresh = Callable[[int], memoryview]  # bytes -> writable memory of that size; what it holds is not defined

_LEAST = 64 << 10  # bytes; smaller buffers come from the allocator's own free lists
_STEPS = 8  # sizes between a power of two and the next, so that parts of similar size share buffers


def new_buffer(size: int) -> memoryview:
    """Memory of its own: the plainest ``Fresh``."""
    import numpy as np

    return np.empty(size, np.uint8).data


class Buffers:
    """Gives out writable buffers and takes each one back by itself once nobody can look at it any more. Thread-safe.

    A buffer is a view of an array of its own, which every memoryview and array made from it keeps alive: when that
    array goes, so has the last of them, and the memory below it is free for the next.
    """

    def __init__(self) -> None:
        self._free: dict[int, list[Memory]] = defaultdict(list)
        self._lent: dict[int, weakref.ref[Any]] = {}

    def fresh(self, size: int) -> memoryview:
        """``size`` bytes of memory; what they hold is not defined."""
        import numpy as np

        if size < _LEAST:
            return new_buffer(size)
        capacity = _capacity(size)
        free = self._free[capacity]
        try:
            memory = free.pop()
        except IndexError:
            memory = np.empty(capacity, np.uint8)

        lent = memory[:size]
        name = id(lent)

        def take_back(_: Any) -> None:  # may run anywhere: takes no lock
            del self._lent[name]
            free.append(memory)

        self._lent[name] = weakref.ref(lent, take_back)
        return lent.data

    def trim(self) -> None:
        """Let go of the memory that nobody uses."""
        for free in list(self._free.values()):
            free.clear()


def _capacity(size: int) -> int:
    step = max(1, (1 << (size - 1).bit_length()) // (2 * _STEPS))
    return -(-size // step) * step
