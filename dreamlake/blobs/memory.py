"""Blobs in memory: the shortest correct implementation of the seam, for tests and for reading the protocol."""

from __future__ import annotations

import io
import itertools
import threading
from collections.abc import Iterable, Iterator, Sequence
from typing import BinaryIO

from dreamlake.blobs import Copy, Proof, Staged, check_key
from dreamlake.errors import ClaimRevoked, NotFound


class MemoryStager:
    def __init__(self, home: MemoryBlobs) -> None:
        self._home, self._data, self._handle = home, io.BytesIO(), f"staged-{next(home.ids)}"

    def write(self, data: bytes | memoryview) -> None:
        self._data.write(data)

    def finish(self) -> Staged:
        self._home.staged[self._handle] = self._data.getvalue()
        return Staged(self._handle, self._data.tell())

    def discard(self) -> None:
        self._home.staged.pop(self._handle, None)


class MemoryBlobs:
    """``Blobs`` in one process. ``held`` maps (key, batch) to stored bytes; batch None is the live copy."""

    def __init__(self) -> None:
        self.held: dict[tuple[str, str | None], bytes] = {}
        self.staged: dict[str, bytes] = {}
        self.quarantined: dict[str, bytes] = {}
        self.ids = itertools.count()
        self._lock = threading.RLock()

    def stage(self) -> MemoryStager:
        return MemoryStager(self)

    def secure(self, staged: Sequence[Staged]) -> None:
        return None

    def look(self, key: str, size: int, prove: Proof, *, resurrect: bool = True) -> bool:
        with self._lock:
            if (check_key(key), None) not in self.held:
                for found, batch in list(self.held):
                    if found == key and resurrect:
                        self.held[key, None] = self.held.pop((key, batch))
                        break
                else:
                    return False
            data = self.held[key, None]
        return len(data) == size or prove(io.BytesIO(data))

    def publish(self, key: str, staged: Staged) -> None:
        with self._lock:
            try:
                self.held[check_key(key), None] = self.staged.pop(staged.handle)
            except KeyError:
                raise ClaimRevoked(f"staged bytes {staged.handle} are gone") from None

    def barrier(self, keys: Iterable[str]) -> None:
        return None

    def open(self, key: str) -> BinaryIO:
        with self._lock:
            for found, batch in self.held:
                if found == check_key(key):
                    return io.BytesIO(self.held[found, batch])
        raise NotFound(f"no copy of {key}", path=key)

    def sealed(self, key: str) -> bool:
        self.open(key).close()
        return True

    def file(self, key: str) -> str | None:
        return None

    def copies(self) -> Iterator[Copy]:
        with self._lock:
            held = list(self.held.items())
        for (key, batch), data in held:
            yield Copy(key, batch, len(data))

    def condemn(self, key: str, batch: str) -> Copy | None:
        with self._lock:
            data = self.held.pop((check_key(key), None), None)
            if data is None:
                return None
            self.held[key, batch] = data
            return Copy(key, batch, len(data))

    def settle(self, copy: Copy, *, keep: bool) -> bool:
        with self._lock:
            data = self.held.pop((copy.key, copy.batch), None) if copy.batch is not None else None
            if data is not None and keep:
                self.held[copy.key, None] = data
            return data is not None

    def quarantine(self, key: str) -> bool:
        with self._lock:
            data = self.held.pop((check_key(key), None), None)
            if data is not None:
                self.quarantined[key] = data
            return data is not None
