"""Where good bytes may be found for content that is missing or damaged: the trash, other lakes, folders of files.

Everything found is hashed while it is copied; a source is never trusted and never written to.
"""

from __future__ import annotations

import hashlib
import os
import stat
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import BinaryIO, NamedTuple

from dreamlake.blobs import Copy, Staged
from dreamlake.content import codecs, frame, reading
from dreamlake.content.assembled import stored_part
from dreamlake.content.names import is_coded, is_part
from dreamlake.content.staging import Plain, take
from dreamlake.errors import LakeError, NotFound
from dreamlake.operations.context import Store
from dreamlake.operations.hashing import check_copy, plain_part

_PIECE = 4 << 20


class Healer(NamedTuple):
    """A source that may hold some content. ``heal`` tries it: True once the content is stored from it, durably.

    ``holds`` only looks: for a dry run.
    """

    name: str
    holds: Callable[[], bool]
    heal: Callable[[], bool]


class Sources:
    """Sources for blobs that are missing or damaged.

    Args:
        wanted: key -> plain bytes.
        contents: for each wanted recipe or part, the contents (digest, plain bytes) that cannot be read without it.
        lakes, folders: where to look besides the trash.
    """

    def __init__(
        self,
        store: Store,
        wanted: dict[str, int],
        contents: dict[str, set[tuple[str, int]]],
        lakes: Sequence[Store],
        folders: Sequence[str],
    ) -> None:
        self._store, self._wanted, self._contents, self._lakes = store, wanted, contents, lakes
        self._copies: dict[str, list[Copy]] = {}
        for copy in store.blobs.copies():
            if copy.key in wanted:
                self._copies.setdefault(copy.key, []).append(copy)
        sizes = {size for key, size in wanted.items() if not is_coded(key)}
        sizes.update(size for found in contents.values() for _, size in found)
        self._files: dict[int, list[str]] = {}
        for folder in folders if sizes else ():
            for path, size in _files(folder, frozenset(sizes)):
                self._files.setdefault(size, []).append(path)

    def healers(self, key: str) -> Iterator[Healer]:
        """All sources for a blob, the nearest first."""
        for copy in self._copies.get(key, ()):
            if copy.batch is not None:
                yield self._from_trash(copy)
        if is_part(key):
            for lake in self._lakes:
                yield self._part(lake, key)
        if not is_coded(key):
            yield from self._whole(key, self._wanted[key])
        elif self._contents.get(key):
            yield self._all_contents(key)

    def _all_contents(self, key: str) -> Healer:
        """A recipe or part that nobody has is not needed once every content that used it is stored whole."""
        found = sorted(self._contents[key])

        def holds() -> bool:
            return all(any(healer.holds() for healer in self._whole(*content)) for content in found)

        def heal() -> bool:
            done = [any(healer.heal() for healer in self._whole(*content)) for content in found]
            return all(done)

        return Healer("whole files", holds, heal)

    def _from_trash(self, copy: Copy) -> Healer:
        store, blobs = self._store, self._store.blobs

        def heal() -> bool:
            if check_copy(store, copy) != "":
                return False
            if all(other.batch is not None for other in self._copies[copy.key]):
                return blobs.settle(copy, keep=True)
            if is_part(copy.key):
                with blobs.open_copy(copy) as stream:
                    return _store_plain(store, copy.key, plain_part(blobs, copy.key, stream))
            return _store_as_is(store, copy)

        return Healer(f"the trash ({copy.batch})", lambda: check_copy(store, copy) == "", lambda: _tried(heal))

    def _part(self, lake: Store, key: str) -> Healer:
        def plain() -> bytes | memoryview:
            return codecs.read_part(key, self._wanted[key], lambda wanted: stored_part(lake.blobs, wanted))

        def heal() -> bool:
            return _store_plain(self._store, key, plain())

        return Healer(f"lake {lake.where}", lambda: _tried(lambda: bool(plain())), lambda: _tried(heal))

    def _whole(self, digest: str, size: int) -> Iterator[Healer]:
        """Sources for a whole file."""
        for lake in self._lakes:
            yield self._from_lake(lake, digest, size)
        for path in self._files.get(size, ()):
            yield self._from_file(path, digest)

    def _from_lake(self, lake: Store, digest: str, size: int) -> Healer:
        def holds() -> bool:
            for _ in reading.pieces(lake.blobs, digest, size):
                pass
            return True

        def heal() -> bool:
            with reading.open_plain(lake.blobs, digest, size) as stream:
                return self._take(stream, digest, lake.where)

        return Healer(f"lake {lake.where}", lambda: _tried(holds), lambda: _tried(heal))

    def _from_file(self, path: str, digest: str) -> Healer:
        def holds() -> bool:
            hasher = hashlib.sha256()
            with open(path, "rb") as stream:
                while piece := stream.read(_PIECE):
                    hasher.update(piece)
            return hasher.hexdigest() == digest

        return Healer(path, lambda: _tried(holds), lambda: _tried(lambda: self._take(path, digest, path)))

    def _take(self, source: str | BinaryIO, digest: str, shown: str) -> bool:
        """Stage a source; it becomes the live copy only if it is what the key says."""
        plain: Plain = take(source, self._store.blobs, limit=sys.maxsize, shown=shown)
        try:
            if plain.digest != digest or plain.staged is None:
                return False
            _publish(self._store, digest, plain.staged)
            plain.stager = plain.staged = None
            return True
        finally:
            plain.discard()


def _store_plain(store: Store, key: str, plain: bytes | memoryview) -> bool:
    """Make proven plain bytes the live copy of a part, without any base."""
    stager = store.blobs.stage()
    try:
        if frame.is_framed(plain):
            stager.write(frame.raw_header())
        stager.write(plain)
        _publish(store, key, stager.finish())
    except BaseException:
        stager.discard()
        raise
    return True


def _store_as_is(store: Store, copy: Copy) -> bool:
    """Make the stored bytes of a proven copy the live one, as a new file."""
    stager = store.blobs.stage()
    try:
        with store.blobs.open_copy(copy) as stream:
            while piece := stream.read(_PIECE):
                stager.write(piece)
        _publish(store, copy.key, stager.finish())
    except BaseException:
        stager.discard()
        raise
    return True


def _publish(store: Store, key: str, staged: Staged) -> None:
    store.blobs.secure([staged])
    store.blobs.replace(key, staged)
    store.blobs.barrier([key])


def _tried(work: Callable[[], bool]) -> bool:
    """A source that fails is one that does not help. A full disk is no fault of the source."""
    try:
        return work()
    except (LakeError, NotFound, FileNotFoundError, PermissionError, IsADirectoryError):
        return False


def _files(folder: str, sizes: frozenset[int]) -> Iterable[tuple[str, int]]:
    """Regular files below a folder (or the file itself) that have one of these sizes."""
    if not os.path.isdir(folder):
        found: Iterable[str] = [folder]
    else:
        found = (os.path.join(at, name) for at, names in _walk(folder) for name in names)
    for path in found:
        try:
            facts = os.stat(path)
        except OSError:
            continue
        if stat.S_ISREG(facts.st_mode) and facts.st_size in sizes:
            yield path, facts.st_size


def _walk(folder: str) -> Iterator[tuple[str, list[str]]]:
    for at, folders, names in os.walk(folder):
        folders[:] = sorted(name for name in folders if not name.startswith(".dreamlake"))
        yield at, sorted(names)
