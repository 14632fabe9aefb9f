"""Upload: read once, stage, then claim, look, publish, commit (SPEC "Protocol", U0 to U3).

One file or a whole folder is one record: all of it becomes visible at once, or nothing does.
"""

from __future__ import annotations

import fnmatch
import io
import os
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any, BinaryIO, NamedTuple

from dreamlake.catalog.fold import Fold
from dreamlake.catalog.record import MAX_ENTRIES
from dreamlake.content.staging import (
    SMALL_BYTES,
    Plain,
    Progress,
    SourceStat,
    check_size,
    check_source,
    check_unchanged,
    take,
)
from dreamlake.errors import InvalidInput, LakeError
from dreamlake.model import SessionKey, Version, file_key, split_key
from dreamlake.operations.coding import code
from dreamlake.operations.commit import commit
from dreamlake.operations.context import Store, check_encoding
from dreamlake.operations.statcache import StatCache, began, settled
from dreamlake.ports import iso

_LONE_FILES_KEPT = 256  # stat-cache entries a folder for files that were uploaded one by one
_TICK_WAIT_S = 0.02
_TYPES = {
    ".pth": "application/octet-stream",
    ".pt": "application/octet-stream",
    ".ckpt": "application/octet-stream",
    ".safetensors": "application/octet-stream",
    ".npz": "application/octet-stream",
    ".npy": "application/octet-stream",
    ".gguf": "application/octet-stream",
    ".json": "application/json",
    ".jsonl": "application/jsonl",
    ".yaml": "application/yaml",
    ".yml": "application/yaml",
    ".toml": "application/toml",
    ".md": "text/markdown",
    ".txt": "text/plain",
    ".csv": "text/csv",
    ".png": "image/png",
    ".log": "text/plain",
}


@dataclass(frozen=True)
class Attributes:
    """What a user says about a file besides its bytes, already checked and plain."""

    description: str | None = None
    tags: list[str] = field(default_factory=list)
    metadata: dict[str, Any] = field(default_factory=dict)


class FolderResult(NamedTuple):
    """What a folder upload did. ``versions`` are the current ones of all files, in the order of their paths."""

    versions: list[Version]
    uploaded: int
    unchanged: int
    new_bytes: int


def content_type(filename: str) -> str:
    """The media type for a file name; ``application/octet-stream`` when unknown."""
    suffix = os.path.splitext(filename)[1].lower()
    if suffix in _TYPES:
        return _TYPES[suffix]
    import mimetypes

    return mimetypes.guess_type(filename)[0] or "application/octet-stream"


def put_entry(store: Store, key: str, plain: Plain, attributes: Attributes) -> dict[str, Any]:
    """The record entry that makes this content the newest version at ``key``."""
    return {
        "op": "put",
        "id": store.ports.new_id(),
        "path": key,
        "digest": plain.digest,
        "size": plain.size,
        "type": content_type(split_key(key)[1]),
        "description": attributes.description,
        "tags": attributes.tags,
        "metadata": attributes.metadata,
        "at": iso(store.ports.now()),
    }


def upload_file(
    store: Store,
    session: SessionKey,
    source: str | bytes | BinaryIO,
    key: str,
    attributes: Attributes,
    *,
    encoding: str | None = None,
    progress: Progress | None = None,
) -> Version:
    """Store one file under the logical path ``key``. Raises what ``take``, ``code`` and ``commit`` raise."""
    view = store.catalog.view(session)
    refused = view.refusal([{"op": "put", "path": key}])
    if refused is not None:
        raise refused  # before any byte is read
    take_one = _Taker(store, view, check_encoding(encoding, store.encoding), progress)
    plain = take_one.from_path(source, key) if isinstance(source, str) else take_one.from_memory(source, key)
    try:
        store.blobs.secure(plain.waiting)
        entries = [put_entry(store, key, plain, attributes)]
        made = commit(store, session, entries, [plain], shown=lambda p: str(source)[:200])[0]
        assert made is not None
        return made
    finally:
        plain.discard()


class _Taker:
    """Reads sources and stages what is not stored yet, in the encoding asked for."""

    def __init__(self, store: Store, view: Fold, encoding: str, progress: Progress | None) -> None:
        self._store, self._view, self._encoding, self._progress = store, view, encoding, progress
        self._known = _known(store)

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
        plain = self._coded(stream, end, key, None)
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
            with open(path, "rb", buffering=0) as file:
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
        limit = self._store.max_file_bytes
        return take(source, self._store.blobs, limit=limit, shown=shown, known=self._known, progress=self._progress)

    def _coded(self, file: BinaryIO, size: int, key: str, source: str | bytes | None) -> Plain | None:
        coded = code(self._store, self._view, key, file, size, encoding=self._encoding, progress=self._progress)
        return None if coded is None else Plain(coded.digest, coded.size, source, coded=coded)


def _known(store: Store) -> Callable[[str, int], bool]:
    """A hint that saves a scratch file: nothing relies on it, the look after the claim decides."""

    def known(digest: str, size: int) -> bool:
        try:
            return store.blobs.look(digest, size, lambda stream: False, resurrect=False)
        except (OSError, LakeError):
            return False

    return known


# ---- folders -----------------------------------------------------------------------------------------------------


class FolderFile(NamedTuple):
    """One file of a folder: its path on disk, its path relative to the folder, its size."""

    path: str
    relative: str
    size: int


