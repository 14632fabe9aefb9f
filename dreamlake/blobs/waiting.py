"""Bytes that wait to be sent to an object store: small ones in memory, large ones in a local scratch file, and files
of the user's where they lie.
"""

from __future__ import annotations

import contextlib
import hashlib
import io
from typing import BinaryIO

from dreamlake.blobs import HEAD_BYTES, Staged
from dreamlake.errors import ClaimRevoked, InvalidInput
from dreamlake.ports import NO_FORK, Ports, Writer

IN_MEMORY = 1 << 20  # of one copy; more goes to a scratch file, where there is a folder for it
ALL_IN_MEMORY = 64 << 20  # of all copies that wait; the next ones go to scratch files


class Waiting:
    """What one process has staged. ``folder`` for scratch files; without one everything stays in memory."""

    def __init__(self, ports: Ports, folder: str | None) -> None:
        self.ports, self.folder = ports, folder
        self.held = 0
        self.lock = NO_FORK  # a forked child must not find it held
        self.items: dict[str, Item] = {}
        self._cleaned = False

    def clean(self) -> None:
        """Remove what dead processes of this machine have left in the folder; once. Collections may never run here."""
        with self.lock:
            cleaned, self._cleaned = self._cleaned, True
        if cleaned or self.folder is None:
            return
        with contextlib.suppress(FileNotFoundError):
            for name in self.ports.fs.list(self.folder):
                if self.ports.scratch_is_abandoned(name):
                    with contextlib.suppress(OSError):
                        self.ports.fs.unlink(f"{self.folder}/{name}")

    def new(self) -> Item:
        item = Item(self, self.ports.scratch_name("blob"))
        with self.lock:
            self.items[item.name] = item
        return item

    def sizes(self) -> list[int]:
        """Bytes of each copy that waits."""
        with self.lock:
            return [item.size for item in self.items.values()]

    def item(self, staged: Staged) -> Item:
        """Raises ``ClaimRevoked`` when it is gone."""
        with self.lock:
            item = self.items.get(staged.handle)
        if item is None:
            raise ClaimRevoked(f"staged bytes {staged.handle} are gone")
        return item

    def after_fork(self) -> None:
        self.lock = NO_FORK  # a forked child must not find it held


class Item:
    """``Stager`` of one copy."""

    def __init__(self, home: Waiting, name: str) -> None:
        self._home, self.name = home, name
        self.size = 0
        self.digest: str | None = None  # that the plain bytes must have, of a file of the user's
        self._prefix = b""
        self._data: bytearray | None = bytearray()
        self._path: str | None = None
        self._writer: Writer | None = None

    def of_file(self, path: str, prefix: bytes, size: int, digest: str) -> Staged:
        """The bytes are those of a file, to be read when they are sent."""
        self._path, self._prefix, self.digest, self._data = path, prefix, digest, None
        self.size = len(prefix) + size
        return Staged(self.name, self.size)

    def write(self, data: bytes | memoryview) -> None:
        self.size += len(data)
        if self._data is not None:
            self._data += data
            with self._home.lock:
                self._home.held += len(data)
                full = self._home.held > ALL_IN_MEMORY
            if self._home.folder is not None and (full or len(self._data) > IN_MEMORY):
                self._spill()
        else:
            assert self._writer is not None
            self._writer.write(data)

    def finish(self) -> Staged:
        writer, self._writer = self._writer, None
        if writer is not None:
            writer.close()
        return Staged(self.name, self.size)

    def discard(self) -> None:
        self.finish()
        with self._home.lock:
            self._home.items.pop(self.name, None)
            data, self._data = self._data, None
            self._home.held -= len(data or b"")
        if self._path is not None and self.digest is None:
            with contextlib.suppress(FileNotFoundError):
                self._home.ports.fs.unlink(self._path)

    def open(self) -> BinaryIO:
        """The bytes to be sent. Raises ``ClaimRevoked`` when a scratch file was taken."""
        if self._data is not None:
            return io.BytesIO(self._data)
        if self._path is None:
            raise ClaimRevoked(f"staged bytes {self.name} are gone")
        try:
            if self.digest is None:
                return self._home.ports.fs.open(self._path)
            return Prefixed(self._prefix, open(self._path, "rb", buffering=0))  # type: ignore[return-value]
        except FileNotFoundError:
            if self.digest is not None:
                raise self.changed() from None
            raise ClaimRevoked(f"scratch file {self._path} was taken") from None

    def check(self, plain_sha256: str) -> None:
        """Raises ``InvalidInput`` unless these are the bytes that were hashed before."""
        if self.digest is not None and plain_sha256 != self.digest:
            raise self.changed()

    def changed(self) -> InvalidInput:
        return InvalidInput(f"{self._path} changed while it was uploaded; nothing was stored", path=self._path)

    @property
    def skip(self) -> int:
        """Stored bytes before the plain ones."""
        return len(self._prefix)

    def head(self) -> bytes:
        """The first stored bytes."""
        with self.open() as stream:
            return stream.read(HEAD_BYTES)

    def _spill(self) -> None:
        data, self._data = self._data, None
        assert data is not None and self._home.folder is not None
        with self._home.lock:
            self._home.held -= len(data)
        self._home.clean()
        self._path = f"{self._home.folder}/{self.name}"
        try:
            self._writer = self._home.ports.fs.create(self._path, early=False)
        except FileNotFoundError:
            self._home.ports.fs.make_dir(self._home.folder)
            self._writer = self._home.ports.fs.create(self._path, early=False)
        self._writer.write(memoryview(data))


class Prefixed(io.RawIOBase):
    """A file with a few bytes before it, read from start to end."""

    def __init__(self, prefix: bytes, file: BinaryIO) -> None:
        super().__init__()
        self._prefix, self._file = prefix, file

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: object) -> int:
        view = memoryview(buffer).cast("B")  # type: ignore[arg-type]
        if self._prefix:
            piece, self._prefix = self._prefix[: len(view)], self._prefix[len(view) :]
            view[: len(piece)] = piece
            return len(piece)
        return int(self._file.readinto(view))  # type: ignore[attr-defined]

    def close(self) -> None:
        if not self.closed:
            self._file.close()
        super().close()


def sha256(data: bytes | memoryview) -> str:
    return hashlib.sha256(data).hexdigest()
