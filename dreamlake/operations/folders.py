"""Upload of a folder: its tree in one atomic record; all of it becomes visible at once, or nothing does."""

from __future__ import annotations

import fnmatch
import glob
import os
import re
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

from dreamlake.catalog import Claim
from dreamlake.catalog.record import MAX_ENTRIES
from dreamlake.content.staging import SMALL_BYTES, Plain, Progress, SourceStat, check_size, check_source
from dreamlake.errors import ClaimRevoked, InvalidInput, NotFound
from dreamlake.model import MAX_PATH_DEPTH, SessionKey, Version, file_key
from dreamlake.operations.commit import commit, provide, secure
from dreamlake.operations.context import Store, check_encoding
from dreamlake.operations.statcache import StatCache, began, settled
from dreamlake.operations.taking import Taker
from dreamlake.operations.upload import Attributes, put_entry
from dreamlake.ports import iso
from dreamlake.threads import ThreadPoolExecutor
from dreamlake.values import encode


class FolderResult(NamedTuple):
    """What a folder upload did. ``versions`` are the current ones of all files, in the order of their paths."""

    versions: list[Version]
    uploaded: int
    unchanged: int
    new_bytes: int


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
    found = sorted(_walk(folder, include, ignore, limit), key=lambda f: f.relative)
    if len(found) > MAX_ENTRIES:
        raise InvalidInput(
            f"{folder} holds {len(found):,} files; one upload takes {MAX_ENTRIES:,}. Upload its sub-folders.",
            path=folder,
        )
    return found


def _walk(folder: str, include: Sequence[str], ignore: Sequence[str], limit: int) -> Iterator[FolderFile]:
    waiting = [(folder, "", 1)]  # not a recursion: a stranger's tree may be deeper than Python's stack
    while waiting:
        place, prefix, depth = waiting.pop()
        with os.scandir(place) as entries:
            for entry in entries:
                relative = prefix + entry.name
                if _matches(relative, entry.name, ignore):
                    continue
                if entry.is_dir(follow_symlinks=False):
                    if depth >= MAX_PATH_DEPTH:
                        raise _left_out(entry.path, relative, f"is more than {MAX_PATH_DEPTH} folders deep")
                    waiting.append((entry.path, relative + "/", depth + 1))
                elif not include or _matches(relative, entry.name, include):
                    yield FolderFile(entry.path, relative, _size(entry, relative, limit))


def _size(entry: os.DirEntry[str], relative: str, limit: int) -> int:
    """Of what may be uploaded. Raises ``InvalidInput`` for everything else."""
    if entry.is_symlink() and os.path.isdir(entry.path):
        raise _left_out(entry.path, relative, "is a link to a folder; upload that folder itself")
    try:
        if not entry.is_file(follow_symlinks=False):
            return check_source(entry.path, limit).st_size
        size = entry.stat().st_size
        check_size(size, limit, entry.path)
        return size
    except (InvalidInput, NotFound) as error:
        if entry.is_symlink() and isinstance(error, NotFound):
            raise _left_out(entry.path, relative, f"is a link to nowhere ({os.readlink(entry.path)})") from None
        raise InvalidInput(f"{error} ({_way_out(relative)})", path=entry.path) from None


def _left_out(path: str, relative: str, why: str) -> InvalidInput:
    return InvalidInput(f"{path} {why} ({_way_out(relative)})", path=path)


def _way_out(relative: str) -> str:
    return f"or leave it out with ignore=[{glob.escape(relative)!r}]"


def _key(path: str, file: FolderFile) -> str:
    folder, name = os.path.split(file.relative)
    try:
        return file_key(f"{path.rstrip('/')}/{folder}", name)
    except InvalidInput as error:
        raise InvalidInput(f"{file.path}: {error} ({_way_out(file.relative)})", path=file.path) from None


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
    also: Sequence[dict[str, Any]] = (),
    progress: Progress | None = None,
    workers: int | None = None,
) -> FolderResult:
    """Store the scanned files of ``folder`` below the logical folder ``path``, with ``also``, in one atomic record.

    A file whose content, tags, metadata and description are those already stored keeps its version.
    """
    keys = [_key(path, file) for file in files]
    view = store.catalog.view(session)
    refused = view.refusal([{"op": "put", "path": key} for key in keys])
    if refused is not None:
        raise refused
    taking = _Taking(store, session, Taker(store, view, check_encoding(encoding, store.encoding), progress), progress)
    try:
        plains = taking.take_all(folder, files, keys, workers)
        current = [view.current_at(key) for key in keys]
        pairs = enumerate(zip(plains, current, strict=True))
        changed = [i for i, (plain, version) in pairs if version is None or not _same(version, plain, attributes)]
        secure(store, [plains[i] for i in changed])
        made: list[Version | None] = []
        if changed or also:
            at = iso(store.ports.now())  # one moment: as of no time is there half of the folder
            entries = [*(put_entry(store, keys[i], plains[i], attributes, at=at) for i in changed), *also]
            made = commit(store, session, entries, [plains[i] for i in changed], shown=lambda p: str(p.source))
        for i, version in zip(changed, made, strict=False):
            current[i] = version
        new_bytes = sum(plain.sent_bytes for plain in plains)
        return FolderResult([v for v in current if v is not None], len(changed), len(files) - len(changed), new_bytes)
    finally:
        taking.close()


