"""A journal in memory: the reference that tests compare with, gone with the process.

Upholds the promises of ``Journal`` for threads. Stores encoded bytes, so that nobody can reach into what is stored.
"""

from __future__ import annotations

import threading
from collections.abc import Sequence

from dreamlake import values
from dreamlake.errors import InvalidInput
from dreamlake.journal import MAX_ROW_BYTES, Change, Document, Extent, Row, number_key


class MemoryJournal:
    """``Journal`` in this process only."""

    def __init__(self) -> None:
        self._lock = threading.RLock()
        self._documents: dict[str, bytes] = {}
        self._streams: dict[str, list[bytes]] = {}

    def read_document(self, name: str) -> Document | None:
        data = self._documents.get(name)
        return None if data is None else values.decode(data)

    def update_document(self, name: str, change: Change, *, durable: bool = True) -> Document:
        with self._lock:
            updated = change(self.read_document(name))
            self._documents[name] = values.encode(updated)
            return updated

    def append(self, stream: str, rows: Sequence[Row]) -> int:
        key = number_key(stream)
        for row in rows:
            if (size := len(values.encode(row))) > MAX_ROW_BYTES:
                raise InvalidInput(f"a row for {stream} has {size:,} bytes; the limit is {MAX_ROW_BYTES:,}")
        with self._lock:
            first = len(self._streams.get(stream, []))
            lines = [values.encode({key: number, **row}) for number, row in enumerate(rows, first)]
            if lines:
                self._streams.setdefault(stream, []).extend(lines)
            return first

    def read(self, stream: str, start: int, limit: int) -> list[Row]:
        with self._lock:
            lines = self._streams.get(stream, [])[start : start + max(limit, 0)]
        return [values.decode(line) for line in lines]

    def extent(self, stream: str) -> Extent:
        with self._lock:
            lines = self._streams.get(stream, [])
            return Extent(len(lines), sum(map(len, lines)), values.decode(lines[-1]) if lines else None)

    def streams(self, prefix: str = "") -> list[str]:
        with self._lock:
            return sorted(name for name in self._streams if name.startswith(prefix))

    def sync(self) -> None:
        """Nothing to do: nothing here survives the process."""

    def close(self) -> None:
        """Nothing to do."""
