"""Reading sources: what an upload stages, in the encoding asked for, without touching the catalog."""

from __future__ import annotations

import io
import os
import time
from collections.abc import Callable
from typing import BinaryIO

from dreamlake.catalog.fold import Fold
from dreamlake.content.staging import (
    SMALL_BYTES,
    Plain,
    Progress,
    SourceStat,
    check_size,
    check_source,
    check_unchanged,
    open_source,
    take,
)
from dreamlake.errors import InvalidInput, LakeError
from dreamlake.operations.coding import Known, code
from dreamlake.operations.context import Store
from dreamlake.operations.statcache import StatCache, began, settled

_LONE_FILES_KEPT = 256  # stat-cache entries a folder for files that were uploaded one by one
_TICK_WAIT_S = 0.02


class Taker:
    """Reads sources and stages what is not stored yet, in the encoding asked for."""

    def __init__(self, store: Store, view: Fold, encoding: str, progress: Progress | None) -> None:
        self._store, self._view, self._encoding, self._progress = store, view, encoding, progress
        self._known = _known(store)
        self.earlier: list[Known] = []  # files of the same upload, the newest first

    def from_memory(self, source: bytes | BinaryIO, key: str) -> Plain:
        if isinstance(source, bytes):
            plain = self._coded(io.BytesIO(source), len(source), key, source)
        else:
            plain = self._coded_stream(source, key)
        return plain or self.whole(source, key)

    def _coded_stream(self, stream: BinaryIO, key: str) -> Plain | None:
        """A binary stream that starts at its beginning and can be read again, such as an open file."""
        try:
            start, end = stream.tell(), stream.seek(0, io.SEEK_END)
            stream.seek(start)
        except (AttributeError, OSError, ValueError):
            return None
        if start or not isinstance(end, int):
            return None
        check_size(end, self._store.max_file_bytes, key)
        plain = self._coded(stream, end, key, stream)
        if plain is None:
            stream.seek(start)
        return plain

    def from_path(self, path: str, key: str) -> Plain:
        size = check_source(path, self._store.max_file_bytes).st_size
        if size <= SMALL_BYTES:
            return self.whole(path, path)
        folder, name = os.path.split(os.path.realpath(path))
        cache = StatCache(self._store.ports, self._store.scratch, folder)
        facts = SourceStat.of(path)
        digest = cache.get(name, facts)
        if digest is not None:
            if self._progress:
                self._progress(size)
            return Plain(digest, size, path, facts=facts)
        start = began()
        deadline = time.monotonic() + _TICK_WAIT_S
        while not settled(facts, start) and time.monotonic() < deadline:  # just written: let the clock tick once
            time.sleep(0.001)
            start = began()
        plain = self.large(path, key)
        if plain.facts is not None and settled(plain.facts, start):
            cache.put({name: (plain.facts, plain.digest)}, keep=_LONE_FILES_KEPT)
        return plain

    def large(self, path: str, key: str) -> Plain:
        """A file of any size, read now. Raises ``InvalidInput`` when it changes meanwhile."""
        if self._encoding != "raw":
            with open(open_source(path), "rb", buffering=0) as file:
                before = SourceStat.of(file.fileno())
                check_size(before[0], self._store.max_file_bytes, path)
                plain = self._coded(file, before[0], key, path)
                if plain is not None:
                    try:
                        check_unchanged(before, SourceStat.of(file.fileno()), plain.size, path)
                    except InvalidInput:
                        plain.discard()
                        raise
                    plain.facts = before
                    return plain
        return self.whole(path, path)

    def whole(self, source: str | bytes | BinaryIO, shown: str) -> Plain:
        limit, blobs = self._store.max_file_bytes, self._store.blobs
        dear, known = blobs.sending_is_dear, self._known
        return take(source, blobs, limit=limit, shown=shown, known=known, hash_first=dear, progress=self._progress)

    def _coded(self, file: BinaryIO, size: int, key: str, source: str | bytes | BinaryIO) -> Plain | None:
        coded = code(
            self._store,
            self._view,
            key,
            file,
            size,
            encoding=self._encoding,
            earlier=self.earlier,
            progress=self._progress,
        )
        return None if coded is None else Plain(coded.digest, coded.size, source, coded=coded)


def _known(store: Store) -> Callable[[str, int], bool]:
    """A hint that saves a scratch file: nothing relies on it, the look after the claim decides."""

    def known(digest: str, size: int) -> bool:
        try:
            return store.blobs.look(digest, size, lambda stream: False, resurrect=False)
        except (OSError, LakeError):
            return False

    return known
