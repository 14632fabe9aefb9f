"""Millions of blob keys with a small number each, in little memory: rows of fixed width, sharded by first byte.

A row is the 32 bytes of the digest and ``width`` bytes of the number, so that a million keys take some 40 MB, not
the 200 MB of a dict. Looking up unpacks one shard at a time: go through keys in the order of ``Blobs.copies``.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator

_DIGEST = 32
_COMPACT_BYTES = 64 << 10  # size of a shard before duplicates are merged for the first time
_UNPACKED = 8  # shards unpacked at a time


class Packed:
    """Rows (key, number). With ``combine``, numbers of equal keys are merged and keys can be looked up.

    Any threads may look up at once, but not while rows are added.
    """

    def __init__(self, width: int, combine: Callable[[int, int], int] | None = None) -> None:
        self._width, self._combine = width, combine
        self._rows: dict[str, bytearray] = {}
        self._limits: dict[str, int] = {}
        self._tables: dict[str, dict[bytes, int]] = {}
        self._lock = threading.Lock()

    def add(self, key: str, number: int) -> None:
        """Add a row; ``number`` must fit into the width (``OverflowError``)."""
        shard = key[:-62]
        rows = self._rows.get(shard)
        if rows is None:
            rows = self._rows[shard] = bytearray()
            self._limits[shard] = _COMPACT_BYTES
        rows += bytes.fromhex(key[-64:])
        rows += number.to_bytes(self._width, "little")
        if self._tables:
            self._tables.pop(shard, None)
        if self._combine is not None and len(rows) > self._limits[shard]:
            self._compact(shard)

    def get(self, key: str) -> int | None:
        """The number of a key, or None."""
        return self.table(key[:-62]).get(bytes.fromhex(key[-64:]))

    def shards(self) -> list[str]:
        """Names of the shards that hold rows, sorted."""
        return sorted(self._rows)

    def rows(self, shard: str) -> Iterator[tuple[str, int]]:
        """All rows of a shard, in the order in which they were added (merged ones first)."""
        prefix, data, step = shard[:-2], bytes(self._rows.get(shard, b"")), _DIGEST + self._width
        for start in range(0, len(data), step):
            end = start + _DIGEST
            yield prefix + data[start:end].hex(), int.from_bytes(data[end : start + step], "little")

    def table(self, shard: str) -> dict[bytes, int]:
        """Digest -> merged number of one shard; treat as immutable."""
        with self._lock:
            table = self._tables.get(shard)
            if table is None:
                table = self._merged(shard)
                while len(self._tables) >= _UNPACKED:
                    self._tables.pop(next(iter(self._tables)))
                self._tables[shard] = table
            return table

    def drop(self, shard: str) -> None:
        """Forget all rows of a shard."""
        for part in (self._rows, self._limits, self._tables):
            part.pop(shard, None)

    def _merged(self, shard: str) -> dict[bytes, int]:
        combine = self._combine
        assert combine is not None
        table: dict[bytes, int] = {}
        data, step = bytes(self._rows.get(shard, b"")), _DIGEST + self._width
        for start in range(0, len(data), step):
            end = start + _DIGEST
            digest, number = data[start:end], int.from_bytes(data[end : start + step], "little")
            old = table.get(digest)
            table[digest] = number if old is None else combine(old, number)
        return table

    def _compact(self, shard: str) -> None:
        table = self._merged(shard)
        rows = bytearray()
        for digest, number in table.items():
            rows += digest
            rows += number.to_bytes(self._width, "little")
        self._rows[shard] = rows
        self._limits[shard] = max(_COMPACT_BYTES, 2 * len(rows))