def _same(version: Version, plain: Plain, attributes: Attributes) -> bool:
    return (
        version.digest == plain.digest
        and version.description == attributes.description
        and list(version.tags) == attributes.tags
        and (version.metadata == attributes.metadata or encode(version.metadata) == encode(attributes.metadata))
    )


class _Taking:
    """Hashes and stages the files of a folder.

    Large files that are coded are published at once, under claims that are never committed, so that the next
    checkpoint of the folder can be coded against them; the claims hold them until the record names them.
    """

    def __init__(self, store: Store, session: SessionKey, taker: Taker, progress: Progress | None) -> None:
        self._store, self._session, self._taker, self._progress = store, session, taker, progress
        self._plains: list[Plain | None] = []
        self._claims: list[Claim] = []

    def close(self) -> None:
        """Drop what was staged and not published, and let go what was claimed."""
        for plain in self._plains:
            if plain is not None:
                plain.discard()
        for claim in self._claims:
            self._store.catalog.revoke(claim.token)

    def take_all(
        self, folder: str, files: Sequence[FolderFile], keys: Sequence[str], workers: int | None
    ) -> list[Plain]:
        cache = StatCache(self._store.ports, self._store.scratch, os.path.realpath(folder))
        start = began()
        self._plains = [None] * len(files)
        large: list[int] = []

        def work(begin: int, end: int) -> None:
            for i in range(begin, end):
                facts = SourceStat.of(files[i].path)
                digest = cache.get(files[i].relative, facts)
                if digest is not None:
                    self._plains[i] = Plain(digest, facts[0], files[i].path, facts=facts)
                    if self._progress:
                        self._progress(facts[0])
                elif facts[0] > SMALL_BYTES:
                    large.append(i)
                else:
                    self._plains[i] = self._taker.whole(files[i].path, files[i].path)

        step = max(1, min(64, len(files) // 16))
        count = workers or min(8, (os.cpu_count() or 1))
        with ThreadPoolExecutor(count, thread_name_prefix="dreamlake-upload") as pool:
            jobs = [pool.submit(work, i, min(i + step, len(files))) for i in range(0, len(files), step)]
            try:
                for job in jobs:
                    job.result()
            except BaseException:
                pool.shutdown(wait=True, cancel_futures=True)
                raise
        for i in sorted(large, key=lambda i: natural_order(files[i].relative)):  # each uses all cores by itself
            self._plains[i] = self._take_large(files[i], keys[i])
        plains = [p for p in self._plains if p is not None]
        pairs = zip(files, plains, strict=True)
        fresh = {f.relative: (p.facts, p.digest) for f, p in pairs if p.facts is not None and settled(p.facts, start)}
        cache.put(fresh)
        return plains

    def _take_large(self, file: FolderFile, key: str) -> Plain:
        plain = self._taker.large(file.path, key)
        if plain.coded is None:
            return plain
        try:
            self._store.blobs.secure(plain.waiting)
            self._claims.append(self._store.catalog.claim(self._session, plain.keys, [{"op": "read"}]))
            names = plain.keys
            provide(self._store, [plain], lambda p: file.path)
            plain.discard()
            plain.relied = names
            self._taker.earlier.insert(0, (key, plain.digest, plain.size))
        except ClaimRevoked:
            plain.discard()  # the commit of the folder looks for it again, and stages it if need be
        except BaseException:
            plain.discard()
            raise
        return plain


def natural_order(text: str) -> list[tuple[bool, int, str]]:
    """Sort key that puts epoch_2 before epoch_10."""
    pieces = re.split(r"([0-9]+)", text)
    return [(False, int(p), p) if p.isdecimal() and p.isascii() else (True, 0, p) for p in pieces if p]
