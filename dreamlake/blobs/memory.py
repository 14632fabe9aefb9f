"""Blobs in memory: the shortest correct implementation of the seam, for tests and for reading the protocol."""

from __future__ import annotations

import io
import itertools
import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import BinaryIO

from dreamlake.blobs import Copy, Proof, Space, Staged, check_key
from dreamlake.blobs.singly import OneByOne, passes
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


class MemoryBlobs(OneByOne):
    """``Blobs`` in one process. ``held`` maps (key, batch) to stored bytes; batch None is the live copy."""

    def __init__(self) -> None:
        self.held: dict[tuple[str, str | None], bytes] = {}
        self.staged: dict[str, bytes] = {}
        self.quarantined: dict[str, bytes] = {}
        self.distrusted: set[str] = set()
        self.settle_s = 0.0
        self.ids = itertools.count()
        self._lock = threading.RLock()

    def stage(self) -> MemoryStager:
        return MemoryStager(self)

    def secure(self, staged: Sequence[Staged]) -> None:
        return None

    def look(
        self, key: str, size: int | None, prove: Proof, *, resurrect: bool = True, check: Proof | None = None
    ) -> bool:
        with self._lock:
            if (check_key(key), None) not in self.held:
                for found, batch in list(self.held):
                    if found == key and resurrect:
                        self.held[key, None] = self.held.pop((key, batch))
                        break
                else:
                    return False
            data = self.held[key, None]
        return passes(io.BytesIO(data), size, len(data), key not in self.distrusted, prove, check)

    def publish(self, key: str, staged: Staged, *, replace: bool = True) -> bool:
        with self._lock:
            if not replace and (check_key(key), None) in self.held:
                return False
            try:
                self.held[check_key(key), None] = self.staged.pop(staged.handle)
                self.distrusted.discard(key)
            except KeyError:
                raise ClaimRevoked(f"staged bytes {staged.handle} are gone") from None
            return True

    def barrier(self, keys: Iterable[str]) -> None:
        return None

    def open(self, key: str) -> BinaryIO:
        with self._lock:
            check_key(key)
            for found, batch in self.held:
                if found == key:
                    return io.BytesIO(self.held[found, batch])
        raise NotFound(f"no copy of {key}", path=key)

    def sealed(self, key: str) -> bool:
        self.open(key).close()
        return key not in self.distrusted

    def file(self, key: str) -> str | None:
        return None

    def copies(self, *, seals: bool = True) -> Iterator[Copy]:
        with self._lock:
            held = list(self.held.items())
        for (key, batch), data in held:
            yield Copy(key, batch, len(data), batch is not None or key not in self.distrusted)

    def condemned(self) -> Iterator[Copy]:
        return (copy for copy in self.copies() if copy.batch is not None)

    def copies_of(self, key: str) -> list[Copy]:
        return sorted((copy for copy in self.copies() if copy.key == check_key(key)), key=lambda copy: copy.batch or "")

    def open_copy(self, copy: Copy) -> BinaryIO:
        with self._lock:
            data = self.held.get((copy.key, copy.batch))
        if data is None:
            raise NotFound(f"no such copy of {copy.key}", path=copy.key)
        return io.BytesIO(data)

    def condemn(self, key: str, batch: str) -> Copy | None:
        with self._lock:
            data = self.held.pop((check_key(key), None), None)
            if data is None:
                return None
            self.held[key, batch] = data
            return Copy(key, batch, len(data))

    def settle(self, copy: Copy, *, keep: bool, drop: bool = True) -> bool:
        with self._lock:
            if keep and not drop and (copy.key, None) in self.held:
                return False
            data = self.held.pop((copy.key, copy.batch), None) if copy.batch is not None else None
            if data is not None and keep:
                self.held.setdefault((copy.key, None), data)
            return data is not None

    def replace(self, key: str, staged: Staged) -> bool:
        with self._lock:
            bad = self.held.get((check_key(key), None))
            if bad is not None:
                self.quarantined[key] = bad
            self.publish(key, staged)
            return bad is not None

    def distrust(self, key: str) -> bool:
        with self._lock:
            if (check_key(key), None) not in self.held:
                return False
            self.distrusted.add(key)
            return True

    def trust(self, key: str) -> bool:
        with self._lock:
            self.distrusted.discard(key)
            return (check_key(key), None) in self.held

    def sweep(self, abandoned: Callable[[str, float], bool]) -> Space:
        return Space(0, 0, 0)  # what is staged ends with this process

    def space(self) -> dict[str, Space]:
        with self._lock:
            live = [len(data) for (_, batch), data in self.held.items() if batch is None]
            condemned = [len(data) for (_, batch), data in self.held.items() if batch is not None]
            groups = {
                "live": live,
                "condemned": condemned,
                "scratch": list(map(len, self.staged.values())),
                "quarantine": list(map(len, self.quarantined.values())),
            }
        return {name: Space(len(sizes), sum(sizes), 0) for name, sizes in groups.items()}
