"""Plain parts of the last uploads, in memory: the next checkpoint is coded against them without decoding a chain."""

from __future__ import annotations

from collections import OrderedDict

from dreamlake.content.codecs import Base
from dreamlake.ports import NO_FORK

LIMIT_BYTES = 128 << 20


class RecentParts:
    """Part key -> what ``codecs.encode_part`` can use of it; the least recently used go first. Thread-safe.

    A hint only: whether a part is stored is looked up elsewhere, every time.
    """

    def __init__(self, limit_bytes: int = LIMIT_BYTES) -> None:
        self._limit, self._held = limit_bytes, 0
        self._parts: OrderedDict[str, Base] = OrderedDict()
        self._lock = NO_FORK

    def put(self, part: Base) -> None:
        """Remember a part; its plain bytes must not change any more."""
        with self._lock:
            old = self._parts.pop(part.key, None)
            self._held += len(part.plain) - (len(old.plain) if old is not None else 0)
            self._parts[part.key] = part
            while self._held > self._limit:
                self._held -= len(self._parts.popitem(last=False)[1].plain)

    def take(self, key: str) -> Base | None:
        """Forget a part and return it: its successor takes its place, so that two versions need not both fit."""
        with self._lock:
            part = self._parts.pop(key, None)
            if part is not None:
                self._held -= len(part.plain)
            return part
