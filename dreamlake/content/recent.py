"""Plain parts of the last checkpoints, in memory: the next one is coded or decoded against them, not a chain."""

from __future__ import annotations

import contextlib
import threading
from collections import OrderedDict, deque
from collections.abc import Iterator

from dreamlake.content.buffers import Buffers
from dreamlake.content.codecs import Base
from dreamlake.ports import NO_FORK

LIMIT_BYTES = 192 << 20


class RecentParts:
    """Part key -> what ``codecs.encode_part`` can use of it. Thread-safe.

    A hint only: whether a part is stored is looked up elsewhere, every time. The least recently used go first, but
    between ``begin`` and the next but one none that were put in the meantime: of a checkpoint that does not fit, the
    first parts stay for the next version, rather than each part pushing out the one that is wanted next.
    """

    def __init__(self, limit_bytes: int = LIMIT_BYTES) -> None:
        self.buffers = Buffers()
        self._queue: deque[threading.Event] = deque()
        self._limit, self._held = limit_bytes, 0
        self._turn = 0
        self._parts: OrderedDict[str, tuple[int, Base]] = OrderedDict()
        self._lock = NO_FORK

    @contextlib.contextmanager
    def alone(self) -> Iterator[None]:
        """One file after the other, in the order in which they ask.

        Each takes all cores, all together would take more memory, and the next finds here what it is a difference to.
        """
        turn = threading.Event()
        with self._lock:
            self._queue.append(turn)
            self._queue[0].set()
        try:
            turn.wait()
            self.begin()
            yield
        finally:
            with self._lock:
                self._queue.remove(turn)
                if self._queue:
                    self._queue[0].set()

    def begin(self) -> None:
        """A new file begins: what was put during the last one is for it."""
        with self._lock:
            self._turn += 1

    def put(self, part: Base) -> None:
        """Remember a part; its plain bytes must not change any more."""
        with self._lock:
            old = self._parts.pop(part.key, None)
            self._held += len(part.plain) - (len(old[1].plain) if old is not None else 0)
            self._parts[part.key] = self._turn, part
            while self._held > self._limit:
                turn = next(iter(self._parts.values()))[0]
                newest = bool(self._turn) and turn >= self._turn - 1
                self._held -= len(self._parts.popitem(last=newest)[1][1].plain)

    def take(self, key: str) -> Base | None:
        """Forget a part and return it: its successor takes its place, so that two versions need not both fit."""
        with self._lock:
            part = self._parts.pop(key, None)
            if part is None:
                return None
            self._held -= len(part[1].plain)
            return part[1]
