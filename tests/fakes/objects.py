"""An object store in memory: the shortest correct ``Objects``."""

from __future__ import annotations

import hashlib
import io
import itertools
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from typing import BinaryIO, NamedTuple

from dreamlake.errors import Conflict, Corrupt, NotFound
from dreamlake.services.objects import ObjectInfo, Part, Upload


class Held(NamedTuple):
    data: bytes
    modified: float
    content_type: str | None = None

    def info(self, key: str) -> ObjectInfo:
        return ObjectInfo(key, len(self.data), self.modified, hashlib.md5(self.data).hexdigest())


class MemoryObjects:
    """``Objects`` of one process: ``held`` by key, ``files`` (materialized ones), and ``open_uploads``."""

    def __init__(self, clock: Callable[[], float] = time.time) -> None:
        self.held: dict[str, Held] = {}
        self.files: dict[str, Held] = {}
        self.open_uploads: dict[tuple[str, str], tuple[float, dict[int, bytes]]] = {}
        self._clock, self._ids, self._lock = clock, itertools.count(1), threading.RLock()

    def put(self, key: str, data: bytes | memoryview, *, sha256: str) -> str:
        with self._lock:
            whole = bytes(data)
            _check(whole, sha256, key)
            if key in self.held and self.held[key].data != whole:
                raise Conflict(f"{key} is taken", path=key)
            return self.held.setdefault(key, Held(whole, self._clock())).info(key).etag

    def begin(self, key: str) -> str:
        with self._lock:
            upload = f"upload-{next(self._ids)}"
            self.open_uploads[key, upload] = (self._clock(), {})
            return upload

    def put_part(self, key: str, upload: str, number: int, data: bytes | memoryview, *, sha256: str) -> Part:
        with self._lock:
            _check(bytes(data), sha256, key)
            parts = self._parts(key, upload)
            parts[number] = bytes(data)
            return _part(number, parts[number])

    def parts(self, key: str, upload: str) -> list[Part]:
        with self._lock:
            return [_part(number, data) for number, data in sorted(self._parts(key, upload).items())]

    def complete(self, key: str, upload: str, parts: Sequence[Part]) -> str:
        with self._lock:
            stored = self._parts(key, upload)
            assert [part.number for part in parts] == sorted(part.number for part in parts)
            if not all(
                part.number in stored and _part(part.number, stored[part.number])[:3] == part[:3] for part in parts
            ):
                raise NotFound(f"{key}: these parts are not stored", path=key)
            whole = b"".join(stored[part.number] for part in parts)
            etag = self.put(key, whole, sha256=hashlib.sha256(whole).hexdigest())
            del self.open_uploads[key, upload]
            return etag

    def abort(self, key: str, upload: str) -> None:
        with self._lock:
            self.open_uploads.pop((key, upload), None)

    def read(self, key: str, start: int = 0, stop: int | None = None) -> bytes:
        return self._get(key).data[start:stop]

    def stream(self, key: str, start: int = 0) -> BinaryIO:
        return io.BytesIO(self._get(key).data[start:])

    def head(self, key: str) -> ObjectInfo | None:
        with self._lock:
            return self.held[key].info(key) if key in self.held else None

    def delete(self, keys: Sequence[str]) -> None:
        with self._lock:
            for key in keys:
                self.held.pop(key, None)

    def list(self, prefix: str = "", *, after: str = "", files: bool = False) -> Iterator[ObjectInfo]:
        with self._lock:
            found = sorted((self.files if files else self.held).items())
        for key, held in found:
            if key.startswith(prefix) and key > after:
                yield held.info(key)

    def uploads(self, prefix: str = "") -> Iterator[Upload]:
        with self._lock:
            found = [Upload(key, upload, started) for (key, upload), (started, _) in self.open_uploads.items()]
        return iter(sorted(upload for upload in found if upload.key.startswith(prefix)))

    def copy(self, key: str, target: str, *, content_type: str | None = None) -> ObjectInfo:
        return self._set_file(target, self._get(key).data, content_type)

    def put_file(self, target: str, source: BinaryIO, *, content_type: str | None = None) -> ObjectInfo:
        return self._set_file(target, source.read(), content_type)

    def delete_files(self, targets: Sequence[str]) -> None:
        with self._lock:
            for target in targets:
                self.files.pop(target, None)

    def presign(self, key: str, *, expires_s: int, filename: str | None = None, file: bool = False) -> str:
        return f"memory://{'files/' if file else ''}{key}?expires={expires_s}" + (f"&as={filename}" if filename else "")

    def close(self) -> None:
        return None

    def _get(self, key: str) -> Held:
        with self._lock:
            if key not in self.held:
                raise NotFound(f"no object {key}", path=key)
            return self.held[key]

    def _parts(self, key: str, upload: str) -> dict[int, bytes]:
        if (key, upload) not in self.open_uploads:
            raise NotFound(f"{key}: no such upload", path=key)
        return self.open_uploads[key, upload][1]

    def _set_file(self, target: str, data: bytes, content_type: str | None) -> ObjectInfo:
        with self._lock:
            self.files[target] = Held(data, self._clock(), content_type)
            return self.files[target].info(target)


def _check(data: bytes, sha256: str, key: str) -> None:
    if hashlib.sha256(data).hexdigest() != sha256:
        raise Corrupt(f"{key}: the bytes that arrived are not those that were meant", path=key)


def _part(number: int, data: bytes) -> Part:
    return Part(number, len(data), hashlib.md5(data).hexdigest(), hashlib.sha256(data).hexdigest())
