"""Upload: read once, stage, then claim, look, publish, commit (SPEC "Protocol", U0 to U3).

One file or a whole folder is one record: all of it becomes visible at once, or nothing does.
"""

from __future__ import annotations

import fnmatch
import os
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any, BinaryIO, NamedTuple

from dreamlake.catalog.record import MAX_ENTRIES
from dreamlake.content.staging import SMALL_BYTES, Plain, Progress, SourceStat, check_size, check_source, take
from dreamlake.errors import InvalidInput, LakeError
from dreamlake.model import SessionKey, Version, file_key, split_key
from dreamlake.operations.commit import commit
from dreamlake.operations.context import Store
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
    progress: Progress | None = None,
) -> Version:
    """Store one file under the logical path ``key``. Raises what ``take`` and ``commit`` raise."""
    refused = store.catalog.view(session).refusal([{"op": "put", "path": key}])
    if refused is not None:
        raise refused  # before any byte is read
    plain = (
        _from_path(store, source, progress) if isinstance(source, str) else _from_memory(store, source, key, progress)
    )
    try:
        if plain.staged is not None:
            store.blobs.secure([plain.staged])
        made = commit(
            store, session, [put_entry(store, key, plain, attributes)], [plain], shown=lambda p: str(source)[:200]
        )[0]
        assert made is not None
        return made
    finally:
        plain.discard()


def _from_memory(store: Store, source: bytes | BinaryIO, key: str, progress: Progress | None) -> Plain:
    return take(source, store.blobs, limit=store.max_file_bytes, shown=key, known=_known(store), progress=progress)


def _from_path(store: Store, path: str, progress: Progress | None) -> Plain:
    size = check_source(path, store.max_file_bytes).st_size
    if size <= SMALL_BYTES:
        return take(path, store.blobs, limit=store.max_file_bytes, shown=path, known=_known(store), progress=progress)
    folder, name = os.path.split(os.path.realpath(path))
    cache = StatCache(store.ports, store.scratch, folder)
    facts = SourceStat.of(path)
    digest = cache.get(name, facts)
    if digest is not None:
        if progress:
            progress(size)
        return Plain(digest, size, path, facts=facts)
    start = began()
    deadline = time.monotonic() + _TICK_WAIT_S
    while not settled(facts, start) and time.monotonic() < deadline:  # just written: let the clock tick once
        time.sleep(0.001)
        start = began()
    plain = take(path, store.blobs, limit=store.max_file_bytes, shown=path, known=_known(store), progress=progress)
    if plain.facts is not None and settled(plain.facts, start):
        cache.put({name: (plain.facts, plain.digest)}, keep=_LONE_FILES_KEPT)
    return plain


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
    progress: Progress | None = None,
    workers: int | None = None,
) -> FolderResult:
    """Store the scanned files of ``folder`` below the logical folder ``path``, in one atomic record.

    A file whose content, tags, metadata and description are those already stored keeps its version.
    """
    keys = [file_key(f"{path}/{os.path.dirname(f.relative)}", os.path.basename(f.relative)) for f in files]
    view = store.catalog.view(session)
    refused = view.refusal({"op": "put", "path": key} for key in keys)
    if refused is not None:
        raise refused
    plains = _take_all(store, folder, files, progress, workers)
    try:
        current = [view.current_at(key) for key in keys]
        changed = [
            i for i, (p, v) in enumerate(zip(plains, current, strict=True)) if v is None or not _same(v, p, attributes)
        ]
        staged = [plains[i].staged for i in changed]
        store.blobs.secure([s for s in staged if s is not None])
        made: list[Version | None] = []
        if changed:
            entries = [put_entry(store, keys[i], plains[i], attributes) for i in changed]
            made = commit(store, session, entries, [plains[i] for i in changed], shown=lambda p: str(p.source))
        for i, version in zip(changed, made, strict=True):
            current[i] = version
        new_bytes = sum(s.size for s in staged if s is not None)
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
    store: Store, folder: str, files: Sequence[FolderFile], progress: Progress | None, workers: int | None
) -> list[Plain]:
    """Hash and stage all files; on an error everything staged is dropped again."""
    cache = StatCache(store.ports, store.scratch, os.path.realpath(folder))
    known, start = _known(store), began()
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
            results[i] = take(
                file.path, store.blobs, limit=store.max_file_bytes, shown=file.path, known=known, progress=progress
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
