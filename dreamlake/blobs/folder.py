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
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import BinaryIO

from dreamlake.blobs import Copy, Proof, Space, Staged, check_key, is_key
from dreamlake.blobs.singly import OneByOne, passes
from dreamlake.errors import ClaimRevoked, NotFound
from dreamlake.ports import SEALED_MTIME_S, Ports, Stat, Writer, scan

SYNC_FROM = 48  # staged files from which one barrier for the whole file system is cheaper than an fsync each
SETTLE_S = 150.0  # more than twice the longest time a network file system trusts a cached name (acdirmax, 60 s)
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


class FolderBlobs(OneByOne):
    """``Blobs`` below ``root`` (the store directory), which ``create`` has laid out."""

    # Rules that tests switch off to prove that they would notice (SPEC "Mutation switches").
    SECURE = True
    BARRIER = True

    def __init__(self, ports: Ports, root: str) -> None:
        self._ports, self._fs, self._root = ports, ports.fs, root
        self.settle_s = 0.0 if ports.is_local(root) else SETTLE_S

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

    def look(
        self, key: str, size: int | None, prove: Proof, *, resurrect: bool = True, check: Proof | None = None
    ) -> bool:
        path = self._path(key)
        for _ in range(_READ_TRIES):
            try:
                stat = self._fs.stat(path)
            except FileNotFoundError:
                if not (resurrect and self._resurrect(key)):
                    return False
                continue
            if stat.sealed and (stat.size == size or (size is None and check is None)):
                return True
            try:
                with self._fs.open(path) as stream:
                    return passes(stream, size, stat.size, stat.sealed, prove, check)
            except FileNotFoundError:
                continue
        return False

    def publish(self, key: str, staged: Staged, *, replace: bool = True) -> bool:
        path = self._path(key)
        place = self._fs.rename if replace else self._fs.rename_new
        try:
            place(staged.handle, path)
        except FileExistsError:
            return False
        except FileNotFoundError:
            self._fs.make_dir(path.rpartition("/")[0])  # a lake copied without its empty folders
            self._fs.fsync_dir(f"{self._root}/blobs")
            try:
                place(staged.handle, path)
            except FileExistsError:
                return False
            except FileNotFoundError:
                raise ClaimRevoked(f"scratch file {staged.handle} was taken by a collector") from None
        return True

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

    def copies(self, *, seals: bool = True) -> Iterator[Copy]:
        for _, key, batch, stat in self._copies():
            yield Copy(key, batch, stat.size, stat.sealed)

    def _copies(self) -> Iterator[tuple[str, str, str | None, Stat]]:
        blobs = f"{self._root}/blobs"
        for shard in sorted(self._fs.list(blobs)):
            try:
                found = list(scan(self._fs, f"{blobs}/{shard}"))
            except (NotADirectoryError, FileNotFoundError):
                continue
            for name, stat in found:
                key, _, batch = name.partition("~")
                if is_key(key):
                    yield name, key, batch or None, stat

    def condemned(self) -> Iterator[Copy]:
        blobs = f"{self._root}/blobs"
        for shard in sorted(self._fs.list(blobs)):
            try:
                names = [name for name in self._fs.list(f"{blobs}/{shard}") if "~" in name]
            except (NotADirectoryError, FileNotFoundError):
                continue
            yield from self._named(f"{blobs}/{shard}", names)

    def copies_of(self, key: str) -> list[Copy]:
        path = self._path(key)
        shard = path.rpartition("/")[0]
        return list(self._named(shard, [key, *(name.rpartition("/")[2] for name in self._condemned(key))]))

    def _named(self, shard: str, names: Iterable[str]) -> Iterator[Copy]:
        for name in names:
            key, _, batch = name.partition("~")
            if is_key(key):
                with contextlib.suppress(FileNotFoundError):
                    stat = self._fs.lstat(f"{shard}/{name}")
                    yield Copy(key, batch or None, stat.size, stat.sealed)

    def open_copy(self, copy: Copy) -> BinaryIO:
        path = self._path(copy.key)
        try:
            return self._fs.open(path if copy.batch is None else f"{path}~{copy.batch}")
        except FileNotFoundError:
            raise self._missing(copy.key) from None

    def condemn(self, key: str, batch: str) -> Copy | None:
        path = self._path(key)
        target = f"{path}~{batch}"
        try:
            self._fs.rename(path, target)
            return Copy(key, batch, self._fs.stat(target).size)
        except FileNotFoundError:
            return None

    def settle(self, copy: Copy, *, keep: bool, drop: bool = True) -> bool:
        path = self._path(copy.key)
        condemned = f"{path}~{copy.batch}"
        try:
            if keep:
                with contextlib.suppress(FileExistsError):
                    self._fs.rename_new(condemned, path)
                    return True
                if not drop:
                    return False
            self._fs.unlink(condemned)
        except FileNotFoundError:
            return False
        return True

    def replace(self, key: str, staged: Staged) -> bool:
        try:
            self._fs.link(self._path(key), f"{self._root}/quarantine/{key}.{self._ports.new_id()}")
            found = True
        except FileNotFoundError:
            found = False
        self.publish(key, staged)
        return found

    def distrust(self, key: str) -> bool:
        return self._stamp(key, int(self._ports.now().timestamp()) * 1_000_000_000)

    def trust(self, key: str) -> bool:
        return self._stamp(key, SEALED_MTIME_S * 1_000_000_000)

    def _stamp(self, key: str, mtime_ns: int) -> bool:
        try:
            self._fs.stamp(self._path(key), mtime_ns)
        except FileNotFoundError:
            return False
        return True

    def sweep(self, abandoned: Callable[[str, float], bool]) -> Space:
        removed, now = [], self._ports.now().timestamp()
        for name, stat in list(scan(self._fs, f"{self._root}/tmp")):
            if abandoned(name, now - stat.ctime_ns / 1e9):  # not mtime: sealed scratch carries the tamper mark
                with contextlib.suppress(FileNotFoundError, IsADirectoryError, PermissionError):
                    self._fs.unlink(f"{self._root}/tmp/{name}")
                    removed.append(stat)
        return _space(removed)

    def space(self) -> dict[str, Space]:
        sums = {True: [0, 0, 0], False: [0, 0, 0]}
        for _, _, batch, stat in self._copies():
            total = sums[batch is None]
            total[0], total[1], total[2] = total[0] + 1, total[1] + stat.size, total[2] + stat.disk
        scratch, aside = ([stat for _, stat in scan(self._fs, f"{self._root}/{d}")] for d in ("tmp", "quarantine"))
        return {
            "live": Space(*sums[True]),
            "condemned": Space(*sums[False]),
            "scratch": _space(scratch),
            "quarantine": _space(aside),
        }

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
                with contextlib.suppress(FileExistsError):  # somebody published meanwhile, perhaps to heal it
                    self._fs.rename_new(condemned, self._path(key))
                return True
        return False


def _space(stats: Sequence[Stat]) -> Space:
    return Space(len(stats), sum(s.size for s in stats), sum(s.disk for s in stats))