def scan_folder(
    folder: str, *, include: Sequence[str] = (), ignore: Sequence[str] = (), limit: int
) -> list[FolderFile]:
    """All regular files below ``folder``, sorted by relative path.

    Patterns are shell globs matched against the relative path and against the name; ``include`` keeps only what
    matches, ``ignore`` drops files and whole folders. Symbolic links to files are followed, links to folders are not.

    Raises:
        InvalidInput: a FIFO, socket or device, a dangling link, a name that cannot be stored, a file over ``limit``,
            or more than ``MAX_ENTRIES`` files. The message names the file and ``ignore=`` as the way out.
    """
    found = sorted(_walk(folder, "", include, ignore, limit), key=lambda f: f.relative)
    if len(found) > MAX_ENTRIES:
        raise InvalidInput(
            f"{folder} holds {len(found):,} files; one upload takes {MAX_ENTRIES:,}. Upload its sub-folders.",
            path=folder,
        )
    return found


def _walk(folder: str, prefix: str, include: Sequence[str], ignore: Sequence[str], limit: int) -> Iterator[FolderFile]:
    with os.scandir(folder) as entries:
        for entry in entries:
            relative = prefix + entry.name
            if _matches(relative, entry.name, ignore):
                continue
            if entry.is_dir(follow_symlinks=False):
                yield from _walk(entry.path, relative + "/", include, ignore, limit)
            elif include and not _matches(relative, entry.name, include):
                continue
            elif entry.is_symlink() and os.path.isdir(entry.path):
                raise InvalidInput(
                    f"{entry.path} is a link to a folder; upload that folder itself, or ignore={entry.name!r}"
                )
            else:
                try:
                    size = check_source(entry.path, limit).st_size if not entry.is_file(follow_symlinks=False) else 0
                    size = size or entry.stat().st_size
                    check_size(size, limit, entry.path)
                except InvalidInput as error:
                    raise InvalidInput(f"{error} (leave it out with ignore={entry.name!r})", path=entry.path) from None
                yield FolderFile(entry.path, relative, size)


def _matches(relative: str, name: str, patterns: Sequence[str]) -> bool:
    return any(fnmatch.fnmatchcase(relative, p) or fnmatch.fnmatchcase(name, p.rstrip("/")) for p in patterns)


def upload_folder(
    store: Store,
    session: SessionKey,
    folder: str,
    path: str,
    attributes: Attributes,
    files: Sequence[FolderFile],
    *,
    encoding: str | None = None,
    progress: Progress | None = None,
    workers: int | None = None,
) -> FolderResult:
    """Store the scanned files of ``folder`` below the logical folder ``path``, in one atomic record.

    A file whose content, tags, metadata and description are those already stored keeps its version.
    """
    keys = [file_key(f"{path}/{os.path.dirname(f.relative)}", os.path.basename(f.relative)) for f in files]
    view = store.catalog.view(session)
    refused = view.refusal([{"op": "put", "path": key} for key in keys])
    if refused is not None:
        raise refused
    taker = _Taker(store, view, check_encoding(encoding, store.encoding), progress)
    plains = _take_all(store, taker, folder, files, keys, progress, workers)
    try:
        current = [view.current_at(key) for key in keys]
        pairs = enumerate(zip(plains, current, strict=True))
        changed = [i for i, (plain, version) in pairs if version is None or not _same(version, plain, attributes)]
        staged = [s for i in changed for s in plains[i].waiting]
        store.blobs.secure(staged)
        made: list[Version | None] = []
        if changed:
            entries = [put_entry(store, keys[i], plains[i], attributes) for i in changed]
            made = commit(store, session, entries, [plains[i] for i in changed], shown=lambda p: str(p.source))
        for i, version in zip(changed, made, strict=True):
            current[i] = version
        new_bytes = sum(s.size for s in staged)
        return FolderResult([v for v in current if v is not None], len(changed), len(files) - len(changed), new_bytes)
    finally:
        for plain in plains:
            plain.discard()


def _same(version: Version, plain: Plain, attributes: Attributes) -> bool:
    return (
        version.digest == plain.digest
        and version.description == attributes.description
        and list(version.tags) == attributes.tags
        and version.metadata == attributes.metadata
    )


def _take_all(
    store: Store,
    taker: _Taker,
    folder: str,
    files: Sequence[FolderFile],
    keys: Sequence[str],
    progress: Progress | None,
    workers: int | None,
) -> list[Plain]:
    """Hash and stage all files; on an error everything staged is dropped again."""
    cache = StatCache(store.ports, store.scratch, os.path.realpath(folder))
    start = began()
    results: list[Plain | None] = [None] * len(files)

    def work(begin: int, end: int) -> None:
        for i in range(begin, end):
            file = files[i]
            facts = SourceStat.of(file.path)
            digest = cache.get(file.relative, facts)
            if digest is not None:
                results[i] = Plain(digest, facts[0], file.path, facts=facts)
                if progress:
                    progress(facts[0])
                continue
            results[i] = (
                taker.whole(file.path, file.path) if facts[0] <= SMALL_BYTES else taker.large(file.path, keys[i])
            )

    step = max(1, min(64, len(files) // 16))
    count = workers or min(8, (os.cpu_count() or 1))
    try:
        with ThreadPoolExecutor(count, thread_name_prefix="dreamlake-upload") as pool:
            jobs = [pool.submit(work, i, min(i + step, len(files))) for i in range(0, len(files), step)]
            try:
                for job in jobs:
                    job.result()
            except BaseException:
                pool.shutdown(wait=True, cancel_futures=True)
                raise
    except BaseException:
        for plain in results:
            if plain is not None:
                plain.discard()
        raise
    plains = [p for p in results if p is not None]
    fresh = {
        f.relative: (p.facts, p.digest)
        for f, p in zip(files, plains, strict=True)
        if p.facts is not None and settled(p.facts, start)
    }
    cache.put(fresh)
    return plains
