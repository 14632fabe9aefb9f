"""Blobs in a folder: publish, condemn, resurrect and settle are single renames (SPEC "Protocol", A).

    blobs/<aa>/<key>            live; mode 0444 and mtime 1, so that any later write shows
    blobs/<aa>/<key>~<batch>    condemned by collection <batch>, a name that is never used again (R7)
    tmp/<owner>-<id>.blob       private scratch
    quarantine/<key>.<id>       bad bytes that repair or an upload replaced

``aa`` are the first two hexadecimal digits; all 256 directories exist from the start, so that no publish has to make
a directory durable. Upholds I2 (copies are never edited) and I3 (nothing partial under a key).
"""

from __future__ import annotations

import contextlib
import errno
from collections.abc import Iterable, Iterator, Sequence
from typing import BinaryIO

from dreamlake.blobs import Copy, Proof, Staged, check_key
from dreamlake.errors import ClaimRevoked, NotFound
from dreamlake.ports import Ports, Writer

SYNC_FROM = 48  # staged files from which one barrier for the whole file system is cheaper than an fsync each
_READ_TRIES = 20


class FolderStager:
    def __init__(self, ports: Ports, path: str) -> None:
        self._fs, self._path = ports.fs, path
        self._writer: Writer | None = ports.fs.create(path)
        self._size = 0

    def write(self, data: bytes | memoryview) -> None:
        assert self._writer is not None
        self._writer.write(data)
        self._size += len(data)

    def finish(self) -> Staged:
        assert self._writer is not None
        self._writer.seal()
        self._close()
        return Staged(self._path, self._size)

    def discard(self) -> None:
        self._close()
        with contextlib.suppress(FileNotFoundError):
            self._fs.unlink(self._path)

    def _close(self) -> None:
        writer, self._writer = self._writer, None
        if writer is not None:
            writer.close()


class FolderBlobs:
    """``Blobs`` below ``root`` (the store directory), which ``create`` has laid out."""

    # Rules that tests switch off to prove that they would notice (SPEC "Mutation switches").
    SECURE = True
    BARRIER = True

    def __init__(self, ports: Ports, root: str) -> None:
        self._ports, self._fs, self._root = ports, ports.fs, root

    def stage(self) -> FolderStager:
        return FolderStager(self._ports, f"{self._root}/tmp/{self._ports.scratch_name('blob')}")

    def secure(self, staged: Sequence[Staged]) -> None:
        if not self.SECURE:
            return
        try:
            if len(staged) >= SYNC_FROM:
                self._fs.sync(f"{self._root}/tmp")
            else:
                for item in staged:
                    self._fs.fsync(item.handle)
        except FileNotFoundError as error:
            raise ClaimRevoked(f"scratch file {error.filename} was taken by a collector") from error

    def look(self, key: str, size: int, prove: Proof, *, resurrect: bool = True) -> bool:
        path = self._path(key)
        for _ in range(_READ_TRIES):
            try:
                stat = self._fs.stat(path)
            except FileNotFoundError:
                if not (resurrect and self._resurrect(key)):
                    return False
                continue
            if stat.sealed and stat.size == size:
                return True
            try:
                with self._fs.open(path) as stream:
                    return prove(stream)
            except FileNotFoundError:
                continue
        return False

    def publish(self, key: str, staged: Staged) -> None:
        path = self._path(key)
        try:
            self._fs.rename(staged.handle, path)
        except FileNotFoundError:
            shard = path.rpartition("/")[0]
            if not self._fs.make_dir(shard):  # it was there: then the scratch file is what is missing
                raise ClaimRevoked(f"scratch file {staged.handle} was taken by a collector") from None
            self._fs.fsync_dir(f"{self._root}/blobs")
            try:
                self._fs.rename(staged.handle, path)
            except FileNotFoundError:
                raise ClaimRevoked(f"scratch file {staged.handle} was taken by a collector") from None

    def barrier(self, keys: Iterable[str]) -> None:
        if not self.BARRIER:
            return
        shards = {self._path(key).rpartition("/")[0] for key in keys}
        if len(shards) >= SYNC_FROM:
            self._fs.sync(f"{self._root}/blobs")
        else:
            for shard in sorted(shards):
                self._fs.fsync_dir(shard)

    def open(self, key: str) -> BinaryIO:
        path = self._path(key)
        for _ in range(_READ_TRIES):  # a collector may condemn or restore it between two looks
            with contextlib.suppress(FileNotFoundError):
                return self._fs.open(path)
            for condemned in self._condemned(key):
                with contextlib.suppress(FileNotFoundError):
                    return self._fs.open(condemned)
        raise self._missing(key)

    def sealed(self, key: str) -> bool:
        for _ in range(_READ_TRIES):
            for candidate in (self._path(key), *self._condemned(key)):
                with contextlib.suppress(FileNotFoundError):
                    return self._fs.stat(candidate).sealed
        raise self._missing(key)

    def file(self, key: str) -> str | None:
        path = self._path(key)
        for candidate in (path, *self._condemned(key)):
            with contextlib.suppress(FileNotFoundError):
                self._fs.stat(candidate)
                return self._fs.real_path(candidate)
        return None

    def copies(self) -> Iterator[Copy]:
        blobs = f"{self._root}/blobs"
        for shard in sorted(self._fs.list(blobs)):
            try:
                names = self._fs.list(f"{blobs}/{shard}")
            except NotADirectoryError:
                continue
            for name in sorted(names):
                key, _, batch = name.partition("~")
                with contextlib.suppress(FileNotFoundError, ValueError):
                    size = self._fs.stat(f"{blobs}/{shard}/{name}").size
                    yield Copy(check_key(key), batch or None, size)

    def condemn(self, key: str, batch: str) -> Copy | None:
        path = self._path(key)
        target = f"{path}~{batch}"
        try:
            self._fs.rename(path, target)
            return Copy(key, batch, self._fs.stat(target).size)
        except FileNotFoundError:
            return None

    def settle(self, copy: Copy, *, keep: bool) -> bool:
        path = self._path(copy.key)
        try:
            if keep:
                self._fs.rename(f"{path}~{copy.batch}", path)
            else:
                self._fs.unlink(f"{path}~{copy.batch}")
        except FileNotFoundError:
            return False
        return True

    def quarantine(self, key: str) -> bool:
        try:
            self._fs.rename(self._path(key), f"{self._root}/quarantine/{key}.{self._ports.new_id()}")
        except FileNotFoundError:
            return False
        return True

    def _missing(self, key: str) -> NotFound:
        return NotFound(
            f"no copy of {key} in {self._root}; run `dreamlake verify` to see what else is missing", path=key
        )

    def _path(self, key: str) -> str:
        check_key(key)
        return f"{self._root}/blobs/{key[-64:-62]}/{key}"

    def _condemned(self, key: str) -> list[str]:
        shard = self._path(key).rpartition("/")[0]
        try:
            return [f"{shard}/{name}" for name in sorted(self._fs.list(shard)) if name.startswith(key + "~")]
        except OSError as error:
            if error.errno in (errno.ENOENT, errno.ENOTDIR):
                return []
            raise

    def _resurrect(self, key: str) -> bool:
        for condemned in self._condemned(key):
            with contextlib.suppress(FileNotFoundError):
                self._fs.rename(condemned, self._path(key))
                return True
        return False
